"""The process of one run: `python -m ftlab.training.worker RUN_DIRECTORY WORKSPACE [--evaluate ...]`.

It waits for its turn on the device, does the work, and writes the outcome to status.json. Not to be called by hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.config.stages import PREFERENCE_STAGES, REWARD_STAGES, SUPERVISED_STAGES
from ftlab.core import jobs
from ftlab.core.files import read_json
from ftlab.core.jobs import Stopped, ended_by
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import byte_size
from ftlab.core.workspace import Workspace
from ftlab.errors import ErrorJson
from ftlab.evaluation.request import Request
from ftlab.models.bases.get import ensure_base, telling
from ftlab.training.checkpoints import remove_cut_off
from ftlab.training.elsewhere import place_of, train_elsewhere
from ftlab.training.failures import explain_exception, no_wrong_gradients
from ftlab.training.launcher import train_together, uses_accelerate
from ftlab.training.status import RunGone, StatusWriter
from ftlab.training.supervisor import evaluation_of, position, training_of, waiting
from ftlab.training.verify import verify_saved


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ftlab.training.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--evaluate", type=json.loads, metavar="REQUEST")
    parser.add_argument("--strengths", action="store_true")
    parser.add_argument("--judge", action="store_true")
    args = parser.parse_args(arguments)
    run, workspace = RunDirectory(args.run), Workspace.open(args.workspace)
    evaluates = bool(args.evaluate) or args.strengths or args.judge
    job = evaluation_of(run) if evaluates else training_of(run)
    folder = _identity(run.path) if run.config_file.exists() else None

    def ahead() -> int:
        return 0 if evaluates else len(_queued_before(run, workspace))

    def work(writer: StatusWriter) -> str:
        def waits(phase: str) -> None:
            writer.update(phase=phase)

        if not evaluates and (place := place_of(run)) is not None:
            return train_elsewhere(run, place, writer)
        try:
            if args.judge:  # a remote judge does not use the device of this machine
                _begin(writer)
                return judge(run, writer, run.evaluation_stop_file)
            with jobs.turn(workspace.device_lock, lambda: job.is_asked_to_stop, waits, ahead):
                _begin(writer)
                with telling(_fetching(writer, job)):
                    if not evaluates:
                        return train(run, writer)
                    request = Request.from_dict(args.evaluate) if args.evaluate else Request()
                    return evaluate(run, writer, run.evaluation_stop_file, request, strengths=args.strengths)
        except Stopped:
            step = 0 if evaluates else writer.status.step
            before = f"before it continued from step {step}" if step else "before anything was trained"
            raise Stopped("stopped before it started" if evaluates else f"stopped {before}") from None

    code = jobs.run(
        job,
        lambda: StatusWriter(job.status_file),
        work,
        explain=lambda error: _explained(error, run),
        gives_way=not args.judge,  # a judge waits for another computer
    )
    if folder is not None:
        leave_nothing(run, folder)
    return code


def _begin(writer: StatusWriter) -> None:
    writer.update(state="running", started=time.time(), phase="loading the libraries")


def _explained(error: BaseException, run: RunDirectory) -> ErrorJson:
    """Why the run failed, with the whole message in its log."""
    reason = explain_exception(error, run.path)
    if reason.get("kind") == "disk":
        # An incomplete checkpoint is useless, and takes the space that the error needs.
        remove_cut_off(run)
    if reason.get("kind") == "damaged":
        print(reason["what"], flush=True)  # torch's own message suggests disabling its protection
    else:
        traceback.print_exc()
    return reason


def leave_nothing(run: RunDirectory, folder: tuple[int, int] | None) -> None:
    """Remove what this process wrote if the run was deleted; `folder` identifies its original folder."""
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
    print(f"{what}; {byte_size(held_memory(device))} held, at most {byte_size(peak)}", flush=True)


def evaluate(
    run: RunDirectory,
    writer: StatusWriter,
    stop_file: Path,
    request: Request | None = None,
    *,
    strengths: bool = False,
) -> str:
    """Evaluate `run` as its stage and the `request` require; with `strengths` measure these alone. Returns the final
    state."""
    began = time.monotonic()
    writer.update(phase="loading the model", done=0, total=0)
    try:
        more: dict[str, Any] = {"should_stop": stop_file.exists, "progress": _progress(writer)}
        with ended_by(stop_file.exists, Stopped):
            from ftlab.evaluation.compare import evaluate_whole
            from ftlab.evaluation.strengths import measure_strengths

            if strengths:
                measure_strengths(run, **more)
            else:
                evaluate_whole(run, request, **more)
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
        with ended_by(run.stop_file.exists, Stopped):
            evaluate_before(
                run,
                progress=lambda phase, done, total: report(f"before training: {phase}", done, total),
                should_stop=run.stop_file.exists,
            )
        _note_memory(run, writer, f"asked the base in {time.monotonic() - began:.1f} s")
    except (Stopped, RunGone):
        raise
    except Exception as error:
        traceback.print_exc()
        reason = explain_exception(error)
        writer.warn(f"The base was not evaluated before training: {reason['what']} {reason.get('why') or ''}".strip())
    writer.update(phase="loading the libraries", done=0, total=0)


def _answer_replay(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> None:
    """Let the base answer the prompts for replay, before any process trains. Raises Stopped."""
    from ftlab.training.self_replay import ensure_answers

    with ended_by(run.stop_file.exists, Stopped):
        seconds = ensure_answers(run, config, writer, should_stop=run.stop_file.exists)
    if seconds:
        _note_memory(run, writer, f"the base answered the prompts for replay in {seconds:.1f} s")


def _progress(writer: StatusWriter) -> Callable[[str, int, int], None]:
    def progress(phase: str, done: int, total: int) -> None:
        writer.update(phase=phase, done=done, total=total, eta_seconds=None, tokens_per_second=None)

    return progress


def _fetching(writer: StatusWriter, job: jobs.Job) -> Callable[[str, int, int], None]:
    """As `_progress`; stopping the run also ends the download."""
    report = _progress(writer)

    def progress(phase: str, done: int, total: int) -> None:
        if job.is_asked_to_stop:
            raise Stopped
        report(phase, done, total)

    return progress


def _queued_before(run: RunDirectory, workspace: Workspace) -> list[RunDirectory]:
    mine = position(run)
    return [other for other in waiting(workspace) if other != run and position(other) < mine]


if __name__ == "__main__":
    sys.exit(main())
