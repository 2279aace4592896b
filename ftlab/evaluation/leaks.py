"""Held-out rows that training has seen, or nearly: the scores on them show memory, not skill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.evaluation.batches import Stopped

MOST_ROWS = 50_000  # training rows that are looked at, in some ten seconds
NAMED = 20  # pairs that are shown
_KINDS = ("same", "near", "answer")


def find_leaks(
    train: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    *,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Held-out rows whose prompt stands in training, as it is or nearly (`ftlab.data.near`), or whose long answer does.

    Rows are examples with `row` and `messages`. Returns `same`, `near` and `answer` (held-out rows, each counted once,
    under the first that holds), `held_out` (all held-out rows), `pairs` (at most 20: the numbers `train_row` and
    `held_out_row`, their prompts `train` and `held_out`, and `kind`) and `text`. A copy under another system prompt is
    a near one. Raises Stopped.
    """
    from ftlab.data import watch
    from ftlab.data.near import near_pairs
    from ftlab.data.partition import prompt_text
    from ftlab.data.rendering import reference

    looked_at = train[:MOST_ROWS]
    turns = [row["messages"] for row in (*looked_at, *held_out)]
    pairs = near_pairs(
        [prompt_text(one) for one in turns],
        [reference(one) for one in turns],
        sides=[0] * len(looked_at) + [1] * len(held_out),
        across=True,
        watch=watch.Watch(should_stop=should_stop),
    )
    found: dict[int, tuple[int, int]] = {}  # held-out row -> the gravest kind, and the training row
    try:
        for trained, held, how in pairs:
            kind = "near" if how == "same" and _system(turns[trained]) != _system(turns[held]) else how
            rank = _KINDS.index(kind)
            if held not in found or rank < found[held][0]:
                found[held] = rank, trained
    except watch.Stopped:
        raise Stopped from None
    counts = {kind: sum(rank == place for rank, _ in found.values()) for place, kind in enumerate(_KINDS)}
    gravest = sorted((rank, held, trained) for held, (rank, trained) in found.items())
    return {
        **counts,
        "held_out": len(held_out),
        "pairs": [
            _pair(_KINDS[rank], looked_at[trained], held_out[held - len(looked_at)])
            for rank, held, trained in gravest[:NAMED]
        ],
        "text": _in_words(counts, len(held_out), len(looked_at) < len(train)),
    }


def _system(messages: Sequence[Mapping[str, Any]]) -> str:
    return messages[0]["content"] if messages and messages[0]["role"] == "system" else ""


def _pair(kind: str, trained: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    from ftlab.errors import shorten

    return {
        "kind": kind,
        "train_row": trained.get("row"),
        "held_out_row": held.get("row"),
        "train": shorten(_prompt(trained), 200),
        "held_out": shorten(_prompt(held), 200),
    }


def _prompt(row: Mapping[str, Any]) -> str:
    turns = [turn["content"] for turn in row["messages"] if turn["role"] in ("user", "document")]
    return turns[-1] if turns else ""


def _in_words(counts: Mapping[str, int], rows: int, cut: bool) -> str:
    where = f"the first {MOST_ROWS:,} training rows" if cut else "the training rows"
    if not any(counts.values()):
        return f"None of the {rows} held-out rows has a copy or a near copy among {where}."
    has = {"same": ("has a copy", "have a copy"), "near": ("has a near copy", "have a near copy")}
    has["answer"] = ("has its answer word for word", "have their answers word for word")
    told = [f"{count} {has[kind][count > 1]}" for kind, count in counts.items() if count]
    listed = " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))
    return f"Of the {rows} held-out prompts {listed} among {where}: their scores may show memory, not skill."
