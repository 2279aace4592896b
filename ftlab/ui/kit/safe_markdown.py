"""Markdown as HTML that can do nothing: no scripts, no pictures, no styles, nothing fetched.

`safe_markdown` is for what models and people write, `page_markdown` for the pages of the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "ul", "ol", "li"),
    *("pre", "code", "table", "thead", "tbody", "tr", "th", "td", "a"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_TOP_HEADING = 3  # below the page's own headings, so that a screen reader's outline stays in order
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_FENCES = ("fence", "code_block")


def safe_markdown(text: str) -> Markup:
    """HTML of `text`, read as CommonMark with tables and struck-out words; single line ends are kept.

    HTML in `text` is shown as it was written. Pictures become links: fetching one would tell its host who looks.
    Links open in another tab and say nothing of where they were pressed.
    """
    html = nh3.clean(
        _reader().render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
    )
    return Markup(html)


def page_markdown(text: str, link: Callable[[str], str | None]) -> Markup:
    """HTML of a page of the documentation: headings keep their level and have GitHub's anchors.

    `link(target)` says where a link leads here; None leaves its words without one.
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
    """The headings of a page: (first line after it, counted from 0; its words; its anchor as GitHub makes it)."""
    return list(_headings(_page_reader().parse(text)))


def links(text: str) -> list[str]:
    """The targets of all links and pictures of a page, as they are written."""
    reader = MarkdownIt("commonmark").enable("table")
    inner = [child for token in reader.parse(text) for child in token.children or ()]
    return [
        str(child.attrGet("href") or child.attrGet("src")) for child in inner if child.type in ("link_open", "image")
    ]


def code_blocks(text: str) -> list[tuple[int, str, str]]:
    """The blocks of code of a page: (first line, counted from 0; language; code)."""
    fences = [token for token in _page_reader().parse(text) if token.type in _FENCES]
    return [((token.map or [0])[0], token.info.strip(), token.content) for token in fences]


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
    reader.disable("image")
    reader.core.ruler.push("lower_headings", _lower_headings)
    return reader


@lru_cache(maxsize=1)
def _page_reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _lower_headings(state: StateCore) -> None:
    """Makes a first heading one of the third level, and those below it follow."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _TOP_HEADING - 1)}"
