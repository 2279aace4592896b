"""The layout of the Curate panel: the row and its judgment on the left, the person and saving on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.data import curation as drafts
from ftlab.ui.kit.events import message_box
from ftlab.ui.kit.html import empty
from ftlab.ui.kit.row_card import CARD_JS
from ftlab.ui.tabs.data import curate_desk

_HELP = (
    "Shortcuts, when no text box has focus: <kbd>g</kbd> good, <kbd>b</kbd> bad, <kbd>u</kbd> no mark, <kbd>x</kbd> "
    "to the reason for excluding (Enter excludes), <kbd>e</kbd> edit, <kbd>n</kbd> or <kbd>→</kbd> next, "
    "<kbd>p</kbd> or <kbd>←</kbd> previous."
)


_LOOKS: dict[str, Any] = {"size": "sm", "min_width": 90}


@dataclass(frozen=True)
class Panel:
    looked: gr.State  # changes after each look at data
    kept: gr.State  # the source that place and filter belong to
    body: gr.Column
    nothing: gr.HTML
    who: gr.Textbox
    again: gr.Button  # pressed by the script that stores the name
    status: gr.HTML
    unsaved: gr.Column
    why: gr.Textbox
    save: gr.Button
    discard: gr.Button
    confirm: gr.Column
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    choice: gr.Column
    choices: gr.HTML
    onto: gr.Button
    beside: gr.Button
    wait: gr.Button
    tools: gr.Column
    filter: gr.Dropdown
    search: gr.Textbox
    previous: gr.Button
    next: gr.Button
    number: gr.Textbox
    go: gr.Button
    message: gr.HTML
    card: gr.HTML
    at: gr.Textbox
    verdict: gr.Column
    good: gr.Button
    bad: gr.Button
    none: gr.Button
    edit: gr.Button
    reason: gr.Textbox
    exclude: gr.Button
    back: gr.Button
    note: gr.Textbox
    annotate: gr.Button
    onwards: gr.Checkbox

    @property
    def seen(self) -> list[Any]:
        """The page values that every handler receives, after the current data."""
        return [self.who, self.at, self.filter, self.search]

    @property
    def screen(self) -> list[Any]:
        return [
            *(self.body, self.nothing, self.status, self.unsaved, self.confirm, self.choice, self.tools),
            *(self.card, self.at, self.verdict, self.exclude, self.back),
        ]


def build() -> Panel:
    parts: dict[str, Any] = {"looked": gr.State(""), "kept": gr.State(None)}
    parts["nothing"] = gr.HTML(nothing_to_judge(), elem_id="data_curate_nothing")
    with gr.Column(visible=False) as parts["body"], gr.Row(equal_height=False, elem_id="data_curate_layout"):
        with gr.Column(scale=3, min_width=320):
            with gr.Column(elem_id="data_curate_tools") as parts["tools"]:
                parts |= _build_tools()
            parts["card"] = gr.HTML(elem_id="data_curate_row", js_on_load=CARD_JS)
            parts["message"] = message_box("data_curate_message")
            # Not visible="hidden": a column that becomes visible again also shows such a box.
            parts["at"] = gr.Textbox(elem_id="data_curate_at", elem_classes="ft-gone", label="Current row")
            with gr.Column(elem_id="data_curate_verdict") as parts["verdict"]:
                parts |= _build_verdict()
        with gr.Column(scale=1, min_width=280, elem_id="data_curate_side"):
            parts |= _build_saving()
    return Panel(**parts)


def _button(text: str, name: str, **settings: Any) -> gr.Button:
    return gr.Button(text, elem_id=f"data_curate_{name}", **(_LOOKS | settings))


def _text(name: str, label: str, placeholder: str, **settings: Any) -> gr.Textbox:
    """A text box beside a button, without a frame of its own."""
    looks = {"show_label": False, "container": False, "max_lines": 1, "scale": 3, "min_width": 180}
    return gr.Textbox(label=label, placeholder=placeholder, elem_id=f"data_curate_{name}", **(looks | settings))


def _build_saving() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    parts["who"] = gr.Textbox(
        label="Your name",
        info="Recorded with everything you judge. Kept in this browser.",
        max_lines=1,
        max_length=drafts.LONGEST_NAME,
        elem_id="data_curate_who",
    )
    parts["again"] = _button("Look again", "again", elem_classes="ft-gone")
    parts["status"] = gr.HTML(elem_id="data_curate_status", js_on_load=CARD_JS)
    with gr.Column(visible=False, elem_id="data_curate_unsaved", elem_classes="ft-unsaved") as parts["unsaved"]:
        parts["why"] = gr.Textbox(
            label="Why (optional)", placeholder="for future readers", max_lines=2, elem_id="data_curate_why"
        )
        with gr.Row():
            parts["save"] = _button("Save as a new version", "save", variant="primary", min_width=180)
            parts["discard"] = _button("Discard", "discard", variant="stop")
    with gr.Column(visible=False, elem_id="data_curate_confirm", elem_classes="ft-box ft-warn") as parts["confirm"]:
        parts["question"] = gr.HTML()
        with gr.Row():
            parts["yes"] = _button("Yes, discard them", "yes", variant="stop")
            parts["no"] = _button("Keep them", "no")
    with gr.Column(visible=False, elem_id="data_curate_choice", elem_classes="ft-box ft-warn") as parts["choice"]:
        parts["choices"] = gr.HTML()
        with gr.Row():
            parts["onto"] = _button("Add mine to the later version", "onto", variant="primary", min_width=200)
            parts["beside"] = _button("Save beside it", "beside", min_width=140)
            parts["wait"] = _button("Not now", "wait")
    return parts


def _build_tools() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        parts["filter"] = gr.Dropdown(
            curate_desk.FILTERS, value=curate_desk.FILTERS[0], label="Show", elem_id="data_curate_filter", min_width=150
        )
        parts["search"] = gr.Textbox(
            label="Search",
            placeholder="text in any column, then Enter",
            max_lines=1,
            elem_id="data_curate_search",
            min_width=200,
        )
    with gr.Row(elem_classes="ft-pager ft-curate-pager"):
        parts["previous"] = _button("Previous", "previous", scale=0, min_width=100)
        parts["next"] = _button("Next", "next", scale=0, min_width=100)
        parts["number"] = _text("number", "Row number", "row number", scale=0, min_width=120)
        parts["go"] = _button("Go", "go", scale=0, min_width=60)
    return parts


def _build_verdict() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="ft-verdict"):
        parts["good"] = _button("Good", "good", size="lg")
        parts["bad"] = _button("Bad", "bad", size="lg")
        parts["none"] = _button("No mark", "none", size="lg")
        parts["edit"] = _button("Edit", "edit", size="lg")
    with gr.Row(elem_classes="ft-with-button"):
        parts["reason"] = _text("reason", "Reason for excluding", "why training should skip this row", max_length=300)
        parts["exclude"] = _button("Exclude", "exclude", scale=1, min_width=110)
        parts["back"] = _button("Bring back", "back", scale=1, min_width=110, visible=False)
    with gr.Row(elem_classes="ft-with-button"):
        hint = "a note for others; changes nothing else"
        parts["note"] = _text("note", "Note", hint, max_lines=3, max_length=2000)
        parts["annotate"] = _button("Add the note", "annotate", scale=1, min_width=110)
    parts["onwards"] = gr.Checkbox(
        True, label="Go to the next row after each judgment", container=False, elem_id="data_curate_onwards"
    )
    gr.HTML(Markup('<p class="ft-help">{}</p>').format(Markup(_HELP)))
    return parts


def nothing_to_judge() -> Markup:
    return empty("No data to judge yet.", "Choose data above: a sample, a version or your own file.")
