"""Text that was damaged on its way: read in the wrong encoding, cut by control characters, left with HTML."""

from __future__ import annotations

import re

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.errors import shorten

_USUAL = 0.3  # of the rows with tags mean that HTML is what the data is about
# The replacement character, control characters but tab and line ends, the ends of Unicode, and half characters.
_BROKEN = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_TAGS = (
    "a|abbr|article|b|blockquote|body|br|button|center|cite|dd|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr|html"
    "|i|iframe|img|input|label|li|link|meta|nav|ol|option|p|script|section|select|small|span|strike|strong|style|sub"
    "|sup|table|tbody|td|tfoot|th|thead|title|tr|u|ul"
)
_HTML = re.compile(
    rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip|#\d{{2,5}}|#x[0-9a-f]{{2,4}});",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def damaged_characters(examples: Examples, watch: Watch) -> list[Finding]:
    """Replacement and control characters, and text that was decoded twice (Ã¤ for ä; measured by `ftfy.badness`)."""
    from ftfy.badness import is_bad

    found: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            broken = _BROKEN.search(text)
            if broken is None and (text.isascii() or not is_bad(text)):
                continue
            found[position] = _around(text, broken.start() if broken else _first_foreign(text))
            break
    return by_split("encoding", found, examples, shown=found)


def html_remains(examples: Examples, watch: Watch) -> list[Finding]:
    """Tags and entities outside of code; none when 30% or more of the rows have them, as they are meant then."""
    found: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            if "<" not in text and "&" not in text:
                continue
            match = _HTML.search(_CODE.sub("", text) if "`" in text else text)
            if match:
                found[position] = _around(match.string, match.start())
                break
    if len(found) >= max(_USUAL * len(examples), 2):
        return []
    return by_split("html", found, examples, shown=found)


def _first_foreign(text: str) -> int:
    return next((place for place, letter in enumerate(text) if letter > "\x7f"), 0)


def _around(text: str, place: int) -> str:
    return shorten(_BROKEN.sub("\ufffd", text[max(0, place - 30) : place + 50]), 80)
