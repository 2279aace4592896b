"""The wording of numbers and sentences, the same in the terminal, the app and the report."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def duration(seconds: float) -> str:
    """`seconds` as 45 s, 1 min 05 s, 2 h 03 min or 3 days. Never less than 0 s."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} days"


def byte_size(number: float) -> str:
    """`number` of bytes in three digits: 1.06 GB, 512 MB. A GB is 2**30 bytes, as cards and memory count them."""
    for unit, power in (("GB", 30), ("MB", 20), ("kB", 10)):
        if number >= 1 << power:
            value = number / (1 << power)
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{number:.0f} bytes"


def install(extra: str) -> str:
    """The command that installs the extra `extra`. ftlab is not on PyPI, where anyone could take the name."""
    return f'pip install -e ".[{extra}]" in the folder of ftlab'


def composed(text: str) -> str:
    """`text` without surrounding whitespace, in Unicode form NFC: é is one character, however it was typed."""
    return unicodedata.normalize("NFC", text.strip())


def listed(words: Sequence[str]) -> str:
    """`words` as a list in a sentence: a; a and b; a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(number: int, thing: str, things: str | None = None) -> str:
    """`number` of `thing`: 1 vote, 1,200 votes; 2 replies (`things`, where an s is not enough)."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
