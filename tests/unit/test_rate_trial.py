"""Which rate a trial takes, by losses that one can work out on paper."""

from __future__ import annotations

import math

import pytest

from ftlab.training.preflight.rate_trial import decide, rates_to_try

BEFORE = [4.0, 4.2, 3.8, 4.0] * 4
NOISE = [0.3, -0.3, 0.2, -0.2] * 4


def shifted(mean, noise=0.0):
    return [mean + noise * one for one in NOISE]


def test_the_rates_stand_at_equal_distances_around_the_usual_one():
    assert rates_to_try(3e-4) == [1e-4, 3e-4, pytest.approx(9e-4)]
    assert rates_to_try(0.05) == [0.017, 0.05, 0.1]  # no rate above what a run may have


def test_a_rate_that_is_clearly_better_is_taken():
    found = decide({"0.1": shifted(2.0), "0.3": shifted(1.5), "0.9": shifted(1.0)}, BEFORE, usual=0.3, steps=8)
    assert (found.taken, found.clear) == (0.9, True)
    assert "0.9 is better than the usual 0.3 after 8 steps, on 16 validation rows" in found.text


def test_where_the_rows_disagree_the_usual_rate_is_kept():
    # The mean is lower by 0.1; the paired differences scatter by 1.05, so their standard error is 0.26.
    losses = {"0.1": shifted(2.0), "0.3": shifted(1.5), "0.9": shifted(1.4, noise=4)}
    found = decide(losses, BEFORE, usual=0.3, steps=8)
    assert (found.taken, found.clear) == (0.3, False)
    assert found.text.startswith("Cannot tell")


def test_a_difference_of_less_than_a_hundredth_is_no_reason_to_change():
    found = decide({"0.3": shifted(1.5), "0.9": shifted(1.49)}, BEFORE, usual=0.3, steps=8)
    assert (found.taken, found.clear) == (0.3, False)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 4.5])
def test_a_rate_that_diverges_is_never_taken(loss):
    found = decide({"0.1": shifted(2.0), "0.3": [loss] * 16, "0.9": [loss] * 16}, BEFORE, usual=0.3, steps=8)
    assert [one.diverged for one in found.tried] == [False, True, True]
    assert found.taken == 0.1
    none = decide({"0.3": [loss] * 16}, BEFORE, usual=0.3, steps=8)
    assert none.taken is None and "diverged" in none.text
