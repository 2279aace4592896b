"""Callbacks that write progress to the run directory, and stop training when asked."""

from __future__ import annotations

import math
import re
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftlab.core.files import append_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError
from ftlab.training.checkpoints import seal
from ftlab.training.failures import LogWatch
from ftlab.training.launching import together
from ftlab.training.status import StatusWriter, Stopped

_KEPT = ("loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy", "eval_mean_token_accuracy")
# What TRL's preference trainers log, renamed for metrics.jsonl; each also exists with the prefix eval_.
_RENAMED = {
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "accuracy": "accuracy",
    "margin": "margin",
    "kl": "kl",
}
# What TRL's reinforcement trainers log, besides `rewards/<name>/mean`.
_RENAMED |= {
    "reward": "reward",
    "reward_std": "reward_std",
    "entropy": "entropy",
    "repetition": "repetition",
    "flat_share": "flat_share",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "cut_share",
}
_EACH_REWARD = re.compile(r"(eval_)?rewards/(.+)/mean")
_STATUS_SECONDS = 0.5


class ReportProgress(TrainerCallback):
    """Writes metrics.jsonl and status.json, and ends training when the stop file appears."""

    def __init__(self, run: RunDirectory, writer: StatusWriter, *, tokens_before: int = 0):
        self._run, self._writer = run, writer
        self._tokens_before = tokens_before
        self._began, self._first_step = 0.0, 0
        self._step_began = 0.0
        self._training_seconds = 0.0
        self._at_last_log = (0.0, tokens_before)
        self._tokens_per_second: float | None = None
        self._last_update = 0.0
        self._log = LogWatch(run.log_file)
        self.stop_asked = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # Nothing is trained yet, so there is nothing worth saving.
        if together.total(self._run.stop_file.exists())[0]:
            raise Stopped
        self._began, self._first_step = time.monotonic(), state.global_step
        self._writer.update(phase="training", step=state.global_step, total_steps=state.max_steps, done=0, total=0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        self._training_seconds += now - self._step_began
        self._writer.check_there()  # before a checkpoint is saved
        if now - self._last_update > _STATUS_SECONDS or state.global_step == state.max_steps:
            self._last_update = now
            # Validations count: the wall clock is what a person waits for.
            pace = (now - self._began) / max(1, state.global_step - self._first_step)
            self._writer.update(
                phase="training",
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=state.epoch or 0.0,
                eta_seconds=pace * (state.max_steps - state.global_step),
                tokens_per_second=self._tokens_per_second,
            )
        # All processes stop after the same step, whichever sees the file first. Otherwise one would wait forever.
        if not self.stop_asked and together.total(self._run.stop_file.exists())[0]:
            self.stop_asked = True
            control.should_save = control.should_log = True
            control.should_training_stop = True
            self._writer.update(phase="saving a checkpoint")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        together.wait_for_all()  # each has files of its own in it
        if together.is_main():
            seal(self._run.checkpoints / f"checkpoint-{state.global_step}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._log.check()
        logs = logs or {}
        row: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), "time": time.time()}
        row |= {name: logs[name] for name in _KEPT if name in logs}
        for prefix in ("", "eval_"):
            row |= {prefix + ours: logs[prefix + name] for name, ours in _RENAMED.items() if prefix + name in logs}
        for name, value in logs.items():
            if (each := _EACH_REWARD.fullmatch(name)) and value is not None:
                row[f"{each[1] or ''}rewards/{each[2]}"] = value
        if "loss" in logs:
            tokens = self._tokens_before + int(logs.get("num_tokens", 0))
            seconds, tokens_then = self._at_last_log
            if self._training_seconds > seconds:
                self._tokens_per_second = (tokens - tokens_then) / (self._training_seconds - seconds)
            self._at_last_log = (self._training_seconds, tokens)
            row |= {"tokens": tokens, "tokens_per_second": self._tokens_per_second}
            if not math.isfinite(logs["loss"]):
                self._write(row)
                raise FtlabError(
                    f"Training diverged: the loss is {logs['loss']} at step {state.global_step}.",
                    why="The learning rate is too high for this model and data, or float16 overflowed.",
                    try_="a learning rate ten times lower, or bfloat16 / float32",
                )
        if len(row) > 3:
            self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        if together.is_main():
            append_jsonl(self._run.metrics_file, row)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # A run that ends before its last step may have ended between two updates.
        self._writer.update(step=state.global_step, epoch=state.epoch or 0.0, eta_seconds=None)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._writer.update(phase="training")


class AnswerAlong(TrainerCallback):
    """Answers a few validation rows greedily at each validation and writes them to samples.jsonl, so that a person sees
    the model learn. What they cost stays below a share of the training time, but for the first answers."""

    _ROWS, _TOKENS, _SHARE = 3, 48, 0.03

    def __init__(self, run: RunDirectory, tokenizer: Any):
        from ftlab.data.rendering import encode_prompt
        from ftlab.data.splits import read_split

        self._run, self._tokenizer = run, tokenizer
        rows = read_split(run, "validation")[: self._ROWS]
        self._rows = [row["messages"] for row in rows]
        self._prompts = [encode_prompt(messages, tokenizer) for messages in self._rows]
        self._began, self._spent = 0.0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = time.monotonic()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        began = time.monotonic()
        if self._spent > self._SHARE * (began - self._began):
            return
        try:
            answers = self._answers(model, args)
        except Exception as error:  # a picture is no reason to end a run
            print(f"no answers along the way: {type(error).__name__}: {error}", flush=True)
            self._spent = math.inf
            return
        for number, (messages, answer) in enumerate(zip(self._rows, answers, strict=True)):
            row = {"step": state.global_step, "row": number, "prompt": messages[-2]["content"], "answer": answer}
            append_jsonl(self._run.samples_file, row | {"reference": messages[-1]["content"]})
        # The first answers are there in any case, so they do not count.
        self._spent += time.monotonic() - began if state.global_step else 0.0

    def _answers(self, model: Any, args: TrainingArguments) -> list[str]:
        import torch

        from ftlab.data.rendering import stop_token_ids
        from ftlab.evaluation.generate import generate_answers
        from ftlab.training.speed import padded

        short = torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16)
        was_training = model.training
        model.eval()
        try:
            with padded(model), short, torch.no_grad():
                made = generate_answers(
                    model,
                    self._tokenizer,
                    self._prompts,
                    max_new_tokens=self._TOKENS,
                    stop_ids=stop_token_ids(self._tokenizer, model.generation_config),
                    batch_rows=self._ROWS,
                    context=None,
                )
        finally:
            model.train(was_training)
        return [answer.text for answer in made.answers]
