"""Where is it better, and where not: the rows of a comparison by the value of one of their columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.row_changes import Row, row_scores
from ftlab.evaluation.significance import (
    difference_p,
    holm,
    mcnemar,
    mean_difference,
    mean_interval,
    share_difference,
    share_interval,
)

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


def findings(found: Sequence[Slice], side: str) -> list[bool]:
    """Of each slice whether `side` differs there by more than chance explains among all of them (Holm, 5%)."""
    return [p is not None and p < 0.05 for p in holm([one.p.get(side) for one in found])]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that part `rows`: those with at least two different values and fewer values than rows."""
    names = dict.fromkeys(name for row in rows for name in row.get("columns") or {})
    found = []
    for name in names:
        values = [row.get("columns", {}).get(name) for row in rows]
        different = len({str(value) for value in values})
        if different > 1 and (different < len(rows) or all(map(_is_number, values))):
            found.append(name)
    return found


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
    found = list(parts.items()) if bins else _largest(parts)
    return [_slice(value, part, sides) for value, part in found if part]


def _slice(value: str, found: list[_Scored], sides: Sequence[str]) -> Slice:
    by_side = {side: [scores[side] for scores, _ in found] for side in sides}
    clusters = [cluster for _, cluster in found]
    first, *later = sides
    return Slice(
        value,
        len(found),
        {side: sum(values) / len(values) for side, values in by_side.items()},
        {side: _interval(values, clusters) for side, values in by_side.items()},
        {side: (sum(by_side[side]) - sum(by_side[first])) / len(found) for side in later},
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
    found = sorted(parts.items(), key=lambda part: -len(part[1]))
    if len(found) <= MOST_SLICES:
        return found
    rest = [scores for _, part in found[MOST_SLICES - 1 :] for scores in part]
    return [*found[: MOST_SLICES - 1], (OTHER, rest)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
