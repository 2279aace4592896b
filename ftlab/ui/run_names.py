"""The names of runs in the app: generated from data, method, base and date, or chosen by a person.

A custom name is stored in a file of the run; the run's folder and id do not change.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from ftlab.config import RunConfig
from ftlab.config.methods import METHODS
from ftlab.config.stages import SUPERVISED_STAGES
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import listed
from ftlab.data.version_store import PREFIX
from ftlab.errors import InputError
from ftlab.ui import run_files
from ftlab.ui.kit.forms import fields
from ftlab.ui.run_stages import TITLES

LONGEST = 80  # characters of a name
_DIGEST = re.compile(r"-[0-9a-f]{8}$")  # of uploads stored beside each other, and of data derived from them
_VERSION = re.compile(r"(.+)-(\d+)-[0-9a-f]+")
_TIME = re.compile(r"^\d{8}-\d{6}-")
_BASES = {"smollm2": "SmolLM2", "starter": "the starter"}


def rename(run: RunDirectory, name: str | None) -> str:
    """Name `run` `name`; empty restores the generated name. Returns the name. A generated one comes without a date,
    which would be wrong the next day. Raises InputError if it is too long."""
    text = " ".join((name or "").split())
    if len(text) > LONGEST:
        raise InputError("This name is too long", given=f"{len(text)} characters", allowed=f"at most {LONGEST}")
    if text and text not in (made_name(run), made_name(run, dated=False)):
        write_json(run_files.name_file(run), {"name": text})
    else:
        run_files.name_file(run).unlink(missing_ok=True)
    return name_of(run, dated=False)


def name_of(run: RunDirectory, *, dated: bool = True) -> str:
    """The name of `run`: "Support triage, LoRA on SmolLM2, today 22:11", or its custom name.

    `dated` False leaves the date out of a generated name, for use beside the date.
    """
    return run_files.given_name(run) or made_name(run, dated=dated)


def made_name(run: RunDirectory, *, dated: bool = True) -> str:
    """The name of `run` generated from its data, method, base and start; its id if the settings cannot be read."""
    config = run_files.config(run)
    if config is None:
        return run.id
    kind = METHODS[config.method.name].title
    if config.stage not in SUPERVISED_STAGES:
        kind = f"{TITLES[config.stage]}, {kind}"
    name = f"{data_name(config)}, {kind} on {_base(config)}"
    return f"{name}, {started(run)}" if dated else name


def started(run: RunDirectory, clock: str = "%H:%M") -> str:
    """When `run` began, as day and local time: "today 22:11"."""
    status = run_files.status(run)
    timestamp = status.started or status.created
    if not timestamp:
        return "not started"
    then, now = time.localtime(timestamp), time.localtime()
    ago = (time.mktime((*now[:3], 12, 0, 0, 0, 0, -1)) - time.mktime((*then[:3], 12, 0, 0, 0, 0, -1))) / 86400
    day = {0: "today", 1: "yesterday"}.get(round(ago))
    return f"{day or time.strftime('%-d %b %Y', then)} {time.strftime(clock, then)}"


def choices(runs: Sequence[RunDirectory]) -> list[tuple[str, str]]:
    """(name, id) of `runs` for a dropdown."""
    return [(name, run.id) for name, run in zip(told_apart(runs), runs, strict=True)]


def told_apart(runs: Sequence[RunDirectory], *, dated: bool = True) -> list[str]:
    """The names of `runs` for a list, no two the same. Runs of one name say which settings differ. If none does, they
    say the second in which they began, and if that is the same too, the end of their id.

    `dated` is as in `name_of`: False for a list with the dates beside.
    """
    alike: dict[str, list[RunDirectory]] = defaultdict(list)
    for run in runs:
        alike[name_of(run, dated=False)].append(run)
    names = {
        run.id: ", ".join(filter(None, [name, settings]))
        for name, group in alike.items()
        for run, settings in zip(group, _differing(group), strict=True)
    }
    ends = {run.id: started(run) if dated and name_of(run) != name_of(run, dated=False) else "" for run in runs}

    def named(run: RunDirectory) -> str:
        return ", ".join(filter(None, [names[run.id], ends[run.id]]))

    for tell in (lambda run: started(run, "%H:%M:%S"), lambda run: _TIME.sub("", run.id)):
        seen = {run.id: (named(run), "" if dated else started(run)) for run in runs}
        taken = Counter(seen.values())
        ends |= {run.id: tell(run) for run in runs if taken[seen[run.id]] > 1}
    return [named(run) for run in runs]


# Compared first where runs have the same name.
_FIRST_COMPARED = ("optimisation.epochs", "optimisation.learning_rate", "method.rank", "optimisation.seed")
_NOT_COMPARED = ("name", "data.source", "tracking.", "launcher.", "evaluation.batch_size")
_MOST_TOLD, _LONGEST_VALUE = 2, 24


def _differing(runs: Sequence[RunDirectory]) -> list[str]:
    """For each of `runs` its values of the settings in which they differ, at most two: "epochs 6, LoRA rank 32"."""
    configs = [run_files.config(run) for run in runs]
    values = [config.model_dump() for config in configs if config is not None]
    if len(runs) < 2 or len(values) < len(runs):
        return [""] * len(runs)
    told: list[list[str]] = []
    known = fields()
    for path in dict.fromkeys((*_FIRST_COMPARED, *known)):
        section, _, name = path.partition(".")
        cells = [dump[section][name] if name else dump[section] for dump in values]
        texts = [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells]
        if len(set(texts)) > 1 and len(max(texts, key=len)) <= _LONGEST_VALUE and not path.startswith(_NOT_COMPARED):
            title = known[path].title or path
            title = title[:1].lower() + title[1:] if title.split()[0][1:].islower() else title
            without = {"None": f"no {title}", "False": f"no {title}", "": f"no {title}", "True": title}
            told.append([without.get(text, f"{title} {text}") for text in texts])
    return [", ".join(row) for row in zip(*told[:_MOST_TOLD], strict=True)] or [""] * len(runs)


def data_name(config: RunConfig) -> str:
    """The name of a run's data: the title of a sample, else the name of the file or data set."""
    source = config.data.source
    if source in run_files.sample_titles() or source.startswith(PREFIX):
        return source_title(source).replace(", version", " version")
    return _in_words(Path(source.rstrip("/")).stem)


def source_title(source: str) -> str:
    """The name of a source on its own: "Support triage", "Hotel desk, version 2", "my file.csv"."""
    if source in run_files.sample_titles():
        return run_files.sample_titles()[source]
    if source.startswith(PREFIX) and (version := _VERSION.fullmatch(source.removeprefix(PREFIX))):
        return f"{version_name(version[1])}, version {version[2]}"
    name = Path(source.rstrip("/")).name or source
    stem, dot, suffix = name.rpartition(".")
    return f"{_DIGEST.sub('', stem)}.{suffix}" if dot and stem else name


def version_name(name: str) -> str:
    """The title of the source that the versions called `name` belong to."""
    return run_files.sample_titles().get(name.replace("-", "_")) or _in_words(name)


def _in_words(stem: str) -> str:
    words = re.sub(r"[_\s-]+", " ", _DIGEST.sub("", stem)).strip() or stem
    return words[:1].upper() + words[1:]


def differing_data(configs: Sequence[RunConfig | None]) -> str:
    """A sentence if the runs of `configs` learned from different data; else empty."""
    names = {config.data.source: data_name(config) for config in configs if config}
    return f"They were trained on different data: {listed(list(names.values()))}." if len(names) > 1 else ""


def _base(config: RunConfig) -> str:
    base = config.model.base
    return _BASES.get(base) or Path(base.rstrip("/")).name.removesuffix(".gguf") or base
