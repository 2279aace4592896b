"""The app: tabs in the order of the pipeline, the job strip above them, one timer that reads files.

elem_ids: `tabs`, `tab_data`, `tab_train`, `tab_preferences`, `tab_evaluate`, `tab_chat`, `tab_blind`, `tab_runs` (their
buttons end in `-button`), `help_link`, `theme_switch`. Each tab module lists its own at the top.
"""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import logging
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from ftlab.arena.store import open_store
from ftlab.config import RunConfig
from ftlab.core.damage import explained
from ftlab.core.files import DamagedFile
from ftlab.core.workspace import Workspace
from ftlab.data.formats import PREFERENCES
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.evaluation.metrics.own import ONLY_FOLDER
from ftlab.ui import job_strip, programs, run_files, run_names
from ftlab.ui.kit.events import any_of, on
from ftlab.ui.kit.fresh import digest, unsaid
from ftlab.ui.kit.html import error_box, help_link, notice
from ftlab.ui.run_view.stages import STAGES
from ftlab.ui.tabs.blind_test import tab as blind_test
from ftlab.ui.tabs.chat import tab as chat
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import sources as data_sources
from ftlab.ui.tabs.data import tab as data
from ftlab.ui.tabs.evaluate import tab as evaluate
from ftlab.ui.tabs.preferences import before_after
from ftlab.ui.tabs.preferences import tab as preferences
from ftlab.ui.tabs.runs import tab as runs
from ftlab.ui.tabs.train import tab as train
from ftlab.ui.theme import HEAD, KEEP_TAB, STYLE_FILE, SWITCH_THEME, plain_page

log = logging.getLogger(__name__)

TABS = {"data": "Data", "train": "Train", "preferences": "Preferences", "evaluate": "Evaluate"}
TABS |= {"chat": "Chat", "blind": "Blind test", "runs": "Runs"}
PREFERRED = (*PREFERENCES, "kto")  # formats of data that hold preferences
POLL_SECONDS = 1.0
MOST_UPLOADED = "2gb"


def build_app(
    workspace: Workspace, served: threading.Event | None = None, above: Callable[[], Any] | None = None
) -> gr.Blocks:
    """The app over `workspace`. `served` is set once the first page has been filled; `above` adds to its top."""
    with gr.Blocks(title="ftlab", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        programs.offer(workspace)  # first, so that no private handler takes one of their names
        with gr.Row(elem_classes="ft-top"):
            gr.HTML(
                "<h1>ftlab</h1><p>Adapt a language model with a few hundred examples, and prove that it got better.</p>"
            )
            gr.HTML(help_link("", "Help"), elem_id="help_link")
            switch = gr.Button("Light / dark", size="sm", scale=0, min_width=110, elem_id="theme_switch")
        if above is not None:
            above()
        memory = gr.State({})  # what this page shows already, so that a tick sends only what is new
        strip = job_strip.build()
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            built: dict[str, Any] = {}
            panels: dict[str, gr.Tab] = {}
            makers: dict[str, Callable[[], Any]] = {
                "data": lambda: data.build(workspace),
                "train": train.build,
                "preferences": preferences.build,
                "evaluate": evaluate.build,
                "chat": chat.build,
                "blind": lambda: blind_test.build(workspace),
                "runs": lambda: runs.build(workspace),
            }
            for name, title in TABS.items():
                with gr.Tab(title, id=name, elem_id=f"tab_{name}") as panels[name]:
                    built[name] = makers[name]()
        switch.click(None, js=SWITCH_THEME, api_visibility="private")
        tabs.change(None, js=KEEP_TAB, api_visibility="private")
        job_strip.wire(strip, workspace)
        _wire_data(built, workspace, app.load)
        train.wire(built["train"], built["data"], strip, workspace)
        preferences.wire(built["preferences"], built["data"], strip, workspace)
        evaluate.wire(built["evaluate"], strip, workspace)
        chat.wire(built["chat"], workspace)
        runs.wire(built["runs"], workspace, app.load)
        # Filled when somebody looks: its form is long, and a browser redraws all of it.
        blind_test.wire(built["blind"], workspace, panels["blind"].select)
        _wire_between_tabs(built, tabs, workspace)
        _wire_to_disk(app, built, tabs, strip, memory, workspace, served)
    return app


def _wire_data(built: dict[str, Any], workspace: Workspace, opened: Any) -> None:
    chosen = built["train"].form.components
    data.wire(built["data"], workspace, chosen["model.base"], chosen["optimisation.max_length"], opened)


def _wire_between_tabs(built: dict[str, Any], tabs: gr.Tabs, workspace: Workspace) -> None:
    """Buttons that lead on to another tab, with what they are about."""
    data_, train_, preferences_, runs_ = (built[name] for name in ("data", "train", "preferences", "runs"))

    def go(tab: str) -> Any:
        return lambda: {tabs: gr.Tabs(selected=tab)}

    def carry(tab: str) -> Any:
        return lambda run_id: {tabs: gr.Tabs(selected=tab), built[tab].run: run_id}

    def again(run_id: str | None) -> dict[Any, Any]:
        if not run_id:
            raise InputError("No run is chosen", try_="press a run's name in the table")
        config = run_files.config(workspace.run(run_id))
        if config is None:
            raise InputError("The settings of this run cannot be read by this version of ftlab", given=run_id)
        return filled_with(config)[0]

    def filled_with(config: RunConfig) -> tuple[dict[Any, Any], str]:
        """Updates that show the settings of `config` in the form that trains such runs, and the name of its tab."""
        tab, form = "train", train_.form.fill
        if config.stage in STAGES:
            tab, form = "preferences", lambda config: preferences.fill(preferences_, config)
        return {tabs: gr.Tabs(selected=tab), **form(config), **data_.form.fill(config)}, tab

    def use(shown: str | None) -> dict[Any, Any]:
        """On to the tab that learns from the data on show."""
        prefers = (
            shown is not None and data_rows.inspected(data_sources.config_of(shown), workspace).format in PREFERRED
        )
        return {tabs: gr.Tabs(selected="preferences" if prefers else "train")}

    def mend(event: gr.EventData) -> dict[Any, Any]:
        """On to the form of training, with the settings of a run and the remedy that was picked."""
        config, remedy = evaluate.with_remedy(event._data["value"], workspace)
        updates, tab = filled_with(config)
        return {**updates, built[tab].message: evaluate.remedy_said(remedy)}

    def learn(chosen: str | None) -> dict[Any, Any]:
        """On to the Preferences tab with the votes of the chosen test as data."""
        if not chosen or chosen == blind_test.NEW:
            raise InputError("No blind test is chosen", try_="choose one above")
        found = blind_test.lesson(open_store(workspace), chosen, workspace)
        fields = preferences_.form.components
        return {
            tabs: gr.Tabs(selected="preferences"),
            data_.form.components["data.source"]: gr.update(
                choices=data_sources.source_choices(workspace, found.source), value=found.source
            ),
            fields["stage"]: found.stage,
            fields["model.start"]: found.start,
            fields["model.base"]: found.base or gr.skip(),
            preferences_.message: notice(found.said),
        }

    on(data_.use.click, use, [data_.shown], [tabs], box=data_.message, clears=False)
    for origin in (train_, preferences_):
        on(origin.change_data.click, go("data"), [], [tabs], queue=False)
    seen = built["evaluate"]
    exports = [tabs, runs_.run, runs_.export.box]
    on(
        seen.to_export.click,
        lambda run_id: carry("runs")(run_id) | {runs_.export.box: gr.update(open=True)},
        [seen.run],
        exports,
        queue=False,
    )
    for trigger, tab in ((runs_.to_evaluate, "evaluate"), (runs_.to_chat, "chat")):
        on(trigger.click, carry(tab), [runs_.run], [tabs, built[tab].run], queue=False)
    on(seen.to_blind.click, go("blind"), [], [tabs], queue=False)
    for origin in (train_, preferences_):
        for trigger, tab in ((origin.to_evaluate, "evaluate"), (origin.to_chat, "chat")):
            on(trigger.click, carry(tab), [origin.shown], [tabs, built[tab].run], queue=False)
    filled = [tabs, *train_.form.inputs, *preferences_.form.inputs, *preferences_.rewards.inputs, *data_.form.inputs]
    carried = [data_.form.components["data.source"], preferences_.message]
    carried += [preferences_.form.components[path] for path in ("stage", "model.start", "model.base")]
    blind = built["blind"]
    on(blind.learn.click, learn, [blind.chosen], [tabs, *carried], box=blind.message, progress="minimal")
    # Queued, unlike its neighbours: a gr.State that it fills is followed only then.
    on(runs_.again.click, again, [runs_.run], filled, box=runs_.message)
    on(seen.remedies.pick, mend, [], [*filled, train_.message, preferences_.message], box=seen.message)


def _wire_to_disk(
    app: gr.Blocks,
    built: dict[str, Any],
    tabs: gr.Tabs,
    strip: job_strip.Strip,
    memory: gr.State,
    workspace: Workspace,
    served: threading.Event | None,
) -> None:
    """How the page follows the files: when it is opened, and each second after.

    One handler does all of it: gr.State.change, which could split it, never fires after an event with queue=False.
    """
    the, prefers, seen, talk, listed = (built[name] for name in TABS if name not in ("data", "blind"))

    def opened(request: gr.Request) -> dict[Any, Any]:
        if served is not None:
            served.set()
        tab = request.query_params.get("tab")
        # Without a tab in the address nothing is chosen: on a slow machine somebody may have pressed one already.
        return {tabs: gr.Tabs(selected=tab)} if tab in TABS else {}

    def tick(known: dict[str, str], *values: Any) -> dict[Any, Any]:
        return run_files.drawn(lambda: look(known, *values))

    def look(known: dict[str, str], *values: Any) -> dict[Any, Any]:
        job = run_files.current_job(workspace)
        given = dict(zip(looked_at, values, strict=True))
        shown = train.show(the, job, workspace) | preferences.show(prefers, job, workspace)
        states = (the.shown, prefers.shown)
        groups = {
            "strip": {strip.box: job_strip.show_now(job, workspace), strip.stop: job_strip.stop_button(job)},
            "live": {component: value for component, value in shown.items() if component not in states},
            "ids": {strip.job: job.key if job else None, **{state: shown[state] for state in states}},
        }
        now = {name: digest(list(group.values())) for name, group in groups.items()}
        runs_now = run_files.fingerprint(workspace)
        now["runs"] = digest([runs_now, [given[one] for one in drawn_from]])
        if now["runs"] != known.get("runs"):
            results = [run.id for run in run_files.runs_with_result(workspace)]
            every = [run.id for run in workspace.runs()]
            talks = [run.id for run in run_files.runs_that_answer(workspace)]
            drawn = groups["runs"] = unsaid(refresh(known, results, talks, every, *values), given)
            at = digest([drawn[talk.run].get("value", given[talk.run]), drawn.get(talk.strength)])
            if at == known.get("talk strength"):
                drawn.pop(talk.strength, None)  # somebody may have moved it since
            now["talk strength"] = at
            # A choice that came while this was drawn is no part of it: then the next tick draws again.
            now["runs"] = digest([runs_now, [drawn.get(one, {}).get("value", given[one]) for one in drawn_from]])
            now |= {"newest result": next(iter(results), ""), "newest run": next(iter(every), "")}
            now |= {"newest talk": next(iter(talks), ""), "newest start": preferences.newest_start(workspace)}
            now["newest compared"] = next(iter(before_after.compared(workspace)), "")
        fresh = [group for name, group in groups.items() if known.get(name) != now[name]]
        return {component: value for group in fresh for component, value in group.items()} | {memory: known | now}

    def refresh(
        known: dict[str, str],
        results: list[str],
        talks: list[str],
        every: list[str],
        begin: str | None,
        evaluated: str | None,
        beside: list[str] | None,
        view: str | None,
        on_show: str | None,
        partner: str | None,
        talked: str | None,
        opened: str | None,
        other: str | None,
        answers_of: str | None,
        searched: str | None,
        page: float | None,
    ) -> dict[Any, Any]:
        """New choices for every list of runs. Who looks at the newest follows it; who chose an older one keeps it."""

        def follow(chosen: str | None, choices: list[str], before: str | None) -> str | None:
            return chosen if chosen in choices and chosen != before else next(iter(choices), None)

        evaluated = follow(evaluated, results, known.get("newest result"))
        opened = follow(opened, every, known.get("newest run"))
        other = other if other in every else ""
        talking = partner in talks and talked in (None, partner)
        talked = partner if talking else follow(talked, talks, known.get("newest talk"))
        return {
            talk.run: gr.update(choices=run_names.choices([workspace.run(one) for one in talks]), value=talked),
            listed.run: gr.update(choices=every, value=opened),
            listed.other: gr.update(choices=[("nothing", ""), *every], value=other),
            **part(None, lambda: preferences.list_runs(prefers, begin, known.get("newest start"), workspace)),
            **part(
                None,
                lambda: before_after.list_runs(
                    prefers.after, answers_of, searched, page, known.get("newest compared"), workspace
                ),
            ),
            **part(seen.result, lambda: evaluate.list_runs(seen, results, evaluated, beside, view, on_show, workspace)),
            # Within a conversation only the strength follows: it may have been chosen on the Evaluate tab meanwhile.
            **part(talk.banner, lambda: (chat.strength_of if talking else chat.about)(talk, talked, workspace)),
            **part(listed.detail, lambda: runs.show(listed, opened, other, workspace)),
        }

    on(app.load, opened, [], [tabs], queue=False)
    looked_at = [
        prefers.begin,
        *seen.looked_at,
        talk.partner,
        talk.run,
        listed.run,
        listed.other,
        *prefers.after.looked_at,
    ]
    drawn_from = [*seen.form.chosen, talk.run, listed.run, listed.other]
    shown = [
        *(memory, strip.box, strip.stop, strip.job),
        *(one for tab in (the, prefers) for one in (tab.live, tab.to_evaluate, tab.to_chat, tab.stop, tab.shown)),
        *(prefers.begin, prefers.reward_model, *prefers.after.shown),
        *seen.listed,
        *(talk.run, talk.banner, talk.as_trained, talk.system, talk.strength, talk.log, talk.send),
        *(listed.run, listed.other, *listed.shown),
    ]
    ticks = any_of(app.load, gr.Timer(POLL_SECONDS).tick)
    on(ticks, tick, [memory, *looked_at], shown, queue=False, trigger_mode="once")


def part(box: Any, draw: Callable[[], dict[Any, Any]]) -> dict[Any, Any]:
    """What `draw` gives of the run that a tab shows; where that fails, only this tab says so, in `box`."""
    try:
        return draw()
    except Exception as error:
        if isinstance(error, DamagedFile) and run_files.set_aside(error):
            raise  # it is drawn again without that file
        if not isinstance(error, FtlabError):
            log.warning("A part of the page cannot be drawn: %s: %s", type(error).__name__, shorten(error))
            error = explained(error) or FtlabError("This run cannot be shown", why=shorten(error))
        return {} if box is None else {box: error_box(error)}


def page_settings(workspace: Workspace) -> dict[str, Any]:
    """What launch() and mount_gradio_app() need to show the app."""
    # Whoever opens the app can upload a file and name its path: such a file must never be run.
    os.environ[ONLY_FOLDER] = str(workspace.metrics_folder)
    return {
        **plain_page(),
        "css_paths": [STYLE_FILE, blind_test.STYLE_FILE],
        "head": HEAD,
        "max_file_size": MOST_UPLOADED,
    }
