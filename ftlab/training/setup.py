"""What every stage shares before, during and after training: model, progress, environment, result."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import math
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftlab.config import RunConfig
from ftlab.config.stages import PRETRAINING
from ftlab.core.files import append_jsonl, read_json, write_json, write_text
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.data.partition import turns_of
from ftlab.data.splits import read_split
from ftlab.data.tool_calls import most_think, uses_tools
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.models.methods import apply_method, check_method, count_trained, remarks_on, save_adapter
from ftlab.training import together
from ftlab.training.arguments import begin_tracking
from ftlab.training.checkpoints import Checkpoint, go_back_to, last_checkpoint, seal
from ftlab.training.failures import LogWatch
from ftlab.training.status import Pace, StatusWriter

# The figures that metrics.jsonl keeps: those logged under the same name,
_KEPT = ("loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy", "eval_mean_token_accuracy")
# those of TRL's preference trainers under another name (each also exists with the prefix eval_),
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
# and those of TRL's reinforcement trainers, besides `rewards/<name>/mean`.
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
        self._pace = Pace(0.0)
        self._step_began = 0.0
        self._training_seconds = 0.0
        self._at_last_log = (0.0, tokens_before)
        self._tokens_per_second: float | None = None
        self._last_update = 0.0
        self._log = LogWatch(run.log_file)
        self.stop_asked = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # Nothing is trained yet, so there is nothing to save.
        if together.total(self._run.stop_file.exists())[0]:
            raise Stopped
        self._pace = Pace(time.monotonic())
        self._writer.update(phase="training", step=state.global_step, total_steps=state.max_steps, done=0, total=0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step_began = time.monotonic()
        self._pace.step_begins(self._step_began)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        self._training_seconds += now - self._step_began
        self._pace.step_ended(now)
        self._writer.check_there()  # before a checkpoint is saved
        if now - self._last_update > _STATUS_SECONDS or state.global_step == state.max_steps:
            self._last_update = now
            self._writer.update(
                phase="training",
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=state.epoch or 0.0,
                eta_seconds=self._pace.left(state.max_steps - state.global_step, _validations_left(args, state)),
                tokens_per_second=self._tokens_per_second,
            )
        # All processes stop after the same step, whichever sees the file first; otherwise one would wait forever.
        if not self.stop_asked and together.total(self._run.stop_file.exists())[0]:
            self.stop_asked = True
            control.should_save = control.should_log = True
            control.should_training_stop = True
            self._writer.update(phase="saving a checkpoint")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        together.wait_for_all()  # each process writes files of its own into it
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
        # A run may end between two updates.
        self._writer.update(step=state.global_step, epoch=state.epoch or 0.0, eta_seconds=None)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._pace.validated(time.monotonic())
        self._writer.update(phase="training")


def _validations_left(args: TrainingArguments, state: TrainerState) -> int:
    if args.eval_strategy != "steps" or not state.eval_steps:
        return 0
    return int(state.max_steps // state.eval_steps - state.global_step // state.eval_steps)


class AnswerAlong(TrainerCallback):
    """Answers a few validation rows greedily at each validation, and writes them to samples.jsonl, so that people see
    the model learn. Except for the first and the last answers, the time for them stays below a share of the training
    time."""

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
        if self._spent > self._SHARE * (began - self._began) and state.global_step < state.max_steps:
            return
        try:
            answers = self._answers(model, args)
        except Exception as error:  # such a failure must not end a run
            print(f"no sample answers at this step: {type(error).__name__}: {error}", flush=True)
            self._spent = math.inf
            return
        for number, (messages, answer) in enumerate(zip(self._rows, answers, strict=True)):
            row = {"step": state.global_step, "row": number, "prompt": messages[-2]["content"], "answer": answer}
            append_jsonl(self._run.samples_file, row | {"reference": messages[-1]["content"]})
        # The first answers are always made, so they do not count.
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
                generated = generate_answers(
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
        return [answer.text for answer in generated.answers]


@dataclass(frozen=True)
class Training:
    """A run that is ready for its first step, of the run itself or of the probe that measures it."""

    trainer: Any
    model: Any
    tokenizer: Any
    report: ReportProgress  # one of the trainer's callbacks
    checkpoint: Checkpoint | None  # where an earlier attempt of this run stopped
    start: Path | None  # the adapter as it was initialized, for methods that change the base
    computing: list[str]  # what was chosen for speed, in words


_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "ftlab")


def record_environment(run: RunDirectory, config: RunConfig, device: str, *, resumed_at: int | None) -> None:
    """Write environment.json: versions, hardware, threads and seeds; those of earlier attempts move to `resumed`."""
    import torch

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    earlier = read_json(run.environment_file, None) if resumed_at is not None else None
    resumed = (
        [*earlier.pop("resumed", []), {"step": resumed_at, "time": time.time(), "before": earlier}] if earlier else []
    )
    write_json(
        run.environment_file,
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": versions,
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": together.processes(),
            "seeds": {"training": config.optimisation.seed, "split": config.data.seed},
            "parent_run": config.model.start,
            "resumed": resumed,
        },
    )


def note_environment(run: RunDirectory, **values: Any) -> None:
    """Add values to environment.json."""
    write_json(run.environment_file, read_json(run.environment_file, {}) | values)


def begin(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> tuple[str, Checkpoint | None]:
    """The device, and the checkpoint at which an earlier attempt of this run stopped.

    Restores the folder to its state at that checkpoint, sets the seed and the number of threads, and writes
    environment.json.
    """
    import torch
    from transformers import set_seed

    from ftlab.models.load import pick_device

    device = pick_device(config.launcher.device)
    if config.launcher.threads:
        torch.set_num_threads(config.launcher.threads)
    set_seed(config.optimisation.seed)
    begin_tracking(run, config)
    if together.is_main():
        checkpoint = last_checkpoint(run)
        record_environment(run, config, device, resumed_at=checkpoint.step if checkpoint else None)
        for remark in go_back_to(run, checkpoint):
            writer.warn(remark)
    # All processes continue from the checkpoints that are left now.
    together.wait_for_all()
    checkpoint = last_checkpoint(run)
    for remark in check_method(config):
        writer.warn(remark)
    _stop_if_asked(run)
    return device, checkpoint


def _stop_if_asked(run: RunDirectory) -> None:
    """Raise Stopped if asked to stop. Several processes decide that together, when training begins."""
    if together.processes() == 1 and run.stop_file.exists():
        raise Stopped


def chat_tokenizer(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Any:
    """The tokenizer of the base with the chat template of this run. The template is written to the folder of the run,
    where evaluation reads it until the result is saved (models.load.run_tokenizer). Warns of changes to it.

    Prefers TRL's training version of a template, in which each answer looks as it does when it is generated: with the
    templates of Qwen3 and similar ones as shipped, only the last answer of a conversation would be trained.
    """
    from trl.chat_template_utils import get_training_chat_template

    from ftlab.data.rendering import TOOLS_ADDED, ensure_chat_template, knows_thinking, tool_facts_of
    from ftlab.models.load import load_tokenizer, run_tokenizer

    if run.template_file.exists():
        return run_tokenizer(run, config)  # chosen by an earlier attempt
    tokenizer = load_tokenizer(config.model.base, config.model.revision)
    known = isinstance(tokenizer.chat_template, str) and knows_thinking(tokenizer.chat_template)
    if known:
        with contextlib.suppress(ValueError, TemplateError):  # a template that TRL does not know
            tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
    rows = [turns_of(row) for row in read_split(run, "train")]
    thinking = config.model.thinking or (known and most_think(rows))
    if thinking and not config.model.thinking:
        writer.warn("Most answers contain thoughts, so the base trains and answers with thinking on.")
    note = ensure_chat_template(tokenizer, thinking=thinking)
    if config.stage != PRETRAINING or config.data.replay:  # plain text is read without it
        if note:
            writer.warn(note)
        if config.model.thinking and not known:
            writer.warn("Thinking (model.thinking) is on, but the chat template of this base does not support it.")
    calling = isinstance(tokenizer.chat_template, str) and any(map(uses_tools, rows))
    if calling and (with_tools := tool_facts_of(tokenizer).template) is not None:
        # The template must take tools, whoever serves the result.
        writer.warn(TOOLS_ADDED)
        tokenizer.chat_template = with_tools
    if together.is_main() and isinstance(tokenizer.chat_template, str):
        write_text(run.template_file, tokenizer.chat_template)
    return tokenizer


def context_of(config: RunConfig) -> int | None:
    """The context length of the base, in tokens; None if it does not state one. Raises InputError when the longest
    example exceeds it."""
    from ftlab.models.load import context_length

    limit, context = config.optimisation.max_length, context_length(config.model)
    if context is not None and limit > context:
        raise InputError(
            f"Longest example (optimisation.max_length) exceeds what the base {config.model.base} can read",
            given=f"{limit} tokens",
            allowed=f"at most {context} tokens, the base's context",
        )
    return context


def load_model(
    run: RunDirectory, config: RunConfig, tokenizer: Any, device: str, writer: StatusWriter, *, scores: bool = False
) -> Any:
    """The model as training starts: the base with fresh adapters, or with those of the run it starts from.

    With `scores` it returns one number per text. Raises InputError when the method does not fit the base, or the
    adapter to start from does not.
    """
    from ftlab.models.load import load_base, pick_dtype

    _stop_if_asked(run)
    writer.update(phase="loading the base model")
    base, checkpointing = config.model, config.optimisation.gradient_checkpointing
    if config.method.is_full and base.dtype == "auto":
        # Weights that are trained stay in float32; autocast does the arithmetic in the short format.
        base = base.model_copy(update={"dtype": "float32"})
    if together.is_sharded() and not config.method.is_quantised:
        # FSDP and DeepSpeed move its part to each GPU: the whole model may not fit on any of them.
        base = base.model_copy(update={"dtype": str(pick_dtype(base, device)).removeprefix("torch.")})
        device = "cpu"
    model = load_base(base, device=device, method=config.method, scores=scores)
    start = run.start
    task = "SEQ_CLS" if scores else "CAUSAL_LM"
    if start.exists() and not scores:
        model = _with_adapter(model, config, start, checkpointing)
    else:
        model = apply_method(model, config.method, tokenizer=tokenizer, gradient_checkpointing=checkpointing, task=task)
        if start.exists():
            _take_over(model, start)
    for remark in remarks_on(model, config.method):
        writer.warn(remark)
    counted = count_trained(model)
    writer.update(trained_parameters=counted.trained, total_parameters=counted.total)
    return model


def _with_adapter(model: Any, config: RunConfig, folder: Any, gradient_checkpointing: bool) -> Any:
    from peft import PeftModel, prepare_model_for_kbit_training

    if config.method.is_quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _unfit(folder, config, error) from None


def _take_over(model: Any, folder: Any) -> None:
    """Copy the weights of an adapter for text generation into the fresh adapter of a scoring `model`."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    weights, fresh = load_peft_weights(str(folder), device="cpu"), get_peft_model_state_dict(model)
    strange = sorted(weights.keys() - fresh.keys())
    if strange:
        raise InputError(
            "The adapter to start from (model.start) does not fit a reward model",
            given=shorten(", ".join(strange[:3]), 200),
            try_="train the reward model from the base: leave model.start empty",
        )
    set_peft_model_state_dict(model, fresh | weights)  # the head that scores stays fresh


def _unfit(folder: Any, config: RunConfig, error: Exception) -> InputError:
    return InputError(
        "The adapter to start from (model.start) does not fit the base",
        given=f"{config.model.start} on {config.model.base}: {shorten(error, 200)}",
        try_="name the base that the adapter was trained on",
    )


@contextlib.contextmanager
def unrounded(model: Any) -> Iterator[None]:
    """Keep a trainer of TRL that is built within from rounding adapters on a quantized base to bfloat16, which is slow
    on a CPU, impossible on GPUs without it, and moves an adapter that is trained further away from its reference."""
    quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad] if quantised else []
    before = [parameter.data.clone() for parameter in trained]
    yield
    for parameter, values in zip(trained, before, strict=True):
        parameter.data = values.float()


def progress_callbacks(
    run: RunDirectory, config: RunConfig, writer: StatusWriter, checkpoint: Checkpoint | None, *, validation: bool
) -> list[Any]:
    """ReportProgress first, then early stopping if it is on and there is a validation split."""
    from transformers import EarlyStoppingCallback

    callbacks: list[Any] = [ReportProgress(run, writer, tokens_before=checkpoint.tokens if checkpoint else 0)]
    if config.optimisation.early_stopping and validation:
        patience = EarlyStoppingCallback(early_stopping_patience=config.optimisation.early_stopping)
        # The Trainer's own way to restore callbacks would restore the request to stop as well.
        patience.early_stopping_patience_counter = checkpoint.patience_used if checkpoint else 0
        callbacks.append(patience)
    return callbacks


def save_result(
    run: RunDirectory, config: RunConfig, trainer: Any, tokenizer: Any, writer: StatusWriter, *, start: Path | None
) -> None:
    """Save the result of `trainer`, with its tokenizer and the tokens that end an answer; `verify_saved` verifies it.

    `start` is the adapter as it was initialized, for methods that change the base (`keep_start`), else None.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.models.identity import keep_checksums
    from ftlab.training.verify import keep_logits

    model = trainer.model
    writer.update(phase="saving the result", eta_seconds=None, tokens_per_second=None)
    if together.is_main():
        run.checksums_file.unlink(missing_ok=True)  # of an earlier attempt
    result = run.model if config.method.is_full else run.adapter
    if not start:
        trainer.save_model(str(result))  # by all processes: each may hold a part
    if not together.is_main():
        keep_logits(run, model, tokenizer)
        return
    if start:
        save_adapter(model, result, start)
        shutil.rmtree(start)
    tokenizer.save_pretrained(str(result))
    if not config.is_reward_model:
        # A base often names only its end-of-text token; generation from the result must stop where training did.
        generation = copy.deepcopy(model.generation_config)
        generation.eos_token_id = stop_token_ids(tokenizer, model.generation_config)
        generation.save_pretrained(str(result))
    (result / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should load
    keep_checksums(run.checksums_file, sorted(result.glob("*.safetensors")))

    # The worker verifies the result after the trainer is gone and its memory is free.
    keep_logits(run, model, tokenizer)
