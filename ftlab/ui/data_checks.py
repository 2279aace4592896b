"""Checks: find what is wrong with the data on show, see the rows in question, and mend them in a new version.

The check is a process of its own (`data/checks/job.py`): this panel starts it, reads its files each second while it is
at work, and shows its report. What has been checked before is shown at once.

elem_ids: `data_checks_start`, `data_checks_stop`, `data_checks_asked` (folded: `data_checks_prompts`, one per line),
`data_checks_elsewhere` (checks of other data), `data_checks_message`, `data_checks_progress`, `data_checks_totals`,
`data_checks_mend_all`, `data_checks_findings` (presses on rows and remedies), `data_checks_sheet` (the row that was
pressed: `data_checks_row`, `data_checks_answer`, `data_checks_give`, `data_checks_close`), `data_checks_lengths`,
`data_checks_use_length`, `data_checks_coverage`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import STARTER, build_config
from ftlab.data.checks import Finding, job
from ftlab.data.checks.job import Job, Request
from ftlab.data.versions import Version, create, person
from ftlab.errors import FtlabError, InputError
from ftlab.ui import data_findings, data_lengths
from ftlab.ui.data_rows import inspected
from ftlab.ui.data_sources import DataContext, config_of
from ftlab.ui.events import message_box, on
from ftlab.ui.html import PICK_JS, count, empty, error_box, join, notice, pick_button
from ftlab.workspace import Workspace

POLL_SECONDS = 1.0
# The row that is open in the sheet is marked, without sending all cards again.
_MARK_JS = """
element.addEventListener('click', event => {
  const target = event.target.closest('.ft-row-picks [data-pick]');
  if (!target) return;
  element.querySelectorAll('[aria-current]').forEach(other => other.removeAttribute('aria-current'));
  target.setAttribute('aria-current', 'true');
});
"""


@dataclass(frozen=True)
class Panel:
    start: gr.Button
    stop: gr.Button
    prompts: gr.Textbox
    elsewhere: gr.HTML
    message: gr.HTML
    progress: gr.HTML
    totals: gr.HTML
    mend_all: gr.Button
    findings: gr.HTML
    sheet: gr.Column
    row: gr.HTML
    answer: gr.Textbox
    give: gr.Button
    close: gr.Button
    lengths: gr.HTML
    use_length: gr.Button
    coverage: gr.HTML
    timer: gr.Timer
    looked: gr.State  # changes after each look at data
    job: gr.State  # id of the check on show
    picked: gr.State  # (finding, row, answer as it was) in the sheet

    @property
    def result(self) -> list[Any]:
        """The components that a check is shown in."""
        return [
            *(self.start, self.stop, self.elsewhere, self.progress, self.totals, self.mend_all, self.findings),
            *(self.sheet, self.lengths, self.use_length, self.coverage, self.timer, self.job),
        ]


def build() -> Panel:
    with gr.Row(elem_classes="ft-check-row"):
        start = gr.Button("Check this data", variant="primary", elem_id="data_checks_start", scale=0, min_width=180)
        stop = gr.Button("Stop", variant="stop", elem_id="data_checks_stop", visible=False, scale=0, min_width=110)
        mend_all = gr.Button("Mend all", elem_id="data_checks_mend_all", visible=False, scale=0, min_width=260)
    with gr.Accordion("Prompts from the real world", open=False, elem_id="data_checks_asked"):
        prompts = gr.Textbox(
            label="Prompts, one per line",
            info="Does training cover what people will ask? Empty: the held-out rows are compared with training.",
            lines=4,
            max_lines=12,
            elem_id="data_checks_prompts",
        )
    message = message_box("data_checks_message")
    elsewhere = gr.HTML(elem_id="data_checks_elsewhere", elem_classes="ft-maybe", js_on_load=PICK_JS)
    progress = gr.HTML(_never(), elem_id="data_checks_progress", elem_classes="ft-maybe")
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
    timer = gr.Timer(POLL_SECONDS, active=False)
    states = gr.State(None), gr.State(None), gr.State(None)
    return Panel(
        *(start, stop, prompts, elsewhere, message, progress, totals, mend_all, findings),
        *(sheet, row, answer, give, close, lengths, use_length, coverage, timer, *states),
    )


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.looked]


def show(panel: Panel, shown: str | None, workspace: Workspace) -> dict[Any, Any]:
    """What was looked at is shown together with the base and the length of the Train tab: see `refresh` in `wire`."""
    import time

    return {panel.looked: (shown, time.time())}


def wire(panel: Panel, context: DataContext, who: Callable[[], str] = person) -> None:
    """Wire the handlers of the panel. `who` names the person for the versions that remedies make."""
    workspace = context.workspace
    chosen = [context.shown, context.base, context.max_length, panel.prompts]

    def request_of(shown: str | None, base: str | None, max_length: str | None, prompts: str | None) -> Request:
        lines = tuple(line.strip() for line in (prompts or "").splitlines() if line.strip())
        return Request(config_of(shown), base or STARTER, _length(max_length), lines)

    def refresh(shown: str | None, *settings: Any) -> dict[Any, Any]:
        if shown is None:
            return _pictured(panel, None, None, workspace)
        try:
            request = request_of(shown, *settings)
            return _pictured(panel, job.find(request, workspace), request, workspace)
        except InputError as error:  # a length that is being typed, or data that are gone
            return {**_pictured(panel, None, None, workspace), panel.progress: error_box(error)}

    def check(*values: Any) -> dict[Any, Any]:
        request = request_of(*values)
        return _pictured(panel, job.start(request, workspace, again=True), request, workspace)

    def follow(job_id: str | None, *values: Any) -> dict[Any, Any]:
        at_work = _job(job_id, workspace)
        status = job.status(at_work)
        if status.is_active:
            return _at_work(panel, status)
        return _pictured(panel, at_work, request_of(*values), workspace)

    def stop(job_id: str | None) -> dict[Any, Any]:
        at_work = _job(job_id, workspace)
        return {panel.message: notice(job.stop(at_work)), **_at_work(panel, job.status(at_work))}

    def press(job_id: str | None, shown: str | None, answer: str, picked: Any, event: gr.EventData) -> dict[Any, Any]:
        what, number, value = event._data["value"].split(":")
        report = _report(job_id, workspace)
        finding = Finding.from_dict(report["findings"][int(number)])
        if what == "row":
            config = config_of(shown)
            return _open_row(panel, finding, int(value), inspected(config, workspace), report, picked, answer)
        return mended(job_id, shown, [finding], {finding.kind: value})

    def mend_all(job_id: str | None, shown: str | None) -> dict[Any, Any]:
        return mended(job_id, shown, _usual(_report(job_id, workspace)), {})

    def mended(job_id: str | None, shown: str | None, findings: list[Finding], remedies: dict[str, str]) -> Any:
        from ftlab.data.mending import mend_findings

        return changed(
            job_id,
            shown,
            lambda version, roles: mend_findings(version, findings, roles, remedies, who=who()),
        )

    def give(job_id: str | None, shown: str | None, answer: str, picked: Any) -> dict[Any, Any]:
        from ftlab.data.mending import give_answer

        if not (answer or "").strip():
            raise InputError("The right answer is empty", try_="type it, or drop the rows")
        number, row, _ = picked
        finding = Finding.from_dict(_report(job_id, workspace)["findings"][number])
        return changed(
            job_id, shown, lambda version, roles: give_answer(version, finding, row, answer, roles, who=who())
        )

    def changed(job_id: str | None, shown: str | None, change: Callable[[Version, Any], Version]) -> dict[Any, Any]:
        """Make the version, put it on show, and check it."""
        config, done = config_of(shown), _job(job_id, workspace)
        before, report = done.request, _report(job_id, workspace)
        if job.job_for(Request(config, before.base, before.max_length, before.prompts), workspace).id != done.id:
            raise InputError("The data have changed since they were checked", try_="check again")
        first = create(config, workspace, who=who(), why="before the first remedy")
        made = change(first, report["roles"])
        new = config.model_copy(update={"source": made.source})
        request = Request(new, before.base, before.max_length, before.prompts)
        return {
            **_pictured(panel, job.start(request, workspace), request, workspace),
            panel.message: notice(_what_was_done(made, first), kind="good"),
            **context.open(made.source),
        }

    def use_length(job_id: str | None) -> dict[Any, Any]:
        suggested = _report(job_id, workspace)["tokens"]["suggested_max_length"]
        said = f"The longest example on the Train tab is {count(suggested)} tokens now."
        return {context.max_length: str(suggested), panel.message: notice(said, kind="good")}

    def elsewhere(event: gr.EventData) -> dict[Any, Any]:
        return context.open(event._data["value"])

    def close() -> dict[Any, Any]:
        return {panel.sheet: gr.update(visible=False), panel.picked: None}

    quiet: dict[str, Any] = {"queue": False, "clears": False, "trigger_mode": "always_last"}
    for trigger in (panel.looked.change, context.base.change, context.max_length.change):
        on(trigger, refresh, chosen, panel.result, box=panel.message, **quiet)
    on(panel.timer.tick, follow, [panel.job, *chosen], panel.result, box=panel.message, queue=False, clears=False)
    on(panel.start.click, check, chosen, panel.result, box=panel.message)
    on(panel.stop.click, stop, [panel.job], panel.result, box=panel.message, queue=False)
    on(
        panel.elsewhere.pick,
        elsewhere,
        [],
        [context.source],
        box=panel.message,
        queue=False,
    )
    slow: dict[str, Any] = {"box": panel.message, "progress": "minimal", "show_progress_on": panel.message}
    remedied = [*panel.result, panel.message, context.source]
    opened = [panel.row, panel.answer, panel.give, panel.picked]
    known = [panel.job, context.shown]
    on(panel.findings.pick, press, [*known, panel.answer, panel.picked], [*remedied, *opened], **slow)
    on(panel.mend_all.click, mend_all, known, remedied, **slow)
    on(panel.give.click, give, [*known, panel.answer, panel.picked], remedied, **slow)
    on(panel.close.click, close, [], [panel.sheet, panel.picked], box=panel.message, clears=False, queue=False)
    on(panel.use_length.click, use_length, [panel.job], [context.max_length], box=panel.message, queue=False)


def _pictured(panel: Panel, found: Job | None, request: Request | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the check `found` for what is wanted now (`request`), or what to do first."""
    updates = {
        panel.job: found.id if found else None,
        panel.elsewhere: _elsewhere(found, request, workspace),
        panel.start: gr.update(value="Check this data", visible=True, interactive=request is not None),
        panel.stop: gr.update(visible=False),
        panel.timer: gr.Timer(active=False),
        panel.progress: _never() if request is not None else empty("There are no data on show.", "Choose some above."),
        panel.sheet: gr.update(visible=False),
        panel.mend_all: gr.update(visible=False),
        panel.use_length: gr.update(visible=False),
        **dict.fromkeys((panel.totals, panel.findings, panel.lengths, panel.coverage), ""),
    }
    if found is None:
        return updates
    status = job.status(found)
    if status.is_active:
        return updates | _at_work(panel, status)
    report = found.report()
    updates[panel.start] = gr.update(value="Check again", visible=True, interactive=True)
    if report is None:
        error = status.error
        updates[panel.progress] = (
            error_box(FtlabError(error["what"], why=error["why"], try_=error["try"]))
            if error
            else notice("The check was stopped before anything was found.", kind="warn")
        )
        return updates
    return updates | {panel.progress: _made_for(found.request, request)} | _result(panel, report, found.request)


def _result(panel: Panel, report: dict[str, Any], request: Request) -> dict[Any, Any]:
    usual, tokens = _usual(report), report["tokens"]
    suggested = tokens.get("suggested_max_length") if tokens else None
    uncovered = [
        (f"row {row} of {one['split']}", text)
        for one in report["findings"]
        if one["kind"] == "not_covered"
        for row, text in zip(one["rows"], one["shown"], strict=False)
    ]
    found = report["coverage"]
    asked = [(f"line {place + 1}", request.prompts[place]) for where, place in (found or {}).get("uncovered", [])
             if where == "asked"]  # fmt: skip
    return {
        panel.totals: data_findings.totals(report),
        panel.findings: data_findings.cards(report["findings"]),
        panel.mend_all: gr.update(visible=len(usual) > 1, value=f"Mend all {len(usual)} at once"),
        panel.lengths: data_lengths.lengths(tokens),
        panel.use_length: gr.update(
            visible=bool(suggested) and suggested != request.max_length,
            value=f"Use {count(suggested)} as the longest example",
        ),
        panel.coverage: data_lengths.enough(report["advice"])
        + data_lengths.coverage(found, (asked or uncovered)[:20], len(request.prompts)),
    }


def _at_work(panel: Panel, status: job.Status) -> dict[Any, Any]:
    stopping = status.state == "stopping"
    return {
        panel.start: gr.update(visible=False),
        panel.stop: gr.update(visible=True, value="Stop at once" if stopping else "Stop"),
        panel.progress: data_findings.progress(
            status.phase, status.done, status.total, status.share, stopping=stopping
        ),
        panel.timer: gr.Timer(active=True),
    }


def _open_row(
    panel: Panel, finding: Finding, row: int, found: Any, report: dict[str, Any], picked: Any, typed: str
) -> dict[Any, Any]:
    """Updates that show a row of a finding beside its match; for conflicting answers, with a box for the right one."""
    from ftlab.data.mending import answer_group
    from ftlab.data.remedies import answer_of

    number = next(
        i for i, one in enumerate(report["findings"]) if (one["kind"], one["split"]) == (finding.kind, finding.split)
    )
    conflict = finding.kind == "conflicting_answers"
    places = [(finding.split, row)]
    if conflict:
        group = answer_group(finding, row)
        places += [(finding.split, other) for other in group if other != row]
    else:
        match = dict(zip(finding.rows, finding.matches, strict=False)).get(row)
        places += [match] if match and match != places[0] else []
    sides = [(f"Row {index} of {split}", _cells(found, split, index)) for split, index in places[:6]]
    if len(sides) > 1 and not conflict:
        sides[1] = (f"which is like row {places[1][1]} of {places[1][0]}", sides[1][1])
    updates = {
        panel.sheet: gr.update(visible=True),
        panel.row: data_findings.row_beside_match(finding.about.title, sides),
        panel.answer: gr.update(visible=conflict),
        panel.give: gr.update(visible=conflict),
        panel.picked: None,
    }
    if conflict:
        own = answer_of(sides[0][1], report["roles"]) or ""
        # What was typed stays as long as the prompt is the same one.
        same = picked and picked[0] == number and picked[1] in group and (typed or "") != picked[2]
        updates[panel.answer] = gr.update(visible=True, value=typed if same else own)
        updates[panel.give] = gr.update(visible=True, value=f"Give this answer to all {len(group)} rows")
        updates[panel.picked] = (number, row, own)
    return updates


def _cells(found: Any, split: str, row: int) -> dict[str, Any]:
    # The only split of a source is called train here, whatever its own name is.
    return found.cells(row, split if split in found.source_splits else None)


def _elsewhere(found: Job | None, request: Request | None, workspace: Workspace) -> Markup:
    """Checks of other data that are at work, each with a button that goes there."""
    lines = []
    for other in job.jobs(workspace):
        if (found is None or other.id != found.id) and job.status(other).is_active:
            source = other.request.data.source
            line = Markup("<span>{} is being checked.</span>").format(_name(source))
            if request is None or other.request.data == request.data.model_copy(update={"source": source}):
                line += pick_button(source, "Show it", label=f"Show the check of {_name(source)}")
            lines.append(Markup('<div class="ft-line-card ft-elsewhere">{}</div>').format(line))
    return join(lines)


def _made_for(made: Request, wanted: Request | None) -> Markup:
    """A remark when the report on show was made for another base or length than those on the Train tab now."""
    if wanted is None or (made.base, made.max_length) == (wanted.base, wanted.max_length):
        return Markup("")
    text = f"This was checked for {made.base} with at most {count(made.max_length)} tokens"
    now = f"the Train tab says {wanted.base} and {count(wanted.max_length)} now. Check again to count anew."
    return notice(f"{text}; {now}")


def _what_was_done(made: Version, before: Version) -> str:
    back = f"To undo it, choose version {before.number} under Versions."
    return f"{made.action} This is version {made.number} of {made.name}. It is on show now and is being checked. {back}"


def _never() -> Markup:
    return empty(
        "These data have not been checked yet.",
        "Check this data looks for duplicates, rows that are held out too, personal data, damage, and rows that are "
        "too long, and says what to do about them. Nothing is changed.",
    )


def _usual(report: dict[str, Any]) -> list[Finding]:
    """What is mended unless somebody says otherwise."""
    from ftlab.data.mending import is_mended

    return [finding for one in report["findings"] if is_mended(finding := Finding.from_dict(one))]


def _job(job_id: str | None, workspace: Workspace) -> Job:
    if not job_id:
        raise InputError("No check is on show", try_="press Check this data")
    return Job(workspace.checks_folder / job_id)


def _report(job_id: str | None, workspace: Workspace) -> dict[str, Any]:
    report = _job(job_id, workspace).report()
    if report is None:
        raise InputError("The report of this check is gone", try_="check again")
    return report


def _length(typed: str | None) -> int:
    """The longest example as the Train tab says it. Raises InputError when that is no length."""
    values = {"max_length": typed.strip()} if (typed or "").strip() else {}
    return build_config({"optimisation": values}).optimisation.max_length


def _name(source: str) -> str:
    from pathlib import Path

    return Path(source).name if not source.startswith("version:") else source.removeprefix("version:")
