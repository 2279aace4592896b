"""Supervised fine-tuning: tokenize rows, build the trainer, save the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.config.sections import virtual_tokens
from ftlab.config.stages import SFT
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.conversion import is_document
from ftlab.data.rendering import Encoded, encode, windows
from ftlab.data.shapes import Example
from ftlab.errors import InputError
from ftlab.training import together
from ftlab.training.arguments import stage_arguments
from ftlab.training.self_replay import ensure_answers, mixed_in
from ftlab.training.setup import (
    AnswerAlong,
    Training,
    begin,
    chat_tokenizer,
    context_of,
    load_model,
    note_environment,
    progress_callbacks,
    unrounded,
)
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    import datasets


def tokenised_splits(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, datasets.Dataset]:
    """The frozen train and validation splits as `input_ids` and `labels` (-100 where nothing is trained).

    Conversations longer than max_length are left out, counted in data/manifest.json and reported in a warning;
    documents become as many examples as they need. Raises InputError when max_length exceeds the base's context or when
    no more than half of the training rows are left.
    """
    import datasets

    from ftlab.data.splits import read_split

    limit, context = _limits(config)
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
            raise _too_long(tokenized, len(rows), limit, context)
        if kept:
            columns = {"input_ids": [example.input_ids for example in tokenized.examples]}
            splits[split] = datasets.Dataset.from_dict(
                columns | {"labels": [example.labels for example in tokenized.examples]}
            )
    if together.is_main():
        write_json(run.manifest_file, manifest)
    return splits


def check_lengths(run: RunDirectory, config: RunConfig, tokenizer: Any) -> None:
    """Raise the InputError of `tokenised_splits` at once where it is certain to come, before the base is asked for
    minutes. Of many rows some are looked at, and only a clear majority is taken for certain."""
    from ftlab.data.splits import read_split

    limit, context = _limits(config)
    rows = read_split(run, "train")
    some = rows[:: -(-len(rows) // _LOOKED_AT)] if rows else []
    tokenized = _tokenised(some, tokenizer, limit)
    share = 0.5 if len(some) == len(rows) else 0.4
    if some and len(tokenized.examples) <= share * len(some):
        raise _too_long(tokenized, len(some), limit, context)


def _limits(config: RunConfig) -> tuple[int, int | None]:
    """The longest example, and the context of the base, in tokens. Raises InputError without room for the text."""
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
    return limit, context


def _too_long(tokenized: _Tokenized, rows: int, limit: int, context: int | None) -> InputError:
    return InputError(
        f"{rows - len(tokenized.examples)} of {rows} training rows are longer than {limit} tokens",
        given=f"the longest has {tokenized.longest} tokens; the base reads {context or 'an unknown number'}",
        allowed=f"at least half of the rows within optimisation.max_length = {limit}",
        try_="raise max_length up to the base's context, leave these rows out, or take a base that reads more",
    )


_LOOKED_AT = 1000  # rows


@dataclass
class _Tokenized:
    """The examples of one split, and counts of its rows: `cut` are documents of more than one window."""

    examples: list[Encoded] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    too_long: int = 0
    documents: int = 0
    cut: int = 0


def _tokenised(rows: Sequence[Example], tokenizer: Any, limit: int) -> _Tokenized:
    """Conversations of at most `limit` tokens in full, documents in windows of `limit` tokens."""
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


def prepare_training(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenize the frozen split of `run`, load its base, apply the method and build the trainer.

    Raises InputError and FtlabError for anything that a person can fix.
    """
    from ftlab.models.methods import keep_start
    from ftlab.training.speed import speed_up, use_small_tiles
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

    validation, tokenized = (
        "validation" in splits,
        {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}},
    )
    rows = len(splits["train"])
    arguments = stage_arguments(run, config, device, rows=rows, validation=validation, more=tokenized)
    longest = max(len(ids) for split in splits.values() for ids in split["input_ids"])
    computing = speed_up(model, arguments, config, longest)
    if together.is_main():
        note_environment(run, computing=computing)
    callbacks = progress_callbacks(run, config, writer, checkpoint, validation=validation)
    if validation and config.stage == SFT and together.processes() == 1:
        callbacks.append(AnswerAlong(run, tokenizer))
    if checkpoint:
        arguments.eval_on_start = False  # already evaluated at this step
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
    """Train `run` on its frozen split and write adapter/ (or model/). Returns completed or stopped.

    The loss covers the assistant's tokens, including the stop token, or all of plain text (stage pretraining). With a
    validation split, the weights with the lowest validation loss are kept. Raises InputError and FtlabError for
    anything that a person can fix.
    """
    from ftlab.training.setup import save_result
    from ftlab.training.speed import slow_down

    training = prepare_training(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    slow_down(training.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=training.start)
    return "stopped" if training.report.stop_asked else "completed"
