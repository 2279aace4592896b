"""Runs: all of them in one list; open one, rename it, compare two, start again, export, delete.

elem_ids: `runs_table` and `runs_lineage` (a press on a run's name opens it, two ticks compare), `runs_run` and
`runs_other` (always hidden: the open run, the run it is compared with), `runs_name`, `runs_to_evaluate`,
`runs_message`, `runs_detail` (how the run ended, or the comparison), `runs_menu` (collapsed: `runs_to_chat`,
`runs_again`, `runs_resume`, `runs_earlier` and `runs_later` in the queue, `runs_delete`), `runs_confirm` (the
question), `runs_delete_yes`, `runs_delete_no`, `runs_more` (collapsed: `runs_lineage`, `runs_whole`); and those of
`export.py`.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.report.charts import compared_losses
from ftlab.report.measures import by_same_kinds, verdict_text
from ftlab.ui import background, run_files, run_names
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import (
    NOTHING,
    PICK_JS,
    details,
    duration,
    error_box,
    heading,
    join,
    notice,
    preformatted,
    table,
)
from ftlab.ui.page import Door, Follower, Look, Page
from ftlab.ui.run_stages import TITLES
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.runs import export as export_box
from ftlab.ui.tabs.runs.listing import ALL, LIST_JS, lineage_tree, no_runs, pair_text, preferred, runs_table
from ftlab.ui.tabs.train import sweep

_LEAVES_SECONDS = 5.0  # that a waiting run has to leave the queue
log = logging.getLogger(__name__)


NAME, TITLE = "runs", "Runs"


@dataclass(frozen=True)
class RunsTab:
    table: gr.HTML
    lineage: gr.HTML
    run: gr.Dropdown
    other: gr.Dropdown
    chosen: gr.Column
    name: gr.Textbox
    to_evaluate: gr.Button
    to_chat: gr.Button
    again: gr.Button
    resume: gr.Button
    earlier: gr.Button
    later: gr.Button
    export: export_box.Panel
    delete: gr.Button
    confirm: gr.Column
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    message: gr.HTML
    detail: gr.HTML
    whole: gr.HTML
    sweeps: sweep.SweepResults

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        head = [self.table, self.lineage, self.detail, self.whole, self.chosen, self.to_evaluate, self.to_chat]
        return [*head, self.resume, self.earlier, self.later, self.delete]


def build(workspace: Workspace) -> RunsTab:
    def small(text: str, name: str, **settings: Any) -> gr.Button:
        return gr.Button(text, elem_id=f"runs_{name}", size="sm", min_width=150, **settings)

    rows = gr.HTML(no_runs(), elem_id="runs_table", js_on_load=LIST_JS)
    run = gr.Dropdown([], value=None, label="Run", allow_custom_value=True, elem_id="runs_run", elem_classes="ft-gone")
    other = gr.Dropdown(
        [("nothing", "")],
        value="",
        label="Compare with",
        allow_custom_value=True,
        elem_id="runs_other",
        elem_classes="ft-gone",
    )
    message = message_box("runs_message")
    with gr.Column(visible=False, elem_id="runs_chosen") as chosen:
        with gr.Row(equal_height=False, elem_classes="ft-controls ft-head"):
            name = gr.Textbox(
                label="Name",
                max_lines=1,
                max_length=run_names.LONGEST,
                elem_id="runs_name",
                scale=3,
                min_width=280,
            )
            to_evaluate = gr.Button(
                "See the result", variant="primary", elem_id="runs_to_evaluate", scale=0, min_width=160
            )
        detail = gr.HTML(elem_id="runs_detail")
        with gr.Accordion("Actions", open=False, elem_id="runs_menu"), gr.Row():
            to_chat = small("Chat with it", "to_chat")
            again = small("Start again with these settings", "again")
            resume = small("Go on training", "resume", visible=False)
            earlier = small("Earlier in the queue", "earlier", visible=False)
            later = small("Later in the queue", "later", visible=False)
            delete = small("Delete …", "delete")
        with gr.Column(visible=False, elem_id="runs_confirm", elem_classes="ft-box ft-warn") as confirm:
            question = gr.HTML()
            with gr.Row():
                yes = gr.Button("Yes, delete it", variant="stop", size="sm", elem_id="runs_delete_yes")
                no = gr.Button("Keep it", size="sm", elem_id="runs_delete_no")
        export = export_box.build()
        with gr.Accordion("Curves, lineage, settings and log", open=False, elem_id="runs_more"):
            lineage = gr.HTML("", elem_id="runs_lineage", elem_classes="ft-maybe", js_on_load=PICK_JS)
            whole = gr.HTML(elem_id="runs_whole")
    sweeps = sweep.build_results(workspace)
    return RunsTab(
        rows, lineage, run, other, chosen, name, to_evaluate, to_chat, again, resume, earlier, later, export, delete,
        confirm, question, yes, no, message, detail, whole, sweeps,
    )  # fmt: skip


def wire(tab: RunsTab, page: Page) -> None:
    workspace = page.workspace
    sweep.wire_results(tab.sweeps, workspace, page.opened)

    def pick(current: str | None, other: str | None, event: gr.EventData) -> dict[Any, Any]:
        if event._data["value"] == ALL:
            return {tab.table: runs_table(workspace.runs(), current, other, whole=True)}
        run, _, other = str(event._data["value"]).partition(" ")
        return {tab.run: run or gr.skip(), tab.other: other}

    named = gr.State("")  # the run whose name is in the box

    def choose(run_id: str | None, other: str | None, before: str) -> dict[Any, Any]:
        updates = {**show(tab, run_id, other, workspace), tab.confirm: gr.update(visible=False)}
        if run_id != before:  # else the reply could replace what a person is typing
            called = run_names.name_of(workspace.run(run_id), dated=False) if run_id else ""
            updates |= {tab.name: called, named: run_id}
        return updates

    def rename(run_id: str | None, name: str | None, other: str | None) -> dict[Any, Any]:
        run = workspace.run(_chosen(run_id))
        if name == run_names.name_of(run, dated=False):
            return {}
        return {tab.name: run_names.rename(run, name), tab.table: runs_table(workspace.runs(), run.id, other)}

    def evaluate(run_id: str | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        run = workspace.run(_chosen(run_id))
        status = run_files.evaluation_status(run)
        if not _has_figures(run) and not (status and status.is_active):
            supervisor.submit_evaluation(run, workspace)
            background.make_room(run)
        return {}

    def ask(run_id: str | None) -> dict[Any, Any]:
        run = workspace.run(_chosen(run_id))
        status = run_files.status(run)
        if status.is_active and status.state != "queued":
            raise InputError(f"The run {run.id} is still running and cannot be deleted", try_="stop it first")
        text = Markup("<p>Delete <strong>{}</strong> ({}) for good? Its model, curve and scores go with it.</p>")
        question = text.format(run_names.name_of(run), run.id)
        return {tab.confirm: gr.update(visible=True), tab.question: question}

    def delete(run_id: str | None) -> dict[Any, Any]:
        from ftlab.evaluation.loaded import release
        from ftlab.training import supervisor

        run = workspace.run(_chosen(run_id))
        name = run_names.name_of(run)
        if run_files.status(run).state == "queued":
            _take_out_of_the_queue(run)
        supervisor.delete(run, workspace)
        release()
        return {
            tab.message: notice(f"Deleted {name}.", kind="good"),
            tab.confirm: gr.update(visible=False),
            tab.run: None,
        }

    def resume(run_id: str | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        run = workspace.run(_chosen(run_id))
        background.make_room(run)
        step = supervisor.resume(run, workspace)
        text = f"Resumed from step {step}." if step else "Started from the beginning: no complete checkpoint."
        return {tab.message: notice(text, kind="good")}

    def move(run_id: str | None, where: Literal["earlier", "later"]) -> dict[Any, Any]:
        from ftlab.training import supervisor as queue

        order = [run.id for run in queue.move(workspace.run(_chosen(run_id)), workspace, where)]
        return {tab.message: notice(f"The queue is now: {', then '.join(order)}.")}

    def earlier(run_id: str | None) -> dict[Any, Any]:
        return move(run_id, "earlier")

    def later(run_id: str | None) -> dict[Any, Any]:
        return move(run_id, "later")

    def again(run_id: str | None) -> tuple[RunConfig, str]:
        config = run_files.config(workspace.run(_chosen(run_id)))
        if config is None:
            raise InputError("The settings of this run cannot be read by this version of ftlab", given=run_id)
        return config, ""

    def keep() -> dict[Any, Any]:
        return {tab.confirm: gr.update(visible=False)}

    chosen = [tab.run, tab.other]
    for picked in (tab.table, tab.lineage):
        on(
            picked.pick,
            pick,
            [tab.run, tab.other],
            [*chosen, tab.table],
            box=tab.message,
            queue=False,
            trigger_mode="multiple",
        )
    on(
        any_of(*(component.change for component in chosen)),
        choose,
        [*chosen, named],
        [*tab.outputs, tab.confirm, tab.name, named],
        box=tab.message,
        clears=False,
        queue=False,
        trigger_mode="always_last",
    )
    renamed = any_of(tab.name.submit, tab.name.blur)
    on(renamed, rename, [tab.run, tab.name, tab.other], [tab.name, tab.table], box=tab.message, clears=False)
    on(tab.to_evaluate.click, evaluate, [tab.run], [], box=tab.message)
    on(tab.delete.click, ask, [tab.run], [tab.confirm, tab.question], box=tab.message, queue=False)
    on(tab.yes.click, delete, [tab.run], [tab.confirm, tab.run], box=tab.message, progress="minimal")
    on(tab.no.click, keep, [], [tab.confirm], box=tab.message, queue=False)
    for button, handler in ((tab.resume, resume), (tab.earlier, earlier), (tab.later, later)):
        on(button.click, handler, [tab.run], [], box=tab.message)
    # Queued, unlike its neighbors: changes of a gr.State that it fills fire only then.
    page.lead(tab.again.click, "settings", [tab.run], again, box=tab.message)
    for trigger, other in ((tab.to_evaluate, "evaluate"), (tab.to_chat, "chat")):
        page.lead(trigger.click, "run", [tab.run], to=other, queue=False)
    export_box.wire(tab.export, tab.run, workspace)


def show(tab: RunsTab, run_id: str | None, other: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the list and the selected run, or two runs side by side. Typed text stays."""
    runs = workspace.runs()
    if not runs or not run_id:
        listing = runs_table(runs, None) if runs else no_runs()
        return {tab.table: listing, tab.lineage: "", tab.detail: "", tab.chosen: gr.update(visible=False)}
    run = workspace.run(run_id)
    status = run_files.status(run)
    can = run_files.result_ready(run)
    updates: dict[Any, Any] = {
        tab.table: runs_table(runs, run_id, other),
        tab.lineage: lineage_tree(runs, run.id),
        tab.whole: detail(run),
        tab.detail: brief(run),
        tab.chosen: gr.update(visible=True),
        tab.to_evaluate: gr.update(
            value="See the result" if _has_figures(run) else "Evaluate", visible=can or _has_figures(run)
        ),
        tab.to_chat: gr.update(visible=can and not run_files.is_reward_model(run)),
        tab.resume: gr.update(visible=status.state in ("stopped", "failed", "damaged")),
        **{button: gr.update(visible=status.state == "queued") for button in (tab.earlier, tab.later)},
        # What is running is stopped first, by the strip above.
        tab.delete: gr.update(visible=not status.is_active or status.state == "queued"),
    }
    if other and other != run_id:
        updates[tab.detail] = compared(run, workspace.run(other))
    return updates


def _take_out_of_the_queue(run: RunDirectory) -> None:
    """Ends a run that waits, so that it can be deleted; at once, since there is nothing to save."""
    from ftlab.training import supervisor

    supervisor.stop(run)
    end = time.monotonic() + _LEAVES_SECONDS
    while run_files.status(run).is_active and time.monotonic() < end:
        time.sleep(0.2)


def _has_figures(run: RunDirectory) -> bool:
    return bool(run_files.comparison(run) or run_files.preferences(run) or run_files.rewards(run))


def brief(run: RunDirectory) -> Markup:
    """How the run ended, in a sentence."""
    status, comparison = run_files.status(run), run_files.comparison(run)
    damage = join(error_box(error) for error in run_files.damage(run))
    if comparison and not status.is_active:
        verdict = notice(verdict_text(comparison), kind=run_view.verdict_kind(comparison))
    else:
        at_work = "The strip above shows its progress." if status.is_active else "Trained."
        verdict = run_view.outcome(run, status) or notice(at_work)
    return Markup('{}{}<p class="ft-help ft-runid">{}</p>').format(damage, verdict, run.id)


def detail(run: RunDirectory) -> Markup:
    """All details of one run."""
    folded = [
        details("Settings (config.yaml)", preformatted(_text(run.config_file), label="Settings")),
        details("Data (manifest)", _mapping(run_files.manifest(run))),
        details("Environment", _mapping(run_files.environment(run))),
        details("End of the log", preformatted(run.log_tail() or "(empty)", label="Log")),
    ]
    checked = Markup(
        '<p class="ft-help">Folder: <code>{}</code>. Does the result change the output of the base? {}.</p>'
    )
    damage = join(error_box(error) for error in run_files.damage(run))
    return (
        damage
        + run_view.live(run)
        + Markup('<section class="ft-card">{}{}</section>').format(
            checked.format(run.path, run_view.verification(run).capitalize()), join(folded)
        )
    )


def compared(first: RunDirectory, second: RunDirectory) -> Markup:
    """Two runs side by side: scores, the settings that differ, both curves."""
    runs = (first, second)
    sides = [run_files.comparison(run) for run in runs]
    known = [
        (side, run_files.probes(run)) for side, run in zip(sides, runs, strict=True) if side and "measures" in side
    ]
    if len(known) == len(runs):
        sides = [*by_same_kinds(known)]
    titles = {measure["name"]: measure["title"] for side in sides if side for measure in side.get("measures", [])}
    scores = [[title, *(pair_text(side, name) for side in sides)] for name, title in titles.items()]
    scores.insert(0, ["Stage", *(TITLES[run_files.stage(run)] for run in runs)])
    held_out = [preferred(run) for run in runs]
    if held_out != [NOTHING, NOTHING]:
        scores.insert(1, ["Preference", *held_out])
    statuses = [run_files.status(run) for run in runs]
    scores.append(["State", *(run_view.state_badge(status.state) for status in statuses)])
    scores.append(["Took", *(duration(status.seconds) for status in statuses)])
    differing = differences(*(run_files.config(run) for run in runs))
    names = [name for name, _ in run_names.choices(runs)]
    changed = (
        table(["Setting", *names], differing, label="Settings that differ")
        if differing
        else notice("The settings are the same.")
    )
    differ = run_names.differing_data([run_files.config(run) for run in runs])
    return Markup('<section class="ft-card" data-compare="{} {}">{}{}{}{}{}{}</section>').format(
        *(run.id for run in runs),
        notice(f"{differ} These scores are of different rows.", kind="warn") if differ else "",
        heading(
            "Scores",
            "base → adapted, on each run's own held-out rows. A kind of general question that either run replayed "
            "counts as replayed for both.",
        ),
        table(["Measure", *names], scores, label="Scores of both runs"),
        heading("Settings that differ"),
        changed,
        compared_losses([(name, run_files.metrics(run)) for name, run in zip(names, runs, strict=True)]),
    )


def differences(first: Any, second: Any) -> list[list[Any]]:
    """[title (path), value, value] of every setting in which two configurations differ."""
    if first is None or second is None:
        return []

    def read(config: Any, path: str) -> Any:
        for part in path.split("."):
            config = getattr(config, part)
        return config

    rows = []
    for path, info in forms.fields().items():
        values = read(first, path), read(second, path)
        if values[0] != values[1]:
            rows.append([f"{info.title} ({path})", *(NOTHING if value is None else value for value in values)])
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mapping(values: dict[str, Any]) -> Markup:
    import yaml

    plain = json.loads(json.dumps(values, default=str))  # YAML accepts only dict as a mapping
    return preformatted(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), label="Values")


def _chosen(run_id: str | None) -> str:
    if not run_id:
        raise InputError("No run is chosen", try_="press a run's name in the table")
    return run_id


def doors(tab: RunsTab, page: Page) -> dict[str, Door]:
    return {
        "export": Door(
            [tab.run, tab.export.box], lambda run_id: {tab.run: run_id, tab.export.box: gr.update(open=True)}
        )
    }


def list_runs(tab: RunsTab, seen: Look) -> dict[Any, Any]:
    """New choices of runs, and the selected one, or two side by side."""
    every = [run.id for run in seen.workspace.runs()]
    opened, other = seen.follow(tab.run, every), seen.values[tab.other]
    other = other if other in every else ""
    return {
        tab.run: gr.update(choices=every, value=opened),
        tab.other: gr.update(choices=[("nothing", ""), *every], value=other),
        **show(tab, opened, other, seen.workspace),
    }


def followers(tab: RunsTab, page: Page) -> list[Follower]:
    chosen = [tab.run, tab.other]
    outputs = [*chosen, *tab.outputs]
    remembers = {"opened": tab.run}
    return [Follower(outputs, lambda seen: list_runs(tab, seen), chosen, chosen, box=tab.detail, remembers=remembers)]
