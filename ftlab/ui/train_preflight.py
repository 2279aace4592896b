"""Check before you start: the run of the form is measured for half a minute, and what it will take is shown.

The measurement is a process of its own (training/preflight/measure.py) that ends with Stop and with the page.

It stands on the Train tab and on the Preferences tab, there with `pref_` before each id.

elem_ids: `preflight_check`, `preflight_stop`, `preflight_message`, `preflight_progress`, `preflight_result` (presses on
a change put it into the form), `preflight_price`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.errors import InputError
from ftlab.method_table import summary
from ftlab.steps import Steps
from ftlab.ui import background, forms
from ftlab.ui.events import message_box, on
from ftlab.ui.html import PICK_JS, count, details, duration, facts, join, notice, percent, pick_button
from ftlab.workspace import Workspace

if TYPE_CHECKING:
    from ftlab.training.preflight.advice import Advice
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.memory import Remedy


# What Stop sets, by the page and the tab that checks.
_stops: dict[str, threading.Event] = {}


@dataclass(frozen=True)
class Panel:
    check: gr.Button
    stop: gr.Button
    message: gr.HTML
    progress: gr.HTML
    result: gr.HTML
    price: gr.Textbox
    found: gr.State  # (the finding, what was checked in words) of this page's last check


def build(prefix: str = "") -> Panel:
    with gr.Row():
        check = gr.Button("Check before you start", elem_id=f"{prefix}preflight_check", scale=2, min_width=200)
        stop = gr.Button(
            "Stop the check", variant="stop", visible=False, elem_id=f"{prefix}preflight_stop", scale=1, min_width=130
        )
    message = message_box(f"{prefix}preflight_message")
    progress = gr.HTML("", elem_id=f"{prefix}preflight_progress", elem_classes="ft-preflight")
    result = gr.HTML("", elem_id=f"{prefix}preflight_result", elem_classes="ft-preflight", js_on_load=PICK_JS)
    price = gr.Textbox(
        label="Price of the machine per hour",
        info="What the run will cost, in the money that you type here.",
        max_lines=1,
        visible=False,
        elem_id=f"{prefix}preflight_price",
    )
    return Panel(check, stop, message, progress, result, price, gr.State(None))


def wire(
    panel: Panel,
    form: forms.Form,
    inputs: Sequence[Any],
    configured: Callable[[Sequence[Any]], RunConfig],
    workspace: Workspace,
) -> None:
    """`configured` makes the run of the Train tab's `form` out of the values of `inputs`."""

    def check(request: gr.Request, price: str | None, *values: Any) -> Iterator[dict[Any, Any]]:
        config = configured(values)
        per_hour = _price(price)
        page = f"{request.session_hash} {panel.check.elem_id}"
        stop = _stops[page] = threading.Event()
        yield {**_busy(panel), panel.progress: _at_work("reading the data", 0)}
        try:
            found = yield from _measured(panel, config, per_hour, workspace, stop)
        except Exception:
            yield _idle(panel)
            raise
        finally:
            _stops.pop(page, None)
        if found is None:
            yield {**_idle(panel), panel.message: notice("The check was stopped.")}
            return
        checked = _described(config)
        yield {
            **_idle(panel),
            panel.result: card(found, checked),
            panel.price: gr.update(visible=found.total_seconds is not None),
            panel.found: (found, checked),
        }

    def stop(request: gr.Request) -> dict[Any, Any]:
        asked = _stops.get(f"{request.session_hash} {panel.check.elem_id}")
        if asked is not None:
            asked.set()
        return {panel.stop: gr.update(visible=False)}

    def reprice(price: str | None, known: Any) -> dict[Any, Any]:
        if known is None:
            return {}
        found, checked = known
        return {panel.result: card(found.priced(_price(price)), checked)}

    def use(known: Any, event: gr.EventData) -> dict[Any, Any]:
        """Put a change into the form. A finding for other settings is then out of date, so it goes."""
        if known is None:
            raise InputError("Nothing was checked yet", try_="press Check before you start")
        remedy = known[0].remedies[int(event._data["value"])]
        updates = {form.components[path]: _in_form(value) for path, value in remedy.settings.items()}
        return {
            **updates,
            panel.result: notice(f"In the form now: {remedy.what}. Check once more to be sure.", kind="good"),
            panel.price: gr.update(visible=False),
            panel.found: None,
        }

    buttons = [panel.check, panel.stop, panel.progress]
    on(
        panel.check.click,
        check,
        [panel.price, *inputs],
        [*buttons, panel.result, panel.price, panel.found],
        box=panel.message,
        concurrency_limit=1,
    )
    # Not `cancels`, after which what the handler had sent already still arrives, and the next press is lost.
    on(panel.stop.click, stop, [], [panel.stop], box=panel.message, queue=False)
    on(panel.price.submit, reprice, [panel.price, panel.found], [panel.result], box=panel.message)
    on(panel.price.blur, reprice, [panel.price, panel.found], [panel.result], box=panel.message)
    changeable = [form.components[path] for path in _CHANGEABLE]
    on(panel.result.pick, use, [panel.found], [*changeable, panel.result, panel.price, panel.found], box=panel.message)


# The settings that a remedy may change.
_CHANGEABLE = (
    "optimisation.batch_size",
    "optimisation.gradient_accumulation",
    "optimisation.gradient_checkpointing",
    "optimisation.max_length",
    "method.name",
)


def _measured(
    panel: Panel, config: RunConfig, per_hour: float | None, workspace: Workspace, stop: threading.Event
) -> Generator[dict[Any, Any], None, Preflight | None]:
    """Yields the progress and returns the finding, None when it was stopped; closing it ends the measurement."""
    background.ensure("transformers")
    from ftlab.training.preflight.measure import preflight

    background.release_chat(config.launcher.device)
    began = time.monotonic()
    with Steps(preflight(config, workspace, price_per_hour=per_hour)) as steps:
        for phase in steps:
            if stop.is_set():
                return None
            yield {panel.progress: _at_work(phase, time.monotonic() - began)}
    return steps.found


def card(found: Preflight, checked: str) -> Markup:
    """The whole finding: verdict, numbers, changes that would make it fit, warnings."""
    from ftlab.training.preflight.text import verdict

    kind = "bad" if found.fits is False else "warn" if found.is_tight else "good"
    if found.fits is not False and found.kind == "estimate":
        kind = "info"
    notes = join(Markup("<li>{}</li>").format(note) for note in found.notes)
    return Markup('<section class="ft-card" data-fits="{}">{}{}{}{}<div class="ft-help">{}</div>{}</section>').format(
        {True: "yes", False: "no", None: "unknown"}[found.fits],
        notice(Markup("<strong>{}</strong>").format(verdict(found)), kind=kind),
        _numbers(found),
        _changes(found.remedies),
        _warnings(found.warnings),
        f"Checked: {checked}.",
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def _numbers(found: Preflight) -> Markup:
    from ftlab.training.preflight.text import amount

    shown: list[tuple[str, Any, str]] = []
    about = "about " if found.kind == "estimate" else ""
    if found.peak_bytes is not None and found.available_bytes is not None:
        where = "the GPU" if found.device == "cuda" else "this machine"
        shown.append(
            ("Memory", f"{about}{amount(found.peak_bytes)}", f"of {amount(found.available_bytes)} free on {where}")
        )
    elif found.available_bytes is not None:
        shown.append(("Free memory", amount(found.available_bytes), "on the device that trains"))
    if found.total_seconds is not None:
        after = f"of it {duration(found.evaluation_seconds)} for {count(found.evaluations)} validations"
        shown.append(("Time", duration(found.total_seconds), after if found.evaluations else "for training"))
    if found.seconds_per_step is not None:
        shown.append(("Steps", count(found.steps), f"{found.seconds_per_step:.3g} s each"))
    elif found.steps is not None:
        shown.append(("Steps", count(found.steps), "weight updates"))
    if found.cost is not None:
        shown.append(("Cost", f"{found.cost:,.2f}", f"at {found.price_per_hour:g} per hour"))
    if found.tokens is not None:
        padding = f"{percent(found.padding_share, 0)} of what is computed is padding"
        padding = padding if (found.padding_share or 0) >= 0.005 else "nothing is computed for padding"
        shown.append(("Tokens an epoch", count(found.tokens), padding))
        shown.append(("Trained tokens", count(found.trained_tokens), "those of the answers"))
    if found.rows is not None:
        longest = f"the longest has {count(found.longest_row)} tokens" if found.longest_row else "to train on"
        shown.append(("Rows", count(found.rows), longest))
    if found.trained_parameters is not None:
        share = f"{percent(found.trained_share, 2)} of {count(found.total_parameters)}"
        shown.append(("Trained weights", count(found.trained_parameters), share))
    elif found.total_parameters is not None:
        shown.append(("Weights", f"about {found.total_parameters / 1e9:.3g} billion", "in the base"))
    if found.checkpoint_bytes is not None and found.result_bytes is not None:
        shown.append(("Checkpoint", amount(found.checkpoint_bytes), f"the result: {amount(found.result_bytes)}"))
    return facts(shown)


def _changes(remedies: Sequence[Remedy]) -> Markup:
    """What would make it fit, the most harmless first, each with a button that puts it into the form."""
    from ftlab.training.preflight.text import remedy_text

    if not remedies:
        return Markup("")
    items = (
        Markup("<li>{} {}</li>").format(remedy_text(remedy), pick_button(number, "Use it", label=f"Use {remedy.what}"))
        for number, remedy in enumerate(remedies)
    )
    return Markup('<div><strong>What would make it fit</strong><ol class="ft-changes">{}</ol></div>').format(
        join(items)
    )


def _warnings(warnings: Sequence[Advice]) -> Markup:
    """Warnings stand open; what only explains is folded."""
    loud = [advice for advice in warnings if advice.kind != "info"]
    quiet = [advice for advice in warnings if advice.kind == "info"]
    boxes = join(_warning(advice) for advice in loud)
    if not quiet:
        return boxes
    return boxes + details(f"Worth knowing ({len(quiet)})", join(_warning(advice) for advice in quiet))


def _warning(advice: Advice) -> Markup:
    return notice(
        Markup("<strong>{}</strong><div>{}</div><div><em>Try:</em> {}</div>").format(
            advice.what, advice.why, advice.try_
        ),
        kind=advice.kind,
    )


def _described(config: RunConfig) -> str:
    settings = config.optimisation
    accumulated = f" × {settings.gradient_accumulation}" if settings.gradient_accumulation > 1 else ""
    source = config.data.source.rsplit("/", 1)[-1]
    return (
        f"{config.model.base}, {summary(config.method)}, {source}, batch {settings.batch_size}{accumulated}, at most "
        f"{count(settings.max_length)} tokens, at {time.strftime('%H:%M')}"
    )


def _busy(panel: Panel) -> dict[Any, Any]:
    return {panel.check: gr.update(interactive=False), panel.stop: gr.update(visible=True), panel.result: ""}


def _idle(panel: Panel) -> dict[Any, Any]:
    return {panel.check: gr.update(interactive=True), panel.stop: gr.update(visible=False), panel.progress: ""}


def _at_work(phase: str, seconds: float) -> Markup:
    return Markup(
        '<div class="ft-line-card"><div class="ft-strip-line" role="status" aria-live="polite"><span>{}</span></div>'
        '<div class="ft-strip-line ft-help"><span>for {}; it takes about half a minute on a small model</span></div>'
        '<div class="ft-bar ft-bar-busy" role="progressbar" aria-label="progress"><i></i></div></div>'
    ).format(phase[:1].upper() + phase[1:], duration(seconds))


def _price(text: str | None) -> float | None:
    text = (text or "").strip().lstrip("$€£").replace(",", ".")
    if not text:
        return None
    try:
        price = float(text)
    except ValueError:
        raise InputError("The price per hour is not a number", given=text, allowed="a number such as 1.20") from None
    if not 0 <= price < 1e6:
        raise InputError("The price per hour is out of range", given=text, allowed="0 or more")
    return price


def _in_form(value: Any) -> Any:
    """A setting as its component shows it: numbers are text there (forms.py)."""
    return value if isinstance(value, bool | str) else str(value)
