"""Was fine-tuning the right choice? A short form, and advice with reasons, sources and the figures of the selected run.

elem_ids: `advisor_box` (folded), `advisor_change`, `advisor_freshness`, `advisor_examples`, `advisor_text_mb`,
`advisor_budget`, `advisor_latency`, `advisor_message`, `advisor_result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.workspace import Workspace
from ftlab.evaluation.advisor import QUESTIONS, STANDS, Advice, Question, Recommendation, advise, build_needs
from ftlab.report.measures import evidence_of
from ftlab.ui import run_files
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import badge, empty, join, list_items, notice

_KINDS = {"now": "good", "later": "warn", "no": "info"}
_DEFAULTS = {"freshness": "yearly", "budget": "small", "latency": "relaxed"}


@dataclass(frozen=True)
class Panel:
    form: list[Any]  # one component for each of QUESTIONS
    message: gr.HTML
    result: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.result]


def build() -> Panel:
    with gr.Accordion("Prompt, retrieve or tune?", open=False, elem_id="advisor_box"):
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            form = [_field(question) for question in QUESTIONS]
        message = message_box("advisor_message")
        result = gr.HTML(_nothing(), elem_id="advisor_result")
    return Panel(form, message, result)


def wire(panel: Panel, run: gr.Dropdown, workspace: Workspace) -> None:
    """Wire the handlers. `run` is the component that selects the run whose figures are used."""

    def answer(run_id: str | None, *values: Any) -> dict[Any, Any]:
        return show(panel, run_id, workspace, *values)

    on(
        any_of(*(field.change for field in panel.form), run.change),
        answer,
        [run, *panel.form],
        panel.outputs,
        box=panel.message,
        queue=False,
        trigger_mode="always_last",
    )


def show(panel: Panel, run_id: str | None, workspace: Workspace, *values: Any) -> dict[Any, Any]:
    """Updates that show the advice for the answers `values`, in the order of QUESTIONS."""
    answers = dict(zip((question.name for question in QUESTIONS), values, strict=True))
    change = answers.pop("change") or []
    if not change:
        return {panel.result: _nothing()}
    needs = build_needs(change, **{name: value for name, value in answers.items() if value not in (None, "")})
    comparison = run_files.comparison(workspace.run(run_id).with_ways()) if run_id else None
    return {panel.result: advice(advise(needs, evidence_of(comparison)))}


def advice(advised: Advice) -> Markup:
    """The advice as one card: the first step at the top, every reason with its source."""
    figures = list_items(advised.figures)
    steps = list_items(advised.steps)
    return Markup('<section class="ft-card">{}{}{}{}</section>').format(
        notice(Markup("<strong>{}</strong>").format(advised.summary)),
        Markup('<div class="ft-help">Measured on your data:</div><ul class="ft-notes">{}</ul>').format(figures)
        if figures
        else "",
        join(_recommendation(item) for item in advised.recommendations),
        Markup('<div><strong>Next</strong><ul class="ft-notes">{}</ul></div>').format(steps) if steps else "",
    )


def _recommendation(item: Recommendation) -> Markup:
    reasons = join(
        Markup("<li>{}{}</li>").format(
            reason.text,
            Markup('<br><span class="ft-help">{}</span>').format(reason.source) if reason.source else "",
        )
        for reason in item.reasons
    )
    return Markup('<div><strong>{}</strong> {}<ul class="ft-notes">{}</ul></div>').format(
        item.title, badge(STANDS[item.stand], _KINDS[item.stand]), reasons
    )


def _field(question: Question) -> Any:
    choices = [(meaning[0].upper() + meaning[1:], name) for name, meaning in question.options.items()]
    settings: dict[str, Any] = {"label": question.title, "info": question.help, "elem_id": f"advisor_{question.name}"}
    if question.name == "change":
        return gr.CheckboxGroup(choices, value=[], min_width=560, **settings)
    if choices:
        return gr.Dropdown(choices, value=_DEFAULTS[question.name], min_width=260, **settings)
    return gr.Textbox("0", max_lines=1, min_width=180, **settings)


def _nothing() -> Markup:
    return empty("Choose what should change.", "Advice appears right away.")
