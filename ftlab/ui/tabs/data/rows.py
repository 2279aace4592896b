"""Rows: page through the data, search them, assign columns to parts, and see which tokens of a row are trained.

elem_ids: `data_facts` (format, sizes, notes),
`data_search` (text), `data_find` (button), `data_split` (the split to page through), `data_table` (a press
on a row's number picks it), `data_previous`, `data_next`, `data_page` (number), `data_row` (number), `data_mapping`
(folded; `data_part_prompt` and so on, `data_detect` to undo them), `set_data_prompt_template`,
`set_data_system_prompt`, `data_rows_message`, `data_rendered` (the row as the model reads it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from ftlab.config import STARTER, DataConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data.formats import PREFERENCES
from ftlab.data.load import forget
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, message_box, on, steps
from ftlab.ui.kit.html import PICK_JS
from ftlab.ui.tabs.data.row_view import page_count, page_table, row_card
from ftlab.ui.tabs.data.sources import DataContext, config_of

# The parts that a column can play, in words; data/formats.py defines them.
PARTS = {
    "prompt": "Prompt",
    "completion": "Answer",
    "input": "Added to the prompt",
    "system": "System prompt",
    "messages": "Whole conversation",
    "chosen": "Chosen answer",
    "rejected": "Rejected answer",
    "text": "Text",
    "label": "Label",
    "history": "Earlier turns",
    "tools": "Tools",
    "choices": "Choices",
    "first": "First of two answers",
    "second": "Second of two answers",
    "winner": "Which one won",
}
NO_PART = ""


@dataclass(frozen=True)
class RowsPanel:
    facts: gr.HTML
    search: gr.Textbox
    find: gr.Button
    split: gr.Dropdown
    rows: gr.HTML
    page: gr.Number
    previous: gr.Button
    next: gr.Button
    row: gr.Number
    mapping: gr.Accordion
    parts: dict[str, gr.Dropdown]
    detect: gr.Button
    message: gr.HTML
    rendered: gr.HTML
    form: forms.Form
    place: gr.State  # the source of the current page and row, so that another look keeps them


def build(form: forms.Form) -> RowsPanel:
    facts = gr.HTML(elem_id="data_facts")
    with gr.Row(elem_id="data_finder"):
        search = gr.Textbox(
            label="Search",
            placeholder="Rows that contain this text. Press Enter to search.",
            max_lines=1,
            elem_id="data_search",
            scale=3,
            min_width=200,
        )
        find = gr.Button("Search", elem_id="data_find", size="sm", scale=0, min_width=90)
        split = gr.Dropdown([], label="Split", elem_id="data_split", scale=1, min_width=130, visible=False)
    rows = gr.HTML(elem_id="data_table", js_on_load=PICK_JS)
    with gr.Row(elem_classes="ft-pager"):
        previous, page, next_ = forms.pager("data")
        row = gr.Number(0, label="Row shown", precision=0, elem_id="data_row", scale=0, min_width=120)
    with gr.Accordion(
        "Which column is which, system prompt, prompt template", open=False, elem_id="data_mapping"
    ) as mapping:
        gr.HTML(
            '<span class="ft-help">Column roles were detected. Change any that are wrong; '
            "the row below updates right away.</span>"
        )
        with gr.Row(elem_id="data_parts"):
            parts = {
                part: gr.Dropdown(
                    [("none", NO_PART)], value=NO_PART, label=title, elem_id=f"data_part_{part}", min_width=150
                )
                for part, title in PARTS.items()
            }
        # The dropdowns' values as the setting of a run (YAML). Loading an older run into the form fills it too.
        form.components["data.columns"] = gr.State("")
        with gr.Row():
            form.draw("data.prompt_template", min_width=260, lines=2)
            form.draw("data.system_prompt", min_width=260, lines=2)
        detect = gr.Button("Detect the columns again", elem_id="data_detect", size="sm")
    message = message_box("data_rows_message")
    rendered = gr.HTML(elem_id="data_rendered")
    return RowsPanel(
        facts, search, find, split, rows, page, previous, next_, row, mapping, parts, detect, message, rendered, form,
        gr.State(None),
    )  # fmt: skip


def changes(panel: RowsPanel) -> list[Any]:
    """The events after which the data are read differently."""
    return [panel.form.components["data.columns"].change, *(text.blur for text in _texts(panel))]


def wire(panel: RowsPanel, context: DataContext, looks: Sequence[Any]) -> None:
    """`looks` are the events after which other data are displayed."""
    workspace, columns = context.workspace, panel.form.components["data.columns"]

    def follow(config_json: str | None, place: str | None, page: float | None, row: float | None) -> dict[Any, Any]:
        """After a look: start at the top for another source, stay on the page and row for the same one."""
        if config_json is None:
            return _nothing(panel)
        config = config_of(config_json)
        inspection, here = inspected(config, workspace), f"{config.source} {config.subset} {config.split}"
        same = here == place
        splits = list(inspection.source_splits)
        page, row = (_whole(page, 1), _whole(row, 0)) if same else (1, 0)
        known = config.columns or (inspection.detected.columns if inspection.detected else {})
        choices = [("none", NO_PART), *((name, name) for name in inspection.columns)]
        updates: dict[Any, Any] = {}
        # Incomplete choices are not reset while a person is still assigning parts.
        if not (same and config.columns):
            updates = {
                dropdown: gr.update(choices=choices, value=known.get(part, NO_PART))
                for part, dropdown in panel.parts.items()
            }
        if not same:
            updates |= {panel.search: "", panel.page: page, panel.row: row}
            updates[panel.mapping] = gr.update(open=bool(inspection.problem))
            updates[panel.split] = gr.update(choices=splits, value=_first_split(splits), visible=len(splits) > 1)
            updates[panel.rows] = page_table(inspection, page, row, None, "")
        return updates | {panel.place: here}

    def turn(
        config_json: str | None,
        page: float | None,
        row: float | None,
        search: str | None,
        split: str | None,
        *,
        by: int = 0,
    ) -> dict[Any, Any]:
        if config_json is None:
            return {}
        inspection = inspected(config_of(config_json), workspace)
        wanted = max(1, _whole(page, 1) + by)
        if not (search or "").strip():
            wanted = min(wanted, page_count(inspection, split))
        return {panel.page: wanted, panel.rows: page_table(inspection, wanted, _whole(row, 0), split, search or "")}

    backwards, forwards = steps(turn)

    def first(
        config_json: str | None, _: Any, row: float | None, search: str | None, split: str | None
    ) -> dict[Any, Any]:
        return turn(config_json, 1, row, search, split)

    def pick(event: gr.EventData) -> dict[Any, Any]:
        return {panel.row: int(event._data["value"])}

    def render(row: float | None, split: str | None, base: str | None, longest: str | None, *values: Any) -> Any:
        config = build_config(panel.form.collect(values)).data
        typed = (longest or "").strip()
        length = int(typed) if typed.isdigit() else None
        return {panel.rendered: row_card(config, workspace, _whole(row, 0), split, base or STARTER, length)}

    def say(*values: str | None) -> dict[Any, Any]:
        """The parts as the setting `data.columns`, which a run stores."""
        chosen = {part: column for part, column in zip(PARTS, values, strict=True) if column}
        return {columns: yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True).strip() if chosen else ""}

    reads = [panel.row, panel.split, context.base, context.max_length, *panel.form.inputs]
    # Only the row view waits for the tokenizer; the preview appears before.
    shows: dict[str, Any] = {"outputs": [panel.rendered], "box": panel.rendered, "trigger_mode": "always_last"}
    followed = [panel.place, panel.search, panel.page, panel.row, panel.split, panel.rows, panel.mapping]
    place = [context.config_json, panel.place, panel.page, panel.row]
    for looked in looks:
        event = on(looked.then, follow, place, [*followed, *panel.parts.values()], box=panel.message, lane="data rows")
        on(event.then, render, reads, **shows)
    paging = [context.config_json, panel.page, panel.row, panel.search, panel.split]
    turned: dict[str, Any] = {"outputs": [panel.page, panel.rows], "box": panel.message, "lane": "data rows"}
    on(panel.previous.click, backwards, paging, **turned)
    on(panel.next.click, forwards, paging, **turned)
    on(panel.page.submit, turn, paging, **turned)
    searched = any_of(panel.search.submit, panel.find.click, panel.split.input)
    turning: dict[str, Any] = {"progress": "minimal", "show_progress_on": panel.rows, "trigger_mode": "always_last"}
    on(searched, first, paging, **turning, **turned)
    on(panel.rows.pick, pick, [], [panel.row], box=panel.message, trigger_mode="multiple")
    chosen = (panel.row.change, panel.split.input, context.base.change, context.max_length.change)
    on(any_of(*chosen, *(text.change for text in _texts(panel))), render, reads, **shows)
    for dropdown in panel.parts.values():
        on(dropdown.input, say, list(panel.parts.values()), [columns], box=panel.message)


def detect_again(panel: RowsPanel, context: DataContext) -> Any:
    """Wire the button that resets the assigned columns. After the returned event, look at the data again."""
    columns = panel.form.components["data.columns"]

    def detect(config_json: str | None) -> dict[Any, Any]:
        if config_json is not None:
            forget(config_of(config_json), context.workspace)
        return {columns: ""}

    return on(panel.detect.click, detect, [context.config_json], [columns], box=panel.message)


def _texts(panel: RowsPanel) -> list[gr.Textbox]:
    return [panel.form.components[path] for path in ("data.prompt_template", "data.system_prompt")]


def _nothing(panel: RowsPanel) -> dict[Any, Any]:
    return {panel.rows: "", panel.place: None, panel.split: gr.update(visible=False)}


def _first_split(splits: Sequence[str]) -> str | None:
    return "train" if "train" in splits else next(iter(splits), None)


def _whole(value: float | None, default: int) -> int:
    return default if value is None else max(0, int(value))


def inspected(config: DataConfig, workspace: Workspace) -> Any:
    """The inspection of `config`. Cached: asking again for an unchanged file costs nothing."""
    from ftlab.data.inspection import look

    return look(config, workspace)


def holds_preferences(config_json: str | None, workspace: Workspace) -> bool:
    """Whether the current data are pairs, thumbs or prompts for rewards, which the Preferences tab learns from."""
    return config_json is not None and inspected(config_of(config_json), workspace).format in (*PREFERENCES, "kto")
