"""Data: choose a data set, see how it is read; then its rows, what is wrong with it, its curation and its versions.

The panels below the summary have a module each, with their own elem_ids: `data_rows.py`, `data_checks.py`,
`data_curate.py`, `data_versions.py`.

elem_ids: `set_data_source` (dropdown), `data_upload` (file), `data_paste` (folded), `data_pasted` (text), `data_keep`
(button), `data_settings` (folded settings, see forms.py), `data_look` (button), `data_message`, `data_summary`,
`data_panels` (tabs; their buttons are `data_panel_rows-button` and so on), `data_use` (on to Train).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data.load import find_source, remember
from ftlab.data.versions import PREFIX
from ftlab.errors import FtlabError
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import count, error_box, facts, heading, join, notice, percent
from ftlab.ui.page import Door, Page, kept_choices, remember_choice
from ftlab.ui.tabs.data import checks as data_checks
from ftlab.ui.tabs.data import curate as data_curate
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import versions as data_versions
from ftlab.ui.tabs.data.sources import FILE_TYPES, DataContext, keep_upload, source_choices

PANELS: dict[str, tuple[str, ModuleType]] = {
    "checks": ("Checks", data_checks),
    "curate": ("Curate", data_curate),
    "versions": ("Versions", data_versions),
}
# Settings that say which column plays which part stand beside the row on which one sees what they do.
_BESIDE_THE_ROWS = ("data.columns", "data.system_prompt", "data.prompt_template")


_PARTS = ("data.split", "data.subset")
NAME, TITLE = "data", "Data"


@dataclass(frozen=True)
class DataTab:
    form: forms.Form
    upload: gr.File
    pasted: gr.Textbox
    keep: gr.Button
    look: gr.Button
    message: gr.HTML
    summary: gr.HTML
    rows: data_rows.RowsPanel
    panels: dict[str, Any]
    use: gr.Button
    shown: gr.State  # the data on show, see DataContext


def build(workspace: Workspace) -> DataTab:
    form = forms.Form()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            form.draw(
                "data.source",
                choices=source_choices(workspace),
                info="A sample, a version, a file of yours, or type a local path or a Hub id such as tatsu-lab/alpaca.",
            )
            upload = gr.File(
                label="Upload a file: JSONL, JSON, CSV, TSV, Parquet, Arrow, plain text, or a zip of these",
                file_types=FILE_TYPES,
                height=150,
                elem_id="data_upload",
            )
            with gr.Accordion("Paste rows", open=False, elem_id="data_paste"):
                pasted = gr.Textbox(
                    label="Rows",
                    info="JSON lines, a JSON array, or cells copied from a sheet with their header.",
                    lines=4,
                    max_lines=12,
                    elem_id="data_pasted",
                )
                keep = gr.Button("Use these rows", elem_id="data_keep", size="sm")
            with gr.Accordion("How it is read and split", open=False, elem_id="data_settings"):
                for path, info in forms.fields().items():
                    if path.startswith("data.") and forms.is_advanced(info) and path not in _BESIDE_THE_ROWS:
                        form.draw(path)
            with gr.Row():
                look = gr.Button("Look again", elem_id="data_look", min_width=120)
                use = gr.Button("Train on this data", variant="primary", elem_id="data_use", min_width=160)
            message = message_box("data_message")
        with gr.Column(scale=3, min_width=300):
            summary = gr.HTML(elem_id="data_summary")
    panels = {}
    with gr.Tabs(elem_id="data_panels"):
        with gr.Tab("Rows", id="rows", elem_id="data_panel_rows"):
            rows = data_rows.build(form)
        for name, (title, module) in PANELS.items():
            with gr.Tab(title, id=name, elem_id=f"data_panel_{name}"):
                panels[name] = module.build()
    return DataTab(form, upload, pasted, keep, look, message, summary, rows, panels, use, gr.State(None))


def wire(tab: DataTab, page: Page) -> None:
    workspace, chosen = page.workspace, page.parts["train"].form.components
    base, max_length = chosen["model.base"], chosen["optimisation.max_length"]
    page.lead(tab.use.click, "data", [tab.shown], box=tab.message, clears=False)
    source = tab.form.components["data.source"]
    context = DataContext(workspace, tab.shown, source, base, max_length)

    def look(*values: Any) -> dict[Any, Any]:
        try:
            config = build_config(tab.form.collect(values)).data
            whole = {}
            if config.source.startswith(PREFIX) and (config.split or config.subset):
                # A version is the part of its source that was chosen when it was made.
                config = config.model_copy(update={"split": None, "subset": None})
                whole = {tab.form.components[path]: "" for path in _PARTS}
            found = data_rows.inspected(config, workspace)
        except FtlabError as error:
            return {tab.shown: None, tab.summary: "", tab.message: error_box(error)}
        if not found.problem:
            remember(config, workspace)
        return whole | {
            tab.shown: config.model_dump_json(),
            tab.summary: summary(found, config),
            tab.message: notice(found.problem, kind="warn") if found.problem else "",
        }

    def take(path: str | None) -> dict[Any, Any]:
        return {**context.open(str(keep_upload(Path(path), workspace))), tab.upload: None} if path else {}

    def paste(text: str | None) -> dict[Any, Any]:
        from ftlab.data.readers import keep_pasted

        return {**context.open(str(keep_pasted(text or "", workspace))), tab.pasted: ""}

    def list_sources(_: str | None) -> dict[Any, Any]:
        """What was chosen before, if it is still there; what was made since the start can be chosen too."""
        kept = kept_choices(workspace).data
        try:
            find_source(kept, workspace)
        except FtlabError:
            kept = DataConfig().source
        # The page opens with the default: said again, it would undo a choice made in the meantime.
        value: dict[str, Any] = {} if kept == DataConfig().source else {"value": kept}
        return {source: gr.update(choices=source_choices(workspace, kept), **value)}

    # What is remembered may be a file of the machine, from before others could reach the app.
    listed = on(page.opened, list_sources, [source], [source], checks_itself=True)
    again = [tab.look.click, source.change, *data_rows.changes(tab.rows)]
    part = [tab.form.components[path] for path in _PARTS]
    detected = data_rows.detect_again(tab.rows, context)
    looks = [
        on(
            trigger,
            look,
            tab.form.inputs,
            [tab.shown, tab.summary, *part],
            box=tab.message,
            progress="minimal",
            show_progress_on=tab.summary,
            trigger_mode="always_last",
        )
        for trigger in (listed.then, detected.then, any_of(*again))
    ]
    for name, (_, module) in PANELS.items():
        _follow(looks, module, tab.panels[name], tab.shown, workspace)
    # At once, not after the look: a reload right after a save comes back to what was saved.
    on(source.change, lambda name: remember_choice(workspace, data=name or ""), [source], queue=False)
    data_rows.wire(tab.rows, context, looks)
    on(tab.upload.upload, take, [tab.upload], [source, tab.upload], box=tab.message)
    on(tab.keep.click, paste, [tab.pasted], [source, tab.pasted], box=tab.message)
    for name, (_, module) in PANELS.items():
        module.wire(tab.panels[name], context)


def _follow(looks: Sequence[Any], module: ModuleType, panel: Any, shown: gr.State, workspace: Workspace) -> None:
    """After each look the panel shows the data that were found."""

    def show(now: str | None) -> dict[Any, Any]:
        return module.show(panel, now, workspace)

    for looked in looks:
        on(looked.then, show, [shown], module.views(panel), trigger_mode="always_last")


def summary(found: Any, config: DataConfig) -> Markup:
    """Rows, columns, format and why, splits, and what is worth knowing."""
    from ftlab.samples import list_samples

    about = next((sample.description for sample in list_samples() if sample.name == config.source), "")
    held_out = {"train": "learned from", "validation": "to stop at the best moment", "test": "for the comparison"}
    numbers = facts(
        [("Rows", count(found.rows), "in the source")]
        + [(name.capitalize(), f"{count(size)} rows", held_out.get(name, "")) for name, size in found.splits.items()]
    )
    columns = join((Markup("<code>{}</code>").format(name) for name in found.columns), " ")
    left_out = [f"{count(rows)} rows left out: {reason}" for reason, rows in found.dropped.items()]
    notes = join(Markup("<li>{}</li>").format(note) for note in [*left_out, *found.notes])
    lines = [Markup("<p><strong>Columns:</strong> {}</p>").format(columns)]
    if found.format:
        lines.append(
            Markup("<p><strong>Format:</strong> {}, {} sure: {}.</p>").format(
                found.format.replace("_", " "), percent(found.confidence, 0), found.why.rstrip(".")
            )
        )
    if found.examples and found.format == "text":
        lines.append(
            Markup(
                "<p><strong>Length:</strong> {:,.0f} characters of text on average. Every token "
                "of it is trained (continued pretraining). For answers to prompts, say below which column is which.</p>"
            ).format(found.mean_answer_characters)
        )
    elif found.examples:
        lines.append(
            Markup(
                "<p><strong>Length:</strong> {:,.0f} characters of prompt and {:,.0f} of answer on average.</p>"
            ).format(found.mean_prompt_characters, found.mean_answer_characters)
        )
    return Markup('<section class="ft-card">{}{}{}{}</section>').format(
        heading(Path(found.name).name, about),
        numbers,
        join(lines),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def doors(tab: DataTab, page: Page) -> dict[str, Door]:
    source = tab.form.components["data.source"]

    def choose(name: str) -> dict[Any, Any]:
        return {source: gr.update(choices=source_choices(page.workspace, name), value=name)}

    return {"source": Door([source], choose)}
