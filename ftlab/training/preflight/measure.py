"""Measure a run before it starts: does it fit, how long will it take, and what is unusual about it?

A separate process (`probe`) measures in a temporary folder, with the run's own data and code. It leaves no run, no
process and no file behind.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab.config import LauncherConfig, RunConfig, filled, with_settings
from ftlab.config.stages import PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES
from ftlab.core.files import last_line, read_json, write_text
from ftlab.core.jobs import write_status
from ftlab.core.processes import attached
from ftlab.core.run_directory import RunDirectory
from ftlab.core.steps import Steps
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.training.failures import says_out_of_memory
from ftlab.training.gate import Start, freeze_start, prepare_data
from ftlab.training.launcher import threads_per_process
from ftlab.training.preflight.advice import Advice, Plan, warnings
from ftlab.training.preflight.finding import (
    FOLDER_PREFIX,
    MEASURED,
    Outcome,
    Preflight,
    about_processes,
    about_replay,
    finding,
    need_of,
)
from ftlab.training.sizes import Remedy, ladder, larger_batch, planned_steps, remedies
from ftlab.training.status import RunStatus, read_status
from ftlab.training.supervisor import environment_for

if TYPE_CHECKING:
    from ftlab.data.splits import Prepared

_LONGER = "Documents longer than the longest example make more steps than counted here."
_POLL_SECONDS = 0.3
_MOST_PROBES = 6


def preflight(
    config: RunConfig, workspace: Workspace, *, price_per_hour: float | None = None
) -> Generator[str, None, Preflight]:
    """Yields its current phase, in words, several times a second, and returns the result.

    Closing the generator ends the measurement and its process. Raises InputError as `supervisor.submit` does, and
    FtlabError when the probe fails for another reason than memory.
    """
    from ftlab.models.estimate import is_here

    config = checked(config, workspace)
    if not is_here(config.model):
        return (yield from _estimated(config, workspace, price_per_hour))
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        yield "reading the data"
        prepared = prepare_data(config, workspace)
        outcome = yield from probe(config, prepared, Path(folder) / "0", workspace)
        verified = None
        if outcome.out_of_memory:
            verified = yield from _search(config, prepared, outcome, Path(folder), workspace)
    result = finding(config, outcome, prepared, workspace, price_per_hour, verified)
    about = _about_preferences(config, prepared, outcome)
    codes = {advice.code for advice in about}  # answer_cut names the same rows as rows_cut
    others = [advice for advice in result.warnings if not (advice.code == "rows_cut" and "answer_cut" in codes)]
    return replace(result, warnings=[*about, *others])


def run_preflight(config: RunConfig, workspace: Workspace, *, price_per_hour: float | None = None) -> Preflight:
    """Like `preflight`, without progress."""
    with Steps(preflight(config, workspace, price_per_hour=price_per_hour)) as steps:
        for _ in steps:
            pass
    return steps.result


def checked(config: RunConfig, workspace: Workspace) -> RunConfig:
    """The resolved configuration, checked as `supervisor.submit` does."""
    from ftlab.training import gate

    config, start = gate.checked(config, workspace, needs_base=False)
    if start is not None and start.adapter is not None:
        config.model.start = str(start.adapter)  # the folder of the probe is outside the workspace
    return config


def _about_preferences(config: RunConfig, prepared: Prepared, outcome: Outcome) -> list[Advice]:
    """The findings of `check_preferences`, with the rows that were counted as too long."""
    from ftlab.data.preferences import check_preferences, cut_findings

    if config.stage not in PREFERENCE_STAGES:
        return []
    counted = outcome.manifest.get("tokens", {}).get("train", {})
    full, cut = counted.get("prompt_too_long", 0), counted.get("cut", 0) + counted.get("too_long", 0)
    limit, rows = config.optimisation.max_length, len(prepared.splits["train"])
    findings = [*cut_findings(config.stage, limit, full, cut, rows), *check_preferences(prepared, config)]
    return [Advice(finding.code, finding.kind, finding.what, finding.why, finding.try_) for finding in findings]


def probe(
    config: RunConfig, prepared: Prepared, folder: Path, workspace: Workspace, *, more: Sequence[str] = ()
) -> Generator[str, None, Outcome]:
    """Measure `config` in a separate process, which ends when the generator is closed; `more` are its arguments."""
    from ftlab.data.splits import freeze

    run = RunDirectory(folder)
    freeze(prepared, run)
    if config.model.start:
        freeze_start(Start(Path(config.model.start), None), run)
    write_status(run.status_file, RunStatus(created=time.time(), phase="starting"))
    write_text(run.config_file, config.to_yaml())
    command = [sys.executable, "-m", "ftlab.training.preflight.probe", str(run.path), str(workspace.root)]
    with (
        run.log_file.open("ab") as log,
        attached([*command, *more], log=log, environment=_environment(config)) as process,
    ):
        while process.poll() is None:
            yield read_status(run.status_file).phase or "measuring"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
    status = read_status(run.status_file)
    out_of_memory = _ran_out(process.returncode, status, run)
    outcome = Outcome(read_json(folder / MEASURED, {}), status, run.manifest(), out_of_memory)
    if process.returncode != 0 and not outcome.out_of_memory:
        raise _failure(status, run, process.returncode)
    return outcome


def _environment(config: RunConfig) -> dict[str, str]:
    # Of several processes that train together, one is measured, with the settings of a single process.
    alone = config.model_copy(update={"launcher": LauncherConfig(device=config.launcher.device)})
    environment = environment_for(alone, online=False)
    if config.launcher.processes > 1 or config.launcher.threads:
        # With its share of the cores.
        environment["OMP_NUM_THREADS"] = str(threads_per_process(config.launcher))
    return environment


def _search(
    config: RunConfig, prepared: Prepared, failed: Outcome, folder: Path, workspace: Workspace
) -> Generator[str, None, Remedy | None]:
    """The first change that was measured to fit."""
    tried = ladder(config, loading="lengths" not in failed.measured)[: _MOST_PROBES - 2]
    below = filled(config.optimisation.batch_size)
    for number, remedy in enumerate(tried, start=1):
        outcome = yield from _try(config, remedy, prepared, folder / str(number), workspace)
        rows = remedy.settings.get("optimisation.batch_size", below)
        if outcome is None or outcome.out_of_memory:
            below = min(below, rows)
            continue
        measured = outcome.measured
        fits = replace(remedy, peak=measured["peak"], measured=True)
        larger = larger_batch(config, fits, need_of(measured), measured["available"], below) if rows < below else None
        if larger is not None:
            outcome = yield from _try(config, larger, prepared, folder / "larger", workspace)
            if outcome is not None and not outcome.out_of_memory:
                return replace(larger, peak=outcome.measured["peak"], measured=True)
        return fits
    return None


def _try(
    config: RunConfig, remedy: Remedy, prepared: Prepared, folder: Path, workspace: Workspace
) -> Generator[str, None, Outcome | None]:
    """The measurement with `remedy`; None if this base or machine does not support it."""
    changed = with_settings(config, remedy.settings)
    try:
        with Steps(probe(changed, prepared, folder, workspace, more=["--memory-only"])) as steps:
            for phase in steps:
                yield f"memory ran out; trying {remedy.what}: {phase}"
    except FtlabError:
        return None
    return steps.result


def _estimated(
    config: RunConfig, workspace: Workspace, price_per_hour: float | None
) -> Generator[str, None, Preflight]:
    """The finding without the weights: sizes from the configuration of the base, steps from the data."""
    from ftlab.models.estimate import estimate, longest_by_text
    from ftlab.models.load import pick_device, pick_dtype, shape_of
    from ftlab.training.sizes import available_memory

    yield "reading the data"
    prepared = prepare_data(config, workspace)
    yield "estimating from the configuration of the base"
    device = pick_device(config.launcher.device)
    # The answers of a stage of rewards are not known yet.
    longest = None if config.stage in REWARD_STAGES else longest_by_text(prepared.splits["train"])
    guess = estimate(config, pick_dtype(config.model, device), longest)
    free, _ = available_memory(device)
    rows = len(prepared.splits["train"])
    if prepared.replay_prompts and (replay := prepared.manifest.get("replay")):
        rows += replay["rows"]
    held_out = len(prepared.splits.get("validation", []))
    processes = config.launcher.processes
    steps = planned_steps(config.optimisation, rows, validation=held_out > 0, processes=processes)
    fits = None if guess.peak_bytes is None else guess.peak_bytes <= free
    if fits and guess.need is None:
        fits = None  # the weights fit; the memory for the examples is unknown
    options: list[Remedy] = []
    if fits is False and guess.need is not None:
        options = remedies(config, guess.need, free, [])
    plan = Plan(
        config,
        rows=rows,
        validation_rows=held_out,
        test_rows=len(prepared.splits.get("test", [])),
        device=device,
        dtype=str(pick_dtype(config.model, device)).removeprefix("torch."),
        shape=shape_of(config.model),
    )
    return Preflight(
        kind="estimate",
        fits=fits,
        device=device,
        device_name="CPU" if device == "cpu" else "GPU",
        peak_bytes=guess.peak_bytes,
        available_bytes=free,
        estimated_from=guess.source,
        rows=rows,
        validation_rows=held_out,
        steps=steps.total,
        evaluations=steps.evaluations,
        price_per_hour=price_per_hour,
        trained_parameters=guess.trained_parameters,
        total_parameters=guess.total_parameters,
        result_bytes=guess.result_bytes,
        checkpoint_bytes=guess.checkpoint_bytes,
        remedies=options,
        warnings=warnings(plan),
        notes=[
            *guess.notes,
            about_replay(config, prepared),
            *([_LONGER] if config.stage == PRETRAINING else []),
            *about_processes(config, device),
        ],
    )


def _ran_out(returncode: int | None, status: RunStatus, run: RunDirectory) -> bool:
    """Whether the probe ran out of memory, by its error, by the signal that killed it, or by its log."""
    if status.error is not None:
        return bool(status.error.get("out_of_memory"))
    if returncode is None or returncode >= 0:
        return False
    killed = returncode == -getattr(signal, "SIGKILL", 9)
    return killed or says_out_of_memory(run.log_tail())


def _failure(status: RunStatus, run: RunDirectory, returncode: int | None) -> FtlabError:
    from ftlab.training.failures import explain_death

    reason = status.error or explain_death(returncode, run.log_file, status)
    if reason.get("kind") == "input":
        return FtlabError.from_json(reason)
    return FtlabError(
        "The measurement failed",
        why=reason.get("why") or last_line(run.log_file) or reason["what"],
        try_="start the run without measuring it: its log will show where it fails",
    )
