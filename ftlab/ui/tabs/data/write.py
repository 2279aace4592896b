"""Write: let a model write rows, about documents or similar to the current rows, or answer the prompts of a run.
Nothing is sent before its cost is shown.

The work is a separate process (`synthesis/job.py`). It creates a version, which a person reviews in Curate before
training on it.

elem_ids: `data_write_kind`, `data_write_documents` (box: `data_write_upload`, `data_write_listed`, `data_write_clear`,
`data_write_like`), `data_write_run`, `data_write_who`, `data_write_url`, `data_write_model`, `data_write_rows`,
`data_write_more` (folded: `data_write_each`, `data_write_price_in`, `data_write_price_out`, `data_write_judge`),
`data_write_look`, `data_write_send`, `data_write_stop`, `data_write_message`, `data_write_plan`, `data_write_result`,
`data_write_read`, `data_write_accept`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import STARTER
from ftlab.core.endpoint import WRITER, find_key
from ftlab.core.files import keep_copy
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.curation import accept_unread, unread
from ftlab.data.documents import SUFFIXES
from ftlab.data.version_store import Version, find
from ftlab.data.versions import person
from ftlab.errors import FtlabError, InputError
from ftlab.synthesis import job
from ftlab.synthesis.job import Request
from ftlab.synthesis.plan import build_settings, plan
from ftlab.synthesis.writing import ANSWERS, CASES, DOCUMENTS, PARAPHRASES
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.events import any_of, message_box, on, reveal
from ftlab.ui.kit.forms import price, whole_number
from ftlab.ui.kit.html import count, error_box, list_items, notice, stop_note
from ftlab.ui.tabs.data.sources import DataContext, config_of

if TYPE_CHECKING:
    from ftlab.evaluation.remedies import Answers

_POLL_SECONDS = 1.0
_KINDS = [
    ("Questions and answers about documents", DOCUMENTS),
    ("New cases like the current data", CASES),
    ("Rewordings of its prompts", PARAPHRASES),
    ("Other answers to the training prompts of a run", ANSWERS),
]
_ADDRESS, _BASE = "address", "base"
_OPEN_CURATE = "() => setTimeout(() => document.querySelector('#data_panel_curate-button')?.click(), 150)"


@dataclass(frozen=True)
class Panel:
    kind: gr.Radio
    box: gr.Column
    upload: gr.File
    listed: gr.HTML
    clear: gr.Button
    like: gr.Checkbox
    run: gr.Dropdown
    who: gr.Radio
    url: gr.Textbox
    model: gr.Textbox
    key: gr.HTML
    rows: gr.Textbox
    each: gr.Textbox
    price_in: gr.Textbox
    price_out: gr.Textbox
    judge: gr.Checkbox
    look: gr.Button
    send: gr.Button
    stop: gr.Button
    message: gr.HTML
    plan: gr.HTML
    result: gr.HTML
    read: gr.Button
    accept: gr.Button
    timer: gr.Timer
    documents: gr.State  # paths of the copies in the workspace
    planned: gr.State  # the request whose cost is displayed: exactly this is sent

    @property
    def progress(self) -> list[Any]:
        return [self.result, self.stop, self.read, self.accept, self.timer]


def build() -> Panel:
    def line(label: str, name: str, value: str = "", **settings: Any) -> gr.Textbox:
        return gr.Textbox(value, label=label, max_lines=1, elem_id=f"data_write_{name}", **settings)

    parts: dict[str, Any] = {}
    parts["kind"] = gr.Radio(_KINDS, value=DOCUMENTS, label="What a model writes", elem_id="data_write_kind")
    with gr.Column(elem_id="data_write_documents") as parts["box"]:
        parts["upload"] = gr.File(
            label=f"Documents: {', '.join(suffix[1:] for suffix in SUFFIXES)}",
            file_count="multiple",
            file_types=list(SUFFIXES),
            height=110,
            elem_id="data_write_upload",
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            parts["listed"] = gr.HTML(_listed([]), elem_id="data_write_listed")
            parts["clear"] = gr.Button(
                "Remove all", visible=False, elem_id="data_write_clear", size="sm", scale=0, min_width=120
            )
        parts["like"] = gr.Checkbox(
            False, label="Follow the form and style of the current data", elem_id="data_write_like"
        )
    parts["run"] = gr.Dropdown(
        [], value=None, label="Run", allow_custom_value=True, visible=False, elem_id="data_write_run"
    )
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        parts["who"] = gr.Radio(
            _writers(DOCUMENTS),
            value=_ADDRESS,
            label="Who writes",
            elem_id="data_write_who",
            min_width=260,
        )
        parts["url"] = line(
            "Address", "url", info="OpenAI-compatible.", placeholder="https://api.example.com/v1", min_width=240
        )
        parts["model"] = line("Model", "model", info="The name used at that address.", min_width=160)
        parts["rows"] = line(
            "Rows at most", "rows", info="For documents, empty means three per passage.", min_width=140
        )
    parts["key"] = gr.HTML(_key(), elem_id="data_write_key")
    with gr.Accordion("Prices, judging, rows per request", open=False, elem_id="data_write_more"):
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            parts["each"] = line("Rows per request", "each", "3", info="For each passage.", min_width=140)
            parts["price_in"] = line("Price of input", "price_in", info="Per million tokens.", min_width=140)
            parts["price_out"] = line("Price of output", "price_out", info="Per million tokens.", min_width=140)
        parts["judge"] = gr.Checkbox(True, label="Let the model judge each row", elem_id="data_write_judge")
    with gr.Row():
        parts["look"] = gr.Button("Show what it will take", elem_id="data_write_look", scale=0, min_width=230)
        parts["send"] = gr.Button(
            "Write", variant="primary", visible=False, elem_id="data_write_send", scale=0, min_width=230
        )
        parts["stop"] = gr.Button(
            "Stop", variant="stop", visible=False, elem_id="data_write_stop", scale=0, min_width=110
        )
    parts["message"] = message_box("data_write_message")
    parts["plan"] = gr.HTML(elem_id="data_write_plan", elem_classes="ft-maybe")
    parts["result"] = gr.HTML(elem_id="data_write_result", elem_classes="ft-maybe")
    with gr.Row():
        parts["read"] = gr.Button(
            "Read the rows", visible=False, variant="primary", elem_id="data_write_read", scale=0, min_width=200
        )
        parts["accept"] = gr.Button(
            "Accept them unread", visible=False, elem_id="data_write_accept", scale=0, min_width=200
        )
    parts["timer"] = gr.Timer(_POLL_SECONDS, active=False)
    return Panel(**parts, documents=gr.State([]), planned=gr.State(None))


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return panel.progress


def show(panel: Panel, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    """The latest rows written, whichever data are selected."""
    return _progress(panel, workspace)


def wire(panel: Panel, context: DataContext, who: Callable[[], str] = person) -> None:
    """Wire the handlers of the panel. `who` names the person for the new version."""
    workspace = context.workspace
    form = [panel.kind, panel.documents, panel.like, panel.run, panel.who, panel.url, panel.model, panel.rows]
    form += [panel.each, panel.price_in, panel.price_out, panel.judge, context.config_json, context.base]

    def request_of(
        kind: str,
        documents: list[str],
        like: bool,
        run_id: str | None,
        writer: str,
        url: str | None,
        model: str | None,
        rows: str | None,
        each: str | None,
        price_in: str | None,
        price_out: str | None,
        judged: bool,
        config_json: str | None,
        base: str | None,
    ) -> Request:
        if kind == DOCUMENTS and not documents:
            raise InputError("No documents yet", allowed=", ".join(SUFFIXES), try_="upload some above")
        at_address = writer == _ADDRESS
        run = run_files.chosen_run(workspace, run_id, answers=True) if kind == ANSWERS else None
        own = run_files.config(run) if run else None
        settings = build_settings(
            url=(url or "").strip() if at_address else None,
            model=model,
            base=None if at_address else own.model.base if own else base or STARTER,
            each=whole_number("Rows per request", each) or 3,
            rows=whole_number("Rows at most", rows),
            judged=bool(judged),
            price_in=price("The price of input", price_in),
            price_out=price("The price of output", price_out),
        )
        data = config_of(config_json) if kind in (CASES, PARAPHRASES) or (kind == DOCUMENTS and like) else None
        about = tuple(documents) if kind == DOCUMENTS else ()
        return Request(kind, settings, about, data, None, who(), run.id if run else None)

    def look(*values: Any) -> dict[Any, Any]:
        request = request_of(*values)
        planned = plan(job.work_of(request, workspace), workspace)
        lines = list_items(planned.lines())
        send = f"Write up to {counted(planned.rows, 'row')}" if planned.open or planned.unjudged else "Show the rows"
        return {
            panel.plan: notice(Markup("<ul>{}</ul>").format(lines)),
            panel.send: gr.update(visible=True, value=send),
            panel.planned: request.as_dict(),
        }

    def send(planned: dict[str, Any] | None) -> dict[Any, Any]:
        if planned is None:
            raise InputError("Nothing planned yet", try_="press Show what it will take")
        request = Request.from_dict(planned)
        job.start(request, job.work_of(request, workspace), workspace)
        return {**forget(), **_progress(panel, workspace)}

    def stop() -> dict[Any, Any]:
        folder = job.latest(workspace)
        if folder is None:
            raise InputError("No rows are being written")
        return {panel.message: stop_note(job.stop(folder)), **_progress(panel, workspace)}

    def forget() -> dict[Any, Any]:
        return _unplanned(panel)

    def add(paths: list[str] | None, before: list[str]) -> dict[Any, Any]:
        return {
            **listed([*before, *(str(keep_copy(Path(path), workspace.documents)) for path in paths or [])]),
            **forget(),
        }

    def listed(paths: list[str]) -> dict[Any, Any]:
        paths = list(dict.fromkeys(paths))
        return {
            panel.documents: paths,
            panel.listed: _listed(paths),
            panel.clear: gr.update(visible=bool(paths)),
            panel.upload: None,
        }

    def chosen(kind: str, writer: str, run_id: str | None) -> dict[Any, Any]:
        return {**_suited(panel, kind, writer, run_id, workspace), **forget()}

    def read() -> dict[Any, Any]:
        return context.open(_newest(workspace).source)

    def accept() -> dict[Any, Any]:
        version = accept_unread(_newest(workspace), workspace, who=who())
        text = notice(f"{version.source}: {version.action}. The report and the model card say so.", kind="good")
        return {**context.open(version.source), **_progress(panel, workspace), panel.message: text}

    cost = [panel.plan, panel.send, panel.planned]
    files = [panel.documents, panel.listed, panel.clear, panel.upload]
    lane: dict[str, Any] = {"box": panel.message, "lane": "cost of writing"}
    looked = on(panel.look.click, look, form, cost, progress="minimal", **lane)
    sent = on(panel.send.click, send, [panel.planned], [*cost, *panel.progress], progress="minimal", **lane)
    for pressed, result in ((looked, "plan"), (sent, "result")):
        pressed.then(None, js=reveal(f"#data_write_message .ft-box, #data_write_{result} .ft-box"))
    on(panel.stop.click, stop, [], panel.progress, box=panel.message, queue=False)
    on(panel.timer.tick, lambda: _progress(panel, workspace), [], panel.progress, clears=False, queue=False)
    on(panel.upload.upload, add, [panel.upload, panel.documents], [*files, *cost], box=panel.message)
    on(panel.clear.click, lambda: {**listed([]), **forget()}, [], [*files, *cost], box=panel.message, queue=False)
    both = any_of(panel.kind.input, panel.who.input)
    on(both, chosen, [panel.kind, panel.who, panel.run], [*_seen(panel), *cost], **lane)
    typed = any_of(*(field.input for field in _own(panel)))
    on(typed, forget, [], cost, trigger_mode="always_last", **lane)
    opened = on(panel.read.click, read, [], [context.source], box=panel.message)
    opened.then(None, js=_OPEN_CURATE)
    on(panel.accept.click, accept, [], [context.source, *panel.progress], box=panel.message)


def add_documents(panel: Panel, paths: list[str]) -> dict[Any, Any]:
    """Updates for documents dropped on the data upload."""
    listed = {panel.documents: paths, panel.listed: _listed(paths), panel.clear: gr.update(visible=True)}
    return {**listed, panel.message: ""}  # it may ask for documents


def opened_for(panel: Panel, answers: Answers, workspace: Workspace) -> dict[Any, Any]:
    """Updates that fill the form to have the training prompts of a run answered."""
    writer = _ADDRESS if answers.url else _BASE
    updates = _suited(panel, ANSWERS, writer, answers.run, workspace)
    values = {panel.who: writer, panel.url: answers.url or "", panel.model: answers.model or ""}
    return {
        **updates,
        **{field: updates[field] | {"value": value} for field, value in values.items()},
        panel.kind: ANSWERS,
        **_unplanned(panel),
        panel.message: notice(
            "See what the answers take, write them, and read them. Then train on them: the Train tab has the settings "
            "of the run, so that both differ in their answers only."
        ),
    }


def filled(panel: Panel) -> list[Any]:
    """The components that `opened_for` updates."""
    return [panel.kind, *_seen(panel), panel.plan, panel.send, panel.planned, panel.message]


def _seen(panel: Panel) -> list[Any]:
    """The components that `_suited` updates."""
    return [panel.box, panel.run, panel.who, panel.url, panel.model, panel.key, panel.rows, panel.each, panel.judge]


def _suited(panel: Panel, kind: str, writer: str, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show only the fields that the kind and the writer need."""
    at_address = gr.update(visible=writer == _ADDRESS)
    return {
        panel.box: gr.update(visible=kind == DOCUMENTS),
        panel.run: _runs(workspace, run_id, visible=kind == ANSWERS),
        panel.who: gr.update(choices=_writers(kind)),
        **dict.fromkeys((panel.url, panel.model, panel.key), at_address),
        # All prompts of the run are answered, one at a time, and its own measures judge the result.
        **dict.fromkeys((panel.rows, panel.each), gr.update(visible=kind != ANSWERS)),
        panel.judge: gr.update(visible=writer == _ADDRESS and kind != ANSWERS),
    }


def _writers(kind: str) -> list[tuple[str, str]]:
    base = "Its base with the prompt of its evaluation" if kind == ANSWERS else "The base on the Train tab"
    return [("A model at an address", _ADDRESS), (f"{base}, on this machine", _BASE)]


def _runs(workspace: Workspace, run_id: str | None, *, visible: bool) -> dict[str, Any]:
    runs = run_files.runs_that_answer(workspace) if visible else []
    known = [run.id for run in runs]
    chosen = run_id if run_id in known else next(iter(known), None)
    return gr.update(choices=run_names.choices(runs), value=chosen, visible=visible)


def _unplanned(panel: Panel) -> dict[Any, Any]:
    """The displayed cost is invalid once the settings change."""
    return {panel.plan: "", panel.send: gr.update(visible=False), panel.planned: None}


def _own(panel: Panel) -> list[Any]:
    return [
        panel.like,
        panel.run,
        panel.url,
        panel.model,
        panel.rows,
        panel.each,
        panel.price_in,
        panel.price_out,
        panel.judge,
    ]


def _progress(panel: Panel, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the progress of the work, or its result."""
    folder = job.latest(workspace)
    status = job.status(folder) if folder else None
    working = status is not None and status.is_active
    again = status is not None and status.state == "stopping"
    result, made = Markup(""), None
    if status is not None and working:
        far = f": {count(status.done)} of {count(status.total)} requests" if status.total else ""
        result = notice(f"{status.phase.capitalize()}{far}. Rows already written are kept, even if you stop.")
    elif status is not None and status.error:
        result = error_box(FtlabError(status.error["what"], why=status.error["why"], try_=status.error["try"]))
    elif status is not None and status.state == "stopped":
        result = notice(
            "Stopped. Rows already written are kept. To continue, press Show what it will take.", kind="warn"
        )
    elif folder is not None and (made := job.outcome(folder, workspace)) is not None:
        lines = list_items(made.lines()[1:])
        text = Markup("{} Read them before you train.<ul>{}</ul>").format(made.lines()[0], lines)
        result = notice(text, kind="good")
    return {
        panel.result: result,
        panel.stop: gr.update(visible=working, value="Kill it now" if again else "Stop"),
        panel.read: gr.update(visible=made is not None),
        panel.accept: gr.update(visible=made is not None and bool(unread(_newest(workspace)))),
        panel.timer: gr.Timer(active=working),
    }


def _newest(workspace: Workspace) -> Version:
    """The newest version of the data whose rows were written last. Raises InputError if they are gone."""
    folder = job.latest(workspace)
    made = job.outcome(folder, workspace) if folder else None
    if made is None:
        raise InputError("The rows are gone", try_="write them again")
    return find(made.version.name, workspace)


def _listed(paths: list[str]) -> Markup:
    if not paths:
        return Markup(
            '<p class="ft-help">Whole documents are held out, so test questions come from texts that training '
            "never sees.</p>"
        )
    names = ", ".join(Path(path).name for path in paths)
    return Markup("<p>{}: {}</p>").format(counted(len(paths), "document"), names)


def _key() -> Markup:
    """Whether a key is set; never the key itself."""
    try:
        there = find_key(WRITER)
    except FtlabError as error:
        return error_box(error)
    text = (
        f"{WRITER.key_variable} is set; it is sent only to that address."
        if there
        else f"{WRITER.key_variable} is not set, so only addresses that need no key will work."
    )
    return Markup('<p class="ft-help">{}</p>').format(text)
