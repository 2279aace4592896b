"""Is a difference more than chance? Intervals and paired tests, all by scipy and sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence

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
    """The two-sided p of a paired permutation test on the summed loss of the corpus.

    `base` and `adapted` are the summed losses of the same rows over the same tokens. What is tested is then exactly
    the difference of the corpus perplexities. The smallest p that 9999 random sign flips can give is .0002.
    """
    import numpy as np
    from scipy.stats import permutation_test

    if len(base) < 2:
        return 1.0
    result = permutation_test(
        (np.asarray(adapted, dtype=np.float64), np.asarray(base, dtype=np.float64)),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=256,
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


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


def bleu_difference(
    base: Sequence[str], adapted: Sequence[str], references: Sequence[str]
) -> tuple[float, list[float], list[float]]:
    """The p of sacrebleu's paired bootstrap (Koehn, 2004) on BLEU, and both 95% intervals in points of 0 to 100."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    # The key is the name of the metric in sacrebleu's result.
    test = PairedTest(
        [("base", list(base)), ("adapted", list(adapted))],
        {"BLEU": BLEU(force=True)},
        [list(references)],
        test_type="bs",
        n_samples=RESAMPLES,
    )
    before, after = test()[1]["BLEU"]
    low_high = [[max(0.0, float(r.mean - r.ci)), min(100.0, float(r.mean + r.ci))] for r in (before, after)]
    return float(after.p_value), *low_high


def p_text(p: float) -> str:
    """`p` as it is written in a sentence: p < .001, p = .034, p = .27."""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.lstrip('0')}" if p < 1 else "p = 1"
