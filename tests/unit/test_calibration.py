"""The decisive cells of tests/benchmarks/calibration.py: how often a verdict is false, with fixed seeds."""

from __future__ import annotations

import pytest

from ftlab.evaluation import margins, significance
from tests.benchmarks.calibration import rate


@pytest.mark.parametrize("rows", [10, 20, 58, 59, 100, 200])
def test_a_loss_as_large_as_the_margin_is_called_kept_in_at_most_5_percent_of_cases(rows):
    import numpy as np
    from scipy.stats import binom

    # Which outcomes are called kept, then how likely they are, exactly, for every share of gained questions.
    most = {}
    for gained in range(min(rows, 25)):
        lost = -1
        while lost < rows - gained and margins.kept_of_counts(lost + 1, gained, rows, 0.05).answer == "kept":
            lost += 1
        most[gained] = lost
    called = {gained: lost for gained, lost in most.items() if lost >= 0}
    for share in np.linspace(0, 0.06, 40):
        said = sum(
            binom.pmf(gained, rows, share) * binom.cdf(lost, rows - gained, (share + 0.05) / (1 - share))
            for gained, lost in called.items()
        )
        assert said <= 0.05
    assert (0 in called) == (rows >= 59)


@pytest.mark.parametrize(
    ("cell", "rows", "draws", "most"),
    [
        # sacrebleu's bootstrap said 10 to 19% here. Binomial(60, .05) is at most 8 in 994 of 1,000 cases.
        ("BLEU, no difference", 20, 60, 8),
        ("BLEU, rows in fives, no difference", 50, 60, 8),
        ("exact match, rows in fives, no difference", 100, 200, 19),
        ("gained and lost, nothing changed", 20, 20, 4),
        ("MAE, three quarters refused, says better", 100, 30, 0),
        # 63, 39 and 8% before: what was not seen was taken not to be there.
        ("differences of no known span, one row in 20 at -19", 10, 100, 10),
        ("differences of no known span, one row in 20 at -19", 20, 100, 10),
        ("differences of no known span, one row in 20 at -19", 50, 100, 10),
        ("differences of no known span, lognormal", 10, 100, 10),
        ("mean in 0 to 1, one row in 20 loses .95", 20, 100, 10),
        ("mean in 0 to 1, one row in 10 loses .9", 20, 100, 10),
        ("losses, 2.5% lower, one in 20 47.5% higher", 10, 100, 10),
        ("interval of a mean, 3 clusters, misses", 50, 200, 19),
        ("interval of a mean, 6 clusters, misses", 50, 200, 19),
        ("forgetting by questions, none, says lost", 20, 200, 19),
        ("forgetting by bits, 5% more in a few texts, says kept", 100, 60, 8),
        ("kept, rows in fives, 5 points, says kept", 200, 120, 13),
        ("preferences, five pairs a prompt, a coin", 50, 200, 19),
    ],
)
def test_a_verdict_is_false_in_no_more_than_5_percent_of_cases(cell, rows, draws, most):
    assert round(rate(cell, rows, draws) * draws) <= most


@pytest.mark.parametrize(
    ("cell", "rows", "least"),
    [
        ("forgetting by questions, none, says kept", 200, 0.9),
        ("forgetting by questions, 15 points, says lost", 100, 0.8),
        ("forgetting by bits, none, says kept", 130, 0.9),
        ("MAE, error a third smaller", 200, 0.8),
        ("mean in 0 to 1, 60% of rows become right", 20, 0.9),
        ("losses, 30% lower", 20, 0.8),
    ],
)
def test_what_is_there_is_found(cell, rows, least):
    assert rate(cell, rows, 40) >= least


def test_holm_is_the_textbook_s():
    # Holm (1979): the smallest p counts as many times as there are p-values, the next one time less, none falls below.
    assert significance.holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert significance.holm([]) == []


def test_the_margin_test_of_shares_is_tangos():
    # Tango (1998), equation 6, by hand: 43 pairs alike, 1 lost, none gained. Without a gained pair q21 is 0, and the
    # score against a fall of 10 points is (1 - 4.4) / sqrt(44 * .1 * .9).
    import numpy as np

    score = margins._tango(np.array([1]), np.array([0]), 44, 0.1)[0]
    assert score == pytest.approx((1 - 4.4) / np.sqrt(44 * 0.09))


def test_a_cluster_is_one_row_where_its_rows_are_alike():
    right = [True] * 30 + [False] * 30
    clusters = [row // 6 for row in range(60)]
    # Ten clusters, five of them right: as wide as five of ten, or a little wider.
    low, high = significance.share_interval(right, clusters)
    alone_low, alone_high = significance.wilson_interval(5, 10)
    assert low <= alone_low + 0.01 and high >= alone_high - 0.01
    assert significance.mcnemar([False] * 30, [True] * 30, [row // 6 for row in range(30)]) == pytest.approx(2 / 32)
    with pytest.raises(ValueError, match="must be paired"):
        significance.loss_difference([1.0, 2.0], [2.0, 1.0], [1, 1, 2])
