"""Sweeps: the same run with several values of one or two settings, compared."""

from __future__ import annotations

import itertools
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

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
SEED = "optimisation.seed"
# These stay the same, so that runs can be compared.
_FIXED = ("name", "stage", "data", "evaluation", "tracking", "launcher")


class SweepRunJson(TypedDict):
    """A run of a sweep: its id, and its values by setting."""

    run: str
    values: dict[str, Any]


class SweepRowJson(SweepRunJson):
    """Its state and scores. Shares are from 0 to 1, losses in nats per token, times in seconds; None if unknown."""

    state: str
    validation_loss: float | None
    exact_match: float | None
    perplexity: float | None
    general_accuracy: float | None
    general_accuracy_replayed: float | None
    base_agreement: float | None
    seconds: float | None


@dataclass(frozen=True)
class Sweep:
    """`settings` are the values by setting, `runs` are in the order of their start."""

    id: str
    created: float  # Unix seconds
    settings: dict[str, list[Any]]
    runs: list[SweepRunJson] = field(default_factory=list)


def read_values(path: str, text: str) -> list[Any]:
    """The values in `text`, such as "1e-4, 3e-4" or "lora, full". Raises InputError when there is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"No value is given for {path}", given=text, allowed="values separated by commas")
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

    Raises InputError as `submit_sweep` does, and if the runs would not be compared with their base.
    """
    if not FEWEST <= count <= MOST_RUNS:
        raise InputError("The number of seeds is out of range", given=count, allowed=f"{FEWEST} to {MOST_RUNS}")
    if config.is_reward_model or not config.evaluation.after_training:
        why = (
            "a reward model, which writes no answers" if config.is_reward_model else "evaluation.after_training: false"
        )
        raise InputError("A verdict on seeds requires that each run is compared with its base", given=why)
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


def compare(sweep: Sweep, workspace: Workspace) -> list[SweepRowJson]:
    """One row for each run that still exists, the best first: by exact match on the held-out rows, then by the lowest
    validation loss."""
    present = {run.id: run for run in workspace.runs()}
    rows = [_row_of(present[entry["run"]], entry["values"]) for entry in sweep.runs if entry["run"] in present]

    def rank(row: SweepRowJson) -> tuple[float, float]:
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


def _row_of(run: RunDirectory, values: dict[str, Any]) -> SweepRowJson:
    row: SweepRowJson = {
        "run": run.id,
        "values": values,
        "state": "damaged",
        "validation_loss": None,
        "exact_match": None,
        "perplexity": None,
        "general_accuracy": None,
        "general_accuracy_replayed": None,
        "base_agreement": None,
        "seconds": None,
    }
    try:
        status, comparison, metrics = supervisor.status(run), run.comparison(), run.metrics()
        scores: Mapping[str, Any] = scores_of(comparison, "adapted") if comparison else {}
    except DamagedFile:  # the other rows are not affected; `runs show` names the file
        return row
    losses = [logged["eval_loss"] for logged in metrics if math.isfinite(logged.get("eval_loss") or math.nan)]
    row |= {"state": status.state, "validation_loss": min(losses, default=None), "seconds": status.seconds}
    row |= {
        "exact_match": scores.get("exact_match"),
        "perplexity": scores.get("perplexity"),
        "general_accuracy": scores.get("general_accuracy"),
        "general_accuracy_replayed": scores.get("general_accuracy_replayed"),
        "base_agreement": scores.get("base_agreement"),
    }
    return row


def _scalar(text: str) -> Any:
    try:
        return read_value(text)
    except InputError:
        return text
