"""Let another model judge the answers of the selected run, on the Evaluate tab. Off by default.

The panel first shows what will be sent where, and the cost. Only then does the send button appear. The work is a
separate process: the box and the strip show its progress and can stop it.

elem_ids: `judge_box` (folded; hidden while the run has no answers), `judge_about`, `judge_url`, `judge_model`,
`judge_sides`, `judge_rows`, `judge_price_in`, `judge_price_out`, `judge_more` (folded: `judge_criteria`,
`judge_reference`, `judge_at_once`, `judge_max_tokens`), `judge_look`, `judge_send`, `judge_stop`, `judge_message`,
`judge_plan`, `judge_result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.endpoint import JUDGE, find_key
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import JudgementJson
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.judge import is_current
from ftlab.evaluation.judge_plan import CRITERIA, JudgeSettings, build_settings, plan, read_reason, sides_of
from ftlab.report.findings import judge_figures, judge_lines
from ftlab.ui import job_strip, run_files
from ftlab.ui.kit.answer_tables import text_cell
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.forms import price, whole_number
from ftlab.ui.kit.html import count, details, error_box, join, list_items, notice, stop_note, table, when
from ftlab.ui.run_view import run as run_view

_POLL_SECONDS = 1.0
_DEFAULT_SIDES = "base,adapted"


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    about: gr.HTML
    url: gr.Textbox
    model: gr.Textbox
    sides: gr.Dropdown
    rows: gr.Textbox
    price_in: gr.Textbox
    price_out: gr.Textbox
    criteria: gr.Textbox
    reference: gr.Checkbox
    at_once: gr.Textbox
    max_tokens: gr.Textbox
    look: gr.Button
    send: gr.Button
    stop: gr.Button
    message: gr.HTML
    plan: gr.HTML
    result: gr.HTML
    timer: gr.Timer  # ticks while a judge is running
    planned: gr.State  # (run id, settings) whose cost is displayed: exactly this is sent

    @property
    def form(self) -> list[Any]:
        """The fields, in the order of the arguments of `_read`."""
        return [
            *(self.url, self.model, self.sides, self.rows, self.price_in, self.price_out),
            *(self.criteria, self.reference, self.at_once, self.max_tokens),
        ]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.box, self.about, self.sides, *self.progress]

    @property
    def progress(self) -> list[Any]:
        return [self.result, self.stop, self.timer]


def build() -> Panel:
    def line(label: str, name: str, value: str = "", **settings: Any) -> gr.Textbox:
        return gr.Textbox(value, label=label, max_lines=1, elem_id=f"judge_{name}", **settings)

    with gr.Accordion("Use another model as judge", open=False, visible=False, elem_id="judge_box") as box:
        about = gr.HTML(_about(), elem_id="judge_about")
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            url = line(
                "Address",
                "url",
                info="OpenAI-compatible.",
                placeholder="https://api.example.com/v1",
                scale=3,
                min_width=260,
            )
            model = line("Model", "model", info="The name used at that address.", scale=2, min_width=180)
            sides = gr.Dropdown(
                [("Adapted against Base", _DEFAULT_SIDES)],
                value=_DEFAULT_SIDES,
                label="Whose answers",
                allow_custom_value=True,
                info="Each row is judged in both orders.",
                elem_id="judge_sides",
                scale=2,
                min_width=200,
            )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            rows = line("Rows at most", "rows", info="Empty: all.", min_width=140)
            price_in = line("Price of input", "price_in", info="Per million tokens.", min_width=140)
            price_out = line("Price of output", "price_out", info="Per million tokens.", min_width=140)
        with gr.Accordion("How it judges", open=False, elem_id="judge_more"):
            criteria = gr.Textbox(
                CRITERIA, label="What makes an answer better", lines=3, max_lines=8, elem_id="judge_criteria"
            )
            reference = gr.Checkbox(True, label="Show it the reference answer", elem_id="judge_reference")
            with gr.Row(equal_height=False, elem_classes="ft-controls"):
                at_once = line(
                    "Requests at once", "at_once", "4", info="Lower this if the server is busy.", min_width=140
                )
                max_tokens = line("Longest reply", "max_tokens", "1024", info="In tokens.", min_width=140)
        with gr.Row():
            look = gr.Button("Show what it will take", elem_id="judge_look", scale=0, min_width=230)
            send = gr.Button("Send", variant="primary", visible=False, elem_id="judge_send", scale=0, min_width=230)
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="judge_stop", scale=0, min_width=110)
        message = message_box("judge_message")
        plan_ = gr.HTML(elem_id="judge_plan", elem_classes="ft-maybe")
        result = gr.HTML(elem_id="judge_result", elem_classes="ft-maybe")
    return Panel(
        *(box, about, url, model, sides, rows, price_in, price_out, criteria, reference, at_once, max_tokens),
        *(look, send, stop, message, plan_, result, gr.Timer(_POLL_SECONDS, active=False), gr.State(None)),
    )


def wire(panel: Panel, run: gr.Dropdown, strip: job_strip.Strip, workspace: Workspace) -> None:
    """Wire the handlers. `run` is the component that selects the run."""

    def look(run_id: str | None, *values: Any) -> dict[Any, Any]:
        chosen, settings = run_files.chosen_run(workspace, run_id), _read(*values)
        planned = plan(chosen, settings)
        label = f"Send {counted(planned.open, 'request')}" if planned.open else "Show the result"
        send = gr.update(visible=True, value=label)
        return {
            panel.plan: notice(Markup("<ul>{}</ul>").format(list_items(planned.lines()))),
            panel.send: send,
            panel.planned: (chosen.id, settings.as_dict()),
        }

    def send(planned: tuple[str, dict[str, Any]] | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        if planned is None:
            raise InputError("Nothing planned yet", try_="press Show what it will take")
        run_id, settings = planned
        run_ = workspace.run(run_id)
        supervisor.submit_judging(run_, workspace, JudgeSettings.from_dict(settings))
        return {
            **_unplanned(panel),
            **_progress(panel, run_),
            **job_strip.at_work(strip, workspace),
        }

    def follow(run_id: str | None) -> dict[Any, Any]:
        return _progress(panel, run_files.chosen_run(workspace, run_id))

    def stop(run_id: str | None) -> dict[Any, Any]:
        from ftlab.training import supervisor

        chosen = run_files.chosen_run(workspace, run_id)
        return {panel.message: stop_note(supervisor.stop_evaluation(chosen)), **_progress(panel, chosen)}

    def forget() -> dict[Any, Any]:
        return _unplanned(panel)

    cost = [panel.plan, panel.send, panel.planned]
    shows: dict[str, Any] = {"box": panel.message, "lane": "cost of a judge"}
    on(panel.look.click, look, [run, *panel.form], cost, progress="minimal", **shows)
    started = [*cost, *panel.progress, strip.box, strip.stop, strip.job]
    on(panel.send.click, send, [panel.planned], started, progress="minimal", **shows)
    on(panel.stop.click, stop, [run], panel.progress, box=panel.message, queue=False)
    on(panel.timer.tick, follow, [run], panel.progress, box=panel.message, clears=False, queue=False)
    # A cost computed for other settings is invalid. Not `change`: a new list of runs is not a choice.
    typed = any_of(*(field.input for field in panel.form))
    on(typed, forget, [], cost, trigger_mode="always_last", **shows)
    on(run.change, forget, [], cost, clears=False, trigger_mode="always_last", **shows)


def show(panel: Panel, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the judgments of `run_id`; the box is hidden while there are no answers to judge."""
    run = workspace.run(run_id) if run_id else None
    known = sides_of(run) if run is not None else {}
    if run is None or len(known) < 2:
        still = {panel.stop: gr.update(visible=False), panel.timer: gr.Timer(active=False)}
        return {panel.box: gr.update(visible=False), panel.result: "", **still}
    first, *others = known
    pairs = [(f"{known[name]} against {known[first]}", f"{first},{name}") for name in others]
    pairs += [(f"{known['adapted']} against {known[name]}", f"{name},adapted") for name in others if _both(name, known)]
    return {
        panel.box: gr.update(visible=True),
        panel.about: _about(),
        panel.sides: gr.update(choices=pairs),
        **_progress(panel, run),
    }


def _progress(panel: Panel, run: RunDirectory) -> dict[Any, Any]:
    """Updates that show a judge's progress, or its result."""
    from ftlab.training import supervisor

    status = supervisor.judging_status(run)
    working = status is not None and status.is_active
    again = status is not None and status.state == "stopping"
    return {
        panel.result: judgements(run),
        panel.stop: gr.update(visible=working, value="Kill it now" if again else "Stop"),
        panel.timer: gr.Timer(active=working),
    }


def _read(
    url: str | None,
    model: str | None,
    sides: str | None,
    rows: str | None,
    price_in: str | None,
    price_out: str | None,
    criteria: str | None,
    reference: bool,
    at_once: str | None,
    max_tokens: str | None,
) -> JudgeSettings:
    return build_settings(
        url,
        model,
        sides=(sides or _DEFAULT_SIDES).split(","),
        rows=whole_number("Rows at most", rows),
        criteria=criteria,
        reference=bool(reference),
        price_in=price("The price of input", price_in),
        price_out=price("The price of output", price_out),
        at_once=whole_number("Requests at once", at_once) or 4,
        max_tokens=whole_number("Longest reply", max_tokens) or 1024,
    )


def _about() -> Markup:
    """A description, and whether a key is set; never the key itself."""
    text = (
        "A model of your choice reads both answers and says which is better. That is the model's opinion, not "
        "people's. Nothing is sent until you have seen what it will take."
    )
    try:
        key = (
            f"{JUDGE.key_variable} is set; it is sent only to that address."
            if find_key()
            else (
                f"{JUDGE.key_variable} is not set, so only addresses that need no key will work. Keys are read only "
                "from the environment ftlab was started in."
            )
        )
    except FtlabError as error:
        return Markup('<p class="ft-help">{}</p>{}').format(text, error_box(error))
    return Markup('<p class="ft-help">{} {}</p>').format(text, key)


def _unplanned(panel: Panel) -> dict[Any, Any]:
    return {panel.plan: "", panel.send: gr.update(visible=False), panel.planned: None}


def _both(name: str, known: dict[str, str]) -> bool:
    return "adapted" in known and name != "adapted"


_SHOWN_REPLIES = 20
_SHOWN_JUDGEMENTS = 5


def judgements(run: RunDirectory) -> Markup:
    """The judgments of the answers of `run`, newest first, and the error of the last attempt if it failed."""
    from ftlab.training import supervisor

    parts = []
    status = supervisor.judging_status(run)
    if status is not None and status.is_active:
        far = f": {count(status.done)} of {count(status.total)} requests" if status.total else ""
        does = "is stopping" if status.state == "stopping" else "is at work"
        parts.append(notice(f"A judge {does}{far}. Finished judgments are kept, even if you stop."))
    elif status is not None and status.error:
        parts.append(run_view.failure(status.error))
    elif status is not None and status.state == "stopped":
        parts.append(notice("Judging stopped. Finished judgments are kept. Send again to continue.", kind="warn"))
    parts += [_judgement(run, judgement) for judgement in run_files.judgements(run)[:_SHOWN_JUDGEMENTS]]
    return join(parts)


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
