"""Evaluate: a run against its base on rows it has never seen: verdict, numbers, picture, every answer.

elem_ids: `evaluate_run` (dropdown), `evaluate_rows` (number), `evaluate_start`, `evaluate_message`, `evaluate_result`
(verdict, table, picture), `evaluate_report` (prepares the report), `evaluate_report_file` (downloads it),
`evaluate_search`, `evaluate_filter`, `evaluate_previous`, `evaluate_next`, `evaluate_page`, `evaluate_answers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.errors import InputError
from ftlab.ui import background, disk, job_strip, run_view
from ftlab.ui.answers import FILTERS, PAGE_ROWS, answer_table, document_table, select
from ftlab.ui.events import message_box, offer_file, on, press
from ftlab.ui.html import count, details, duration, empty, facts, heading, join, notice, table, when
from ftlab.workspace import RunDirectory, Workspace


@dataclass(frozen=True)
class EvaluateTab:
    run: gr.Dropdown
    rows: gr.Textbox
    start: gr.Button
    message: gr.HTML
    result: gr.HTML
    report: gr.Button
    report_file: gr.DownloadButton
    answers_box: gr.Column
    search: gr.Textbox
    filter: gr.Radio
    previous: gr.Button
    next: gr.Button
    page: gr.Number
    answers: gr.HTML


def build() -> EvaluateTab:
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        run = gr.Dropdown(
            [],
            value=None,
            label="Run",
            info="A run that has been trained to an end, or was stopped and saved.",
            allow_custom_value=True,
            elem_id="evaluate_run",
            scale=3,
            min_width=280,
        )
        rows = gr.Textbox(
            "",
            label="Test rows at most",
            info="More rows give narrower intervals.",
            placeholder="as in its settings",
            max_lines=1,
            elem_id="evaluate_rows",
            scale=1,
            min_width=180,
        )
        with gr.Column(scale=1, min_width=160):
            start = gr.Button("Evaluate", variant="primary", elem_id="evaluate_start")
            report = gr.Button("Download the report", elem_id="evaluate_report", visible=False)
            report_file = gr.DownloadButton("Save report.html", elem_id="evaluate_report_file", visible="hidden")
    message = message_box("evaluate_message")
    result = gr.HTML(nothing_yet(), elem_id="evaluate_result")
    with gr.Column(visible=False, elem_id="evaluate_answers_box") as answers_box:
        gr.HTML(
            heading(
                "Every held-out row",
                "What each model wrote; of plain text, how well each predicts it.",
            )
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            search = gr.Textbox(
                label="Search", placeholder="words in prompts or answers", elem_id="evaluate_search", min_width=220
            )
            filter_ = gr.Radio(FILTERS, value="All", label="Show", elem_id="evaluate_filter", min_width=260)
        answers = gr.HTML(elem_id="evaluate_answers")
        with gr.Row(elem_classes="ft-pager"):
            previous = gr.Button("Previous", elem_id="evaluate_previous", size="sm", scale=0, min_width=100)
            page = gr.Number(1, label="Page", precision=0, elem_id="evaluate_page", scale=0, min_width=110)
            next_ = gr.Button("Next", elem_id="evaluate_next", size="sm", scale=0, min_width=100)
    return EvaluateTab(
        run,
        rows,
        start,
        message,
        result,
        report,
        report_file,
        answers_box,
        search,
        filter_,
        previous,
        next_,
        page,
        answers,
    )


def wire(tab: EvaluateTab, strip: job_strip.Strip, workspace: Workspace) -> None:
    def start(run_id: str | None, rows: str | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        run = disk.chosen_run(workspace, run_id)
        wanted = (rows or "").strip()
        if wanted and not (wanted.isdigit() and int(wanted)):
            raise InputError(
                "Test rows at most cannot take this value", given=wanted, allowed="a whole number, or empty"
            )
        supervisor.submit_evaluation(run, workspace, max_rows=int(wanted) if wanted else None)
        config = disk.config(run)
        background.release_chat(config.launcher.device if config else "auto")
        return {
            tab.message: notice("Started. The strip above shows how far it is; the result appears here.", kind="good"),
            **job_strip.at_work(strip, disk.current_job(workspace)),
        }

    def choose(run_id: str | None) -> dict[Any, Any]:
        return show(tab, run_id, workspace)

    def find(run_id: str | None, search: str | None, kind: str | None) -> dict[Any, Any]:
        return _answers(tab, run_id, workspace, search, kind, 1)

    def turn(
        run_id: str | None, search: str | None, kind: str | None, page: float | None, by: int = 0
    ) -> dict[Any, Any]:
        return _answers(tab, run_id, workspace, search, kind, int(page or 1) + by)

    def backwards(*values: Any) -> dict[Any, Any]:
        return turn(*values, by=-1)

    def forwards(*values: Any) -> dict[Any, Any]:
        return turn(*values, by=+1)

    def report(run_id: str | None) -> dict[Any, Any]:
        from ftlab.sharing.report import write_report

        run = disk.chosen_run(workspace, run_id)
        return {tab.report_file: offer_file(write_report(run), f"{run.id}-report.html")}

    on(
        tab.start.click,
        start,
        [tab.run, tab.rows],
        [strip.box, strip.stop, strip.job],
        box=tab.message,
        progress="minimal",
        show_progress_on=tab.message,
    )
    shown = [tab.result, tab.report, tab.answers_box, tab.answers, tab.page]
    on(tab.run.change, choose, [tab.run], shown, box=tab.message, clears=False, queue=False)
    wanted = [tab.run, tab.search, tab.filter]
    for trigger in (tab.search.change, tab.filter.change):
        on(trigger, find, wanted, [tab.answers, tab.page], box=tab.message, queue=False, trigger_mode="always_last")
    paging = [*wanted, tab.page]
    on(tab.previous.click, backwards, paging, [tab.answers, tab.page], box=tab.message, queue=False)
    on(tab.next.click, forwards, paging, [tab.answers, tab.page], box=tab.message, queue=False)
    on(tab.page.submit, turn, paging, [tab.answers, tab.page], box=tab.message, queue=False)
    pressed = on(tab.report.click, report, [tab.run], [tab.report_file], box=tab.message, progress="minimal")
    pressed.then(None, js=press("#evaluate_report_file", "#evaluate_message"))


def show(tab: EvaluateTab, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the result of `run_id`, or say what to do first."""
    hidden = {tab.report: gr.update(visible=False), tab.answers_box: gr.update(visible=False)}
    if not run_id:
        return {tab.result: nothing_yet(), **hidden}
    run = workspace.run(run_id)
    comparison = disk.comparison(run)
    if comparison is None:
        return {tab.result: _preferences(run) or _not_yet(run), **hidden}
    return {
        tab.result: result(run, comparison),
        tab.report: gr.update(visible=True),
        tab.answers_box: gr.update(visible=True),
        **_answers(tab, run_id, workspace, "", "All", 1),
    }


def _preferences(run: RunDirectory) -> Markup:
    """What the held-out preferences or rewards say; empty for other runs."""
    found = run_view.held_out(run)
    if not found:
        return found
    return Markup('<section class="ft-card" data-run="{}">{}{}</section>').format(
        run.id, run_view.headline(run, disk.status(run)), found
    )


def nothing_yet() -> Markup:
    return empty(
        "There is no trained run yet.", "Train one on the Train tab; with the defaults it is evaluated by itself."
    )


def _not_yet(run: RunDirectory) -> Markup:
    status = disk.evaluation_status(run)
    if status is not None and status.is_active:
        return notice(f"The evaluation is at work: {status.phase}.")
    if status is not None and status.error:
        return run_view.failure(status.error)
    return empty("This run has not been compared with its base yet.", "Press Evaluate: it takes a minute or less.")


def result(run: RunDirectory, comparison: dict[str, Any]) -> Markup:
    """Verdict, table, picture and settings of one comparison."""
    from ftlab.sharing.report import comparison_chart_svg, comparison_table
    from ftlab.sharing.table import of_documents

    rows = [
        [
            Markup('<strong>{}</strong> <span class="ft-help">{}<br>{}</span>').format(
                row["measure"], row["unit"], row["help"]
            ),
            _with_interval(row, "base"),
            _with_interval(row, "adapted"),
            Markup('{}<br><span class="ft-help">{}</span>').format(row["change"], row["p"]),
        ]
        for row in comparison_table(comparison)
    ]
    notes = join(Markup("<li>{}</li>").format(note) for note in comparison.get("notes", []))
    settings = facts(
        [
            (
                "Documents" if of_documents(comparison) else "Rows",
                count(comparison["adapted"]["rows"]),
                f"from the {comparison['split']} split",
            ),
            ("Made", when(comparison.get("created")), "local time"),
            ("Took", duration(comparison.get("seconds")), "for both models"),
        ]
    )
    return _preferences(run) + Markup('<section class="ft-card" data-run="{}">{}{}{}{}{}{}{}</section>').format(
        run.id,
        notice(run_view.verdict_text(run, comparison), kind=run_view.verdict_kind(comparison)),
        heading("Base against adapted", "On the same held-out rows. Small print: 95% interval, and p."),
        table(["Measure", "Base", "Adapted", "Change"], rows, label="Scores", numbers=(1, 2, 3), css="ft-scores"),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
        Markup('<div class="ft-picture">{}</div>').format(Markup(comparison_chart_svg(comparison))),
        settings,
        details(
            "How it was measured",
            table(["Setting", "Value"], comparison.get("settings", {}).items(), label="Settings of the evaluation"),
        ),
    )


def _with_interval(row: dict[str, Any], side: str) -> Markup:
    return Markup('{}<br><span class="ft-help">{}</span>').format(row[side], row[f"{side}_interval"])


def _answers(
    tab: EvaluateTab, run_id: str | None, workspace: Workspace, search: str | None, kind: str | None, page: int
) -> dict[Any, Any]:
    if not run_id:
        return {}
    run = workspace.run(run_id)
    from ftlab.sharing.table import of_documents

    comparison = disk.comparison(run) or {}
    by_loss = comparison.get("verdict", {}).get("measure") == "perplexity"
    found = select(disk.predictions(run), search, kind, by_loss=by_loss)
    last = max(1, -(-len(found) // PAGE_ROWS))
    page = min(max(1, page), last)
    if comparison and of_documents(comparison):
        return {tab.answers: document_table(found, page, last), tab.page: page}
    return {tab.answers: answer_table(found, page, last, by_loss=by_loss), tab.page: page}
