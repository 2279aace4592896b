"""Rows that a report shows: a mix that nobody could have chosen to flatter."""

from __future__ import annotations

from typing import Any

_EXAMPLES = 5
_KINDS = ("improved", "got worse", "wrong on both sides", "right on both sides")
_PARTLY = "as often right on both sides"  # of several answers


def choose_examples(predictions: list[dict[str, Any]], count: int = _EXAMPLES) -> tuple[list[dict[str, Any]], str]:
    """A mix of rows that improved, got worse and stayed, each with its `kind`, and the rule in words.

    The rule looks at nothing but the order of the rows, so that nobody can choose flattering ones. Free text, where
    hardly an answer equals its reference, goes by the change in loss instead.
    """
    of_texts = bool(predictions) and "document" in predictions[0]
    right = 0 if of_texts else sum(row["base_correct"] or row["adapted_correct"] for row in predictions)
    if of_texts or right < 0.05 * len(predictions):
        ranked = sorted(predictions, key=lambda row: row["adapted_loss"] - row["base_loss"])
        last = len(ranked) - 1
        places = sorted({round(i * last / max(1, count - 1)) for i in range(count)})
        chosen = [ranked[place] | {"kind": _loss_kind(ranked[place])} for place in places]
        what = "document" if of_texts else "reference"
        return chosen, f"From the greatest gain to the greatest loss in the probability of the {what}, evenly spaced."
    kinds = [*_KINDS, *([_PARTLY] if any("right" in row for row in predictions) else [])]
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for row in predictions:
        by_kind[_kind(row)].append(row | {"kind": _kind(row)})
    counts = ", ".join(f"{len(rows):,} {kind}" for kind, rows in by_kind.items())
    wanted = ["improved", "got worse", "wrong on both sides", "improved", "got worse", "right on both sides"]
    wanted += [kind for kind in kinds for _ in range(count)]
    chosen = []
    for kind in wanted:
        taken = sum(row["kind"] == kind for row in chosen)
        if len(chosen) < count and taken < len(by_kind[kind]):
            chosen.append(by_kind[kind][taken])
    chosen.sort(key=lambda row: kinds.index(row["kind"]))
    return chosen, f"Of the rows, {counts}. Shown are the first of each kind, in the order of the data."


def right_text(row: dict[str, Any], side: str) -> str:
    """How many of several answers to this row are right, in brackets behind the side; empty where there is one."""
    right = (row.get("right") or {}).get(side)
    return "" if right is None else f" (first of {row['samples']} answers, {right} right)"


def _kind(row: dict[str, Any]) -> str:
    if "right" in row:
        before, after = row["right"]["base"], row["right"]["adapted"]
        if before == after:
            return {0: "wrong on both sides", row["samples"]: "right on both sides"}.get(before, _PARTLY)
        return "improved" if after > before else "got worse"
    if row["base_correct"] == row["adapted_correct"]:
        return "right on both sides" if row["base_correct"] else "wrong on both sides"
    return "improved" if row["adapted_correct"] else "got worse"


def _loss_kind(row: dict[str, Any]) -> str:
    change = row["adapted_loss"] - row["base_loss"]
    word = "improved" if change < 0 else "got worse" if change > 0 else "unchanged"
    return f"{word}: loss {row['base_loss']:.2f} to {row['adapted_loss']:.2f}"
