"""Signs that learning from rewards goes wrong, on curves made by hand."""

from __future__ import annotations

import pytest

from ftlab.evaluation.generate import Answer
from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.significance import mean_difference
from ftlab.training.reinforcement import Measured, compare
from ftlab.training.signs import read_signs

STEPS = 24


def curve(**columns):
    """Rows of metrics.jsonl: each column grows evenly from its first to its second number, with a little noise."""
    noise = [0.01 * (-1) ** step for step in range(STEPS)]
    return [
        {"step": step}
        | {name: a + (b - a) * step / (STEPS - 1) + noise[step] * abs(b) for name, (a, b) in columns.items()}
        for step in range(STEPS)
    ]


HEALTHY = {
    "reward": (0.2, 0.8),
    "completion_length": (30, 33),
    "repetition": (0.02, 0.03),
    "kl": (0, 0.2),
    "reward_std": (0.4, 0.3),
    "flat_share": (0, 0.2),
}


def codes(rows, **settings):
    return [sign.code for sign in read_signs(rows, **settings)]


def test_a_healthy_run_is_not_warned_of():
    assert codes(curve(**HEALTHY)) == []


def test_a_reward_that_rises_with_the_length_is_warned_of_unless_length_is_wanted():
    rows = curve(**HEALTHY | {"completion_length": (20, 60)})
    assert codes(rows) == ["longer"]
    assert codes(rows, length_counts=True) == []
    assert codes(curve(**HEALTHY | {"completion_length": (20, 60), "reward": (0.5, 0.5)})) == []


def test_a_reward_that_rises_with_repetition_is_warned_of():
    assert codes(curve(**HEALTHY | {"repetition": (0.0, 0.6)})) == ["repeats"]


def test_answers_that_are_mostly_cut_are_warned_of_after_a_few_steps():
    assert codes(curve(**HEALTHY | {"cut_share": (0.3, 0.3)})) == []
    rows = curve(**HEALTHY | {"cut_share": (0.9, 0.9)})
    assert codes(rows) == ["cut"]
    assert codes(rows[:2]) == []
    (sign,) = read_signs(rows[:3])
    assert "90% of the sampled answers were cut" in sign.text and "max_new_tokens" in sign.text


def test_a_model_that_leaves_its_start_is_warned_of():
    assert codes(curve(**HEALTHY | {"kl": (0, 4)})) == ["kl"]


def test_answers_that_all_earn_the_same_are_warned_of():
    rows = curve(**HEALTHY | {"reward": (0, 0), "reward_std": (0, 0), "flat_share": (1, 1)})
    (sign,) = read_signs(rows)
    assert sign.code == "flat" and "0.00 on average" in sign.text
    without = {name: ends for name, ends in HEALTHY.items() if name != "flat_share"}
    assert codes(curve(**without | {"reward": (0, 0), "reward_std": (0, 0)})) == ["flat"]


def test_nothing_is_said_of_the_first_steps():
    assert codes(curve(**HEALTHY | {"kl": (4, 9), "flat_share": (1, 1)})[:7]) == []


def test_repetition_is_the_share_of_word_triples_that_were_there_before():
    assert repetition("one two three four") == 0
    assert repetition("two words") == 0
    # a b c, b c a, c a b, a b c, b c a, c a b: three of six were there before
    assert repetition("a b c a b c a b") == pytest.approx(0.5)


def test_the_difference_of_paired_rewards_has_its_interval():
    from scipy.stats import ttest_rel

    before = [0.1, 0.4, 0.3, 0.6, 0.2, 0.5, 0.35, 0.25, 0.45, 0.15] * 4
    after = [value + change for value, change in zip(before, [0.1, 0.3, 0.2, 0.25, 0.05] * 8, strict=True)]
    difference, (low, high) = mean_difference(before, after)
    assert difference == pytest.approx(0.18)
    expected = ttest_rel(after, before).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.006)
    assert mean_difference([0.5, 0.5], [1.0, 1.0]) == (0.5, [0.5, 0.5])


def test_the_comparison_holds_both_sides_and_each_reward():
    def side(rewards, cut):
        answers = [Answer("a b c d", 4, False), Answer("x", 1, cut)]
        return Measured(answers, {"json": rewards}, [2 * value for value in rewards])

    found = compare(side([0.0, 0.0], True), side([1.0, 0.0], False))
    assert found["rows"] == 2
    assert found["start"]["cut_share"] == 0.5 and found["adapted"]["cut_share"] == 0
    assert found["adapted"]["completion_length"] == 2.5
    assert found["difference"] == 1.0 and found["rewards"]["json"]["difference"] == 0.5
    assert found["interval"][0] <= 1.0 <= found["interval"][1]
