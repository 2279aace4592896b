"""Is a difference more than chance? Intervals and paired tests, in one place.

`clusters` everywhere: one key per row. Rows with the same key (one customer, one document) are one draw: they are
exchanged, drawn and counted together. None, or as many keys as rows, treats rows as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftlab.core.comparison import DifferenceJson

if TYPE_CHECKING:
    import numpy as np

    # From summed counts, shape (m, k), to m values of a measure; nan if undefined.
    Combine = Callable[[np.ndarray], np.ndarray]
    Values = Sequence[float] | np.ndarray

Clusters = Sequence[Hashable] | None

RESAMPLES = 2000
SEED = 0
LEVEL = 0.05
_EXCHANGES = 9999
# Above this many rows the mean of a sample is normal enough, and its bootstrap would only cost time.
_MOST_STUDENTISED = 1000
# A sample with fewer rows may well miss a kind of row that is one in twenty: log(.05) / log(.95).
_SHOW_RARE = 59
# The share of a row's loss that an unseen row may gain or lose.
_LOSS_SPAN = 0.75
# Below this many rows or clusters a bootstrap has too few values: intervals use Student's t.
_FEWEST_DRAWN = 15


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted for multiple comparisons (Holm, 1979), in order; None stays None.

    If those below 5% are called findings, at most 5% of lists in which nothing changed contain a false one, whatever
    the dependence between the tests.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def wilson_interval(right: float, rows: float, level: float = LEVEL) -> list[float] | None:
    """The 1 - `level` Wilson interval of a share (E. B. Wilson, 1927), as [low, high] in 0 to 1. None without rows.

    Counts need not be integers: those of clustered rows are scaled to their effective number.
    """
    return _wilson(right, rows, level) if rows else None


def _wilson(right: float, rows: float, level: float = LEVEL) -> list[float]:
    from scipy.stats import norm

    share, z = right / rows, float(norm.ppf(1 - level / 2))
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    low = 0.0 if right <= 0 else max(0.0, middle - half)
    return [low, 1.0 if right >= rows else min(1.0, middle + half)]


def share_interval(right: Sequence[float], clusters: Clusters = None) -> list[float] | None:
    """The Wilson interval of the share of ones among `right` (0 and 1), at the effective number of clustered rows."""
    if not len(right):
        return None
    share = sum(right) / len(right)
    rows = _worth([value - share for value in right], share * (1 - share), clusters)
    return wilson_interval(share * rows, rows)


def mcnemar(base: Sequence[bool], adapted: Sequence[bool], clusters: Clusters = None) -> float:
    """The two-sided p of the exact McNemar test: a binomial test on the rows that only one side got right.

    With clusters, the net gain of each changes sides as a whole (a paired permutation test, also exact).
    """
    from scipy.stats import binomtest

    change = [float(bool(new)) - float(bool(old)) for old, new in zip(base, adapted, strict=True)]
    if is_clustered(clusters):
        return exchange_p(change, clusters)
    gained, lost = change.count(1.0), change.count(-1.0)
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def loss_difference(base: Sequence[float], adapted: Sequence[float], clusters: Clusters = None) -> float:
    """The two-sided p of the difference of two sums of losses (0 and above, in nats) over the same rows: see `mean_p`.

    Over the same tokens, this tests exactly the difference of the corpus perplexities.
    """
    import numpy as np

    change = np.asarray(adapted, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    return mean_p(change, clusters, span=loss_span(base))


def loss_span(base: Values) -> float | None:
    """The `span` (see `mean_p`) of losses of rows, with `base` those of the first side: three quarters of their mean.

    A loss has no upper end. With 2.5% less in 19 texts of 20 and half as much again in the last, "better" is false in
    under 5% of cases; with 5% less and twice as much, in up to 7%.
    """
    mean = math.fsum(base) / len(base) if len(base) else 0.0
    return _LOSS_SPAN * mean if mean > 0 else None


def difference_p(
    base: Sequence[float], adapted: Sequence[float], clusters: Clusters = None, *, span: float | None = None
) -> float:
    """The two-sided p of the difference of the means of two sides over the same rows: see `mean_p` and its `span`.

    Without a span, the range of the values of both sides is used.
    """
    import numpy as np

    old, new = np.asarray(base, dtype=np.float64), np.asarray(adapted, dtype=np.float64)
    return mean_p(new - old, clusters, span=value_range(old, new) if span is None else span)


def mean_p(values: Values, clusters: Clusters = None, *, span: float | None = None) -> float:
    """The two-sided p of a mean of paired differences against 0: the largest p of three tests.

    A paired permutation test is exact if both sides are alike, and a bootstrap-t (Efron and Tibshirani, 1993, chapter
    16) holds for skewed differences. Neither accounts for unseen rows: if 19 rows of 20 gain 1 and one loses 19, ten
    rows contain no such loss in 60% of cases, and look like a certain gain. So the third is a t test with one added row
    in the opposite direction (as in adjusted empirical likelihood, Chen, Variyath and Abraham, 2008). Its size is the
    share of `span` with which rows that all gain a little are a finding in at most 5% of cases, whatever share of
    others loses `span`: 62% with 10 rows, 81% with 20, nearly all with 50. `span` is the most that one row can change
    (1 for shares); larger losses are not covered. Without it, fewer than 59 rows are never a finding.
    """
    sums = summed(values, clusters)
    each = None if span is None else span * len(values) / max(1, len(sums))
    tests = (exchange_tails(sums), bootstrap_t(sums), with_unseen(sums, each))
    return min(1.0, max(_two_sided(test) for test in tests))


def sign_p(base: Sequence[float], adapted: Sequence[float], clusters: Clusters = None) -> float:
    """The two-sided p of the exact sign test: how often `adapted` is above `base`, ignoring ties."""
    above = [new > old for old, new in zip(base, adapted, strict=True)]
    return mcnemar([new < old for old, new in zip(base, adapted, strict=True)], above, clusters)


def exchange_p(values: Sequence[float], clusters: Clusters = None, *, span: float | None = None) -> float:
    """The two-sided p of paired differences under exchange of the sides: a permutation test on their sum.

    With `span`, the most that one row can change, also by t with one added row in the opposite direction: see `mean_p`.
    """
    sums = summed(values, clusters)
    p = _two_sided(exchange_tails(sums))
    return p if span is None else max(p, _two_sided(with_unseen(sums, span * len(values) / max(1, len(sums)))))


def perplexity_interval(nll: Sequence[float], tokens: Sequence[int], clusters: Clusters = None) -> list[float]:
    """The 95% bootstrap interval of the corpus perplexity, rows (or clusters of them) drawn with replacement."""
    import numpy as np

    table = np.column_stack([nll, tokens]).astype(np.float64)
    if len(table) < 2:
        value = math.exp(min(table[0, 0] / max(table[0, 1], 1), 700.0))
        return [value, value]
    intervals, _ = bootstrap({"": table}, lambda sums: sums[:, 0] / sums[:, 1].clip(min=1), clusters)
    low, high = intervals[""] or [math.nan, math.nan]
    # The bootstrap-t of a few rows may reach below zero, which no loss can.
    return [math.exp(min(max(low, 0.0), 700.0)), math.exp(min(high, 700.0))]


def mean_difference(
    base: Sequence[float], adapted: Sequence[float], clusters: Clusters = None
) -> tuple[float, list[float]]:
    """The mean of `adapted` minus `base` over paired rows, and its 95% bootstrap interval [low, high]."""
    import numpy as np

    differences = np.asarray(adapted, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    mean = float(differences.mean())
    return mean, mean_interval(differences, clusters) or [mean, mean]


def mean_interval(values: Values, clusters: Clusters = None) -> list[float] | None:
    """The 95% bootstrap interval of a mean; None for fewer than two values or clusters."""
    import numpy as np

    table = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    return bootstrap({"": table}, lambda sums: sums[:, 0] / sums[:, 1], clusters)[0][""] if len(table) else None


def share_difference(base: Sequence[float], adapted: Sequence[float], clusters: Clusters = None) -> list[float]:
    """The 95% interval of the difference of two paired shares, adapted minus base, as [low, high] in -1 to 1.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635-2650): it combines Wilson intervals, so that it does not
    shrink to a point if no row differs. Clustered rows count at their effective number.
    """
    pairs = [(bool(old), bool(new)) for old, new in zip(base, adapted, strict=True)]
    change = [new - old for old, new in pairs]
    mean = sum(change) / len(change)
    spread = sum((value - mean) ** 2 for value in change) / len(change)
    rows = _worth([value - mean for value in change], spread, clusters)
    scale = rows / len(pairs)
    both, only_new = (scale * sum(pair == kind for pair in pairs) for kind in ((True, True), (False, True)))
    only_old = scale * sum(pair == (True, False) for pair in pairs)
    neither = rows - both - only_new - only_old
    after, before = both + only_new, both + only_old
    (low_1, high_1), (low_2, high_2) = _wilson(after, rows), _wilson(before, rows)
    p_1, p_2 = after / rows, before / rows
    margins = after * (rows - after) * before * (rows - before)
    excess = both * neither - only_new * only_old
    # The continuity correction of the paper, for positive correlation only.
    excess = max(excess - rows / 2, 0) if excess > 0 else excess
    phi = excess / margins**0.5 if margins > 0 else 0.0

    def reach(first: float, second: float) -> float:
        return max(0.0, first**2 - 2 * phi * first * second + second**2) ** 0.5

    difference = p_1 - p_2
    low, high = difference - reach(p_1 - low_1, high_2 - p_2), difference + reach(high_1 - p_1, p_2 - low_2)
    return [max(-1.0, low), min(1.0, high)]


def row_difference(
    base: Sequence[float],
    adapted: Sequence[float],
    *,
    binary: bool,
    clusters: Clusters = None,
    span: float | None = None,
) -> DifferenceJson:
    """The difference of the means of paired rows, adapted minus base: {value, interval, p, test}.

    `binary` rows are 0 and 1 (right or wrong): exact McNemar; they also have `gained` and `lost` in rows. Others: see
    `mean_p` and its `span` (None: the range of the values of both sides). With clusters, their number is included as
    `clusters`.
    """
    groups = len(set(clusters)) if clusters and is_clustered(clusters) else None
    if binary:
        before, after = [bool(value) for value in base], [bool(value) for value in adapted]
        gained = sum(new and not old for old, new in zip(before, after, strict=True))
        lost = sum(old and not new for old, new in zip(before, after, strict=True))
        p = mcnemar(before, after, clusters)
        difference: DifferenceJson = {
            "value": (sum(after) - sum(before)) / len(after),
            "interval": _agreeing(share_difference(before, after, clusters), p),
            "p": p,
            "test": "paired permutation of clusters" if groups else "exact McNemar",
            "gained": gained,
            "lost": lost,
        }
    else:
        value, interval = mean_difference(base, adapted, clusters)
        p = difference_p(base, adapted, clusters, span=span)
        difference = {
            "value": value,
            "interval": _agreeing(interval, p) if len(base) > 1 else None,
            "p": p,
            "test": MEAN_TEST + (" of clusters" if groups else ""),
        }
    if groups:
        difference["clusters"] = groups
    return difference


def _agreeing(interval: list[float], p: float) -> list[float]:
    """`interval`, extended to 0 if the test does not rule out 0: with few rows, the test is the stricter of the two."""
    return interval if p < LEVEL else [min(0.0, interval[0]), max(0.0, interval[1])]


ONE_MORE = "t with one more row that went the other way"
MEAN_TEST = f"paired permutation, {_EXCHANGES} exchanges, bootstrap-t, {RESAMPLES} draws, and {ONE_MORE}"


def bootstrap(
    counts: Mapping[str, np.ndarray], combine: Combine, clusters: Clusters = None
) -> tuple[dict[str, list[float] | None], dict[str, list[float] | None]]:
    """95% bootstrap intervals: of the value of each side, and of its difference to the first side.

    `counts` holds for each side what a row adds to the measure, shape (rows, k). All sides use the same bootstrap
    samples. Percentiles are widened for few rows (Hesterberg, 2015, "expanded percentile"). With fewer than 15 rows or
    clusters, the interval uses Student's t on leave-one-out changes (the jackknife) instead. A side without an interval
    (fewer than two rows, or no value in some draws) has None.
    """
    import numpy as np

    tables = {side: summed(table, clusters) for side, table in counts.items()}
    rows = len(next(iter(tables.values())))
    if rows < 2:
        return dict.fromkeys(counts), dict.fromkeys(list(counts)[1:])
    if rows < _FEWEST_DRAWN:
        return _without_each(tables, combine)
    rng = np.random.default_rng(SEED)
    # How often each row is drawn; its product with the counts gives the counts of the bootstrap corpus.
    sums: dict[str, list[np.ndarray]] = {side: [] for side in tables}
    for _ in range(0, RESAMPLES, 500):
        places = rng.integers(rows, size=(500, rows)) + rows * np.arange(500)[:, None]
        drawn = np.bincount(places.ravel(), minlength=500 * rows).reshape(500, rows).astype(np.float64)
        for side, table in tables.items():
            sums[side].append(drawn @ table)
    values = {side: combine(np.concatenate(batches)) for side, batches in sums.items()}
    first = next(iter(values.values()))
    later = {side: percentiles(value - first, rows) for side, value in list(values.items())[1:]}
    return {side: percentiles(value, rows) for side, value in values.items()}, later


def approximate_randomisation(
    base: np.ndarray, adapted: np.ndarray, combine: Combine, clusters: Clusters = None, *, unseen: bool = False
) -> float:
    """The two-sided p of a paired permutation test (Noreen, 1989) on any measure of summed counts, shape (rows, k).

    With up to 13 rows all exchanges of the two sides are tried, else 9999 random ones. `unseen` adds the t test of
    `mean_p` with one added row, on what each row adds to the difference (jackknife pseudo-values); that row may lose
    all that the better side has.
    """
    import numpy as np

    base, adapted = summed(base, clusters), summed(adapted, clusters)
    differs = (base != adapted).any(axis=1)
    # Rows with equal counts on both sides do not change under an exchange.
    before, after = base.sum(axis=0), adapted.sum(axis=0)
    moving = (adapted - base)[differs]
    rows = len(moving)
    if len(base) < 2 or not rows:
        return 1.0
    exact, total, swaps = _swaps(rows)
    difference = np.empty(total)
    at = 0
    for swapped in swaps:
        moved = swapped.astype(np.float64) @ moving
        exchanged = np.abs(combine(after - moved) - combine(before + moved))
        difference[at : at + len(exchanged)] = exchanged
        at += len(exchanged)
    seen = np.abs(combine(after[None]) - combine(before[None]))[0]
    if np.isnan(seen):
        return 1.0
    # Equal differences can differ in the last digit by the order of their sums. No value counts as extreme.
    extreme = int(np.sum(~(difference < seen - 1e-9 * max(1.0, seen))))
    p = extreme / total if exact else (extreme + 1) / (total + 1)
    if not unseen:
        return p
    sides = [(combine(table.sum(axis=0)[None]), combine(table.sum(axis=0) - table)) for table in (base, adapted)]
    change, without = (new - old for old, new in zip(*sides, strict=True))
    each = len(base) * change - (len(base) - 1) * without
    span = max(abs(float(whole[0])) for whole, _ in sides)
    return max(p, _two_sided(with_unseen(each, span))) if np.isfinite(each).all() else 1.0


def resampled(
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    value: Callable[[Sequence[str], Sequence[str]], float],
    resamples: int,
    clusters: Clusters = None,
) -> tuple[dict[str, list[float] | None], dict[str, list[float] | None], dict[str, float]]:
    """Like `bootstrap` and `approximate_randomisation`, for a value that is defined only for whole lists of texts.

    Returns the intervals of the sides, those of their differences to the first side, and the p of these.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    first, *later = answers
    place = cluster_numbers(clusters, len(references))
    members = [np.flatnonzero(place == number) for number in range(int(place.max()) + 1)]
    draws = [
        np.concatenate([members[number] for number in rng.integers(len(members), size=len(members))])
        for _ in range(resamples)
    ]
    values = {
        side: np.array([value([texts[i] for i in draw], [references[i] for i in draw]) for draw in draws])
        for side, texts in answers.items()
    }
    p = {}
    for side in later:
        seen = abs(value(answers[side], references) - value(answers[first], references))
        extreme = 0
        for swap in rng.integers(2, size=(resamples, len(members)), dtype=bool)[:, place]:
            pairs = list(zip(answers[first], answers[side], swap, strict=True))
            before = value([new if swapped else old for old, new, swapped in pairs], references)
            after = value([old if swapped else new for old, new, swapped in pairs], references)
            extreme += abs(after - before) >= seen - 1e-12
        p[side] = (extreme + 1) / (resamples + 1)
    changes = {side: percentiles(values[side] - values[first], len(members)) for side in later}
    return {side: percentiles(drawn, len(members)) for side, drawn in values.items()}, changes, p


def p_text(p: float) -> str:
    """`p` as text: p < .001, p = .034, p = .27."""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.lstrip('0')}" if p < 1 else "p = 1"


def with_unseen(sums: np.ndarray, span: float | None) -> tuple[float, float]:
    """The one-sided p of a mean below and above 0 by t, with one added row in the opposite direction: see `mean_p`."""
    import numpy as np
    from scipy.stats import t

    rows = len(sums)
    if rows < 2:
        return 1.0, 1.0
    if span is None and rows >= _SHOW_RARE:
        return 0.0, 0.0
    # With one row this many times as far in the opposite direction, rows that are all equal are just not a finding. A
    # kind of row that makes up more than the share `rare` is seen in 95% of cases; if it is rarer, the others must gain
    # less than `rare` of what it loses.
    bound = float(t.ppf(1 - LEVEL / 2, rows))
    times, rare = max(1.0, (rows - bound) / (1 + bound)), 1 - LEVEL ** (1 / rows)
    unseen = 1.001 * times * float(abs(sums).max()) if span is None else min(1.0, times * rare) * span
    scale = max(unseen, float(abs(sums).max()))
    if not scale > 0:
        return 1.0, 1.0

    def seen(extra: float) -> float:
        more = np.append(sums, extra) / scale
        spread = float(more.std(ddof=1))
        return float(more.mean()) / (spread / math.sqrt(rows + 1)) if spread > 0 else math.copysign(math.inf, extra)

    return float(t.cdf(seen(unseen), rows)), float(t.sf(seen(-unseen), rows))


def value_range(base: np.ndarray, adapted: np.ndarray) -> float | None:
    """The range of the values of both sides, 1 for values in 0 to 1. None if one side is constant and does not show how
    far values reach."""
    import numpy as np

    values = np.concatenate([base, adapted])
    if not len(values):
        return None
    if values.min() >= 0 and values.max() <= 1:
        return 1.0
    alike = min(float(np.ptp(base)), float(np.ptp(adapted))) <= 1e-12 * float(abs(values).max())
    return None if alike else float(np.ptp(values))


def exchange_tails(sums: np.ndarray) -> tuple[float, float]:
    """The one-sided p of a sum below and above 0, if each summand could equally have the opposite sign."""
    import numpy as np

    size = abs(sums).max() if len(sums) else 0.0
    if not size > 0:
        return 1.0, 1.0
    # Losses of 1e300 would overflow; zero differences do not matter.
    moving = sums[sums != 0] / size
    total = moving.sum()
    exact, count, swaps = _swaps(len(moving))
    sums_by_chance = np.concatenate([total - 2 * (swapped.astype(np.float64) @ moving) for swapped in swaps])
    slack = 1e-9 * max(1.0, abs(moving).sum())
    low, high = int((sums_by_chance <= total + slack).sum()), int((sums_by_chance >= total - slack).sum())
    return (low / count, high / count) if exact else ((low + 1) / (count + 1), (high + 1) / (count + 1))


def bootstrap_t(sums: np.ndarray) -> tuple[float, float]:
    """The one-sided p of a mean below and above 0 by the bootstrap-t; by t for fewer than 6 or very many rows."""
    import numpy as np
    from scipy.stats import t

    rows = len(sums)
    if rows < 2:
        return 1.0, 1.0
    size = float(abs(sums).max())
    scaled = sums / size if size > 0 else sums
    mean, spread = float(scaled.mean()), float(scaled.std(ddof=1))
    if not spread > 1e-12:
        # Equal values say nothing about spread: only the sign-flip test decides.
        return (0.0, 1.0) if mean < 0 else (1.0, 0.0) if mean > 0 else (1.0, 1.0)
    seen = mean / (spread / math.sqrt(rows))
    if rows < 6 or rows > _MOST_STUDENTISED:
        return float(t.cdf(seen, rows - 1)), float(t.sf(seen, rows - 1))
    rng = np.random.default_rng(SEED)
    drawn = scaled[rng.integers(rows, size=(RESAMPLES, rows))] - mean
    # Bootstrap samples of nearly equal rows have no spread: without a floor they would be infinitely extreme.
    spreads = np.maximum(drawn.std(axis=1, ddof=1), spread / 3)
    ratios = drawn.mean(axis=1) / (spreads / math.sqrt(rows))
    low, high = int((ratios <= seen).sum()), int((ratios >= seen).sum())
    return (low + 1) / (RESAMPLES + 1), (high + 1) / (RESAMPLES + 1)


def _two_sided(tails: tuple[float, float]) -> float:
    return min(1.0, 2 * min(tails))


def _swaps(rows: int) -> tuple[bool, int, Any]:
    """Whether all exchanges of `rows` are enumerated, their number, and batches of them, shape (m, rows)."""
    import numpy as np

    exact = rows <= 13
    total = 2**rows if exact else _EXCHANGES
    rng = np.random.default_rng(SEED)

    def batches() -> Any:
        # In batches: all exchanges of many rows at once would fill the memory.
        for start in range(0, total, 500):
            stop = min(start + 500, total)
            if exact:
                yield (np.arange(start, stop)[:, None] >> np.arange(rows)) & 1
            else:
                yield rng.integers(2, size=(stop - start, rows), dtype=np.int8)

    return exact, total, batches()


def draw_sums(table: np.ndarray, clusters: Clusters = None) -> np.ndarray:
    """`table`, shape (rows, k), summed over each of 2000 bootstrap samples of its rows (or clusters): (2000, k)."""
    import numpy as np

    table = summed(table, clusters)
    draws = np.random.default_rng(SEED).integers(len(table), size=(RESAMPLES, len(table)))
    return table[draws].sum(axis=1)


def percentiles(values: np.ndarray, rows: int) -> list[float] | None:
    """The 95% interval of bootstrap `values` of that many rows or clusters (2 and more), widened for few ones. None if
    one of them is not a number."""
    import numpy as np
    from scipy.stats import norm, t

    if not np.isfinite(values).all():
        return None
    # Bootstrap percentiles use the spread of the sample, which is too narrow by the factor from t and n - 1.
    tail = float(norm.cdf(-math.sqrt(rows / (rows - 1)) * t.ppf(1 - LEVEL / 2, rows - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def _without_each(
    tables: Mapping[str, np.ndarray], combine: Combine
) -> tuple[dict[str, list[float] | None], dict[str, list[float] | None]]:
    """Like `bootstrap`, by the jackknife and Student's t (Efron and Tibshirani, 1993, chapter 11)."""
    import numpy as np
    from scipy.stats import t

    def interval(whole: np.ndarray, without: np.ndarray, *, side: bool) -> list[float] | None:
        rows = len(without)
        all_values = np.append(whole, without)
        if not np.isfinite(all_values).all():
            return None
        error = math.sqrt((rows - 1) / rows * float(((without - without.mean()) ** 2).sum()))
        half = float(t.ppf(1 - LEVEL / 2, rows - 1)) * error
        low, high = float(whole[0]) - half, float(whole[0]) + half
        # The interval of a nonnegative value must not go below 0.
        return [max(0.0, low) if side and (all_values >= 0).all() else low, high]

    values = {}
    for name, table in tables.items():
        total = table.sum(axis=0, keepdims=True)
        values[name] = combine(total), combine(total - table)
    first = next(iter(values.values()))
    sides = {name: interval(*whole_and_parts, side=True) for name, whole_and_parts in values.items()}
    rest = list(values.items())[1:]
    return sides, {name: interval(whole - first[0], without - first[1], side=False) for name, (whole, without) in rest}


def is_clustered(clusters: Clusters) -> bool:
    return clusters is not None and len(set(clusters)) < len(clusters)


def cluster_numbers(clusters: Clusters, rows: int) -> np.ndarray:
    """The cluster number of each row, from 0, in order of appearance."""
    import numpy as np

    if clusters is None:
        return np.arange(rows)
    if len(clusters) != rows:
        raise ValueError(f"{len(clusters)} cluster keys for {rows} rows: they must be paired")
    known = {key: place for place, key in enumerate(dict.fromkeys(clusters))}
    return np.array([known[key] for key in clusters], dtype=np.int64)


def summed(rows: Any, clusters: Clusters) -> np.ndarray:
    """Rows, of shape (rows,) or (rows, k), summed by cluster."""
    import numpy as np

    table = np.asarray(rows, dtype=np.float64)
    if not is_clustered(clusters):
        return table
    place = cluster_numbers(clusters, len(table))
    sums = np.zeros((int(place.max()) + 1, *table.shape[1:]))
    np.add.at(sums, place, table)
    return sums


def fewest_rows(clusters: Clusters, rows: int) -> float:
    """The effective number of clustered rows if all rows of a cluster are equal (Kish, 1965)."""
    if clusters is None:
        return float(rows)
    from collections import Counter

    return rows**2 / sum(size**2 for size in Counter(clusters).values())


def _worth(deviations: Sequence[float], variance: float, clusters: Clusters) -> float:
    """The effective number of clustered rows: rows divided by the design effect (Korn and Graubard, 1998).

    `deviations` are those of the rows from their mean, `variance` is that of independent rows. Between the result of
    `fewest_rows` and the number of rows; if no row deviates, `fewest_rows`.
    """
    from scipy.stats import t

    rows = len(deviations)
    if not is_clustered(clusters):
        return float(rows)
    fewest = fewest_rows(clusters, rows)
    sums = summed(deviations, clusters)
    count = len(sums)
    between = float((sums**2).sum()) * count / max(1, count - 1) / rows**2
    if variance <= 0 or between <= 0:
        return fewest
    # Few clusters estimate their spread poorly, as t accounts for with few rows.
    few = (t.ppf(1 - LEVEL / 2, rows - 1) / t.ppf(1 - LEVEL / 2, max(1, count - 1))) ** 2
    return min(float(rows), max(min(fewest, float(count)) * few, few * variance / between))
