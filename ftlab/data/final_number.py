"""Answers that reason and end in a number, as those of GSM8K do: "#### 18", "The answer is 18."."""

from __future__ import annotations

import math
import re

# Not inside a word or after a digit, so that the minus of 3-5 is no sign.
NUMBER = re.compile(r"(?<![\w.])[-−+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BEFORE = (
    r"(?:####|\\boxed\{|(?:final |correct )?answer(?: is)?\s*[:=]?|(?:die )?antwort(?: ist)?\s*:?|therefore,?|so,?|=)"
)
_MARKED = re.compile(
    rf"{_BEFORE}\s*[*$€£\\({{\[]*\s*({NUMBER.pattern})\s*(?:%|°?[^\W\d]{{1,12}})?[\s.*$)\]}}\\]*$", re.IGNORECASE
)
_STRONG = re.compile(rf"(?:####|\\boxed\{{)\s*\$?\s*({NUMBER.pattern})")
FINAL_NUMBER_RULE = "the number after the last #### or \\boxed{, else the last number; compared by value"


def number_of(text: str) -> float | None:
    """The value of a number as it is written, with commas between thousands; None when it is none or not finite."""
    value = float(text.replace(",", "").replace("−", "-"))
    return value if math.isfinite(value) else None


def final_number(text: str) -> float | None:
    """The number that a longer answer ends in, behind a mark such as #### or "the answer is"; else None.

    An answer that is nothing but a number is another kind (an estimate, a rating), and is None here.
    """
    lines = text.strip().splitlines()
    if not lines:
        return None
    # Only the end is looked at: texts are of any length.
    found = _MARKED.search(lines[-1][-200:])
    if not found or not text.strip()[: -len(found.group())].strip():
        return None
    return number_of(found.group(1))


def last_number(text: str) -> float | None:
    """The number that `text` names as its answer: behind the last #### or \\boxed{, else the one that it ends in, else
    the last one in it; None when there is none."""
    marked = _STRONG.findall(text)
    if marked:
        return number_of(marked[-1])
    ends_in = final_number(text)
    if ends_in is not None:
        return ends_in
    found = NUMBER.findall(text)
    return number_of(found[-1]) if found else None


def same_final_number(answer: str, reference: str) -> float | None:
    """1 or 0: whether the answer ends in the number of the reference; None when the reference has no number."""
    wanted, given = last_number(reference), last_number(answer)
    if wanted is None:
        return None
    return float(given is not None and math.isclose(given, wanted, rel_tol=1e-9, abs_tol=1e-9))
