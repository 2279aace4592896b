"""The frozen splits of a run as token ids and labels, with what is left out counted and said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.errors import InputError
from ftlab.method_table import virtual_tokens
from ftlab.training import together
from ftlab.training.status import StatusWriter
from ftlab.workspace import RunDirectory, write_json

if TYPE_CHECKING:
    import datasets


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
    if together.is_main():
        write_json(run.manifest_file, manifest)
    return splits
