"""Answers that reason and end in a number, as in GSM8K: "#### 18", "The answer is 18."."""

from __future__ import annotations

import math
import re
from collections import deque

# Thousands separators: a comma, an apostrophe or a space (also narrow or non-breaking). In running text an ordinary
# space may also separate two numbers ("add 5 300 times").
_NARROW = ",'’\u00a0\u2007\u2009\u202f"
_GROUPS = f"[{_NARROW} ]"
# Separators that make digits something other than a number: 1/2, 10:30, 1.2.3, 1,5 (one and a half, or two?), 10^3.
_JOINTS = "[.,:/\u2044^_'’]"
_PARTS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215f"
# Scales, where the digits are only part of the number: 2 million, 2k.
_SCALES = (
    r"(?i: ?(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|tausend|million|milliard|millón|mill|mio|mrd)"
    r"(?:s|e|en|n|es)?\b)|(?-i:[kKM]|bn|mn|mln|tn)\b"
)


def _number(groups: str) -> str:
    """A pattern for a number that is not inside a word, after a digit, or in a range (10-20, $10–$20, 10 – 20)."""
    behind = rf"(?<![\w.])(?<!\d{_JOINTS})(?<!\d[-–−])(?<!\d[-–−][$€£])(?<!\d –)(?<!\d – )"
    digits = rf"[-−+]?(?:(?:[1-9]\d{{0,2}}(?:{groups}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    # 0x10 and 12ab3 are names; m2 is a unit.
    named = r"(?!(?:[cdkm]?m)[23]\b)[^\W\d_]+\d"
    ahead = rf"(?!\d|{_JOINTS}\d|[{_PARTS}]|\*\*\d|\s\d+[/\u2044]\d|[-–−][$€£]?\d| – ?[$€£]?\d|{_SCALES}|{named})"
    return behind + digits + ahead


NUMBER = re.compile(_number(_GROUPS))
_ALONE = re.compile(rf"[$€£]?\s*({NUMBER.pattern})\s*(?:%|[^\W\d]{{1,8}})?\.?")
# A number, or digits that are not one and must not be split.
_NUMBER_OR_NOT = re.compile(
    rf"(?<![\w.])[1-9]\d{{0,2}}(?: \d{{3}})+(?!\w)|({_number(f'[{_NARROW}]')})"
    rf"|\\d?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}"
    rf"|(?<![\w.])(?:\d+(?:(?:{_JOINTS}|\*\*|[-–−])\d+)+[{_PARTS}]?|\d*[{_PARTS}]+|\d\w*)"
)
_SIGNIFICANT = 15  # digits that a float can represent; longer ones are identifiers, such as card numbers
_BEFORE = (
    r"(?:####|\\boxed\{|(?:final |correct )?answer(?: is)?\s*[:=]?|(?:die )?antwort(?: ist)?\s*:?|therefore,?|so,?|=)"
)
_MARKED = re.compile(
    rf"{_BEFORE}\s*[*$€£\\({{\[]*\s*({NUMBER.pattern})\s*(?:%|°?[^\W\d]{{1,12}})?[\s.*$)\]}}\\]*$", re.IGNORECASE
)
_STRONG = re.compile(rf"(?:####|\\boxed\{{)\s*\$?\s*({NUMBER.pattern})")
FINAL_NUMBER_RULE = (
    "the number after the last #### or \\boxed{, else the last number; compared by value; fractions, times, dates, "
    "ranges (10-20), and figures with a scale (2 million, 2k) do not count as numbers"
)


def number_of(text: str) -> float | None:
    """The value of a written number, which may have thousands separators; None if it is not finite."""
    value = float(re.sub(_GROUPS, "", text).replace("−", "-"))
    return value if math.isfinite(value) else None


def find_number(text: str) -> float | None:
    """The last number in `text`; None if there is none, or if the last digits are not a number: 1/2, 10:30, 1,5, a
    range (10-20), 2 million, 2k, 0x10. A point separates decimals ("1.000" is one). An ordinary space separates
    thousands only if the number stands alone ("1 000 km"); in running text it may be two numbers: None."""
    if alone := _ALONE.fullmatch(text.strip()):
        return number_of(alone[1])
    last = deque(_NUMBER_OR_NOT.finditer(text), maxlen=1)
    return number_of(last[0][1]) if last and last[0][1] else None


def quantity(text: str) -> float | None:
    """The value of `text` if it is a number written as an amount: 1,000, .5, 1e3; else None.

    A leading zero or plus (007, +49 30), or more digits than a float holds, makes it an identifier, which is text. A
    point separates decimals: "1.000" is one.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text) or text.startswith("+"):
        return None
    digits = re.sub(rf"{_GROUPS}|[-−.]", "", re.split("[eE]", text)[0])
    named = re.match("[-−]?0\\d", text) or len(digits.lstrip("0")) > _SIGNIFICANT
    return None if named else number_of(text)


def same_quantity(text: str, other: str) -> bool:
    """Whether both are a `quantity` with the same value. Digits that differ only by trailing zeros ("3.1", "3.10") may
    be two versions or chapters: not the same."""
    value = quantity(text)
    if value is None or quantity(other) != value:
        return False
    versions = [re.fullmatch(r"[1-9]\d*\.(\d+)", written.strip()) for written in (text, other)]
    return not all(versions) or len({len(written[1]) for written in versions if written}) == 1


def final_number(text: str) -> float | None:
    """The number at the end of a longer answer, after a marker such as #### or "the answer is"; else None.

    None also for an answer that is only a number, which is a different kind (an estimate, a rating).
    """
    lines = text.strip().splitlines()
    if not lines:
        return None
    # Search only the end: texts can have any length.
    match = _MARKED.search(lines[-1][-200:])
    if not match or not text.strip()[: -len(match.group())].strip():
        return None
    return number_of(match.group(1))


def last_number(text: str) -> float | None:
    """The number that `text` gives as its answer: after the last #### or \\boxed{, else the number it ends in, else the
    last one. None if there is none."""
    marked = _STRONG.findall(text)
    if marked:
        return number_of(marked[-1])
    ends_in = final_number(text)
    if ends_in is not None:
        return ends_in
    return find_number(text)


def same_final_number(answer: str, reference: str) -> float | None:
    """1 if the answer ends in the number of the reference, else 0. None if the reference has no number."""
    wanted, number = last_number(reference), last_number(answer)
    if wanted is None:
        return None
    return float(number is not None and math.isclose(number, wanted, rel_tol=1e-9, abs_tol=1e-9))
