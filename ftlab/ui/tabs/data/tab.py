"""Data: choose a data set and see what is learned from it; its rows, checks, curation and versions are collapsed below.

The panels have a module each, with their own elem_ids: `rows.py`, `checks.py`, `curate.py`, `versions.py`. `summary.py`
makes the first summary of the data.

elem_ids: `data_welcome`, `data_try` (in an empty workspace: the sample, then Train), `data_upload` (file),
`set_data_source` (dropdown), `data_more` (folded: `data_paste` with `data_pasted` (text) and `data_keep` (button),
`data_settings` (see forms.py), `data_look` (button)), `data_message`, `data_summary` (`data_sentence`), `data_pick`
(which column is which: `data_pick_prompt`, `data_pick_answer`; `data_change` opens it), `data_use` (on to Train),
`data_checks_line`, `data_mixed` (what training adds), `data_bubbles`, `data_details` (button, opens `data_details_box`)
with `data_panels` (tabs; their buttons are `data_panel_rows-button` and so on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import gradio as gr
import yaml
from markupsafe import Markup

from ftlab.config import STARTER, DataConfig, RunConfig, build_config
from ftlab.core.files import keep_copy
from ftlab.core.workspace import Workspace
from ftlab.data.curation import unread
from ftlab.data.documents import SUFFIXES, is_document
from ftlab.data.load import encoding_of, find_source, forget_encoding, remember
from ftlab.data.version_store import PREFIX, find
from ftlab.errors import FtlabError, InputError
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, cover_page, message_box, on, reveal
from ftlab.ui.kit.html import COVER, PICK_JS, error_box, notice
from ftlab.ui.page import Door, Page, kept_choices, remember_choice
from ftlab.ui.tabs.data import checks as data_checks
from ftlab.ui.tabs.data import curate as data_curate
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import summary
from ftlab.ui.tabs.data import versions as data_versions
from ftlab.ui.tabs.data import write as data_write
from ftlab.ui.tabs.data.sources import (
    FILE_TYPES,
    DataContext,
    config_of,
    is_first_visit,
    keep_upload,
    source_choices,
)

if TYPE_CHECKING:
    from ftlab.evaluation.remedies import Answers

PANELS: dict[str, tuple[str, ModuleType]] = {
    "checks": ("Checks", data_checks),
    "curate": ("Curate", data_curate),
    "versions": ("Versions", data_versions),
    "write": ("Write rows", data_write),
}
# Settings that assign columns to parts are beside the row that shows their effect.
_BESIDE_THE_ROWS = ("data.columns", "data.system_prompt", "data.prompt_template")


_PARTS = ("data.split", "data.subset")
NAME, TITLE = "data", "Data"
# Opens and closes in the browser: immediately, however busy the machine is.
_TOGGLE = """() => {
  const open = document.querySelector('#data_details_box').classList.toggle('ft-open');
  document.querySelector('#data_details').setAttribute('aria-expanded', open);
}"""
_OPEN_PANEL = """() => {
  if (!document.querySelector('%s')) return;
  document.querySelector('#data_details_box').classList.add('ft-open');
  document.querySelector('#data_details').setAttribute('aria-expanded', true);
  document.querySelector('#data_panel_%s-button').click();
  (REVEAL)();
}""".replace("REVEAL", reveal("#data_details", "start"))


@dataclass(frozen=True)
class DataTab:
    form: forms.Form
    cover: gr.HTML
    welcome: gr.HTML
    try_card: gr.Column
    try_it: gr.Button
    your_file: gr.HTML
    upload: gr.File
    pasted: gr.Textbox
    keep: gr.Button
    look: gr.Button
    chosen: gr.Column
    message: gr.HTML
    summary: gr.HTML
    pick: gr.Column
    picked: dict[str, gr.Dropdown]  # by role
    change: gr.Button
    use: gr.Button
    checks_line: gr.HTML
    mixed: gr.HTML
    bubbles: gr.HTML
    details: gr.Button
    rows: data_rows.RowsPanel
    panels: dict[str, Any]
    config_json: gr.State  # the current data, see DataContext


def build(workspace: Workspace) -> DataTab:
    form, first = forms.Form(), is_first_visit(workspace)
    parts: dict[str, Any] = {}
    parts["cover"] = cover_page(COVER)
    parts["welcome"] = gr.HTML(summary.WELCOME, visible=first, elem_id="data_welcome")
    with gr.Row(equal_height=False, elem_id="data_layout"):
        with gr.Column(scale=2, min_width=300, visible=first, elem_classes="ft-card ft-choice") as parts["try_card"]:
            gr.HTML(summary.TRY_IT)
            parts["try_it"] = gr.Button("Try it", variant="primary", elem_id="data_try")
        with gr.Column(scale=2, min_width=300):
            parts["your_file"] = gr.HTML(summary.YOUR_FILE, visible=first, elem_id="data_your_file")
            parts |= _build_choice(form, workspace)
        with gr.Column(scale=3, min_width=300, visible=not first, elem_id="data_chosen") as parts["chosen"]:
            parts |= _build_chosen()
    parts["details"] = gr.Button(
        "Rows, checks, curation, versions, writing", visible=not first, elem_id="data_details", size="md"
    )
    # Not an Accordion: Gradio 6.31 does not draw tabs inside a closed one.
    with gr.Column(elem_id="data_details_box"):
        panels: dict[str, Any] = {}
        # Keeps the line updated before the Checks panel exists; Gradio draws that panel when it is opened.
        beside = {"checks": (parts["checks_line"], gr.Timer(data_checks.POLL_SECONDS, active=False))}
        with gr.Tabs(elem_id="data_panels", overflow_behavior="wrap"):
            with gr.Tab("Rows", id="rows", elem_id="data_panel_rows"):
                parts["rows"] = data_rows.build(form)
            for name, (title, module) in PANELS.items():
                with gr.Tab(title, id=name, elem_id=f"data_panel_{name}"):
                    panels[name] = module.build(*beside.get(name, ()))
    return DataTab(form=form, panels=panels, config_json=gr.State(None), **parts)


def _build_choice(form: forms.Form, workspace: Workspace) -> dict[str, Any]:
    """The data source: a file, a name or pasted text; and how to read it."""
    parts: dict[str, Any] = {}
    parts["upload"] = gr.File(
        label="Upload: CSV, Excel, JSONL, JSON, Parquet, text, zip, documents",
        file_types=[*FILE_TYPES, *SUFFIXES],
        height=130,
        elem_id="data_upload",
    )
    form.draw("data.source", choices=source_choices(workspace), info="A sample, a version, a path or a Hub id.")
    with gr.Accordion("More: paste rows, splits, how it is read", open=False, elem_id="data_more"):
        with gr.Accordion("Paste rows", open=False, elem_id="data_paste"):
            parts["pasted"] = gr.Textbox(
                label="Rows",
                info="JSON lines, a JSON array, or cells copied from a sheet with their header.",
                lines=4,
                max_lines=12,
                elem_id="data_pasted",
            )
            parts["keep"] = gr.Button("Use these rows", elem_id="data_keep", size="sm")
        with gr.Accordion("How it is read and split", open=False, elem_id="data_settings"):
            for path, info in forms.fields().items():
                if path.startswith("data.") and forms.is_advanced(info) and path not in _BESIDE_THE_ROWS:
                    form.draw(path)
        parts["look"] = gr.Button("Look again", elem_id="data_look", size="sm")
    return parts


def _build_chosen() -> dict[str, Any]:
    """What is learned from the data, and the button to Train."""
    parts: dict[str, Any] = {"summary": gr.HTML("<p>Reading the data …</p>", elem_id="data_summary")}
    parts["message"] = message_box("data_message")
    with gr.Column(visible=False, elem_classes="ft-card", elem_id="data_pick") as parts["pick"]:
        gr.HTML("<strong>Which column is the prompt, and which is its answer?</strong>")
        with gr.Row():
            parts["picked"] = {
                role: gr.Dropdown([], value=None, label=title, elem_id=f"data_pick_{name}", min_width=240)
                for role, title, name in (
                    ("prompt", "Prompt column", "prompt"),
                    ("completion", "Answer column", "answer"),
                )
            }
    with gr.Row(elem_id="data_way"):
        parts["use"] = gr.Button(
            "Train on this data",
            variant="primary",
            interactive=False,  # until the data are read
            elem_id="data_use",
            min_width=210,
            scale=0,
        )
        parts["change"] = gr.Button("Change columns", elem_id="data_change", min_width=175, scale=0)
        parts["checks_line"] = gr.HTML(elem_id="data_checks_line", js_on_load=PICK_JS)
    parts["mixed"] = gr.HTML(elem_id="data_mixed")
    parts["bubbles"] = gr.HTML(elem_id="data_bubbles")
    return parts


def wire(tab: DataTab, page: Page) -> None:
    workspace, chosen = page.workspace, page.parts["train"].form.components
    base, max_length = chosen["model.base"], chosen["optimisation.max_length"]
    page.lead(tab.use.click, "data", [tab.config_json], box=tab.message, clears=False)
    source, columns = tab.form.components["data.source"], tab.form.components["data.columns"]
    context = DataContext(workspace, tab.config_json, source, base, max_length)

    def look(before: str | None, on_train: str | None, *values: Any) -> dict[Any, Any]:
        try:
            config = build_config(tab.form.collect(values)).data
            changed: dict[Any, Any] = {}
            if config.source.startswith(PREFIX) and (config.split or config.subset):
                # A version contains the split of its source that was selected when it was made.
                config = config.model_copy(update={"split": None, "subset": None})
                changed = {tab.form.components[path]: "" for path in _PARTS}
            if _source_of(before) != _source_of(config.model_dump_json()):
                changed[tab.checks_line] = ""  # its content is about other data
            if config.columns and _is_left_over(config, before):
                config = config.model_copy(update={"columns": {}})
                changed[columns] = ""
            config, told = _with_encoding(config, before, workspace)
            changed |= {tab.form.components["data.encoding"]: told} if told is not None else {}
            inspection = data_rows.inspected(config, workspace)
        except FtlabError as error:
            gone = dict.fromkeys((tab.summary, tab.bubbles, tab.mixed, tab.rows.facts, tab.checks_line), "")
            return gone | _way(None) | leave_welcome() | {tab.config_json: None, tab.message: error_box(error)}
        if not inspection.problem:
            remember(config, workspace)
        stays = config.source == DataConfig().source and is_first_visit(workspace)
        message = notice(inspection.problem, kind="warn") if inspection.problem and not inspection.needs_columns else ""
        open_ = 0 if inspection.problem else unread_rows(config, workspace)
        if open_:
            rows = f"{open_:,} rows were" if open_ > 1 else "One row was"
            message = notice(
                f"{rows} written by a model and not reviewed. Review them in Curate or accept them under "
                "Write rows before training.",
                kind="warn",
            )
        return (
            changed
            | _way(inspection, config, can=not inspection.problem and not open_)
            | ({} if stays else leave_welcome())
            | {
                tab.config_json: config.model_dump_json(),
                tab.summary: summary.sentence(inspection),
                tab.bubbles: summary.bubbles(inspection),
                tab.mixed: summary.mixed_in(inspection, on_train),
                tab.rows.facts: summary.details(inspection, config),
                tab.message: message,
            }
        )

    def _way(inspection: Any, config: DataConfig | None = None, *, can: bool = False) -> dict[Any, Any]:
        """The button to Train, enabled if the data `can` be trained on, or the question to answer first."""
        unsure = inspection is not None and inspection.needs_columns
        choices = summary.column_choices(inspection) if inspection is not None else []
        known = (config.columns if config else {}) or (
            inspection.detected.columns if inspection and inspection.detected else {}
        )
        known = {"prompt": known.get("text"), "completion": known.get("label")} | dict(known)
        pickers = {
            picker: gr.update(
                choices=choices, value=known.get(role) if known.get(role) in dict(choices).values() else None
            )
            for role, picker in tab.picked.items()
        }
        return pickers | {
            tab.pick: gr.update(visible=unsure),
            tab.change: gr.update(visible=not unsure and len(choices) > 1),
            tab.use: gr.update(interactive=can),
        }

    def choose(config_json: str | None, prompt: str | None, answer: str | None) -> dict[Any, Any]:
        """The two columns as the setting of a run. With two text columns, one determines the other."""
        inspection = data_rows.inspected(config_of(config_json), workspace)
        prompt = prompt or (summary.other_text(inspection, answer) if answer else None)
        answer = answer or (summary.other_text(inspection, prompt) if prompt else None)
        if not (prompt and answer):
            return {}
        if prompt == answer:
            raise InputError("The same column cannot be both prompt and answer", given=prompt)
        roles = {"prompt": prompt, "completion": answer}
        parts = {picker: roles.get(part, data_rows.NO_PART) for part, picker in tab.rows.parts.items()}
        return parts | {
            columns: yaml.safe_dump(roles, sort_keys=False, allow_unicode=True).strip(),
            **{tab.picked[role]: column for role, column in roles.items()},
        }

    def leave_welcome() -> dict[Any, Any]:
        gone, here = gr.update(visible=False), gr.update(visible=True)
        return dict.fromkeys((tab.welcome, tab.try_card, tab.your_file), gone) | {tab.chosen: here, tab.details: here}

    def try_it() -> dict[Any, Any]:
        return {**page.to("train"), **leave_welcome(), source: DataConfig().source, base: STARTER}

    def take(path: str | None) -> dict[Any, Any]:
        if path and is_document(Path(path)) and Path(path).suffix.lower() not in FILE_TYPES:
            document = keep_copy(Path(path), workspace.documents)
            text = Markup(
                '<span class="ft-document">{} is a document: a model can write rows about it, below. '
                "The data here stays as it is.</span>"
            )
            return {
                **leave_welcome(),
                **data_write.add_documents(tab.panels["write"], [str(document)]),
                tab.message: notice(text.format(document.name)),
                tab.upload: None,
            }
        return {**context.open(str(keep_upload(Path(path), workspace))), tab.upload: None} if path else {}

    def paste(text: str | None) -> dict[Any, Any]:
        from ftlab.data.readers import keep_pasted

        return {**context.open(str(keep_pasted(text or "", workspace))), tab.pasted: ""}

    def mix(config_json: str | None, on_train: str | None) -> dict[Any, Any]:
        inspection = data_rows.inspected(config_of(config_json), workspace) if config_json else None
        return {tab.mixed: summary.mixed_in(inspection, on_train)}

    def list_sources(_: str | None) -> dict[Any, Any]:
        """The earlier choice, if it still exists; sources made since the start are added."""
        kept = kept_choices(workspace).data
        try:
            find_source(kept, workspace)
        except FtlabError:
            kept = DataConfig().source
        # The page opens with the default: sending it again would undo a newer choice.
        value: dict[str, Any] = {} if kept == DataConfig().source else {"value": kept}
        first = {} if is_first_visit(workspace) else leave_welcome()
        return {source: gr.update(choices=source_choices(workspace, kept), **value), tab.cover: "", **first}

    first_view = [tab.welcome, tab.try_card, tab.your_file, tab.chosen, tab.details]
    # The stored choice may be a file of the machine, from before others could reach the app.
    listed = on(page.opened, list_sources, [source], [source, tab.cover, *first_view], checks_itself=True)
    again = [tab.look.click, source.change, *data_rows.changes(tab.rows)]
    part = [tab.form.components[path] for path in _PARTS]
    detected = data_rows.detect_again(tab.rows, context)
    drawn = [tab.summary, tab.bubbles, tab.mixed, tab.rows.facts, tab.checks_line]
    way = [tab.pick, *tab.picked.values(), tab.change, tab.use]
    looks = [
        on(
            trigger,
            look,
            [tab.config_json, base, *tab.form.inputs],
            [tab.config_json, *drawn, *way, *first_view, columns, *part, tab.form.components["data.encoding"]],
            box=tab.message,
            progress="minimal",
            show_progress_on=tab.summary,
            trigger_mode="always_last",
            lane="data look",
        )
        for trigger in (listed.then, detected.then, any_of(*again))
    ]
    on(base.change, mix, [tab.config_json, base], [tab.mixed], box=tab.message, clears=False, lane="data look")
    for name, (_, module) in PANELS.items():
        _follow(looks, module, tab.panels[name], tab.config_json, workspace)
    # Immediately, not after the look: a reload right after a save returns to the saved data.
    on(source.change, lambda name: remember_choice(workspace, data=name or ""), [source], queue=False)
    data_rows.wire(tab.rows, context, looks)
    write = tab.panels["write"]
    documents = [write.documents, write.listed, write.clear, write.message]
    taken = on(tab.upload.upload, take, [tab.upload], [source, tab.upload, *first_view, *documents], box=tab.message)
    taken.then(None, js=_OPEN_PANEL % ("#data_message .ft-document", "write"))
    on(tab.keep.click, paste, [tab.pasted], [source, tab.pasted], box=tab.message)
    on(tab.try_it.click, try_it, [], [page.tabs, source, base, *first_view], box=tab.message, queue=False)
    picks = any_of(*(picker.input for picker in tab.picked.values()))
    chosen = [columns, *tab.picked.values(), *tab.rows.parts.values()]
    on(picks, choose, [tab.config_json, *tab.picked.values()], chosen, box=tab.message, trigger_mode="always_last")
    on(tab.change.click, lambda: {tab.pick: gr.update(visible=True)}, [], [tab.pick], box=tab.message, clears=False)
    for name, (_, module) in PANELS.items():
        module.wire(tab.panels[name], context)
    tab.details.click(None, js=_TOGGLE, api_visibility="private")
    tab.checks_line.pick(None, js=_OPEN_PANEL % ("#data_panel_checks-button", "checks"), api_visibility="private")


def unread_rows(config: DataConfig, workspace: Workspace) -> int:
    """How many rows of a version were written by a model and not reviewed yet."""
    return len(unread(find(config.source, workspace))) if config.source.startswith(PREFIX) else 0


def can_train(config_json: str | None, workspace: Workspace) -> bool:
    """Whether the current data can be trained on as they are."""
    if config_json is None:
        return False
    config = DataConfig.model_validate_json(config_json)
    try:
        return not data_rows.inspected(config, workspace).problem and not unread_rows(config, workspace)
    except FtlabError:  # it is gone
        return False


def _source_of(config_json: str | None) -> tuple[str, str | None] | None:
    config = DataConfig.model_validate_json(config_json) if config_json else None
    return (config.source, config.subset) if config else None


def _with_encoding(config: DataConfig, before: str | None, workspace: Workspace) -> tuple[DataConfig, str | None]:
    """`config` with the encoding of its own source, and the field's new value if it differs: an encoding set for other
    data is dropped, a stored one restored, and an emptied one detected again."""
    same = before is None or _source_of(before) == _source_of(config.model_dump_json())
    earlier = DataConfig.model_validate_json(before).encoding if before else None
    encoding = config.encoding
    if not same and encoding == earlier:
        encoding = None
    if same and earlier and not encoding:
        forget_encoding(config, workspace)
    elif not encoding:
        encoding = encoding_of(config.model_copy(update={"encoding": None}), workspace)
    if encoding == config.encoding:
        return config, None
    return config.model_copy(update={"encoding": encoding}), encoding or ""


def _is_left_over(config: DataConfig, before: str | None) -> bool:
    """Whether the columns in `config` were assigned for the previously selected data."""
    if before is None or _source_of(before) == (config.source, config.subset):
        return False
    return DataConfig.model_validate_json(before).columns == config.columns


def _follow(looks: Sequence[Any], module: ModuleType, panel: Any, config_json: gr.State, workspace: Workspace) -> None:
    """After each look, the panel shows the data found."""

    def show(now: str | None) -> dict[Any, Any]:
        return module.show(panel, now, workspace)

    for looked in looks:
        on(looked.then, show, [config_json], module.views(panel), trigger_mode="always_last")


def doors(tab: DataTab, page: Page) -> dict[str, Door]:
    write, train = tab.panels["write"], page.parts["train"].form

    def answer(carried: tuple[RunConfig, Answers]) -> dict[Any, Any]:
        """Write is opened to have the prompts of a run answered anew; its settings wait on the Train tab."""
        config, answers = carried
        return {**train.fill(config), **data_write.opened_for(write, answers, page.workspace)}

    opens = _OPEN_PANEL % ("#data_panels", "write")
    return {"answers": Door([*train.inputs, *data_write.filled(write)], answer, js=opens)}
