"""Repeat the selected blind test on fresh prompts: its contestants and plan stay, so that the two can be pooled.

elem_ids: `blind_repeat_box` (folded), `blind_repeat_source`, `blind_repeat_upload`, `blind_repeat_number`,
`blind_repeat`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.arena import links, pooling
from ftlab.arena.store import Store
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.forms import whole_number
from ftlab.ui.kit.html import help_link
from ftlab.ui.tabs.blind_test.form import USUAL_PROMPTS
from ftlab.ui.tabs.blind_test.verdict import PAGE
from ftlab.ui.tabs.data.sources import FILE_TYPES, keep_upload, source_choices

_ABOUT = (
    "A new test with the same contestants and plan, on prompts that were not asked before. The verdict then shows the "
    "tests together."
)


@dataclass(frozen=True)
class Repeating:
    box: gr.Accordion
    source: gr.Dropdown
    upload: gr.File
    number: gr.Textbox
    go: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.box, self.source]


def build() -> Repeating:
    with gr.Accordion("Repeat on fresh prompts", open=False, visible=False, elem_id="blind_repeat_box") as box:
        gr.HTML(Markup('<p class="ft-help">{} {}</p>').format(_ABOUT, help_link(PAGE)))
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            source = gr.Dropdown(
                [], label="Prompts of", info="Held-out rows of a run or of data, or all rows of a file.", scale=2,
                allow_custom_value=True, elem_id="blind_repeat_source", min_width=240,
            )  # fmt: skip
            number = gr.Textbox(
                label="How many prompts", placeholder=str(USUAL_PROMPTS), max_lines=1, min_width=140,
                elem_id="blind_repeat_number",
            )  # fmt: skip
        upload = gr.File(
            label="Upload a file: a column of prompts, or a text file with one prompt on each line",
            file_types=FILE_TYPES, height=110, elem_id="blind_repeat_upload",
        )  # fmt: skip
        go = gr.Button("Create the repetition", elem_id="blind_repeat", elem_classes="ft-act")
    return Repeating(box, source, upload, number, go)


def show(repeating: Repeating, test: Any, secret: bool, workspace: Workspace) -> dict[Any, Any]:
    """Updates for `test`; hidden while its votes are, and for live tests."""
    can = not secret and not test.settings["live"]
    runs = run_files.runs_that_answer(workspace) if can else []
    of_runs = [(name, f"run:{run.id}") for run, name in zip(runs, run_names.told_apart(runs), strict=True)]
    data = source_choices(workspace) if can else []
    return {repeating.box: gr.update(visible=can), repeating.source: gr.update(choices=[*of_runs, *data])}


def uploaded(repeating: Repeating, path: str | None, workspace: Workspace) -> dict[Any, Any]:
    if not path:
        return {}
    kept = str(keep_upload(Path(path), workspace))
    choices = source_choices(workspace)
    return {repeating.source: gr.update(choices=choices, value=kept), repeating.upload: None}


def create(store: Store, test_id: str, source: str | None, number: str | None) -> str:
    """The id of the new test, with its open link. Raises InputError without a source or without fresh prompts."""
    if not (source or "").strip():
        raise InputError("No prompts are chosen", try_="choose whose, or upload a file")
    every = pooling.prompts_for(store, test_id, str(source).strip())
    made, _ = pooling.repeat(store, test_id, every, whole_number("How many prompts", number) or USUAL_PROMPTS)
    links.open_link(store, made)
    return made
