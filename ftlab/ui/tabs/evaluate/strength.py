"""How much of the training change to apply, on the Evaluate tab: measured, charted, and set without a new run.

elem_ids: `strength_box` (folded; says why for runs whose method has none), `strength_measure`, `strength_slider`,
`strength_at` (the figures at the strength of the slider), `strength_keep`, `strength_message`, `strength_result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.models.strength import AS_TRAINED, GRID, HIGHEST, why_not
from ftlab.training import supervisor
from ftlab.ui import background, job_strip, run_files
from ftlab.ui.kit.events import message_box, on
from ftlab.ui.kit.html import empty, join, notice
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.evaluate.result import strength_line, strengths_view

_ABOUT = (
    "How much of the trained change to apply. Less keeps more of the base: 0 is the base, 1 the model as "
    "trained. No new run; the weights stay unchanged."
)


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    measure: gr.Button
    controls: gr.Row
    slider: gr.Slider
    at: gr.HTML
    keep: gr.Button
    message: gr.HTML
    result: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.box, self.result, self.controls, self.measure, self.at]


def build() -> Panel:
    with gr.Accordion("Strength", open=False, visible=False, elem_id="strength_box") as box:
        gr.HTML(Markup('<p class="ft-help">{}</p>').format(_ABOUT))
        result = gr.HTML(elem_id="strength_result", elem_classes="ft-maybe")
        tried = ", ".join(f"{strength:g}" for strength in GRID)
        measure = gr.Button(
            f"Measure {tried}", elem_id="strength_measure", elem_classes="ft-act", size="sm", min_width=220
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls") as controls:
            slider = gr.Slider(
                0.05,
                HIGHEST,
                AS_TRAINED,
                step=0.05,
                label="Strength",
                info="Move the slider to see the figures. Press the button to use that strength in chat, exports and "
                "blind tests.",
                elem_id="strength_slider",
                scale=3,
                min_width=260,
            )
            keep = gr.Button("Use this strength", elem_id="strength_keep", scale=1, min_width=180)
        at = gr.HTML(elem_id="strength_at")
        message = message_box("strength_message")
    return Panel(box, measure, controls, slider, at, keep, message, result)


def wire(panel: Panel, run: gr.Dropdown, strip: job_strip.Strip, workspace: Workspace) -> None:
    """Wire the handlers. `run` is the component that selects the run."""

    def measure(run_id: str | None) -> dict[Any, Any]:
        chosen = run_files.chosen_run(workspace, run_id)
        supervisor.submit_evaluation(chosen, workspace, strengths=True)
        background.make_room(chosen)
        return {**show(panel, chosen.id, workspace), panel.at: gr.skip(), **job_strip.at_work(strip, workspace)}

    def keep(run_id: str | None, strength: float) -> dict[Any, Any]:
        from ftlab.evaluation.strengths import choose

        chosen = run_files.chosen_run(workspace, run_id)
        at = choose(chosen, round(float(strength), 2))
        text = "Chat, exports and blind tests use this run as trained."
        if at != AS_TRAINED:
            text = f"Chat, exports and blind tests use this run at strength {at:g}. Its weights are unchanged."
        return {panel.message: notice(text, kind="good"), **show(panel, run_id, workspace), panel.at: gr.skip()}

    def choose_run(run_id: str | None) -> dict[Any, Any]:
        at = run_files.strength(workspace.run(run_id)) if run_id else AS_TRAINED
        return {panel.slider: at, **show(panel, run_id, workspace), panel.at: _at(run_id, at, workspace)}

    def move(run_id: str | None, strength: float | None) -> dict[Any, Any]:
        return {panel.at: _at(run_id, strength, workspace)}

    changed = [*panel.outputs, strip.box, strip.stop, strip.job]
    on(panel.measure.click, measure, [run], changed, box=panel.message, progress="minimal")
    on(panel.keep.click, keep, [run, panel.slider], panel.outputs, box=panel.message)
    on(panel.slider.change, move, [run, panel.slider], [panel.at], box=panel.message, clears=False, queue=False)
    on(
        run.change,
        choose_run,
        [run],
        [panel.slider, *panel.outputs],
        box=panel.message,
        queue=False,
        trigger_mode="always_last",
    )


def show(panel: Panel, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the measured strengths of `run_id`; the slider stays if somebody has moved it."""
    run = workspace.run(run_id) if run_id else None
    config = run_files.config(run) if run else None
    if run is None or config is None or not run.has_result or config.is_reward_model:
        return {panel.box: gr.update(visible=False), panel.result: ""}
    reason = why_not(config)
    usable = {component: gr.update(visible=reason is None) for component in (panel.controls, panel.measure, panel.at)}
    body = empty("This run has no adjustable strength.", reason) if reason else _known(run)
    return {panel.box: gr.update(visible=True), panel.result: body, **usable}


def _at(run_id: str | None, strength: float | None, workspace: Workspace) -> Markup:
    """The measurements at the slider's strength."""
    from ftlab.evaluation.strengths import strengths_of

    measured = strengths_of(workspace.run(run_id)) if run_id else None
    return strength_line(measured, round(float(strength or 0), 2)) if measured else Markup("")


def _known(run: RunDirectory) -> Markup:
    from ftlab.evaluation.strengths import strengths_of

    measured, at = strengths_of(run), run_files.strength(run)
    text = f"In use: strength {at:g}. The verdict and table above describe the model as trained."
    used = notice(text) if at != AS_TRAINED else ""
    state = run_view.measuring(run, supervisor.STRENGTHS, "Measuring the strengths")
    if measured is None:
        todo = "Press Measure to evaluate each strength on the validation rows, including what was kept."
        return join([state, used, "" if state else empty("Not measured yet.", todo)])
    return join([state, used, strengths_view(measured)])
