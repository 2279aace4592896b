"""Answers that are numbers, such as estimates."""

from __future__ import annotations

import re

from ftlab.data.final_number import NUMBER, find_number

NUMBER_RULE = (
    "the last number of the answer counts, by value; commas, apostrophes or unbroken spaces between thousands "
    "(ordinary ones where the number stands alone), a point before decimals (1.000 is 1); fractions, times, dates, "
    "ranges (10-20), decimal commas, and figures with a word or letter for thousands or millions (2 million, 2k) are "
    "no numbers"
)


def is_number(text: str) -> bool:
    """Whether `text` is one number, perhaps with a sign of currency before it or a short unit after it."""
    return bool(re.fullmatch(rf"[$€£]?\s*(?:{NUMBER.pattern})\s*(?:%|[^\W\d]{{1,8}}\.?)?", text.strip()))


def absolute_error(answer: str, reference: str) -> float | None:
    """How far the answer is from the reference; None when either has no number."""
    given, wanted = find_number(answer), find_number(reference)
    return None if given is None or wanted is None else abs(given - wanted)


def gives_number(answer: str, reference: str) -> float | None:
    """1 or 0: whether the answer has a number; None when the reference has none."""
    return None if find_number(reference) is None else float(find_number(answer) is not None)
