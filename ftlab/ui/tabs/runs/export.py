"""Export the selected run, on the Runs tab: as a download, or to the Hugging Face Hub, with a preview before sending.

elem_ids: `runs_export_box` (folded), `runs_export_kind`, `runs_export_dtype`, `runs_download` (exports, verifies and
packs), `runs_download_file` (downloads the zip), `runs_export_state`, `runs_export_message`, `runs_hub_box` (folded),
`runs_hub_name`, `runs_hub_data`, `runs_hub_report`, `runs_hub_private`, `runs_hub_look`, `runs_hub_send`,
`runs_hub_message`, `runs_hub_preview`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.export.shape import Kind
from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.ui import background, run_files
from ftlab.ui.kit.events import any_of, message_box, offer_file, on, press
from ftlab.ui.kit.html import count, details, join, notice, preformatted, table
from ftlab.ui.kit.hub_account import about_token, upload_token

_POLL_SECONDS = 0.5
_KINDS = [("Adapter, for its base", "adapter"), ("One whole model", "merged")]
_FORMATS = [("as evaluated", ""), *((name, name) for name in ("float32", "bfloat16", "float16"))]
_ABOUT = (
    "A folder that loads without ftlab: weights as safetensors, tokenizer, chat template, stop tokens, and a model "
    "card. Before you get it, a fresh process without ftlab loads it and must answer held-out prompts as this run did."
)


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    kind: gr.Radio
    dtype: gr.Dropdown
    download: gr.Button
    file: gr.DownloadButton
    message: gr.HTML
    state: gr.HTML
    name: gr.Textbox
    data: gr.Textbox
    report: gr.Checkbox
    private: gr.Checkbox
    look: gr.Button
    send: gr.Button
    hub_message: gr.HTML
    preview: gr.HTML
    seen: gr.State  # what the displayed list is about: exactly this is uploaded

    @property
    def asked(self) -> list[Any]:
        """The fields that determine what is uploaded, after the run."""
        return [self.kind, self.dtype, self.name, self.data, self.report, self.private]


def build() -> Panel:
    with gr.Accordion("Hand the model over", open=False, elem_id="runs_export_box") as box:
        gr.HTML(Markup('<p class="ft-help">{}</p>').format(_ABOUT))
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            kind = gr.Radio(
                _KINDS,
                value="adapter",
                label="What",
                info="An adapter is small and needs its base. A whole model works with vLLM, llama.cpp and Ollama.",
                elem_id="runs_export_kind",
                scale=3,
                min_width=280,
            )
            dtype = gr.Dropdown(
                _FORMATS,
                value="",
                label="Number format",
                info="For a whole model. 16-bit formats halve its size and round the weights.",
                elem_id="runs_export_dtype",
                scale=2,
                min_width=200,
                visible=False,
            )
        download = gr.Button(
            "Export and download", variant="primary", elem_id="runs_download", elem_classes="ft-act", min_width=200
        )
        file = gr.DownloadButton("Save", elem_id="runs_download_file", elem_classes="ft-gone")
        message = message_box("runs_export_message")
        state = gr.HTML(elem_id="runs_export_state", elem_classes="ft-maybe")
        with gr.Accordion("Send to the Hugging Face Hub", open=False, elem_id="runs_hub_box"):
            hub = _build_hub()
    return Panel(box, kind, dtype, download, file, message, state, *hub)


def _build_hub() -> tuple[Any, ...]:
    gr.HTML(Markup('<p class="ft-help">{}</p>').format(about_token()))
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        name = gr.Textbox(
            label="Model",
            info="Created if it does not exist.",
            placeholder="owner/name",
            max_lines=1,
            elem_id="runs_hub_name",
            scale=1,
            min_width=220,
        )
        data = gr.Textbox(
            label="Data set (optional)",
            info="Also uploads the data of this run.",
            placeholder="owner/name-data",
            max_lines=1,
            elem_id="runs_hub_data",
            scale=1,
            min_width=220,
        )
    report = gr.Checkbox(False, label="Include the report, which quotes held-out rows", elem_id="runs_hub_report")
    private = gr.Checkbox(True, label="Private: only you can read it", elem_id="runs_hub_private")
    with gr.Row():
        look = gr.Button("Show what would be uploaded", elem_id="runs_hub_look", scale=0, min_width=310)
        send = gr.Button("Upload", variant="primary", visible=False, elem_id="runs_hub_send", scale=0, min_width=140)
    message = message_box("runs_hub_message")
    return name, data, report, private, look, send, message, gr.HTML(elem_id="runs_hub_preview"), gr.State(None)


def wire(panel: Panel, run: gr.Dropdown, workspace: Workspace) -> None:
    """Wire the handlers. `run` is the component that selects the run."""
    on(panel.kind.change, lambda kind: {panel.dtype: gr.update(visible=kind != "adapter")}, [panel.kind], [panel.dtype])

    def download(run_id: str | None, kind: Kind, dtype: str) -> Iterator[dict[Any, Any]]:
        from ftlab.export.export import pack

        background.ensure("torch")
        chosen = run_files.chosen_run(workspace, run_id)
        for text in _made(chosen, kind, dtype, workspace):
            yield {panel.state: notice(f"{text} …")}
        yield {panel.state: notice("packing the files …")}
        packed = pack(chosen.export_folder(kind), chosen.export_zip(kind))
        yield {panel.file: offer_file(packed, packed.name), panel.state: _state(chosen, kind)}

    def choose(run_id: str | None, kind: Kind) -> dict[Any, Any]:
        return show(panel, run_id, kind, workspace) | _unseen(panel)

    def look(run_id: str | None, *asked: Any) -> Iterator[dict[Any, Any]]:
        chosen = run_files.chosen_run(workspace, run_id)
        kind, dtype, *where = asked
        _named(where[0])
        background.ensure("torch")
        for text in _made(chosen, kind, dtype, workspace):
            yield {panel.preview: notice(f"{text} …")}
        upload = _push(chosen, kind, dtype, where, dry_run=True)
        yield {
            panel.preview: _shown(upload),
            panel.seen: [run_id, *asked],
            panel.send: gr.update(visible=True),
            panel.state: _state(chosen, kind),
        }

    def send(
        seen: list[Any] | None,
        run_id: str | None,
        kind: Kind,
        dtype: str,
        name: str,
        data: str,
        report: bool,
        private: bool,
        token: gr.OAuthToken | None = None,  # of the logged-in user; supplied by Gradio
    ) -> dict[Any, Any]:
        asked = (kind, dtype, name, data, report, private)
        if seen != [run_id, *asked]:
            raise InputError(
                "What would be uploaded has changed since you reviewed it",
                try_="press Show what would be uploaded again",
            )
        where = [name, data, report, private]
        run = run_files.chosen_run(workspace, run_id)
        upload = _push(run, kind, dtype, where, dry_run=False, token=upload_token(token))
        notes = join(Markup("<div>{}</div>").format(note) for note in upload.notes)
        done = Markup('<div class="ft-box ft-good" role="status">Uploaded: {}{}</div>').format(upload.address, notes)
        return {panel.hub_message: done, **_unseen(panel)}

    made = on(
        panel.download.click,
        download,
        [run, panel.kind, panel.dtype],
        [panel.file, panel.state],
        box=panel.message,
        progress="minimal",
    )
    made.then(None, js=press("#runs_download_file", "#runs_export_message"))
    hidden = [panel.send, panel.seen, panel.preview]
    outputs = [panel.state, panel.dtype]
    settings: dict[str, Any] = {"queue": False, "trigger_mode": "always_last"}
    on(
        any_of(run.change, panel.kind.input),
        choose,
        [run, panel.kind],
        [*outputs, *hidden],
        box=panel.message,
        **settings,
    )
    # The strength may have changed since the run was selected.
    on(
        panel.box.expand,
        lambda run_id, kind: show(panel, run_id, kind, workspace),
        [run, panel.kind],
        outputs,
        box=panel.message,
        clears=False,
        **settings,
    )
    typed = any_of(*(field.input for field in panel.asked[1:]))
    on(typed, lambda: _unseen(panel), [], hidden, box=panel.hub_message, **settings)
    on(panel.look.click, look, [run, *panel.asked], [*hidden, panel.state], box=panel.hub_message, progress="minimal")
    on(
        panel.send.click,
        send,
        [panel.seen, run, *panel.asked],
        hidden,
        box=panel.hub_message,
        progress="minimal",
    )


def show(panel: Panel, run_id: str | None, kind: Kind, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the export of `run_id`, if any."""
    merged = kind == "merged"
    dtype = gr.update(interactive=True) if merged else gr.update(interactive=False, value="")
    if not run_id:
        return {panel.state: "", panel.dtype: dtype}
    return {panel.state: _state(workspace.run(run_id), kind), panel.dtype: dtype}


def _made(run: RunDirectory, kind: Kind, dtype: str, workspace: Workspace) -> Iterator[str]:
    """Export `run` unless that is done already; yields progress. The process continues after the page is closed."""
    from ftlab.export import job as export_job
    from ftlab.export.export import kept_export

    if kept_export(run, kind, dtype or None) is not None:
        return
    export_job.start(run, workspace, kind, dtype or None)
    last = "starting"
    yield last
    while (job := export_job.progress(run, kind)).state == "working":
        if job.text and job.text != last:
            last = job.text
            yield last
        time.sleep(_POLL_SECONDS)
    export_job.raise_failure(job)


def _state(run: RunDirectory, kind: Kind) -> Markup:
    """The state of the export, and the strength of the next one if that is not as trained."""
    at = strength_name(run_files.strength(run))
    told = f"Exports use {at}, chosen on the Evaluate tab. Choose 1 there for the model as trained."
    return join([notice(told) if at else "", _verified(run, kind)])


def _verified(run: RunDirectory, kind: Kind) -> Markup:
    """The existing export: what was checked, and where it is."""
    from ftlab.export import job as export_job
    from ftlab.export.verify import lines

    job = export_job.progress(run, kind)
    if job.state == "working":
        return notice(f"{job.text or 'starting'} … Press Export and download to follow it.")
    if job.record is None:
        return Markup("")
    there = job.record["shape"].get("strength", AS_TRAINED)
    told = [*lines(job.record["verification"]), *job.record["notes"]]
    if there != AS_TRAINED or there != run_files.strength(run):
        told.insert(0, f"The export in this folder is {strength_name(there) or 'as trained'}.")
    body = join(Markup("<div>{}</div>").format(line) for line in told)
    where = Markup('<div class="ft-help">Folder: <code>{}</code></div>').format(run.export_folder(kind))
    return Markup('<div class="ft-box ft-good" role="status">{}{}</div>').format(body, where)


def _push(
    run: RunDirectory, kind: Kind, dtype: str, where: list[Any], *, dry_run: bool, token: str | None = None
) -> Any:
    from ftlab.export.export import kept_export
    from ftlab.export.push import push

    name, data, report, private = where
    made = kept_export(run, kind, dtype or None)
    if made is None:
        raise FtlabError("The run has changed since the export", try_="press Show what would be uploaded again")
    return push(
        run,
        made,
        _named(name),
        data=(data or "").strip() or None,
        report=bool(report),
        private=bool(private),
        dry_run=dry_run,
        token=token,
    )


def _shown(upload: Any) -> Markup:
    """What would be uploaded: where to, every file with its size, and the cards."""
    who = "Only you can read it." if upload.private else "Anyone can read it."
    kind = "info" if upload.private else "warn"
    parts = [notice(f"This would go to the model {upload.repository}. {who}", kind=kind)]
    parts.append(_files(upload.files, "Files of the model"))
    if upload.data:
        parts.append(notice(f"And this to the data set {upload.data.repository}. {who}", kind=kind))
        parts.append(_files(upload.data.files, "Files of the data set"))
    parts.append(details("The model card (README.md)", preformatted(upload.card, label="Model card")))
    parts += [notice(note, kind="warn") for note in upload.notes]
    return join(parts)


def _files(files: dict[str, int], label: str) -> Markup:
    rows = [[name, count(size)] for name, size in files.items()]
    return table(["File", "Bytes"], [*rows, ["in all", count(sum(files.values()))]], label=label, numbers=(1,))


def _named(name: str | None) -> str:
    if not (name or "").strip():
        raise InputError("The model needs a name on the Hub", allowed="owner/name")
    return str(name).strip()


def _unseen(panel: Panel) -> dict[Any, Any]:
    return {panel.send: gr.update(visible=False), panel.seen: None, panel.preview: ""}
