"""Compare the selected run with a model behind a URL, or with answers from a file, on the Evaluate tab.

The panel first shows what will be sent where, and the cost. Only then does the send button appear. The work is an
ordinary evaluation: the strip shows its progress and can stop it.

elem_ids: `against_box` (folded; hidden without a run), `against_side`, `against_price_in`, `against_price_out`,
`against_price`, `against_margin`, `against_look`, `against_send`, `against_message`, `against_plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.endpoint import CONTESTANT
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import background, job_strip, run_files
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.forms import price
from ftlab.ui.kit.html import list_items, notice


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    side: gr.Textbox
    price_in: gr.Textbox
    price_out: gr.Textbox
    price: gr.Textbox
    margin: gr.Textbox
    look: gr.Button
    send: gr.Button
    message: gr.HTML
    plan: gr.HTML
    planned: gr.State  # (run id, side, price per hour, margin) of the displayed plan

    @property
    def form(self) -> list[Any]:
        return [self.side, self.price_in, self.price_out, self.price, self.margin]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.box]


def build() -> Panel:
    def line(label: str, name: str, info: str, **settings: Any) -> gr.Textbox:
        return gr.Textbox("", label=label, info=info, max_lines=1, elem_id=f"against_{name}", **settings)

    with gr.Accordion("Compare with a model elsewhere", open=False, visible=False, elem_id="against_box") as box:
        gr.HTML(
            Markup(
                '<p class="ft-help">It answers the same held-out rows and stands beside base and adapted model. '
                "Nothing is sent before you have seen what it takes. The key is read from {}, in the environment in "
                "which ftlab was started.</p>"
            ).format(CONTESTANT.key_variable)
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            side = line(
                "Address and model, or a file of answers",
                "side",
                "OpenAI-compatible; or a JSONL file with a prompt and an answer a line.",
                placeholder="https://api.example.com/v1#their-model",
                scale=3,
                min_width=320,
            )
            margin = line("Margin", "margin", "Points worse that are still good enough.", min_width=140)
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            price_in = line("Price of input", "price_in", "Per million tokens.", min_width=140)
            price_out = line("Price of output", "price_out", "Per million tokens.", min_width=140)
            hour = line("Price of this machine", "price", "Per hour.", min_width=140)
        with gr.Row():
            look = gr.Button("Show what it takes", elem_id="against_look", scale=0, min_width=230)
            send = gr.Button(
                "Compare", variant="primary", visible=False, elem_id="against_send", scale=0, min_width=230
            )
        message = message_box("against_message")
        plan = gr.HTML(elem_id="against_plan", elem_classes="ft-maybe")
    return Panel(box, side, price_in, price_out, hour, margin, look, send, message, plan, gr.State(None))


def wire(panel: Panel, run: gr.Dropdown, strip: job_strip.Strip, workspace: Workspace) -> None:
    """Wire the handlers. `run` is the component that selects the run."""

    def look(run_id: str | None, text: str, price_in: str, price_out: str, hour: str, margin: str) -> dict[Any, Any]:
        from ftlab.evaluation.compare import material_against
        from ftlab.evaluation.margins import rows_for
        from ftlab.evaluation.outside import plan, read_against
        from ftlab.evaluation.request import Request

        chosen = run_files.chosen_run(workspace, run_id)
        prices = price("The price of input", price_in), price("The price of output", price_out)
        side = read_against(text or "", price_in=prices[0], price_out=prices[1])
        points = _points(margin)
        material = material_against(chosen, Request())
        planned = plan(chosen, side, material) if side.url else None
        lines = planned.lines() if planned else [f"Nothing is sent: {side.title} is a file of answers."]
        lines += [rows_for(points, len(material.rows), material.clusters)] if points is not None else []
        sends = f"Send {counted(planned.open, 'request')}" if planned and planned.open else "Compare"
        per_hour = price("The price of this machine", hour)
        return {
            panel.plan: notice(Markup("<ul>{}</ul>").format(list_items(lines))),
            panel.send: gr.update(visible=True, value=sends),
            panel.planned: (chosen.id, side.as_dict(), per_hour, points),
        }

    def send(planned: tuple[str, dict[str, Any], float | None, float | None] | None) -> dict[Any, Any]:
        from ftlab.evaluation.outside import Outside
        from ftlab.evaluation.request import Request
        from ftlab.training import supervisor

        if planned is None:
            raise InputError("Nothing was planned yet", try_="press Show what it takes")
        run_id, side, per_hour, points = planned
        chosen = workspace.run(run_id)
        settings = {} if points is None else {"margin": points}
        request = Request(settings=settings, against=[Outside.from_dict(side)], price_per_hour=per_hour)
        supervisor.submit_evaluation(chosen, workspace, request)
        background.make_room(chosen)
        told = notice("Started. The result appears above when it is there; answers are kept as they come.")
        return {**_unplanned(panel), panel.message: told, **job_strip.at_work(strip, workspace)}

    def forget() -> dict[Any, Any]:
        return _unplanned(panel)

    cost = [panel.plan, panel.send, panel.planned]
    shows: dict[str, Any] = {"box": panel.message, "lane": "cost of a side"}
    on(panel.look.click, look, [run, *panel.form], cost, progress="minimal", **shows)
    started = [*cost, panel.message, strip.box, strip.stop, strip.job]
    on(panel.send.click, send, [panel.planned], started, progress="minimal", **shows)
    # A plan made for other settings is invalid.
    typed = any_of(*(field.input for field in panel.form))
    on(typed, forget, [], cost, trigger_mode="always_last", **shows)
    on(run.change, forget, [], cost, clears=False, trigger_mode="always_last", **shows)


def show(panel: Panel, run_id: str | None) -> dict[Any, Any]:
    return {panel.box: gr.update(visible=bool(run_id))}


def _points(text: str | None) -> float | None:
    """The margin in points. Raises InputError if it is not a valid margin."""
    points = price("Margin", text)
    if points is not None and not 0 < points <= 100:
        raise InputError("Margin cannot take this value", given=text, allowed="above 0, at most 100 points")
    return points


def _unplanned(panel: Panel) -> dict[Any, Any]:
    return {panel.plan: "", panel.send: gr.update(visible=False), panel.planned: None}
