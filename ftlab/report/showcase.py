"""A run to show to others: its model, its report and a few prompts, without its training data.

    pack_showcase(run, folder)     # folder is then a run directory that chats and reports, and can train nothing
    showcase(RunDirectory(folder))

FTLAB_DEMO_REPO=owner/name is a model repository on the Hub that holds such a folder, or what `push` sent of a run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from ftlab.config import STARTER, load_config
from ftlab.core.files import read_json, write_json, write_text
from ftlab.core.hub import told
from ftlab.core.run_directory import RunDirectory
from ftlab.data.prompt_template import asked_of
from ftlab.errors import FtlabError, InputError
from ftlab.models.bases.known import KNOWN
from ftlab.models.load import is_hub_id
from ftlab.report.report import choose_examples, contents, write_report

REPOSITORY_VARIABLE = "FTLAB_DEMO_REPO"
_FILE = "showcase.json"
_PROMPTS = 3
_LONGEST_PROMPT = 400  # characters


@dataclass(frozen=True)
class Showcase:
    """The facts shown next to the chat with a run. `base` is the starter or an id on the Hub."""

    name: str
    base: str
    data: str
    verdict: str
    prompts: list[str]


def showcase(run: RunDirectory) -> Showcase:
    """The showcase of `run`. Raises InputError if its settings cannot be read."""
    packed = read_json(run.path / _FILE)
    if packed is not None:
        return Showcase(**packed)
    config = load_config(run.config_file)
    verdict = data = ""
    if run.comparison() is not None:
        report = contents(run)
        verdict, data = report["verdict"], dict(report["facts"]).get("Data", "")
    examples = [row["prompt"] for row in choose_examples(run.predictions())[0] if row.get("prompt")]
    prompts = [prompt for prompt in dict.fromkeys(examples) if len(prompt) <= _LONGEST_PROMPT][:_PROMPTS]
    return Showcase(config.name or run.id, config.model.base, data, verdict, prompts)


def report_of(run: RunDirectory) -> str | None:
    """The report of `run` as HTML. None if it was not compared with its base."""
    if not run.report_file.exists():
        try:
            write_report(run)
        except (FtlabError, FileNotFoundError):
            return None
    return run.report_file.read_text(encoding="utf-8")


def run_to_show(packed: Path) -> RunDirectory:
    """The run that FTLAB_DEMO_REPO names, else the one in the folder `packed`. Raises FtlabError if there is none."""
    repository = os.environ.get(REPOSITORY_VARIABLE, "").strip()
    if not repository:
        if (packed / "config.yaml").exists():
            return RunDirectory(packed)
        raise FtlabError(
            "There is no run to show",
            try_=f"name one when you deploy (--run), or set {REPOSITORY_VARIABLE} to a repository with one",
        )
    from huggingface_hub import snapshot_download

    with told("model", repository):
        fetched = Path(snapshot_download(repository, ignore_patterns=["*.bin", "*.pt", "*.py", "checkpoints/*"]))
    if (fetched / "config.yaml").exists():
        return RunDirectory(fetched)
    return _from_export(fetched, repository)


def _from_export(fetched: Path, repository: str) -> RunDirectory:
    """A run directory from the output of `python -m ftlab export` (see export.export)."""
    records = fetched / "ftlab"
    if not (records / "config.yaml").exists():
        raise FtlabError(f"{repository} holds no run of ftlab", try_="python -m ftlab push RUN OWNER/NAME --report")
    run = RunDirectory(Path(tempfile.mkdtemp(prefix="ftlab-run-")))
    config = load_config(records / "config.yaml")
    if (fetched / "adapter_config.json").exists():
        run.adapter.symlink_to(fetched)
    else:
        run.model.symlink_to(fetched)
        config.method.name = "full"  # merged: the base is loaded separately
    if (fetched / "base").is_dir():
        config.model.base = STARTER if config.is_starter else str(fetched / "base")
    write_text(run.config_file, config.to_yaml())
    if (asked := read_json(records / "asked.json")) is not None:
        write_json(run.asked_file, asked)
    for source, target in (
        (records / "comparison.json", run.comparison_file),
        (fetched / "report.html", run.report_file),
    ):
        if source.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    return run


def pack_showcase(run: RunDirectory, folder: Path) -> RunDirectory:
    """Copy to `folder` what a showcase of `run` needs: model, settings, comparison, report, and the prompts of the
    report's examples. The rows of its data are not copied.

    Raises FtlabError if the run has no result or no comparison, InputError if its base exists only on this machine.
    """
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model to show", try_="finish its training first")
    config = load_config(run.config_file)
    if config.is_reward_model:
        raise InputError(f"The run {run.id} is a reward model: nobody can chat with it", try_="choose another run")
    base = config.model.base
    if base != STARTER and base not in KNOWN and not is_hub_id(base):
        raise InputError(
            "The base of this run is on this machine, which a Space cannot read",
            given=base,
            allowed="the starter, or a base on the Hub",
            try_="push the base to the Hub, and train on it there",
        )
    write_report(run)
    about, packed = showcase(run), RunDirectory(folder)
    result = run.adapter if (run.adapter / "adapter_config.json").exists() else run.model
    shutil.copytree(result, folder / result.name, ignore=shutil.ignore_patterns("README.md", "*.bin", "*.pt", ".*"))
    adapter = packed.adapter / "adapter_config.json"
    if adapter.exists():
        # It names the base as a folder on the machine that trained.
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": base})
    config.data.source = Path(config.data.source).name
    config.model.start = None
    write_text(packed.config_file, config.to_yaml())
    write_json(packed.asked_file, asked_of(run).as_dict())
    packed.evaluation.mkdir(parents=True, exist_ok=True)
    for source, target in ((run.comparison_file, packed.comparison_file), (run.report_file, packed.report_file)):
        shutil.copyfile(source, target)
    write_json(folder / _FILE, asdict(about))
    return packed
