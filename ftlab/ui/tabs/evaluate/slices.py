"""Slices: where the run is better and where not, by the values of one column of the held-out rows.

elem_ids: `evaluate_slices_box`, `evaluate_slice_column`, `evaluate_slice_measure`, `evaluate_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson, MeasureInfoJson, SideJson, decided_by
from ftlab.evaluation.figures import signed, value_text
from ftlab.evaluation.rows import Slice, columns_of, findings, slices
from ftlab.report.measures import interval_text, sides_of
from ftlab.ui.kit.events import any_of, on
from ftlab.ui.kit.html import count, empty, heading, join, scrolling
from ftlab.ui.tabs.evaluate.rows import Shown, measures_by_row

_MOST_SIDES = 4


@dataclass(frozen=True)
class Panel:
    box: gr.Column
    column: gr.Dropdown
    measure: gr.Dropdown
    table: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.column, self.measure]


def build() -> Panel:
    with gr.Column(visible=False, elem_id="evaluate_slices_box") as box:
        gr.HTML(heading("Slices", "The same figures per group of rows: where it helps, and where it does not."))
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            column = gr.Dropdown(
                [], label="By column", allow_custom_value=True, elem_id="evaluate_slice_column", min_width=180
            )
            measure = gr.Dropdown(
                [], label="Measure", allow_custom_value=True, elem_id="evaluate_slice_measure", min_width=180
            )
        table = gr.HTML(elem_id="evaluate_slices")
    return Panel(box, column, measure, table)


def wire(
    panel: Panel, chosen: Sequence[Any], result_now: Callable[..., Shown | None], changed: Any, message: gr.HTML
) -> None:
    """Like `rows.wire`."""

    def cut(*values: Any) -> dict[Any, Any]:
        *runs, column, measure = values
        result = result_now(*runs)
        return {panel.table: slice_table(*result, column, measure)} if result else {}

    picked = any_of(changed, panel.column.input, panel.measure.input)
    inputs = [*chosen, panel.column, panel.measure]
    on(picked, cut, inputs, [panel.table], box=message, clears=False, queue=False, trigger_mode="always_last")


def show(panel: Panel, comparison: ComparisonJson, rows: list[dict[str, Any]]) -> dict[Any, Any]:
    """Updates for slices by the first column, drawn by `wire`'s event; hidden if no column divides the rows."""
    columns, measures = columns_of(rows), _measures(comparison, rows)
    if not columns or not measures:
        return {panel.box: gr.update(visible=False)}
    decided = decided_by(comparison)
    measure = decided if decided in measures else next(iter(measures))
    return {
        panel.box: gr.update(visible=True),
        panel.column: gr.update(choices=columns, value=columns[0]),
        panel.measure: gr.update(choices=[(info["title"], name) for name, info in measures.items()], value=measure),
    }


def slice_table(
    comparison: ComparisonJson, rows: list[dict[str, Any]], column: str | None, measure: str | None
) -> Markup:
    """A line for each value of `column`: rows, every side with its interval, and the change with its own."""
    measures = _measures(comparison, rows)
    if column not in columns_of(rows) or measure not in measures:
        return empty("No slices by this column and measure.", "Choose another column or measure.")
    sides = sides_of(comparison)[:_MOST_SIDES]
    parts = slices(rows, column, measure, [side["name"] for side in sides])
    info, first = measures[measure], sides[0]["title"]
    heads = [column, *(side["title"] for side in sides)]
    certain = {side["name"]: findings(parts, side["name"]) for side in sides[1:]}
    body = join(
        _line(part, info, sides, {side: of[place] for side, of in certain.items()}) for place, part in enumerate(parts)
    )
    table = scrolling(heads, body, label="Slices", numbers=range(1, len(heads)), css="ft-scores")
    return table + Markup(
        '<p class="ft-help">Small print: 95% interval; then the change from {}, with its own. Colored where it is '
        "more than chance explains among {} slices (Holm).</p>"
    ).format(first.lower(), count(len(parts)))


def _line(part: Slice, measure: MeasureInfoJson, sides: list[SideJson], certain: Mapping[str, bool]) -> Markup:
    cells = join(
        Markup('<td class="ft-num" data-label="{}"><b>{}</b><span class="ft-help">{}</span>{}</td>').format(
            side["title"],
            value_text(measure, part.means[side["name"]]),
            interval_text(measure, part.intervals[side["name"]]),
            _difference(part, side["name"], measure, certain[side["name"]]) if place else "",
        )
        for place, side in enumerate(sides)
    )
    return Markup('<tr><th scope="row">{} <span class="ft-help">{} rows</span></th>{}</tr>').format(
        part.value, count(part.rows), cells
    )


def _difference(part: Slice, side: str, measure: MeasureInfoJson, certain: bool) -> Markup:
    value, interval = part.differences[side], part.difference_intervals[side]
    better = (value > 0) == (measure.get("better") != "lower") if certain else None
    scale = 100 if measure["kind"] == "share" else 1
    unit = " points" if measure["kind"] == "share" else ""
    ends = f" ({' to '.join(_amount(scale * end) for end in interval)})" if interval else ""
    tone = {True: "ft-up", False: "ft-down", None: ""}[better]
    return Markup('<span class="ft-change {}">{}{}{}</span>').format(tone, _amount(scale * value), unit, ends)


def _amount(value: float) -> str:
    return signed(f"{abs(value):.3g}" if abs(value) < 100 else f"{abs(value):,.0f}", value)


def _measures(comparison: ComparisonJson, rows: list[dict[str, Any]]) -> dict[str, MeasureInfoJson]:
    return measures_by_row(comparison, rows, [side["name"] for side in sides_of(comparison)[:_MOST_SIDES]])
