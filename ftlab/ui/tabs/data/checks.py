"""Checks: find problems in the current data, show the affected rows, and fix them in a new version.

The check is a separate process (`data/checks/job.py`). It starts automatically once data are chosen, or with a press if
they are many. This panel reads its files every second while it runs, and shows its report; a line beside the data
summarizes it. The results of earlier checks are shown at once.

elem_ids: `data_checks_start`, `data_checks_stop`, `data_checks_asked` (folded: `data_checks_prompts`, one per line),
`data_checks_elsewhere` (checks of other data), `data_checks_message`, `data_checks_progress`, `data_checks_totals`,
`data_checks_mend_all`, `data_checks_findings` (presses on rows and remedies), `data_checks_sheet` (the selected
row: `data_checks_row`, `data_checks_answer`, `data_checks_give`, `data_checks_close`), `data_checks_lengths`,
`data_checks_use_length`, `data_checks_coverage`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from ftlab.config import STARTER, DataConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data.checks import Finding, job
from ftlab.data.checks.job import Job, Request
from ftlab.data.version_store import Version
from ftlab.data.versions import person, taken
from ftlab.errors import InputError
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import PICK_JS, count, error_box, notice, stop_note
from ftlab.ui.tabs.data import findings as data_findings
from ftlab.ui.tabs.data.checks_view import Panel, at_work, never, open_row, pictured, usual_findings
from ftlab.ui.tabs.data.rows import inspected
from ftlab.ui.tabs.data.sources import DataContext, config_of, is_first_visit

POLL_SECONDS = 1.0
MOST_UNASKED = 20_000  # rows: a minute on one core; above this, a press is required
# Marks the row that is open in the sheet and shows a running remedy, without sending all cards again.
_MARK_JS = """
element.addEventListener('click', event => {
  const remedy = event.target.closest('.ft-do');
  if (remedy) {
    remedy.setAttribute('aria-busy', 'true');
    remedy.closest('.ft-findings').classList.add('ft-waiting');
  }
  const target = event.target.closest('.ft-row-picks [data-pick]');
  if (!target) return;
  element.querySelectorAll('[aria-current]').forEach(other => other.removeAttribute('aria-current'));
  target.setAttribute('aria-current', 'true');
});
"""
# With the keyboard, focus moves to the open row and back again. The result of a remedy is above the cards, so the page
# scrolls to it.
_PRESSED = """
() => setTimeout(() => {
  document.querySelector('#data_checks_message .ft-box')?.scrollIntoView({block: 'center'});
  document.querySelectorAll('.ft-waiting').forEach(cards => cards.classList.remove('ft-waiting'));
  document.querySelectorAll('.ft-do[aria-busy]').forEach(button => button.removeAttribute('aria-busy'));
  document.querySelector('#data_checks_sheet #data_checks_close')?.focus({preventScroll: true});
}, 150)
"""
_FOCUS_ROW = "() => setTimeout(() => document.querySelector('#data_checks_findings [aria-current]')?.focus(), 150)"


def build(line: gr.HTML, timer: gr.Timer) -> Panel:
    """`line` shows the summary of a check, and a press on it opens this panel; `timer` follows a running check."""
    with gr.Row(elem_classes="ft-check-row"):
        start = gr.Button("Check this data", elem_id="data_checks_start", scale=0, min_width=180)
        stop = gr.Button("Stop", variant="stop", elem_id="data_checks_stop", visible=False, scale=0, min_width=110)
        mend_all = gr.Button("Fix all", elem_id="data_checks_mend_all", visible=False, scale=0, min_width=260)
    with gr.Accordion("Real-world prompts", open=False, elem_id="data_checks_asked"):
        prompts = gr.Textbox(
            label="Prompts, one per line",
            info="Checks whether training covers what people will ask. Empty: uses the held-out rows.",
            lines=4,
            max_lines=12,
            elem_id="data_checks_prompts",
        )
    message = message_box("data_checks_message")
    elsewhere = gr.HTML(elem_id="data_checks_elsewhere", elem_classes="ft-maybe", js_on_load=PICK_JS)
    progress = gr.HTML(never(), elem_id="data_checks_progress", elem_classes="ft-maybe")
    totals = gr.HTML(elem_id="data_checks_totals", elem_classes="ft-maybe")
    with gr.Column(elem_id="data_checks_found"):
        findings = gr.HTML(elem_id="data_checks_findings", elem_classes="ft-maybe", js_on_load=PICK_JS + _MARK_JS)
        with gr.Column(visible=False, elem_id="data_checks_sheet") as sheet:
            row = gr.HTML(elem_id="data_checks_row")
            answer = gr.Textbox(
                label="The right answer", lines=2, max_lines=6, visible=False, elem_id="data_checks_answer"
            )
            with gr.Row():
                give = gr.Button("Give", variant="primary", size="sm", visible=False, elem_id="data_checks_give")
                close = gr.Button("Close", size="sm", elem_id="data_checks_close", scale=0, min_width=100)
    lengths = gr.HTML(elem_id="data_checks_lengths", elem_classes="ft-maybe")
    use_length = gr.Button("Use it", size="sm", visible=False, elem_id="data_checks_use_length", scale=0, min_width=240)
    coverage = gr.HTML(elem_id="data_checks_coverage", elem_classes="ft-maybe")
    return Panel(
        line=line,
        start=start,
        stop=stop,
        prompts=prompts,
        elsewhere=elsewhere,
        message=message,
        progress=progress,
        totals=totals,
        mend_all=mend_all,
        findings=findings,
        sheet=sheet,
        row=row,
        answer=answer,
        give=give,
        close=close,
        lengths=lengths,
        use_length=use_length,
        coverage=coverage,
        timer=timer,
        looked=gr.State(None),
        job=gr.State(None),
        picked=gr.State(None),
        told_of=gr.State(None),
    )


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.looked]


def show(panel: Panel, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    """The check of the data, with the base and the length of the Train tab: see `refresh` in `wire`."""
    return {panel.looked: (config_json, time.time())}


def wire(panel: Panel, context: DataContext, who: Callable[[], str] = person) -> None:
    """Wire the handlers of the panel. `who` names the person for the versions that remedies make."""
    workspace = context.workspace
    chosen = [context.config_json, context.base, context.max_length, panel.prompts]

    def request_of(config_json: str | None, base: str | None, max_length: str | None, prompts: str | None) -> Request:
        lines = tuple(line.strip() for line in (prompts or "").splitlines() if line.strip())
        return Request(config_of(config_json), base or STARTER, _length(max_length), lines)

    def refresh(config_json: str | None, *settings: Any) -> dict[Any, Any]:
        if config_json is None:
            return pictured(panel, None, None, workspace)
        try:
            request = request_of(config_json, *settings)
            check = job.find(request, workspace)
            if check is None and _goes_by_itself(request, workspace):
                check = job.start(request, workspace)
            return pictured(panel, check, request, workspace)
        except InputError as error:  # an incomplete length, or data that are gone
            return {**pictured(panel, None, None, workspace), panel.progress: error_box(error)}

    def forget(config_json: str | None, told_of: str | None) -> dict[Any, Any]:
        """Clear messages about a version that is no longer displayed."""
        now = config_of(config_json).source if config_json else None
        return {panel.message: "", panel.told_of: None} if told_of and told_of != now else {}

    def check(*values: Any) -> dict[Any, Any]:
        request = request_of(*values)
        return pictured(panel, job.start(request, workspace, again=True), request, workspace)

    def press_line(job_id: str | None, *values: Any) -> dict[Any, Any]:
        return {} if job_id else check(*values)

    def follow(job_id: str | None, *values: Any) -> dict[Any, Any]:
        if not job_id:
            return refresh(*values)
        followed = _job(job_id, workspace)
        status = job.status(followed)
        if status.is_active:
            return at_work(panel, status)
        try:
            wanted = request_of(*values)
        except InputError:  # an incomplete length
            wanted = None
        return pictured(panel, followed, wanted, workspace)

    def stop(job_id: str | None, *values: Any) -> dict[Any, Any]:
        stopped = job.stop(_job(job_id, workspace))
        return {**follow(job_id, *values), panel.message: stop_note(stopped)}

    def press(
        job_id: str | None, config_json: str | None, answer: str, picked: Any, event: gr.EventData
    ) -> dict[Any, Any]:
        what, number, value = event._data["value"].split(":")
        report = _report(job_id, workspace)
        finding = Finding.from_dict(report["findings"][int(number)])
        if value == "raise":
            return raised(job_id, config_json, finding.detail["raise_to"])
        if what == "row":
            config = config_of(config_json)
            return open_row(panel, finding, int(value), inspected(config, workspace), report, picked, answer)
        return mended(job_id, config_json, [finding], {finding.kind: value})

    def raised(job_id: str | None, config_json: str | None, length: int) -> dict[Any, Any]:
        """Set the longer maximum length on the Train tab, and check the data again, as after any remedy."""
        before = _job(job_id, workspace).request
        request = Request(config_of(config_json), before.base, length, before.prompts)
        return {**pictured(panel, job.start(request, workspace), request, workspace), **length_of(length)}

    def mend_all(job_id: str | None, config_json: str | None) -> dict[Any, Any]:
        return mended(job_id, config_json, usual_findings(_report(job_id, workspace)), {})

    def mended(job_id: str | None, config_json: str | None, findings: list[Finding], remedies: dict[str, str]) -> Any:
        from ftlab.data.remedies import mend_findings, token_counter

        def change(version: Version, roles: Any) -> Version:
            tokens = None
            if "shorten" in remedies.values():
                from ftlab.models.load import load_tokenizer

                request = _job(job_id, workspace).request
                tokens = token_counter(request.data, load_tokenizer(request.base), workspace)
            return mend_findings(version, findings, roles, remedies, tokens=tokens, who=who())

        return changed(job_id, config_json, change)

    def give(job_id: str | None, config_json: str | None, answer: str, picked: Any) -> dict[Any, Any]:
        from ftlab.data.remedies import give_answer

        if not (answer or "").strip():
            raise InputError("The right answer is empty", try_="type it, or drop the rows")
        number, row, _ = picked
        finding = Finding.from_dict(_report(job_id, workspace)["findings"][number])
        return changed(
            job_id, config_json, lambda version, roles: give_answer(version, finding, row, answer, roles, who=who())
        )

    def changed(
        job_id: str | None, config_json: str | None, change: Callable[[Version, Any], Version]
    ) -> dict[Any, Any]:
        """Make the version, display it, and check it."""
        config, done = config_of(config_json), _job(job_id, workspace)
        before, report = done.request, _report(job_id, workspace)
        if job.job_for(Request(config, before.base, before.max_length, before.prompts), workspace).id != done.id:
            raise InputError("The data has changed since it was checked", try_="check again")
        with taken(config, workspace, who=who(), why="before the first remedy") as first:
            made = change(first, report["roles"])
        new = config.model_copy(update={"source": made.source})
        request = Request(new, before.base, before.max_length, before.prompts)
        return {
            **pictured(panel, job.start(request, workspace), request, workspace),
            panel.message: data_findings.what_was_done(made.action, made.number, made.name, first.number),
            panel.told_of: made.source,
            **context.open(made.source),
        }

    def use_length(job_id: str | None) -> dict[Any, Any]:
        return length_of(_report(job_id, workspace)["tokens"]["suggested_max_length"])

    def length_of(suggested: int) -> dict[Any, Any]:
        text = f"The longest example on the Train tab is now {count(suggested)} tokens."
        return {context.max_length: str(suggested), panel.message: notice(text, kind="good")}

    def elsewhere(event: gr.EventData) -> dict[Any, Any]:
        return context.open(event._data["value"])

    def close() -> dict[Any, Any]:
        return {panel.sheet: gr.update(visible=False), panel.picked: None}

    shows: dict[str, Any] = {"outputs": panel.result, "box": panel.message, "lane": "data checks"}
    seen = any_of(panel.looked.change, context.base.change, context.max_length.change)
    on(seen, refresh, chosen, clears=False, trigger_mode="always_last", **shows)
    on(panel.timer.tick, follow, [panel.job, *chosen], clears=False, **shows)
    on(panel.start.click, check, chosen, **shows)
    on(panel.line.pick, press_line, [panel.job, *chosen], **shows)
    on(panel.stop.click, stop, [panel.job, *chosen], **shows)
    on(panel.elsewhere.pick, elsewhere, [], [context.source], box=panel.message, queue=False)
    slow: dict[str, Any] = {"box": panel.message, "progress": "minimal", "show_progress_on": panel.message}
    slow["lane"] = "data checks"
    remedied = [*panel.result, panel.message, panel.told_of, context.source]
    about = [context.config_json, panel.told_of]
    on(panel.looked.change, forget, about, [panel.told_of], box=panel.message, clears=False, lane="data checks")
    opened = [context.max_length, panel.row, panel.answer, panel.give, panel.picked]
    known = [panel.job, context.config_json]
    pressed = on(panel.findings.pick, press, [*known, panel.answer, panel.picked], [*remedied, *opened], **slow)
    pressed.then(None, js=_PRESSED)
    on(panel.mend_all.click, mend_all, known, remedied, **slow)
    on(panel.give.click, give, [*known, panel.answer, panel.picked], remedied, **slow)
    shut = on(
        panel.close.click,
        close,
        [],
        [panel.sheet, panel.picked],
        box=panel.message,
        clears=False,
        lane="data checks",
    )
    shut.then(None, js=_FOCUS_ROW)
    on(panel.use_length.click, use_length, [panel.job], [context.max_length], box=panel.message, queue=False)


def _goes_by_itself(request: Request, workspace: Workspace) -> bool:
    """Whether the chosen data are checked automatically. Not the sample that an empty page opens with, nor data that
    cannot be trained on, take long, or need a base that is not downloaded."""
    from ftlab.models.bases.get import is_kept_here

    if request.data.source == DataConfig().source and is_first_visit(workspace):
        return False
    inspection = inspected(request.data, workspace)
    return not inspection.problem and inspection.rows <= MOST_UNASKED and is_kept_here(request.base, otherwise=True)


def _job(job_id: str | None, workspace: Workspace) -> Job:
    if not job_id:
        raise InputError("No check is open", try_="press Check this data")
    return Job(workspace.checks_folder / job_id)


def _report(job_id: str | None, workspace: Workspace) -> dict[str, Any]:
    report = _job(job_id, workspace).report()
    if report is None:
        raise InputError("The report of this check is gone", try_="check again")
    return report


def _length(typed: str | None) -> int:
    """The maximum length set on the Train tab. Raises InputError if it is not a valid length."""
    text = (typed or "").strip()
    values = {"max_length": text} if text else {}
    return build_config({"optimisation": values}).optimisation.max_length
