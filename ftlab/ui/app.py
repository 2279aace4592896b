"""The app: tabs in pipeline order, with the way and the job strip above them. `page` connects them.

elem_ids: `way`, `tabs`, `tab_data`, `tab_train`, `tab_preferences`, `tab_evaluate`, `tab_chat`, `tab_blind`,
`tab_runs` (their buttons end in `-button`), `help_link`, `theme_switch`. Each tab lists its own at the
top of its `tab.py`.
"""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.evaluation.metrics.own import ONLY_FOLDER
from ftlab.ui import job_strip, page, programs, run_files
from ftlab.ui.kit.events import cover_page, on
from ftlab.ui.kit.html import COVER, help_link, join
from ftlab.ui.tabs.blind_test import tab as blind_test
from ftlab.ui.tabs.chat import tab as chat
from ftlab.ui.tabs.data import checks_view
from ftlab.ui.tabs.data import tab as data
from ftlab.ui.tabs.data.sources import is_first_visit
from ftlab.ui.tabs.evaluate import tab as evaluate
from ftlab.ui.tabs.preferences import tab as preferences
from ftlab.ui.tabs.runs import tab as runs
from ftlab.ui.tabs.train import tab as train
from ftlab.ui.theme import HEAD, KEEP_TAB, STYLE_FILE, SWITCH_THEME, plain_page

TABS: tuple[Any, ...] = (data, train, preferences, evaluate, chat, blind_test, runs)  # `page` defines what a tab is
MOST_UPLOADED = "2gb"
STEPS = {"data": "Data", "train": "Train", "evaluate": "Evaluate", "share": "Share"}
_OPEN_STEP_JS = """
element.addEventListener('click', event => {
  const step = event.target.closest('[data-step]')?.dataset.step;
  if (!step) return;
  document.querySelector(`#tab_${step === 'share' ? 'evaluate' : step}-button`).click();
  if (step === 'share') setTimeout(() => document.querySelector('#evaluate_share:not(.hidden)')?.click(), 300);
});
"""


def build_app(
    workspace: Workspace, served: threading.Event | None = None, above: Callable[[], Any] | None = None
) -> gr.Blocks:
    """The app over `workspace`. `served` is set once the first page has been filled; `above` adds to its top."""
    with gr.Blocks(title="ftlab", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        programs.offer(workspace)  # first, so that no private handler takes one of their names
        cover = cover_page(COVER)
        with gr.Row(elem_classes="ft-top"):
            gr.HTML("<h1>ftlab</h1>", elem_id="title")
            steps = gr.HTML(way(next_step(workspace)), elem_id="way", js_on_load=_OPEN_STEP_JS)
            gr.HTML(help_link("", "Help"), elem_id="help_link")
            switch = gr.Button("Light / dark", size="sm", scale=0, min_width=110, elem_id="theme_switch")
        if above is not None:
            above()
        strip = job_strip.build()
        panels: dict[str, gr.Tab] = {}
        parts: dict[str, Any] = {}
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            for tab in TABS:
                with gr.Tab(tab.TITLE, id=tab.NAME, elem_id=f"tab_{tab.NAME}") as panels[tab.NAME]:
                    parts[tab.NAME] = tab.build(workspace)
        switch.click(None, js=SWITCH_THEME, api_visibility="private")
        tabs.change(None, js=KEEP_TAB, api_visibility="private")
        _wire(page.Page(workspace, tabs, strip, app.load, cover, panels, parts), steps, served)
    return app


def _wire(the: page.Page, steps: gr.HTML, served: threading.Event | None) -> None:
    def opened(request: gr.Request) -> dict[Any, Any]:
        if served is not None:
            served.set()
        tab = request.query_params.get("tab")
        # If the address names no tab, select none: on a slow machine, somebody may have pressed one already.
        return the.to(tab) if tab in the.parts else {}

    for tab in TABS:
        if hasattr(tab, "doors"):
            the.doors[tab.NAME] = tab.doors(the.parts[tab.NAME], the)
    followers = [_way_follower(steps, the.parts[data.NAME], the.workspace)]
    job_strip.wire(the.strip, the.workspace)
    for tab in TABS:
        tab.wire(the.parts[tab.NAME], the)
        if hasattr(tab, "followers"):
            followers += tab.followers(the.parts[tab.NAME], the)
    on(the.opened, opened, [], [the.tabs], queue=False)
    page.follow_files(the, followers)


def _way_follower(box: gr.HTML, data_parts: data.DataTab, workspace: Workspace) -> page.Follower:
    checks = data_parts.panels["checks"]

    def draw(seen: page.Look) -> dict[Any, Any]:
        looked = seen.values[checks.looked]
        usable = looked is None or data.can_train(looked[0], workspace)
        return {
            box: way(next_step(workspace, usable=usable), checks_view.serious_in(seen.values[checks.job], workspace))
        }

    # The line says how a check goes, so it changes when a check ends.
    return page.Follower([box], draw, [checks.looked, checks.job, checks.line], [checks.looked, checks.line])


def next_step(workspace: Workspace, *, usable: bool = True) -> str:
    """The step that comes next. `usable`: whether the selected data can be trained on."""
    if is_first_visit(workspace) or not usable:
        return "data"
    run = _newest_on(page.kept_choices(workspace).data or DataConfig().source, workspace)
    if run is None or not run_files.result_ready(run):
        return "train"
    measured = run_files.comparison(run) or run_files.preferences(run) or run_files.rewards(run)
    return "share" if measured else "evaluate"


def _newest_on(source: str, workspace: Workspace) -> RunDirectory | None:
    configs = ((run, run_files.config(run)) for run in workspace.runs())
    return next((run for run, config in configs if config is not None and config.data.source == source), None)


def way(now: str, serious: int = 0) -> Markup:
    """The steps from data to a shared result, for the selected data and the newest run on them. A press opens the tab
    of a step. Those before `now` are done. `serious`: how many errors and warnings the checks found in the data."""
    place = list(STEPS).index(now)

    def state(at: int, name: str) -> Markup:
        if name == "data" and serious:
            things = f"{counted(serious, 'thing')} to look at"
            return Markup('<span class="ft-unseen ft-warn"> ({})</span>').format(things)
        return Markup('<span class="ft-unseen"> (done)</span>') if at < place else Markup("")

    steps = join(
        Markup('<li><button type="button" data-step="{}"{}>{}{}</button></li>').format(
            name, Markup(' aria-current="step"') if at == place else "", title, state(at, name)
        )
        for at, (name, title) in enumerate(STEPS.items())
    )
    return Markup('<nav aria-label="The way"><ol class="ft-way" data-at="{}">{}</ol></nav>').format(now, steps)


def page_settings(workspace: Workspace) -> dict[str, Any]:
    """Arguments of launch() and mount_gradio_app() that show the app."""
    # Whoever opens the app can upload a file and name its path. Such a file must never be executed.
    os.environ[ONLY_FOLDER] = str(workspace.metrics_folder)
    return {
        **plain_page(),
        "css_paths": [STYLE_FILE, blind_test.STYLE_FILE],
        "head": HEAD,
        "max_file_size": MOST_UPLOADED,
    }
