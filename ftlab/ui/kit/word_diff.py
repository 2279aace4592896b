"""Mark the words that differ between two texts."""

from __future__ import annotations

import difflib
import re

from markupsafe import Markup

from ftlab.ui.kit.html import join

# difflib takes quadratic time in the number of words; longer texts are compared by line.
_MOST_WORDS = 2500
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


def marked(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts as HTML. Text found in only one of them is in <del> or <ins>."""
    units = _WORDS
    if max(len(before), len(after)) > 4 * _MOST_WORDS:
        units = _LINES
    old, new = units.findall(before), units.findall(after)
    if max(len(old), len(new)) > _MOST_WORDS:
        return Markup("<del>{}</del>").format(before), Markup("<ins>{}</ins>").format(after)
    left, right = [], []
    for equal, gone, come in _steps(old, new):
        if equal:
            left.append(Markup("{}").format(gone))
            right.append(Markup("{}").format(come))
        else:
            left += [Markup("<del>{}</del>").format(gone)] if gone else []
            right += [Markup("<ins>{}</ins>").format(come)] if come else []
    return join(left), join(right)


def _steps(old: list[str], new: list[str]) -> list[tuple[bool, str, str]]:
    """(equal, before, after) in order; a space between two differing words is part of the difference."""
    steps: list[tuple[bool, str, str]] = []
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for place, (kind, i1, i2, j1, j2) in enumerate(codes):
        gone, come = "".join(old[i1:i2]), "".join(new[j1:j2])
        within = kind == "equal" and not gone.strip() and 0 < place < len(codes) - 1
        equal = kind == "equal" and not within
        if steps and not equal and not steps[-1][0]:
            steps[-1] = (False, steps[-1][1] + gone, steps[-1][2] + come)
        else:
            steps.append((equal, gone, come))
    return steps
