"""Shared by the Train and the Preferences tab: Start and Stop, and beside the form the current run, with links to its
result once it has ended.

elem_ids, after the name of the tab (`train` or `pref`): `_start`, `_stop`, `_message`, `_live` (curve, answers,
outcome), `_to_evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig, RunConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.ui import background, job_strip, run_files
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.page import Page
from ftlab.ui.run_files import Job
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.train import preflight


@dataclass(frozen=True)
class StartRow:
    start: gr.Button
    stop: gr.Button
    message: gr.HTML


@dataclass(frozen=True)
class RunPanel:
    row: StartRow
    live: gr.HTML
    to_evaluate: gr.Button
    run_id: gr.State  # id of the run in the live view
    changed: gr.State  # id of the run that was in the live view when a person changed a setting

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.live, self.to_evaluate, self.row.start, self.row.stop, self.run_id]

    @property
    def main(self) -> list[Any]:
        """The components that `leads` updates."""
        return [self.row.start, self.to_evaluate, self.changed]


def build_row(tab: str) -> StartRow:
    with gr.Row():
        # Disabled until the data are read.
        start = gr.Button("Start training", variant="primary", interactive=False, elem_id=f"{tab}_start", min_width=150)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id=f"{tab}_stop", min_width=110)
    return StartRow(start, stop, message_box(f"{tab}_message"))


def build_live(tab: str, row: StartRow, nothing: Markup) -> RunPanel:
    """The column beside the form; `nothing` is its content before the first run."""
    with gr.Column(elem_id=f"{tab}_picture", elem_classes="ft-run-picture", min_width=280):
        live = gr.HTML(nothing, elem_id=f"{tab}_live", js_on_load=run_view.KEEP_OPEN_JS)
        to_evaluate = gr.Button("See the evaluation", visible=False, elem_id=f"{tab}_to_evaluate")
    return RunPanel(row, live, to_evaluate, gr.State(None), gr.State(None))


def wire(
    panel: RunPanel,
    page: Page,
    inputs: Sequence[Any],
    configured: Callable[[Sequence[Any]], RunConfig],
    show_now: Callable[[Job | None], dict[Any, Any]],
    changes: Sequence[Any],
) -> None:
    """Make Start submit the result of `configured` on the values of `inputs`, and wire the other buttons.

    `show_now(job)` returns the updates of the panel. `changes` are the events of a person changing a setting.
    """
    strip, workspace, message = page.strip, page.workspace, panel.row.message

    def start(*values: Any) -> dict[Any, Any]:
        from ftlab.training import supervisor

        preflight.give_way()
        config = configured(values)
        run = supervisor.submit(config, workspace)
        preflight.keep_expected(config, run, workspace)
        background.release_models(config.launcher.device)
        queued, at_work = job_strip.submitted(strip, run, workspace)
        return {message: queued, **at_work, **show_now(run_files.current_job(workspace))}

    def lead(run_id: str | None) -> dict[Any, Any]:
        return meant(panel, run_id, workspace)

    on(any_of(*changes), lead, [panel.run_id], panel.main, queue=False)
    on(
        panel.row.start.click,
        start,
        inputs,
        [*panel.outputs, strip.box, strip.stop, strip.job],
        box=message,
        progress="minimal",
        show_progress_on=message,
        concurrency_limit=1,
    )
    job_strip.stop_by(strip, panel.row.stop, message, workspace)
    page.lead(panel.to_evaluate.click, "run", [panel.run_id], to="evaluate", queue=False)


def to_show(job: Job | None, stages: Sequence[str], workspace: Workspace) -> RunDirectory | None:
    """The run of one of `stages` that is training, else the newest one."""
    if job is not None and job.kind == "training" and run_files.stage(job.run) in stages:
        return job.run
    return next((run for run in workspace.runs() if run_files.stage(run) in stages), None)


def leads(panel: RunPanel, job: Job | None, *, start: bool = True) -> dict[Any, Any]:
    """Updates of the primary button: Start, or the evaluation; none while a job runs, when Start adds to the queue."""
    main, other = gr.update(variant="primary"), gr.update(variant="secondary")
    if job is not None:
        return {panel.row.start: other | gr.update(value="Add to the queue"), panel.to_evaluate: other}
    return {
        panel.row.start: (main if start else other) | gr.update(value="Start training"),
        panel.to_evaluate: other if start else main,
    }


def meant(panel: RunPanel, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates for a form that was changed beside the run `run_id`: what it describes now is a new run, so Start leads
    until that run is in the live view."""
    return leads(panel, run_files.current_job(workspace)) | {panel.changed: run_id}


def learned_from(run: RunDirectory, data: str | None) -> bool:
    """Whether `run` has a result learned from `data`, the current data of the Data tab."""
    config = run_files.config(run)
    if not (data and config and run_files.result_ready(run)):
        return False
    return config.data.source == DataConfig.model_validate_json(data).source


def show(
    panel: RunPanel,
    run: RunDirectory | None,
    job: Job | None,
    nothing: Markup,
    data: str | None = None,
    changed: str | None = None,
) -> dict[Any, Any]:
    """Updates that show `run` from its files, Stop while `job` works on it, and the primary button: evaluation if the
    run has learned from `data` (the current data of the Data tab) and is not the one beside which a person `changed`
    a setting."""
    if run is None:
        hidden = gr.update(visible=False)
        closed = dict.fromkeys((panel.to_evaluate, panel.row.stop), hidden)
        return {**leads(panel, job), **closed, panel.live: nothing, panel.run_id: None}
    ready, main = run_files.result_ready(run), leads(panel, job, start=changed == run.id or not learned_from(run, data))
    return {
        **main,
        panel.live: run_view.live(run),
        panel.to_evaluate: main[panel.to_evaluate] | gr.update(visible=ready, value=run_view.on_to_evaluate(run)),
        panel.row.stop: job_strip.stop_button(job if job is not None and job.run == run else None),
        panel.run_id: run.id,
    }
