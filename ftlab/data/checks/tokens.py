"""Tokens of the rendered examples: how long they are, what is trained, what `max_length` cuts off.

Measured as training does it (`rendering.encode`): on every row of a small data set, on a sample of a large one. Whether
a row is longer than `max_length` is looked at for every row: rows that would fit with a quarter more tokens for each
byte than any row of the sample has are taken to fit, all others are tokenised.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.data.conversion import Message
from ftlab.data.rendering import encode
from ftlab.data.template import ensure_chat_template, facts_of, render_text
from ftlab.errors import InputError, shorten

_MEASURED = 2000  # rows that are encoded one by one
_BARS = 24
_COVERED = 0.995  # of the rows fit into the suggested length
_WORTH_PACKING = 0.25  # share of padding in a batch of rows as they come
_BATCH = 16


@dataclass
class Measured:
    """Lengths in tokens, parallel lists by `positions`."""

    positions: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    completion: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    stopped: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> list[int]:
        return [one + other for one, other in zip(self.prompt, self.completion, strict=True)]


def token_lengths(
    examples: Examples, watch: Watch, tokenizer: Any, base: str, max_length: int, context: int | None = None
) -> tuple[dict[str, Any], list[Finding], set[int]]:
    """What there is to say about tokens (see `summary`), findings, and the positions of the rows that training leaves
    out. `context` is what the base reads, in tokens."""
    note = ensure_chat_template(tokenizer)
    # Long rows are a finding here; the remark of transformers about the first of them would only puzzle.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    chosen = range(len(examples))
    if len(examples) > _MEASURED:
        chosen = sorted(random.Random(0).sample(chosen, _MEASURED))
    measured = _measure(examples, chosen, watch, tokenizer)
    # Documents that are longer are learnt piece by piece.
    too_long = {
        position: length
        for position, length in (
            {} if examples.are_documents else _long_rows(examples, watch, tokenizer, max_length, measured)
        ).items()
        if length > max_length
    }
    empty = [p for p, trained in zip(measured.positions, measured.trained, strict=True) if not trained]
    shown = {position: f"{length:,} tokens" for position, length in too_long.items()}
    raised = _raised(list(too_long.values()), measured, max_length, context, len(examples))
    findings = by_split("too_long", too_long, examples, shown=shown, detail={"max_length": max_length})
    for finding in findings:
        of_split = [position for position in sorted(too_long) if examples.split[position] == finding.split]
        finding.detail["tokens"] = [too_long[position] for position in of_split]
        finding.detail |= raised
    reasons = dict(measured.refused)
    reasons |= dict.fromkeys(empty, "no token of the answer is trained")
    findings += by_split("no_trained_token", reasons, examples, shown=reasons)
    if measured.positions and not measured.stopped:
        findings += by_split("stop_token", measured.positions[:1], examples)
    if not facts_of(tokenizer).shows_system:
        unseen = {at: turns[0]["content"] for at, turns in enumerate(examples.turns) if turns[0]["role"] == "system"}
        findings += by_split(
            "system_unseen", unseen, examples, shown={at: shorten(text) for at, text in unseen.items()}
        )
    tokens = summary(measured, max_length, base, of_documents=examples.are_documents)
    tokens |= {"rows": len(examples), "too_long": len(too_long), "no_trained_token": len(reasons)}
    remarks = [f"{text} ({count} rows)" for text, count in measured.remarks.most_common(5)]
    tokens["notes"] = ([note] if note else []) + remarks
    tokens |= {"context": context} | raised
    if context and tokens.get("suggested_max_length", 0) > context:
        longer = sum(size > context for size in measured.total) / len(measured.total)
        tokens["suggested_max_length"] = context
        tokens["suggested_why"] = (
            f"max_length {context:,} is all that {base} reads, and {longer:.1%} of the rows are longer: a base that "
            "reads more could learn from them"
        )
    return tokens, findings, {*too_long, *reasons}


def _raised(
    lengths: Sequence[int], measured: Measured, max_length: int, context: int | None, rows: int
) -> dict[str, Any]:
    """`raise_to`: the multiple of 64 tokens that holds 99.5% of the rows (where that holds none of these: the longest
    that the base can read), and what it costs, in words. Nothing where the base reads none of these rows, or does not
    say how much it reads."""
    if not context or not (readable := [length for length in lengths if length <= context]):
        return {}
    new = min(context, -(-max(readable) // 64) * 64)
    # A few rows that are much longer than the others would set the memory of all.
    if measured.total and min(readable) <= (usual := suggested_length(measured.total)) < new:
        new, readable = usual, [length for length in readable if length <= usual]
    within = [total for total in measured.total if total <= max_length]
    now = sum(within) * rows / max(1, len(measured.total))
    more = f"{sum(readable):,} tokens an epoch" + (f" ({sum(readable) / now:.0%} more time)" if now else "")
    left = len(lengths) - len(readable)
    cost = (
        f"{len(readable):,} more rows are trained, with {more}; the longest batch holds up to "
        f"{new / max_length:.1f} times the tokens, and its memory grows by about as much (a smaller batch_size takes "
        "it back; preflight measures both)"
        + (f"; {left:,} rows are longer still (the base reads {context:,} tokens)" if left else "")
    )
    return {"raise_to": new, "raise_cost": cost, "context": context}


def summary(measured: Measured, max_length: int, base: str, *, of_documents: bool = False) -> dict[str, Any]:
    """Distributions of prompt, completion and whole rows (tokens; of documents only the last), share of trained
    tokens, and suggestions."""
    total = measured.total
    tokens: dict[str, Any] = {"base": base, "max_length": max_length, "measured_rows": len(total)}
    if not total:
        return tokens
    for name, sizes in (("prompt", measured.prompt), ("completion", measured.completion), ("whole", total)):
        if name == "whole" or not of_documents:
            tokens[name] = distribution(sizes)
    tokens["trained_share"] = round(sum(measured.trained) / max(1, sum(total)), 4)
    tokens["stop_token_trained"] = measured.stopped == len(total)
    tokens["suggested_max_length"] = suggested_length(total)
    held = sum(size <= tokens["suggested_max_length"] for size in total)
    share = "all rows" if held == len(total) else f"{held / len(total):.1%} of the rows"
    tokens["suggested_why"] = f"max_length {tokens['suggested_max_length']:,} would hold {share}"
    # Documents are learnt in pieces of max_length.
    tokens["packing"] = _packing([min(size, max_length) for size in total] if of_documents else total)
    return tokens


def distribution(sizes: Sequence[int]) -> dict[str, Any]:
    """Mean, percentiles and a histogram: `counts[i]` rows have from `edges[i]` up to below `edges[i + 1]` tokens."""
    import numpy as np

    values = np.asarray(sizes)
    width = max(1, -(-(int(values.max()) + 1) // _BARS))
    edges = list(range(0, int(values.max()) + width + 1, width))
    counts, _ = np.histogram(values, edges)
    percent = {f"p{p}": int(np.percentile(values, p, method="inverted_cdf")) for p in (50, 95, 99)}
    return {
        "mean": round(float(values.mean()), 1),
        **percent,
        "max": int(values.max()),
        "histogram": {"edges": edges, "counts": counts.tolist()},
    }


def suggested_length(total: Sequence[int]) -> int:
    """The smallest multiple of 64 tokens into which 99.5% of the rows fit."""
    ordered = sorted(total)
    needed = ordered[min(len(ordered) - 1, int(_COVERED * len(ordered)))]
    return max(64, -(-needed // 64) * 64)


def _packing(total: Sequence[int]) -> dict[str, Any]:
    batches = [total[begin : begin + _BATCH] for begin in range(0, len(total), _BATCH)]
    padding = 1 - sum(total) / sum(max(batch) * len(batch) for batch in batches)
    worth = padding > _WORTH_PACKING
    why = (
        f"{padding:.0%} of the tokens in batches of {_BATCH} would be padding; packing, or batches of like length, "
        "saves that time"
        if worth
        else f"only {padding:.0%} of the tokens in batches of {_BATCH} would be padding"
    )
    return {"suggested": worth, "padding_share": round(padding, 3), "why": why}


def _measure(examples: Examples, chosen: Sequence[int], watch: Watch, tokenizer: Any) -> Measured:
    stops = facts_of(tokenizer).stop_ids
    measured = Measured()
    for place, position in enumerate(chosen):
        if place % 200 == 0:
            watch.at(place, len(chosen))
        try:
            encoded = encode(examples.turns[position], tokenizer)
        except InputError as error:
            measured.refused[position] = error.what
            continue
        measured.remarks.update(encoded.notes)
        trained = sum(encoded.trained)
        # The last answer is the completion; earlier answers of a conversation are part of its prompt.
        end = len(encoded.trained)
        while end and not encoded.trained[end - 1]:
            end -= 1
        start = end
        while start and encoded.trained[start - 1]:
            start -= 1
        measured.positions.append(position)
        measured.prompt.append(start)
        measured.completion.append(len(encoded.input_ids) - start)
        measured.trained.append(trained)
        measured.stopped += end > 0 and encoded.input_ids[end - 1] in stops | {tokenizer.eos_token_id}
    return measured


def _long_rows(examples: Examples, watch: Watch, tokenizer: Any, max_length: int, measured: Measured) -> dict[int, int]:
    """position -> tokens of the rows that may be longer than `max_length`."""
    known = dict(zip(measured.positions, measured.total, strict=True))
    lengths = {position: length for position, length in known.items() if length > max_length}
    frame, most = _frame(examples, measured, tokenizer), _most_per_byte(examples, measured)
    unsure = [
        position
        for position, turns in watch.over(examples.turns)
        if position not in known and position not in measured.refused and _may_be_longer(turns, most, frame, max_length)
    ]
    for begin in range(0, len(unsure), _PIECE):
        watch.at(begin, len(unsure))
        piece, texts = [], []
        for position in unsure[begin : begin + _PIECE]:
            try:
                texts.append(render_text(examples.turns[position], tokenizer))
                piece.append(position)
            except InputError as error:
                measured.refused[position] = error.what
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        # The template may write no stop token; `encode` adds it then.
        lengths |= {position: len(tokens) for position, tokens in zip(piece, ids, strict=True)}
    return lengths


_PIECE = 1000


def _may_be_longer(turns: Sequence[Message], most: float, frame: int, max_length: int) -> bool:
    characters = sum(len(turn["content"]) for turn in turns)
    if 4 * characters + frame * len(turns) <= max_length:
        return False  # not even one token for each byte would fill it
    texts = [turn["content"] for turn in turns]
    size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    # Words without spaces and other scripts have more tokens than the sample can tell.
    usual = most if all(text.isascii() for text in texts) and _is_prose(texts) else 1.0
    return usual * size + frame * len(turns) > max_length


def _is_prose(texts: Sequence[str]) -> bool:
    return all(text.count(" ") + text.count("\n") >= len(text) / 12 for text in texts if len(text) > 200)


def _most_per_byte(examples: Examples, measured: Measured) -> float:
    """The most tokens per byte that a row of the sample has, and a quarter more; at most 1."""
    shares = [
        total / size
        for position, total in zip(measured.positions, measured.total, strict=True)
        if (size := sum(len(turn["content"].encode("utf-8", "replace")) for turn in examples.turns[position])) >= 100
    ]
    return min(1.0, 1.25 * max(shares)) if len(shares) >= 100 else 1.0


def _frame(examples: Examples, measured: Measured, tokenizer: Any) -> int:
    """Tokens at most that the template adds to each turn (with room to spare)."""
    if not measured.positions:
        return 64
    turns = examples.turns[measured.positions[0]]
    bare = [{"role": turn["role"], "content": "a"} for turn in turns]
    return len(tokenizer(render_text(bare, tokenizer), add_special_tokens=False)["input_ids"]) + 8
