"""Shares of values that belong together: intervals and tests that know it, against hand calculations and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact, t

from ftlab.evaluation.clusters import clustered_share, majorities, same_share, sign_flip


def test_values_of_their_own_have_wilsons_interval():
    expected = binomtest(15, 20).proportion_ci(method="wilson")
    assert clustered_share([True] * 15 + [False] * 5, range(20)) == pytest.approx([expected.low, expected.high])
    assert clustered_share([], []) is None


def test_clusters_that_say_the_same_thing_count_once():
    # Four clusters of ten alike, three right: the jackknife variance of a mean of four is 3/4 * 1/4 / 3, so that 40
    # values are worth three; Student's t with three degrees of freedom takes more of that.
    right, keys = [True] * 30 + [False] * 10, [n // 10 for n in range(40)]
    low, high = clustered_share(right, keys)
    worth, z = 3 * (1.959964 / t.ppf(0.975, 3)) ** 2, 1.959964
    middle, half = 0.75 + z * z / (2 * worth), z * math.sqrt(0.1875 / worth + z * z / (4 * worth**2))
    assert [low, high] == pytest.approx(
        [(middle - half) / (1 + z * z / worth), (middle + half) / (1 + z * z / worth)], abs=1e-5
    )
    # All alike: what is known is one value of each cluster.
    assert clustered_share([True] * 40, keys)[0] < binomtest(4, 4).proportion_ci(method="wilson").low


def test_the_sign_flip_is_exact_and_never_finds_anything_among_five_clusters():
    assert sign_flip([3, 1, 8, 2, 5, 9]) == pytest.approx(2 / 64)
    assert sign_flip([50] * 5) == pytest.approx(2 / 32) and sign_flip([]) == 1.0
    assert sign_flip([1, -1, 2, -2]) == 1.0
    assert sign_flip([1.0] * 12 + [-1.0] * 8) == pytest.approx(binomtest(12, 20).pvalue, abs=0.015)


def test_the_same_share_of_two_clusters_is_what_fishers_test_says():
    assert same_share([9, 3], [12, 12]) == pytest.approx(fisher_exact([[9, 3], [3, 9]]).pvalue, abs=0.01)
    assert same_share([3], [4]) == 1.0 and same_share([4, 4, 4], [8, 8, 8]) == 1.0


def test_a_cluster_that_is_even_is_in_no_majority():
    assert majorities([True, True, False, True, False, False], [1, 1, 2, 3, 3, 2]) == (1, 1)


@pytest.mark.parametrize(
    ("raters", "prompts", "taste", "spread", "both"),
    [(3, 8, 0.0, 1.5, False), (5, 12, 0.0, 50.0, False), (3, 20, 1.0, 1.0, True), (5, 15, 0.7, 1.0, True)],
)
def test_the_interval_holds_the_truth_in_95_of_100_samples(raters, prompts, taste, spread, both):
    """Votes by raters of different taste on prompts that differ; the truth is what all raters say of all prompts."""
    rng, held, samples = np.random.default_rng(1), 0, 250
    for _ in range(samples):
        leans = taste * rng.standard_normal((raters, 1)) + spread * rng.standard_normal(prompts)
        won = (rng.random((raters, prompts)) < 1 / (1 + np.exp(-leans))).ravel().tolist()
        keys = np.tile(np.arange(prompts), raters).tolist(), np.repeat(np.arange(raters), prompts).tolist()
        low, high = clustered_share(won, *keys[: 1 + both])
        held += low <= 0.5 <= high
    assert held / samples >= 0.94
