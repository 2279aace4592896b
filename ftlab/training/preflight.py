"""Measure a run before it starts: does it fit, how long will it take, what is unusual about it.

The measuring is done by a process of its own (`probe`), in a temporary folder, on the run's own data and code. Nothing
of it stays: no run, no process, no file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ftlab.config import RunConfig, build_config
from ftlab.errors import FtlabError, InputError
from ftlab.models.estimate import Need
from ftlab.training.failures import says_out_of_memory
from ftlab.training.memory import SAFE_SHARE, Remedy, ladder, larger_batch, remedies
from ftlab.training.plan import Advice, Plan, planned_steps, warnings
from ftlab.training.status import RunStatus, read_status, write_status
from ftlab.training.supervisor import _environment, kill_group
from ftlab.workspace import RunDirectory, Workspace, read_json, write_text

_POLL_SECONDS = 0.3
_MOST_PROBES = 6
_CHECKPOINTS_KEPT = 2  # trainer_arguments: the best and the last


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts. Bytes, seconds and tokens; None where it is not known.

    `kind`: measured, or estimate (of a base that is not on this machine: `estimated_from` says from what).
    `fits`: True, False, or None when nobody can say. `peak_bytes` is what the run takes at most, `available_bytes` what
    is free for it; both of the GPU, or of RAM where training is on a CPU. `out_of_memory_in` names the phase in which
    memory ran out. Token counts are those of one epoch: `tokens` real ones, `trained_tokens` those that are learnt,
    `computed_tokens` with the padding. `training_seconds` holds all steps, `evaluation_seconds` all validations,
    `total_seconds` both and the start; the comparison with the base after training is not in it.
    """

    kind: Literal["measured", "estimate"]
    fits: bool | None
    device: str | None
    device_name: str | None
    peak_bytes: int | None = None
    available_bytes: int | None = None
    out_of_memory_in: str | None = None
    estimated_from: str | None = None
    rows: int | None = None
    validation_rows: int | None = None
    rows_too_long: int | None = None
    longest_row: int | None = None
    tokens: int | None = None
    trained_tokens: int | None = None
    computed_tokens: int | None = None
    steps: int | None = None
    evaluations: int | None = None
    seconds_per_step: float | None = None
    startup_seconds: float | None = None
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    total_seconds: float | None = None
    price_per_hour: float | None = None
    cost: float | None = None
    trained_parameters: int | None = None
    total_parameters: int | None = None
    result_bytes: int | None = None
    checkpoint_bytes: int | None = None
    disk_bytes: int | None = None
    disk_free_bytes: int | None = None
    remedies: list[Remedy] = field(default_factory=list)
    warnings: list[Advice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def trained_share(self) -> float | None:
        if not self.trained_parameters or not self.total_parameters:
            return None
        return self.trained_parameters / self.total_parameters

    @property
    def padding_share(self) -> float | None:
        """The part of the computed tokens that is padding."""
        if not self.tokens or not self.computed_tokens:
            return None
        return 1 - self.tokens / self.computed_tokens

    @property
    def is_tight(self) -> bool:
        """It fits, with less than a tenth to spare."""
        if not self.fits or not self.peak_bytes or not self.available_bytes:
            return False
        return self.peak_bytes > SAFE_SHARE * self.available_bytes

    def priced(self, price_per_hour: float | None) -> Preflight:
        """The same finding at another price."""
        known = self.total_seconds is not None and price_per_hour is not None
        cost = self.total_seconds / 3600 * price_per_hour if known else None
        return replace(self, price_per_hour=price_per_hour, cost=cost)

    def as_dict(self) -> dict[str, Any]:
        """All of the above for JSON, with `trained_share`, `padding_share` and `tight`; a remedy is {settings, what,
        costs, peak_bytes, measured}, a warning {code, kind, what, why, try}."""
        plain = {name: value for name, value in vars(self).items() if name not in ("remedies", "warnings")}
        return plain | {
            "trained_share": self.trained_share,
            "padding_share": self.padding_share,
            "tight": self.is_tight,
            "remedies": [remedy.as_dict() for remedy in self.remedies],
            "warnings": [advice.as_dict() for advice in self.warnings],
        }


@dataclass
class _Outcome:
    """What one probe left behind: its measurements, its status, and whether memory was too short."""

    measured: dict[str, Any]
    status: RunStatus
    manifest: dict[str, Any]
    out_of_memory: bool


def preflight(
    config: RunConfig, workspace: Workspace, *, price_per_hour: float | None = None
) -> Generator[str, None, Preflight]:
    """Yields what it is doing, in words and several times a second, and returns the finding.

    Closing the generator ends the measurement and its process. Raises InputError as `supervisor.submit` does, and
    FtlabError when the probe fails for another reason than memory.
    """
    from ftlab.models.estimate import is_here
    from ftlab.training.probe import FOLDER_PREFIX

    config = _checked(config)
    if not is_here(config.model):
        return (yield from _estimated(config, workspace, price_per_hour))
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        yield "reading the data"
        prepared = _prepared(config, workspace)
        outcome = yield from _probe(config, prepared, Path(folder) / "0", workspace)
        verified = None
        if outcome.out_of_memory:
            verified = yield from _search(config, prepared, outcome, Path(folder), workspace)
    return _finding(config, outcome, prepared, workspace, price_per_hour, verified)


def run_preflight(config: RunConfig, workspace: Workspace, *, price_per_hour: float | None = None) -> Preflight:
    """As `preflight`, without progress."""
    steps = preflight(config, workspace, price_per_hour=price_per_hour)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _checked(config: RunConfig) -> RunConfig:
    """The configuration with nothing left empty, checked as far as `supervisor.submit` checks it."""
    from ftlab.models.load import base_path
    from ftlab.models.methods import check_method

    config = config.resolved()
    base_path(config.model.base)
    check_method(config)
    if config.trainer:
        from ftlab.training.sft import check_trainer_settings

        check_trainer_settings(config.trainer)
    return config


def _prepared(config: RunConfig, workspace: Workspace) -> Any:
    from ftlab.data.splits import prepare
    from ftlab.data.versions import pinned

    config.data.source = pinned(config.data.source, workspace)
    return prepare(config.data, workspace=workspace)


def _probe(
    config: RunConfig, prepared: Any, folder: Path, workspace: Workspace, *, memory_only: bool = False
) -> Generator[str, None, _Outcome]:
    """Measure `config` in a process of its own, which ends when the generator is closed."""
    from ftlab.data.splits import freeze
    from ftlab.training.probe import MEASURED

    run = RunDirectory(folder)
    freeze(prepared, run)
    write_status(run.status_file, RunStatus(created=time.time(), phase="starting"))
    write_text(run.config_file, config.to_yaml())
    command = [sys.executable, "-m", "ftlab.training.probe", str(run.path), str(workspace.root)]
    with run.log_file.open("ab") as log:
        process = subprocess.Popen(
            [*command, *(["--memory-only"] if memory_only else [])],
            # Held open as long as this process lives: its end tells the probe to end too.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(config, online=False),
            close_fds=True,
        )
    try:
        while process.poll() is None:
            yield read_status(run.status_file).phase or "measuring"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
    finally:
        _end(process)
    status = read_status(run.status_file)
    measured = read_json(folder / MEASURED, {})
    outcome = _Outcome(measured, status, run.manifest(), _ran_out(process.returncode, status, run))
    if process.returncode != 0 and not outcome.out_of_memory:
        raise _failure(status, run, process.returncode)
    return outcome


def _search(
    config: RunConfig, prepared: Any, failed: _Outcome, folder: Path, workspace: Workspace
) -> Generator[str, None, Remedy | None]:
    """The first change that was measured to fit."""
    tried = ladder(config, loading="lengths" not in failed.measured)[: _MOST_PROBES - 2]
    below = config.optimisation.batch_size
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
    config: RunConfig, remedy: Remedy, prepared: Any, folder: Path, workspace: Workspace
) -> Generator[str, None, _Outcome | None]:
    """The memory that `remedy` takes; None for what this base or machine cannot do."""
    steps = _probe(_changed(config, remedy.settings), prepared, folder, workspace, memory_only=True)
    try:
        return (yield from _telling(steps, f"memory was too short; trying {remedy.what}: "))
    except FtlabError:
        return None


def _telling(steps: Generator[str, None, _Outcome], before: str) -> Generator[str, None, _Outcome]:
    """As `steps`, with `before` in front of each phase."""
    try:
        while True:
            try:
                phase = next(steps)
            except StopIteration as end:
                return end.value
            yield before + phase
    finally:
        steps.close()


def _changed(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    values = config.model_dump()
    for name, value in settings.items():
        section, _, setting = name.partition(".")
        values[section][setting] = value
    return build_config(values)


def _finding(
    config: RunConfig,
    outcome: _Outcome,
    prepared: Any,
    workspace: Workspace,
    price_per_hour: float | None,
    verified: Remedy | None,
) -> Preflight:
    known, counted = outcome.measured, outcome.manifest.get("tokens", {}).get("train", {})
    peak, free = known.get("peak"), known.get("available")
    fits = not outcome.out_of_memory and (peak is None or free is None or peak <= free)
    options: list[Remedy] = []
    if verified:
        options.append(verified)
    elif not fits and known.get("peak") and not outcome.out_of_memory and free:
        options = remedies(config, need_of(known), free, known["lengths"])
    steps, evaluations = known.get("steps"), known.get("evaluations")
    per_step, per_evaluation = known.get("step_seconds"), known.get("evaluation_seconds")
    training = steps * per_step if steps and per_step else None
    evaluating = evaluations * per_evaluation if evaluations and per_evaluation else 0.0 if steps else None
    total = training + (evaluating or 0) + known.get("startup_seconds", 0) if training is not None else None
    result = known.get("weights_bytes" if config.method.name == "full" else "trained_bytes")
    checkpoint = result + known["optimiser_bytes"] if result and "optimiser_bytes" in known else None
    validation = outcome.manifest.get("tokens", {}).get("validation", {})
    disk = result + _CHECKPOINTS_KEPT * checkpoint if checkpoint else None
    disk_free = _disk_free(workspace)
    rows = counted.get("rows", len(prepared.splits["train"]))
    plan = Plan(
        config,
        rows=rows,
        validation_rows=validation.get("rows", len(prepared.splits.get("validation", []))),
        test_rows=len(prepared.splits.get("test", [])),
        rows_too_long=counted.get("too_long", 0),
        longest=counted.get("longest"),
        context=known.get("context"),
        tokens=known.get("tokens"),
        computed_tokens=known.get("computed"),
        template=known.get("template"),
        stop_trained=known.get("stop_trained"),
        device=known.get("device", "cpu"),
        dtype=known.get("dtype", "float32"),
        card_has_bf16=known.get("card_has_bf16"),
    )
    said = warnings(plan)
    if disk and disk_free is not None and disk > disk_free:
        said.insert(0, _disk_warning(disk, disk_free))
    notes = [note for note in outcome.status.warnings if not _said_by_plan(note)]
    if outcome.out_of_memory and outcome.status.error is None:
        notes.append("The measurement was killed from outside; the system does that when memory runs out.")
    if not outcome.out_of_memory:
        notes.append("The comparison with the base after training is not in these times.")
    return Preflight(
        kind="measured",
        fits=fits,
        device=known.get("device"),
        device_name=known.get("device_name"),
        peak_bytes=None if outcome.out_of_memory else peak,
        available_bytes=free,
        out_of_memory_in=outcome.status.phase if outcome.out_of_memory else None,
        rows=rows,
        validation_rows=plan.validation_rows,
        rows_too_long=plan.rows_too_long,
        longest_row=plan.longest,
        tokens=known.get("tokens"),
        trained_tokens=counted.get("trained_tokens"),
        computed_tokens=known.get("computed"),
        steps=steps or planned_steps(config.optimisation, rows, validation=plan.validation_rows > 0).total,
        evaluations=evaluations,
        seconds_per_step=per_step,
        startup_seconds=known.get("startup_seconds"),
        training_seconds=training,
        evaluation_seconds=evaluating,
        total_seconds=total,
        trained_parameters=outcome.status.trained_parameters,
        total_parameters=outcome.status.total_parameters,
        result_bytes=result,
        checkpoint_bytes=checkpoint,
        disk_bytes=disk,
        disk_free_bytes=disk_free,
        remedies=options,
        warnings=said,
        notes=notes,
    ).priced(price_per_hour)


def need_of(known: dict[str, Any]) -> Need:
    """What the probe measured, split into what stays and what grows with the batch."""
    # The optimiser's two moments and the gradient of every trained weight come with the first step.
    fixed = known["loaded"] + known["optimiser_bytes"] + known["trained_bytes"]
    return Need(
        fixed=min(fixed, known["peak"]),
        activations=max(0, known["peak"] - fixed),
        layers=known["layers"],
        head_share=known["head_share"],
        linear=known["linear_bytes"],
        linear_weights=known["linear_weights"],
    )


def _estimated(
    config: RunConfig, workspace: Workspace, price_per_hour: float | None
) -> Generator[str, None, Preflight]:
    """What can be said without the weights: sizes from the base's configuration, steps from the data."""
    from ftlab.models.estimate import estimate
    from ftlab.models.load import pick_device, pick_dtype
    from ftlab.training.memory import available_memory

    yield "reading the data"
    prepared = _prepared(config, workspace)
    yield "estimating from the configuration of the base"
    device = pick_device(config.launcher.device)
    guess = estimate(config, pick_dtype(config.model.dtype, device))
    free, _ = available_memory(device)
    rows, held_out = len(prepared.splits["train"]), len(prepared.splits.get("validation", []))
    steps = planned_steps(config.optimisation, rows, validation=held_out > 0)
    fits = None if guess.peak_bytes is None else guess.peak_bytes <= free
    if fits and guess.need is None:
        fits = None  # the weights fit; what the examples take is not known
    options: list[Remedy] = []
    if fits is False and guess.need is not None:
        options = remedies(config, guess.need, free, [])
    plan = Plan(
        config,
        rows=rows,
        validation_rows=held_out,
        test_rows=len(prepared.splits.get("test", [])),
        device=device,
        dtype=str(pick_dtype(config.model.dtype, device)).removeprefix("torch."),
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
        disk_free_bytes=_disk_free(workspace),
        remedies=options,
        warnings=warnings(plan),
        notes=guess.notes,
    )


def _said_by_plan(note: str) -> bool:
    return "left out" in note or "no chat template" in note


def _disk_warning(needed: int, free: int) -> Advice:
    return Advice(
        "disk_small",
        "bad",
        f"The run writes about {needed / (1 << 30):.1f} GB, and the disk has {free / (1 << 30):.1f} GB free.",
        "The result and two checkpoints with the state of the optimiser are kept.",
        "Delete old runs, or set FTLAB_HOME to a folder on a larger disk.",
    )


def _disk_free(workspace: Workspace) -> int | None:
    import shutil

    try:
        return shutil.disk_usage(workspace.root).free
    except OSError:
        return None


def _ran_out(returncode: int | None, status: RunStatus, run: RunDirectory) -> bool:
    """Whether the probe ended for want of memory: it said so, the system killed it, or its log says so."""
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
        error = FtlabError(reason["what"], why=reason.get("why"), try_=reason.get("try"))
        error.exit_code = InputError.exit_code
        return error
    last = next((line for line in reversed(run.log_tail().splitlines()) if line.strip()), "")
    return FtlabError(
        "The measurement failed",
        why=reason.get("why") or last or reason["what"],
        try_="start the run without it: its log will show where it fails",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process is left behind, whatever happened."""
    if process.poll() is None:
        kill_group(process.pid)
        process.wait()
    elif hasattr(os, "killpg"):
        # Workers of a data loader, if the probe was killed before it could end them.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
