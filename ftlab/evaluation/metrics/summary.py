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


def of_rows(
    info: Measure,
    rows: Mapping[str, Sequence[float | None]],
    *,
    detail: Any = None,
    total: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The measure that is the mean of a value per row; rows without a value (None) are left out of it.

    Right-or-wrong rows (0 and 1 only) get Wilson intervals and the exact McNemar test, others bootstrap intervals and
    a paired permutation test. A difference is over the rows in which both sides have a value; it says how many, as its
    `rows`, where these are not all. `total` are the values where they are known better than by the mean.
    """
    first, *later = rows
    known = {side: [value for value in values if value is not None] for side, values in rows.items()}
    whole = all(value in (0, 1) for values in known.values() for value in values)
    binary = whole and info.kind == "share" and info.group != "style"
    differences = {}
    for side in later:
        both = zip(rows[first], rows[side], strict=True)
        pairs = [(old, new) for old, new in both if old is not None and new is not None]
        if pairs:
            differences[side] = significance.row_difference(*zip(*pairs, strict=True), binary=binary)
            if len(pairs) < len(rows[side]):
                differences[side]["rows"] = len(pairs)
    interval = significance.share_interval if binary else significance.mean_interval
    means = {side: math.fsum(values) / len(values) if values else None for side, values in known.items()}
    return {
        **asdict(info),
        "values": dict(total) if total else means,
        "intervals": {side: interval(values) for side, values in known.items()},
        "rows": sum(any(value is not None for value in row) for row in zip(*rows.values(), strict=True)),
        "differences": differences,
        "detail": detail,
    }


def of_counts(
    info: Measure,
    counts: Mapping[str, np.ndarray],
    combine: Combine,
    *,
    p: Mapping[str, float],
    test: str,
    detail: Any = None,
) -> dict[str, Any]:
    """The measure that `combine` makes of counts (rows, k) summed over rows, with bootstrap intervals.

    `p` holds the p of each later side by `test`.
    """
    values = {side: float(combine(table.sum(axis=0)[None])[0]) for side, table in counts.items()}
    intervals, changes = significance.bootstrap(counts, combine)
    rows = len(next(iter(counts.values())))
    return of_values(info, values, rows, intervals=intervals, changes=changes, p=p, test=test, detail=detail)


def of_values(
    info: Measure,
    values: Mapping[str, float],
    rows: int,
    *,
    intervals: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    p: Mapping[str, float] | None = None,
    test: str = "",
    detail: Any = None,
) -> dict[str, Any]:
    """The measure of values that are known; without `p` there is no test, and so no difference."""
    first, *later = values
    differences = {
        side: {"value": values[side] - values[first], "interval": (changes or {}).get(side), "p": p[side], "test": test}
        for side in (later if p else [])
    }
    return {
        **asdict(info),
        "values": dict(values),
        "intervals": dict(intervals or dict.fromkeys(values)),
        "rows": rows,
        "differences": differences,
        "detail": detail,
    }
