"""The answers of an evaluation: found by words and by what became of them, shown beside the reference."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.ui.html import badge, count, empty, join, short

PAGE_ROWS = 10
FILTERS = ["All", "Improved", "Got worse", "Both wrong"]


def select(
    rows: list[dict[str, Any]], search: str | None, kind: str | None, *, by_loss: bool = False
) -> list[dict[str, Any]]:
    """The predictions that hold all words of `search` and belong to `kind` (one of FILTERS).

    `by_loss` compares the loss on the reference instead of equality with it, for free text.
    """
    words = (search or "").lower().split()

    def belongs(row: dict[str, Any]) -> bool:
        if by_loss:
            gained, lost = row["adapted_loss"] < row["base_loss"], row["adapted_loss"] > row["base_loss"]
        else:
            gained = row["adapted_correct"] and not row["base_correct"]
            lost = row["base_correct"] and not row["adapted_correct"]
        return {
            "Improved": gained,
            "Got worse": lost,
            "Both wrong": not row["base_correct"] and not row["adapted_correct"],
        }.get(kind or "All", True)

    def holds(row: dict[str, Any]) -> bool:
        text = " ".join(str(row[key]) for key in ("prompt", "reference", "base", "adapted")).lower()
        return all(word in text for word in words)

    return [row for row in rows if belongs(row) and holds(row)]


def answer_table(rows: list[dict[str, Any]], page: int, last: int, *, by_loss: bool) -> Markup:
    """One page of answers: prompt, reference, base, adapted. On a phone the cells stand below each other."""
    offset = (page - 1) * PAGE_ROWS
    body = join(
        Markup(
            '<tr><td data-label="Row">{}</td><td data-label="Prompt">{}</td><td data-label="Reference">{}</td>'
            '<td data-label="Base">{}{}</td><td data-label="Adapted">{}{}</td></tr>'
        ).format(
            row["row"],
            text_cell(row["prompt"]),
            text_cell(row["reference"]),
            _mark(row["base_correct"], row["base_loss"]),
            text_cell(row["base"]),
            _mark(row["adapted_correct"], row["adapted_loss"]),
            text_cell(row["adapted"]),
        )
        for row in rows[offset : offset + PAGE_ROWS]
    )
    better = "the loss on the reference fell" if by_loss else "only the adapted model gave the reference answer"
    line = Markup('<p class="ft-help">{} answers, page {} of {}. Improved means that {}.</p>').format(
        count(len(rows)), page, last, better
    )
    if not rows:
        return line + empty("No answer matches.", "Change the search or show all.")
    return line + Markup(
        '<div class="ft-scroll" tabindex="0" role="region" aria-label="Answers">'
        '<table class="ft-table ft-answers"><thead><tr><th scope="col">Row</th><th scope="col">Prompt</th>'
        '<th scope="col">Reference</th><th scope="col">Base</th><th scope="col">Adapted</th></tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(body)


def _mark(correct: bool, loss: float | None) -> Markup:
    return Markup('<div class="ft-mark">{} <span class="ft-help">loss {}</span></div>').format(
        badge("equal" if correct else "differs", "good" if correct else "warn"), short(loss)
    )


def text_cell(text: str) -> Markup:
    """Text of a model or of data in a cell, its line breaks kept."""
    return Markup('<div class="ft-text">{}</div>').format(text or "(nothing)")
