"""Answers that reason and end in a number, as those of GSM8K do: "#### 18", "The answer is 18."."""

from __future__ import annotations

import math
import re
from collections import deque

# Between thousands: a comma, an apostrophe or a space (also a narrow or unbroken one). In running text an ordinary
# space may as well stand between two numbers ("add 5 300 times").
_NARROW = ",'’\u00a0\u2007\u2009\u202f"
_GROUPS = f"[{_NARROW} ]"
# What makes of digits something else than a number: 1/2, 10:30, 1.2.3, 1,5 (one and a half, or two numbers?), 10^3.
_JOINTS = "[.,:/\u2044^_'’]"
_PARTS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215f"
# Digits that say a part of the number only: 2 million, 2k.
_SCALES = (
    r"(?i: ?(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|tausend|million|milliard|millón|mill|mio|mrd)"
    r"(?:s|e|en|n|es)?\b)|(?-i:[kKM]|bn|mn|mln|tn)\b"
)


def _number(groups: str) -> str:
    """A pattern of a number; not inside a word, after a digit, or in a range (10-20, $10–$20, 10 – 20)."""
    behind = rf"(?<![\w.])(?<!\d{_JOINTS})(?<!\d[-–−])(?<!\d[-–−][$€£])(?<!\d –)(?<!\d – )"
    digits = rf"[-−+]?(?:(?:[1-9]\d{{0,2}}(?:{groups}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    # 0x10 and 12ab3 are names; m2 is a unit.
    named = r"(?!(?:[cdkm]?m)[23]\b)[^\W\d_]+\d"
    ahead = rf"(?!\d|{_JOINTS}\d|[{_PARTS}]|\*\*\d|\s\d+[/\u2044]\d|[-–−][$€£]?\d| – ?[$€£]?\d|{_SCALES}|{named})"
    return behind + digits + ahead


NUMBER = re.compile(_number(_GROUPS))
_ALONE = re.compile(rf"[$€£]?\s*({NUMBER.pattern})\s*(?:%|[^\W\d]{{1,8}})?\.?")
# A number, or digits that are none and must not be read in parts.
_NUMBER_OR_NOT = re.compile(
    rf"(?<![\w.])[1-9]\d{{0,2}}(?: \d{{3}})+(?!\w)|({_number(f'[{_NARROW}]')})"
    rf"|\\d?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}"
    rf"|(?<![\w.])(?:\d+(?:(?:{_JOINTS}|\*\*|[-–−])\d+)+[{_PARTS}]?|\d*[{_PARTS}]+|\d\w*)"
)
_SIGNIFICANT = 15  # digits that a float tells apart; longer ones are names, such as the number of a card
_BEFORE = (
    r"(?:####|\\boxed\{|(?:final |correct )?answer(?: is)?\s*[:=]?|(?:die )?antwort(?: ist)?\s*:?|therefore,?|so,?|=)"
)
_MARKED = re.compile(
    rf"{_BEFORE}\s*[*$€£\\({{\[]*\s*({NUMBER.pattern})\s*(?:%|°?[^\W\d]{{1,12}})?[\s.*$)\]}}\\]*$", re.IGNORECASE
)
_STRONG = re.compile(rf"(?:####|\\boxed\{{)\s*\$?\s*({NUMBER.pattern})")
FINAL_NUMBER_RULE = (
    "the number after the last #### or \\boxed{, else the last number; compared by value; fractions, times, dates, "
    "ranges (10-20), and figures with a word or letter for thousands or millions (2 million, 2k) are no numbers"
)


def number_of(text: str) -> float | None:
    """The value of a number as it is written, with commas between thousands; None when it is none or not finite."""
    value = float(re.sub(_GROUPS, "", text).replace("−", "-"))
    return value if math.isfinite(value) else None


def find_number(text: str) -> float | None:
    """The last number in `text`; None when there is none, and when the last digits are no number: 1/2, 10:30, 1,5, a
    range (10-20), 2 million, 2k, 0x10. A point stands before decimals ("1.000" is one). An ordinary space between
    thousands counts where the number stands alone ("1 000 km"); in running text it may be two numbers: None."""
    if alone := _ALONE.fullmatch(text.strip()):
        return number_of(alone[1])
    last = deque(_NUMBER_OR_NOT.finditer(text), maxlen=1)
    return number_of(last[0][1]) if last and last[0][1] else None


def quantity(text: str) -> float | None:
    """The value of `text` where it is a number and nothing else, written as amounts are: 1,000, .5, 1e3; else None.

    A zero or a plus in front (007, +49 30) and more digits than a float holds make a name of it, which is text. A point
    stands before decimals: "1.000" is one.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text) or text.startswith("+"):
        return None
    digits = re.sub(rf"{_GROUPS}|[-−.]", "", re.split("[eE]", text)[0])
    named = re.match("[-−]?0\\d", text) or len(digits.lstrip("0")) > _SIGNIFICANT
    return None if named else number_of(text)


def same_quantity(text: str, other: str) -> bool:
    """Whether both are a `quantity` of the same value. Digits that differ by zeros at the end ("3.1", "3.10") are two
    versions or chapters as well as one value: not the same."""
    value = quantity(text)
    if value is None or quantity(other) != value:
        return False
    versions = [re.fullmatch(r"[1-9]\d*\.(\d+)", one.strip()) for one in (text, other)]
    return not all(versions) or len({len(one[1]) for one in versions if one}) == 1


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
    return find_number(text)


def same_final_number(answer: str, reference: str) -> float | None:
    """1 or 0: whether the answer ends in the number of the reference; None when the reference has no number."""
    wanted, given = last_number(reference), last_number(answer)
    if wanted is None:
        return None
    return float(given is not None and math.isclose(given, wanted, rel_tol=1e-9, abs_tol=1e-9))
