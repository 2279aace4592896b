"""Check before you start: the run of the form is measured for half a minute, and what it will take is shown.

Beside it, on the Train tab: find a learning rate, a short trial of three that fills the field. Both are processes of
their own (training/preflight/measure.py, training/rate_trial.py) that end with Stop and with the page.

It stands on the Train tab and on the Preferences tab, there with `pref_` before each id.

elem_ids: `preflight_check`, `preflight_find_rate`, `preflight_stop`, `preflight_message`, `preflight_progress`,
`preflight_result` (presses on a change put it into the form), `preflight_price`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.config.methods import summary
from ftlab.core.steps import Steps
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import background
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import message_box, on
from ftlab.ui.kit.html import PICK_JS, count, duration, notice
from ftlab.ui.tabs.train.preflight_view import card, trial_card

if TYPE_CHECKING:
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.rate_trial import RateTrial


_CHECK = "it takes about half a minute on a small model"
_TRIAL = "three rates, a tenth of the steps each"
# What Stop sets, by the page and the tab that checks.
_stops: dict[str, threading.Event] = {}


@dataclass(frozen=True)
class Panel:
    check: gr.Button
    find: gr.Button
    stop: gr.Button
    message: gr.HTML
    progress: gr.HTML
    result: gr.HTML
    price: gr.Textbox
    found: gr.State  # (the finding, what was checked in words) of this page's last check


def build(prefix: str = "") -> Panel:
    with gr.Row():
        check = gr.Button("Check before you start", elem_id=f"{prefix}preflight_check", scale=2, min_width=200)
        find = gr.Button(
            "Find a learning rate", visible=not prefix, elem_id=f"{prefix}preflight_find_rate", scale=1, min_width=170
        )
        stop = gr.Button(
            "Stop", variant="stop", visible=False, elem_id=f"{prefix}preflight_stop", scale=1, min_width=130
        )
    message = message_box(f"{prefix}preflight_message")
    progress = gr.HTML("", elem_id=f"{prefix}preflight_progress", elem_classes="ft-preflight")
    result = gr.HTML("", elem_id=f"{prefix}preflight_result", elem_classes="ft-preflight", js_on_load=PICK_JS)
    price = gr.Textbox(
        label="Price of the machine per hour",
        info="For an estimate of the cost, in the same currency.",
        max_lines=1,
        visible=False,
        elem_id=f"{prefix}preflight_price",
    )
    return Panel(check, find, stop, message, progress, result, price, gr.State(None))


def wire(
    panel: Panel,
    form: forms.Form,
    inputs: Sequence[Any],
    configured: Callable[[Sequence[Any]], RunConfig],
    workspace: Workspace,
) -> None:
    """`configured` makes the run of the Train tab's `form` out of the values of `inputs`."""

    def measure(
        request: gr.Request,
        config: RunConfig,
        begin: Callable[[], Generator[str, None, Any]],
        takes: str,
        stopped: str,
    ) -> Generator[dict[Any, Any], None, Any]:
        """Yields what the page shows from before `begin`, which may wait for libraries, until its work has ended;
        returns what was found, None where it was stopped."""
        page = f"{request.session_hash} {panel.check.elem_id}"
        stop = _stops[page] = threading.Event()
        yield {**_busy(panel), panel.progress: _at_work("reading the data", 0, takes)}
        try:
            found = yield from _followed(panel, config, begin(), takes, stop)
        except Exception:
            yield _idle(panel)
            raise
        finally:
            _stops.pop(page, None)
        if found is None:
            yield {**_idle(panel), panel.message: notice(stopped)}
        return found

    def check(request: gr.Request, price: str | None, *values: Any) -> Iterator[dict[Any, Any]]:
        config = configured(values)
        per_hour = _price(price)
        begin = partial(_checking, config, per_hour, workspace)
        found = yield from measure(request, config, begin, _CHECK, "The check was stopped.")
        if found is None:
            return
        checked = _described(config)
        yield {
            **_idle(panel),
            panel.result: card(found, checked),
            panel.price: gr.update(visible=found.total_seconds is not None),
            panel.found: (found, checked),
        }

    def find(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        config = configured(values)
        begin = partial(_trying, config, workspace)
        found = yield from measure(request, config, begin, _TRIAL, "The trial was stopped.")
        if found is None:
            return
        filled = {} if found.taken is None else {rate: f"{found.taken:g}"}
        yield {**_idle(panel), panel.result: trial_card(found), panel.price: gr.update(visible=False), **filled}

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

    buttons = [panel.check, panel.find, panel.stop, panel.progress]
    on(
        panel.check.click,
        check,
        [panel.price, *inputs],
        [*buttons, panel.result, panel.price, panel.found],
        box=panel.message,
        concurrency_limit=1,
    )
    rate = form.components["optimisation.learning_rate"]
    on(
        panel.find.click,
        find,
        [*inputs],
        [*buttons, panel.result, panel.price, rate],
        box=panel.message,
        concurrency_limit=1,
    )
    # Not `cancels`, after which what the handler had sent already still arrives, and the next press is lost.
    # Its answer may come after that of the check it stopped, whose message stays.
    on(panel.stop.click, stop, [], [panel.stop], box=panel.message, clears=False, queue=False)
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


def _checking(config: RunConfig, per_hour: float | None, workspace: Workspace) -> Generator[str, None, Preflight]:
    background.ensure("transformers")
    from ftlab.training.preflight.measure import preflight

    return preflight(config, workspace, price_per_hour=per_hour)


def _trying(config: RunConfig, workspace: Workspace) -> Generator[str, None, RateTrial]:
    background.ensure("transformers")
    from ftlab.training.rate_trial import find_rate

    return find_rate(config, workspace)


def _followed(
    panel: Panel, config: RunConfig, work: Generator[str, None, Any], takes: str, stop: threading.Event
) -> Generator[dict[Any, Any], None, Any]:
    """Yields the progress of `work` and returns its finding, None when it was stopped; closing it ends the process."""
    background.release_chat(config.launcher.device)
    began = time.monotonic()
    with Steps(work) as steps:
        for phase in steps:
            if stop.is_set():
                return None
            yield {panel.progress: _at_work(phase, time.monotonic() - began, takes)}
    return steps.found


def _described(config: RunConfig) -> str:
    settings = config.resolved().optimisation
    accumulation = settings.gradient_accumulation or 1
    accumulated = f" × {accumulation}" if accumulation > 1 else ""
    source = config.data.source.rsplit("/", 1)[-1]
    return (
        f"{config.model.base}, {summary(config.method)}, {source}, batch {settings.batch_size}{accumulated}, at most "
        f"{count(settings.max_length)} tokens, at {time.strftime('%H:%M')}"
    )


def _busy(panel: Panel) -> dict[Any, Any]:
    off = gr.update(interactive=False)
    return {panel.check: off, panel.find: off, panel.stop: gr.update(visible=True), panel.result: ""}


def _idle(panel: Panel) -> dict[Any, Any]:
    ready = gr.update(interactive=True)
    return {panel.check: ready, panel.find: ready, panel.stop: gr.update(visible=False), panel.progress: ""}


def _at_work(phase: str, seconds: float, takes: str) -> Markup:
    return Markup(
        '<div class="ft-line-card"><div class="ft-strip-line" role="status" aria-live="polite"><span>{}</span></div>'
        '<div class="ft-strip-line ft-help"><span>for {}; {}</span></div>'
        '<div class="ft-bar ft-bar-busy" role="progressbar" aria-label="progress"><i></i></div></div>'
    ).format(phase[:1].upper() + phase[1:], duration(seconds), takes)


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
