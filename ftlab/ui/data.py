"""Data: choose a data set, see how it is read and split, page through it, see what of a row is trained.

elem_ids: `set_data_source` (dropdown), `data_upload` (file), `data_settings` (folded settings, see forms.py),
`data_look` (button), `data_message`, `data_summary`, `data_table` (a press on a row's number picks it),
`data_previous`, `data_next`, `data_page` (number), `data_row` (number), `data_rendered`, `data_use` (on to Train).
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import STARTER, DataConfig, build_config
from ftlab.errors import FtlabError, InputError
from ftlab.ui import disk, forms
from ftlab.ui.events import message_box, on
from ftlab.ui.html import PICK_JS, count, error_box, facts, heading, join, percent, pick_button, table
from ftlab.workspace import Workspace

PAGE_ROWS = 10
FILE_TYPES = [".jsonl", ".json", ".csv", ".parquet"]


@dataclass(frozen=True)
class DataTab:
    form: forms.Form
    upload: gr.File
    look: gr.Button
    message: gr.HTML
    summary: gr.HTML
    preview: gr.Column
    rows: gr.HTML
    page: gr.Number
    previous: gr.Button
    next: gr.Button
    row: gr.Number
    rendered: gr.HTML
    use: gr.Button
    shown: gr.State  # the settings (nested, as JSON) of the data on show; None when they could not be read


def build(workspace: Workspace) -> DataTab:
    form = forms.Form()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            form.draw(
                "data.source",
                choices=source_choices(workspace),
                info="A sample, a file of yours, or type a local path or a Hub id such as tatsu-lab/alpaca.",
            )
            upload = gr.File(
                label="Upload a file: JSONL, JSON, CSV or Parquet",
                file_types=FILE_TYPES,
                height=150,
                elem_id="data_upload",
            )
            with gr.Accordion("How it is read and split", open=False, elem_id="data_settings"):
                for path, info in forms.fields().items():
                    if path.startswith("data.") and forms.is_advanced(info):
                        form.draw(path)
            with gr.Row():
                look = gr.Button("Look again", elem_id="data_look", min_width=120)
                use = gr.Button("Train on this data", variant="primary", elem_id="data_use", min_width=160)
            message = message_box("data_message")
        with gr.Column(scale=3, min_width=300):
            summary = gr.HTML(elem_id="data_summary")
    with gr.Column(visible=False, elem_id="data_preview") as preview:
        rows = gr.HTML(elem_id="data_table", js_on_load=PICK_JS)
        with gr.Row(elem_classes="ft-pager"):
            previous = gr.Button("Previous", elem_id="data_previous", size="sm", scale=0, min_width=100)
            page = gr.Number(1, label="Page", precision=0, elem_id="data_page", scale=0, min_width=110)
            next_ = gr.Button("Next", elem_id="data_next", size="sm", scale=0, min_width=100)
        with gr.Row(elem_classes="ft-pager"):
            row = gr.Number(0, label="Row to show", precision=0, elem_id="data_row", scale=0, min_width=130)
        rendered = gr.HTML(elem_id="data_rendered")
    return DataTab(
        form, upload, look, message, summary, preview, rows, page, previous, next_, row, rendered, use, gr.State(None)
    )


def wire(tab: DataTab, workspace: Workspace, base: gr.Dropdown, opened: Any) -> None:
    """`base` is the base chosen on the Train tab: its tokenizer renders the row. `opened`: the page's load event."""
    source = tab.form.components["data.source"]
    views = [tab.shown, tab.summary, tab.preview, tab.rows, tab.page, tab.row]

    def look(*values: Any) -> dict[Any, Any]:
        try:
            settings = tab.form.collect(values)
            config = build_config(settings).data
            found = inspected(config)
        except FtlabError as error:
            nothing = {tab.shown: None, tab.summary: "", tab.rows: "", tab.preview: gr.update(visible=False)}
            return nothing | {tab.message: error_box(error)}
        key = config.model_dump_json()
        return {
            tab.shown: key,
            tab.summary: summary(found, config),
            tab.preview: gr.update(visible=True),
            tab.rows: page_table(found, 1, 0),
            tab.page: 1,
            tab.row: 0,
        }

    def turn(shown: str | None, page: float | None, row: float | None, by: int = 0) -> dict[Any, Any]:
        if shown is None:
            return {}
        found = inspected(DataConfig.model_validate_json(shown))
        page = min(max(1, int(page or 1) + by), pages(found))
        return {tab.page: page, tab.rows: page_table(found, page, int(row or 0))}

    def backwards(shown: str | None, page: float | None, row: float | None) -> dict[Any, Any]:
        return turn(shown, page, row, -1)

    def forwards(shown: str | None, page: float | None, row: float | None) -> dict[Any, Any]:
        return turn(shown, page, row, +1)

    def pick(event: gr.EventData) -> dict[Any, Any]:
        return {tab.row: int(event._data["value"])}

    def render_row(shown: str | None, row: float | None, base: str | None) -> dict[Any, Any]:
        if shown is None:
            return {tab.rendered: ""}
        return {tab.rendered: rendered(DataConfig.model_validate_json(shown), int(row or 0), base or STARTER)}

    def take(path: str | None) -> dict[Any, Any]:
        if not path:
            return {}
        kept = keep_upload(Path(path), workspace)
        return {source: gr.update(choices=source_choices(workspace), value=str(kept)), tab.upload: None}

    # Only what the row shows waits for the tokenizer; the preview is there before.
    shows = {"outputs": [tab.rendered], "box": tab.rendered, "trigger_mode": "always_last"}
    row_inputs = [tab.shown, tab.row, base]
    for trigger in (opened, tab.look.click, source.change):
        looked = on(
            trigger, look, tab.form.inputs, views, box=tab.message, progress="minimal", show_progress_on=tab.summary
        )
        on(looked.then, render_row, row_inputs, **shows)
    on(tab.upload.upload, take, [tab.upload], [source, tab.upload], box=tab.message)
    paging = [tab.shown, tab.page, tab.row]
    on(tab.previous.click, backwards, paging, [tab.page, tab.rows], box=tab.message)
    on(tab.next.click, forwards, paging, [tab.page, tab.rows], box=tab.message)
    on(tab.page.submit, turn, paging, [tab.page, tab.rows], box=tab.message)
    on(tab.rows.pick, pick, [], [tab.row], box=tab.message)
    on(tab.row.change, render_row, row_inputs, **shows)
    on(base.change, render_row, row_inputs, **shows)


def source_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Samples, then the files uploaded to this workspace."""
    samples = [(f"{title} ({name})", name) for name, title in disk.sample_titles().items()]
    files = sorted(workspace.uploads.glob("*")) if workspace.uploads.is_dir() else []
    return samples + [(f"Upload: {path.name}", str(path)) for path in files if path.suffix in FILE_TYPES]


def keep_upload(path: Path, workspace: Workspace) -> Path:
    """A copy of an uploaded file under a safe name inside the workspace, so that a run can be repeated.

    The same content is kept once. Raises InputError for a kind of file that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in FILE_TYPES:
        raise InputError("This kind of file cannot be read", given=path.name, allowed=", ".join(FILE_TYPES))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-")[:60] or "data"
    target = workspace.uploads / f"{stem}-{digest}{suffix}"
    if not target.exists():
        workspace.uploads.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return target


def inspected(config: DataConfig) -> Any:
    """The inspection of `config`; asking again for an unchanged file costs nothing."""
    from ftlab.data.inspection import inspect

    return inspect(config)


@functools.lru_cache(maxsize=2)
def tokenizer_of(base: str) -> Any:
    from ftlab.models.load import load_tokenizer

    return load_tokenizer(base)


def paged_rows(found: Any) -> tuple[str, int]:
    """The split that is paged through (the one that is learnt from) and its rows in the source."""
    name = "train" if "train" in found.source_splits else next(iter(found.source_splits))
    return name, found.source_splits[name]


def pages(found: Any) -> int:
    return max(1, -(-paged_rows(found)[1] // PAGE_ROWS))


def summary(found: Any, config: DataConfig) -> Markup:
    """Rows, columns, format and why, splits, and what is worth knowing."""
    from ftlab.samples import list_samples

    about = next((sample.description for sample in list_samples() if sample.name == config.source), "")
    held_out = {"train": "learnt from", "validation": "to stop at the best moment", "test": "for the comparison"}
    numbers = facts(
        [("Rows", count(found.rows), "in the source")]
        + [(name.capitalize(), f"{count(size)} rows", held_out.get(name, "")) for name, size in found.splits.items()]
    )
    columns = join((Markup("<code>{}</code>").format(name) for name in found.columns), " ")
    left_out = [f"{count(rows)} rows left out: {reason}" for reason, rows in found.dropped.items()]
    notes = join(Markup("<li>{}</li>").format(note) for note in [*left_out, *found.notes])
    lengths = (
        f"{found.mean_prompt_characters:,.0f} characters of prompt and {found.mean_answer_characters:,.0f} of answer"
    )
    return Markup(
        '<section class="ft-card">{head}{numbers}<p><strong>Columns:</strong> {columns}</p>'
        "<p><strong>Format:</strong> {format}, {sure} sure: {why}.</p>"
        "<p><strong>Length:</strong> {lengths} on average.</p>{notes}</section>"
    ).format(
        head=heading(Path(found.name).name, about),
        numbers=numbers,
        columns=columns,
        format=found.format.replace("_", " "),
        sure=percent(found.confidence, 0),
        why=found.why.rstrip("."),
        lengths=lengths,
        notes=Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def page_table(found: Any, page: int, row: int) -> Markup:
    """One page of the source as it is. The number of a row is the button that shows it below."""
    offset = (page - 1) * PAGE_ROWS
    rows = [
        [
            pick_button(number, str(number), label=f"Show row {number}", current=number == row),
            *[values.get(column, "") for column in found.columns],
        ]
        for number, values in enumerate(found.page(offset, PAGE_ROWS), start=offset)
    ]
    split, size = paged_rows(found)
    where = (
        f"Rows {offset} to {offset + len(rows) - 1} of the {count(size)} in {split}, page {page} of {pages(found)}. "
    )
    return heading("Preview", where + "Press a row's number to see what the model reads.") + table(
        ["row", *found.columns], rows, label="Rows of the data set", css="ft-rows"
    )


def rendered(config: DataConfig, row: int, base: str) -> Markup:
    """Row `row` of the training split as the model reads it, with the trained tokens marked."""
    from ftlab.data.rendering import encode, pieces

    found, tokenizer = inspected(config), tokenizer_of(base)
    encoded = encode(found.messages(row), tokenizer)
    trained = sum(encoded.trained)
    help = Markup(
        "{} tokens in the chat template of {}. The {} marked ones are trained (the answer and its stop token); "
        "the others are only read."
    ).format(count(len(encoded.input_ids)), base, count(trained))
    notes = join(Markup("<li>{}</li>").format(note) for note in encoded.notes)
    if notes:
        help += Markup('<ul class="ft-notes">{}</ul>').format(notes)
    return heading(f"Row {row} as the model reads it", help) + Markup(
        '<pre class="ft-pre ft-tokens" id="data_tokens">{}</pre>'
    ).format(_spans(pieces(encoded, tokenizer)))


def _spans(runs: list[tuple[str, bool]]) -> Markup:
    return join(Markup("<mark>{}</mark>" if trained else "<span>{}</span>").format(text) for text, trained in runs)
