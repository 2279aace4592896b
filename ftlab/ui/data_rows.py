"""Rows: page through the data, search them, change which column plays which part, and see what of a row is trained.

elem_ids: `data_search` (text), `data_table` (a press on a row's number picks it), `data_previous`, `data_next`,
`data_page` (number), `data_row` (number), `data_mapping` (folded: `set_data_columns`, `set_data_prompt_template`,
`set_data_system_prompt`), `data_map_message`, `data_rendered` (the row as the model reads it).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import STARTER, DataConfig
from ftlab.ui import forms
from ftlab.ui.data_sources import DataContext, config_of
from ftlab.ui.events import on
from ftlab.ui.html import PICK_JS, count, heading, join, pick_button, table
from ftlab.workspace import Workspace

PAGE_ROWS = 10


@dataclass(frozen=True)
class RowsPanel:
    rows: gr.HTML
    page: gr.Number
    previous: gr.Button
    next: gr.Button
    row: gr.Number
    rendered: gr.HTML
    form: forms.Form


def build(form: forms.Form) -> RowsPanel:
    rows = gr.HTML(elem_id="data_table", js_on_load=PICK_JS)
    with gr.Row(elem_classes="ft-pager"):
        previous = gr.Button("Previous", elem_id="data_previous", size="sm", scale=0, min_width=100)
        page = gr.Number(1, label="Page", precision=0, elem_id="data_page", scale=0, min_width=110)
        next_ = gr.Button("Next", elem_id="data_next", size="sm", scale=0, min_width=100)
    with gr.Row(elem_classes="ft-pager"):
        row = gr.Number(0, label="Row to show", precision=0, elem_id="data_row", scale=0, min_width=130)
    for path in ("data.columns", "data.system_prompt", "data.prompt_template"):
        form.draw(path)
    rendered = gr.HTML(elem_id="data_rendered")
    return RowsPanel(rows, page, previous, next_, row, rendered, form)


def wire(panel: RowsPanel, context: DataContext) -> None:
    """Wire the handlers of the panel."""


def views(panel: RowsPanel) -> list[Any]:
    return [panel.rows, panel.page, panel.row]


def show(panel: RowsPanel, shown: str | None, workspace: Workspace) -> dict[Any, Any]:
    return {}


def inspected(config: DataConfig, workspace: Workspace) -> Any:
    """What there is to know about `config`; asking again for an unchanged file costs nothing."""
    from ftlab.data.inspection import look

    return look(config, workspace)
