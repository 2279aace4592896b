"""What the Checks panel shows: a running check, its report, what to do first, and a row of a finding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.workspace import Workspace
from ftlab.data.checks import Finding, job
from ftlab.data.checks.job import Job, Request, Status
from ftlab.errors import FtlabError
from ftlab.ui.kit.html import count, empty, error_box, join, notice, pick_button
from ftlab.ui.tabs.data import findings as data_findings
from ftlab.ui.tabs.data import lengths as data_lengths


@dataclass(frozen=True)
class Panel:
    line: gr.HTML  # summary of the check, beside the data
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
    job: gr.State  # id of the displayed check
    picked: gr.State  # (finding, row, original answer) in the sheet
    told_of: gr.State  # the version that the message is about

    @property
    def result(self) -> list[Any]:
        """The components that show a check."""
        return [
            *(
                self.line,
                self.start,
                self.stop,
                self.elsewhere,
                self.progress,
                self.totals,
                self.mend_all,
                self.findings,
            ),
            *(self.sheet, self.lengths, self.use_length, self.coverage, self.timer, self.job),
        ]


def pictured(panel: Panel, check: Job | None, request: Request | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show `check` for the current `request`, or what to do first."""
    updates: dict[Any, Any] = {
        panel.job: check.id if check else None,
        panel.line: line_of(None, None) if request is not None else "",
        panel.elsewhere: _elsewhere(check, request, workspace),
        panel.start: gr.update(value="Check this data", visible=True, interactive=request is not None),
        panel.stop: gr.update(visible=False),
        panel.timer: gr.Timer(active=False),
        panel.progress: never() if request is not None else empty("No data selected.", "Choose some above."),
        panel.sheet: gr.update(visible=False),
        panel.mend_all: gr.update(visible=False),
        panel.use_length: gr.update(visible=False),
        **dict.fromkeys((panel.totals, panel.findings, panel.lengths, panel.coverage), ""),
    }
    if check is None:
        return updates
    status = job.status(check)
    if status.is_active:
        return updates | at_work(panel, status)
    report = check.report()
    updates[panel.line] = line_of(status, report)
    updates[panel.start] = gr.update(value="Check again", visible=True, interactive=True)
    if report is None:
        error = status.error
        updates[panel.progress] = (
            error_box(FtlabError(error["what"], why=error["why"], try_=error["try"]))
            if error
            else notice("The check was stopped before it found anything.", kind="warn")
        )
        return updates
    return (
        updates | {panel.progress: _made_for(check.request, request)} | _result(panel, report, check.request, request)
    )


def _result(panel: Panel, report: dict[str, Any], request: Request, wanted: Request | None) -> dict[Any, Any]:
    usual, tokens = usual_findings(report), report["tokens"]
    suggested = tokens.get("suggested_max_length") if tokens else None
    uncovered = [
        (f"row {row} of {finding['split']}", text)
        for finding in report["findings"]
        if finding["kind"] == "not_covered"
        for row, text in zip(finding["rows"], finding["shown"], strict=False)
    ]
    coverage = report["coverage"]
    asked = [
        (f"line {place + 1}", request.prompts[place])
        for where, place in (coverage or {}).get("uncovered", [])
        if where == "asked"
    ]
    # A stopped check may not have reached it.
    about_coverage = (
        data_lengths.coverage(coverage, (asked or uncovered)[:20], len(request.prompts))
        if coverage or not report["stopped"]
        else ""
    )
    return {
        panel.totals: data_findings.totals(report),
        panel.findings: data_findings.cards(report["findings"], fixes_all=len(usual) > 1),
        panel.mend_all: gr.update(visible=len(usual) > 1, value=f"Fix all {len(usual)} at once"),
        panel.lengths: data_lengths.lengths(tokens),
        panel.use_length: gr.update(
            visible=bool(suggested) and suggested != (wanted or request).max_length,
            value=f"Use {count(suggested)} as the longest example",
        ),
        panel.coverage: data_lengths.enough(report["advice"]) + about_coverage,
    }


def at_work(panel: Panel, status: Status) -> dict[Any, Any]:
    stopping = status.state == "stopping"
    return {
        panel.start: gr.update(visible=False),
        panel.stop: gr.update(visible=True, value="Stop at once" if stopping else "Stop"),
        panel.line: line_of(status, None),
        panel.progress: data_findings.progress(
            status.phase, status.done, status.total, status.share, stopping=stopping
        ),
        panel.timer: gr.Timer(active=True),
    }


def line_of(status: Status | None, report: dict[str, Any] | None) -> Markup:
    """The summary of a check, as a button that opens it."""
    text, kind = "Check this data", "info"
    if status is not None and status.is_active:
        share = "" if status.share is None else f" {status.share:.0%}"
        return Markup('<span class="ft-help" role="status" aria-live="off">Checking …{}</span>').format(share)
    if report is not None:
        notes, serious = sum(finding["severity"] == "note" for finding in report["findings"]), _serious(report)
        things = f"{count(serious)} thing{'' if serious == 1 else 's'} to look at"
        nothing = "Nothing found" if not notes else f"{count(notes)} note{'' if notes == 1 else 's'}"
        text, kind = (things, "warn") if serious else (nothing, "info" if notes else "good")
        partly = report["stopped"] or report["checked"] < report["rows"]
        text += f" in {count(report['checked'])} of {count(report['rows'])} rows" if partly else ""
    elif status is not None:
        text, kind = ("Check stopped", "warn") if status.error is None else ("Check failed", "bad")
    value = "open" if status is not None else "start"
    head = Markup('<span class="ft-help">Checks</span> ') if status is not None else Markup("")
    return head + Markup(
        '<button type="button" class="ft-badge ft-badge-button ft-{}" data-pick="{}">{}</button>'
    ).format(kind, value, text)


def _serious(report: dict[str, Any]) -> int:
    """How many errors, warnings and shortages a report holds."""
    notes = sum(finding["severity"] == "note" for finding in report["findings"])
    return len(report["findings"]) - notes + len(data_findings.shortages(report))


def serious_in(job_id: str | None, workspace: Workspace) -> int:
    """As `_serious`, of the check `job_id`; 0 without a report."""
    report = Job(workspace.checks_folder / job_id).report() if job_id else None
    return _serious(report) if report else 0


def open_row(
    panel: Panel, finding: Finding, row: int, rows: Any, report: dict[str, Any], picked: Any, typed: str
) -> dict[Any, Any]:
    """Updates that show a row of a finding beside its match; for conflicting answers, with a box for the right one."""
    from ftlab.data.remedies import answer_group, answer_of

    number = next(
        i
        for i, entry in enumerate(report["findings"])
        if (entry["kind"], entry["split"]) == (finding.kind, finding.split)
    )
    conflict = finding.kind == "conflicting_answers"
    places = [(finding.split, row)]
    if conflict:
        group = answer_group(finding, row)
        places += [(finding.split, other) for other in group if other != row]
    else:
        match = dict(zip(finding.rows, finding.matches, strict=False)).get(row)
        places += [match] if match and match != places[0] else []
    sides = [(f"Row {index} of {split}", _cells(rows, split, index)) for split, index in places[:6]]
    if len(sides) > 1 and not conflict:
        sides[1] = (f"which is like row {places[1][1]} of {places[1][0]}", sides[1][1])
    updates: dict[Any, Any] = {
        panel.sheet: gr.update(visible=True),
        panel.row: data_findings.row_beside_match(finding.about.title, sides),
        panel.answer: gr.update(visible=conflict),
        panel.give: gr.update(visible=conflict),
        panel.picked: None,
    }
    if conflict:
        own = answer_of(sides[0][1], report["roles"]) or ""
        # The typed text stays as long as the prompt is the same.
        same = picked and picked[0] == number and picked[1] in group and (typed or "") != picked[2]
        updates[panel.answer] = gr.update(visible=True, value=typed if same else own)
        updates[panel.give] = gr.update(visible=True, value=f"Give this answer to all {len(group)} rows")
        updates[panel.picked] = (number, row, own)
    return updates


def _cells(rows: Any, split: str, row: int) -> dict[str, Any]:
    # The only split of a source is called train here, whatever its own name is.
    return rows.row(row, split if split in rows.source_splits else None)


def _elsewhere(check: Job | None, request: Request | None, workspace: Workspace) -> Markup:
    """Running checks of other data, each with a button that opens those data."""
    lines = []
    for other in job.jobs(workspace):
        if (check is None or other.id != check.id) and job.status(other).is_active:
            source = other.request.data.source
            line = Markup("<span>{} is being checked.</span>").format(_name(source))
            if request is None or other.request.data == request.data.model_copy(update={"source": source}):
                line += pick_button(source, "Show it", label=f"Show the check of {_name(source)}")
            lines.append(Markup('<div class="ft-line-card ft-elsewhere">{}</div>').format(line))
    return join(lines)


def _made_for(made: Request, wanted: Request | None) -> Markup:
    """A note if the report was made for a base or length other than those now set on the Train tab."""
    if wanted is None or (made.base, made.max_length) == (wanted.base, wanted.max_length):
        return Markup("")
    text = f"This was checked for {made.base} with at most {count(made.max_length)} tokens"
    now = f"the Train tab says {wanted.base} and {count(wanted.max_length)} now. Check again to recount."
    return notice(f"{text}; {now}")


def never() -> Markup:
    return empty(
        "Not checked yet.",
        "Check this data looks for duplicates, rows that are held out too, personal data, damage, and rows that are "
        "too long, and suggests fixes. Your data is not changed.",
    )


def usual_findings(report: dict[str, Any]) -> list[Finding]:
    """The findings that are fixed by default."""
    from ftlab.data.remedies import is_mended

    return [finding for values in report["findings"] if is_mended(finding := Finding.from_dict(values))]


def _name(source: str) -> str:
    return Path(source).name if not source.startswith("version:") else source.removeprefix("version:")
