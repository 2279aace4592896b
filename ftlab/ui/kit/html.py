"""Small pieces of HTML for the tabs. `Markup.format` escapes everything that comes from data, models or people."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.core import jobs
from ftlab.core import words as wording
from ftlab.errors import FtlabError, sentence
from ftlab.evaluation import figures

NOTHING = "–"
# A click (or Enter) on any element with data-pick raises the event "pick" with that value in Python.
PICK_JS = """
element.addEventListener('click', event => {
  const target = event.target.closest('[data-pick]');
  if (!target) return;
  element.querySelectorAll('[data-pick][aria-current]').forEach(other => other.removeAttribute('aria-current'));
  target.setAttribute('aria-current', 'true');
  trigger(target.dataset.event === 'write' ? 'write' : 'pick', {value: target.dataset.pick});
});
"""
_COPY_JS = """
element.addEventListener('click', event => {
  const copy = event.target.closest('[data-copy]');
  if (!copy) return;
  const source = copy.closest('%s').querySelector('%s');
  const say = text => { copy.textContent = text; setTimeout(() => { copy.textContent = 'Copy'; }, 1500); };
  const mark = () => {
    const range = document.createRange();
    range.selectNodeContents(source);
    const chosen = window.getSelection();
    chosen.removeAllRanges();
    chosen.addRange(range);
    say('Marked');
  };
  if (navigator.clipboard) navigator.clipboard.writeText(source.innerText).then(() => say('Copied'), mark);
  else mark();
});
"""


def copy_js(around: str, source: str) -> str:
    """JavaScript of a gr.HTML: a click on a `data-copy` element copies the text of the element that the selector
    `source` finds within the nearest `around`. Without leave to write to the clipboard, it marks that text."""
    return _COPY_JS % (around, source)


def join(parts: Iterable[str], separator: str = "") -> Markup:
    return Markup(separator).join(parts)


def list_items(texts: Iterable[Any]) -> Markup:
    """`texts` as list items."""
    return join(Markup("<li>{}</li>").format(text) for text in texts)


def error_box(error: FtlabError) -> Markup:
    """What is wrong, why, and what to try. Screen readers announce it when it appears."""
    lines = [Markup("<strong>{}</strong>").format(sentence(error.what))]
    if error.why:
        lines.append(Markup("<div>{}</div>").format(error.why))
    if error.try_:
        lines.append(Markup("<div><em>Try:</em> {}</div>").format(sentence(error.try_)))
    return Markup('<div class="ft-box ft-bad" role="alert">{}</div>').format(join(lines))


def stop_note(stopped: jobs.StopResult) -> Markup:
    """The result of pressing Stop. Empty while the job stops: another place on the page shows that state."""
    return Markup("") if stopped.outcome == "asked" else notice(stopped.message)


def notice(text: str, *, kind: str = "info") -> Markup:
    """One message box. `kind` is info, good, warn or bad."""
    return Markup('<div class="ft-box ft-{}" role="status">{}</div>').format(kind, text)


def empty(title: str, what_to_do: str) -> Markup:
    """The empty state of a tab: says what to do first."""
    return Markup('<div class="ft-empty"><strong>{}</strong><span>{}</span></div>').format(title, what_to_do)


def heading(text: str, help: str = "", *, page: str = "") -> Markup:
    """A heading, a sentence under it, and a link to `page` of Help (`name` or `name#anchor`)."""
    words = join(filter(None, [help, help_link(page) if page else ""]), " ")
    hint = Markup('<span class="ft-help">{}</span>').format(words) if words else ""
    return Markup('<h2 class="ft-h">{}</h2>{}').format(text, hint)


# Covers the page until the reply that restores earlier choices arrives, since that reply would undo earlier presses.
COVER = Markup('<div class="ft-cover" role="status"><span class="ft-unseen">Opening</span></div>')
# The same for what a tab restores when it is first opened: visible, but not editable yet.
COVER_TAB = Markup('<div class="ft-tab-cover"></div>')


def help_link(page: str, text: str = "Learn more") -> Markup:
    """A link to a page of Help, relative to the app, that opens in a new tab."""
    return Markup('<a class="ft-more" href="help/{}" target="_blank" rel="noopener">{}</a>').format(page, text)


def badge(text: str, kind: str = "info") -> Markup:
    return Markup('<span class="ft-badge ft-{}">{}</span>').format(kind, text)


def facts(pairs: Iterable[tuple[str, Any, str]]) -> Markup:
    """Numbers with their names: (title, value, help text). The help is visible, not only on hover."""
    items = (
        Markup('<div class="ft-fact"><dt>{}</dt><dd>{}<span class="ft-help">{}</span></dd></div>').format(
            title, NOTHING if value is None else value, help
        )
        for title, value, help in pairs
    )
    return Markup('<dl class="ft-facts">{}</dl>').format(join(items))


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, label: str, numbers: Iterable[int] = (), css: str = ""
) -> Markup:
    """A table that scrolls inside its own box. `numbers`: indexes of right-aligned columns."""
    right = set(numbers)

    def cell(column: int, value: Any) -> Markup:
        return Markup("<td{}>{}</td>").format(Markup(' class="ft-num"') if column in right else "", value)

    body = join(Markup("<tr>{}</tr>").format(join(cell(i, value) for i, value in enumerate(row))) for row in rows)
    return scrolling(headers, body, label=label, numbers=right, css=css)


def labelled(heads: Sequence[str], rows: Sequence[Sequence[Any]], label: str, css: str) -> Markup:
    """A table that a phone shows without its header: the first cell of a row above the others, each labeled with its
    column name."""
    body = join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            row[0],
            join(
                Markup('<td data-label="{}">{}</td>').format(head, cell)
                for head, cell in zip(heads[1:], row[1:], strict=True)
            ),
        )
        for row in rows
    )
    return scrolling(heads, body, label=label, css=css)


def scrolling(
    heads: Sequence[Any], body: Markup, *, label: str, numbers: Collection[int] = (), css: str = ""
) -> Markup:
    """A table of drawn rows (`body`) that scrolls inside its own box; see `table`."""
    drawn = join(
        Markup('<th scope="col"{}>{}</th>').format(Markup(' class="ft-num"') if i in numbers else "", head)
        if head
        else Markup("<td></td>")  # a header must have a name
        for i, head in enumerate(heads)
    )
    return Markup(
        '<div class="ft-scroll" tabindex="0" role="region" aria-label="{}">'
        '<table class="ft-table {}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(label, css, drawn, body)


def pick_button(value: Any, text: str, *, label: str, current: bool = False) -> Markup:
    """A button inside a gr.HTML made with PICK_JS."""
    return Markup('<button type="button" class="ft-pick" data-pick="{}" aria-label="{}"{}>{}</button>').format(
        value, label, Markup(' aria-current="true"') if current else "", text
    )


def details(summary: str, body: str) -> Markup:
    return Markup('<details class="ft-details"><summary>{}</summary>{}</details>').format(summary, body)


def preformatted(text: str, *, label: str = "") -> Markup:
    return Markup('<pre class="ft-pre" tabindex="0" aria-label="{}">{}</pre>').format(label, text)


# Numbers in words


def count(value: float | int | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else figures.percent(value, digits)


def short(value: float | None) -> str:
    return NOTHING if value is None else figures.short(value)


def duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else wording.duration(seconds)


def when(timestamp: float | None) -> str:
    """Local time; the date is left out on the same day."""
    if not timestamp:
        return NOTHING
    then = time.localtime(timestamp)
    same_day = time.strftime("%Y%m%d", then) == time.strftime("%Y%m%d")
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)
