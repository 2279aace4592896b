"""Two texts with the words that differ marked."""

from __future__ import annotations

import difflib
import re

from markupsafe import Markup

from ftlab.ui.html import join

# difflib takes time with the square of the words; texts longer than this are compared line by line.
_MOST_WORDS = 2500
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


def marked(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts as HTML; what is only in one of them stands in <del> or <ins>."""
    units = _WORDS
    if max(len(before), len(after)) > 4 * _MOST_WORDS:
        units = _LINES
    old, new = units.findall(before), units.findall(after)
    if max(len(old), len(new)) > _MOST_WORDS:
        return Markup("<del>{}</del>").format(before), Markup("<ins>{}</ins>").format(after)
    left, right = [], []
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = "".join(old[i1:i2]), "".join(new[j1:j2])
        if kind == "equal":
            left.append(Markup("{}").format(gone))
            right.append(Markup("{}").format(come))
        else:
            left += [Markup("<del>{}</del>").format(gone)] if gone else []
            right += [Markup("<ins>{}</ins>").format(come)] if come else []
    return join(left), join(right)
