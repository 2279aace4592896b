"""From rows or counts of each side to the dict of a measure, with intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftlab.evaluation import significance
from ftlab.evaluation.metrics.table import Measure

if TYPE_CHECKING:
    import numpy as np

    from ftlab.evaluation.significance import Combine


def describe_value(info: Measure) -> dict[str, Any]:
    return asdict(info)


def of_rows(info: Measure, rows: Mapping[str, Sequence[float | None]], detail: Any = None) -> dict[str, Any]:
    """The measure that is the mean of a value per row; rows without a value (None) are left out of it.

    Right-or-wrong rows (0 and 1 only, kind share) get Wilson intervals and the exact McNemar test, others bootstrap
    intervals and a paired permutation test. A difference is over the rows in which both sides have a value.
    """
    import numpy as np

    known = {side: [value for value in values if value is not None] for side, values in rows.items()}
    if info.kind == "share" and all(value in (0, 1) for values in known.values() for value in values):
        return _of_right_or_wrong(info, rows, detail)
    counts = {
        side: np.array([[0.0, 0.0] if value is None else [value, 1.0] for value in values]).reshape(-1, 2)
        for side, values in rows.items()
    }
    first, *later = rows
    p = {}
    for side in later:
        pairs = paired(rows[first], rows[side])
        p[side] = significance.loss_difference(*zip(*pairs, strict=True)) if pairs else 1.0
    return of_counts(info, counts, _mean, p=p, test="paired permutation, 9999 resamples", detail=detail, pairs_of=rows)


def of_counts(
    info: Measure,
    counts: Mapping[str, np.ndarray],
    combine: Combine,
    *,
    p: Mapping[str, float],
    test: str,
    detail: Any = None,
    pairs_of: Mapping[str, Sequence[float | None]] | None = None,
) -> dict[str, Any]:
    """The measure that `combine` makes of counts (rows, k) summed over rows, with bootstrap intervals.

    `p` holds the p of each later side by `test`. With `pairs_of`, differences are over rows with both values only.
    """
    first, *later = counts
    values = {side: _finite(combine(table.sum(axis=0)[None])[0]) for side, table in counts.items()}
    intervals, changes = significance.bootstrap(counts, combine)
    differences = {}
    for side in later:
        value, interval = None, changes[side]
        if values[side] is not None and values[first] is not None:
            value = values[side] - values[first]
        pairs = paired(pairs_of[first], pairs_of[side]) if pairs_of else []
        if pairs and len(pairs) < len(counts[first]):
            value, interval = significance.mean_difference(*zip(*pairs, strict=True))
        if value is not None:
            differences[side] = {"value": value, "interval": interval, "p": p[side], "test": test}
    return {
        **describe_value(info),
        "values": values,
        "intervals": intervals,
        "rows": len(counts[first]),
        "differences": differences,
        "detail": detail,
    }


def paired(before: Sequence[float | None], after: Sequence[float | None]) -> list[tuple[float, float]]:
    """The values of the rows in which both sides have one."""
    both = zip(before, after, strict=True)
    return [(old, new) for old, new in both if old is not None and new is not None]


def _of_right_or_wrong(info: Measure, rows: Mapping[str, Sequence[float | None]], detail: Any) -> dict[str, Any]:
    first, *later = rows
    values, intervals, differences = {}, {}, {}
    for side, given in rows.items():
        known = [value for value in given if value is not None]
        values[side] = sum(known) / len(known) if known else None
        intervals[side] = significance.wilson_interval(int(sum(known)), len(known))
    for side in later:
        pairs = paired(rows[first], rows[side])
        if not pairs:
            continue
        before, after = ([bool(value) for value in values] for values in zip(*pairs, strict=True))
        differences[side] = {
            "value": (sum(after) - sum(before)) / len(pairs),
            "interval": significance.share_difference(before, after),
            "p": significance.mcnemar(before, after),
            "test": "exact McNemar",
        }
    return {
        **describe_value(info),
        "values": values,
        "intervals": intervals,
        "rows": len(rows[first]),
        "differences": differences,
        "detail": detail,
    }


def _mean(sums: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, 0] / sums[:, 1]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
