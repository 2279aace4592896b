"""Let another model judge the answers of the selected run, on the Evaluate tab; the form is `ftlab.ui.judge_form`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.jobs import Status, StopResult
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import JudgementJson
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.evaluation.judge import is_current
from ftlab.evaluation.judge_plan import JudgeSettings, Plan, build_settings, plan, read_reason, sides_of
from ftlab.report.findings import judge_figures, judge_lines
from ftlab.ui import judge_form, run_files
from ftlab.ui.judge_form import DEFAULT_SIDES, Panel
from ftlab.ui.kit.answer_tables import text_cell
from ftlab.ui.kit.html import details, join, list_items, notice, table, when

_ABOUT = (
    "A model of your choice reads both answers and says which is better. That is the model's opinion, not "
    "people's. Nothing is sent until you have seen what it will take."
)


@dataclass(frozen=True)
class OfRun:
    """The answers of a run, by its id."""

    workspace: Workspace

    def plan(self, chosen: str | None, typed: Mapping[str, Any]) -> tuple[Plan, tuple[str, dict[str, Any]]]:
        run = run_files.chosen_run(self.workspace, chosen)
        sides = (typed["sides"] or DEFAULT_SIDES).split(",")
        settings = build_settings(**{**typed, "sides": sides})
        return plan(run, settings), (run.id, settings.as_dict())

    def start(self, planned: tuple[str, dict[str, Any]]) -> str:
        from ftlab.training import supervisor

        run_id, settings = planned
        supervisor.submit_judging(self.workspace.run(run_id), self.workspace, JudgeSettings.from_dict(settings))
        return run_id

    def status(self, chosen: str | None) -> Status | None:
        from ftlab.training import supervisor

        return supervisor.judging_status(run_files.chosen_run(self.workspace, chosen))

    def stop(self, chosen: str | None) -> StopResult:
        from ftlab.training import supervisor

        return supervisor.stop_evaluation(run_files.chosen_run(self.workspace, chosen))

    def results(self, chosen: str | None) -> Markup:
        return judgements(run_files.chosen_run(self.workspace, chosen))


def build() -> Panel:
    return judge_form.build("judge", "Use another model as judge", _ABOUT, of_run=True)


def outputs(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.box, panel.about, panel.fields["sides"], *panel.progress]


def show(panel: Panel, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the judgments of `run_id`; the box is hidden while there are no answers to judge."""
    run = workspace.run(run_id) if run_id else None
    known = sides_of(run) if run is not None else {}
    if run is None or len(known) < 2:
        return judge_form.hidden(panel)
    first, *others = known
    pairs = [(f"{known[name]} against {known[first]}", f"{first},{name}") for name in others]
    pairs += [(f"{known['adapted']} against {known[name]}", f"{name},adapted") for name in others if _both(name, known)]
    return {
        panel.box: gr.update(visible=True),
        panel.about: judge_form.about_key(_ABOUT),
        panel.fields["sides"]: gr.update(choices=pairs),
        **judge_form.progress(panel, OfRun(workspace), run.id),
    }


def _both(name: str, known: dict[str, str]) -> bool:
    return "adapted" in known and name != "adapted"


_SHOWN_REPLIES = 20
_SHOWN_JUDGEMENTS = 5


def judgements(run: RunDirectory) -> Markup:
    """The judgments of the answers of `run`, newest first."""
    return join(_judgement(run, judgement) for judgement in run_files.judgements(run)[:_SHOWN_JUDGEMENTS])


def _judgement(run: RunDirectory, judgement: JudgementJson) -> Markup:
    current = is_current(run, judgement)
    text, *more = judge_lines(judgement, current=current)
    kind = {True: "good", False: "bad", None: "info"}[judgement["better"]] if current else "warn"
    settings = [("Judged", when(judgement["created"])), ("Rule", judgement["rule"]), ("Test", judgement["test"])]
    settings += [
        ("Better is", judgement["settings"]["criteria"]),
        ("Reference shown", judgement["settings"]["reference"]),
    ]
    return Markup('<section class="ft-card">{}{}{}{}{}</section>').format(
        notice(text, kind=kind),
        table(["Verdict", "Rows"], judge_figures(judgement), label="What the judge prefers", numbers=(1,)),
        Markup('<ul class="ft-notes">{}</ul>').format(list_items(more)),
        details("How it was judged", table(["Setting", "Value"], settings, label="Settings of the judgement")),
        _replies(run, judgement),
    )


def _replies(run: RunDirectory, judgement: JudgementJson) -> Markup:
    """Some of the judge's replies."""
    replies = [line for line in run_files.judged_answers(run) if line["judgement"] == judgement["id"]]
    replies = sorted(replies, key=lambda line: line["row"])[:_SHOWN_REPLIES]  # both orders of a row one below the other
    if not replies:
        return Markup()
    titles = judgement["titles"]
    rows = [
        [
            line["row"],
            " / ".join(titles[side] for side in line["order"]),
            titles.get(line["choice"], line["choice"] or "no choice"),
            text_cell(read_reason(line["reply"]) or line["reply"]),
        ]
        for line in replies
    ]
    body = table(["Row", "A / B", "Choice", "Reply"], rows, label="Replies of the judge", css="ft-answers")
    return details(f"What it wrote ({counted(len(rows), 'reply', 'replies')})", body)
