"""Held-out documents: how well both sides predict plain text, in perplexity and in bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.evaluation.perplexity import Losses

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded
    from ftlab.evaluation.scores import Result


@dataclass(frozen=True)
class Pieces:
    """Documents cut into windows as in training: `owner[i]` is the document of window i; `sizes` are the UTF-8 bytes of
    each document that are predicted (its first token is not, unless a beginning token stands before it)."""

    windows: list[Encoded]
    owner: list[int]
    sizes: list[int]


def cut_documents(texts: Sequence[str], tokenizer: Any, length: int) -> Pieces:
    """`texts` in windows of at most `length` tokens."""
    from ftlab.data.documents import document
    from ftlab.data.rendering import encode, windows
    from ftlab.data.template import begins

    found = Pieces([], [], [])
    for number, text in enumerate(texts):
        encoded = encode(document(text), tokenizer)
        unseen = "" if begins(tokenizer) else tokenizer.decode(encoded.input_ids[:1])
        found.sizes.append(max(1, len(text.encode("utf-8", "replace")) - len(unseen.encode("utf-8", "replace"))))
        for window in windows(encoded, length):
            found.windows.append(window)
            found.owner.append(number)
    return found


def losses_of_documents(losses: Losses, pieces: Pieces) -> Losses:
    """The losses of windows added up by document."""
    return by_owner(losses, pieces.owner, len(pieces.sizes))


def by_owner(losses: Losses, owner: Sequence[int], rows: int) -> Losses:
    """The losses of pieces added up by the row (0 to `rows`) that each of them belongs to."""
    nll: list[list[float]] = [[] for _ in range(rows)]
    tokens = [0] * rows
    for number, loss, count in zip(owner, losses.nll, losses.tokens, strict=True):
        nll[number].append(loss)
        tokens[number] += count
    return Losses([math.fsum(some) for some in nll], tokens, losses.halved_to)


def bits_per_byte(nll: Sequence[float], sizes: Sequence[int]) -> float:
    """Summed loss in bits by the UTF-8 bytes of the text: unlike perplexity, the same for every tokenizer."""
    return math.fsum(nll) / (math.log(2) * sum(sizes))


def compare_documents(
    rows: Sequence[dict[str, Any]],
    sizes: Sequence[int],
    sides: Mapping[str, Result],
    clusters: Sequence[int] | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
    """The scores of all sides, the p of each measure, and the rows of predictions.jsonl."""
    from ftlab.evaluation.significance import loss_difference

    scores = {side: _scores(result.losses, sizes, clusters) for side, result in sides.items()}
    # The same losses over the same bytes: one test for both measures.
    p = loss_difference(sides["base"].losses.nll, sides["adapted"].losses.nll, clusters)
    predictions = []
    for i, row in enumerate(rows):
        shown = {"row": row.get("row", i), "document": row["messages"][0]["content"], "bytes": sizes[i]}
        for side, result in sides.items():
            shown[f"{side}_loss"] = result.losses.per_token[i]
            shown[f"{side}_bits_per_byte"] = bits_per_byte([result.losses.nll[i]], [sizes[i]])
        predictions.append(shown)
    return scores, {"perplexity": p, "bits_per_byte": p}, predictions


def _scores(losses: Losses, sizes: Sequence[int], clusters: Sequence[int] | None) -> dict[str, Any]:
    from ftlab.evaluation.significance import perplexity_interval

    return {
        "perplexity": losses.perplexity,
        "perplexity_interval": perplexity_interval(losses.nll, losses.tokens, clusters),
        "bits_per_byte": bits_per_byte(losses.nll, sizes),
        "bits_per_byte_interval": [math.log2(end) for end in perplexity_interval(losses.nll, sizes, clusters)],
        # There is no answer that could be equal to anything.
        "exact_match": None,
        "bleu": None,
        "rows": len(sizes),
        "tokens": sum(losses.tokens),
        "bytes": sum(sizes),
        "truncated_answers": 0,
    }
