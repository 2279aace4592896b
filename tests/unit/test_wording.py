"""How durations and sentences read."""

from __future__ import annotations

import pytest

from ftlab.wording import duration, sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (95, "1 min 35 s"),
        (3599.6, "1 h 00 min"),
        (3700, "1 h 01 min"),
        (47 * 3600, "47 h 00 min"),
        (72 * 3600, "3 days"),
    ],
)
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "ended"), [(" Try it ", "Try it."), ("Why?", "Why?"), ("so on …", "so on …"), ("Given:", "Given:")]
)
def test_a_sentence_has_one_end(text, ended):
    assert sentence(text) == ended
