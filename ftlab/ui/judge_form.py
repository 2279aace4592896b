"""The form with which another model judges answers: the cost first, then the button that sends exactly that.

Evaluate has one for the answers of a run, Blind test one for those of a test. The work is a separate process: the box
and the strip show its progress and can stop it. Off by default.

elem_ids, each after the prefix of its tab: `box` (folded), `about`, `url`, `model`, `sides` and `rows` (of a run only),
`price_in`, `price_out`, `more` (folded: `criteria`, `reference`, `at_once`, `max_tokens`), `look`, `send`, `stop`,
`message`, `plan`, `result`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr
from markupsafe import Markup

from ftlab.core.endpoint import JUDGE, find_key
from ftlab.core.jobs import Status, StopResult
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.judge_plan import CRITERIA, Plan
from ftlab.ui import job_strip
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.forms import price, whole_number
from ftlab.ui.kit.html import count, error_box, list_items, notice, stop_note
from ftlab.ui.run_view import run as run_view

_POLL_SECONDS = 1.0
DEFAULT_SIDES = "base,adapted"


class Judged(Protocol):
    """What is judged, by the id that its tab shows: the answers of a run, or those of a blind test."""

    def plan(self, chosen: str | None, typed: Mapping[str, Any]) -> tuple[Plan, Any]:
        """What it takes, and what `start` then gets. `typed` are arguments of `build_settings`, with `sides` and `rows`
        where the form has them."""

    def start(self, planned: Any) -> str:
        """Start it, and return the id of what is judged."""

    def status(self, chosen: str | None) -> Status | None: ...

    def stop(self, chosen: str | None) -> StopResult: ...

    def results(self, chosen: str | None) -> Markup:
        """What the judge said so far, without its progress."""


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    about: gr.HTML
    fields: dict[str, Any]
    look: gr.Button
    send: gr.Button
    stop: gr.Button
    message: gr.HTML
    plan: gr.HTML
    result: gr.HTML
    timer: gr.Timer  # ticks while a judge is running
    planned: gr.State  # what `Judged.start` gets: exactly that whose cost is displayed

    @property
    def form(self) -> list[Any]:
        return list(self.fields.values())

    @property
    def progress(self) -> list[Any]:
        return [self.result, self.stop, self.timer]

    @property
    def cost(self) -> list[Any]:
        return [self.plan, self.send, self.planned]


def build(prefix: str, title: str, about: str, *, of_run: bool = False) -> Panel:
    """The form under `title`, hidden until its tab shows it. `of_run`: with the fields that only a run needs."""
    fields: dict[str, Any] = {}

    def line(name: str, label: str, value: str = "", **settings: Any) -> None:
        fields[name] = gr.Textbox(value, label=label, max_lines=1, elem_id=f"{prefix}_{name}", **settings)

    def button(name: str, label: str, **settings: Any) -> gr.Button:
        return gr.Button(label, elem_id=f"{prefix}_{name}", scale=0, **settings)

    with gr.Accordion(title, open=False, visible=False, elem_id=f"{prefix}_box") as box:
        described = gr.HTML(about_key(about), elem_id=f"{prefix}_about")
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            example = "https://api.example.com/v1"
            line("url", "Address", info="OpenAI-compatible.", placeholder=example, scale=3, min_width=260)
            line("model", "Model", info="The name used at that address.", scale=2, min_width=180)
            if of_run:
                fields["sides"] = gr.Dropdown(
                    [("Adapted against Base", DEFAULT_SIDES)],
                    value=DEFAULT_SIDES,
                    label="Whose answers",
                    allow_custom_value=True,
                    info="Each row is judged in both orders.",
                    elem_id=f"{prefix}_sides",
                    scale=2,
                    min_width=200,
                )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            if of_run:
                line("rows", "Rows at most", info="Empty: all.", min_width=140)
            line("price_in", "Price of input", info="Per million tokens.", min_width=140)
            line("price_out", "Price of output", info="Per million tokens.", min_width=140)
        with gr.Accordion("How it judges", open=False, elem_id=f"{prefix}_more"):
            fields["criteria"] = gr.Textbox(
                CRITERIA if of_run else "",
                label="What makes an answer better",
                info=None if of_run else "Empty: what raters are asked to judge.",
                lines=3,
                max_lines=8,
                elem_id=f"{prefix}_criteria",
            )
            fields["reference"] = gr.Checkbox(True, label="Show it the reference answer", elem_id=f"{prefix}_reference")
            with gr.Row(equal_height=False, elem_classes="ft-controls"):
                line("at_once", "Requests at once", "4", info="Lower this if the server is busy.", min_width=140)
                line("max_tokens", "Longest reply", "1024", info="In tokens.", min_width=140)
        with gr.Row():
            look = button("look", "Show what it will take", min_width=230)
            send = button("send", "Send", variant="primary", visible=False, min_width=230)
            stop = button("stop", "Stop", variant="stop", visible=False, min_width=110)
        message = message_box(f"{prefix}_message")
        plan, result = (gr.HTML(elem_id=f"{prefix}_{name}", elem_classes="ft-maybe") for name in ("plan", "result"))
    clock = gr.Timer(_POLL_SECONDS, active=False)
    return Panel(box, described, fields, look, send, stop, message, plan, result, clock, gr.State(None))


def wire(panel: Panel, chosen: gr.Dropdown, judged: Judged, strip: job_strip.Strip, workspace: Workspace) -> None:
    """Wire the handlers. `chosen` is the component that selects what is judged."""

    def look(chosen_id: str | None, *values: Any) -> dict[Any, Any]:
        plan, planned = judged.plan(chosen_id, _read(dict(zip(panel.fields, values, strict=True))))
        label = f"Send {counted(plan.open, 'request')}" if plan.open else "Show the result"
        return {
            panel.plan: notice(Markup("<ul>{}</ul>").format(list_items(plan.lines()))),
            panel.send: gr.update(visible=True, value=label),
            panel.planned: planned,
        }

    def send(planned: Any) -> dict[Any, Any]:
        if planned is None:
            raise InputError("Nothing planned yet", try_="press Show what it will take")
        at_work = progress(panel, judged, judged.start(planned))
        return {**unplanned(panel), **at_work, **job_strip.at_work(strip, workspace)}

    def follow(chosen_id: str | None) -> dict[Any, Any]:
        return progress(panel, judged, chosen_id)

    def stop(chosen_id: str | None) -> dict[Any, Any]:
        return {panel.message: stop_note(judged.stop(chosen_id)), **progress(panel, judged, chosen_id)}

    def forget() -> dict[Any, Any]:
        return unplanned(panel)

    shows: dict[str, Any] = {"box": panel.message, "lane": "cost of a judge"}
    on(panel.look.click, look, [chosen, *panel.form], panel.cost, progress="minimal", **shows)
    started = [*panel.cost, *panel.progress, strip.box, strip.stop, strip.job]
    on(panel.send.click, send, [panel.planned], started, progress="minimal", **shows)
    on(panel.stop.click, stop, [chosen], panel.progress, box=panel.message, queue=False)
    on(panel.timer.tick, follow, [chosen], panel.progress, box=panel.message, clears=False, queue=False)
    # A cost computed for other settings is invalid. Not `change`: a new list of runs is not a choice.
    typed = any_of(*(field.input for field in panel.form))
    on(typed, forget, [], panel.cost, trigger_mode="always_last", **shows)
    on(chosen.change, forget, [], panel.cost, clears=False, trigger_mode="always_last", **shows)


def hidden(panel: Panel) -> dict[Any, Any]:
    """Updates where there is nothing to judge."""
    still = {panel.stop: gr.update(visible=False), panel.timer: gr.Timer(active=False)}
    return {panel.box: gr.update(visible=False), panel.result: "", **still}


def progress(panel: Panel, judged: Judged, chosen: str | None) -> dict[Any, Any]:
    """Updates that show a judge's progress, or its result."""
    status = judged.status(chosen)
    working = status is not None and status.is_active
    again = status is not None and status.state == "stopping"
    return {
        panel.result: _state(status) + judged.results(chosen),
        panel.stop: gr.update(visible=working, value="Kill it now" if again else "Stop"),
        panel.timer: gr.Timer(active=working),
    }


def unplanned(panel: Panel) -> dict[Any, Any]:
    return {panel.plan: "", panel.send: gr.update(visible=False), panel.planned: None}


def about_key(text: str) -> Markup:
    """A description, and whether a key is set; never the key itself."""
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


def _read(typed: dict[str, Any]) -> dict[str, Any]:
    numbers = {
        "price_in": price("The price of input", typed["price_in"]),
        "price_out": price("The price of output", typed["price_out"]),
        "at_once": whole_number("Requests at once", typed["at_once"]) or 4,
        "max_tokens": whole_number("Longest reply", typed["max_tokens"]) or 1024,
    }
    if "rows" in typed:
        numbers["rows"] = whole_number("Rows at most", typed["rows"])
    return typed | numbers


def _state(status: Status | None) -> Markup:
    """Progress, or the error of the last attempt if it failed."""
    if status is None:
        return Markup("")
    if status.is_active:
        far = f": {count(status.done)} of {count(status.total)} requests" if status.total else ""
        does = "is stopping" if status.state == "stopping" else "is at work"
        return notice(f"A judge {does}{far}. Finished judgments are kept, even if you stop.")
    if status.error:
        return run_view.failure(status.error)
    if status.state == "stopped":
        return notice("Judging stopped. Finished judgments are kept. Send again to continue.", kind="warn")
    return Markup("")
