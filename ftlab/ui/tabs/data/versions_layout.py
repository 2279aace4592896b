"""The layout of the Versions panel: the history at the top, actions on versions collapsed below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ftlab.ui.kit import forms
from ftlab.ui.kit.events import message_box
from ftlab.ui.kit.html import notice
from ftlab.ui.kit.hub_account import about_token
from ftlab.ui.tabs.data.versions_view import HISTORY_JS

SPLIT_FIELDS = ("validation_fraction", "test_fraction", "seed", "group_by", "stratify_by", "near_duplicates")
KINDS = [
    ("JSONL, the columns as they are", "jsonl"),
    ("Parquet", "parquet"),
    ("CSV for spreadsheets (formulas are neutralised)", "csv"),
    ("OpenAI chat JSONL, checked", "openai"),
]
_LOOKS: dict[str, Any] = {"size": "md", "min_width": 140, "elem_classes": "ft-act"}


@dataclass(frozen=True)
class Panel:
    looked: gr.State  # changes after each look at data
    kept: gr.State  # the source that the messages on the page are about
    form: forms.Form
    about: gr.HTML
    set: gr.Dropdown
    history: gr.HTML
    first: gr.Button
    who: gr.Textbox
    why: gr.Textbox
    message: gr.HTML
    before: gr.Dropdown
    after: gr.Dropdown
    compare: gr.Button
    page: gr.State
    pager: gr.Row
    previous: gr.Button
    next: gr.Button
    diff_message: gr.HTML
    diff: gr.HTML
    split: gr.Button
    split_message: gr.HTML
    kind: gr.Dropdown
    export: gr.Button
    file: gr.DownloadButton
    export_message: gr.HTML
    exported: gr.HTML
    repository: gr.Textbox
    private: gr.Checkbox
    licence: gr.Textbox
    preview: gr.Button
    previewed: gr.State
    send: gr.Button
    send_message: gr.HTML
    card: gr.HTML
    doomed: gr.Dropdown
    delete: gr.Button
    confirm: gr.Column
    question: gr.HTML
    force: gr.Checkbox
    yes: gr.Button
    no: gr.Button
    delete_message: gr.HTML


def build() -> Panel:
    parts: dict[str, Any] = {"looked": gr.State(""), "kept": gr.State(None), "form": forms.Form()}
    parts["about"] = gr.HTML(elem_id="data_versions_about")
    parts["set"] = gr.Dropdown(
        [], value=None, label="Data set", info="All data sets that have versions.", elem_id="data_versions_set"
    )
    parts["history"] = gr.HTML(elem_id="data_versions_history", js_on_load=HISTORY_JS)
    parts["first"] = _button("Make version 1 of this data", "first", visible=False, variant="primary", size="md")
    parts["message"] = message_box("data_versions_message")
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        parts["who"] = gr.Textbox(
            label="Your name",
            info="Recorded with each version you make.",
            max_lines=1,
            max_length=80,
            elem_id="data_versions_who",
            min_width=200,
        )
        parts["why"] = gr.Textbox(
            label="Why (optional)",
            info="For readers of the history.",
            max_lines=2,
            elem_id="data_versions_why",
            min_width=200,
        )
    with gr.Accordion("Compare two versions", open=False, elem_id="data_versions_compare_box"):
        parts |= _build_diff()
    with gr.Accordion("Split", open=False, elem_id="data_versions_split_box"):
        parts |= _build_split(parts["form"])
    with gr.Accordion("Save as a file", open=False, elem_id="data_versions_export_box"):
        parts |= _build_export()
    with gr.Accordion("Send to the Hugging Face Hub", open=False, elem_id="data_versions_hub_box"):
        parts |= _build_hub()
    with gr.Accordion("Delete a version", open=False, elem_id="data_versions_delete_box"):
        parts |= _build_delete()
    return Panel(**parts)


def _button(text: str, name: str, **settings: Any) -> gr.Button:
    return gr.Button(text, elem_id=f"data_versions_{name}", **(_LOOKS | settings))


def _build_diff() -> dict[str, Any]:
    parts: dict[str, Any] = {"page": gr.State(1)}
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        for name, label in (("before", "Before"), ("after", "After")):
            parts[name] = gr.Dropdown([], value=None, label=label, elem_id=f"data_versions_{name}", min_width=240)
    parts["compare"] = _button("Compare", "compare", variant="primary")
    parts["diff_message"] = message_box("data_versions_diff_message")
    parts["diff"] = gr.HTML(elem_id="data_versions_diff")
    with gr.Row(elem_classes="ft-pager", visible=False) as parts["pager"]:
        parts["previous"] = _button("Previous", "diff_previous", scale=0, min_width=100)
        parts["next"] = _button("Next", "diff_next", scale=0, min_width=100)
    return parts


def _build_split(form: forms.Form) -> dict[str, Any]:
    gr.HTML(
        notice(
            "Assigns every row to a split and saves that as a new version. The split is frozen: every run that names "
            "the version trains and tests on the same rows. Splits that come with the data stay."
        )
    )
    with gr.Row(equal_height=False):
        for name in SPLIT_FIELDS:
            form.draw(f"data.{name}", elem_id=f"data_versions_{name}", min_width=240)
    parts = {"split": _button("Split as a new version", "split", variant="primary", min_width=200)}
    return parts | {"split_message": message_box("data_versions_split_message")}


def _build_export() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(equal_height=True, elem_classes="ft-controls"):
        parts["kind"] = gr.Dropdown(
            KINDS,
            value="jsonl",
            label="Form",
            info="Several splits are saved as one zip. Excluded rows are left out.",
            elem_id="data_versions_kind",
            min_width=260,
        )
    parts["export"] = _button("Save", "export", variant="primary")
    parts["file"] = gr.DownloadButton("Download", elem_id="data_versions_file", elem_classes="ft-gone")
    parts["export_message"] = message_box("data_versions_export_message")
    parts["exported"] = gr.HTML(elem_id="data_versions_exported")
    return parts


def _build_hub() -> dict[str, Any]:
    parts: dict[str, Any] = {"previewed": gr.State(None)}
    gr.HTML(notice(about_token()))
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        parts["repository"] = gr.Textbox(
            label="Repository", placeholder="owner/name", max_lines=1, elem_id="data_versions_repository", min_width=220
        )
        parts["licence"] = gr.Textbox(
            label="Licence (optional)",
            placeholder="cc-by-4.0",
            max_lines=1,
            elem_id="data_versions_licence",
            min_width=160,
        )
    parts["private"] = gr.Checkbox(
        True,
        label="Private: only you and people you invite can read it",
        container=False,
        elem_id="data_versions_private",
    )
    with gr.Row():
        parts["preview"] = _button("Show what would be sent", "preview", min_width=230)
        parts["send"] = _button("Send", "send", variant="primary", visible=False)
    parts["send_message"] = message_box("data_versions_send_message")
    parts["card"] = gr.HTML(elem_id="data_versions_card")
    return parts


def _build_delete() -> dict[str, Any]:
    parts: dict[str, Any] = {
        "doomed": gr.Dropdown(
            [],
            value=None,
            label="Version",
            elem_id="data_versions_doomed",
            min_width=240,
            info="Deletes its rows. Who made it, when and why stays on record.",
        ),
        "delete": _button("Delete", "delete", variant="stop"),
        "delete_message": message_box("data_versions_delete_message"),
    }
    with gr.Column(visible=False, elem_id="data_versions_confirm", elem_classes="ft-box ft-warn") as parts["confirm"]:
        parts["question"] = gr.HTML()
        parts["force"] = gr.Checkbox(
            False,
            label="These runs need not be repeatable",
            container=False,
            elem_id="data_versions_force",
            visible=False,
        )
        with gr.Row():
            parts["yes"] = _button("Yes, delete it", "yes", variant="stop")
            parts["no"] = _button("Keep it", "no")
    return parts
