"""The rows of a comparison as tables: the answers of two sides beside the reference, with differing words marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.core.words import composed
from ftlab.evaluation.figures import value_text
from ftlab.evaluation.rows import gain, row_scores
from ftlab.ui.kit.html import badge, count, empty, join, scrolling, short
from ftlab.ui.kit.word_diff import marked

PAGE_ROWS = 10
MARKS = {"reference": "that differ from the reference", "sides": "that differ between both", "none": "none"}
_DOCUMENT = 600  # characters of a document shown
_COLUMNS = 6  # of a row, in small print


@dataclass(frozen=True)
class Look:
    """View of a page of rows: page number and count, the measure, the pair of sides, what is marked."""

    page: int
    last: int
    measure: Mapping[str, Any]
    pair: tuple[str, str]
    titles: tuple[str, str]
    marks: str = "reference"

    @property
    def higher(self) -> bool:
        return self.measure.get("better") != "lower"


def answer_table(rows: Sequence[Mapping[str, Any]], look: Look) -> Markup:
    """One page of answers: prompt, reference, both sides. On a phone the cells are stacked."""
    line = Markup('<p class="ft-help">Answers: {}, page {} of {}. Better or worse goes by: {}.</p>').format(
        count(len(rows)), look.page, look.last, _spoken(look)
    )
    if not rows:
        return line + empty("No answer matches.", "Change the search or show all.")
    body = join(_answer_row(row, look) for row in _page(rows, look))
    return line + scrolling(("Row", "Prompt", "Reference", *look.titles), body, label="Answers", css="ft-answers")


def document_table(rows: Sequence[Mapping[str, Any]], look: Look) -> Markup:
    """One page of documents with how well each side predicts them."""
    line = Markup(
        '<p class="ft-help">{} documents, page {} of {}. The loss is in nats per token, lower is better.</p>'
    ).format(count(len(rows)), look.page, look.last)
    if not rows:
        return line + empty("No document matches.", "Change the search or show all.")
    left, right = look.titles
    body = join(
        Markup(
            '<tr><td data-label="Row">{}</td><td data-label="Document">{}</td><td data-label="{}">{}</td>'
            '<td data-label="{}">{}</td><td data-label="Change">{}</td></tr>'
        ).format(
            row["row"],
            text_cell(row["document"][:_DOCUMENT] + (" …" if len(row["document"]) > _DOCUMENT else "")),
            left,
            short(row.get(f"{look.pair[0]}_loss")),
            right,
            short(row.get(f"{look.pair[1]}_loss")),
            _change(row, look),
        )
        for row in _page(rows, look)
    )
    heads = ("Row", "Document", f"Loss, {left}", f"Loss, {right}", "Change")
    return line + scrolling(heads, body, label="Documents", css="ft-answers")


def text_cell(text: str, css: str = "") -> Markup:
    """Text from a model or from data in a cell. Keeps line breaks."""
    return Markup('<div class="ft-text {}">{}</div>').format(css, text or "(nothing)")


def _answer_row(row: Mapping[str, Any], look: Look) -> Markup:
    left, right = (str(row.get(side, "")) for side in look.pair)
    reference = str(row.get("reference", ""))
    texts = left, right
    if look.marks == "reference":
        texts = _against(reference, left), _against(reference, right)
    elif look.marks == "sides":
        texts = marked(left, right)
    css = "ft-against" if look.marks == "reference" else ""
    cells = join(
        Markup('<td data-label="{}">{}{}</td>').format(
            title, _mark(row, side, look, later=place == 1), text_cell(text, css)
        )
        for place, (title, side, text) in enumerate(zip(look.titles, look.pair, texts, strict=True))
    )
    return Markup(
        '<tr><td data-label="Row">{}</td><td data-label="Prompt">{}{}</td><td data-label="Reference">{}</td>{}</tr>'
    ).format(row["row"], text_cell(row["prompt"]), _columns(row), text_cell(reference), cells)


def _against(reference: str, answer: str) -> str:
    """`answer` with words missing from the reference marked, and words it lacks struck out."""
    if not answer or not reference or composed(answer) == composed(reference):
        return answer
    return marked(reference, answer)[1]


def _mark(row: Mapping[str, Any], side: str, look: Look, *, later: bool) -> Markup:
    """The score of this answer, and on the later side how it changed."""
    parts = []
    correct = row.get(f"{side}_correct")
    if correct is not None:
        parts.append(badge("equal" if correct else "differs", "good" if correct else "warn"))
    right = (row.get("right") or {}).get(side)
    if right is not None:
        tone = "good" if right == row["samples"] else "warn"
        parts.append(badge(f"{right} of {row['samples']} answers right", tone))
    if row.get(f"{side}_cut"):
        parts.append(badge("cut off", "warn"))
    if later:
        parts.append(_change(row, look))
    name = look.measure["name"]
    scores = row_scores(row, look.pair)
    figures = []
    if name not in ("loss", "exact_match") and scores.get(name, {}).get(side) is not None:
        figures.append(f"{look.measure['title']} {value_text(look.measure, scores[name][side])}")
    if scores.get("loss", {}).get(side) is not None:
        figures.append(f"loss {short(scores['loss'][side])}")
    small = Markup('<span class="ft-help">{}</span>').format(", ".join(figures)) if figures else ""
    return Markup('<div class="ft-mark">{} {}</div>').format(join(filter(None, parts), " "), small)


def _change(row: Mapping[str, Any], look: Look) -> Markup:
    change = gain(row, look.measure["name"], look.pair, higher=look.higher)
    if not change:
        return Markup("") if change is None else badge("same", "info")
    return badge("improved", "good") if change > 0 else badge("got worse", "bad")


def _columns(row: Mapping[str, Any]) -> Markup:
    """The short columns of the original row, which define slices."""
    columns = list((row.get("columns") or {}).items())[:_COLUMNS]
    text = " · ".join(f"{name}: {value}" for name, value in columns)
    return Markup('<div class="ft-help">{}</div>').format(text) if text else Markup("")


def _spoken(look: Look) -> str:
    return f"{look.measure['title']}, {'higher' if look.higher else 'lower'} is better"


def _page(rows: Sequence[Mapping[str, Any]], look: Look) -> Sequence[Mapping[str, Any]]:
    offset = (look.page - 1) * PAGE_ROWS
    return rows[offset : offset + PAGE_ROWS]
