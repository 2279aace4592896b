"""The visitors' page: chat with base and adapted model side by side, within limits, and the report.

Nothing on it trains, uploads or names another run. elem_ids: `show_head`, `show_log`, `show_text`, `show_send`,
`show_prompt_0` to `show_prompt_2`, `show_clear`, `show_message`, `show_report`, `tab_show_chat`, `tab_show_report`.
"""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import STARTER
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError
from ftlab.models.starter import starter_size
from ftlab.report.showcase import report_of, showcase
from ftlab.ui.background import ensure
from ftlab.ui.doors.allowance import Allowance, address_of
from ftlab.ui.kit.conversation import Turn, conversation, history
from ftlab.ui.kit.conversation import note as note_of
from ftlab.ui.kit.events import message_box, on
from ftlab.ui.kit.html import duration, empty, join, notice
from ftlab.ui.rater.door import VISITORS, door
from ftlab.ui.theme import HEAD, STYLE_FILE, SWITCH_THEME, plain_page

TITLE = "Before and after"
_PROMPTS = 3

Find = Callable[[], RunDirectory | None]


@dataclass(frozen=True)
class Limits:
    """Limits on what strangers may ask of the machine."""

    message: int = 1000  # characters
    answer: int = 200  # tokens
    turns: int = 8  # of one conversation
    each: int = 6  # messages of one visitor per minute
    in_all: int = 30  # messages of all visitors per minute
    waiting: int = 12  # messages waiting for their turn


def build_page(
    find: Find,
    *,
    foot: Markup | None = None,
    threads: Callable[[], int | None] = lambda: None,
) -> gr.Blocks:
    """The page about the run that `find` returns, or None while nothing is shown. `foot` goes below it.

    `threads()` gives the number of CPU threads for an answer, None for all.
    """
    limits = Limits()
    allowance = Allowance(limits.each, limits.in_all)
    answer = on_gpu(_answers)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        with gr.Row(elem_classes="ft-top"):
            gr.HTML(f"<h1>{TITLE}</h1><p>One message, two answers: the base model's, and the adapted model's.</p>")
            switch = gr.Button("Light / dark", size="sm", scale=0, min_width=110)
        head = gr.HTML(elem_id="show_head")
        with gr.Column() as about, gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Chat", elem_id="tab_show_chat"):
                with gr.Column(visible=False, elem_id="show_prompts") as offered:
                    gr.HTML('<span class="ft-help">For example:</span>')
                    prompts = [
                        gr.Button(visible=False, size="sm", elem_id=f"show_prompt_{n}", elem_classes="ft-act")
                        for n in range(_PROMPTS)
                    ]
                log = gr.HTML(conversation([]), elem_id="show_log", autoscroll=False)
                message = message_box("show_message")
                with gr.Row(elem_classes="ft-controls"):
                    text = gr.Textbox(
                        label="Message",
                        placeholder="Write to both models. Enter sends.",
                        lines=1,
                        max_lines=6,
                        max_length=limits.message,
                        elem_id="show_text",
                        scale=4,
                        min_width=260,
                    )
                    with gr.Column(scale=1, min_width=150):
                        send = gr.Button("Send", variant="primary", elem_id="show_send")
                        clear = gr.Button("Start anew", elem_id="show_clear", size="sm")
            with gr.Tab("Report", elem_id="tab_show_report"):
                report = gr.HTML(elem_id="show_report")
        if foot:
            gr.HTML(foot)
        turns = gr.State([])

        def opened() -> dict[Any, Any]:
            run = find()
            if run is None:
                hint = "The owner of this Space has not chosen a run to show."
                return {head: empty("Nothing to show yet.", hint), about: gr.update(visible=False)}
            card = showcase(run)
            asked = [gr.update(value=prompt, visible=True) for prompt in card.prompts[:_PROMPTS]]
            asked += [gr.update(visible=False)] * (_PROMPTS - len(asked))
            filled = {head: _headline(card), report: _report(run)}
            return filled | {offered: gr.update(visible=bool(card.prompts)), **dict(zip(prompts, asked, strict=True))}

        def say(message: str, turns_so_far: list[Turn], request: gr.Request) -> Iterator[dict[Any, Any]]:
            run = find()
            if run is None:
                raise InputError("Nothing to show yet", try_="come back later")
            _check(message, turns_so_far, limits)
            wait = allowance.take(address_of(request.client))
            if wait:
                raise FtlabError("Too many messages in a short time", try_=f"again in {duration(wait)}")
            turn: Turn = {"user": message.strip(), "base": "", "adapted": "", "note": "loading the models …"}
            yield {log: conversation([*turns_so_far, turn], busy=True), text: "", offered: gr.update(visible=False)}
            try:
                ensure("transformers")
                stream = answer(str(run.path), turn["user"], history(turns_so_far), limits.answer, threads())
                with contextlib.closing(stream):
                    for part in stream:
                        turn = {**turn, "base": part.base, "adapted": part.adapted, "note": note_of(part)}
                        yield {log: conversation([*turns_so_far, turn], busy=not part.done)}
            except Exception:
                yield {log: conversation(turns_so_far), text: message}  # an error loses nothing typed
                raise
            yield {log: conversation([*turns_so_far, turn]), turns: [*turns_so_far, turn]}

        def restart() -> dict[Any, Any]:
            return {turns: [], log: conversation([]), offered: gr.update(visible=True)}

        switch.click(None, js=SWITCH_THEME, api_visibility="private")
        on(page.load, opened, [], [head, about, report, offered, *prompts])
        for prompt in prompts:
            prompt.click(None, [prompt], [text], js="words => words", api_visibility="private")
        for trigger in (send.click, text.submit):
            # One answer at a time on the device, whoever asks.
            on(trigger, say, [text, turns], [log, text, turns, offered], box=message, concurrency_id="device")
        on(clear.click, restart, [], [turns, log, offered], box=message)
    # A full queue refuses at once, and calls that bypass the queue are not answered.
    return page.queue(max_size=limits.waiting, api_open=False)


def page_settings() -> dict[str, Any]:
    """Arguments of launch() and mount_gradio_app() that show the page and serve nothing else."""
    return {
        **plain_page(),
        "css_paths": [STYLE_FILE],
        "head": HEAD,
        "max_file_size": "1kb",
        "app_kwargs": door(VISITORS),
    }


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with a GPU for the duration of a call, on ZeroGPU hardware; elsewhere unchanged."""
    try:
        # The package of ZeroGPU hardware; mypy finds this repository's folder of the same name.
        from spaces import GPU  # type: ignore[attr-defined]
    except ImportError:
        return function
    return GPU(duration=60)(function)


def preload(run: RunDirectory) -> None:
    """Load the models of `run` before the page is served: ZeroGPU requires them at startup."""
    from ftlab.evaluation.duet import load_duet

    load_duet(run)


def _answers(run: str, message: str, turns: dict[str, Any], tokens: int, threads: int | None) -> Iterator[Any]:
    """Both answers as they grow. The arguments are plain types, because ZeroGPU sends them to another process."""
    from ftlab.evaluation.duet import load_duet

    yield from load_duet(RunDirectory(Path(run))).stream(message, turns, max_new_tokens=tokens, threads=threads)


def _check(message: Any, turns: list[Turn], limits: Limits) -> None:
    if not isinstance(message, str) or not message.strip():
        raise InputError("There is no message to answer", try_="type one first")
    if len(message) > limits.message:
        raise InputError(
            "This message is too long",
            given=f"{len(message):,} characters",
            allowed=f"{limits.message:,} characters",
            try_="a shorter one",
        )
    if len(turns) >= limits.turns:
        raise InputError(f"This conversation has reached its {limits.turns} turns", try_="press Start anew")


def _headline(card: Any) -> Markup:
    lines = [Markup("<strong>{}</strong>").format(card.name)]
    about = [f"Base: {card.base}"] + ([f"adapted on: {card.data}"] if card.data else [])
    lines.append(Markup('<div class="ft-help">{}</div>').format("; ".join(about)))
    if card.verdict:
        lines.append(Markup("<div>{}</div>").format(card.verdict))
    if card.base == STARTER:
        toy = "The base is a toy of {} parameters. It shows how the method works, not how good it gets."
        lines.append(Markup('<div class="ft-help">{}</div>').format(toy.format(starter_size())))
    return Markup('<div class="ft-box ft-info">{}</div>').format(join(lines))


def _report(run: RunDirectory) -> Markup:
    """The report in its own frame, which blocks scripts and requests to other hosts."""
    text = report_of(run)
    if text is None:
        return notice("This run was not compared with its base, so there is no report.")
    return Markup('<iframe class="ft-report" title="Report" sandbox srcdoc="{}"></iframe>').format(text)
