"""Held-out rows that training has seen, or nearly: the scores on them show memory, not skill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.evaluation.batches import Stopped

MOST_ROWS = 50_000  # training rows that are looked at, in a few seconds
NAMED = 20  # pairs that are shown


def find_leaks(
    train: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    *,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Training rows whose prompt is that of a held-out row, or nearly (80% of the word trigrams), by data/'s checks.

    Rows are examples with `row` and `messages`. Returns `same` and `near` (held-out rows, by kind), `held_out` (all
    held-out rows), `pairs` (at most 20: the numbers `train_row` and `held_out_row`, their prompts `train` and
    `held_out`, and `kind`) and `text`. Raises Stopped.
    """
    from ftlab.data.checks import examples as checks
    from ftlab.data.checks.duplicates import find_sameness, near_overlap, overlap

    looked_at = train[:MOST_ROWS]
    found = checks.Examples()
    for split, rows in (("train", looked_at), ("held-out", held_out)):
        for position, row in enumerate(rows):
            found.split.append(split)
            found.row.append(position)
            found.turns.append(row["messages"])
    watch = checks.Watch(should_stop=should_stop)
    try:
        same = find_sameness(found, watch)
        findings = {"same": overlap(found, watch, same), "near": near_overlap(found, watch, same)}
    except checks.Stopped:
        raise Stopped from None
    pairs, counts = [], {}
    for kind, of_kind in findings.items():
        places = [
            (trained, held)
            for finding in of_kind
            for trained, (_, held) in zip(finding.rows, finding.matches, strict=True)
        ]
        counts[kind] = len({held for _, held in places})
        pairs += [_pair(kind, looked_at[trained], held_out[held]) for trained, held in places]
    return {
        **counts,
        "held_out": len(held_out),
        "pairs": pairs[:NAMED],
        "text": _in_words(counts["same"], counts["near"], len(held_out), len(looked_at) < len(train)),
    }


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


def _in_words(same: int, near: int, rows: int, cut: bool) -> str:
    where = f"the first {MOST_ROWS:,} training rows" if cut else "the training rows"
    if not same and not near:
        return f"None of the {rows} held-out rows has a copy or a near copy among {where}."
    kinds = ((same, "a copy"), (near, "a near copy"))
    have = " and ".join(f"{count} {'has' if count == 1 else 'have'} {what}" for count, what in kinds if count)
    return f"Of the {rows} held-out prompts {have} among {where}: their scores show memory, not skill."
