"""Markdown as safe HTML: no scripts, images, styles or external requests.

`safe_markdown` is for text by models and people, `page_markdown` for the documentation.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from html import unescape
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize as emphasis
from markdown_it.token import Token
from markupsafe import Markup

from ftlab.ui.kit.html import join

_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "ul", "ol", "li"),
    *("pre", "code", "table", "thead", "tbody", "tr", "th", "td", "a"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_TOP_HEADING = 3  # below the page's own headings, which keeps the outline for screen readers in order
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
# Markers around a formula's number until it is inserted. Random for each process, so no text can contain them.
_OPEN, _CLOSE = f"\ue000{secrets.token_hex(8)}-", "\ue001"
_PLACE = re.compile(f"{_OPEN}\\d+{_CLOSE}")
_FORMULAS = "formulas"
_CLOSING = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
_LONGEST_FORMULA = 1000  # characters of a formula
# The elements of MathML Core (w3.org/TR/mathml-core) that the converter writes. Excludes links and classes.
_MATH_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded", "mphantom"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
}
_MATH_ATTRIBUTES = {"display", "stretchy", "mathvariant", "linethickness", "accent", "fence", "separator", "width"}
_RUN, _INNER = re.compile(r"\*+"), re.compile(r"[A-Za-z0-9_]")


def safe_markdown(text: str) -> Markup:
    """HTML of `text`, read as CommonMark with tables, strikethrough and formulas. Keeps single line breaks.

    Only formatting characters disappear: 2*3*4, __init__, backslashes and entities stay, and a link shows its target.
    HTML in `text` appears as written. Images become links: fetching one would reveal the reader to its host. Links
    open in a new tab and send no referrer.
    """
    formulas: dict[str, Markup] = {}
    html = nh3.clean(
        _reader().render(text, {_FORMULAS: formulas}),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
    )
    # Inserted after sanitizing: _mathml() lets nothing unsafe through.
    return Markup(_PLACE.sub(lambda place: str(formulas.get(place[0], place[0])), html))


def look_alike(texts: Iterable[str]) -> bool:
    """Whether different `texts` look the same when rendered."""
    different = dict.fromkeys(text.strip() for text in texts)
    drawn = {" ".join(safe_markdown(text).split()) for text in different}
    return len(drawn) < len(different)


def page_markdown(text: str, link: Callable[[str], str | None]) -> Markup:
    """HTML of a documentation page. Headings keep their level and have GitHub's anchors.

    `link(target)` maps a link to its address in the app; for None, only the link text stays.
    """
    tokens = _page_reader().parse(_COMMENT.sub("", text))
    for token, (_, _, anchor) in zip(
        (opened for opened in tokens if opened.type == "heading_open"), _headings(tokens), strict=True
    ):
        token.attrSet("id", anchor)
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                target = link(str(child.attrGet("href") or ""))
                child.attrs = {} if target is None else {"href": target}
    html = nh3.clean(
        _page_reader().renderer.render(tokens, _page_reader().options, {}),
        tags=_TAGS | {"h1", "h2"},
        attributes=_ATTRIBUTES | {f"h{level}": {"id"} for level in range(1, 7)},
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"pre": {"tabindex": "0"}},
    )
    return Markup(html)


def headings(text: str) -> list[tuple[int, str, str]]:
    """The headings of a page: (first line after the heading, counted from 0; text; anchor as GitHub makes it)."""
    return list(_headings(_page_reader().parse(text)))


def links(text: str) -> list[str]:
    """The targets of all links and images of a page, as written."""
    reader = MarkdownIt("commonmark").enable("table")
    inner = [child for token in reader.parse(text) for child in token.children or ()]
    return [
        str(child.attrGet("href") or child.attrGet("src")) for child in inner if child.type in ("link_open", "image")
    ]


def _headings(tokens: list[Token]) -> Iterator[tuple[int, str, str]]:
    seen: dict[str, int] = {}
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            words = "".join(child.content for child in inline.children or ())
            anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number = seen.get(anchor, 0)
            seen[anchor] = number + 1
            yield (opened.map or [0, 0])[1], words, f"{anchor}-{number}" if number else anchor


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    # Each of these removes characters that the author wrote.
    reader.disable(["image", "escape", "entity", "reference", "autolink"])
    reader.inline.ruler.at("emphasis", _stars)
    reader.inline.ruler.before("emphasis", "formula", _formula)
    reader.add_render_rule("formula", _draw_formula)
    reader.core.ruler.push("lower_headings", _lower_headings)
    reader.core.ruler.push("name_targets", _name_targets)
    return reader


def _stars(state: StateInline, silent: bool) -> bool:
    """Emphasis by asterisks, except within a word, a number or a path. Underscores belong to names."""
    before, run = state.src[state.pos - 1 : state.pos], _RUN.match(state.src, state.pos)
    if silent or run is None:
        return False
    after = state.src[run.end() : run.end() + 1]
    if before == "\\" or (_INNER.match(before) and _INNER.match(after)):
        state.pending += run[0]
        state.pos = run.end()
        return True
    return emphasis(state, silent)


def _formula(state: StateInline, silent: bool) -> bool:
    r"""A formula between \( and \), \[ and \], or $$ and $$. A single $ usually means money."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in _CLOSING:
        return False
    end = state.src.find(_CLOSING[opening], state.pos + 2)
    drawn = _mathml(state.src[state.pos + 2 : end].strip(), block=opening != r"\(") if end > state.pos + 2 else None
    if drawn is None:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.meta = state.src[state.pos : end + 2], {"drawn": drawn}
    state.pos = end + 2
    return True


def _draw_formula(self: Any, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    name = f"{_OPEN}{len(env[_FORMULAS])}{_CLOSE}"
    env[_FORMULAS][name] = tokens[place].meta["drawn"]
    return name


def _name_targets(state: StateCore) -> None:
    """Write a link's address after its text if they differ: it may be the only difference between two answers."""
    for token in state.tokens:
        children, target, words = token.children or [], "", ""
        token.children = kept = []
        for child in children:
            kept.append(child)
            if child.type == "link_open":
                target, words = str(child.attrGet("href") or ""), ""
            elif child.type == "link_close" and target and words != target:
                kept.append(Token("text", "", 0, content=f" ({target})"))
            else:
                words += child.content


@lru_cache(maxsize=1)
def _page_reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _lower_headings(state: StateCore) -> None:
    """Turn first-level headings into the third level, and shift lower ones with them."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _TOP_HEADING - 1)}"


def _mathml(tex: str, *, block: bool) -> Markup | None:
    """`tex` as MathML, which browsers draw and screen readers read; None if any part cannot be rendered, so the caller
    should show the source instead."""
    from latex2mathml.converter import convert_to_element

    if len(tex) > _LONGEST_FORMULA:
        return None
    try:
        return _math_markup(convert_to_element(tex, display="block" if block else "inline"))
    except Exception:  # its errors share no base class, and unknown input fails
        return None


def _math_markup(element: Element) -> Markup:
    """`element` reduced to what is allowed. Raises ValueError for an unknown command."""
    text = unescape(element.text or "")
    if element.tag not in _MATH_TAGS or text.startswith("\\") or "href" in element.attrib:
        raise ValueError(element.tag)
    attributes = join(
        Markup(' {}="{}"').format(name, value) for name, value in element.attrib.items() if name in _MATH_ATTRIBUTES
    )
    inner = join(_math_markup(child) for child in element)
    return Markup("<{0}{1}>{2}{3}</{0}>").format(Markup(element.tag), attributes, text, inner)
