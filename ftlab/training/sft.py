"""Supervised fine-tuning: tokenizes rows, builds the trainer, and saves the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.config.methods import virtual_tokens
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.conversion import is_document
from ftlab.data.rendering import Encoded, encode, windows
from ftlab.errors import InputError
from ftlab.training.arguments import trainer_arguments
from ftlab.training.launching import together
from ftlab.training.self_replay import ensure_answers, mixed_in
from ftlab.training.setup import begin, chat_tokenizer, load_model, note_environment, progress_callbacks, unrounded
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    import datasets


def context_of(config: RunConfig) -> int | None:
    """How many tokens the base reads, None where it does not say. Raises InputError when the longest example is longer
    than that."""
    from ftlab.models.load import context_length

    limit, context = config.optimisation.max_length, context_length(config.model)
    if context is not None and limit > context:
        raise InputError(
            f"Longest example (optimisation.max_length) exceeds what the base {config.model.base} can read",
            given=f"{limit} tokens",
            allowed=f"at most {context} tokens, the base's context",
        )
    return context


def tokenised_splits(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, datasets.Dataset]:
    """The frozen train and validation splits as `input_ids` and `labels` (-100 where nothing is trained).

    Conversations longer than max_length are left out, counted in data/manifest.json and warned about; documents become
    as many examples as they need. Raises InputError when max_length exceeds the base's context or when no more than
    half of the training rows are left.
    """
    import datasets

    from ftlab.data.splits import read_split

    limit, context = config.optimisation.max_length, context_of(config)
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
        tokenized = _tokenised(rows, tokenizer, limit)
        kept = len(tokenized.examples)
        manifest.setdefault("tokens", {})[split] = {
            "rows": kept,
            "too_long": tokenized.too_long,
            "longest": tokenized.longest,
            "tokens": sum(len(example.input_ids) for example in tokenized.examples),
            "trained_tokens": sum(sum(example.trained) for example in tokenized.examples),
            **({"documents": tokenized.documents, "documents_cut": tokenized.cut} if tokenized.documents else {}),
        }
        for remark, count in tokenized.remarks.items():
            writer.warn(f"In {count} of {len(rows)} {split} rows: {remark}")
        if tokenized.too_long:
            writer.warn(
                f"{tokenized.too_long} of {len(rows)} {split} rows are longer than {limit} tokens (the longest has "
                f"{tokenized.longest}) and were left out."
            )
        if split == "train" and kept <= len(rows) / 2:
            raise InputError(
                f"{len(rows) - kept} of {len(rows)} training rows are longer than {limit} tokens",
                given=f"the longest has {tokenized.longest} tokens; the base reads {context or 'an unknown number'}",
                allowed=f"at least half of the rows within optimisation.max_length = {limit}",
                try_="raise max_length up to the base's context, leave these rows out, or take a base that reads more",
            )
        if kept:
            columns = {"input_ids": [example.input_ids for example in tokenized.examples]}
            splits[split] = datasets.Dataset.from_dict(
                columns | {"labels": [example.labels for example in tokenized.examples]}
            )
    if together.is_main():
        write_json(run.manifest_file, manifest)
    return splits


@dataclass
class _Tokenized:
    """The examples of one split and what was counted: `cut` are documents of more than one window."""

    examples: list[Encoded] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    too_long: int = 0
    documents: int = 0
    cut: int = 0


def _tokenised(rows: Sequence[dict[str, Any]], tokenizer: Any, limit: int) -> _Tokenized:
    """Conversations as they are, where they are within `limit` tokens; documents in windows of `limit` tokens."""
    result = _Tokenized()
    for row in rows:
        encoded = encode(row["messages"], tokenizer)
        result.remarks.update(encoded.notes)
        result.longest = max(result.longest, len(encoded.input_ids))
        if is_document(row["messages"]):
            pieces = windows(encoded, limit)
            result.examples += pieces
            result.documents += 1
            result.cut += len(pieces) > 1
        elif len(encoded.input_ids) > limit:
            result.too_long += 1
        elif any(encoded.trained):
            result.examples.append(encoded)
    return result


@dataclass(frozen=True)
class Training:
    """What trains one run, up to its first step: the same for the run and for the probe that measures it before."""

    trainer: Any
    model: Any
    tokenizer: Any
    report: Any  # the ReportProgress among the trainer's callbacks
    checkpoint: Any  # where an earlier attempt of this run stopped, or None
    start: Any  # the folder with the adapter as it was initialized, for methods that change the base; or None
    computing: list[str]  # what was chosen for speed, in words


def prepare_training(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenize the frozen split of `run`, load its base, apply the method and build the trainer.

    Raises InputError and FtlabError for what a person can mend.
    """
    from ftlab.models.peft_methods import keep_start
    from ftlab.training.callbacks import AnswerAlong
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
    if "validation" in splits and config.stage == "sft" and together.processes() == 1:
        callbacks.append(AnswerAlong(run, tokenizer))
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
    from ftlab.training.setup import save_result
    from ftlab.training.speed import slow_down

    training = prepare_training(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    slow_down(training.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=training.start)
    return "stopped" if training.report.stop_asked else "completed"
