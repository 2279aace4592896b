"""Loss and perplexity over the tokens that were trained: the assistant's, with the stop token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.data.rendering import Encoded
from ftlab.errors import FtlabError
from ftlab.evaluation.batches import by_length, pad, run_batches
from ftlab.models.families import takes_logits_to_keep

# Logits are (tokens, vocabulary) floats: 2**27 of them, half a gigabyte, fit beside a model on a GPU. On a CPU the heap
# keeps several blocks of such a size when it changes from batch to batch.
_LOGITS_AT_ONCE, _ON_CPU = 2**27, 2**25
# The log-sum-exp works on a copy; in slices of 2**24 it stays small and in the processor's cache.
_SLICE = 2**24


@dataclass(frozen=True)
class Losses:
    """Per row: summed negative log-likelihood in nats over the trained tokens, and their number.

    `halved_to` is the number of rows at once that fitted, when memory ran out in between.
    """

    nll: list[float]
    tokens: list[int]
    halved_to: int | None = None

    @property
    def perplexity(self) -> float:
        return corpus_perplexity(self.nll, self.tokens)

    @property
    def per_token(self) -> list[float]:
        """The mean loss of each row, in nats per token."""
        return [nll / count if count else 0.0 for nll, count in zip(self.nll, self.tokens, strict=True)]


def corpus_perplexity(nll: Sequence[float], tokens: Sequence[int]) -> float:
    """exp(sum of NLL / number of tokens): each token counts the same, however long its row is.

    Raises FtlabError when the loss is not a number or there are no tokens.
    """
    total, count = math.fsum(nll), sum(tokens)
    if not count:
        raise FtlabError("There are no tokens to score", why="every answer in the split is empty")
    if not math.isfinite(total):
        raise FtlabError(
            "The loss of the model is not a number",
            why="training has diverged, or the number format of the model overflows",
            try_="train again with a lower learning rate, or with model.dtype=float32",
        )
    # Beyond exp(700) a float overflows; such a model knows nothing, and the exact figure says no more.
    return math.exp(min(total / count, 700.0))


def score_losses(
    model: Any,
    encoded: Sequence[Any],
    *,
    pad_token_id: int,
    batch_rows: int = 64,
    batch_tokens: int = 4096,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Losses:
    """The loss of each row of `encoded` (objects with `input_ids` and `trained`, a flag per token) under `model`.

    Rows are sorted by length, padded on the right, and logits are made only where the next token is trained. The
    result does not depend on batch size or order. Token losses are float32, their sums float64. Raises Stopped.
    """
    import torch

    lengths = [len(row.input_ids) for row in encoded]
    # The first token of a text has nothing before it that could predict it.
    counts = [sum(row.trained[1:]) for row in encoded]
    nll = [0.0] * len(encoded)
    device, keeps = model.device, takes_logits_to_keep(model)
    vocabulary = model.config.get_text_config().vocab_size
    batch_tokens = min(batch_tokens, tokens_at_once(device, vocabulary))

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        ids = torch.tensor(pad([list(encoded[i].input_ids) for i in batch], pad_token_id), device=device)
        mask = torch.tensor(pad([[1] * lengths[i] for i in batch], 0), device=device)
        trained = torch.tensor(pad([list(encoded[i].trained) for i in batch], False), dtype=torch.bool, device=device)
        # The logits at one position predict the token at the next.
        keep = torch.zeros_like(trained)
        keep[:, :-1] = trained[:, 1:]
        if not keep.any():
            return
        # The model's own forward, so that its soft-capping or scaling of logits is kept: (labelled tokens, vocabulary).
        places = {"logits_to_keep": keep} if keeps else {}
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **places).logits
        logits = logits if keeps else logits[keep]
        labels = ids[:, 1:][trained[:, 1:]]
        rows = keep.nonzero()[:, 0]
        size = max(1, _SLICE // vocabulary)
        losses = torch.cat(
            [
                torch.nn.functional.cross_entropy(
                    logits[at : at + size].float(), labels[at : at + size], reduction="none"
                )
                for at in range(0, len(labels), size)
            ]
        )
        sums = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, rows.cpu(), losses.double().cpu())
        for i, value in zip(batch, sums.tolist(), strict=True):
            nll[i] = value

    batches = by_length(lengths, rows=batch_rows, tokens=batch_tokens)
    halved_to = run_batches(batches, work, advance=advance, should_stop=should_stop)
    return Losses(nll, counts, halved_to)


def tokens_at_once(device: Any, vocabulary: int) -> int:
    """The tokens whose logits are made at once on a torch `device`."""
    return max(256, (_ON_CPU if device.type == "cpu" else _LOGITS_AT_ONCE) // vocabulary)


def rolling_windows(encoded: Encoded, length: int) -> list[Encoded]:
    """`encoded` in pieces of at most `length` tokens, in which every trained token is predicted once.

    A text that fits stays whole. Where the trained tokens fit, they get the longest beginning that leaves them room;
    otherwise each window predicts half of its length after as much of the text before as fits, the strided form of the
    rolling windows of lm-evaluation-harness (EleutherAI, `get_rolling_token_windows`), which gives some tokens a
    single one to go by.
    """
    ids, trained = list(encoded.input_ids), list(encoded.trained)
    wanted = [place for place, on in enumerate(trained) if on and place]
    if len(ids) <= length or not wanted:
        return [Encoded(ids[:length], trained[:length], encoded.notes)]
    first, end = wanted[0], wanted[-1] + 1
    stride = end - first if end - first < length else max(1, length // 2)
    windows = []
    for start in range(first, end, stride):
        stop = min(start + stride, end)
        if any(trained[start:stop]):
            begin = max(0, stop - length)
            windows.append(Encoded(ids[begin:stop], [False] * (start - begin) + trained[start:stop], encoded.notes))
    return windows
