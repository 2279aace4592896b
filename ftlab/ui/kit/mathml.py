"""Render TeX formulas as MathML. Browsers draw it and screen readers read it; no scripts, nothing fetched."""

from __future__ import annotations

from html import unescape
from xml.etree.ElementTree import Element

from markupsafe import Markup

from ftlab.ui.kit.html import join

_LONGEST = 1000  # characters of a formula
# The elements of MathML Core (w3.org/TR/mathml-core) that the converter writes. Excludes links and classes.
_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded", "mphantom"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
}
_ATTRIBUTES = {"display", "stretchy", "mathvariant", "linethickness", "accent", "fence", "separator", "width"}


def mathml(tex: str, *, block: bool) -> Markup | None:
    """`tex` as MathML; None if any part cannot be rendered, so the caller should show the source instead."""
    from latex2mathml.converter import convert_to_element

    if len(tex) > _LONGEST:
        return None
    try:
        return _markup(convert_to_element(tex, display="block" if block else "inline"))
    except Exception:  # its errors share no base class, and unknown input fails
        return None


def _markup(element: Element) -> Markup:
    """`element` reduced to what is allowed. Raises ValueError for an unknown command."""
    text = unescape(element.text or "")
    if element.tag not in _TAGS or text.startswith("\\") or "href" in element.attrib:
        raise ValueError(element.tag)
    attributes = join(
        Markup(' {}="{}"').format(name, value) for name, value in element.attrib.items() if name in _ATTRIBUTES
    )
    inner = join(_markup(child) for child in element)
    return Markup("<{0}{1}>{2}{3}</{0}>").format(Markup(element.tag), attributes, text, inner)
