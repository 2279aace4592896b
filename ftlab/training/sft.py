"""Supervised fine-tuning on the assistant's turns, and pretraining on plain text, through TRL's SFTTrainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.data.documents import STAGE
from ftlab.training.arguments import trainer_arguments
from ftlab.training.environment import record_environment
from ftlab.training.examples import tokenised_splits
from ftlab.training.status import StatusWriter
from ftlab.workspace import RunDirectory


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
    record_environment(run, config, device, resumed_at=checkpoint.step if checkpoint else None)
    go_back_to(run, checkpoint)
    for remark in check_method(config):
        writer.warn(remark)

    writer.update(phase="preparing the examples")
    tokenizer = load_tokenizer(config.model.base, config.model.revision)
    note = ensure_chat_template(tokenizer)
    if note and (config.stage != STAGE or config.data.replay):  # plain text is read without it
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

    Only the assistant's tokens are trained, the stop token among them, or all of plain text (stage pretraining); the
    weights with the lowest validation loss are kept where there is a validation split. Raises InputError and FtlabError
    for what a person can mend.
    """
    from ftlab.training import varlen
    from ftlab.training.result import save_result

    training = prepare_training(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    if trainer.padding_free:
        varlen.leave(training.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=training.start)
    return "stopped" if training.report.stop_asked else "completed"
