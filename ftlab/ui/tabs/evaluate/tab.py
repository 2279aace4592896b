"""Evaluate: runs against their base on unseen rows: the verdict first, everything else one press away.

The form is in `form.py`, the top of the tab in `summary.py`, the whole result in `result.py`; rows and slices have
their own modules. elem_ids here: `evaluate_share` (opens `evaluate_share_box`: `evaluate_report` and
`evaluate_markdown` prepare the report, `evaluate_report_file` and `evaluate_markdown_file` download it;
`evaluate_export` and `evaluate_blind` lead to other tabs), `evaluate_start`, `evaluate_message`, `evaluate_result`
(verdict, figures, six answers), `evaluate_details` (collapsed: `evaluate_full`, slices, strength, a model elsewhere,
judge), `evaluate_helps` (collapsed: `evaluate_remedies`, what to try next at one press; advisor), `evaluate_on_show`
(always hidden: names the displayed result; when it changes, it triggers the events that redraw slices and rows, which
also serve filters and page turns).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig, with_settings
from ftlab.core.comparison import ComparisonJson, VerdictJson
from ftlab.core.files import file_name
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.words import listed
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.report.measures import sides_of
from ftlab.training import supervisor
from ftlab.ui import background, job_strip, judge_form, run_files, run_names
from ftlab.ui.kit.events import any_of, message_box, offer_file, on, press
from ftlab.ui.kit.fresh import digest, unsaid
from ftlab.ui.kit.html import PICK_JS, empty, heading, join, list_items, notice
from ftlab.ui.page import Door, Follower, Look, Page
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.evaluate import advisor as advisor_box
from ftlab.ui.tabs.evaluate import against as against_box
from ftlab.ui.tabs.evaluate import form as evaluate_form
from ftlab.ui.tabs.evaluate import judge as judge_box
from ftlab.ui.tabs.evaluate import result as evaluate_result
from ftlab.ui.tabs.evaluate import rows as evaluate_rows
from ftlab.ui.tabs.evaluate import slices as evaluate_slices
from ftlab.ui.tabs.evaluate import strength as strength_box
from ftlab.ui.tabs.evaluate import summary as evaluate_summary
from ftlab.ui.tabs.evaluate.form import HELD_OUT

if TYPE_CHECKING:
    from ftlab.evaluation.remedies import Answers

NAME, TITLE = "evaluate", "Evaluate"


@dataclass(frozen=True)
class EvaluateTab:
    form: evaluate_form.Form
    share: gr.Button
    share_box: gr.Column
    message: gr.HTML
    result: gr.HTML
    details: gr.Accordion
    full: gr.HTML
    remedies: gr.HTML
    strength: strength_box.Panel
    report: gr.Button
    markdown: gr.Button
    report_file: gr.DownloadButton
    markdown_file: gr.DownloadButton
    to_export: gr.Button
    to_blind: gr.Button
    on_show: gr.Textbox
    slices: evaluate_slices.Panel
    rows: evaluate_rows.Panel
    judge: judge_form.Panel
    against: against_box.Panel
    advisor: advisor_box.Panel

    @property
    def run(self) -> gr.Dropdown:
        return self.form.run

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        head: list[Any] = [self.result, self.full, self.remedies, self.report, self.markdown, self.on_show]
        head += [self.share, self.form.start, self.share_box, self.details]
        return [
            self.form.view,
            *head,
            *self.slices.outputs,
            *self.rows.outputs,
            *self.strength.outputs,
            *judge_box.outputs(self.judge),
            *self.against.outputs,
        ]

    @property
    def looked_at(self) -> list[Any]:
        """The page state that `show` needs, in the order of its arguments."""
        return [*self.form.chosen, self.on_show]

    @property
    def listed(self) -> list[Any]:
        """The components that `list_runs` updates."""
        return [self.form.run, self.form.others, *self.outputs]


def build(workspace: Workspace) -> EvaluateTab:
    with gr.Row(equal_height=False, elem_classes="ft-controls ft-head"):
        run, view = evaluate_form.build_choice()
        with gr.Row(elem_classes="ft-head-buttons"):
            share = gr.Button("Share", variant="primary", elem_id="evaluate_share", visible=False, min_width=110)
            start = gr.Button("Evaluate", variant="primary", elem_id="evaluate_start", interactive=False, min_width=130)
    with gr.Column(visible=False, elem_id="evaluate_share_box", elem_classes="ft-box ft-info") as share_box, gr.Row():
        report = gr.Button("Download the report", elem_id="evaluate_report", size="sm", min_width=150)
        markdown = gr.Button("Report as Markdown", elem_id="evaluate_markdown", size="sm", min_width=150)
        to_export = gr.Button("Export the model", elem_id="evaluate_export", size="sm", min_width=150)
        to_blind = gr.Button("Let people compare", elem_id="evaluate_blind", size="sm", min_width=150)
        report_file = gr.DownloadButton("Save", elem_id="evaluate_report_file", elem_classes="ft-gone")
        markdown_file = gr.DownloadButton("Save", elem_id="evaluate_markdown_file", elem_classes="ft-gone")
    message = message_box("evaluate_message")
    result = gr.HTML(nothing_yet(), elem_id="evaluate_result")
    on_show = gr.Textbox(elem_id="evaluate_on_show", elem_classes="ft-gone", label="Result to show")
    rows = evaluate_rows.build()
    with gr.Accordion("Details", open=False, visible=False, elem_id="evaluate_details") as details:
        full = gr.HTML(elem_id="evaluate_full")
        slices = evaluate_slices.build()
        strength = strength_box.build()
        against = against_box.build()
        judge = judge_box.build()
    with gr.Accordion("What may help", open=False, elem_id="evaluate_helps"):
        remedies = gr.HTML("", elem_id="evaluate_remedies", elem_classes="ft-maybe", js_on_load=PICK_JS)
        advisor = advisor_box.build()
    form = evaluate_form.build(run, view, start)
    return EvaluateTab(
        form, share, share_box, message, result, details, full, remedies, strength, report, markdown,
        report_file, markdown_file, to_export, to_blind, on_show, slices, rows, judge, against, advisor,
    )  # fmt: skip


def wire(tab: EvaluateTab, page: Page) -> None:
    strip, workspace = page.strip, page.workspace

    def start(
        run_id: str | None, others: Sequence[str] | None, _: str | None, on_show: str | None, *values: Any
    ) -> dict[Any, Any]:
        run = run_files.chosen_run(workspace, run_id)
        supervisor.submit_evaluation(run, workspace, evaluate_form.read(run, workspace, *values))
        background.make_room(run)
        updates = show(tab, run.id, others, evaluate_form.NEXT, on_show, workspace)
        return {**updates, **job_strip.at_work(strip, workspace)}

    def choose(
        run_id: str | None, others: Sequence[str] | None, view: str | None, on_show: str | None
    ) -> dict[Any, Any]:
        return unsaid(show(tab, run_id, others, view, on_show, workspace), {tab.form.view: view})

    def share() -> dict[Any, Any]:
        return {tab.share_box: gr.update(visible=True)}

    def report(run_id: str | None) -> dict[Any, Any]:
        from ftlab.report.report import write_report

        run = run_files.chosen_run(workspace, run_id)
        name = run_names.name_of(run, dated=False)
        return {tab.report_file: offer_file(write_report(run, name=name), f"{file_name(name, 'run')} report.html")}

    def markdown(run_id: str | None) -> dict[Any, Any]:
        from ftlab.report.markdown import write_markdown

        run = run_files.chosen_run(workspace, run_id)
        name = run_names.name_of(run, dated=False)
        return {tab.markdown_file: offer_file(write_markdown(run, name=name), f"{file_name(name, 'run')} report.md")}

    def result_now(run_id: str | None, others: Sequence[str] | None, view: str | None) -> Shown | None:
        return result_of(run_id, others, view, workspace)

    on(
        tab.form.start.click,
        start,
        [*tab.looked_at, *tab.form.settings],
        [*tab.outputs, strip.box, strip.stop, strip.job],
        box=tab.message,
        progress="minimal",
        show_progress_on=tab.message,
    )
    # If several runs are selected in sequence, the last selection counts.
    on(
        any_of(tab.run.change, tab.form.others.input, tab.form.view.input),
        choose,
        tab.looked_at,
        tab.outputs,
        box=tab.message,
        clears=False,
        queue=False,
        trigger_mode="always_last",
    )
    on(tab.share.click, share, [], [tab.share_box], box=tab.message, queue=False)

    def mend(event: gr.EventData) -> tuple[RunConfig, Markup]:
        """The settings of a run with the selected remedy."""
        config, remedy = with_remedy(event._data["value"], workspace)
        return config, remedy_said(remedy)

    def write(event: gr.EventData) -> tuple[RunConfig, Answers]:
        """The settings of a run, and the answers to write for it."""
        config, remedy = with_remedy(event._data["value"], workspace)
        return config, remedy.first

    page.lead(tab.remedies.pick, "settings", [], mend, box=tab.message)
    page.lead(tab.remedies.write, "answers", [], write, box=tab.message)
    page.lead(tab.to_export.click, "export", [tab.run], to="runs", queue=False)
    page.switch(tab.to_blind.click, "blind")
    evaluate_slices.wire(tab.slices, tab.form.chosen, result_now, tab.on_show.change, tab.message)
    evaluate_rows.wire(tab.rows, tab.form.chosen, result_now, tab.on_show.change, tab.message)
    strength_box.wire(tab.strength, tab.run, strip, workspace)
    judge_form.wire(tab.judge, tab.run, judge_box.OfRun(workspace), strip, workspace)
    against_box.wire(tab.against, tab.run, strip, workspace)
    advisor_box.wire(tab.advisor, tab.run, workspace)
    for button, handler, file in (
        (tab.report, report, tab.report_file),
        (tab.markdown, markdown, tab.markdown_file),
    ):
        pressed = on(button.click, handler, [tab.run], [file], box=tab.message, progress="minimal")
        pressed.then(None, js=press(f"#{file.elem_id}", "#evaluate_message"))


def list_runs(tab: EvaluateTab, seen: Look) -> dict[Any, Any]:
    """New choices of runs, and the result of the selected ones."""
    workspace = seen.workspace
    ready = run_files.runs_with_result(workspace)
    runs = [run.id for run in ready]
    _, others, view, on_show = [seen.values[component] for component in tab.looked_at]
    chosen = seen.follow(tab.run, runs)
    kept = [run for run in others or [] if run in runs and run != chosen]
    updates = show(tab, chosen, kept, view, on_show, workspace)
    named = run_names.choices(ready)
    return {**evaluate_form.list_runs(tab.form, named, chosen, kept), **updates}


def show(
    tab: EvaluateTab,
    run_id: str | None,
    others: Sequence[str] | None,
    view: str | None,
    on_show: str | None,
    workspace: Workspace,
) -> dict[Any, Any]:
    """Updates that show the result of the selected runs, or say what to do first.

    `on_show` names the displayed result: if it is the same, slices and rows keep their settings.
    """
    hidden: dict[Any, Any] = dict.fromkeys((tab.share, tab.slices.box, tab.rows.box), gr.update(visible=False))
    hidden |= {tab.report: gr.skip(), tab.markdown: gr.skip(), tab.share_box: gr.update(visible=False)}
    hidden |= {tab.on_show: "", tab.full: "", tab.remedies: "", **judge_box.show(tab.judge, run_id, workspace)}
    hidden |= strength_box.show(tab.strength, run_id, workspace) | against_box.show(tab.against, run_id)
    hidden[tab.details] = gr.update(visible=bool(run_id))
    works = _at_work(workspace.run(run_id)) if run_id else False
    hidden[tab.form.start] = starts("Evaluate", works, can=bool(run_id), leads=True)
    if not run_id:
        return {**hidden, tab.result: nothing_yet(), tab.form.view: gr.update(visible=False)}
    run = workspace.run(run_id)
    made = result_views(run)
    waits = view == evaluate_form.NEXT and _at_work(run)
    view = _viewed(run, view, [value for _, value in made])
    choices = [*made, ("being measured now", evaluate_form.NEXT)] if waits else made
    hidden[tab.form.view] = gr.update(
        choices=choices, value=evaluate_form.NEXT if waits else view, visible=len(choices) > 1
    )
    if not made:
        return {**hidden, tab.result: _preferences(run) + _state(run, None) or _not_yet(run)}
    result = result_of(run_id, others, view, workspace)
    if result is None:
        return {**hidden, tab.result: apart(run, others, workspace)}
    comparison, rows = result
    own = comparison is run_files.comparison(run)
    named = digest([run_id, view, comparison, len(rows)])
    if named == on_show:
        panels = {component: gr.skip() for component in (tab.slices.box, tab.rows.box, tab.share_box)}
    else:
        panels = evaluate_slices.show(tab.slices, comparison, rows) | evaluate_rows.show(tab.rows, comparison, rows)
    head = _state(run, comparison) + (_preferences(run) if own else "")
    return {
        **hidden,
        tab.result: head + evaluate_summary.summary(run, comparison, rows),
        tab.full: evaluate_result.in_full(run, comparison),
        tab.remedies: next_steps(run, comparison) + offered_remedies(run) if own else "",
        tab.share: gr.update(visible=True),
        tab.form.start: starts("Evaluate again", works, can=True, leads=False),
        tab.report: gr.update(visible=own),
        tab.markdown: gr.update(visible=own),
        tab.on_show: named,
        **panels,
    }


def starts(title: str, works: bool, *, can: bool, leads: bool) -> dict[str, Any]:
    """The button that evaluates. While it `works`, the result shows that. `leads`: there is nothing to share yet."""
    return gr.update(
        value="Evaluating …" if works else title,
        variant="primary" if leads and not works else "secondary",
        interactive=can and not works,
    )


def _viewed(run: RunDirectory, view: str | None, known: Sequence[str]) -> str | None:
    """The result to show: the selected one; after an evaluation from this page, the new one; else the run's own."""
    if view == evaluate_form.NEXT and not _at_work(run):
        status = run_files.evaluation_status(run)
        view = newest_result(run, status.created if status else 0.0)
    return view if view in known else next(iter(known), None)


def _at_work(run: RunDirectory) -> bool:
    status = run_files.evaluation_status(run)
    return status is not None and status.is_active


def nothing_yet() -> Markup:
    return empty(
        "No model to compare yet.",
        "Train one on the Train tab. It is evaluated automatically, and can be seen here once that is done.",
    )


def _preferences(run: RunDirectory) -> Markup:
    """The held-out preferences or rewards; empty for other runs."""
    held_out = run_view.held_out(run, whole=True)
    if not held_out:
        return held_out
    return Markup('<section class="ft-card" data-run="{}">{}{}</section>').format(
        run.id, run_view.headline(run, run_files.status(run)), held_out
    )


def _state(run: RunDirectory, comparison: ComparisonJson | None) -> Markup:
    """The state of an evaluation that started after `comparison` and has no result yet."""
    status = run_files.evaluation_status(run)
    if status is None or (comparison and status.created < comparison.get("created", 0)):
        return Markup("")
    if supervisor.judging_status(run) is not None:  # older files do not say what they are about
        return Markup("")
    return run_view.measuring(run, supervisor.EVALUATION, "Evaluating")


def _not_yet(run: RunDirectory) -> Markup:
    ended = run_files.status(run).state in ("stopped", "failed")
    what = (
        "What was trained before it stopped is compared with its base."
        if ended
        else "The strip above shows its progress."
    )
    return empty("Not compared with its base yet.", f"Press Evaluate. {what}")


Shown = tuple[ComparisonJson, list[dict[str, Any]]]


def result_of(run_id: str | None, others: Sequence[str] | None, view: str | None, workspace: Workspace) -> Shown | None:
    """The comparison of `run_id` with `others` and its rows; None if they did not answer the same rows.

    `view` is the name of a question beside the run's own comparison, or empty.
    """
    result = _result_of(run_id, others, view, workspace)
    return (with_names(result[0], workspace), result[1]) if result is not None else None


def with_names(comparison: ComparisonJson, workspace: Workspace) -> ComparisonJson:
    """`comparison` with the display names of its runs; unchanged if it names none."""
    ids = {run.id for run in workspace.runs()}
    sides = [side for side in comparison.get("sides") or [] if side["name"] in ids]
    if not sides:
        return comparison
    runs = [workspace.run(side["name"]) for side in sides]
    names = dict(zip([run.id for run in runs], [name for name, _ in run_names.choices(runs)], strict=True))
    titles = {side["name"]: side["title"] for side in sides}

    def told(verdict: VerdictJson) -> VerdictJson:
        text = verdict["text"]
        for run, title in sorted(titles.items(), key=lambda entry: -len(entry[1])):
            text = text.replace(f"the run {title}", names[run])
        return {**verdict, "text": text}

    return {
        **comparison,
        "sides": [{**side, "title": names.get(side["name"], side["title"])} for side in comparison["sides"]],
        "verdicts": {side: told(verdict) for side, verdict in comparison.get("verdicts", {}).items()},
    }


def _result_of(
    run_id: str | None, others: Sequence[str] | None, view: str | None, workspace: Workspace
) -> Shown | None:
    if not run_id:
        return None
    run = workspace.run(run_id)
    question = next((asked for asked in reversed(run.questions()) if asked.name == view), None)
    wanted = {name for name in others or [] if name != run_id}
    place = question or run
    if (result := _of(place, wanted)) is not None or question is not None:
        return result
    if run_files.comparison(run):
        beside = run_files.side_by_side([run, *(workspace.run(name) for name in sorted(wanted))])
        if beside is not None:
            return beside
    asked = (_of(earlier, wanted) for earlier in reversed(run.questions()) if wanted)
    return next((result for result in asked if result is not None and not result[0].get("suite")), None)


def result_views(run: RunDirectory) -> list[tuple[str, str]]:
    """The results of `run` that can be shown, labeled by their question: its own comparison, then the others."""
    own = run_files.comparison(run)
    question = own.get("question") if own else None
    text = question["text"] if question else "held-out rows"
    others = [
        (f"{asked.asked()}{' (other data)' if made.get('suite') else ''}", asked.name)
        for asked in reversed(run.questions())
        if (made := run_files.comparison(asked))
    ]
    return ([(f"The run's own: {text}", HELD_OUT)] if own else []) + others


def newest_result(run: RunDirectory, since: float) -> str | None:
    """The result of `run` made after `since` (Unix seconds); None if there is none yet."""
    made = {HELD_OUT: run} | {question.name: question for question in run.questions()}
    created = {
        view: comparison["created"] for view, place in made.items() if (comparison := run_files.comparison(place))
    }
    later = {view: when for view, when in created.items() if when > since}
    return max(later, key=later.__getitem__, default=None)


def _of(place: RunDirectory | Question, wanted: Collection[str]) -> Shown | None:
    comparison = run_files.comparison(place)
    if comparison is None or not set(wanted) <= {side["name"] for side in sides_of(comparison)}:
        return None
    return comparison, run_files.predictions(place)


def apart(run: RunDirectory, others: Sequence[str] | None, workspace: Workspace) -> Markup:
    runs = [run, *(workspace.run(name) for name in others or [])]
    configs = [run_files.config(other) for other in runs]
    differ = run_names.differing_data(configs)
    first, *rest = run_names.told_apart(runs)
    return empty(
        "These runs have not answered the same rows yet.",
        f"Press Evaluate: {listed(rest)} will answer the rows of {first} too.{differ and ' ' + differ}",
    )


def next_steps(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """What to do next, as a list."""
    steps = run_view.next_steps(run, comparison)
    items = list_items(steps)
    return (
        Markup('<section class="ft-card">{}<ul class="ft-notes">{}</ul></section>').format(
            heading("What to do next"), items
        )
        if items
        else items
    )


def offered_remedies(run: RunDirectory) -> Markup:
    """A card for each remedy, most likely first; empty if nothing needs fixing."""
    remedies = remedies_of(run)
    if not remedies:
        return Markup("")
    cards = join(
        Markup(
            '<article class="ft-finding"><h3>{}</h3><p>{}</p><div class="ft-remedies">'
            '<button type="button" class="ft-do{}" data-event="{}" data-pick="{}:{}" aria-label="Try it: {}">'
            "{}</button></div></article>"
        ).format(
            remedy.title,
            remedy.why,
            "" if place else " ft-do-main",
            "write" if remedy.first else "pick",
            run.id,
            place,
            remedy.title,
            "Write the answers" if remedy.first else "Fill in the settings",
        )
        for place, remedy in enumerate(remedies)
    )
    return Markup('<section class="ft-card">{}<div class="ft-findings">{}</div></section>').format(
        heading(
            "What may help", "Pre-fills a new run with these changes. Nothing starts until you press Start training."
        ),
        cards,
    )


def remedies_of(run: RunDirectory) -> list[Any]:
    """The remedies for the problems in the comparison of `run`."""
    from ftlab.evaluation.remedies import remedies

    comparison, config = run_files.comparison(run), run_files.config(run)
    return remedies(comparison, config) if comparison and config else []


def with_remedy(pick: str, workspace: Workspace) -> tuple[RunConfig, Any]:
    """The configuration of the run with the selected remedy, and the remedy.

    Raises InputError if it is no longer offered.
    """
    run_id, _, place = pick.rpartition(":")
    run = workspace.run(run_id)
    remedies, config = remedies_of(run), run_files.config(run)
    if config is None or not place.isdigit() or int(place) >= len(remedies):
        raise InputError("This remedy is no longer offered", try_="choose the run again")
    remedy = remedies[int(place)]
    return with_settings(config, remedy.changes), remedy


def remedy_said(remedy: Any) -> Markup:
    """What was filled in, and what is left to do."""
    changes = ", ".join(f"{path}: {value}" for path, value in remedy.changes.items()) or "nothing changed"
    todo = "Press Start training when it looks right."
    if remedy.needs:
        todo = f"Fill in {remedy.needs}, then press Start training."
    return notice(
        Markup("<strong>{}.</strong> The settings of the run are filled in, with {}. {}").format(
            remedy.title, changes, todo
        ),
        kind="warn" if remedy.needs else "good",
    )


def doors(tab: EvaluateTab, page: Page) -> dict[str, Door]:
    def choose(run_id: str) -> dict[Any, Any]:
        # Use current names: the list on the page may predate the run's name.
        named = run_names.choices(run_files.runs_with_result(page.workspace))
        return {tab.run: gr.update(choices=named, value=run_id)}

    return {"run": Door([tab.run], choose)}


def followers(tab: EvaluateTab, page: Page) -> list[Follower]:
    return [
        Follower(
            tab.listed,
            lambda seen: list_runs(tab, seen),
            tab.looked_at,
            tab.form.chosen,
            box=tab.result,
            remembers={"evaluated": tab.run},
        )
    ]
