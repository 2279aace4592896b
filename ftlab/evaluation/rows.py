"""Rows that changed sides, and measures by group of rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.core.comparison import ChangedJson, ComparisonJson, MeasureInfoJson, MeasureJson, scores_of
from ftlab.evaluation.figures import in_sentence
from ftlab.evaluation.significance import (
    difference_p,
    holm,
    mcnemar,
    mean_difference,
    mean_interval,
    share_difference,
    share_interval,
)

Row = Mapping[str, Any]
FILTERS = ("All", "Improved", "Got worse", "Both wrong")
ORDERS = {
    "data": "As in the data",
    "lost": "What got worse first",
    "gained": "What improved first",
    "loss": "Highest loss first",
}
LOSS = "loss"
# In nats per token of one row; perplexity is that of the whole corpus.
LOSS_MEASURE: MeasureInfoJson = {
    "name": LOSS,
    "title": "Loss on the reference",
    "help": "How surprised the model is, in nats per token; the mean over the rows.",
    "rule": "mean over rows of the summed loss by the tokens of the row",
    "unit": "",
    "better": "lower",
    "group": "task",
    "kind": "loss",
}


def row_scores(row: Row, sides: Sequence[str]) -> dict[str, dict[str, float]]:
    """{measure: {side: value}} of one row of predictions.jsonl; `loss` is among them where it is known."""
    scores = {name: dict(values) for name, values in (row.get("scores") or {}).items()}
    if "exact_match" not in scores and f"{sides[0]}_correct" in row:
        scores["exact_match"] = {side: float(row[f"{side}_correct"]) for side in sides if f"{side}_correct" in row}
    losses = {side: row[f"{side}_loss"] for side in sides if row.get(f"{side}_loss") is not None}
    return scores | ({LOSS: losses} if losses else {})


def measured(rows: Sequence[Row], sides: Sequence[str]) -> list[str]:
    """The measures that some row has a value of on all `sides`."""
    names: dict[str, None] = {}
    for row in rows:
        for name, values in row_scores(row, sides).items():
            if all(values.get(side) is not None for side in sides):
                names[name] = None
    return list(names)


def gain(row: Row, measure: str, pair: tuple[str, str], *, higher: bool) -> float | None:
    """How much better the second side of `pair` did on this row than the first; None where it was not measured."""
    values = row_scores(row, pair).get(measure, {})
    before, after = (values.get(side) for side in pair)
    if before is None or after is None:
        return None
    return (after - before) * (1 if higher else -1)


def changed(rows: Sequence[Row], measures: Sequence[MeasureJson], decided: str | None) -> ChangedJson | None:
    """How many `rows` of base and adapted model are better and worse: {by, better, worse}; None without any to compare.

    `by` is the title of the measure `decided`, else (where rows have no value of it) the loss.
    """
    pair = ("base", "adapted")
    known = measured(rows, pair)
    name = decided if decided in known else LOSS if LOSS in known else None
    if name is None:
        return None
    measure: MeasureInfoJson = next((one for one in measures if one["name"] == name), LOSS_MEASURE)
    gains = [gain(row, name, pair, higher=measure["better"] != "lower") or 0.0 for row in rows]
    title = "loss" if "document" in rows[0] else in_sentence(measure["title"])
    return {"by": title, "better": sum(one > 0 for one in gains), "worse": sum(one < 0 for one in gains)}


def what_to_read(comparison: ComparisonJson) -> str:
    """Which rows a person should read next, in words that hold for as many as there are."""
    change, documents = comparison.get("changed"), scores_of(comparison, "adapted").get("exact_match", 0) is None
    what = "document" if documents else "answer"
    then = "then try the model in Chat" + ("." if documents else " on prompts of your own.")
    if change is None:
        return f"Read the {what}s that changed, {then}"
    if not change["worse"]:
        return f"No {what} got worse by {change['by']}. Read some of those that changed, {then}"
    those = f"{what} that" if change["worse"] == 1 else f"{change['worse']:,} {what}s that"
    return f"Read the {those} got worse by {change['by']}, {then}"


def select(
    rows: Sequence[Row], search: str | None, kind: str | None, measure: str, pair: tuple[str, str], *, higher: bool
) -> list[Row]:
    """The rows that hold all words of `search` in their texts and belong to `kind`, one of FILTERS, by `measure`.

    Both wrong: neither side of `pair` scores anything above 0, where higher is better.
    """
    words = (search or "").lower().split()

    def belongs(row: Row) -> bool:
        if kind not in FILTERS or kind == "All":
            return True
        if kind == "Both wrong":
            values = row_scores(row, pair).get(measure, {})
            return higher and all(values.get(side, 1) <= 0 for side in pair)
        change = gain(row, measure, pair, higher=higher)
        return change is not None and (change > 0 if kind == "Improved" else change < 0)

    def holds(row: Row) -> bool:
        keys = ("document",) if "document" in row else ("prompt", "reference", *pair)
        text = " ".join(str(row.get(key, "")) for key in keys).lower()
        return all(word in text for word in words)

    return [row for row in rows if belongs(row) and holds(row)]


def ordered(rows: Sequence[Row], order: str, measure: str, pair: tuple[str, str], *, higher: bool) -> list[Row]:
    """`rows` in one of ORDERS; those that cannot be placed come last, equals stay as in the data."""

    def change(row: Row) -> float | None:
        return gain(row, measure, pair, higher=higher)

    def loss(row: Row) -> float | None:
        return row_scores(row, pair).get(LOSS, {}).get(pair[1])

    if order not in ("lost", "gained", "loss"):
        return list(rows)
    key, sign = (loss, -1) if order == "loss" else (change, 1 if order == "lost" else -1)
    keyed = [(key(row), row) for row in rows]
    known = sorted(((value, row) for value, row in keyed if value is not None), key=lambda pair: sign * pair[0])
    return [row for _, row in known] + [row for value, row in keyed if value is None]


_Scored = tuple[dict[str, float], Any]  # values by side, and what the row belongs to
MOST_SLICES = 12
_FEW_VALUES = 8  # numbers with more different values than these are cut into quarters
OTHER = "(all others)"


@dataclass(frozen=True)
class Slice:
    """The rows with one value of a column: mean and 95% interval of each side, and of the difference to the first.

    `p` of each later side, by itself: among several slices use `findings`.
    """

    value: str
    rows: int
    means: dict[str, float]
    intervals: dict[str, list[float] | None]
    differences: dict[str, float]
    difference_intervals: dict[str, list[float] | None]
    p: dict[str, float]


def findings(parts: Sequence[Slice], side: str) -> list[bool]:
    """Of each slice whether `side` differs there by more than chance explains among all of them (Holm, 5%)."""
    return [p is not None and p < 0.05 for p in holm([part.p.get(side) for part in parts])]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that part `rows`: those with at least two different values and fewer values than rows."""
    names = dict.fromkeys(name for row in rows for name in row.get("columns") or {})
    columns = []
    for name in names:
        values = [row.get("columns", {}).get(name) for row in rows]
        different = len({str(value) for value in values})
        if different > 1 and (different < len(rows) or all(map(_is_number, values))):
            columns.append(name)
    return columns


def slices(rows: Sequence[Row], column: str, measure: str, sides: Sequence[str]) -> list[Slice]:
    """The `rows` by the value of `column`, each with `measure` on all `sides`, the largest slice first.

    Numbers of many values are cut at their quartiles, and stay in their order; beyond MOST_SLICES values the rest is
    one slice. Rows that lack the measure on a side are left out.
    """
    scored = [
        (row.get("columns", {}).get(column), row_scores(row, sides).get(measure, {}), row.get("cluster", f"row {at}"))
        for at, row in enumerate(rows)
    ]
    whole = [one for one in scored if all(one[1].get(side) is not None for side in sides)]
    bins = _bins([value for value, *_ in whole])
    parts: dict[str, list[_Scored]] = {_bin_name(one, bins): [] for one in bins}
    for value, scores, cluster in whole:
        name = _bin_name(_bin_of(value, bins), bins) if bins else str(value)
        parts.setdefault(name, []).append((scores, cluster))
    parted = list(parts.items()) if bins else _largest(parts)
    return [_slice(value, part, sides) for value, part in parted if part]


def _slice(value: str, scored: list[_Scored], sides: Sequence[str]) -> Slice:
    by_side = {side: [scores[side] for scores, _ in scored] for side in sides}
    clusters = [cluster for _, cluster in scored]
    first, *later = sides
    return Slice(
        value,
        len(scored),
        {side: sum(values) / len(values) for side, values in by_side.items()},
        {side: _interval(values, clusters) for side, values in by_side.items()},
        {side: (sum(by_side[side]) - sum(by_side[first])) / len(scored) for side in later},
        {side: _difference_interval(by_side[first], by_side[side], clusters) for side in later},
        {side: _p(by_side[first], by_side[side], clusters) for side in later},
    )


def _interval(values: Sequence[float], clusters: Sequence[Any]) -> list[float] | None:
    return share_interval(values, clusters) if _right_or_wrong(values) else mean_interval(values, clusters)


def _difference_interval(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Any]
) -> list[float] | None:
    if _right_or_wrong([*before, *after]):
        return share_difference(list(map(bool, before)), list(map(bool, after)), clusters)
    return mean_difference(before, after, clusters)[1] if len(before) > 1 else None


def _p(before: Sequence[float], after: Sequence[float], clusters: Sequence[Any]) -> float:
    if _right_or_wrong([*before, *after]):
        return mcnemar(list(map(bool, before)), list(map(bool, after)), clusters)
    return difference_p(before, after, clusters)


def _right_or_wrong(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _bins(values: Sequence[Any]) -> list[tuple[float, float]]:
    """The quarters of numbers of many values, as (low, high); none for other values."""
    if not all(map(_is_number, values)) or len(set(values)) <= _FEW_VALUES:
        return []
    import numpy as np

    cuts = sorted({float(cut) for cut in np.quantile(values, [0, 0.25, 0.5, 0.75, 1], method="lower")})
    return list(itertools.pairwise(cuts))


def _bin_of(value: float, bins: list[tuple[float, float]]) -> tuple[float, float]:
    return next((pair for pair in bins if value < pair[1]), bins[-1])


def _bin_name(pair: tuple[float, float], bins: list[tuple[float, float]]) -> str:
    return f"{pair[0]:g} to {'' if pair == bins[-1] else 'below '}{pair[1]:g}"


def _largest(parts: dict[str, list[_Scored]]) -> list[tuple[str, list[_Scored]]]:
    by_size = sorted(parts.items(), key=lambda part: -len(part[1]))
    if len(by_size) <= MOST_SLICES:
        return by_size
    rest = [scores for _, part in by_size[MOST_SLICES - 1 :] for scores in part]
    return [*by_size[: MOST_SLICES - 1], (OTHER, rest)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
