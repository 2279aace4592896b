"""The answers of an evaluation: found by words and by what became of them, shown beside the reference."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.ui.html import badge, count, empty, join, short

PAGE_ROWS = 10
_DOCUMENT = 600  # characters of a document on show
FILTERS = ["All", "Improved", "Got worse", "Both wrong"]


def select(
    rows: list[dict[str, Any]], search: str | None, kind: str | None, *, by_loss: bool = False
) -> list[dict[str, Any]]:
    """The predictions that hold all words of `search` and belong to `kind` (one of FILTERS).

    `by_loss` compares the loss on the reference instead of equality with it, for free text.
    """
    words = (search or "").lower().split()

    def belongs(row: dict[str, Any]) -> bool:
        if "document" in row:
            gained, lost = row["adapted_loss"] < row["base_loss"], row["adapted_loss"] > row["base_loss"]
            return {"Improved": gained, "Got worse": lost, "Both wrong": False}.get(kind or "All", True)
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
        keys = ("document",) if "document" in row else ("prompt", "reference", "base", "adapted")
        text = " ".join(str(row[key]) for key in keys).lower()
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
            _text(row["prompt"]),
            _text(row["reference"]),
            _mark(row["base_correct"], row["base_loss"]),
            _text(row["base"]),
            _mark(row["adapted_correct"], row["adapted_loss"]),
            _text(row["adapted"]),
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


def document_table(rows: list[dict[str, Any]], page: int, last: int) -> Markup:
    """One page of documents with how well each side predicts them."""
    offset = (page - 1) * PAGE_ROWS
    line = Markup(
        '<p class="ft-help">{} documents, page {} of {}. The loss is in nats per token, lower is better. Improved '
        "means that it fell.</p>"
    ).format(count(len(rows)), page, last)
    if not rows:
        return line + empty("No document matches.", "Change the search or show all.")
    body = join(
        Markup(
            '<tr><td data-label="Row">{}</td><td data-label="Document">{}</td><td data-label="Loss of the base">{}</td>'
            '<td data-label="Loss of the adapted">{}</td><td data-label="Change">{}</td></tr>'
        ).format(
            row["row"],
            _text(row["document"][:_DOCUMENT] + (" …" if len(row["document"]) > _DOCUMENT else "")),
            short(row["base_loss"]),
            short(row["adapted_loss"]),
            badge(*_change(row)),
        )
        for row in rows[offset : offset + PAGE_ROWS]
    )
    return line + Markup(
        '<div class="ft-scroll" tabindex="0" role="region" aria-label="Documents">'
        '<table class="ft-table ft-answers"><thead><tr><th scope="col">Row</th><th scope="col">Document</th>'
        '<th scope="col">Loss of the base</th><th scope="col">Loss of the adapted</th><th scope="col">Change</th></tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(body)


def _change(row: dict[str, Any]) -> tuple[str, str]:
    change = row["adapted_loss"] - row["base_loss"]
    return ("improved", "good") if change < 0 else ("got worse", "warn") if change > 0 else ("unchanged", "info")


def _mark(correct: bool, loss: float | None) -> Markup:
    return Markup('<div class="ft-mark">{} <span class="ft-help">loss {}</span></div>').format(
        badge("equal" if correct else "differs", "good" if correct else "warn"), short(loss)
    )


def _text(text: str) -> Markup:
    return Markup('<div class="ft-text">{}</div>').format(text or "(nothing)")
