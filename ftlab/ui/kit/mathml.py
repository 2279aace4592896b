"""Formulas in TeX as MathML, which browsers draw and screen readers read, without a script and nothing fetched."""

from __future__ import annotations

from html import unescape
from xml.etree.ElementTree import Element

from markupsafe import Markup

from ftlab.ui.kit.html import join

_LONGEST = 1000  # characters of a formula
# Of MathML Core (w3.org/TR/mathml-core) what the converter writes; links and classes of the text are not among it.
_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded", "mphantom"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
}
_ATTRIBUTES = {"display", "stretchy", "mathvariant", "linethickness", "accent", "fence", "separator", "width"}


def mathml(tex: str, *, block: bool) -> Markup | None:
    """`tex` drawn; None where it cannot be drawn whole, so that it is better shown as it was written."""
    from latex2mathml.converter import convert_to_element

    if len(tex) > _LONGEST:
        return None
    try:
        return _markup(convert_to_element(tex, display="block" if block else "inline"))
    except Exception:  # it has no common error, and fails on what it does not know
        return None


def _markup(element: Element) -> Markup:
    """`element` with what is allowed of it. Raises ValueError for a command that was not understood."""
    text = unescape(element.text or "")
    if element.tag not in _TAGS or text.startswith("\\") or "href" in element.attrib:
        raise ValueError(element.tag)
    attributes = join(
        Markup(' {}="{}"').format(name, value) for name, value in element.attrib.items() if name in _ATTRIBUTES
    )
    inner = join(_markup(child) for child in element)
    return Markup("<{0}{1}>{2}{3}</{0}>").format(Markup(element.tag), attributes, text, inner)
