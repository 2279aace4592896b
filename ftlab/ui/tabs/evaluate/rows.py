"""All held-out rows: the answer of each side, with differing words marked; search, filter, sort.

elem_ids: `evaluate_answers_box`, `evaluate_search`, `evaluate_filter`, `evaluate_order`, `evaluate_by` (measure),
`evaluate_left` and `evaluate_right` (sides), `evaluate_marks`, `evaluate_answers`, `evaluate_previous`,
`evaluate_next`, `evaluate_page`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ftlab.core.comparison import ComparisonJson, MeasureInfoJson, SideJson, decided_by
from ftlab.evaluation.metrics.table import Measure
from ftlab.evaluation.rows import FILTERS, LOSS, LOSS_MEASURE, ORDERS, measured, ordered, select
from ftlab.report.measures import measures_of, sides_of
from ftlab.ui.kit import forms
from ftlab.ui.kit.answer_tables import MARKS, PAGE_ROWS, Look, answer_table, document_table
from ftlab.ui.kit.events import any_of, on, steps
from ftlab.ui.kit.html import count

Shown = tuple[ComparisonJson, list[dict[str, Any]]]  # a comparison and its rows


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    search: gr.Textbox
    filter: gr.Radio
    order: gr.Dropdown
    by: gr.Dropdown
    left: gr.Dropdown
    right: gr.Dropdown
    marks: gr.Dropdown
    answers: gr.HTML
    previous: gr.Button
    next: gr.Button
    page: gr.Number

    @property
    def looked_at(self) -> list[Any]:
        """The components that determine which rows are shown, and how."""
        return [self.search, self.filter, self.order, self.by, self.left, self.right, self.marks, self.page]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.box, self.by, self.left, self.right]


def build() -> Panel:
    with gr.Accordion("All answers", open=False, visible=False, elem_id="evaluate_answers_box") as box:
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            search = gr.Textbox(
                label="Search", placeholder="words in prompts or answers", elem_id="evaluate_search", min_width=220
            )
            filter_ = gr.Radio(list(FILTERS), value="All", label="Show", elem_id="evaluate_filter", min_width=300)
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            order = _dropdown("Order", "evaluate_order", [(title, name) for name, title in ORDERS.items()], "data")
            by = _dropdown("Better or worse by", "evaluate_by")
            left = _dropdown("From", "evaluate_left")
            right = _dropdown("To", "evaluate_right")
            marks = _dropdown(
                "Mark words", "evaluate_marks", [(title, name) for name, title in MARKS.items()], "reference"
            )
        answers = gr.HTML(elem_id="evaluate_answers")
        with gr.Row(elem_classes="ft-pager"):
            previous, page, next_ = forms.pager("evaluate")
    return Panel(box, search, filter_, order, by, left, right, marks, answers, previous, next_, page)


def wire(
    panel: Panel, chosen: Sequence[Any], result_now: Callable[..., Shown | None], changed: Any, message: gr.HTML
) -> None:
    """`chosen` are the components that select the comparison, `shown` returns it with its rows, `changed` is the event
    that another comparison is displayed."""
    runs = len(chosen)

    def turn(*values: Any, by: int | None = None) -> dict[Any, Any]:
        result = result_now(*values[:runs])
        if result is None:
            return {}
        *looked, page = values[runs:]
        return page_of(panel, *result, *looked, page=1 if by is None else int(page or 1) + by)

    def find(*values: Any) -> dict[Any, Any]:
        return turn(*values)

    def stay(*values: Any) -> dict[Any, Any]:
        return turn(*values, by=0)

    backwards, forwards = steps(turn)

    inputs, turned = [*chosen, *panel.looked_at], [panel.answers, panel.page]
    # One event for a filter and for another displayed run. If selecting a run drew the rows itself, its reply could
    # arrive after a filter set in the meantime. Not .change of the lists: displaying another run sets them.
    finding = (changed, panel.search.change, panel.filter.input, panel.order.input, panel.by.input, panel.left.input)
    shows: dict[str, Any] = {"box": message, "clears": False, "lane": "rows of an evaluation"}
    on(any_of(*finding, panel.right.input), find, inputs, turned, trigger_mode="always_last", **shows)
    moves = ((panel.previous.click, backwards), (panel.next.click, forwards), (panel.page.submit, stay))
    for trigger, handler in (*moves, (panel.marks.input, stay)):
        on(trigger, handler, inputs, turned, **shows)


def show(panel: Panel, comparison: ComparisonJson, rows: list[dict[str, Any]]) -> dict[Any, Any]:
    """Updates for a newly selected comparison; `wire`'s event draws its rows, as filtered."""
    sides = sides_of(comparison)
    titles = [(side["title"], side["name"]) for side in sides]
    left, right = sides[0]["name"], newest(sides)
    measures = measures_shown(comparison, rows)
    by = usual(comparison, measures)
    return {
        panel.box: gr.update(visible=bool(rows), label=f"All {count(len(rows))} {documents_or_answers(rows)}"),
        panel.by: gr.update(choices=[(info["title"], name) for name, info in measures.items()], value=by),
        panel.left: gr.update(choices=titles, value=left, visible=len(sides) > 2),
        panel.right: gr.update(choices=titles, value=right, visible=len(sides) > 2),
    }


def page_of(
    panel: Panel,
    comparison: ComparisonJson,
    rows: list[dict[str, Any]],
    search: str | None,
    kind: str | None,
    order: str | None,
    by: str | None,
    left: str | None,
    right: str | None,
    marks: str | None,
    *,
    page: int = 1,
) -> dict[Any, Any]:
    """Updates that show one page of the requested rows."""
    sides = sides_of(comparison)
    titles = {side["name"]: side["title"] for side in sides}
    measures = measures_shown(comparison, rows)
    pair = (left if left in titles else sides[0]["name"], right if right in titles else newest(sides))
    by = by if by in measures else usual(comparison, measures)
    measure = measures.get(by, LOSS_MEASURE)
    higher = measure.get("better") != "lower"
    matches = ordered(select(rows, search, kind, by, pair, higher=higher), order or "data", by, pair, higher=higher)
    last = max(1, -(-len(matches) // PAGE_ROWS))
    page = min(max(1, page), last)
    look = Look(page, last, measure, pair, (titles[pair[0]], titles[pair[1]]), marks or "reference")
    draw = document_table if rows and "document" in rows[0] else answer_table
    return {panel.answers: draw(matches, look), panel.page: page}


def measures_by_row(
    comparison: ComparisonJson, rows: Sequence[Mapping[str, Any]], sides: Sequence[str]
) -> dict[str, MeasureInfoJson]:
    """The measures that have a value per row on all `sides`, by name."""
    known: dict[str, MeasureInfoJson] = {info["name"]: info for info in measures_of(comparison)}
    known[LOSS] = LOSS_MEASURE
    return {name: known.get(name) or _unknown(name) for name in measured(rows, sides)}


def measures_shown(comparison: ComparisonJson, rows: Sequence[Mapping[str, Any]]) -> dict[str, MeasureInfoJson]:
    sides = sides_of(comparison)
    return measures_by_row(comparison, rows, [sides[0]["name"], newest(sides)])


def _unknown(name: str) -> MeasureInfoJson:
    return Measure(name, name.replace("_", " ").capitalize(), "", unit="", kind="score").as_json()


def documents_or_answers(rows: Sequence[Mapping[str, Any]]) -> str:
    return "documents" if rows and "document" in rows[0] else "answers"


def usual(comparison: ComparisonJson, measures: Mapping[str, Any]) -> str:
    """The measure that decided the verdict if rows have it; for perplexity, the loss of a row."""
    decided = decided_by(comparison)
    return decided if decided and decided in measures else LOSS if LOSS in measures else next(iter(measures), LOSS)


def newest(sides: list[SideJson]) -> str:
    names = [side["name"] for side in sides]
    return "adapted" if "adapted" in names[1:] else names[-1]


def _dropdown(label: str, elem_id: str, choices: Sequence[Any] = (), value: str | None = None) -> gr.Dropdown:
    return gr.Dropdown(
        list(choices),
        value=value,
        label=label,
        elem_id=elem_id,
        min_width=150,
        interactive=True,
        allow_custom_value=True,
    )
