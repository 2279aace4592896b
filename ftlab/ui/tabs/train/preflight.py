"""Estimate time and memory of the run in the form, measured for half a minute before it starts.

On the Train tab this is automatic when the tab is visible or a setting changes, unless something else runs. The
measurement gives way to anything that starts. Also: find a learning rate, a short trial of three that fills the field.
Both are separate processes (measure.py, rate_trial.py in training/preflight/) that end with Stop and with the page.

The panel is on the Train tab and on the Preferences tab, there with `pref_` before each id.

elem_ids: `preflight_progress`, `preflight_result` (presses on a change put it into the form); folded `preflight_check`,
`preflight_find_rate`, `preflight_stop`, `preflight_message`, `preflight_trial`, `preflight_price`.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.config.sections import summary
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.steps import Steps
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.ui import background, run_files
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import PICK_JS, count, duration, heading, notice
from ftlab.ui.tabs.data.rows import inspected
from ftlab.ui.tabs.train.preflight_view import card, trial_card

if TYPE_CHECKING:
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.rate_trial import RateTrial


_PAUSE_SECONDS = 1.0  # without a change before an automatic measurement
_YIELDS_SECONDS = 5.0  # maximum wait for an automatic measurement to give way
_MOST_KNOWN = 32
_WAITS = "Time and memory were not measured: something was running. Measure now stands under Advanced."
# Fires each time the card scrolls into view.
_SEEN_JS = """
new IntersectionObserver(entries => {
  if (entries.some(one => one.isIntersecting)) trigger('select', {value: 'seen', index: 0});
}).observe(element.closest('.ft-run-choices') || element);
"""


@dataclass(frozen=True)
class Work:
    """A measurement on one page: its stop signal, and whether it is automatic."""

    stop: threading.Event
    by_itself: bool
    ended: threading.Event = field(default_factory=threading.Event)


_at_work_now: dict[str, Work] = {}  # by page and tab
_known: dict[str, tuple[Preflight, str]] = {}  # (finding, description of the measurement) by settings and data


def give_way() -> None:
    """End every measurement, on all pages: a run starts."""
    for work in list(_at_work_now.values()):
        work.stop.set()


def _end(page: str, work: Work) -> None:
    if _at_work_now.get(page) is work:
        _at_work_now.pop(page)
    work.ended.set()


@dataclass(frozen=True)
class Line:
    """The components of the card."""

    progress: gr.HTML
    result: gr.HTML
    prefix: str


@dataclass(frozen=True)
class Panel:
    check: gr.Button
    find: gr.Button
    stop: gr.Button
    message: gr.HTML
    trial: gr.HTML
    price: gr.Textbox
    progress: gr.HTML
    result: gr.HTML
    last_check: gr.State  # (finding, description of the check) of this page's last check

    @property
    def seen(self) -> Any:
        """The event that the card came into view."""
        return self.progress.select


def build_line(prefix: str = "") -> Line:
    with gr.Column(elem_classes="ft-takes"):
        progress = gr.HTML("", elem_id=f"{prefix}preflight_progress", js_on_load=_SEEN_JS)
        result = gr.HTML("", elem_id=f"{prefix}preflight_result", elem_classes="ft-preflight", js_on_load=PICK_JS)
    return Line(progress, result, prefix)


def build_more(line: Line) -> Panel:
    prefix = line.prefix
    with gr.Column(elem_classes="ft-group"):
        gr.HTML(heading("Time and memory", page="one_gpu"))
        with gr.Row(equal_height=True):
            check = gr.Button("Measure now", elem_id=f"{prefix}preflight_check", min_width=150)
            find = gr.Button(
                "Find a learning rate", visible=not prefix, elem_id=f"{prefix}preflight_find_rate", min_width=170
            )
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id=f"{prefix}preflight_stop", min_width=110)
            price = gr.Textbox(
                label="Price of the machine per hour",
                info="Estimates the cost in the same currency.",
                max_lines=1,
                elem_id=f"{prefix}preflight_price",
            )
        message = message_box(f"{prefix}preflight_message")
        trial = gr.HTML("", elem_id=f"{prefix}preflight_trial", elem_classes="ft-preflight")
    return Panel(check, find, stop, message, trial, price, line.progress, line.result, gr.State(None))


def wire(
    panel: Panel,
    form: forms.Form,
    inputs: Sequence[Any],
    configured: Callable[[Sequence[Any]], RunConfig],
    workspace: Workspace,
    *,
    by_itself: bool = False,
) -> None:
    """`configured` makes the run of the tab's `form` from the values of `inputs`. `by_itself`: measure
    automatically too."""

    def page_of(request: gr.Request) -> str:
        return f"{request.session_hash} {panel.check.elem_id}"

    def measure(
        work: Work, config: RunConfig, begin: Callable[[], Generator[str, None, Any]]
    ) -> Generator[dict[Any, Any], None, Any]:
        """Yields page updates, starting before `begin` (which may wait for libraries), until its work has ended.
        Returns the finding, None if it was stopped."""
        yield {**_busy(panel, work), panel.progress: _at_work("reading the data", 0)}
        try:
            checked = yield from _followed(panel, config, begin(), work, workspace)
        except Exception:
            yield _idle(panel)
            raise
        yield _idle(panel)
        return checked

    def asked(
        request: gr.Request, config: RunConfig, begin: Callable[[], Generator[str, None, Any]]
    ) -> Generator[dict[Any, Any], None, Any]:
        """Like `measure`, for a press: automatic measurements give way."""
        page, work = page_of(request), Work(threading.Event(), False)
        if (other := _at_work_now.get(page)) is not None:
            other.stop.set()
            other.ended.wait(_YIELDS_SECONDS)
        _at_work_now[page] = work
        try:
            return (yield from measure(work, config, begin))
        finally:
            _end(page, work)

    def check(request: gr.Request, price: str | None, *values: Any) -> Iterator[dict[Any, Any]]:
        config = configured(values)
        yield {panel.result: "", panel.last_check: None}
        preflight = yield from asked(request, config, partial(_checking, config, _price(price), workspace))
        if preflight is None:
            yield {panel.message: notice("The check was stopped.")}
        else:
            yield show(preflight, _remember(config, workspace, preflight))

    def watch(request: gr.Request, price: str | None, known: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        """Measure the settings in the form unless that is done: after a pause, and only if nothing else runs."""
        page, work = page_of(request), Work(threading.Event(), True)
        if page in _at_work_now:
            yield {panel.result: "", panel.last_check: None}  # it may be of other settings
            return
        _at_work_now[page] = work
        try:
            config = configured(values)
            if (before := _known.get(_key(config, workspace))) is not None:
                if known != before:
                    yield show(before[0].priced(_price(price)), before[1])
                return
            yield {panel.result: "", panel.progress: "", panel.last_check: None}
            if inspected(config.data, workspace).problem:  # the line on the data says so
                return
            if work.stop.wait(_PAUSE_SECONDS):
                return
            if run_files.current_job(workspace) is not None:
                yield {panel.progress: Markup('<p class="ft-help">{}</p>').format(_WAITS)}
                return
            preflight = yield from measure(work, config, partial(_checking, config, _price(price), workspace))
            if preflight is not None:
                yield show(preflight, _remember(config, workspace, preflight))
        except FtlabError as error:
            # Automatic, so it shows no error; Start reports the same in full.
            text = Markup('<p class="ft-help">Time and memory could not be estimated. {}</p>').format(error.message())
            yield {panel.progress: text, panel.result: "", panel.last_check: None}
        finally:
            _end(page, work)

    def changed(request: gr.Request) -> dict[Any, Any]:
        """The automatic measurement is outdated: `watch` starts again."""
        work = _at_work_now.get(page_of(request))
        if work is not None and work.by_itself:
            work.stop.set()
        return {}

    def show(preflight: Preflight, checked: str) -> dict[Any, Any]:
        return {panel.progress: "", panel.result: card(preflight, checked), panel.last_check: (preflight, checked)}

    def find(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        config = configured(values)
        yield {panel.trial: ""}
        trial = yield from asked(request, config, partial(_trying, config, workspace))
        if trial is None:
            yield {panel.message: notice("The trial was stopped.")}
            return
        filled = {} if trial.taken is None else {rate: f"{trial.taken:g}"}
        yield {panel.trial: trial_card(trial), **filled}

    def stop(request: gr.Request) -> dict[Any, Any]:
        asked = _at_work_now.get(page_of(request))
        if asked is not None:
            asked.stop.set()
        return {panel.stop: gr.update(visible=False)}

    def reprice(price: str | None, known: Any) -> dict[Any, Any]:
        if known is None:
            return {}
        preflight, checked = known
        return {panel.result: card(preflight.priced(_price(price)), checked)}

    def use(known: Any, event: gr.EventData) -> dict[Any, Any]:
        """Put a change into the form. A finding for other settings is then outdated, so it is removed."""
        if known is None:
            raise InputError("Nothing was measured yet", try_="press Measure now under Advanced")
        remedy = known[0].remedies[int(event._data["value"])]
        updates = {form.components[path]: forms.text_of(value) for path, value in remedy.settings.items()}
        hint = "" if by_itself else " Measure again to be sure."
        return {
            **updates,
            panel.result: notice(f"In the form now: {remedy.what}.{hint}", kind="good"),
            panel.last_check: None,
        }

    busy = [panel.check, panel.find, panel.stop, panel.progress]
    outputs = [*busy, panel.result, panel.last_check]
    on(panel.check.click, check, [panel.price, *inputs], outputs, box=panel.message, concurrency_limit=1)
    rate = form.components["optimisation.learning_rate"]
    on(panel.find.click, find, [*inputs], [*busy, panel.trial, rate], box=panel.message, concurrency_limit=1)
    # Not `cancels`: updates that the handler had already sent would still arrive, and the next press would be lost.
    # This reply may arrive after that of the check it stopped, whose message stays.
    on(panel.stop.click, stop, [], [panel.stop], box=panel.message, clears=False, queue=False)
    on(panel.price.submit, reprice, [panel.price, panel.last_check], [panel.result], box=panel.message)
    on(panel.price.blur, reprice, [panel.price, panel.last_check], [panel.result], box=panel.message)
    changeable = [form.components[path] for path in _CHANGEABLE]
    on(panel.result.pick, use, [panel.last_check], [*changeable, panel.result, panel.last_check], box=panel.message)
    if by_itself:
        settings = [component.change for component in form.inputs]
        on(any_of(*settings), changed, [], [panel.stop], queue=False)
        on(
            any_of(panel.seen, *settings),
            watch,
            [panel.price, panel.last_check, *inputs],
            outputs,
            box=panel.message,
            clears=False,
            trigger_mode="always_last",
        )


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
    from ftlab.training.preflight.rate_trial import find_rate

    return find_rate(config, workspace)


def _followed(
    panel: Panel, config: RunConfig, doing: Generator[str, None, Any], work: Work, workspace: Workspace
) -> Generator[dict[Any, Any], None, Any]:
    """Yields the progress of `doing` and returns its finding, None if it was stopped. Closing it ends the process."""
    background.release_models(config.launcher.device)
    began = time.monotonic()
    with Steps(doing) as steps:
        for phase in steps:
            if work.stop.is_set() or (work.by_itself and run_files.current_job(workspace) is not None):
                return None
            yield {panel.progress: _at_work(phase, time.monotonic() - began)}
    return steps.result


def _key(config: RunConfig, workspace: Workspace) -> str:
    """The cache key of a finding: every setting except the name, and the current state of the data files."""
    from ftlab.data.inspection import files_of

    plain = config.model_copy(update={"name": None}).model_dump_json()
    files = [str(file) for file in files_of(config.data.source, workspace)]
    return hashlib.sha256("\n".join([str(workspace.root), plain, *files]).encode()).hexdigest()


def keep_expected(config: RunConfig, run: RunDirectory, workspace: Workspace) -> None:
    """Store the measurement with `run`, which was just started, so that it can estimate the total time left."""
    with contextlib.suppress(FtlabError):  # the run works without it
        known = _known.get(_key(config, workspace))
        if known is not None:
            write_json(run.expected_file, known[0].as_dict())


def _remember(config: RunConfig, workspace: Workspace, preflight: Preflight) -> str:
    """Store the finding for the same settings; returns a description of the measurement."""
    checked = _described(config)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[_key(config, workspace)] = (preflight, checked)
    return checked


def _described(config: RunConfig) -> str:
    settings = config.resolved().optimisation
    accumulation = settings.gradient_accumulation or 1
    accumulated = f" × {accumulation}" if accumulation > 1 else ""
    source = config.data.source.rsplit("/", 1)[-1]
    return (
        f"{config.model.base}, {summary(config.method)}, {source}, batch {settings.batch_size}{accumulated}, at most "
        f"{count(settings.max_length)} tokens, at {time.strftime('%H:%M')}"
    )


def _busy(panel: Panel, work: Work) -> dict[Any, Any]:
    off = gr.update(interactive=work.by_itself)
    return {panel.check: off, panel.find: off, panel.stop: gr.update(visible=True)}


def _idle(panel: Panel) -> dict[Any, Any]:
    ready = gr.update(interactive=True)
    return {panel.check: ready, panel.find: ready, panel.stop: gr.update(visible=False), panel.progress: ""}


def _at_work(phase: str, seconds: float) -> Markup:
    return Markup(
        '<p class="ft-help" role="status" aria-live="off">Measuring time and memory, {}: {}</p>'
        '<div class="ft-bar ft-bar-busy" role="progressbar" aria-label="measuring"><i></i></div>'
    ).format(duration(seconds), phase)


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
