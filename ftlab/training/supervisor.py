"""Starts, queues, follows, stops and adopts runs: one process each, one at a time on a device."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ftlab.config import RunConfig
from ftlab.config.stages import SFT
from ftlab.core import jobs
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.files import DamagedFile, locked, read_cached, write_json, write_text
from ftlab.core.jobs import Job, StopResult, write_status
from ftlab.core.processes import CACHES, is_held, take
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace, is_run
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.request import Request
from ftlab.training.arguments import tracker_variables
from ftlab.training.failures import explain_death
from ftlab.training.launcher import accelerate_file, keep_configuration, uses_accelerate
from ftlab.training.status import RunStatus, damaged

if TYPE_CHECKING:
    from ftlab.evaluation.judge_plan import JudgeSettings


def submit(config: RunConfig, workspace: Workspace) -> RunDirectory:
    """Check `config` and its data, freeze the split, and start the run in a separate process.

    Raises InputError before anything is started when the data or a setting cannot be used.
    """
    run, config = create(config, workspace)
    start(run, workspace, config)
    return run


def start(run: RunDirectory, workspace: Workspace, config: RunConfig) -> None:
    """Start `run`, which was created with `config`."""
    from ftlab.models.load import is_hub_id

    with starting(run):
        warnings = status(run).warnings
        jobs.begin(training_of(run), RunStatus(created=time.time(), warnings=warnings))
        _start(training_of(run), run, workspace, [], config, online=is_hub_id(config.model.base))


@contextlib.contextmanager
def starting(run: RunDirectory) -> Iterator[None]:
    """Hold the start lock of `run`: nothing else can start for it, and it cannot be deleted, so that checks stay true.

    Raises InputError if the run is gone.
    """
    _check_there(run)
    with locked(run.start_lock):
        _check_there(run)
        yield


def _check_there(run: RunDirectory) -> None:
    if not is_run(run.path):
        raise InputError(f"The run {run.id} is gone", given=run.path, try_="list the runs: ftlab runs list")


def is_evaluated(run: RunDirectory) -> bool:
    """Whether `run` is being evaluated or judged, by a separate process or by a command line."""
    current = evaluation_status(run)
    return bool((current is not None and current.is_active) or is_held(run.evaluation_lock))


@contextlib.contextmanager
def evaluating_here(run: RunDirectory) -> Iterator[None]:
    """Evaluate `run` in this process: no other process can evaluate or resume it in the meantime.

    Raises FtlabError if it is already being evaluated, or still at work.
    """
    with starting(run):
        if is_evaluated(run):
            raise FtlabError(f"The run {run.id} is already being evaluated", try_="wait, or stop that evaluation")
        if status(run).is_active:
            raise FtlabError(f"The run {run.id} is still running", try_="wait until it has ended, or stop it")
        held = take(run.evaluation_lock)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def create(config: RunConfig, workspace: Workspace) -> tuple[RunDirectory, RunConfig]:
    """A run that is ready to start, and its complete configuration. Raises InputError like `submit`."""
    from ftlab.data.splits import freeze
    from ftlab.training import gate

    config, start = gate.checked(config, workspace)
    prepared = gate.prepare_data(config, workspace, records=True)
    kind = config.method.name if config.stage == SFT else f"{config.stage}-{config.method.name}"
    label = config.name or f"{Path(config.data.source).stem}-{kind}"
    run = workspace.create_run(label)
    try:
        freeze(prepared, run)
        keep_configuration(run, config.launcher)
        gate.freeze_start(start, run)
        # The configuration last: it makes the folder a run for every reader.
        write_status(run.status_file, RunStatus(created=time.time(), warnings=gate.remarks_on(start, workspace)))
        write_text(run.config_file, config.to_yaml())
    except BaseException:
        # A folder without a configuration would never be listed.
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run, config


def resume(run: RunDirectory, workspace: Workspace) -> int:
    """Resume `run` from its last complete checkpoint, in its own folder; returns the step of that checkpoint.

    The run may have been copied from another machine. Without a checkpoint it starts over (step 0). Raises InputError
    if the run has finished training, FtlabError if it is running.
    """
    with starting(run):
        return _resume(run, workspace)


def _resume(run: RunDirectory, workspace: Workspace) -> int:
    from ftlab.config import load_config
    from ftlab.models.identity import damaged_result
    from ftlab.models.load import check_base, is_hub_id
    from ftlab.training import gate
    from ftlab.training.checkpoints import last_checkpoint, passed_over

    current = status(run)
    if current.is_active or is_evaluated(run):
        raise FtlabError(f"The run {run.id} is still running", try_="wait until it has ended, or stop it")
    if current.state == "completed" and not damaged_result(run):
        raise InputError(
            f"The run {run.id} has finished training",
            given=f"step {current.total_steps or current.step}",
            allowed="a stopped or failed run",
            try_=_after_the_end(run, workspace),
        )
    config = load_config(run.config_file)
    check_base(config.model)
    if not run.split_file("train").exists():
        raise InputError(
            f"The data of the run {run.id} is missing",
            given=run.split_file("train"),
            try_="copy the whole run directory",
        )
    gate.check_stored(config, workspace, kept=accelerate_file(run))
    checkpoint = last_checkpoint(run)
    run.queue_file.unlink(missing_ok=True)
    elsewhere = run.place_file.exists()  # so are its checkpoints
    step = current.step if elsewhere else checkpoint.step if checkpoint else 0
    # Earlier versions counted the rows of an evaluation here. The trainer will soon report its own number of steps.
    total = current.total_steps if current.total_steps >= step else 0
    warnings = [] if elsewhere else passed_over(run, checkpoint)
    jobs.begin(training_of(run), RunStatus(created=time.time(), step=step, total_steps=total, warnings=warnings))
    _start(training_of(run), run, workspace, [], config, online=is_hub_id(config.model.base))
    return step


def _after_the_end(run: RunDirectory, workspace: Workspace) -> str:
    longer = "to train longer, start again with these settings and more epochs"
    if run.comparison() or run.preferences() or run.rewards() or not run.has_result:
        return longer
    return f"to compare it with its base: python -m ftlab evaluate {run.id}{workspace.flag}; {longer}"


# The tasks in the status of an evaluation.
EVALUATION, STRENGTHS, REWARD_MODEL, JUDGING = "evaluation", "strengths", "reward model", "judge"


def submit_evaluation(
    run: RunDirectory, workspace: Workspace, request: Request | None = None, *, strengths: bool = False
) -> None:
    """Evaluate `run` against its base in a separate process, as `evaluate_whole` does; progress is in
    evaluation/status.json.

    The key of an address reaches the process through its environment. With `strengths`, only several strengths of the
    result are measured. Raises FtlabError when a run is still training, has no result, or is being evaluated already,
    InputError when a setting cannot take its value.
    """
    from ftlab.config import load_config, with_settings
    from ftlab.evaluation.probes import from_elsewhere
    from ftlab.models.load import is_hub_id
    from ftlab.training import gate

    request = request or Request()
    config = load_config(run.config_file)
    changed = with_settings(config, request.changes)
    if request.settings.get("own_metrics"):
        gate.check_code(changed)
    arguments = ["--strengths"] if strengths else ["--evaluate", json.dumps(request.as_dict())]
    keep = [CONTESTANT.key_variable] if request.sends else []
    bases = [load_config(other.config_file).model.base for other in (run, *request.others)]
    online = any(map(is_hub_id, bases)) or from_elsewhere(changed.evaluation.probes) or bool(request.suite)
    with starting(run):
        _check_evaluable(run, request.others)
        run.evaluation.mkdir(exist_ok=True)
        task = STRENGTHS if strengths else REWARD_MODEL if request.reward_model else EVALUATION
        jobs.begin(evaluation_of(run), RunStatus(created=time.time(), task=task))
        _start(evaluation_of(run), run, workspace, arguments, config, online=online, keep=keep)


def _check_evaluable(run: RunDirectory, others: Sequence[RunDirectory]) -> None:
    for other in (run, *others):
        if not other.has_result:
            raise FtlabError(f"The run {other.id} has no trained model to evaluate", try_="finish its training first")
        if status(other).is_active:
            raise FtlabError(f"The run {other.id} is still running", try_="wait until it has ended")
    if is_evaluated(run):
        raise FtlabError(f"The run {run.id} is already being evaluated", try_="wait, or stop that evaluation")


def submit_judging(run: RunDirectory, workspace: Workspace, settings: JudgeSettings) -> None:
    """Judge the stored answers of `run` with a model behind an address, in a separate process.

    Progress is in evaluation/status.json, and it is stopped like an evaluation. The key reaches the process through its
    environment. Raises FtlabError when the run is at work, has no answers, or is being judged already.
    """
    from ftlab.config import load_config
    from ftlab.core.endpoint import JUDGE
    from ftlab.evaluation.judge_plan import answered_rows

    answered_rows(run, settings)
    config = load_config(run.config_file)
    with starting(run):
        if status(run).is_active or is_evaluated(run):
            raise FtlabError(f"The run {run.id} is still running", try_="wait until it has ended, or stop it")
        began = time.time()
        write_json(run.judging_file, {"created": began, "settings": settings.as_dict()})
        jobs.begin(evaluation_of(run), RunStatus(created=began, task=JUDGING))
        _start(evaluation_of(run), run, workspace, ["--judge"], config, online=False, keep=[JUDGE.key_variable])


def judging_status(run: RunDirectory) -> RunStatus | None:
    """The evaluation status of `run` if `submit_judging` started its latest evaluation; else None."""
    current, request = evaluation_status(run), read_cached(run.judging_file)
    return current if current is not None and request and request.get("created") == current.created else None


def _words(run: RunDirectory, gently: str) -> jobs.Words:
    asked = f"Stopping: it {gently}. Stop again to kill it at once."
    return jobs.Words(run.id, asked=asked, killed="Killed. Everything saved before that is kept.")


def training_of(run: RunDirectory) -> Job:
    words = _words(run, "saves a checkpoint and its adapter, then stops")
    return Job(run.status_file, run.work_lock, run.log_file, (run.path,), run.stop_file, words)


def evaluation_of(run: RunDirectory) -> Job:
    files = (run.evaluation_status_file, run.evaluation_lock, run.evaluation_log_file)
    words = _words(run, "stops in a moment; the answers so far are kept")
    return Job(*files, (run.path,), run.evaluation_stop_file, words)


def status(run: RunDirectory) -> RunStatus:
    """The status of `run`, corrected if its process is gone: failed, or stopped if that was requested."""
    return _settled(training_of(run))


def evaluation_status(run: RunDirectory) -> RunStatus | None:
    """The status of the latest evaluation of `run` that `submit_evaluation` started; None if there was none."""
    return _settled(evaluation_of(run)) if run.evaluation_status_file.exists() else None


def stop(run: RunDirectory) -> StopResult:
    """Ask the run to save and stop; the second time, kill its process group."""
    return jobs.stop(training_of(run), status(run))


def stop_evaluation(run: RunDirectory) -> StopResult:
    """As `stop`, for the evaluation of `run`. Earlier results are kept."""
    current = evaluation_status(run)
    if current is None:
        return StopResult("idle", "No evaluation is running.")
    return jobs.stop(evaluation_of(run), current)


def delete(run: RunDirectory, workspace: Workspace) -> None:
    """Delete a run. Raises InputError if it is running."""
    with starting(run):
        if status(run).is_active or is_evaluated(run):
            raise InputError(f"The run {run.id} is running and cannot be deleted", try_="stop it first")
        workspace.delete_run(run)


def wait(run: RunDirectory, *, poll_seconds: float = 0.5) -> RunStatus:
    """Block until the run has ended, and return its last status."""
    while (current := status(run)).is_active:
        time.sleep(poll_seconds)
    return current


def active_runs(workspace: Workspace) -> list[RunDirectory]:
    """The runs that are queued, running or stopping, the oldest first."""
    return [run for run in reversed(workspace.runs()) if status(run).is_active]


def _start(
    job: Job,
    run: RunDirectory,
    workspace: Workspace,
    arguments: list[str],
    config: RunConfig,
    *,
    online: bool,
    keep: Iterable[str] = (),
) -> None:
    keep = [*keep, *(["SSH_AUTH_SOCK"] if run.place_file.exists() else [])]
    command = [sys.executable, "-m", "ftlab.training.worker", str(run.path), str(workspace.root), *arguments]
    jobs.start(job, command, environment_for(config, online=online, keep=keep), append=True)


def environment_for(config: RunConfig, *, online: bool, keep: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a training process. Variables that are already set stay; of the secrets it gets only those
    that the Hub (`online`), a tracker of `config` or `keep` needs."""
    environment = jobs.environment({}, online=online, keep=[*keep, *tracker_variables(config)])
    defaults = {
        # glibc returns large buffers to the system at every step. Raising these cut system time from 12.7 to 2.5 s.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_TOP_PAD_": str(1 << 28),
        **CACHES,  # here too: accelerate imports torch before ftlab
        # Threads that spin for milliseconds on a core that others need make both many times slower. Threads that sleep
        # at once must be woken for every operation, and a small model trains a fifth slower. So they spin for some
        # microseconds, about the pause between two operations.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "20000",
    }
    if not uses_accelerate(config.launcher):
        # One GPU for one process: transformers would split every batch over several (DataParallel), which is slow, and
        # the batch would be larger than configured.
        defaults["CUDA_VISIBLE_DEVICES"] = "0"
    environment = defaults | environment
    if config.launcher.threads:
        environment["OMP_NUM_THREADS"] = str(config.launcher.threads)
    return environment


def _settled(job: Job) -> RunStatus:
    try:
        return jobs.settled(job, RunStatus, lambda current, code: explain_death(code, job.log_file, current))
    except FileNotFoundError:
        places = (job.status_file.with_name("config.yaml"), job.status_file.parent.with_name("config.yaml"))
        if any(file.exists() for file in places):
            return damaged(DamagedFile(job.status_file, "it is gone"))
        what = "The folder of this run was deleted or moved, so the run ended."
        return RunStatus(state="failed", phase="", error={"what": what, "why": None, "try": None})
    except DamagedFile as error:
        return damaged(error)


Where = Literal["earlier", "later", "first", "last"]


def waiting(workspace: Workspace) -> list[RunDirectory]:
    """The runs that are waiting for the device, in the order of the queue."""
    return sorted((run for run in workspace.runs() if status(run).state == "queued"), key=position)


def position(run: RunDirectory) -> tuple[float, str]:
    """The sort key of the queue: the position that a run was moved to, else the time of its submission (Unix
    seconds)."""
    place = (read_cached(run.queue_file) or {}).get("position")
    return (place if isinstance(place, int | float) else status(run).created), run.id


def move(run: RunDirectory, workspace: Workspace, where: Where) -> list[RunDirectory]:
    """Move a waiting run in the queue; returns the new order. Raises InputError if it is not waiting."""
    with locked(workspace.queue_lock):
        return _move(run, waiting(workspace), where)


def _move(run: RunDirectory, order: list[RunDirectory], where: Where) -> list[RunDirectory]:
    if run not in order:
        raise InputError(
            f"The run {run.id} is not waiting for the device",
            given=status(run).state,
            allowed=", ".join(waiting_run.id for waiting_run in order) or "no run is waiting",
        )
    old = order.index(run)
    new = {"earlier": max(0, old - 1), "later": min(len(order) - 1, old + 1), "first": 0, "last": len(order) - 1}
    if where not in new:
        raise InputError("A run cannot be moved there", given=where, allowed=", ".join(new))
    places = sorted(position(waiting_run)[0] for waiting_run in order)
    order.insert(new[where], order.pop(old))
    for waiting_run, place in zip(order, places, strict=True):
        if position(waiting_run)[0] != place:
            write_json(waiting_run.queue_file, {"position": place})
    return order
