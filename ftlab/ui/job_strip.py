"""The strip above the tabs: shows on every tab what is running now. Visible only while something runs.

elem_ids: `job_strip` (text and progress bar), `job_stop` (button), `job_message` (what stopping did).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.arena import answers as answering
from ftlab.arena import judging
from ftlab.core.jobs import Status, StopResult
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.events import message_box, on
from ftlab.ui.kit.html import count, duration, join, notice, short, stop_note
from ftlab.ui.run_files import Job
from ftlab.ui.run_view import run as run_view
from ftlab.ui.run_view.preference_curves import decided

_STOPPING = {
    "training": "stops, with what is trained saved; press again to kill it",
    "evaluation": "answers so far are kept; press again to kill it",
}


@dataclass(frozen=True)
class Strip:
    box: gr.HTML
    stop: gr.Button
    message: gr.HTML
    job: gr.State  # key of the job shown: Stop stops this one, even if another has begun since


def build() -> Strip:
    with gr.Row(elem_id="job_row", elem_classes="ft-strip-row"):
        box = gr.HTML(show(None, []), elem_id="job_strip", scale=1)
        stop = gr.Button("Stop", elem_id="job_stop", variant="stop", size="sm", visible=False, scale=0, min_width=110)
    return Strip(box, stop, message_box("job_message"), gr.State(None))


def wire(strip: Strip, workspace: Workspace) -> None:
    stop_by(strip, strip.stop, strip.message, workspace)


def submitted(strip: Strip, run: RunDirectory, workspace: Workspace) -> tuple[Markup | str, dict[Any, Any]]:
    """The message for a run that was just started, and updates that show what is running now.

    No message for the run on display: everything about it is below and stays current, while a message would not.
    """
    job = run_files.current_job(workspace)
    behind = job is not None and job.run != run
    text = f"{run_names.name_of(run, dated=False)} is queued: it starts when what runs now is done."
    return notice(text, kind="good") if behind else "", at_work(strip, workspace)


def at_work(strip: Strip, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show what is running now, for a handler that has just started something."""
    return now(strip, run_files.current_job(workspace), workspace)


def now(strip: Strip, job: Job | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show `job`."""
    return {strip.box: show_now(job, workspace), strip.stop: stop_button(job), strip.job: job.key if job else None}


def stop_by(strip: Strip, button: gr.Button, message: gr.HTML, workspace: Workspace) -> None:
    """Wire `button`, the strip's own or one on a tab, to stop the displayed job; `message` shows the result."""

    def stop(job: str | None) -> dict[Any, Any]:
        stopped = run_files.stop(job, workspace) if job else StopResult("idle", "Nothing is running.")
        now = run_files.current_job(workspace)
        button_now = stop_button(now)
        return {
            message: stop_note(stopped),
            button: button_now,
            strip.stop: button_now,
            strip.box: show_now(now, workspace),
        }

    changed = list(dict.fromkeys([button, strip.stop, strip.box]))
    on(button.click, stop, [strip.job], changed, box=message, queue=False)


def stop_button(job: Job | None) -> dict[str, Any]:
    """The label of the Stop button says what the next press does."""
    if job is None:
        return gr.update(visible=False)
    stopping = job.status.state == "stopping"
    return gr.update(visible=True, value="Kill it now" if stopping else f"Stop {job.kind}")


def show_now(job: Job | None, workspace: Workspace) -> Markup:
    beside = [("Answers for the blind test", *each) for each in answering.at_work(workspace)]
    beside += [("A judge of the blind test", *each) for each in judging.at_work(workspace)]
    return show(job, run_files.metrics(job.run) if job else [], beside)


def show(job: Job | None, metrics: list[dict[str, Any]], blind: Sequence[tuple[str, str, Status]] = ()) -> Markup:
    """One line about the job with its progress bar; empty without one. `blind`: what is done for blind tests, their ids
    and status."""
    beside = join(_blind(*work) for work in blind)
    if job is None and not blind:
        return Markup("")
    line = _line(job, metrics) if job else Markup("")
    return Markup('<div class="ft-strip ft-active" role="status" aria-live="off">{}{}</div>').format(line, beside)


def _line(job: Job, metrics: list[dict[str, Any]]) -> Markup:
    status = job.status
    share, numbers = None, []
    if counted := status.counted:
        unit, done, total = counted
        share = min(1.0, done / total)
        numbers.append(("", f"{'update' if unit == 'step' else unit} {count(done)} of {count(total)}"))
    losses = [row["loss"] for row in metrics if isinstance(row.get("loss"), int | float)]
    if job.kind == "training":
        numbers += _progress(metrics, losses)
    if status.tokens_per_second and status.state != "stopping":
        numbers.append(("speed", f"{count(status.tokens_per_second)} tokens/s"))
    at = run_view.at_step(job.run, status) if job.kind == "training" and status.state == "running" else None
    if at is not None and (left := run_view.left_in_total(job.run, status)):
        numbers.append(("", left))
    elif status.state == "stopping":
        pass  # the rest of the run will not be done
    elif status.eta_seconds is not None:
        numbers.append(("about", f"{duration(status.eta_seconds)} left"))
    elif status.seconds is not None:
        numbers.append(("for", duration(status.seconds)))
    if job.waiting:
        numbers.append(("", f"{job.waiting} more waiting"))
    text = join(
        Markup('<span class="ft-strip-n{}"><span class="ft-help">{}</span> {}</span>').format(
            "" if number == len(numbers) - 1 else " ft-strip-more", *figure
        )
        for number, figure in enumerate(numbers)
    )
    what = {"queued": f"{job.kind}, waiting", "stopping": "stopping"}.get(status.state, job.kind).capitalize()
    doing = _STOPPING[job.kind] if status.state == "stopping" else status.phase or status.state
    of_phase = "" if at is None else "ft-strip-more"  # on a phone the step is enough
    if at is not None:
        what += f", step {at[0]} of {at[1]}"
    return Markup('<div class="ft-strip-line"><strong>{}</strong>{}{}<span class="ft-help">{}</span></div>{}').format(
        what,
        Markup('<span class="{}">{}</span>').format(of_phase, doing) if doing != job.kind else "",
        text,
        run_names.name_of(job.run, dated=False),
        _bar(share),
    )


def _blind(what: str, test_id: str, status: Status) -> Markup:
    return Markup('<div class="ft-strip-line" data-test="{}"><strong>{}</strong><span>{}</span></div>{}').format(
        test_id,
        f"{what}, stopping" if status.state == "stopping" else what,
        status.phase,
        _bar(status.done / status.total if status.total else None),
    )


def _progress(metrics: list[dict[str, Any]], losses: list[float]) -> list[tuple[str, str]]:
    """The progress measure of the stage: reward, preference accuracy or loss."""
    rewards = [row["reward"] for row in metrics if isinstance(row.get("reward"), int | float)]
    if rewards:
        return [("reward", short(rewards[-1]))]
    figures = [("loss", short(losses[-1]))] if losses else []
    right = [row["accuracy"] for row in decided(metrics) if isinstance(row.get("accuracy"), int | float)]
    return [*figures, ("chosen wins", f"{100 * right[-1]:.0f}%")] if right else figures


def _bar(share: float | None) -> Markup:
    if share is None:
        return Markup('<div class="ft-bar ft-bar-busy" role="progressbar" aria-label="progress"><i></i></div>')
    done = f"{100 * share:.0f}"
    return Markup(
        '<div class="ft-bar" role="progressbar" aria-label="progress" aria-valuemin="0" aria-valuemax="100" '
        'aria-valuenow="{0}"><i style="width:{0}%"></i></div>'
    ).format(done)
