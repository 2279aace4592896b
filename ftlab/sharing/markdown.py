"""Markdown in which texts from data, models and people are text, whatever they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What Markdown or HTML would read as more than text; with "@" an address would become a link by itself.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&@])")
_LINKS = re.compile(r"(?i)(://|\bwww\.)")
_BEGINNINGS = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown reads as markup or makes a link of."""
    line = _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
    line = _LINKS.sub(lambda found: found[0].replace("/", "\\/", 1).replace(".", "\\."), line)
    return _BEGINNINGS.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], line)


def quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{escaped(text)}”" if text else "(no answer)"


def bullets(lines: Iterable[str]) -> str:
    """A list of `lines`, which are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts; all columns but the first are set flush right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    shown = [[escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *shown])


def code(text: str, language: str = "") -> str:
    """`text` as a block of code; the fence is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"
