"""Shares of clustered votes or answers: several per prompt, many per rater, or both.

clustered_share(won, prompts)            prompts are a sample, raters are fixed
clustered_share(won, prompts, raters)    both are samples: what another rater would say about another prompt
sign_flip(net)                          the p of the mean of a few clusters, whatever their distribution

`tests/benchmarks/calibration_votes.py` measures how often the intervals hold and the tests are wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ftlab.evaluation.significance import LEVEL, SEED, cluster_numbers, wilson_interval

if TYPE_CHECKING:
    import numpy as np

_EXACT_CLUSTERS = 13
_FLIPS = 9999


def clustered_share(right: Sequence[bool], *clusters: Sequence[Hashable], level: float = LEVEL) -> list[float] | None:
    """The 1 - `level` interval of the share of `right`, as [low, high] in 0 to 1. None without values.

    `clusters` holds one or two keys for each value; a way with only one cluster is treated as fixed. Uses Wilson's
    interval at the effective number of values (Korn and Graubard, Survey Methodology 24, 1998). Their variance is the
    jackknife that leaves out clusters, summed over both ways (MacKinnon, Nielsen and Webb, Jackknife inference with
    two-way clustering, 2024). Student's t has one degree of freedom less than the fewest clusters. If all values are
    equal, the clusters count instead of the values, since the similarity within a cluster is then unknown.
    """
    import numpy as np
    from scipy.stats import norm, t

    value = np.asarray(right, dtype=float)
    ways = [cluster_numbers(keys, len(right)) for keys in clusters]
    ways = [way for way in ways if len(way) and way.max()] or ways[:1]
    if not len(value) or all(way.max() + 1 == len(value) for way in ways):
        return wilson_interval(float(value.sum()), len(value), level)
    mean, count = float(value.mean()), len(value)
    sizes = [int(way.max()) + 1 for way in ways]
    variances = [float(jackknife_variance(*_won_of(value, way))) for way in ways]
    variance = max(sum(variances) - (len(ways) - 1) * mean * (1 - mean) / max(count - 1, 1), *variances, 0.0)
    effective: float = min(mean * (1 - mean) / variance, count) if variance > 1e-12 else max(sizes)
    if min(sizes) > 1:
        effective *= float(norm.ppf(1 - level / 2) / t.ppf(1 - level / 2, min(sizes) - 1)) ** 2
    return wilson_interval(mean * effective, effective, level)


def jackknife_variance(won: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The delete-one-cluster variance of sum(won) / sum(count). Both have shape (..., clusters), the result (...)."""
    import numpy as np

    all_won, all_count = won.sum(axis=-1, keepdims=True), count.sum(axis=-1, keepdims=True)
    rest, mean = all_count - count, all_won / all_count
    without = np.where(rest > 0, (all_won - won) / np.maximum(rest, 1), mean)
    clusters = (count > 0).sum(axis=-1)
    return (clusters - 1) / clusters * ((without - mean) ** 2).sum(axis=-1)


def sign_flip(net: Sequence[float]) -> float:
    """The two-sided p of the sum of `net`, one number per cluster, by flipping signs (R. A. Fisher, 1935).

    Exact up to 13 clusters if each is as likely to be above zero as below by the same amount, however far apart they
    are. With fewer than 6 it is never below .05.
    """
    import numpy as np

    sums = np.asarray(net, dtype=float)
    if not len(sums):
        return 1.0
    if len(sums) <= _EXACT_CLUSTERS:
        signs = ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1) * 2.0 - 1
    else:
        signs = np.random.default_rng(SEED).integers(2, size=(_FLIPS, len(sums))) * 2.0 - 1
    extreme = int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum())
    return extreme / len(signs) if len(sums) <= _EXACT_CLUSTERS else (extreme + 1) / (_FLIPS + 1)


def same_share(won: Sequence[int], count: Sequence[int]) -> float:
    """The p of "all clusters have the same share": a chi-square statistic among 9999 draws with the same totals from
    the multivariate hypergeometric distribution. Values that are alike across clusters increase it."""
    import numpy as np

    some = np.asarray([(w, n) for w, n in zip(won, count, strict=True) if n], dtype=np.int64).reshape(-1, 2)
    if len(some) < 2:
        return 1.0
    wins, sizes = some.T
    expected = sizes * (wins.sum() / sizes.sum())
    draws = np.random.default_rng(SEED)
    drawn = draws.multivariate_hypergeometric(sizes, int(wins.sum()), size=_FLIPS, method="marginals")
    seen = ((wins - expected) ** 2 / sizes).sum()
    return (int((((drawn - expected) ** 2 / sizes).sum(axis=1) >= seen - 1e-9).sum()) + 1) / (_FLIPS + 1)


def majorities(right: Sequence[bool], clusters: Sequence[Hashable]) -> tuple[int, int]:
    """The number of clusters in which most values are not `right`, and in which most are. An even split counts in
    neither."""
    net: dict[Hashable, int] = {}
    for value, key in zip(right, clusters, strict=True):
        net[key] = net.get(key, 0) + (1 if value else -1)
    return sum(balance < 0 for balance in net.values()), sum(balance > 0 for balance in net.values())


def _won_of(value: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.bincount(way, weights=value), np.bincount(way).astype(float)
