"""Losses of answers and of whole documents, perplexity, bits per byte, and the general text that shows what a run
changed outside the task."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import DataConfig, RunConfig
from ftlab.config.evaluation import names, sized
from ftlab.core.comparison import MeasureJson, ScoresJson
from ftlab.data.rendering import Encoded
from ftlab.data.shapes import Example, is_trained
from ftlab.errors import FtlabError
from ftlab.evaluation.batches import by_length, pad, run_batches, tokens_at_once
from ftlab.evaluation.beginnings import batches_of, beginnings, read, reads_once
from ftlab.evaluation.metrics.measures import corpus_perplexity
from ftlab.evaluation.probes import evenly, was_replayed
from ftlab.models.families import takes_logits_to_keep

if TYPE_CHECKING:
    from ftlab.data.shapes import Message

# The log-sum-exp works on a copy. Slices of 2**24 keep it small and in the processor's cache.
_SLICE = 2**24


@dataclass(frozen=True)
class Losses:
    """Per row: summed negative log-likelihood in nats over the trained tokens, and their number.

    `halved_to` is the number of rows that fit at once, if memory ran out in between.
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

    Rows are sorted by length and padded on the right, what several of them begin with is read once, and logits are
    computed only where the next token is trained. The result does not depend on batch size or order. Token losses are
    float32, their sums float64. Raises Stopped.
    """
    import torch

    begins = beginnings(encoded) if reads_once(model) else [0] * len(encoded)
    lengths = [len(row.input_ids) - begin for row, begin in zip(encoded, begins, strict=True)]
    # The first token of a text has no context to predict it from.
    counts = [sum(row.trained[1:]) for row in encoded]
    nll = [0.0] * len(encoded)
    device, keeps = model.device, takes_logits_to_keep(model)
    vocabulary = model.config.get_text_config().vocab_size
    batch_tokens = min(batch_tokens, tokens_at_once(device, vocabulary))

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        rest = [(list(encoded[i].input_ids)[begins[i] :], list(encoded[i].trained)[begins[i] :]) for i in batch]
        ids = torch.tensor(pad([tokens for tokens, _ in rest], pad_token_id), device=device)
        mask = torch.tensor(pad([[1] * lengths[i] for i in batch], 0), device=device)
        trained = torch.tensor(pad([on for _, on in rest], False), dtype=torch.bool, device=device)
        # The logits at one position predict the token at the next.
        keep = torch.zeros_like(trained)
        keep[:, :-1] = trained[:, 1:]
        if not keep.any():
            return
        # The model's own forward, so that its soft-capping or scaling of logits is kept: (labelled tokens, vocabulary).
        more: dict[str, Any] = {"logits_to_keep": keep} if keeps else {}
        if begins[batch[0]]:
            cache, before = read(model, [encoded[i].input_ids[: begins[i]] for i in batch], pad_token_id)
            places = torch.tensor([[begins[i]] for i in batch], device=device) + torch.arange(
                ids.shape[1], device=device
            )
            more |= {"past_key_values": cache, "position_ids": places, "use_cache": True}
            mask = torch.cat([before, mask], dim=1)
        logits = model(input_ids=ids, attention_mask=mask, **{"use_cache": False, **more}).logits
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

    shared = batches_of(encoded, begins, rows=batch_rows, tokens=batch_tokens)
    own = [i for i, begin in enumerate(begins) if not begin]
    single = by_length([lengths[i] for i in own], rows=batch_rows, tokens=batch_tokens)
    batches = [*shared, *([own[place] for place in batch] for batch in single)]
    halved_to = run_batches(batches, work, advance=advance, should_stop=should_stop)
    return Losses(nll, counts, halved_to)


def rolling_windows(encoded: Encoded, length: int) -> list[Encoded]:
    """`encoded` in pieces of at most `length` tokens, in which every trained token is predicted once.

    A text that fits stays whole. If the trained tokens fit, they get as much of the beginning as there is room for.
    Otherwise each window predicts half of its length, preceded by as much text as fits: the strided form of the rolling
    windows of lm-evaluation-harness (EleutherAI, `get_rolling_token_windows`), which gives some tokens only a single
    token of context.
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


@dataclass(frozen=True)
class Pieces:
    """Documents cut into windows as in training. `owner[i]` is the document of window i. `sizes` are the predicted
    UTF-8 bytes of each document (without its first token, unless a beginning-of-text token precedes it)."""

    windows: list[Encoded]
    owner: list[int]
    sizes: list[int]


def cut_documents(texts: Sequence[str], tokenizer: Any, length: int) -> Pieces:
    """`texts` in windows of at most `length` tokens."""
    from ftlab.data.conversion import document
    from ftlab.data.rendering import begins, encode, windows

    pieces = Pieces([], [], [])
    for number, text in enumerate(texts):
        encoded = encode(document(text), tokenizer)
        unseen = "" if begins(tokenizer) else tokenizer.decode(encoded.input_ids[:1])
        pieces.sizes.append(max(1, len(text.encode("utf-8", "replace")) - len(unseen.encode("utf-8", "replace"))))
        for window in windows(encoded, length):
            pieces.windows.append(window)
            pieces.owner.append(number)
    return pieces


def by_owner(losses: Losses, owner: Sequence[int], rows: int) -> Losses:
    """The losses of pieces summed by the row (0 to `rows`) that each belongs to."""
    nll: list[list[float]] = [[] for _ in range(rows)]
    tokens = [0] * rows
    for number, loss, count in zip(owner, losses.nll, losses.tokens, strict=True):
        nll[number].append(loss)
        tokens[number] += count
    return Losses([math.fsum(some) for some in nll], tokens, losses.halved_to)


def bits_per_byte(nll: Sequence[float], sizes: Sequence[int]) -> float:
    """Summed loss in bits divided by the UTF-8 bytes of the text. Unlike perplexity, comparable across tokenizers."""
    return math.fsum(nll) / (math.log(2) * sum(sizes))


def compare_documents(
    rows: Sequence[Example],
    sizes: Sequence[int],
    sides: Mapping[str, Losses],
    measures: Sequence[MeasureJson] = (),
    clusters: Sequence[int] | None = None,
) -> tuple[dict[str, ScoresJson], dict[str, float], list[dict[str, Any]]]:
    """The scores of all sides, the p of each measure, and the rows of predictions.jsonl."""
    from ftlab.evaluation.significance import loss_difference

    scores = {side: _document_scores(side, losses, sizes, measures, clusters) for side, losses in sides.items()}
    # The same losses over the same bytes: one test for both measures.
    p = loss_difference(sides["base"].nll, sides["adapted"].nll, clusters)
    predictions = []
    for i, row in enumerate(rows):
        prediction = {"row": row.get("row", i), "document": row["messages"][0]["content"], "bytes": sizes[i]}
        for side, losses in sides.items():
            prediction[f"{side}_loss"] = losses.per_token[i]
            prediction[f"{side}_bits_per_byte"] = bits_per_byte([losses.nll[i]], [sizes[i]])
        predictions.append(prediction)
    return scores, {"perplexity": p, "bits_per_byte": p}, predictions


def perplexity_of(
    side: str, losses: Losses, measures: Sequence[MeasureJson], clusters: Sequence[int] | None
) -> tuple[float, list[float] | None]:
    """The perplexity of `side` and its interval: as measured, else from its losses."""
    from ftlab.evaluation.significance import perplexity_interval

    for measure in measures:
        if measure["name"] == "perplexity" and (value := measure["values"].get(side)) is not None:
            return value, measure["intervals"].get(side)
    return losses.perplexity, perplexity_interval(losses.nll, losses.tokens, clusters)


def _document_scores(
    side: str,
    losses: Losses,
    sizes: Sequence[int],
    measures: Sequence[MeasureJson],
    clusters: Sequence[int] | None,
) -> ScoresJson:
    from ftlab.evaluation.significance import perplexity_interval

    perplexity, interval = perplexity_of(side, losses, measures, clusters)
    bits = next((measure for measure in measures if measure["name"] == "bits_per_byte"), None)
    bits_interval: list[float] | None
    if bits and (value := bits["values"].get(side)) is not None:
        bits_interval = bits["intervals"].get(side)
    else:
        value = bits_per_byte(losses.nll, sizes)
        bits_interval = [math.log2(end) for end in perplexity_interval(losses.nll, sizes, clusters)]
    return {
        "perplexity": perplexity,
        "perplexity_interval": interval,
        "bits_per_byte": value,
        "bits_per_byte_interval": bits_interval,
        # No answer exists that could match a reference.
        "exact_match": None,
        "bleu": None,
        "rows": len(sizes),
        "tokens": sum(losses.tokens),
        "bytes": sum(sizes),
        "truncated_answers": 0,
    }


LONGEST_WINDOW = 1024  # read at once at most, so that the memory needed does not grow with the context
MOST_ROWS = 200  # rows read; more would take longer without changing the result


DOCUMENTS, CHAT = "general", "general_chat"  # names of the two forms; their measures end in bits_per_byte


@dataclass
class GeneralText:
    """Texts of one form, cut into windows: documents, scored whole, or conversations, of which only answers are scored.

    `kinds` says for every kind of text whether it was replayed in training (None: unknown).
    """

    pieces: Pieces = field(default_factory=lambda: Pieces([], [], []))
    kinds: dict[str, bool | None] = field(default_factory=dict)


def load_general_text(
    config: RunConfig, tokenizer: Any, *, context: int | None, replayed: frozenset[str] | None = frozenset()
) -> tuple[dict[str, GeneralText], str | None]:
    """The texts that `config.evaluation.general_text` names, cut into windows of at most `context` tokens, and a note.

    Documents and conversations are separate, by DOCUMENTS and CHAT; empty if nothing is named. Aggregate the losses of
    windows to texts with `by_owner`, and to bits per byte with `sizes`. `replayed` are the kinds used in
    training. An unreadable text must not cost the comparison on the task, so it yields a note and not an error.
    """
    from ftlab.data.conversion import is_document

    by_form: dict[str, GeneralText] = {}
    notes: list[str] = []
    length = min(context or LONGEST_WINDOW, LONGEST_WINDOW)
    named = config.resolved().evaluation.general_text or ""
    for source in [named] if Path(named).is_file() else names(named):
        if source.lower() == "none":
            continue
        try:
            texts, kinds, note = _read_texts(source, config.data.system_prompt)
        except FtlabError as error:
            notes.append(f"General language was not measured: {error.message()}")
            continue
        if sized(source)[0] in config.data.replayed:
            notes.append(f"The general text {source} was replayed in training, so it cannot show forgetting.")
        notes += [note] if note else []
        form = by_form.setdefault(DOCUMENTS if all(map(is_document, texts)) else CHAT, GeneralText())
        _add(form.pieces, _cut(texts, tokenizer, length))
        form.kinds |= {kind: was_replayed(kind, replayed) for kind in kinds}
    return by_form, " ".join(notes) or None


def _read_texts(source: str, system_prompt: str | None) -> tuple[list[list[Message]], list[str], str | None]:
    """The texts, their kinds if the data names them, and a note."""
    from ftlab.data.conversion import to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.shapes import UnusableRow
    from ftlab.data.splits import detect_format
    from ftlab.errors import InputError

    name, most = sized(source)
    data = DataConfig(source=name, system_prompt=system_prompt)
    loaded = load_rows(data)
    detected = detect_format(loaded, data)
    rows = loaded.splits["test" if "test" in loaded.splits else loaded.main]
    numbers = range(len(rows))
    drawn: Sequence[int] = sorted(random.Random(0).sample(numbers, MOST_ROWS)) if len(rows) > MOST_ROWS else numbers
    if most is not None:
        drawn = evenly(numbers, [row.get("kind") for row in rows], most)
    texts, refused = [], 0
    kinds: dict[str, None] = {}
    for number in drawn:
        row = rows[number]
        try:
            messages = to_messages(row, detected, system_prompt)
        except UnusableRow:
            refused += 1
            continue
        if any(message["content"].strip() for message in _counted(messages)):
            texts.append(messages)
            kinds |= {kind: None} if isinstance(kind := row.get("kind"), str) else {}
        else:
            refused += 1
    if not texts:
        raise InputError("The general text is empty", given=source)
    notes = []
    if len(drawn) < len(rows):
        how = "drawn evenly over their kinds" if most else "drawn with seed 0"
        notes.append(f"{len(drawn)} of {len(rows):,} rows of {loaded.name} were read, {how}.")
    if refused:
        notes.append(f"{refused} of {len(drawn)} rows of {loaded.name} contain no text and were left out.")
    return texts, list(kinds), " ".join(notes) or None


def _add(pieces: Pieces, more: Pieces) -> None:
    pieces.owner.extend(len(pieces.sizes) + owner for owner in more.owner)
    pieces.windows.extend(more.windows)
    pieces.sizes.extend(more.sizes)


def _cut(texts: list[list[Message]], tokenizer: Any, length: int) -> Pieces:
    from ftlab.data.conversion import is_document
    from ftlab.data.rendering import encode, windows

    if all(is_document(messages) for messages in texts):
        return cut_documents([messages[0]["content"] for messages in texts], tokenizer, length)
    pieces = Pieces([], [], [])
    for number, messages in enumerate(texts):
        pieces.sizes.append(sum(len(message["content"].encode("utf-8", "replace")) for message in _counted(messages)))
        for window in windows(encode(messages, tokenizer), length):
            pieces.windows.append(window)
            pieces.owner.append(number)
    return pieces


def _counted(messages: list[Message]) -> list[Message]:
    """The turns whose tokens are scored: see `encode`."""
    return [message for message in messages if message["role"] in ("assistant", "document") and is_trained(message)]
