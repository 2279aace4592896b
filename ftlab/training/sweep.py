"""A sweep: the same run with several values of one or two settings, and a comparison of them."""

from __future__ import annotations

import itertools
import math
import re
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, read_value, with_settings
from ftlab.config.sections import Section
from ftlab.core.comparison import scores_of
from ftlab.core.files import DamagedFile, read_cached, read_json, write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError, nearest
from ftlab.evaluation.seeds import FEWEST, SeedsVerdict, seeds_verdict
from ftlab.training import gate, supervisor

MOST_RUNS = 24
# These stay the same, so that runs can be compared.
SEED = "optimisation.seed"
_FIXED = ("name", "stage", "data", "evaluation", "tracking", "launcher")


@dataclass(frozen=True)
class Sweep:
    """`settings`: the values tried, by setting. `runs`: {run: id, values: by setting}, in the order of their start."""

    id: str
    created: float  # unix seconds
    settings: dict[str, list[Any]]
    runs: list[dict[str, Any]] = field(default_factory=list)


def read_values(path: str, text: str) -> list[Any]:
    """The values in `text`, e.g. "1e-4, 3e-4" or "lora, full". Raises InputError when there is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"No value is given for {path}", given=text, allowed="values with commas between them")
    return [_scalar(part) for part in parts]


def combinations(config: RunConfig, vary: dict[str, list[Any]]) -> list[tuple[dict[str, Any], RunConfig]]:
    """Every combination of the values as (value by setting, checked configuration).

    Raises InputError for an unknown setting, a value that is not allowed, or more than MOST_RUNS runs.
    """
    if not 1 <= len(vary) <= 2:
        raise InputError("A sweep varies one or two settings", given=", ".join(vary) or "none")
    total = math.prod(len(values) for values in vary.values())
    if total > MOST_RUNS:
        raise InputError("This sweep has too many runs", given=total, allowed=f"at most {MOST_RUNS}")
    known = settings_to_vary()
    for path, values in vary.items():
        if path not in known:
            close = nearest(path, known)
            raise InputError(
                "This setting cannot be varied",
                given=path,
                allowed=", ".join(known),
                try_=f"did you mean {close}?" if close else None,
            )
        if len(values) < 2 and total < 2:
            raise InputError("A sweep needs at least two values", given=f"{path}: {values}")
    runs: list[tuple[dict[str, Any], RunConfig]] = []
    for choice in itertools.product(*vary.values()):
        chosen = dict(zip(vary, choice, strict=True))
        label = " ".join(f"{path.split('.')[-1]} {value}" for path, value in chosen.items())
        named = config.model_copy(update={"name": f"{config.name or 'sweep'} {label}"[:80]})
        changed = with_settings(named, chosen)
        if any(changed.resolved() == other.resolved() for _, other in runs):
            raise InputError("A value is listed twice", given=label)
        runs.append((chosen, changed))
    return runs


def submit_sweep(config: RunConfig, vary: dict[str, list[Any]], workspace: Workspace) -> Sweep:
    """Start a run for every combination of the values in `vary` ({"method.rank": [8, 16]}); they wait in the queue.

    Raises InputError before anything is started when a setting or a value is not allowed.
    """
    every = combinations(config, vary)
    for _, changed in every:
        gate.checked(changed, workspace)
    # Two sweeps can start in the same second.
    sweep = Sweep(f"sweep-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}", time.time(), vary)
    for values, changed in every:
        run = supervisor.submit(changed, workspace)
        sweep.runs.append({"run": run.id, "values": values})
        # After each run: if a later one cannot start, the earlier ones are still a sweep.
        write_json(_file(sweep.id, workspace), asdict(sweep))
    return sweep


def submit_seeds(config: RunConfig, count: int, workspace: Workspace) -> Sweep:
    """Start `count` runs that differ only in the training seed, with the same split and held-out rows.

    Raises InputError like `submit_sweep`, and if nothing would be compared.
    """
    if not FEWEST <= count <= MOST_RUNS:
        raise InputError("The number of seeds is out of range", given=count, allowed=f"{FEWEST} to {MOST_RUNS}")
    if config.is_reward_model or not config.evaluation.after_training:
        why = "a reward model writes no answers" if config.is_reward_model else "evaluation.after_training is off"
        raise InputError("A verdict on seeds needs each run to be compared with its base", given=why)
    first = config.optimisation.seed
    return submit_sweep(config, {SEED: list(range(first, first + count))}, workspace)


def verdict(sweep: Sweep, workspace: Workspace) -> SeedsVerdict | None:
    """The verdict on a sweep over seeds alone, which is stored beside it; None for other sweeps.

    Raises FtlabError while fewer than two runs have been compared with their base.
    """
    if list(sweep.settings) != [SEED]:
        return None
    present = {run.id: run for run in workspace.runs()}
    result = seeds_verdict(
        [(entry["values"][SEED], present[entry["run"]]) for entry in sweep.runs if entry["run"] in present]
    )
    write_json(workspace.sweeps_folder / f"verdict-{sweep.id}.json", asdict(result))
    return result


def sweeps(workspace: Workspace) -> list[Sweep]:
    """All sweeps, the newest first. Leaves out damaged files, which `find_sweep` reports."""
    files = sorted(workspace.sweeps_folder.glob("sweep-*.json"), reverse=True)
    return [_sweep(values) for file in files if (values := read_cached(file) or {}).keys() >= _SWEEP]


def find_sweep(sweep_id: str, workspace: Workspace) -> Sweep:
    """The sweep called `sweep_id`, or the newest for `last`. Raises InputError when there is none."""
    known = {sweep.id: sweep for sweep in sweeps(workspace)}
    if sweep_id == "last" and known:
        return next(iter(known.values()))
    if sweep_id not in known:
        if re.fullmatch(r"sweep-[\w-]+", sweep_id) and (values := read_json(_file(sweep_id, workspace))) is not None:
            return _sweep(values)
        raise InputError("There is no such sweep", given=sweep_id, allowed=", ".join(known) or "there are none yet")
    return known[sweep_id]


def compare(sweep: Sweep, workspace: Workspace) -> list[dict[str, Any]]:
    """One row for each run that is still there: its values, state and scores, the best first.

    Sorted by the score on held-out rows where all have one, else by the lowest validation loss. Exact match and general
    accuracy (of kinds that were not replayed, and of kinds that were) are from 0 to 1, losses in nats per token, times
    in seconds.
    """
    present = {run.id: run for run in workspace.runs()}
    rows = [_row_of(present[entry["run"]], entry["values"]) for entry in sweep.runs if entry["run"] in present]

    def rank(row: dict[str, Any]) -> tuple[float, float]:
        missing = math.inf
        loss = missing if row["validation_loss"] is None else row["validation_loss"]
        return (missing if row["exact_match"] is None else -row["exact_match"]), loss

    return sorted(rows, key=rank)


def settings_to_vary() -> dict[str, str]:
    """{path: title} of every setting that a sweep may vary."""
    titles = {}
    for section, info in RunConfig.model_fields.items():
        if section in _FIXED or not isinstance(info.annotation, type) or not issubclass(info.annotation, Section):
            continue
        for name, setting in info.annotation.model_fields.items():
            titles[f"{section}.{name}"] = setting.title or name
    return titles


_SWEEP = {"id", "created", "settings", "runs"}


def _sweep(values: dict[str, Any]) -> Sweep:
    return Sweep(**{name: values[name] for name in _SWEEP})


def _file(sweep_id: str, workspace: Workspace) -> Path:
    return workspace.sweeps_folder / f"{sweep_id}.json"


_SCORES = ("exact_match", "perplexity", "general_accuracy", "general_accuracy_replayed", "base_agreement")


def _row_of(run: RunDirectory, values: dict[str, Any]) -> dict[str, Any]:
    try:
        return _row(run, values)
    except DamagedFile:  # each run stands for itself; `runs show` tells which file
        return {"run": run.id, "values": values, "state": "damaged"} | dict.fromkeys(
            ("validation_loss", *_SCORES, "seconds")
        )


def _row(run: RunDirectory, values: dict[str, Any]) -> dict[str, Any]:
    status, comparison = supervisor.status(run), run.comparison()
    adapted = scores_of(comparison, "adapted") if comparison else {}
    losses = [row["eval_loss"] for row in run.metrics() if math.isfinite(row.get("eval_loss") or math.nan)]
    return {
        "run": run.id,
        "values": values,
        "state": status.state,
        "validation_loss": min(losses, default=None),
        **{name: adapted.get(name) for name in _SCORES},
        "seconds": status.seconds,
    }


def _scalar(text: str) -> Any:
    try:
        return read_value(text)
    except InputError:
        return text
