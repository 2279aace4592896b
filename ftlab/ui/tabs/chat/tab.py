"""Chat: one message, two answers side by side: from the base and from the adapted model.

elem_ids: `chat_run` (dropdown), `chat_log` (the conversation; before it, three held-out prompts to press), `chat_text`
(message), `chat_send`, `chat_stop`, `chat_clear`, `chat_message`, `chat_votes` (what votes have been kept),
`chat_settings` (folded: `chat_as_trained`, `chat_strength`, `chat_system`, `chat_tools`, `chat_temperature`,
`chat_length`).
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.data.splits import FEWEST_TO_PART
from ftlab.errors import InputError, shorten
from ftlab.models.strength import AS_TRAINED, HIGHEST, why_not
from ftlab.ui import run_files, run_names
from ftlab.ui.background import ensure
from ftlab.ui.kit.conversation import AFRESH, CHAT_JS, SIDES, Turn, conversation, history, note, same_strength
from ftlab.ui.kit.events import message_box, on
from ftlab.ui.kit.fresh import digest
from ftlab.ui.kit.html import empty, join, notice
from ftlab.ui.page import Door, Follower, Look, Page
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.chat import votes

_STRENGTH = "Applies to the adapted model. 0: the base. 1: as trained."
_AS_IT_IS = "Training used the rows without a chat template, so your message gets none either."

SUGGESTIONS = 3  # held-out prompts to press
_LONGEST = 110  # characters of one on its button
_OTHER = 0.7  # default temperature of alternative answers: greedy decoding would repeat the same answer
_DRAWN_EVERY = 0.4  # seconds; a slow browser falls behind a faster answer, and then draws parts of one that was left


@dataclass
class _Answering:
    """How an answer that is being written is ended by another handler of the same session."""

    run: str  # its id
    ended: threading.Event = field(default_factory=threading.Event)
    instead: Markup | None = None  # what replaces the conversation if it was left; None: the answer so far is kept


# One for each session whose answer is being written. The conversation itself is in the session's state.
_answering: dict[str, _Answering] = {}
# (run, conversation) by the browser's key, the latest last, for pages that are loaded again. The browser holds the key
# only, so what it sends is never taken for answers.
_kept: dict[str, tuple[str, list[Turn]]] = {}
_MOST_KEPT, _MOST_TURNS = 32, 50


def keep_conversation(key: str | None, run_id: str | None, turns: list[Turn]) -> None:
    """Keep the conversation of a browser until the app ends, or drop it if it is empty."""
    _kept.pop(key or "", None)
    if key and run_id and turns:
        _kept[key] = (run_id, turns[-_MOST_TURNS:])
        for oldest in list(_kept)[:-_MOST_KEPT]:
            _kept.pop(oldest, None)


def kept_conversation(key: str | None, run_id: str | None) -> list[Turn]:
    """The conversation of a browser with the run; empty if there is none."""
    run, turns = _kept.get(key or "", ("", []))
    return turns if run == run_id else []


NAME, TITLE = "chat", "Chat"


@dataclass(frozen=True)
class Settings:
    """Generation settings of a message; None for an empty field."""

    as_trained: bool
    strength: float | None
    system: str | None
    tools: str | None
    temperature: float | None
    length: float | None


@dataclass(frozen=True)
class ChatTab:
    run: gr.Dropdown
    banner: gr.HTML
    as_trained: gr.Checkbox
    strength: gr.Slider
    system: gr.Textbox
    tools: gr.Textbox
    temperature: gr.Slider
    length: gr.Number
    log: gr.HTML
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    message: gr.HTML
    votes: gr.HTML
    turns: gr.State
    partner: gr.State  # the run of the displayed conversation; None before the first message
    key: gr.BrowserState  # random, of this browser: see `keep_conversation`


def build(workspace: Workspace) -> ChatTab:
    banner = gr.HTML(elem_id="chat_banner")
    with gr.Row(elem_classes="ft-controls ft-head ft-line"):
        run = gr.Dropdown(
            [], value=None, label="Run", allow_custom_value=True, elem_id="chat_run", scale=4, min_width=180
        )
        clear = gr.Button("New chat", elem_id="chat_clear", scale=0, min_width=130)
    log = gr.HTML(nobody_yet(), elem_id="chat_log", autoscroll=False, js_on_load=CHAT_JS)
    kept = gr.HTML(elem_id="chat_votes", elem_classes="ft-maybe")
    message = message_box("chat_message")
    with gr.Row(elem_classes="ft-controls ft-head ft-line ft-composer"):
        text = gr.Textbox(
            label="Message (Enter sends)",
            placeholder="Write to both models",
            lines=1,
            max_lines=8,
            elem_id="chat_text",
            scale=4,
            min_width=180,
        )
        send = gr.Button("Send", variant="primary", elem_id="chat_send", scale=0, min_width=100, interactive=False)
        stop = gr.Button("Stop", variant="stop", elem_id="chat_stop", visible=False, scale=0, min_width=100)
    with gr.Accordion("Settings", open=False, elem_id="chat_settings"):
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
        with gr.Row():
            system = gr.Textbox(
                label="System prompt",
                info="For both models. Empty: the one used in training, if prompts are formatted as in training.",
                elem_id="chat_system",
                min_width=260,
            )
            tools = gr.Textbox(
                label="Tools",
                info="A JSON list of tools both models may call. You type the replies. Empty: the tools used in "
                "training.",
                elem_id="chat_tools",
                min_width=260,
                max_lines=4,
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
    asks = (as_trained, strength, system, tools, temperature, length)
    states = (gr.State([]), gr.State(None), gr.BrowserState("", storage_key="ftlab_chat"))
    return ChatTab(run, banner, *asks, log, text, send, stop, clear, message, kept, *states)


def wire(tab: ChatTab, page: Page) -> None:
    workspace = page.workspace
    idle = {tab.send: gr.update(visible=True), tab.stop: gr.update(visible=False)}

    def say(
        request: gr.Request, run_id: str | None, text: str, turns: list[Turn], key: str | None, *settings: Any
    ) -> Iterator[dict[Any, Any]]:
        yield from answer(request, run_id, text, turns, key, Settings(*settings))

    def ask(
        event: gr.EventData,
        request: gr.Request,
        run_id: str | None,
        turns: list[Turn],
        key: str | None,
        *settings: Any,
    ) -> Iterator[dict[Any, Any]]:
        """A press on a suggestion, or a request for other answers to the last message."""
        act, _, place = str(event._data["value"]).partition(":")
        chosen = Settings(*settings)
        if act == "again":
            if not turns:
                raise InputError("There is no message to answer again", try_="write one first")
            varied = replace(chosen, temperature=chosen.temperature or _OTHER)
            yield from answer(request, run_id, turns[-1]["user"], turns[:-1], key, varied, keeps=turns)
            return
        offered = suggestions(run_files.chosen_run(workspace, run_id, answers=True))
        if not place.isdigit() or int(place) >= len(offered):
            raise InputError("This prompt is no longer offered", try_="choose the run again")
        yield from answer(request, run_id, offered[int(place)], turns, key, chosen)

    def answer(
        request: gr.Request,
        run_id: str | None,
        text: str,
        turns: list[Turn],
        key: str | None,
        settings: Settings,
        keeps: list[Turn] | None = None,
    ) -> Iterator[dict[Any, Any]]:
        """Both answers to `text` after `turns`. On failure, the conversation returns to `keeps`."""
        run = run_files.chosen_run(workspace, run_id, answers=True)
        if not (text or "").strip():
            raise InputError("There is no message to answer", try_="type one first")
        answering = _answering[request.session_hash or ""] = _Answering(run.id)
        try:
            yield from write(answering, run, text, turns, key, settings, keeps)
            if answering.instead is not None:
                # Drawn once more: a part of the answer, or all of it, may have reached the page after the conversation
                # was left.
                yield {tab.log: answering.instead, tab.turns: [], tab.partner: None, **idle}
        finally:
            _answering.pop(request.session_hash or "", None)

    def write(
        answering: _Answering,
        run: RunDirectory,
        text: str,
        turns: list[Turn],
        key: str | None,
        settings: Settings,
        keeps: list[Turn] | None,
    ) -> Iterator[dict[Any, Any]]:
        at = AS_TRAINED if settings.strength is None else round(float(settings.strength), 2)
        read = same_strength(turns, at)
        afresh = AFRESH if turns and not read else ""
        turn: Turn = {"user": text.strip(), "base": "", "adapted": "", "note": "Loading the models …", "strength": at}
        system, temperature = (settings.system or "").strip() or None, float(settings.temperature or 0)
        turn |= {"id": uuid.uuid4().hex, "run": run.id, "temperature": temperature}
        other = f"Regenerated at temperature {temperature:g}." if keeps is not None else ""
        busy = {tab.send: gr.update(visible=False), tab.stop: gr.update(visible=True)}
        yield {tab.log: conversation([*turns, turn], busy=True), tab.text: "", tab.partner: run.id, **busy}
        due = 0.0
        try:
            ensure("transformers")
            from ftlab.evaluation.duet import load_duet, threads_beside_a_run

            answers = load_duet(run).stream(
                turn["user"],
                history(read),
                system=system,
                tools=settings.tools,
                as_trained=settings.as_trained,
                temperature=temperature,
                max_new_tokens=int(settings.length or 128),
                strength=at,
                threads=threads_beside_a_run() if run_files.current_job(workspace) else None,
            )
            with contextlib.closing(answers):
                for part in answers:
                    if answering.instead is not None:
                        break
                    notes = " ".join(filter(None, [afresh, other, note(part)]))
                    turn = {**turn, "base": part.base, "adapted": part.adapted, "note": notes}
                    if answering.ended.is_set() and not part.done:
                        turn["note"] = "Stopped by you."
                        break
                    if part.done or time.monotonic() >= due:
                        yield {tab.log: conversation([*turns, turn], busy=not part.done)}
                        due = time.monotonic() + _DRAWN_EVERY
        except Exception:
            # The message returns to the box, so an error loses nothing typed.
            before = turns if keeps is None else keeps
            log = drawn(run, before) if answering.instead is None else answering.instead
            yield {tab.log: log, tab.text: text if keeps is None else "", **idle}
            raise
        if answering.instead is not None:
            return
        # Incomplete answers are not offered for a vote.
        if turn["note"] != "Stopped by you.":
            turn["prompts"] = votes.prompts(
                run, read, turn["user"], as_trained=settings.as_trained, system=system, tools=settings.tools
            )
        turns = [*turns, turn]
        # Kept before the page can go on: it may be loaded again at once.
        yield {tab.log: drawn(run, turns), tab.turns: turns, **idle, **keep(key, run.id, turns)}

    def vote(run_id: str | None, turns: list[Turn], key: str | None, event: gr.EventData) -> dict[Any, Any]:
        """Handle a thumb, a choice of the better answer, or a request to edit the last message."""
        act, _, place = str(event._data["value"]).partition(":")
        run = run_files.chosen_run(workspace, run_id, answers=True)
        if act == "edit" and turns:
            text, turns = turns[-1]["user"], turns[:-1]
            return {tab.text: text, tab.turns: turns, tab.log: drawn(run, turns), **keep(key, run.id, turns)}
        number, _, side = place.partition(":")
        known = number.isdigit() and int(number) < len(turns) and side in SIDES
        if not known or not turns[int(number)].get("prompts"):
            raise InputError("This answer is no longer displayed", try_="write the message again")
        turn = turns[int(number)]
        if act == "better":
            turn = votes.choose(turn, side, workspace)
        else:
            turn = votes.thumb(turn, side, act == "up", workspace)
        turns = [*turns[: int(number)], turn, *turns[int(number) + 1 :]]
        changed = {tab.turns: turns, tab.log: drawn(run, turns), tab.votes: kept_votes(workspace)}
        return changed | keep(key, run.id, turns)

    def stop(request: gr.Request) -> None:
        if answering := _answering.get(request.session_hash or ""):
            answering.ended.set()

    def leave(request: gr.Request, log: Markup, run_id: str | None = None) -> None:
        """Ends an answer whose conversation is replaced by `log`, unless it is one of the run chosen."""
        answering = _answering.get(request.session_hash or "")
        if answering is not None and answering.run != run_id:
            answering.instead = log
            answering.ended.set()

    def clear(request: gr.Request, run_id: str | None, key: str | None) -> dict[Any, Any]:
        keep_conversation(key, None, [])
        log = about(tab, run_id, workspace)[tab.log]
        leave(request, log)
        return {tab.turns: [], tab.partner: None, tab.log: log, tab.text: "", tab.votes: ""}

    def choose(request: gr.Request, run_id: str | None, partner: str | None, key: str | None) -> dict[Any, Any]:
        updates, answering = about(tab, run_id, workspace), _answering.get(request.session_hash or "")
        # On a slow page a prompt was pressed before this came: its answer is on the way.
        on_the_way = answering is not None and answering.run == run_id and answering.instead is None
        if on_the_way or (run_id == partner and partner is not None):
            return {part: updates[part] for part in (tab.banner, tab.as_trained, tab.system, tab.send)}
        if run_id and partner is None and (turns := kept_conversation(key, run_id)):  # the page was loaded again
            log = drawn(run_files.chosen_run(workspace, run_id, answers=True), turns)
            return {**updates, tab.turns: turns, tab.partner: run_id, tab.log: log}
        if partner is not None:
            keep_conversation(key, None, [])
        leave(request, updates[tab.log], run_id)
        # Text that somebody has begun to type stays.
        return {tab.turns: [], tab.partner: None, **updates}

    def keep(key: str | None, run_id: str | None, turns: list[Turn]) -> dict[Any, Any]:
        # Made here, as the key of the browser comes only after the page was opened.
        mine = key or uuid.uuid4().hex
        keep_conversation(mine, run_id, turns)
        return {} if mine == key else {tab.key: mine}

    settings = [tab.as_trained, tab.strength, tab.system, tab.tools, tab.temperature, tab.length]  # as in Settings
    answered = [tab.log, tab.text, tab.turns, tab.partner, tab.send, tab.stop, tab.key]
    # One answer at a time on the device, whoever asks.
    device: dict[str, Any] = {"box": tab.message, "concurrency_id": "device", "concurrency_limit": 1}
    for trigger in (tab.send.click, tab.text.submit):
        on(trigger, say, [tab.run, tab.text, tab.turns, tab.key, *settings], answered, **device)
    on(tab.log.ask, ask, [tab.run, tab.turns, tab.key, *settings], answered, **device)
    # Every press counts, even while an earlier one is at work: by itself Gradio drops it.
    voted = [tab.text, tab.turns, tab.log, tab.votes, tab.key]
    on(tab.log.vote, vote, [tab.run, tab.turns, tab.key], voted, box=tab.message, trigger_mode="multiple")
    on(tab.stop.click, stop, [], [], queue=False)
    emptied = [tab.turns, tab.partner, tab.log, tab.text, tab.votes]
    on(tab.clear.click, clear, [tab.run, tab.key], emptied, box=tab.message, queue=False)
    on(
        tab.run.change,
        choose,
        [tab.run, tab.partner, tab.key],
        [tab.turns, tab.partner, tab.log, tab.banner, tab.as_trained, tab.system, tab.strength, tab.send],
        box=tab.message,
        queue=False,
    )


def about(tab: ChatTab, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """The banner for the selected run's base, its prompt and strength, and what to do without a run."""
    if not run_id:
        settings = dict.fromkeys((tab.as_trained, tab.system, tab.strength), gr.update())
        return {tab.banner: "", tab.log: nobody_yet(), tab.send: gr.update(interactive=False), **settings}
    run = workspace.run(run_id)
    config = run_files.config(run)
    asked = asked_of(run) if config else AsTrained()
    return {
        tab.banner: run_view.toy_banner(config.model.base if config else None),
        tab.log: drawn(run, []),
        tab.send: gr.update(interactive=True),
        tab.as_trained: gr.update(info=" ".join(asked.described()) or _AS_IT_IS),
        tab.system: gr.update(placeholder=asked.system or ""),
        tab.strength: _strength(run, config),
    }


def strength_of(tab: ChatTab, run_id: str | None, workspace: Workspace) -> dict[Any, Any]:
    """An update that sets the slider to the strength chosen for the run."""
    run = workspace.run(run_id) if run_id else None
    return {} if run is None else {tab.strength: _strength(run, run_files.config(run))}


def _strength(run: RunDirectory, config: RunConfig | None) -> dict[str, Any]:
    """The slider at the strength chosen for `run`. If its method has no strength, it is disabled and says why."""
    reason = why_not(config) if config is not None else None
    if config is None or reason is not None:
        return gr.update(visible=config is not None, value=AS_TRAINED, interactive=False, info=reason)
    return gr.update(visible=True, value=run_files.strength(run), interactive=True, info=_STRENGTH)


def drawn(run: RunDirectory, turns: list[Turn]) -> Markup:
    """The conversation with its buttons; before it, three held-out prompts."""
    if turns:
        return conversation(turns, votes=True)
    offered = suggestions(run)
    buttons = join(
        Markup('<button type="button" class="ft-act" data-act="ask:{}">{}</button>').format(
            place, shorten(prompt, _LONGEST)
        )
        for place, prompt in enumerate(offered)
    )
    if not buttons:
        return conversation([])
    return Markup(
        '<div class="ft-empty"><strong>Ask both models.</strong><span>Held-out prompts to try:</span>'
        '<div class="ft-suggestions ft-content">{}</div></div>'
    ).format(buttons)


def suggestions(run: RunDirectory) -> list[str]:
    """The first held-out prompts that a person could have typed; none for plain text."""
    rows = run_files.predictions(run) or run_files.before_after_answers(run)
    prompts = dict.fromkeys(
        str(row["prompt"]).strip() for row in rows if isinstance(row.get("prompt"), str) and row.get("turn", 1) == 1
    )
    return [prompt for prompt in prompts if prompt][:SUGGESTIONS]


def kept_votes(workspace: Workspace) -> Markup:
    """The stored votes and where they can be used; empty if there are none."""
    pairs, thumbs = votes.counts(workspace)
    if not pairs and not thumbs:
        return Markup("")
    amounts = " and ".join(counted(number, kind) for number, kind in ((pairs, "pair"), (thumbs, "thumb")) if number)
    enough = "The Preferences tab can learn from them."
    if pairs < FEWEST_TO_PART and thumbs < FEWEST_TO_PART:
        enough = f"The Preferences tab can learn from them once there are {FEWEST_TO_PART} pairs or thumbs."
    return notice(f"Saved: {amounts}. {enough}", kind="good")


def nobody_yet() -> Markup:
    return empty(
        "No model to chat with yet.",
        "Train one on the Train tab. Once its evaluation is done, chat with it here, side by side with its base.",
    )


def list_runs(tab: ChatTab, seen: Look) -> dict[Any, Any]:
    """Updates the choices of runs to chat with. A conversation in progress keeps its run."""
    workspace, partner = seen.workspace, seen.values[tab.partner]
    talks = [run.id for run in run_files.runs_that_answer(workspace)]
    talking = partner in talks and seen.values[tab.run] in (None, partner)
    followed = seen.follow(tab.run, talks)
    talked = partner if talking else followed
    # During a conversation, only the strength is updated: it may have changed on the Evaluate tab.
    updates = (strength_of if talking else about)(tab, talked, workspace)
    at = digest([talked, updates.get(tab.strength)])
    if seen.notes.get("strength") == at:
        updates.pop(tab.strength, None)  # somebody may have moved it since
    seen.notes["strength"] = at
    named = run_names.choices([workspace.run(run_id) for run_id in talks])
    return {tab.run: gr.update(choices=named, value=talked), **updates}


def doors(tab: ChatTab, page: Page) -> dict[str, Door]:
    return {"run": Door([tab.run], lambda run_id: {tab.run: run_id})}


def followers(tab: ChatTab, page: Page) -> list[Follower]:
    return [
        Follower(
            [tab.run, tab.banner, tab.as_trained, tab.system, tab.strength, tab.log, tab.send],
            lambda seen: list_runs(tab, seen),
            [tab.partner, tab.run],
            [tab.run],
            box=tab.banner,
            remembers={"talked": tab.run},
        )
    ]
