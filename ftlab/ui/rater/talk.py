"""The server's replies to a rater's browser: one message in, one screen out.

A message is {"do", "key", "language", "id", "trial", "choice", "ratings", "comment", "seconds", "name", "group",
"text"}, as far as `do` needs them. `key` is the token of the rater's link and the only identification. `id` is that of
a vote: the browser sends it again if it is not sure that it arrived. `do` is open (show my current screen), join, agree
(to the text of consent), ask (a question of the rater's own, in a live test), vote, guess or undo. Any other message is
refused and changes nothing. Until a rater has agreed, nothing but the text of consent is shown.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict

from markupsafe import Markup

from ftlab.arena import links, trials
from ftlab.arena.blind_tests import get_test, identical_in_test, list_contestants, list_prompts, seconds_each
from ftlab.arena.links import Rater
from ftlab.arena.store import NOTHING_CHANGED, Store
from ftlab.errors import FtlabError, InputError
from ftlab.ui.rater import screens
from ftlab.ui.rater.texts import Texts

log = logging.getLogger(__name__)

# Lets both models of a live test answer a rater (store, rater id, question); returns when both answers are complete.
AskModels = Callable[[Store, str, str], Any]


class Reply(TypedDict):
    """The `screen` as HTML and the words for a screen reader; the `key` after joining; after an undo what came with the
    vote, {"comment", "ratings"}."""

    screen: str
    say: str
    key: NotRequired[str]
    written: NotRequired[Mapping[str, Any]]


def answer(store: Store, sent: Any, ask_models: AskModels | None = None, address: str = "") -> Reply:
    """The reply to one message. `address` is the sender's network address.

    Never raises: errors become a screen that explains them, without details of the server.
    """
    sent = sent if isinstance(sent, Mapping) else {}
    t = Texts(_text(sent, "language"))
    try:
        return _answer(store, t, sent, ask_models, address)
    except FtlabError as error:
        return _reply(screens.cannot_open(t, error), t.sentence(error.what))
    except Exception:
        log.exception("A rater's message could not be answered")
        broken = FtlabError("Something went wrong. Your earlier votes are safe", try_="reload this page")
        return _reply(screens.cannot_open(t, broken), t.sentence(broken.what))


@dataclass(frozen=True)
class _Talk:
    """The rater who sent the message, and what is needed to reply."""

    store: Store
    rater: Rater
    t: Texts
    ask_models: AskModels | None


def _answer(store: Store, t: Texts, sent: Mapping[str, Any], ask_models: AskModels | None, address: str) -> Reply:
    key, do = _text(sent, "key"), _text(sent, "do")
    try:
        if not key:
            raise InputError("This page needs a link", try_=_ASK)
        opened = links.is_open_link(store, key)
        test = links.invitation(store, key) if opened else None
        rater = None if opened else links.read_token(store, key)
    except InputError as error:
        return _ended(store, t, sent, error)
    if test is not None:
        return _join(store, t, key, sent, ask_models, address) if do == "join" else _welcome(store, t, test)
    assert rater is not None
    talk = _Talk(store, rater, t, ask_models)
    try:
        # First of all: the screen after a refusal is a comparison.
        if talk.rater.consent and do != "agree":
            return _reply(screens.ask_consent(t, talk.rater.consent), t("Before you begin"))
        if do not in _ACTS:
            raise InputError("This page cannot do that", given=do, allowed=", ".join(_ACTS))
        return _ACTS[do](talk, sent)
    except FtlabError as error:
        # Refused. Show what the rater may do, unless they may no longer do anything.
        try:
            links.read_token(store, key)
        except InputError as ended:
            return _ended(store, t, sent, ended)
        return _now(talk, t.sentence(error.what), note=screens.problem(t, error))


def _ended(store: Store, t: Texts, sent: Mapping[str, Any], error: InputError) -> Reply:
    """The screen without a way to vote. A vote that was kept without a network may come after the end: what became of
    it is told."""
    became = ""
    if _text(sent, "do") == "vote" and _text(sent, "id"):
        there = trials.arrived(store, _text(sent, "trial"), _text(sent, "id"))
        became = t("Your last vote is saved.") if there else t("Your last vote was not saved.")
    screen = screens.no_way_in(t, error, became, waits=isinstance(error, links.NotBegun))
    return _reply(screen, t.together(t.sentence(error.what), became))


_ASK = "ask the person who invited you for the link or the QR code, and open it here"


def _welcome(store: Store, t: Texts, test: Any, error: InputError | None = None) -> Reply:
    """The first screen of an open link."""
    note = screens.problem(t, error) if error else ""
    among, asked = len(list_contestants(store, test.id)), len(list_prompts(store, test.id))
    seen = asked * math.comb(among, 2) - identical_in_test(store, test.id)  # one person sees a pair of answers once
    most = min(seen, test.planned_votes)
    talks, takes = test.settings.get("conversations", False), seconds_each(store, test.id)
    line = screens.intro(t, most, takes, at_most=True, conversations=talks) if most else screens.intro_live(t)
    screen = screens.ask_name(t, line, test.settings["instructions"], note, links.consent_of(test.settings))
    return _reply(screen, t.sentence(error.what) if error else "")


def _join(
    store: Store, t: Texts, key: str, sent: Mapping[str, Any], ask_models: AskModels | None, address: str
) -> Reply:
    try:
        # The button that sends the name says that they agree.
        link = links.join(store, key, _text(sent, "name"), address, group=_text(sent, "group"), agreed=True)
    except InputError as error:
        return _welcome(store, t, links.invitation(store, key), error)
    talk = _Talk(store, links.read_token(store, link.token), t, ask_models)
    return {**_now(talk, "", greets=False), "key": link.token}  # they have just read the introduction


def _open(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    return _now(talk, "")


def _agree(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    links.agree(talk.store, talk.rater.id)
    return _now(replace(talk, rater=replace(talk.rater, consent="")), "")


def _vote(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    trials.vote(
        talk.store,
        talk.rater.id,
        _text(sent, "trial"),
        _text(sent, "choice"),
        ratings=_ratings(sent),
        comment=_text(sent, "comment"),
        seconds=_seconds(sent),
        sent_as=_text(sent, "id"),
    )
    return _done(talk, talk.t("Vote saved."), guess_after="")


def _guess(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    side, trial = _text(sent, "choice"), _text(sent, "trial")
    if side:
        trials.guess(talk.store, talk.rater.id, trial, side)
    return (_done if side else _now)(talk, "", guess_after=trial)


def _ask(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    question = _text(sent, "text").strip()
    if not talk.rater.live or talk.ask_models is None:
        raise InputError("The questions in this test are already set", try_="vote on the answers you see")
    if not question:
        raise InputError("The question is empty", try_="write one, then press Ask both")
    if len(question) > screens.LONGEST_QUESTION:
        raise InputError("The question is too long", try_=f"shorten it to {screens.LONGEST_QUESTION} characters")
    talk.ask_models(talk.store, talk.rater.id, question)
    if trials.next_trial(talk.store, talk.rater.id) is None:
        note = talk.t("Both models gave the same answer. That counts as a tie; ask something else.")
        return _now(talk, note, note=screens.notice(note))
    return _now(talk, talk.t("Both answers are here."))


def _undo(talk: _Talk, sent: Mapping[str, Any]) -> Reply:
    # Named, so that sending the request twice undoes one vote.
    undone = trials.undo(talk.store, talk.rater.id, _text(sent, "trial"))
    note = talk.t("Your last vote was undone. You can vote on this comparison again.")
    return {**_done(talk, note, note=screens.notice(note)), "written": undone.written}


_ACTS = {"open": _open, "agree": _agree, "ask": _ask, "vote": _vote, "guess": _guess, "undo": _undo}


def _now(
    talk: _Talk, say: str, *, note: Markup | str = "", greets: bool = True, guess_after: str | None = None
) -> Reply:
    """The next comparison for this rater, the question they may ask, or the end; before it the guesses, if
    `guess_after` is given: as in `trials.to_guess`."""
    rater, t = talk.rater, talk.t
    trial = trials.next_trial(talk.store, rater.id)
    last = trials.last_voted(talk.store, rater.id)
    if trial is not None:
        begins = greets and trial.number == 1 and last is None and not note and not rater.live
        intro = ""
        if begins:
            takes, talks = seconds_each(talk.store, rater.test_id), trial.turns is not None
            intro = screens.intro(t, trial.total, takes, conversations=talks)
        which = t.sentence("Comparison {number} of {total}", number=trial.number, total=trial.total)
        screen = screens.comparison(t, trial, instructions=rater.instructions, intro=intro, last=last, note=note)
        return _reply(screen, t.together(say, which))
    if not rater.live:
        seen = None if guess_after is None else trials.to_guess(talk.store, rater.id, guess_after)
        if seen is not None:
            return _reply(screens.guess(t, seen, last), screens.guess_question(t, seen))
        # Someone who never voted has completed nothing.
        done = get_test(talk.store, rater.test_id).settings.get("completion", "") if last is not None else ""
        screen = screens.finished(t, last=last, note=note, completion=done)
        return _reply(screen, t.together(say, t("You have no more comparisons. Thank you.")))
    if talk.ask_models is None:
        raise FtlabError("The models are not running right now", try_="come back later, or ask your host")
    screen = screens.ask(t, rater.instructions, last=last, note=note)
    return _reply(screen, t.together(say, t("Write a question for both models.")))


def _done(talk: _Talk, say: str, *, note: Markup | str = "", guess_after: str | None = None) -> Reply:
    """Like `_now`, after something was stored. Still confirms it if the next comparison cannot be shown."""
    try:
        return _now(talk, say, note=note, guess_after=guess_after)
    except FtlabError as error:
        reason = talk.t(error.what.removesuffix(NOTHING_CHANGED))
        if talk.t.language != "de":  # there, a whole sentence after a colon keeps its capital
            reason = f"{reason[:1].lower()}{reason[1:]}"
        why = talk.t.sentence("The next comparison cannot be shown: {reason}", reason=reason)
        told = FtlabError(talk.t.together(say, why), try_=error.try_)
        return _reply(screens.cannot_open(talk.t, told), told.what)


def _reply(screen: Markup, say: str) -> Reply:
    return {"screen": str(screen), "say": say}


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
