"""Supervised fine-tuning on the assistant's turns, and pretraining on plain text, through TRL's SFTTrainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.run_directory import RunDirectory
from ftlab.training.arguments import trainer_arguments
from ftlab.training.environment import note_environment
from ftlab.training.examples import tokenised_splits
from ftlab.training.launching import together
from ftlab.training.self_replay import ensure_answers, mixed_in
from ftlab.training.setup import begin, chat_tokenizer, load_model, progress_callbacks, unrounded
from ftlab.training.status import StatusWriter


@dataclass(frozen=True)
class Training:
    """What trains one run, up to its first step: the same for the run and for the probe that measures it before."""

    trainer: Any
    model: Any
    tokenizer: Any
    report: Any  # the ReportProgress among the trainer's callbacks
    checkpoint: Any  # where an earlier attempt of this run stopped, or None
    start: Any  # the folder with the adapter as it was initialised, for methods that change the base; or None
    computing: list[str]  # what was chosen for speed, in words


def prepare_training(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenise the frozen split of `run`, load its base, apply the method and build the trainer.

    Raises InputError and FtlabError for what a person can mend.
    """
    from ftlab.models.peft_methods import keep_start
    from ftlab.training.log_probs import use_small_tiles
    from ftlab.training.speed import speed_up
    from ftlab.training.trainer import FineTuner

    device, checkpoint = begin(run, config, writer)
    use_small_tiles()
    writer.update(phase="preparing the examples")
    tokenizer = chat_tokenizer(run, config, writer)
    splits = tokenised_splits(run, config, tokenizer, writer)
    if together.is_main():
        ensure_answers(run, config, writer)
    together.wait_for_all()
    splits["train"], teacher = mixed_in(splits["train"], run, config, writer)
    model = load_model(run, config, tokenizer, device, writer)
    start = keep_start(model, config.method, run.checkpoints / "start", write=together.is_main())

    arguments = trainer_arguments(run, config, device, rows=len(splits["train"]), validation="validation" in splits)
    longest = max(len(ids) for rows in splits.values() for ids in rows["input_ids"])
    computing = speed_up(model, arguments, config, longest)
    if together.is_main():
        note_environment(run, computing=computing)
    callbacks = progress_callbacks(run, config, writer, checkpoint, validation="validation" in splits)
    if checkpoint:
        arguments.eval_on_start = False  # it was evaluated at this step already
    with unrounded(model):
        trainer = FineTuner(
            model=model,
            args=arguments,
            train_dataset=splits["train"],
            eval_dataset=splits.get("validation"),
            processing_class=tokenizer,
            callbacks=callbacks,
            teacher=teacher,
            token_loss=config.optimisation.loss,
        )
    return Training(trainer, model, tokenizer, callbacks[0], checkpoint, start, computing)


def train_sft(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen split and leave adapter/ (or model/) behind. Returns completed or stopped.

    Only the assistant's tokens are trained, the stop token among them, or all of plain text (stage pretraining); the
    weights with the lowest validation loss are kept where there is a validation split. Raises InputError and FtlabError
    for what a person can mend.
    """
    from ftlab.training.result import save_result
    from ftlab.training.speed import slow_down

    training = prepare_training(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    slow_down(training.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=training.start)
    return "stopped" if training.report.stop_asked else "completed"
