"""The process of one run: `python -m ftlab.training.worker RUN_DIRECTORY WORKSPACE [--evaluate ...]`.

It waits for its turn on the device, does the work, and writes the outcome to status.json. Not to be called by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.config.stages import PREFERENCE_STAGES, REWARD_STAGES, SUPERVISED_STAGES
from ftlab.core.files import locked, read_json
from ftlab.core.jobs import ended_by
from ftlab.core.processes import give_way, hold_own, let_go
from ftlab.core.quiet import quieten
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.models.bases.get import ensure_base, telling
from ftlab.training.checkpoints import remove_cut_off
from ftlab.training.failures import DISK_FULL_CODE, explain_exception, no_wrong_gradients
from ftlab.training.launcher import train_together, uses_accelerate
from ftlab.training.status import RunGone, StatusWriter, Stopped
from ftlab.training.supervisor import position, waiting
from ftlab.training.verify import verify_saved

_TURN_SECONDS = 0.5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ftlab.training.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--max-rows", type=int)
    parser.add_argument("--reward-model", type=Path)
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--together-with", type=Path, action="append", default=[])
    parser.add_argument("--suite")
    parser.add_argument("--settings", type=json.loads)
    parser.add_argument("--against", type=json.loads)
    parser.add_argument("--strengths", action="store_true")
    args = parser.parse_args(arguments)
    run, workspace = RunDirectory(args.run), Workspace.open(args.workspace)
    quieten()
    if not args.judge:  # a judge waits for another computer
        give_way()
    evaluates = args.evaluate or args.judge
    stop_file = run.evaluation_stop_file if evaluates else run.stop_file
    folder = _identity(run.path)
    try:
        hold_own(run.evaluation_lock if evaluates else run.work_lock)
    except FtlabError as error:  # a person has started this process
        print(error, file=sys.stderr)
        return error.exit_code
    writer = StatusWriter(run.evaluation_status_file if evaluates else run.status_file)

    def work() -> str:
        if args.judge:
            return judge(run, writer, stop_file)
        if args.evaluate:
            reward_model = RunDirectory(args.reward_model) if args.reward_model else None
            others = [RunDirectory(path) for path in args.together_with]
            return evaluate(
                run,
                writer,
                stop_file,
                max_rows=args.max_rows,
                strengths=args.strengths,
                reward_model=reward_model,
                others=others,
                suite=args.suite,
                settings=args.settings,
                **_against(args.against),
            )
        return train(run, writer)

    try:
        # A remote judge does not use the device of this machine.
        held = turn(run, workspace, writer, stop_file.exists, in_order=not args.evaluate)
        with contextlib.nullcontext() if args.judge else held:
            writer.update(state="running", started=time.time(), phase="loading the libraries")
            with telling(_fetching(writer, stop_file)):
                outcome = work()
        writer.update(state=outcome, phase="", finished=time.time(), eta_seconds=None, done=0, total=0)
        return 0
    except Stopped:
        step = 0 if evaluates else writer.status.step
        before = f"before it continued from step {step}" if step else "before anything was trained"
        phase = "stopped before it started" if evaluates else f"stopped {before}"
        with contextlib.suppress(RunGone):
            writer.update(state="stopped", phase=phase, finished=time.time(), eta_seconds=None)
        return 0
    except BaseException as error:
        if writer.is_gone:  # the error may be a consequence, such as a missing file
            print(RunGone(run.id), flush=True)
            return 1
        reason = explain_exception(error, run.path)
        try:
            if reason.get("kind") == "disk":
                # An incomplete checkpoint is useless, and takes the space that the error needs.
                remove_cut_off(run)
            writer.update(state="failed", phase="", error=reason, finished=time.time(), eta_seconds=None)
            if reason.get("kind") == "damaged":
                print(reason["what"], flush=True)  # torch's own message suggests disabling its protection
            else:
                traceback.print_exc()
        except OSError:
            # Not even the error can be written: the exit code tells the parent process.
            return DISK_FULL_CODE
        return 1
    finally:
        writer.close()
        if writer.is_gone:
            leave_nothing(run, folder)
        let_go()


def leave_nothing(run: RunDirectory, folder: tuple[int, int] | None) -> None:
    """Remove what this process wrote after the run was deleted; `folder` identifies its original folder."""
    if not run.path.is_dir() or run.config_file.exists():
        return
    # From the original folder, which may be half deleted, only what a worker writes all the time.
    left = {path.name for path in run.path.rglob("*") if path.is_file() and not path.name.startswith(".")}
    if _identity(run.path) != folder or left <= {run.status_file.name, run.metrics_file.name, run.samples_file.name}:
        shutil.rmtree(run.path, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def train(run: RunDirectory, writer: StatusWriter) -> str:
    """Train, then compare with the base if the configuration says so. Returns the final state."""
    config = load_config(run.config_file)
    ensure_base(config.model.base)  # here, since a base that cannot be fetched ends the run
    if config.stage in SUPERVISED_STAGES:
        from ftlab.training.setup import chat_tokenizer
        from ftlab.training.sft import check_lengths

        check_lengths(run, config, chat_tokenizer(run, config, writer))
    if uses_accelerate(config.launcher):
        _answer_replay(run, config, writer)
        outcome = train_together(run, config, writer)
    else:
        _ask_base(run, config, writer)
        _answer_replay(run, config, writer)
        outcome = train_here(run, config, writer)
        verify_saved(run, config, writer, stopped=outcome == "stopped")
    if outcome == "completed" and config.evaluation.after_training:
        if run.stop_file.exists():
            writer.warn(
                "You asked to stop after training had finished: the result is saved but not compared with its base. "
                + _evaluate(run)
            )
            return outcome
        try:
            evaluate(run, writer, run.stop_file)
        except RunGone:
            raise
        except Exception as error:
            # The adapter is saved: a failed comparison must not make it look lost.
            traceback.print_exc()
            reason = explain_exception(error)
            why = f"{reason['what']} {reason.get('why') or ''}".strip()
            writer.warn(f"The evaluation after training failed: {why} {_evaluate(run)}")
    return outcome


def _evaluate(run: RunDirectory) -> str:
    return f"To compare it, press Evaluate on the Evaluate tab, or: python -m ftlab evaluate {run.id}"


def train_here(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train in this process: alone, or as one of several (`rank`). Returns completed or stopped."""
    if config.stage in PREFERENCE_STAGES:
        from ftlab.training.preferences import train_preferences as train_stage
    elif config.stage in REWARD_STAGES:
        from ftlab.training.reinforcement import train_reinforcement as train_stage
    else:
        from ftlab.training.sft import train_sft as train_stage

    from ftlab.evaluation.batches import free_memory

    began = time.monotonic()
    with no_wrong_gradients():
        outcome = train_stage(run, config, writer)
    free_memory()  # a trainer is a cycle of objects that only the garbage collector frees
    _note_memory(run, writer, f"trained in {time.monotonic() - began:.1f} s")
    return outcome


def _note_memory(run: RunDirectory, writer: StatusWriter, what: str) -> None:
    """Record the peak memory of this process so far, and log it after `what`."""
    from ftlab.models.load import pick_device
    from ftlab.training.sizes import held_memory, peak_memory

    device = pick_device(load_config(run.config_file).launcher.device)
    peak = peak_memory(device)
    writer.update(peak_bytes=peak)
    print(f"{what}; {held_memory(device) / 2**30:.2f} GB held, at most {peak / 2**30:.2f} GB", flush=True)


def evaluate(
    run: RunDirectory,
    writer: StatusWriter,
    stop_file: Path,
    *,
    max_rows: int | None = None,
    strengths: bool = False,
    **options: Any,
) -> str:
    """Evaluate `run` as its stage requires, with the `options` of `evaluate_whole`; with `strengths` measure these
    alone. Returns the final state."""
    from ftlab.evaluation.batches import Stopped

    began = time.monotonic()
    writer.update(phase="loading the model", done=0, total=0)
    try:
        more: dict[str, Any] = {"max_rows": max_rows, "should_stop": stop_file.exists, "progress": _progress(writer)}
        with ended_by(stop_file.exists, Stopped):
            from ftlab.evaluation.compare import evaluate_whole
            from ftlab.evaluation.strengths import measure_strengths

            if strengths:
                measure_strengths(run, **more)
            else:
                evaluate_whole(run, **more, **options)
    except Stopped:
        what, again = "The evaluation was stopped.", _evaluate(run)
        if strengths:
            what = "Measuring the strengths was stopped."
            again = f"To continue, press Measure on the Evaluate tab, or: python -m ftlab strength {run.id}"
        writer.warn(f"{what} The answers so far are kept and will be reused. {again}")
        return "stopped"
    _note_memory(run, writer, f"evaluated in {time.monotonic() - began:.1f} s")
    return "completed"


def judge(run: RunDirectory, writer: StatusWriter, stop_file: Path) -> str:
    """Judge the stored answers of `run` with a model behind an address, by the settings in judging.json. Returns the
    final state."""
    from ftlab.evaluation.batches import Stopped
    from ftlab.evaluation.judge import judge_by_endpoint
    from ftlab.evaluation.judge_plan import JudgeSettings

    def progress(phase: str, done: int, total: int) -> None:
        writer.update(phase=phase, done=done, total=total)

    settings = JudgeSettings.from_dict(read_json(run.judging_file)["settings"])
    try:
        judge_by_endpoint(run, settings, progress=progress, should_stop=stop_file.exists)
    except Stopped:
        writer.warn("Judging was stopped. The judgments so far are kept.")
        return "stopped"
    return "completed"


def _ask_base(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> None:
    """Evaluate the base before the first training step. Raises Stopped; any other failure becomes a warning, because
    the base can be evaluated after training too."""
    from ftlab.evaluation import batches
    from ftlab.evaluation.compare import evaluate_before
    from ftlab.evaluation.material import has_references
    from ftlab.training.setup import chat_tokenizer

    settings = config.evaluation
    if not (settings.before_training and settings.after_training) or config.is_reward_model:
        return
    if config.stage in REWARD_STAGES and not has_references(run):
        return
    began = time.monotonic()
    report = _progress(writer)
    try:
        chat_tokenizer(run, config, writer)  # chooses the chat template for all that follows
        with ended_by(run.stop_file.exists, batches.Stopped):
            evaluate_before(
                run,
                progress=lambda phase, done, total: report(f"before training: {phase}", done, total),
                should_stop=run.stop_file.exists,
            )
        _note_memory(run, writer, f"asked the base in {time.monotonic() - began:.1f} s")
    except batches.Stopped:
        raise Stopped from None
    except RunGone:
        raise
    except Exception as error:
        traceback.print_exc()
        reason = explain_exception(error)
        writer.warn(f"The base was not evaluated before training: {reason['what']} {reason.get('why') or ''}".strip())
    writer.update(phase="loading the libraries", done=0, total=0)


def _answer_replay(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> None:
    """Let the base answer the prompts for replay, before any process trains. Raises Stopped."""
    from ftlab.evaluation import batches
    from ftlab.training.self_replay import ensure_answers

    try:
        with ended_by(run.stop_file.exists, batches.Stopped):
            seconds = ensure_answers(run, config, writer, should_stop=run.stop_file.exists)
    except batches.Stopped:
        raise Stopped from None
    if seconds:
        _note_memory(run, writer, f"the base answered the prompts for replay in {seconds:.1f} s")


def _against(asked: dict[str, Any] | None) -> dict[str, Any]:
    """The options of `evaluate_whole` for sides that answer elsewhere, as `submit_evaluation` passes them on."""
    from ftlab.evaluation.outside import Outside

    if not asked:
        return {}
    return {"against": [Outside.from_dict(side) for side in asked["sides"]], "price_per_hour": asked["price_per_hour"]}


def _progress(writer: StatusWriter) -> Callable[[str, int, int], None]:
    def progress(phase: str, done: int, total: int) -> None:
        writer.update(phase=phase, done=done, total=total, eta_seconds=None, tokens_per_second=None)

    return progress


def _fetching(writer: StatusWriter, stop_file: Path) -> Callable[[str, int, int], None]:
    """As `_progress`; stopping the run also ends the download."""
    report = _progress(writer)

    def progress(phase: str, done: int, total: int) -> None:
        if stop_file.exists():
            raise Stopped
        report(phase, done, total)

    return progress


@contextlib.contextmanager
def turn(
    run: RunDirectory, workspace: Workspace, writer: StatusWriter, stop_asked: Callable[[], bool], *, in_order: bool
) -> Iterator[None]:
    """Hold the device, after all runs that are ahead in the queue. Raises Stopped when asked to stop while waiting."""
    while True:
        if stop_asked():
            raise Stopped
        ahead = _queued_before(run, workspace) if in_order else []
        if not ahead:
            with locked(workspace.device_lock, wait=False) as mine:
                if mine:
                    yield
                    return
        writer.update(phase=f"waiting for the device{f', {len(ahead)} ahead in the queue' if ahead else ''}")
        time.sleep(_TURN_SECONDS)


def _queued_before(run: RunDirectory, workspace: Workspace) -> list[RunDirectory]:
    mine = position(run)
    return [other for other in waiting(workspace) if other != run and position(other) < mine]


if __name__ == "__main__":
    sys.exit(main())
