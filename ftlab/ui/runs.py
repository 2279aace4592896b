"""Runs: all runs with state and scores; open one, compare two, start again, hand over, delete.

elem_ids: `runs_table` and `runs_lineage` (a press on a run's name opens it), `runs_run` (dropdown), `runs_other`
(compare with), `runs_again`, `runs_resume`, `runs_earlier` and `runs_later` (in the queue), `runs_delete`,
`runs_confirm` (the question), `runs_delete_yes`, `runs_delete_no`, `runs_message`, `runs_detail`; and `export_box`'s.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson
from ftlab.core.files import DamagedFile
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError, shorten
from ftlab.evaluation.figures import number, percent, value_text
from ftlab.report.charts import compared_losses
from ftlab.report.measures import by_same_kinds
from ftlab.ui import background, export_box, forms, run_files, run_view, sweep
from ftlab.ui.events import any_of, message_box, on
from ftlab.ui.html import (
    NOTHING,
    PICK_JS,
    badge,
    details,
    duration,
    empty,
    error_box,
    heading,
    join,
    notice,
    pick_button,
    preformatted,
    table,
)
from ftlab.ui.stages import STAGES, TITLES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunsTab:
    table: gr.HTML
    lineage: gr.HTML
    run: gr.Dropdown
    other: gr.Dropdown
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
    sweeps: sweep.SweepResults


def build(workspace: Workspace) -> RunsTab:
    rows = gr.HTML(no_runs(), elem_id="runs_table", js_on_load=PICK_JS)
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        run = gr.Dropdown(
            [], value=None, label="Run", allow_custom_value=True, elem_id="runs_run", scale=2, min_width=280
        )
        other = gr.Dropdown(
            [("nothing", "")],
            value="",
            label="Compare with",
            allow_custom_value=True,
            elem_id="runs_other",
            scale=2,
            min_width=280,
        )
    with gr.Row():
        again = gr.Button("Start again with these settings", elem_id="runs_again", size="sm", min_width=200)
        resume = gr.Button("Go on training", elem_id="runs_resume", size="sm", min_width=140, visible=False)
        earlier = gr.Button("Earlier in the queue", elem_id="runs_earlier", size="sm", min_width=140, visible=False)
        later = gr.Button("Later in the queue", elem_id="runs_later", size="sm", min_width=140, visible=False)
        delete = gr.Button("Delete", elem_id="runs_delete", variant="stop", size="sm", min_width=100)
    with gr.Column(visible=False, elem_id="runs_confirm", elem_classes="ft-box ft-warn") as confirm:
        question = gr.HTML()
        with gr.Row():
            yes = gr.Button("Yes, delete it", variant="stop", size="sm", elem_id="runs_delete_yes")
            no = gr.Button("Keep it", size="sm", elem_id="runs_delete_no")
    message = message_box("runs_message")
    export = export_box.build()
    lineage_ = gr.HTML("", elem_id="runs_lineage", js_on_load=PICK_JS)
    detail = gr.HTML(elem_id="runs_detail")
    compared_runs = sweep.build_results(workspace)
    return RunsTab(
        table=rows,
        lineage=lineage_,
        run=run,
        other=other,
        again=again,
        resume=resume,
        earlier=earlier,
        later=later,
        export=export,
        delete=delete,
        confirm=confirm,
        question=question,
        yes=yes,
        no=no,
        message=message,
        detail=detail,
        sweeps=compared_runs,
    )


def wire(tab: RunsTab, workspace: Workspace, opened: Any) -> None:
    sweep.wire_results(tab.sweeps, workspace, opened)

    def pick(event: gr.EventData) -> dict[Any, Any]:
        return {tab.run: event._data["value"]}

    def choose(run_id: str | None, other: str | None) -> dict[Any, Any]:
        return {**show(tab, run_id, other, workspace), tab.confirm: gr.update(visible=False)}

    def ask(run_id: str | None) -> dict[Any, Any]:
        run = workspace.run(_chosen(run_id))
        if run_files.status(run).is_active:
            raise InputError(f"The run {run.id} is at work and cannot be deleted", try_="stop it first")
        text = Markup("<p>Delete <strong>{}</strong> for good? Its model, curve and scores go with it.</p>")
        return {tab.confirm: gr.update(visible=True), tab.question: text.format(run.id)}

    def delete(run_id: str | None) -> dict[Any, Any]:
        from ftlab.evaluation.duet import release
        from ftlab.training import supervisor

        run = workspace.run(_chosen(run_id))
        supervisor.delete(run, workspace)
        release()
        return {
            tab.message: notice(f"Deleted {run.id}.", kind="good"),
            tab.confirm: gr.update(visible=False),
            tab.run: None,
        }

    def resume(run_id: str | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        run = workspace.run(_chosen(run_id))
        background.make_room(run)
        step = supervisor.resume(run, workspace)
        said = f"Resumed from step {step}." if step else "Started from the beginning: there was no whole checkpoint."
        return {tab.message: notice(said, kind="good")}

    def move(run_id: str | None, where: Literal["earlier", "later"]) -> dict[Any, Any]:
        from ftlab.training import supervisor as queue

        order = [run.id for run in queue.move(workspace.run(_chosen(run_id)), workspace, where)]
        return {tab.message: notice(f"The queue is now: {', then '.join(order)}.")}

    def earlier(run_id: str | None) -> dict[Any, Any]:
        return move(run_id, "earlier")

    def later(run_id: str | None) -> dict[Any, Any]:
        return move(run_id, "later")

    def keep() -> dict[Any, Any]:
        return {tab.confirm: gr.update(visible=False)}

    chosen = [tab.run, tab.other]
    for picked in (tab.table, tab.lineage):
        on(picked.pick, pick, [], [tab.run], box=tab.message, queue=False)
    on(
        any_of(*(component.change for component in chosen)),
        choose,
        chosen,
        [tab.detail, tab.table, tab.lineage, tab.confirm, tab.resume, tab.earlier, tab.later],
        box=tab.message,
        clears=False,
        queue=False,
        trigger_mode="always_last",
    )
    on(tab.delete.click, ask, [tab.run], [tab.confirm, tab.question], box=tab.message, queue=False)
    on(tab.yes.click, delete, [tab.run], [tab.confirm, tab.run], box=tab.message, progress="minimal")
    on(tab.no.click, keep, [], [tab.confirm], box=tab.message, queue=False)
    for button, handler in ((tab.resume, resume), (tab.earlier, earlier), (tab.later, later)):
        on(button.click, handler, [tab.run], [], box=tab.message)
    export_box.wire(tab.export, tab.run, workspace)


def show(tab: RunsTab, run_id: str | None, other: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the table and the chosen run, or two runs beside each other."""
    runs = workspace.runs()
    if not runs:
        return {tab.table: no_runs(), tab.lineage: "", tab.detail: ""}
    listing = {tab.table: runs_table(runs, run_id)}
    if not run_id:
        return {**listing, tab.lineage: "", tab.detail: notice("Choose a run to open it.")}
    run = workspace.run(run_id)
    listing[tab.lineage] = lineage_tree(runs, run.id)
    status = run_files.status(run)
    buttons = {
        tab.resume: gr.update(visible=status.state in ("stopped", "failed", "damaged")),
        **{button: gr.update(visible=status.state == "queued") for button in (tab.earlier, tab.later)},
    }
    if other and other != run_id:
        return {**listing, **buttons, tab.detail: compared(run, workspace.run(other))}
    return {**listing, **buttons, tab.detail: detail(run)}


def no_runs() -> Markup:
    hint = "Every run is kept here with its settings, curve and scores. Start one on the Train tab."
    return empty("There are no runs yet.", hint)


def runs_table(runs: list[RunDirectory], current: str | None) -> Markup:
    rows = []
    # Scores of preferences have a column only where there are such runs.
    preferring = any(run_files.stage(run) in STAGES for run in runs)
    for run in runs:
        opens = pick_button(run.id, run.id, label=f"Open {run.id}", current=run.id == current)
        try:
            rows.append([opens, *_cells(run, preferring)])
        except DamagedFile:
            raise
        except Exception as error:
            # Each run stands for itself: what nobody foresaw in the files of one takes no other from the list.
            log.warning("The run %s cannot be listed: %s", run.id, shorten(repr(error)))
            rows.append([opens, run_view.state_badge("damaged"), *[NOTHING] * (9 if preferring else 8)])
    help = "Scores are on held-out rows, base → adapted. Exact match: higher is better; perplexity: lower is better."
    headers = ["Run", "State", "Stage", "Data", "Method", "Base", "Exact match", "Perplexity", "Started", "Took"]
    if preferring:
        headers.insert(6, "Preference")
        help += " Preference: in how many held-out pairs the chosen answer wins, or the mean reward, start → adapted."
    last = len(headers) - 1
    numbers = range(6, last - 1)
    return heading("All runs", help) + table(
        headers, rows, label="All runs", numbers=[*numbers, last], css="ft-rows ft-runs"
    )


def _cells(run: RunDirectory, preferring: bool) -> list[Any]:
    """A run in the table, without its name."""
    status, comparison, config = run_files.status(run), run_files.comparison(run), run_files.config(run)
    data, method, base = run_view.describe(config)
    return [
        run_view.state_badge("damaged" if run_files.damage(run) and not status.is_active else status.state),
        TITLES[config.stage] if config else NOTHING,
        data,
        method,
        base,
        *([_preferred(run)] if preferring else []),
        _pair(comparison, "exact_match"),
        _pair(comparison, "perplexity"),
        run_view.started_text(status),
        duration(status.seconds),
    ]


def _preferred(run: RunDirectory) -> str:
    """What the held-out preferences or rewards of a run say, in one cell."""
    preferences, rewards = run_files.preferences(run), run_files.rewards(run)
    if preferences:
        return percent(preferences["accuracy"])
    if rewards:
        return f"{number(rewards['start']['reward'])} → {number(rewards['adapted']['reward'])}"
    return NOTHING


def detail(run: RunDirectory) -> Markup:
    """Everything there is to see of one run."""
    folded = [
        details("Settings (config.yaml)", preformatted(_text(run.config_file), label="Settings")),
        details("Data (manifest)", _mapping(run_files.manifest(run))),
        details("Environment", _mapping(run_files.environment(run))),
        details("End of the log", preformatted(run.log_tail() or "(empty)", label="Log")),
    ]
    checked = Markup('<p class="ft-help">Folder: <code>{}</code>. Does the result change what the base says? {}.</p>')
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
    scores = [[title, *(_pair(side, name) for side in sides)] for name, title in titles.items()]
    scores.insert(0, ["Stage", *(TITLES[run_files.stage(run)] for run in runs)])
    preferred = [_preferred(run) for run in runs]
    if preferred != [NOTHING, NOTHING]:
        scores.insert(1, ["Preference", *preferred])
    statuses = [run_files.status(run) for run in runs]
    scores.append(["State", *(run_view.state_badge(status.state) for status in statuses)])
    scores.append(["Took", *(duration(status.seconds) for status in statuses)])
    differing = differences(*(run_files.config(run) for run in runs))
    names = [run.id for run in runs]
    changed = (
        table(["Setting", *names], differing, label="Settings that differ")
        if differing
        else notice("The settings are the same.")
    )
    return Markup('<section class="ft-card" data-compare="{} {}">{}{}{}{}{}</section>').format(
        *names,
        heading(
            "Scores",
            "base → adapted, on each run's own held-out rows. A kind of general questions that either run replayed "
            "counts as replayed for both.",
        ),
        table(["Measure", *names], scores, label="Scores of both runs"),
        heading("Settings that differ"),
        changed,
        compared_losses([(run.id, run_files.metrics(run)) for run in runs]),
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


def _pair(comparison: ComparisonJson | None, name: str) -> str:
    """The measure called `name`, base → adapted."""
    measures = comparison.get("measures", []) if comparison else []
    found = next((measure for measure in measures if measure["name"] == name), None)
    if found is None or any(found["values"].get(side) is None for side in ("base", "adapted")):
        return NOTHING
    return " → ".join(value_text(found, found["values"][side]) for side in ("base", "adapted"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mapping(values: dict[str, Any]) -> Markup:
    import yaml

    plain = json.loads(json.dumps(values, default=str))  # YAML takes no other mapping than dict
    return preformatted(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), label="Values")


def _chosen(run_id: str | None) -> str:
    if not run_id:
        raise InputError("No run is chosen", try_="press a run's name in the table")
    return run_id


def lineage_tree(runs: Sequence[RunDirectory], current: str) -> Markup:
    """The family of the run `current`: its forebears, and everything that was started from any of them. Empty for a
    run that stands alone."""
    by_id = {run.id: run for run in runs}
    parents = {run.id: run_files.parent(run) for run in runs}
    family = relatives(parents, current)
    judged = {run.id: [name for name in reward_models(run) if name in by_id] for run in runs}
    if len(family) < 2 and not parents.get(current) and not judged.get(current) and not _judges(judged, current):
        return Markup("")
    root = _root(parents, current)
    drawn = _branch(root, family, parents, by_id, judged, current)
    base = _base(by_id.get(root))
    above = Markup('<span class="ft-help">Base</span> <strong>{}</strong>').format(base) if base else Markup("")
    return Markup('<section class="ft-card ft-lineage" data-lineage="{}">{}<div>{}<ul>{}</ul></div></section>').format(
        current, heading("Where it comes from", "Each run was started from the one above it."), above, drawn
    )


def relatives(parents: Mapping[str, str | None], current: str) -> set[str]:
    """`current`, its forebears, and all their descendants, by id. A parent that is gone is one of them."""
    root = _root(parents, current)
    return {root} | {run for run in parents if _root(parents, run) == root}


def reward_models(run: RunDirectory) -> list[str]:
    """The reward models that `run` learned from."""
    config = run_files.config(run)
    return [one.model for one in config.reinforcement.rewards if one.model] if config else []


def _root(parents: Mapping[str, str | None], run: str) -> str:
    seen = {run}
    while (parent := parents.get(run)) and parent not in seen:
        seen.add(parent)
        run = parent
    return run


def _judges(judged: Mapping[str, Sequence[str]], current: str) -> list[str]:
    """The runs that learned from the reward model `current`."""
    return [run for run, models in judged.items() if current in models]


def _branch(
    run_id: str,
    family: set[str],
    parents: Mapping[str, str | None],
    by_id: Mapping[str, RunDirectory],
    judged: Mapping[str, Sequence[str]],
    current: str,
) -> Markup:
    children = sorted(one for one in family if parents.get(one) == run_id)
    below = join(_branch(one, family, parents, by_id, judged, current) for one in children)
    return Markup("<li>{}{}</li>").format(
        _node(run_id, by_id.get(run_id), judged, current), Markup("<ul>{}</ul>").format(below) if below else ""
    )


def _node(run_id: str, run: RunDirectory | None, judged: Mapping[str, Sequence[str]], current: str) -> Markup:
    if run is None:
        return Markup('<span class="ft-help">{} (deleted, or a folder)</span>').format(run_id)
    state = run_files.status(run).state
    shown = badge(TITLES[run_files.stage(run)]) + Markup(" ")
    shown += pick_button(run.id, run.id, label=f"Open {run.id}", current=run.id == current)
    if state != "completed":
        shown += Markup(" ") + run_view.state_badge(state)
    for text, others in (("rewarded by", judged.get(run_id, ())), ("rewards", _judges(judged, run_id))):
        if others:
            links = join((pick_button(one, one, label=f"Open {one}") for one in others), " ")
            shown += Markup(' <span class="ft-help">{}</span> {}').format(text, links)
    return Markup('<div class="ft-lineage-run">{}</div>').format(shown)


def _base(run: RunDirectory | None) -> str:
    config = run_files.config(run) if run else None
    return config.model.base if config else ""
