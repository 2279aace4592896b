"""Is a difference more than chance? Intervals and paired tests, all by scipy and sacrebleu."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    # From summed counts, shape (m, k), to m values of a measure; nan where there is none.
    Combine = Callable[[np.ndarray], np.ndarray]

RESAMPLES = 1000
SEED = 0
LEVEL = 0.05


def wilson_interval(right: int, rows: int) -> list[float] | None:
    """The 95% Wilson interval of a share (E. B. Wilson, 1927), as [low, high] in 0 to 1; None without rows."""
    from scipy.stats import binomtest

    if not rows:
        return None
    interval = binomtest(right, rows).proportion_ci(confidence_level=1 - LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]


def mcnemar(base: Sequence[bool], adapted: Sequence[bool]) -> float:
    """The two-sided p of the exact McNemar test: a binomial test on the rows that only one side got right."""
    from scipy.stats import binomtest

    gained = sum(new and not old for old, new in zip(base, adapted, strict=True))
    lost = sum(old and not new for old, new in zip(base, adapted, strict=True))
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def loss_difference(base: Sequence[float], adapted: Sequence[float]) -> float:
    """The two-sided p of a paired permutation test on the sum of rows.

    With the summed losses of the same rows over the same tokens, what is tested is exactly the difference of the corpus
    perplexities. The smallest p that 9999 random exchanges can give is .0001.
    """
    import numpy as np

    sides = (np.asarray(side, dtype=np.float64)[:, None] for side in (base, adapted))
    return approximate_randomisation(*sides, lambda sums: sums[:, 0])


def perplexity_interval(nll: Sequence[float], tokens: Sequence[int]) -> list[float]:
    """The 95% percentile bootstrap interval of the corpus perplexity, rows drawn with replacement."""
    import numpy as np

    losses, counts = np.asarray(nll, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    draws = np.random.default_rng(SEED).integers(len(losses), size=(RESAMPLES, len(losses)))
    means = losses[draws].sum(axis=1) / np.maximum(counts[draws].sum(axis=1), 1)
    low, high = np.exp(np.minimum(np.percentile(means, [2.5, 97.5]), 700.0))
    return [float(low), float(high)]


def mean_difference(base: Sequence[float], adapted: Sequence[float]) -> tuple[float, list[float]]:
    """The mean of `adapted` minus `base` over paired rows, and its 95% percentile bootstrap interval [low, high]."""
    import numpy as np

    differences = np.asarray(adapted, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    draws = np.random.default_rng(SEED).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    return float(differences.mean()), [float(low), float(high)]


def share_difference(base: Sequence[bool], adapted: Sequence[bool]) -> list[float]:
    """The 95% interval of the difference of two paired shares, adapted minus base, as [low, high] in -1 to 1.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635-2650): built of Wilson intervals, so that it does not
    shrink to a point where no row differs.
    """
    pairs = list(zip(base, adapted, strict=True))
    rows = len(pairs)
    both, only_new = sum(old and new for old, new in pairs), sum(new and not old for old, new in pairs)
    only_old = sum(old and not new for old, new in pairs)
    neither = rows - both - only_new - only_old
    after, before = both + only_new, both + only_old
    (low_1, high_1), (low_2, high_2) = wilson_interval(after, rows), wilson_interval(before, rows)
    p_1, p_2 = after / rows, before / rows
    margins = after * (rows - after) * before * (rows - before)
    excess = both * neither - only_new * only_old
    # The continuity correction of the paper, for positive correlation only.
    excess = max(excess - rows / 2, 0) if excess > 0 else excess
    phi = excess / margins**0.5 if margins else 0.0

    def spread(first: float, second: float) -> float:
        return max(0.0, first**2 - 2 * phi * first * second + second**2) ** 0.5

    difference = p_1 - p_2
    low, high = difference - spread(p_1 - low_1, high_2 - p_2), difference + spread(high_1 - p_1, p_2 - low_2)
    return [max(-1.0, low), min(1.0, high)]


def share_interval(right: Sequence[float]) -> list[float] | None:
    """The Wilson interval of the share of ones among `right` (0 and 1)."""
    return wilson_interval(int(sum(right)), len(right))


def mean_interval(values: Sequence[float]) -> list[float] | None:
    """The 95% percentile bootstrap interval of a mean; None for fewer than two values."""
    return mean_difference([0.0] * len(values), values)[1] if len(values) > 1 else None


def row_difference(base: Sequence[float], adapted: Sequence[float], *, binary: bool) -> dict[str, Any]:
    """The difference of the means of paired rows, adapted minus base: {value, interval, p, test}.

    `binary` rows are 0 and 1 (right or wrong): exact McNemar. Others: paired permutation.
    """
    if binary:
        before, after = [bool(value) for value in base], [bool(value) for value in adapted]
        value = (sum(after) - sum(before)) / len(after)
        p, interval = mcnemar(before, after), share_difference(before, after)
        return {"value": value, "interval": interval, "p": p, "test": "exact McNemar"}
    value, interval = mean_difference(base, adapted)
    p = loss_difference(base, adapted)
    return {
        "value": value,
        "interval": interval if len(base) > 1 else None,
        "p": p,
        "test": "paired permutation, 9999 resamples",
    }


def bootstrap(
    counts: Mapping[str, np.ndarray], combine: Combine
) -> tuple[dict[str, list[float] | None], dict[str, list[float] | None]]:
    """95% percentile bootstrap intervals: of the value of each side, and of its difference to the first side.

    `counts` holds for each side what a row adds to the measure, shape (rows, k); all sides are drawn with the same
    rows. A side without an interval (fewer than two rows, or no value in some draws) has None.
    """
    import numpy as np

    rows = len(next(iter(counts.values())))
    if rows < 2:
        return dict.fromkeys(counts), dict.fromkeys(list(counts)[1:])
    rng = np.random.default_rng(SEED)
    # How often each row is drawn: its product with the counts is the counts of the drawn corpus.
    drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES).astype(np.float64)
    values = {side: combine(drawn @ table) for side, table in counts.items()}
    first = next(iter(values.values()))
    later = {side: _percentiles(value - first) for side, value in list(values.items())[1:]}
    return {side: _percentiles(value) for side, value in values.items()}, later


def approximate_randomisation(base: np.ndarray, adapted: np.ndarray, combine: Combine) -> float:
    """The two-sided p of a paired permutation test (Noreen, 1989) on any measure of summed counts, shape (rows, k).

    With up to 13 rows all exchanges of the two sides are tried, else 9999 random ones.
    """
    import numpy as np

    rows = len(base)
    if rows < 2:
        return 1.0
    exact = rows <= 13
    rng = np.random.default_rng(SEED)
    total = 2**rows if exact else 9999
    difference = np.empty(total)
    # A batch at a time: all exchanges of many rows at once would fill the memory.
    for start in range(0, total, 500):
        stop = min(start + 500, total)
        if exact:
            swapped = (np.arange(start, stop)[:, None] >> np.arange(rows)) & 1
        else:
            swapped = rng.integers(2, size=(stop - start, rows), dtype=np.int8)
        moved = swapped.astype(np.float64) @ (adapted - base)
        difference[start:stop] = np.abs(combine(adapted.sum(axis=0) - moved) - combine(base.sum(axis=0) + moved))
    seen = np.abs(combine(adapted.sum(axis=0)[None]) - combine(base.sum(axis=0)[None]))[0]
    if np.isnan(seen):
        return 1.0
    # Equal differences can differ in the last digit by the order of their sums; without a value counts as extreme.
    extreme = int(np.sum(~(difference < seen - 1e-9 * max(1.0, seen))))
    return extreme / total if exact else (extreme + 1) / (total + 1)


def resampled(
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    value: Callable[[Sequence[str], Sequence[str]], float],
    resamples: int,
) -> tuple[dict[str, list[float] | None], dict[str, list[float] | None], dict[str, float]]:
    """As `bootstrap` and `approximate_randomisation`, for a value that is known of whole lists of texts only.

    Returns the intervals of the sides, those of their differences to the first side, and the p of these.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    first, *later = answers
    draws = rng.integers(len(references), size=(resamples, len(references)))
    values = {
        side: np.array([value([texts[i] for i in draw], [references[i] for i in draw]) for draw in draws])
        for side, texts in answers.items()
    }
    p = {}
    for side in later:
        seen = abs(value(answers[side], references) - value(answers[first], references))
        extreme = 0
        for swap in rng.integers(2, size=(resamples, len(references)), dtype=bool):
            pairs = list(zip(answers[first], answers[side], swap, strict=True))
            before = value([new if swapped else old for old, new, swapped in pairs], references)
            after = value([old if swapped else new for old, new, swapped in pairs], references)
            extreme += abs(after - before) >= seen - 1e-12
        p[side] = (extreme + 1) / (resamples + 1)
    changes = {side: _percentiles(values[side] - values[first]) for side in later}
    return {side: _percentiles(drawn) for side, drawn in values.items()}, changes, p


def _percentiles(values: np.ndarray) -> list[float] | None:
    import numpy as np

    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def sacrebleu_p(metric: Any, answers: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, float]:
    """The p of sacrebleu's paired bootstrap (Koehn, 2004) for each later side against the first one."""
    from sacrebleu.significance import PairedTest

    systems = [(side, list(texts)) for side, texts in answers.items()]
    if len(references) < 2 or len(systems) < 2:
        return {side: 1.0 for side, _ in systems[1:]}
    test = PairedTest(systems, {"metric": metric}, [list(references)], test_type="bs", n_samples=RESAMPLES)
    _, scores = test()
    # The key is sacrebleu's own name of the metric; "System" holds the names of the sides.
    [results] = [found for name, found in scores.items() if name != "System"]
    # Where there is no difference at all sacrebleu counts no draw beyond it, and gives the smallest p there is.
    return {
        side: float(result.p_value) if result.score != results[0].score else 1.0
        for (side, _), result in zip(systems[1:], results[1:], strict=True)
    }


def p_text(p: float) -> str:
    """`p` as it is written in a sentence: p < .001, p = .034, p = .27."""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.lstrip('0')}" if p < 1 else "p = 1"
