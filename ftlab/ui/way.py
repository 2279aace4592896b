"""The way above the tabs: the steps from data to a shared result, which are done, and which is current.

It covers the selected data and the newest run on them. A press on a step opens its tab.

elem_ids: `way`.
"""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.ui import run_files
from ftlab.ui.kit.html import join
from ftlab.ui.page import Follower, kept_choices
from ftlab.ui.tabs.data.sources import is_first_visit

STEPS = {"data": "Data", "train": "Train", "evaluate": "Evaluate", "share": "Share"}
_OPEN_JS = """
element.addEventListener('click', event => {
  const step = event.target.closest('[data-step]')?.dataset.step;
  if (!step) return;
  document.querySelector(`#tab_${step === 'share' ? 'evaluate' : step}-button`).click();
  if (step === 'share') setTimeout(() => document.querySelector('#evaluate_share:not(.hidden)')?.click(), 300);
});
"""


def build(workspace: Workspace) -> gr.HTML:
    return gr.HTML(drawn(where(workspace)), elem_id="way", js_on_load=_OPEN_JS)


def follower(box: gr.HTML, workspace: Workspace) -> Follower:
    return Follower([box], lambda seen: {box: drawn(where(workspace))})


def where(workspace: Workspace) -> str:
    """The step that comes next."""
    if is_first_visit(workspace):
        return "data"
    run = _newest_on(kept_choices(workspace).data or DataConfig().source, workspace)
    if run is None or not run_files.result_ready(run):
        return "train"
    measured = run_files.comparison(run) or run_files.preferences(run) or run_files.rewards(run)
    return "share" if measured else "evaluate"


def _newest_on(source: str, workspace: Workspace) -> RunDirectory | None:
    configs = ((run, run_files.config(run)) for run in workspace.runs())
    return next((run for run, config in configs if config is not None and config.data.source == source), None)


def drawn(now: str) -> Markup:
    place = list(STEPS).index(now)
    steps = join(
        Markup('<li><button type="button" data-step="{}"{}>{}{}</button></li>').format(
            name,
            Markup(' aria-current="step"') if at == place else "",
            title,
            Markup('<span class="ft-unseen"> (done)</span>') if at < place else "",
        )
        for at, (name, title) in enumerate(STEPS.items())
    )
    return Markup('<nav aria-label="The way"><ol class="ft-way" data-at="{}">{}</ol></nav>').format(now, steps)
