"""Markdown of a model's answer as HTML that can do nothing: no scripts, no pictures, no styles, nothing fetched."""

from __future__ import annotations

from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup

_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "ul", "ol", "li"),
    *("pre", "code", "table", "thead", "tbody", "tr", "th", "td", "a"),
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_TOP_HEADING = 3  # below the page's own headings, so that a screen reader's outline stays in order


def safe_markdown(text: str) -> Markup:
    """HTML of `text`, read as CommonMark with tables and struck-out words; single line ends are kept.

    HTML in `text` is shown as it was written. Pictures become links: fetching one would tell its host who looks.
    Links open in another tab and say nothing of where they were pressed.
    """
    html = nh3.clean(
        _reader().render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
    )
    return Markup(html)


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    reader.disable("image")
    reader.core.ruler.push("lower_headings", _lower_headings)
    return reader


def _lower_headings(state: StateCore) -> None:
    """Makes a first heading one of the third level, and those below it follow."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _TOP_HEADING - 1)}"
