"""Chat: one message, two answers side by side: the base's and the adapted model's.

elem_ids: `chat_run` (dropdown), `chat_as_trained`, `chat_strength`, `chat_system`,
`chat_temperature`, `chat_length`, `chat_settings` (folded settings), `chat_log` (the conversation), `chat_text`
(message), `chat_send`, `chat_stop`, `chat_clear`, `chat_message`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.errors import InputError
from ftlab.models.strength import AS_TRAINED, HIGHEST, why_not
from ftlab.ui import run_files, run_view
from ftlab.ui.background import ensure
from ftlab.ui.conversation import AFRESH, Turn, conversation, history, note, same_strength
from ftlab.ui.events import message_box, on
from ftlab.ui.html import empty

_STRENGTH = "Of the adapted model. 0: the base. 1: as trained."
_AS_IT_IS = "The training rows were asked as they are, and so is your message."

# Who asked for an end, by session. Only a signal between two handlers: what was said is in the session's state.
_stops: dict[str, threading.Event] = {}


@dataclass(frozen=True)
class ChatTab:
    run: gr.Dropdown
    banner: gr.HTML
    as_trained: gr.Checkbox
    strength: gr.Slider
    system: gr.Textbox
    temperature: gr.Slider
    length: gr.Number
    log: gr.HTML
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    message: gr.HTML
    turns: gr.State
    partner: gr.State  # the run whose conversation is on show; None before the first message


def build() -> ChatTab:
    banner = gr.HTML(elem_id="chat_banner")
    run = gr.Dropdown(
        [],
        value=None,
        label="Run",
        info="The base and the adapted model both answer, from one copy of the weights.",
        allow_custom_value=True,
        elem_id="chat_run",
    )
    log = gr.HTML(nobody_yet(), elem_id="chat_log", autoscroll=False)
    message = message_box("chat_message")
    with gr.Row(elem_classes="ft-controls"):
        text = gr.Textbox(
            label="Message",
            placeholder="Write to both models. Enter sends, Shift+Enter makes a new line.",
            lines=1,
            max_lines=8,
            elem_id="chat_text",
            scale=4,
            min_width=260,
        )
        with gr.Column(scale=1, min_width=150):
            send = gr.Button("Send", variant="primary", elem_id="chat_send")
            stop = gr.Button("Stop answering", variant="stop", elem_id="chat_stop", visible=False)
            clear = gr.Button("Clear", elem_id="chat_clear", size="sm")
    with gr.Row(equal_height=False, elem_classes="ft-controls"):
        as_trained = gr.Checkbox(
            True, label="As in training", info=_AS_IT_IS, elem_id="chat_as_trained", scale=2, min_width=260
        )
        strength = gr.Slider(
            0,
            HIGHEST,
            AS_TRAINED,
            step=0.05,
            label="Strength",
            info=_STRENGTH,
            visible=False,
            elem_id="chat_strength",
            scale=1,
            min_width=220,
        )
    with gr.Accordion("System prompt, temperature, length", open=False, elem_id="chat_settings"), gr.Row():
        system = gr.Textbox(
            label="System prompt",
            info="For both models. Empty: the one used in training, if prompts are formatted as in training.",
            elem_id="chat_system",
            min_width=260,
        )
        temperature = gr.Slider(
            0,
            2,
            0,
            step=0.1,
            label="Temperature",
            info="0: always the most likely token, as in the evaluation. Higher: more varied.",
            elem_id="chat_temperature",
            min_width=220,
        )
        length = gr.Number(
            128,
            label="Longest answer (tokens)",
            info="Answers are cut at this many tokens. A token is about three quarters of a word.",
            precision=0,
            elem_id="chat_length",
            min_width=180,
        )
    asks = (as_trained, strength, system, temperature, length)
    return ChatTab(run, banner, *asks, log, text, send, stop, clear, message, gr.State([]), gr.State(None))


def wire(tab: ChatTab, workspace: Workspace) -> None:
    def say(
        run_id: str | None,
        text: str,
        turns: list[Turn],
        as_trained: bool,
        system: str | None,
        temperature: float | None,
        length: float | None,
        strength: float | None,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        run = run_files.chosen_run(workspace, run_id, answers=True)
        if not (text or "").strip():
            raise InputError("There is no message to answer", try_="type one first")
        ended = _stops[request.session_hash or ""] = threading.Event()
        at = AS_TRAINED if strength is None else round(float(strength), 2)
        read = same_strength(turns, at)
        afresh = AFRESH if turns and not read else ""
        turn: Turn = {"user": text.strip(), "base": "", "adapted": "", "note": "loading the models …", "strength": at}
        busy = {tab.send: gr.update(visible=False), tab.stop: gr.update(visible=True)}
        idle = {tab.send: gr.update(visible=True), tab.stop: gr.update(visible=False)}
        yield {tab.log: conversation([*turns, turn], busy=True), tab.text: "", tab.partner: run.id, **busy}
        try:
            ensure("transformers")
            from ftlab.evaluation.duet import load_duet, threads_beside_a_run

            answers = load_duet(run).stream(
                turn["user"],
                history(read),
                system=(system or "").strip() or None,
                as_trained=as_trained,
                temperature=float(temperature or 0),
                max_new_tokens=int(length or 128),
                strength=at,
                threads=threads_beside_a_run() if run_files.current_job(workspace) else None,
            )
            with contextlib.closing(answers):
                for answer in answers:
                    said = " ".join(filter(None, [afresh, note(answer)]))
                    turn = {**turn, "base": answer.base, "adapted": answer.adapted, "note": said}
                    if ended.is_set() and not answer.done:
                        turn["note"] = "Stopped by you."
                        break
                    yield {tab.log: conversation([*turns, turn], busy=not answer.done)}
        except Exception:
            # The message comes back into the box, so that nothing typed is lost with an error.
            yield {tab.log: conversation(turns), tab.text: text, **idle}
            raise
        finally:
            _stops.pop(request.session_hash or "", None)
        turns = [*turns, turn]
        yield {tab.log: conversation(turns), tab.turns: turns, **idle}

    def stop(request: gr.Request) -> None:
        asked = _stops.get(request.session_hash or "")
        if asked is not None:
            asked.set()

    def clear() -> dict[Any, Any]:
        return {tab.turns: [], tab.partner: None, tab.log: conversation([]), tab.text: ""}

    def choose(run_id: str | None, partner: str | None) -> dict[Any, Any]:
        shown = about(tab, run_id, workspace)
        if run_id == partner and partner is not None:
            return {part: shown[part] for part in (tab.banner, tab.as_trained, tab.system)}
        # What somebody has begun to type stays.
        return {tab.turns: [], tab.partner: None, **shown}

    asks = [tab.run, tab.text, tab.turns, tab.as_trained, tab.system, tab.temperature, tab.length]
    asks += [tab.strength]
    for trigger in (tab.send.click, tab.text.submit):
        on(
            trigger,
            say,
            asks,
            [tab.log, tab.text, tab.turns, tab.partner, tab.send, tab.stop],
            box=tab.message,
            # One answer at a time on the device, whoever asks.
            concurrency_id="device",
            concurrency_limit=1,
        )
    on(tab.stop.click, stop, [], [], queue=False)
    emptied = [tab.turns, tab.partner, tab.log, tab.text]
    on(tab.clear.click, clear, [], emptied, box=tab.message, queue=False)
    on(
        tab.run.change,
        choose,
        [tab.run, tab.partner],
        [tab.turns, tab.partner, tab.log, tab.banner, tab.as_trained, tab.system, tab.strength],
        box=tab.message,
        queue=False,
    )


def about(tab: ChatTab, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """The banner of the chosen run's base, how it is asked and at which strength, and what to do without a run."""
    if not run_id:
        settings = dict.fromkeys((tab.as_trained, tab.system, tab.strength), gr.update())
        return {tab.banner: "", tab.log: nobody_yet(), **settings}
    run = workspace.run(run_id)
    config = run_files.config(run)
    asked = asked_of(run) if config else AsTrained()
    return {
        tab.banner: run_view.toy_banner(config.model.base if config else None),
        tab.log: conversation([]),
        tab.as_trained: gr.update(info=" ".join(asked.described()) or _AS_IT_IS),
        tab.system: gr.update(placeholder=asked.system or ""),
        tab.strength: _strength(run, config),
    }


def strength_of(tab: ChatTab, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """An update that puts the slider to the strength that was chosen for the run."""
    run = workspace.run(run_id) if run_id else None
    return {} if run is None else {tab.strength: _strength(run, run_files.config(run))}


def _strength(run: RunDirectory, config: RunConfig | None) -> dict[str, Any]:
    """The slider at the strength that was chosen for `run`; where its method has none it stands still and says why."""
    reason = why_not(config) if config is not None else None
    if config is None or reason is not None:
        return gr.update(visible=config is not None, value=AS_TRAINED, interactive=False, info=reason)
    return gr.update(visible=True, value=run_files.strength(run), interactive=True, info=_STRENGTH)


def nobody_yet() -> Markup:
    hint = "Train a run on the Train tab, then talk to it here beside its base."
    return empty("There is nobody to talk to yet.", hint)
