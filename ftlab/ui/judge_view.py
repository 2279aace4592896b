"""What judges say of the answers of a run, as the Evaluate tab shows it."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.core.run_directory import RunDirectory
from ftlab.evaluation.judge import is_current
from ftlab.evaluation.judge_plan import read_reason
from ftlab.report.findings import judge_figures, judge_lines
from ftlab.ui import disk, run_view
from ftlab.ui.answers import text_cell
from ftlab.ui.html import count, details, join, notice, table, when

_SHOWN_REPLIES = 20
_SHOWN_JUDGEMENTS = 5


def result(run: RunDirectory) -> Markup:
    """What judges say of the answers of `run`, the newest first, and how the last attempt ended if it failed."""
    from ftlab.training import supervisor

    parts = []
    status = supervisor.judging_status(run)
    if status is not None and status.is_active:
        far = f": {count(status.done)} of {count(status.total)} requests" if status.total else ""
        does = "is stopping" if status.state == "stopping" else "is at work"
        parts.append(notice(f"A judge {does}{far}. What it has judged is kept, also when it is stopped."))
    elif status is not None and status.error:
        parts.append(run_view.failure(status.error))
    elif status is not None and status.state == "stopped":
        parts.append(notice("The judging was stopped. What was judged is kept; send again to go on.", kind="warn"))
    parts += [_judgement(run, one) for one in disk.judgements(run)[:_SHOWN_JUDGEMENTS]]
    return join(parts)


def _judgement(run: RunDirectory, one: dict[str, Any]) -> Markup:
    current = is_current(run, one)
    text, *more = judge_lines(one, current=current)
    kind = {True: "good", False: "bad", None: "info"}[one["better"]] if current else "warn"
    settings = [("Judged", when(one["created"])), ("Rule", one["rule"]), ("Test", one["test"])]
    settings += [("Better is", one["settings"]["criteria"]), ("Reference shown", one["settings"]["reference"])]
    return Markup('<section class="ft-card">{}{}{}{}{}</section>').format(
        notice(text, kind=kind),
        table(["Verdict", "Rows"], judge_figures(one), label="What the judge prefers", numbers=(1,)),
        Markup('<ul class="ft-notes">{}</ul>').format(items(more)),
        details("How it was judged", table(["Setting", "Value"], settings, label="Settings of the judgement")),
        _replies(run, one),
    )


def _replies(run: RunDirectory, one: dict[str, Any]) -> Markup:
    """Some of what the judge wrote."""
    said = [line for line in disk.judged_answers(run) if line["judgement"] == one["id"]]
    said = sorted(said, key=lambda line: line["row"])[:_SHOWN_REPLIES]  # both orders of a row one below the other
    if not said:
        return Markup()
    titles = one["titles"]
    rows = [
        [
            line["row"],
            " / ".join(titles[side] for side in line["order"]),
            titles.get(line["choice"], line["choice"] or "no choice"),
            text_cell(read_reason(line["reply"]) or line["reply"]),
        ]
        for line in said
    ]
    shown = table(["Row", "A / B", "Choice", "Reply"], rows, label="Replies of the judge", css="ft-answers")
    return details(f"What it wrote ({len(rows)} replies)", shown)


def items(lines: list[str]) -> Markup:
    return join(Markup("<li>{}</li>").format(line) for line in lines)
