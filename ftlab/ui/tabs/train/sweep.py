"""Sweeps: start the run in the form with several values of one or two settings, and see which did best.

elem_ids: on the Train tab `sweep_box` (folded), `sweep_first`, `sweep_first_values`, `sweep_second`,
`sweep_second_values`, `sweep_start`, `sweep_message`; on the Runs tab `sweeps_box` (folded), `sweeps_sweep` (dropdown),
`sweeps_look`, `sweeps_message`, `sweeps_result`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.figures import number, percent
from ftlab.report.charts import Series, metric_points, plot
from ftlab.training import sweep as sweeps
from ftlab.ui import background, run_files
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import NOTHING, duration, empty, heading, join, notice, table
from ftlab.ui.run_view import run as run_view

_COLOURS = "abcd"


@dataclass(frozen=True)
class SweepForm:
    """What to vary, on the Train tab."""

    settings: tuple[gr.Dropdown, gr.Dropdown]
    values: tuple[gr.Textbox, gr.Textbox]
    start: gr.Button
    message: gr.HTML


@dataclass(frozen=True)
class SweepResults:
    """The results, on the Runs tab."""

    sweep: gr.Dropdown
    look: gr.Button
    message: gr.HTML
    result: gr.HTML


def build_form() -> SweepForm:
    choices = [("nothing", ""), *((title, path) for path, title in sweeps.settings_to_vary().items())]
    drawn = {"first": "optimisation.learning_rate", "second": ""}
    settings, values = [], []
    with gr.Accordion("Try several values (a sweep)", open=False, elem_id="sweep_box"):
        gr.HTML('<span class="ft-help">Queues a run for every combination. Compare them on the Runs tab.</span>')
        for name, value in drawn.items():
            with gr.Row():
                settings.append(
                    gr.Dropdown(choices, value=value, label="Setting", elem_id=f"sweep_{name}", min_width=150)
                )
                values.append(
                    gr.Textbox(
                        label="Values",
                        placeholder="1e-3, 4e-3",
                        max_lines=1,
                        elem_id=f"sweep_{name}_values",
                        min_width=150,
                    )
                )
        start = gr.Button("Start the sweep", elem_id="sweep_start", size="sm")
        message = message_box("sweep_message")
    return SweepForm((settings[0], settings[1]), (values[0], values[1]), start, message)


def build_results(workspace: Workspace) -> SweepResults:
    with gr.Accordion("Sweeps", open=False, elem_id="sweeps_box"):
        with gr.Row(elem_classes="ft-controls"):
            chosen = gr.Dropdown(_choices(workspace), value=None, label="Sweep", elem_id="sweeps_sweep", min_width=220)
            look = gr.Button("Look again", elem_id="sweeps_look", size="sm", scale=0, min_width=120)
        message = message_box("sweeps_message")
        result = gr.HTML(nothing_yet(), elem_id="sweeps_result")
    return SweepResults(chosen, look, message, result)


def wire_form(
    form: SweepForm, inputs: Sequence[Any], configured: Callable[[Sequence[Any]], RunConfig], workspace: Workspace
) -> None:
    """`configured` makes the run of the Train tab's form from the values of `inputs`."""

    def start(*values: Any) -> dict[Any, Any]:
        *rest, first, first_values, second, second_values = values
        vary = {
            path: sweeps.read_values(path, text or "")
            for path, text in ((first, first_values), (second, second_values))
            if path
        }
        if first and first == second:
            raise InputError("Both settings are the same", given=first, try_="choose another second setting, or none")
        config = configured(rest)
        background.release_models(config.launcher.device)
        started = sweeps.submit_sweep(config, vary, workspace)
        queued = f"{counted(len(started.runs), 'run')} queued. You can close this page."
        return {form.message: notice(queued, kind="good")}

    both = [part for pair in zip(form.settings, form.values, strict=True) for part in pair]
    on(form.start.click, start, [*inputs, *both], [], box=form.message, progress="minimal", concurrency_limit=1)


def wire_results(tab: SweepResults, workspace: Workspace, opened: Any) -> None:
    def look(sweep_id: str | None) -> dict[Any, Any]:
        choices = _choices(workspace)
        known = [value for _, value in choices]
        sweep_id = sweep_id if sweep_id in known else next(iter(known), None)
        body = result(sweep_id, workspace) if sweep_id else nothing_yet()
        return {tab.sweep: gr.update(choices=choices, value=sweep_id), tab.result: body}

    looks = any_of(opened, tab.look.click, tab.sweep.input)
    on(looks, look, [tab.sweep], [tab.sweep, tab.result], box=tab.message, trigger_mode="always_last")


def nothing_yet() -> Markup:
    return empty("There are no sweeps yet.", "Start one on the Train tab under “Try several values”.")


def result(sweep_id: str, workspace: Workspace) -> Markup:
    """The runs of a sweep as a table, best first, and their curves."""
    sweep = sweeps.find_sweep(sweep_id, workspace)
    rows = sweeps.compare(sweep, workspace)
    titles = sweeps.settings_to_vary()
    cells = [
        [
            *(row["values"].get(path, NOTHING) for path in sweep.settings),
            run_view.state_badge(row["state"]),
            number(row["validation_loss"]) if row["validation_loss"] is not None else NOTHING,
            _share(row["exact_match"]),
            _share(row["general_accuracy"]),
            _share(row["general_accuracy_replayed"]),
            _share(row["base_agreement"]),
            duration(row["seconds"]),
            row["run"],
        ]
        for row in rows
    ]
    headers = [*(titles.get(path, path) for path in sweep.settings), "State", "Validation loss", "Exact match"]
    headers += ["General questions (kinds not replayed)", "General questions (replayed kinds)"]
    headers += ["Same next token as the base", "Took", "Run"]
    curves = [
        Series(
            ", ".join(map(str, row["values"].values())),
            metric_points(run_files.metrics(workspace.run(row["run"])), "eval_loss"),
            colour,
            dots=True,
        )
        for row, colour in zip(rows, _COLOURS, strict=False)
    ]
    try:
        verdict = sweeps.verdict(sweep, workspace)
        notices = join(notice(text, kind="info") for text in [verdict.text, *verdict.notes]) if verdict else Markup("")
    except FtlabError as error:
        notices = notice(str(error), kind="info")
    more = f" The first {len(_COLOURS)} of {len(rows)} in the table." if len(rows) > len(_COLOURS) else ""
    return Markup('<section class="ft-card">{}{}{}{}</section>').format(
        notices,
        heading("Best first", "By exact match on held-out rows, then by the lowest validation loss."),
        table(headers, cells, label="Runs of the sweep", css="ft-rows ft-runs"),
        plot(
            curves, title="Validation loss", unit="nats per token", help=f"On examples never used for training.{more}"
        ),
    )


def _share(value: float | None) -> str | Markup:
    """A share from 0 to 1 as a number and a bar of that length."""
    if value is None:
        return NOTHING
    return Markup('<span class="ft-share"><i style="width:{:.0f}%"></i></span> {}').format(100 * value, percent(value))


def _choices(workspace: Workspace) -> list[tuple[str, str]]:
    return [
        (
            f"{sweep.id}: {join((path.split('.')[-1] for path in sweep.settings), ' and ')} ({len(sweep.runs)} runs)",
            sweep.id,
        )
        for sweep in sweeps.sweeps(workspace)
    ]
