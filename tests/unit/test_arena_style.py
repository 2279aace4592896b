"""The preference at equal style: what is counted, what is separated, and what cannot be told."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.special import expit

from ftlab.arena.ballots import Ballot
from ftlab.arena.style import FEWEST_PROMPTS, equal_style, preference, style_of

TITLES = {"base": "Base", "tuned": "Tuned"}


def voted(prompts: int, likes_tuned: float, likes_long: float, seed: int = 0):
    """Votes of one rater with such log-odds, and the styles; Tuned's answers are longer on two of three prompts."""
    draw = random.Random(seed)
    ballots, styles = [], {}
    for n in range(prompts):
        longer = draw.random() < 2 / 3
        styles[str(n), "tuned"], styles[str(n), "base"] = ((90, 0, 0, 0), (30, 0, 0, 0))[:: 1 if longer else -1]
        won = draw.random() < expit(likes_tuned + likes_long * (0.5 if longer else -0.5))
        ballots.append(Ballot(str(n), "Ann", "base", "tuned", "right" if won else "left", float(n)))
    return ballots, styles


def test_the_signs_of_markdown_are_counted():
    text = "# Head\n\nTwo **bold** words, __so__:\n- one\n* two\n1. three\nnot-a-list 2*3*4"
    assert style_of(text) == (14, 3, 2, 1)
    assert style_of("") == (0, 0, 0, 0)


@pytest.mark.parametrize(("tuned", "long", "words"), [(0.0, 3.0, "cannot show"), (2.0, 0.0, "Raters prefer Tuned")])
def test_a_liking_of_long_answers_is_no_liking_of_who_writes_them(tuned, long, words):
    ballots, styles = voted(150, tuned, long)
    result = equal_style(ballots, styles, "base", "tuned", TITLES)
    low, high = result["interval"]
    assert low <= expit(tuned) <= high and result["features"] == ["words"]
    assert words in result["text"] and "words" in result["text"]


def test_what_is_always_longer_cannot_be_told_from_what_is_better():
    ballots, styles = voted(60, 1.0, 0.0)
    styles = {(prompt, who): ((60 + 20 * (int(prompt) % 3), 0, 0, 0) if who == "tuned" else (30, 0, 0, 0))
              for prompt, who in styles}  # fmt: skip
    result = equal_style(ballots, styles, "base", "tuned", TITLES)
    assert result["interval"][0] < 0.5 < result["interval"][1] and "cannot show" in result["text"]


def test_few_prompts_one_style_and_one_winner_are_no_fault():
    ballots, styles = voted(FEWEST_PROMPTS - 1, 1.0, 0.0)
    assert "It takes 20 prompts" in equal_style(ballots, styles, "base", "tuned", TITLES)["text"]
    ballots, styles = voted(30, 1.0, 0.0)
    same = dict.fromkeys(styles, (30, 0, 0, 0))
    assert "equally long" in equal_style(ballots, same, "base", "tuned", TITLES)["text"]
    longer = {(prompt, who): (30 if who == "base" else 40, 0, 0, 0) for prompt, who in styles}
    assert "by the same amount" in equal_style(ballots, longer, "base", "tuned", TITLES)["text"]
    won = [Ballot(b.prompt, "Ann", "base", "tuned", "right", b.created) for b in ballots]
    result = equal_style(won, styles, "base", "tuned", TITLES)
    assert result["interval"][0] > 0.5 and result["win_rate"] < 1  # finite, although one side won everything


def test_sides_can_be_exchanged():
    draws = np.random.default_rng(0)
    design = np.column_stack([np.ones(40), draws.normal(size=(40, 2))])
    votes = draws.integers(0, 3, size=(40, 2)) + np.array([0.0, 1.0])
    point, (low, high) = preference(design, votes)
    mirrored, (below, above) = preference(design * [1, -1, -1], votes[:, ::-1])
    assert (mirrored, below, above) == pytest.approx((1 - point, 1 - high, 1 - low), abs=1e-6)
