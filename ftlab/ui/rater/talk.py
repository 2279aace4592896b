"""The server's replies to a rater's browser: one message in, one screen out.

A message is {"do", "key", "trial", "number", "choice", "ratings", "comment", "seconds", "name", "text"}, as far as `do`
needs them. `key` is the token of the rater's link and the only identification. `do` is open (show my current screen),
join, ask (a question of the rater's own, in a live test), vote, guess or undo. Any other message is refused and
changes nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.arena import links, trials
from ftlab.arena.blind_tests import get_test, list_contestants, list_prompts, seconds_each
from ftlab.arena.links import Rater
from ftlab.arena.store import NOTHING_CHANGED, Store
from ftlab.arena.trials import Trial
from ftlab.errors import FtlabError, InputError, sentence
from ftlab.ui.rater import screens

log = logging.getLogger(__name__)
# Asking after every vote would double the work and prime raters with the idea of a "tuned side".
GUESS_AFTER_EVERY = 5

# Lets both models of a live test answer a rater (store, rater id, question); returns when both answers are complete.
AskModels = Callable[[Store, str, str], Any]


def answer(store: Store, sent: Any, ask_models: AskModels | None = None, address: str = "") -> dict[str, str]:
    """The reply to one message: {"screen": HTML, "say": words for a screen reader} and, after joining, {"key": token}.

    `address` is the sender's network address.

    Never raises: errors become a screen that explains them, without details of the server.
    """
    try:
        return _answer(store, sent if isinstance(sent, Mapping) else {}, ask_models, address)
    except FtlabError as error:
        return {"screen": str(screens.cannot_open(error)), "say": error.what}
    except Exception:
        log.exception("A rater's message could not be answered")
        broken = FtlabError("Something went wrong. Your earlier votes are safe", try_="reload this page")
        return {"screen": str(screens.cannot_open(broken)), "say": broken.what}


@dataclass(frozen=True)
class _Talk:
    """The rater who sent the message, and what is needed to reply."""

    store: Store
    rater: Rater
    ask_models: AskModels | None


def _answer(store: Store, sent: Mapping[str, Any], ask_models: AskModels | None, address: str) -> dict[str, str]:
    key, do = _text(sent, "key"), _text(sent, "do")
    try:
        if not key:
            raise InputError("This page needs a link", try_=_ASK)
        opened = links.is_open_link(store, key)
        test = links.invitation(store, key) if opened else None
        rater = None if opened else links.read_token(store, key)
    except InputError as error:
        return _reply(screens.no_way_in(error, waits=isinstance(error, links.NotBegun)), error.what)
    if test is not None:
        return _join(store, key, sent, ask_models, address) if do == "join" else _welcome(store, test)
    assert rater is not None
    talk = _Talk(store, rater, ask_models)
    try:
        if do not in _ACTS:
            raise InputError("This page cannot do that", given=do, allowed=", ".join(_ACTS))
        return _ACTS[do](talk, sent)
    except FtlabError as error:
        # Refused. Show what the rater may do, unless they may no longer do anything.
        try:
            links.read_token(store, key)
        except InputError as ended:
            return _reply(screens.no_way_in(ended), ended.what)
        return _now(talk, sentence(error.what), note=screens.problem(error))


_ASK = "ask the person who invited you for the link or the QR code, and open it here"


def _welcome(store: Store, test: Any, error: InputError | None = None) -> dict[str, str]:
    """The first screen of an open link."""
    note = screens.problem(error) if error else ""
    among, asked = len(list_contestants(store, test.id)), len(list_prompts(store, test.id))
    most = min(asked * among * (among - 1) // 2, test.planned_votes)  # one person sees a pair of answers once
    line = screens.intro(most, seconds_each(store, test.id), at_most=True) if most else screens.LIVE
    screen = screens.ask_name(line, test.settings["instructions"], note)
    return _reply(screen, error.what if error else "")


def _join(
    store: Store, key: str, sent: Mapping[str, Any], ask_models: AskModels | None, address: str
) -> dict[str, str]:
    try:
        link = links.join(store, key, _text(sent, "name"), address)
    except InputError as error:
        return _welcome(store, links.invitation(store, key), error)
    talk = _Talk(store, links.read_token(store, link.token), ask_models)
    return _now(talk, "", greets=False) | {"key": link.token}  # they have just read the introduction


def _open(talk: _Talk, sent: Mapping[str, Any]) -> dict[str, str]:
    return _now(talk, "")


def _vote(talk: _Talk, sent: Mapping[str, Any]) -> dict[str, str]:
    trial_id, choice = _text(sent, "trial"), _text(sent, "choice")
    seen = trials.next_trial(talk.store, talk.rater.id) if choice != "skip" and _guess_is_due(talk, sent) else None
    trials.vote(
        talk.store,
        talk.rater.id,
        trial_id,
        choice,
        ratings=_ratings(sent),
        comment=_text(sent, "comment"),
        seconds=_seconds(sent),
    )
    if seen is not None and seen.id == trial_id:
        screen = screens.guess(seen.id, (seen.number, seen.total), seen.messages, (seen.left, seen.right))
        return _reply(screen, "Vote saved. A guess: which answer comes from the newly trained model?")
    return _done(talk, "Vote saved.")


def _guess_is_due(talk: _Talk, sent: Mapping[str, Any]) -> bool:
    """Whether to ask now: occasionally, and only in tests of two contestants.

    The page sends the number itself. A false number only changes how often it is asked; no vote depends on the answer.
    """
    number = sent.get("number")
    due = isinstance(number, int) and number % GUESS_AFTER_EVERY == 0
    return due and len(list_contestants(talk.store, talk.rater.test_id)) == 2


def _guess(talk: _Talk, sent: Mapping[str, Any]) -> dict[str, str]:
    side = _text(sent, "choice")
    if side:
        trials.guess(talk.store, talk.rater.id, _text(sent, "trial"), side)
    return _done(talk, "Thank you.") if side else _now(talk, "Thank you.")


def _ask(talk: _Talk, sent: Mapping[str, Any]) -> dict[str, str]:
    question = _text(sent, "text").strip()
    if not talk.rater.live or talk.ask_models is None:
        raise InputError("The questions in this test are already set", try_="vote on the answers you see")
    if not question:
        raise InputError("The question is empty", try_="write one, then press Ask both")
    if len(question) > screens.LONGEST_QUESTION:
        raise InputError(f"The question is longer than {screens.LONGEST_QUESTION} characters", try_="shorten it")
    talk.ask_models(talk.store, talk.rater.id, question)
    if trials.next_trial(talk.store, talk.rater.id) is None:
        note = "Both models gave the same answer. That counts as a tie; ask something else."
        return _now(talk, note, note=screens.notice(note))
    return _now(talk, "Both answers are here.")


def _undo(talk: _Talk, sent: Mapping[str, Any]) -> dict[str, str]:
    # Named, so that sending the request twice undoes one vote.
    trials.undo(talk.store, talk.rater.id, _text(sent, "trial"))
    note = "Your last vote was undone. You can vote on this comparison again."
    return _done(talk, note, note=screens.notice(note))


_ACTS = {"open": _open, "ask": _ask, "vote": _vote, "guess": _guess, "undo": _undo}


def _now(talk: _Talk, say: str, *, note: Markup | str = "", greets: bool = True) -> dict[str, str]:
    """The next comparison for this rater, the question they may ask, or the end."""
    rater = talk.rater
    trial = trials.next_trial(talk.store, rater.id)
    last = trials.last_voted(talk.store, rater.id)
    if trial is not None:
        begins = greets and trial.number == 1 and last is None and not note and not rater.live
        intro = screens.intro(trial.total, seconds_each(talk.store, rater.test_id)) if begins else ""
        return _reply(_screen(trial, rater, last, note, intro), f"{say} Comparison {trial.number} of {trial.total}.")
    if not rater.live:
        # Someone who never voted has completed nothing.
        done = get_test(talk.store, rater.test_id).settings.get("completion", "") if last is not None else ""
        screen = screens.finished(last=last, note=note, completion=done)
        return _reply(screen, f"{say} You have no more comparisons. Thank you.")
    if talk.ask_models is None:
        raise FtlabError("The models are not running right now", try_="come back later, or ask your host")
    return _reply(screens.ask(rater.instructions, last=last, note=note), f"{say} Write a question for both models.")


def _screen(trial: Trial, rater: Rater, last: str | None, note: Markup | str, intro: str) -> Markup:
    return screens.comparison(
        trial.id,
        (trial.number, trial.total),
        trial.messages,
        (trial.left, trial.right),
        trial.options,
        trial.rubric,
        instructions=rater.instructions,
        intro=intro,
        last=last,
        note=note,
    )


def _done(talk: _Talk, say: str, *, note: Markup | str = "") -> dict[str, str]:
    """Like `_now`, after something was stored. Still confirms it if the next comparison cannot be shown."""
    try:
        return _now(talk, say, note=note)
    except FtlabError as error:
        reason = error.what.removesuffix(NOTHING_CHANGED)
        why = f"The next comparison cannot be shown: {reason[:1].lower()}{reason[1:]}"
        told = FtlabError(f"{say} {why}", try_=error.try_)
        return _reply(screens.cannot_open(told), told.what)


def _reply(screen: Markup, say: str) -> dict[str, str]:
    return {"screen": str(screen), "say": say.strip()}


def _text(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name)
    return value if isinstance(value, str) else ""


def _ratings(sent: Mapping[str, Any]) -> dict[str, str]:
    value = sent.get("ratings")
    return {str(name): str(choice) for name, choice in value.items()} if isinstance(value, Mapping) else {}


def _seconds(sent: Mapping[str, Any]) -> float | None:
    value = sent.get("seconds")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
