"""Help: the pages of ftlab/docs inside the app, offline: `help/`, `help/PAGE`, and a search over all of them.

Plain HTML without scripts. Links are relative, so it works wherever the app is mounted. Requests are looked up among
the shipped files; no path is ever built from a request.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ftlab.ui.kit.safe_markdown import headings, links, page_markdown

FOLDER = Path(__file__).parents[1] / "docs"
INDEX = "README"
_MOST_HITS = 40
_LONGEST_QUERY = 200  # characters
_AROUND = 90  # characters of text before and after a match
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


class Page(NamedTuple):
    """A shipped page: its `name` in the address, title, and Markdown."""

    name: str
    title: str
    text: str


class Hit(NamedTuple):
    """A section that matches a search, with its relative address and the text around the match."""

    href: str
    title: str
    section: str
    before: str
    match: str
    after: str


def routes() -> list[Route]:
    """The routes that the app serves besides Gradio's own."""
    return [
        Route("/help", _onward, methods=["GET"]),
        Route("/help/", _show, methods=["GET"]),
        Route("/help/{page}", _show, methods=["GET"]),
    ]


@cache
def pages() -> dict[str, Page]:
    """All pages by name, in the order of the index; the index first."""
    files = {path.stem: path for path in sorted(FOLDER.glob("*.md"))}
    linked = [name.removesuffix(".md") for name in links(files[INDEX].read_text(encoding="utf-8"))]
    order = dict.fromkeys([INDEX, *(name for name in linked if name in files), *files])
    texts = {name: files[name].read_text(encoding="utf-8") for name in order}
    return {name: Page(name, headings(text)[0][1], text) for name, text in texts.items()}


def search(words: str) -> list[Hit]:
    """The sections that contain all of `words`, ignoring case; those with a match in a heading first."""
    wanted = words.casefold().split()
    if not wanted:
        return []
    hits = [
        (not any(word in f"{page.title} {section}".casefold() for word in wanted), number, hit)
        for number, (page, section, anchor, body) in enumerate(_sections())
        if (hit := _hit(page, section, anchor, body, wanted))
    ]
    return [hit for _, _, hit in sorted(hits)][:_MOST_HITS]


@cache
def _sections() -> list[tuple[Page, str, str, str]]:
    """All sections of all pages except the index: page, heading, anchor and plain text."""
    sections = []
    for page in list(pages().values())[1:]:
        lines, marks = page.text.splitlines(), headings(page.text)
        ends = [start - 1 for start, _, _ in marks[1:]] + [len(lines)]
        for (start, words, anchor), end in zip(marks, ends, strict=True):
            sections.append((page, words, anchor, _plain("\n".join(lines[start:end]))))
    return sections


def _plain(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"<!--.*?-->", "", text))
    return " ".join(re.sub(r"```\w*|[|`*]|^#+ |^ *-+ |-{3,}", " ", text, flags=re.MULTILINE).split())


def _hit(page: Page, section: str, anchor: str, body: str, wanted: list[str]) -> Hit | None:
    whole = f"{page.title} {section} {body}".casefold()
    if not all(word in whole for word in wanted):
        return None
    place = re.search("|".join(map(re.escape, wanted)), body, re.IGNORECASE)
    start, end = place.span() if place else (0, 0)
    before, after = body[max(0, start - _AROUND) : start], body[end : end + _AROUND]
    before = f"… {before.partition(' ')[2]}" if start > _AROUND else before
    after = f"{after.rpartition(' ')[0]} …" if len(body) > end + _AROUND else after
    return Hit(f"{_address(page.name)}#{anchor}", page.title, section, before, body[start:end], after)


def _address(name: str) -> str:
    return "./" if name == INDEX else name


def _link(target: str) -> str | None:
    """The address in the app that a link leads to; None for a file that exists only in the repository."""
    if target.startswith(("https://", "http://", "#")):
        return target
    path, _, anchor = target.partition("#")
    name = path.removesuffix(".md")
    if path == name or name not in pages():
        return None
    return f"{_address(name)}#{anchor}" if anchor else _address(name)


def _onward(request: Request) -> Response:
    """Without the trailing slash, relative links would resolve one level too high."""
    return RedirectResponse("help/", 307, _HEADERS)


def _show(request: Request) -> Response:
    name = request.path_params.get("page", INDEX)
    query = request.query_params.get("q", "")[:_LONGEST_QUERY].strip()
    page = pages().get(name)
    if query:
        return _html("Search", None, query=query, hits=search(query))
    if page is None:
        return _html("There is no such page", None, status=404)
    return _html(page.title, page.name, body=page_markdown(page.text, _link))


def _html(
    title: str,
    name: str | None,
    *,
    body: Markup | None = None,
    query: str = "",
    hits: list[Hit] | None = None,
    status: int = 200,
) -> Response:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    listed = [(_address(page.name), page.title, page.name == name) for page in pages().values()]
    text = environment.get_template("help_page.html.jinja").render(
        title=title, body=body, query=query, hits=hits, listed=listed
    )
    return HTMLResponse(text, status, _HEADERS)
