"""The process that measures a run before it starts: `python -m ftlab.training.preflight.probe RUN_DIRECTORY WORKSPACE`.

It prepares the run as the run itself would, makes one optimizer step on the longest batch and a few on usual ones, and
evaluates one batch of each kind. Each result goes to measured.json at once, so that a kill leaves the earlier ones. It
ends with the process that started it. Not to be called by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig, filled, load_config
from ftlab.config.stages import PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES
from ftlab.core import jobs
from ftlab.core.files import read_json, write_json
from ftlab.core.processes import quieten
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import ErrorJson, InputError
from ftlab.models.bases.get import ensure_base, telling
from ftlab.training.failures import explain_exception, is_out_of_memory
from ftlab.training.launcher import here
from ftlab.training.preflight.asking import (
    BaseTimes,
    Comparison,
    comparison_of,
    comparison_seconds,
    evaluate_answers,
    forgetting_seconds,
    prompt_lengths,
    train_on_answers,
)
from ftlab.training.preflight.finding import FOLDER_PREFIX, MEASURED
from ftlab.training.preflight.rate_trial import try_rates
from ftlab.training.self_replay import ensure_answers
from ftlab.training.sizes import (
    LOOKED_AT,
    MeasuredJson,
    about_template,
    about_weights,
    available_memory,
    count_batches,
    held_memory,
    peak_memory,
    planned,
    row_lengths,
    tokens_of,
)
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    from ftlab.training.setup import Training

_TRIES = 40  # to empty the folder
_USUAL_STEPS = 4
_ENOUGH_SECONDS = 10.0  # of usual steps; a slow run is measured on fewer of them
_OWN_ANSWERS = 16  # of the base's own answers; the others take as long
_MOST_ACCUMULATED = 4  # the time of a step is proportional to its batches; its memory stays the same


class Notes:
    """The measurements so far, written to disk at every change."""

    def __init__(self, path: Path):
        self._path = path
        self.values: MeasuredJson = read_json(path, {})

    def add(self, more: MeasuredJson) -> None:
        self.values |= more
        write_json(self._path, self.values)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ftlab.training.preflight.probe")
    parser.add_argument("run", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--memory-only", action="store_true", help="only memory peaks, no times")
    parser.add_argument("--rates", help="try these learning rates instead, separated by commas (rate_trial)")
    args = parser.parse_args(arguments)
    quieten()
    run, workspace = RunDirectory(args.run), Workspace.open(args.workspace)
    # Unlike a run, at normal priority: a person is waiting, and the measurement is of a run on idle cores.
    gone = threading.Event()
    watch = threading.Thread(target=_end_with_parent, args=(run.path, gone), daemon=True, name="parent")
    watch.start()
    writer = StatusWriter(run.status_file)
    try:
        # Beside a run the measurement would be wrong, and both could run out of memory.
        with jobs.turn(workspace.device_lock, lambda: False, lambda phase: writer.update(phase=phase)):
            writer.update(state="running", started=time.time(), phase="loading the libraries")
            config, notes = load_config(run.config_file), Notes(run.path / MEASURED)
            with telling(lambda phase, done, total: writer.update(phase=f"{phase} {done}/{total}" if total else phase)):
                ensure_base(config.model.base)
            if args.rates:
                ensure_answers(run, config, writer, sample=_OWN_ANSWERS)
                training = _prepare(run, config, writer, workspace)
                _quieten(training.trainer)
                try_rates(training, config, [float(rate) for rate in args.rates.split(",")], writer, notes)
            else:
                measure(run, config, writer, notes, workspace, memory_only=args.memory_only)
        writer.update(state="completed", phase="", finished=time.time())
        return 0
    except BaseException as error:
        traceback.print_exc()
        short = is_out_of_memory(error)
        # The phase stays: it tells where memory ran out.
        reason: ErrorJson = {**explain_exception(error), "out_of_memory": short}
        writer.update(state="failed", error=reason, finished=time.time())
        return 1
    finally:
        writer.close()
        if gone.is_set():
            watch.join()  # a file that it removed was missed here: the folder goes first, then the process


def measure(
    run: RunDirectory,
    config: RunConfig,
    writer: StatusWriter,
    notes: Notes,
    workspace: Workspace,
    *,
    memory_only: bool = False,
) -> None:
    """Measure the steps, validations and sizes of `run`, and add them to `notes`."""
    import torch

    from ftlab.models.load import bfloat16_gain, context_length, pick_device, pick_dtype
    from ftlab.training.speed import slow_down

    began = writer.status.started or time.time()
    device = pick_device(config.launcher.device)
    free, total = available_memory(device)
    notes.add(
        {
            "device": device,
            "device_name": torch.cuda.get_device_name() if device == "cuda" else "CPU",
            "dtype": str(pick_dtype(config.model, device)).removeprefix("torch."),
            "bfloat16_gain": bfloat16_gain() if device == "cpu" else None,
            "card_has_bf16": torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else None,
            "available": free // (here(config.launcher) if device == "cpu" else 1),
            "total": total,
        }
    )
    comparison, base = _ask_base(run, config, writer)
    replaying = time.time()
    if replay_seconds := ensure_answers(run, config, writer, sample=1 if memory_only else _OWN_ANSWERS):
        notes.add({"replay_seconds": replay_seconds})
    replaying = time.time() - replaying
    notes.add({"peak": peak_memory(device)})
    training = _prepare(run, config, writer, workspace)
    trainer = training.trainer
    answers = config.stage in REWARD_STAGES
    if config.stage != PRETRAINING and not answers:
        notes.add(about_template(training.tokenizer, trainer.train_dataset))
    notes.add(about_weights(trainer.model, config.stage))
    notes.add(planned(trainer, config))
    notes.add(
        {
            "context": context_length(config.model),
            "computing": training.computing,
            "lengths": prompt_lengths(trainer) if answers else row_lengths(trainer.train_dataset),
            "loaded": held_memory(device),
        }
    )
    _quieten(trainer)
    if not answers:
        notes.add(count_batches(trainer))
    clock = _Clock(device, writer, notes)
    trainer.add_callback(clock.callback())
    asking = base.measuring if base else 0.0
    notes.add({"startup_seconds": time.time() - began - asking - replaying})
    usual_steps = 0 if memory_only else _USUAL_STEPS
    (train_on_answers if answers else _train)(trainer, clock, notes, usual_steps=usual_steps)
    state = [value for values in trainer.optimizer.state.values() for value in values.values()]
    state_bytes = sum(value.numel() * value.element_size() for value in state if torch.is_tensor(value))
    notes.add({"peak": peak_memory(device), "optimiser_bytes": state_bytes})
    if trainer.eval_dataset is not None:
        writer.update(phase="one validation step on the longest batch")
        if answers:
            evaluate_answers(trainer, notes)
        else:
            _evaluate(trainer, filled(config.optimisation.batch_size), device, notes, timed=not memory_only)
        if "evaluation_seconds" in notes.values:
            notes.add({"evaluation_seconds": notes.values["evaluation_seconds"] / config.launcher.processes})
    notes.add({"peak": peak_memory(device)})
    if comparison is not None and base is not None and not memory_only:
        writer.update(phase="answers of the adapted model")
        slow_down(trainer.model)
        trainer.model.eval()
        adapted = comparison.measure_adapted(trainer.model)
        seconds = comparison_seconds(comparison, base, adapted)
        notes.add({"comparison_seconds": seconds, "rows_asked": base.asked})
        notes.add({"forgetting_seconds": forgetting_seconds(comparison, base, adapted)})
    notes.add({"done": True})


def _ask_base(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> tuple[Comparison | None, BaseTimes | None]:
    """The comparison that the run will make, and the times of the base in it. Before training, as in the run: the
    memory that it leaves behind counts."""
    try:
        writer.update(phase="reading the held-out rows")
        comparison = comparison_of(run, config)
        if comparison is None:
            return None, None
        writer.update(phase="some answers of the base")
        return comparison, comparison.measure_base()
    except InputError:
        return None, None  # without held-out rows the run makes no comparison either, and warns of it


def _prepare(run: RunDirectory, config: RunConfig, writer: StatusWriter, workspace: Workspace) -> Training:
    """The run's own trainer, ready for its first step."""
    from ftlab.training.preferences import prepare_preferences
    from ftlab.training.reinforcement import prepare_reinforcement
    from ftlab.training.sft import prepare_training

    config = config.model_copy(deep=True)
    config.tracking.report_to = []  # a measurement is not a run
    if config.stage in REWARD_STAGES:
        config.evaluation.after_training = False  # the held-out prompts are not answered for a few steps
        return prepare_reinforcement(run, config, writer, workspace).training
    if config.stage in PREFERENCE_STAGES:
        config.preference.precompute_reference = False  # it would score all rows for the sake of a few steps
        return prepare_preferences(run, config, writer)
    return prepare_training(run, config, writer)


class _Clock:
    """Times the optimizer steps; the first is on the longest batch, where memory peaks, and is slower than the
    others."""

    def __init__(self, device: str, writer: StatusWriter, notes: Notes):
        self.device, self.writer, self.notes = device, writer, notes
        self.seconds: list[float] = []
        self._began = 0.0

    def now(self) -> float:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.monotonic()

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Timed(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                what = "the longest batch" if not clock.seconds else f"a usual batch ({len(clock.seconds)})"
                clock.writer.update(phase=f"one training step on {what}")
                clock._began = clock.now()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock.seconds.append(clock.now() - clock._began)
                if len(clock.seconds) == 1:
                    clock.notes.add({"longest_seconds": clock.seconds[0], "peak": peak_memory(clock.device)})
                if sum(clock.seconds[1:]) > _ENOUGH_SECONDS:
                    control.should_training_stop = True

        return Timed()


def _train(trainer: Any, clock: _Clock, notes: Notes, *, usual_steps: int) -> None:
    """One step on the longest rows, then a few on rows in the order of the sampler."""
    dataset, arguments, lengths = trainer.train_dataset, trainer.args, notes.values["lengths"]
    batch = min(arguments.per_device_train_batch_size, len(dataset))
    most = _MOST_ACCUMULATED if usual_steps else 2
    per_step = max(1, min(arguments.gradient_accumulation_steps, most, len(dataset) // batch))
    rows = batch * per_step
    longest = sorted(range(len(dataset)), key=lambda index: -lengths[index])[:rows]
    order = longest + list(itertools.islice(itertools.cycle(notes.values["drawn"]), rows * usual_steps))
    trainer.train_dataset = dataset.select(order)
    arguments.train_sampling_strategy = "sequential"
    arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps = batch, per_step
    arguments.max_steps = 1 + usual_steps
    trainer.train()
    sizes = [tokens_of(trainer, dataset, order[start : start + batch]) for start in range(0, len(order), batch)]
    steps = [sum(sizes[start : start + per_step]) for start in range(0, len(sizes), per_step)]
    # The first step is slower; it counts only if it is the only one.
    timed = list(zip(clock.seconds, steps, strict=False))[-max(1, len(clock.seconds) - 1) :]
    per_token = statistics.median(seconds / tokens for seconds, tokens in timed)
    notes.add(
        {
            "longest_rows": batch,
            "longest_tokens": sizes[0],
            "seconds_per_token": per_token,
            "step_seconds": per_token * notes.values["computed"] / notes.values["steps_per_epoch"],
            "steps_timed": len(timed),
        }
    )
    trainer.train_dataset = dataset


def _evaluate(trainer: Any, batch: int, device: str, notes: Notes, *, timed: bool) -> None:
    """The validation's longest batch (for memory), then usual ones (for time)."""
    dataset = trainer.eval_dataset
    lengths = row_lengths(dataset)
    longest = sorted(range(len(dataset)), key=lambda index: -lengths[index])[:batch]
    trainer.evaluate(eval_dataset=dataset.select(longest))
    notes.add({"peak": peak_memory(device)})
    if not timed:
        return
    usual = list(range(min(len(dataset), 2 * batch)))
    began = time.monotonic()
    trainer.evaluate(eval_dataset=dataset.select(usual))
    seconds = time.monotonic() - began

    def computed(indexes: Sequence[int]) -> int:
        return sum(
            tokens_of(trainer, dataset, indexes[start : start + batch]) for start in range(0, len(indexes), batch)
        )

    # The order of the validation is fixed, so all of its tokens can be counted.
    whole = (
        computed(range(len(dataset)))
        if len(dataset) <= batch * LOOKED_AT
        else computed(usual) / len(usual) * len(dataset)
    )
    notes.add({"evaluation_seconds": seconds / max(1, computed(usual)) * whole})


def _quieten(trainer: Any) -> None:
    """No files, no validations and no early end while steps are measured."""
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy

    from ftlab.training.setup import AnswerAlong, ReportProgress

    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, ReportProgress | AnswerAlong) or type(callback).__name__ == "EarlyStoppingCallback":
            trainer.remove_callback(callback)
    arguments = trainer.args
    arguments.eval_on_start, arguments.load_best_model_at_end = False, False
    arguments.eval_strategy, arguments.save_strategy = IntervalStrategy.NO, SaveStrategy.NO


def _end_with_parent(folder: Path, gone: threading.Event) -> None:
    """End this process and remove its folder when the process at the other end of standard input is gone."""
    with contextlib.suppress(OSError):
        # Not sys.stdin, whose lock a waiting thread would hold when the interpreter shuts down.
        os.read(0, 1)
    gone.set()
    whole = folder.parent if folder.parent.name.startswith(FOLDER_PREFIX) else folder
    for _ in range(_TRIES):
        # The measurement goes on in the meantime, and may write a file into a folder that is being emptied.
        shutil.rmtree(whole, ignore_errors=True)
        if not whole.exists():
            break
        time.sleep(0.05)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a person is waiting, and a regular exit of torch takes seconds
