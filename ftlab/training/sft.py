"""Supervised fine-tuning on the assistant's turns, through TRL's SFTTrainer."""

from __future__ import annotations

import copy
import importlib.metadata
import platform
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.errors import InputError, nearest
from ftlab.method_table import virtual_tokens
from ftlab.training.plan import planned_steps
from ftlab.training.status import StatusWriter
from ftlab.workspace import RunDirectory, read_json, write_json

if TYPE_CHECKING:
    import datasets

# What ftlab decides itself; `trainer:` may set anything else.
_OURS = {
    "output_dir", "num_train_epochs", "max_steps", "learning_rate", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_length", "warmup_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm",
    "gradient_checkpointing", "seed", "bf16", "fp16", "use_cpu", "eval_strategy", "save_strategy", "eval_steps",
    "save_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "disable_tqdm",
    "padding_free", "dataset_kwargs", "trust_remote_code", "push_to_hub", "hub_token", "push_to_hub_token",
}  # fmt: skip
_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "ftlab")


@dataclass(frozen=True)
class Training:
    """What trains one run, up to its first step: the same for the run and for the probe that measures it before."""

    trainer: Any
    model: Any
    tokenizer: Any
    report: Any  # the ReportProgress among the trainer's callbacks
    checkpoint: Any  # where an earlier attempt of this run stopped, or None
    start: Any  # the folder with the adapter as it was initialised, for methods that change the base; or None


def prepare_training(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenise the frozen split of `run`, load its base, apply the method and build the trainer.

    Raises InputError and FtlabError for what a person can mend.
    """
    import torch
    from transformers import EarlyStoppingCallback, set_seed

    from ftlab.data.template import ensure_chat_template
    from ftlab.models.load import load_base, load_tokenizer, pick_device
    from ftlab.models.methods import apply_method, check_method, count_trained
    from ftlab.models.peft_methods import keep_start
    from ftlab.training import varlen
    from ftlab.training.callbacks import ReportProgress
    from ftlab.training.checkpoints import go_back_to, last_checkpoint
    from ftlab.training.trainer import FineTuner

    settings = config.optimisation
    device = pick_device(config.launcher.device)
    if config.launcher.threads:
        torch.set_num_threads(config.launcher.threads)
    set_seed(settings.seed)
    checkpoint = last_checkpoint(run)
    _record_environment(run, config, device, resumed_at=checkpoint.step if checkpoint else None)
    go_back_to(run, checkpoint)
    for remark in check_method(config):
        writer.warn(remark)

    writer.update(phase="preparing the examples")
    tokenizer = load_tokenizer(config.model.base, config.model.revision)
    note = ensure_chat_template(tokenizer)
    if note:
        writer.warn(note)
    splits = tokenised_splits(run, config, tokenizer, writer)

    writer.update(phase="loading the base model")
    base = config.model
    if config.method.name == "full" and base.dtype == "auto":
        # Weights that are trained stay in float32; autocast does the arithmetic in the short format.
        base = base.model_copy(update={"dtype": "float32"})
    model = load_base(base, device=device, method=config.method)
    model = apply_method(
        model, config.method, tokenizer=tokenizer, gradient_checkpointing=settings.gradient_checkpointing
    )
    start = keep_start(model, config.method, run.checkpoints / "start")
    counted = count_trained(model)
    writer.update(trained_parameters=counted.trained, total_parameters=counted.total)

    arguments = trainer_arguments(run, config, device, rows=len(splits["train"]), validation="validation" in splits)
    longest = max(len(ids) for rows in splits.values() for ids in rows["input_ids"])
    if varlen.fits(model, config.method.name, longest):
        arguments.padding_free = True
        varlen.use(model)
    report = ReportProgress(run, writer, tokens_before=checkpoint.tokens if checkpoint else 0)
    callbacks: list[Any] = [report]
    if settings.early_stopping and "validation" in splits:
        patience = EarlyStoppingCallback(early_stopping_patience=settings.early_stopping)
        # The Trainer's own way of restoring callbacks would restore the order to stop as well.
        patience.early_stopping_patience_counter = checkpoint.patience_used if checkpoint else 0
        callbacks.append(patience)
    if checkpoint:
        arguments.eval_on_start = False  # it was evaluated at this step already
    trainer = FineTuner(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits.get("validation"),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    return Training(trainer, model, tokenizer, report, checkpoint, start)


def train_sft(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen split and leave adapter/ (or model/) behind. Returns completed or stopped.

    Only the assistant's tokens are trained, the stop token among them; the weights with the lowest validation loss
    are kept where there is a validation split. Raises InputError and FtlabError for what a person can mend.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.models.peft_methods import save_adapter
    from ftlab.training import varlen
    from ftlab.training.verify import verify_result

    training = prepare_training(run, config, writer)
    trainer, model, tokenizer = training.trainer, training.model, training.tokenizer
    checkpoint, report = training.checkpoint, training.report
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    if trainer.padding_free:
        varlen.leave(model)

    writer.update(phase="saving the result", eta_seconds=None, tokens_per_second=None)
    result = run.model if config.method.name == "full" else run.adapter
    if training.start:
        save_adapter(model, result, training.start)
        shutil.rmtree(training.start)
    else:
        trainer.save_model(str(result))
    tokenizer.save_pretrained(str(result))
    # A base often names only its end-of-text token; whoever generates from the result must stop where training did.
    generation = copy.deepcopy(model.generation_config)
    generation.eos_token_id = stop_token_ids(tokenizer, model.generation_config)
    generation.save_pretrained(str(result))
    (result / "training_args.bin").unlink(missing_ok=True)  # a pickle: nobody should have to load one

    writer.update(phase="verifying the result")
    finding = verify_result(run, config, trainer.model, tokenizer)
    if not finding["changes_logits"]:
        writer.warn(
            "The trained model answers exactly as its base: nothing was learned. "
            "Try a higher learning rate or more epochs."
        )
    return "stopped" if report.stop_asked else "completed"


def tokenised_splits(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, datasets.Dataset]:
    """The frozen train and validation splits as `input_ids` and `labels` (-100 where nothing is trained).

    Rows longer than max_length are left out, counted in data/manifest.json and warned about; raises InputError when
    max_length exceeds the base's context or when no more than half of the training rows are left.
    """
    import datasets

    from ftlab.data.rendering import encode
    from ftlab.data.splits import read_split
    from ftlab.models.load import context_length

    limit = config.optimisation.max_length
    context = context_length(config.model)
    if context is not None and limit > context:
        raise InputError(
            f"Longest example (optimisation.max_length) exceeds what the base {config.model.base} can read",
            given=f"{limit} tokens",
            allowed=f"at most {context} tokens, the base's context",
        )
    if context is not None:
        taken = virtual_tokens(config.method)
        if taken > context / 2:
            raise InputError(
                f"Virtual tokens (method.virtual_tokens) leave no room for the text on the base {config.model.base}",
                given=taken,
                allowed=f"at most {context // 2}, half of the base's context",
            )
        limit = min(limit, context - taken)
    splits: dict[str, datasets.Dataset] = {}
    manifest = run.manifest()
    for split in ("train", "validation"):
        rows = read_split(run, split)
        if not rows:
            continue
        columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        lengths = []
        remarks: Counter[str] = Counter()
        for row in rows:
            encoded = encode(row["messages"], tokenizer)
            remarks.update(encoded.notes)
            lengths.append(len(encoded.input_ids))
            if len(encoded.input_ids) > limit or not any(encoded.trained):
                continue
            columns["input_ids"].append(encoded.input_ids)
            columns["labels"].append(
                [token if trained else -100 for token, trained in zip(encoded.input_ids, encoded.trained, strict=True)]
            )
        kept, too_long = len(columns["input_ids"]), sum(length > limit for length in lengths)
        manifest.setdefault("tokens", {})[split] = {
            "rows": kept,
            "too_long": too_long,
            "longest": max(lengths),
            "tokens": sum(map(len, columns["input_ids"])),
            "trained_tokens": sum(label != -100 for labels in columns["labels"] for label in labels),
        }
        for remark, count in remarks.items():
            writer.warn(f"In {count} of {len(rows)} {split} rows: {remark}")
        if too_long:
            writer.warn(
                f"{too_long} of {len(rows)} {split} rows are longer than {limit} tokens (the longest has "
                f"{max(lengths)}) and were left out."
            )
        if split == "train" and kept <= len(rows) / 2:
            raise InputError(
                f"{len(rows) - kept} of {len(rows)} training rows are longer than {limit} tokens",
                given=f"the longest has {max(lengths)} tokens; the base reads {context or 'an unknown number'}",
                allowed=f"at least half of the rows within optimisation.max_length = {limit}",
                try_="shorten the texts, raise max_length up to the base's context, or take a base with a longer one",
            )
        if kept:
            splits[split] = datasets.Dataset.from_dict(columns)
    write_json(run.manifest_file, manifest)
    return splits


def trainer_arguments(run: RunDirectory, config: RunConfig, device: str, *, rows: int, validation: bool) -> Any:
    """TRL's SFTConfig for `config`. Raises InputError for an unknown or reserved name under `trainer:`."""
    from trl import SFTConfig

    from ftlab.models.load import pick_dtype

    settings = config.optimisation
    check_trainer_settings(config.trainer)
    steps = planned_steps(settings, rows, validation=validation)
    between = steps.between_evaluations
    dtype = str(pick_dtype(config.model.dtype, device)).removeprefix("torch.")
    values: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "warmup_steps": steps.warmup,
        "lr_scheduler_type": settings.schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        # Not group_by_length, though it saves padding: it fills whole batches with replay rows, which are short, and
        # the quickstart then reaches 60% exact match instead of 85% (measured).
        "train_sampling_strategy": "random",
        "seed": settings.seed,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16" and device != "cpu",
        "fp16": dtype == "float16" and device != "cpu",
        "logging_steps": steps.between_logs,
        "logging_first_step": True,
        # A NaN must be seen and explained, not averaged away.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device != "cpu",
        "save_strategy": "steps",
        "save_steps": between,
        "save_total_limit": 2,
        "eval_strategy": "no",
    }
    if validation:
        values |= {
            "eval_strategy": "steps",
            "eval_steps": between,
            "eval_on_start": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    try:
        return SFTConfig(**(values | config.trainer))
    except (TypeError, ValueError) as error:
        raise InputError(f"TRL refuses a setting under `trainer`: {error}", given=config.trainer) from None


def check_trainer_settings(trainer: dict[str, Any]) -> None:
    """Raise InputError when `trainer` names an argument that TRL does not have or that ftlab sets itself."""
    if not trainer:
        return
    from dataclasses import fields

    from trl import SFTConfig

    known = {item.name for item in fields(SFTConfig)}
    for name in trainer:
        if name not in known:
            close = nearest(name, known - _OURS)
            raise InputError(
                f"TRL's SFTConfig has no argument {name!r}",
                given=f"trainer.{name}: {trainer[name]!r}",
                try_=f"did you mean {close!r}?" if close else "see the documentation of TRL's SFTConfig",
            )
        if name in _OURS:
            raise InputError(
                f"trainer.{name} is set by ftlab's own settings",
                given=f"trainer.{name}: {trainer[name]!r}",
                try_="use the sections model, optimisation and launcher for it",
            )


def _record_environment(run: RunDirectory, config: RunConfig, device: str, *, resumed_at: int | None) -> None:
    import os
    import time

    import torch

    versions = {}
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
            "seeds": {"training": config.optimisation.seed, "split": config.data.seed},
            "parent_run": None,
            "resumed": resumed,
        },
    )
