"""What the server says to a rater's browser: one message in, one screen out.

A message is {"do", "key", "trial", "choice", "ratings", "comment", "seconds", "name", "text"}, as far as `do` needs them;
`key` is the token of the rater's link and the only thing that says who speaks. `do` is open (show where I am), join,
ask (a question of the rater's own, in a live test), vote, guess or undo. Whatever else comes is refused and changes
nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from markupsafe import Markup

from ftlab.arena import links, trials
from ftlab.arena.links import Rater
from ftlab.arena.store import Store
from ftlab.arena.tests import list_contestants
from ftlab.arena.trials import Trial
from ftlab.errors import FtlabError, InputError
from ftlab.ui import rater_screens as screens

log = logging.getLogger(__name__)
# Asked after every vote, the question would double the work and put the idea of a "tuned side" into each next vote.
GUESS_AFTER_EVERY = 5

# Lets both models of a live test answer a rater (store, rater id, question); back when both answers are complete.
AskModels = Callable[[Store, str, str], Any]


def answer(store: Store, said: Any, ask_models: AskModels | None = None) -> dict[str, str]:
    """The reply to one message: {"screen": HTML, "say": words for a screen reader} and, after joining, {"key": token}.

    Raises nothing: what goes wrong becomes a screen that says so, without details of the server.
    """
    try:
        return _answer(store, said if isinstance(said, Mapping) else {}, ask_models)
    except FtlabError as error:
        return {"screen": str(screens.cannot_open(error)), "say": error.what}
    except Exception:
        log.exception("A rater's message could not be answered")
        error = FtlabError("Something went wrong here. Your earlier votes are safe", try_="reload this page")
        return {"screen": str(screens.cannot_open(error)), "say": error.what}


def _answer(store: Store, said: Mapping[str, Any], ask_models: AskModels | None) -> dict[str, str]:
    key, do = _text(said, "key"), _text(said, "do")
    if not key:
        raise InputError("This page opens with a link", try_="open the whole link that you were sent")
    if links.is_open_link(store, key):
        return _join(store, key, said) if do == "join" else _reply(screens.ask_name(), "")
    rater = links.read_token(store, key)
    acts = {"open": _open, "vote": _vote, "guess": _guess, "undo": _undo}
    if rater.live and ask_models is not None:
        acts["ask"] = partial(_ask, ask_models)
    try:
        if do not in acts:
            raise InputError("This page cannot do that", given=do, allowed=", ".join(acts))
        return acts[do](store, rater, said)
    except FtlabError as error:
        # Refused; what may be done is shown again, unless the rater may do nothing any more.
        return _now(store, links.read_token(store, key), error.what, note=screens.problem(error))


def _join(store: Store, key: str, said: Mapping[str, Any]) -> dict[str, str]:
    try:
        link = links.join(store, key, _text(said, "name"))
    except InputError as error:
        return _reply(screens.ask_name(note=screens.problem(error)), error.what)
    return _now(store, links.read_token(store, link.token), "") | {"key": link.token}


def _open(store: Store, rater: Rater, said: Mapping[str, Any]) -> dict[str, str]:
    return _now(store, rater, "")


def _vote(store: Store, rater: Rater, said: Mapping[str, Any]) -> dict[str, str]:
    trial_id, choice = _text(said, "trial"), _text(said, "choice")
    seen = trials.next_trial(store, rater.id)
    trials.vote(
        store,
        rater.id,
        trial_id,
        choice,
        ratings=_ratings(said),
        comment=_text(said, "comment"),
        seconds=_seconds(said),
    )
    if seen is not None and seen.id == trial_id and choice != "skip" and _guess_is_due(store, rater, seen):
        screen = screens.guess(seen.id, (seen.number, seen.total), seen.messages, (seen.left, seen.right))
        return _reply(screen, "Vote saved. A guess: which answer comes from the model that was adapted?")
    return _now(store, rater, "Vote saved.")


def _guess_is_due(store: Store, rater: Rater, trial: Trial) -> bool:
    """Now and then, and only where one of two contestants can be meant."""
    return trial.number % GUESS_AFTER_EVERY == 0 and len(list_contestants(store, rater.test_id)) == 2


def _guess(store: Store, rater: Rater, said: Mapping[str, Any]) -> dict[str, str]:
    side = _text(said, "choice")
    if side:
        trials.guess(store, rater.id, _text(said, "trial"), side)
    return _now(store, rater, "Thank you.")


def _ask(ask_models: AskModels, store: Store, rater: Rater, said: Mapping[str, Any]) -> dict[str, str]:
    question = _text(said, "text").strip()[: screens.LONGEST_QUESTION]
    if not question:
        raise InputError("The question is empty", try_="write one, then press Ask both")
    ask_models(store, rater.id, question)
    return _now(store, rater, "Both answers are here.")


def _undo(store: Store, rater: Rater, said: Mapping[str, Any]) -> dict[str, str]:
    # Named, so that the same request sent twice takes back one vote.
    trials.undo(store, rater.id, _text(said, "trial"))
    note = "Your last vote is taken back. You can vote on this comparison again."
    return _now(store, rater, note, note=screens.notice(note))


def _now(store: Store, rater: Rater, say: str, *, note: Markup | str = "") -> dict[str, str]:
    """The comparison that waits for this rater, the question they may ask, or the end."""
    trial = trials.next_trial(store, rater.id)
    last = trials.last_voted(store, rater.id)
    if trial is not None:
        return _reply(_screen(trial, rater, last, note), f"{say} Comparison {trial.number} of {trial.total}.")
    if rater.live:
        return _reply(screens.ask(rater.instructions, last=last, note=note), f"{say} Write a question for both models.")
    return _reply(screens.finished(last=last, note=note), f"{say} There are no more comparisons for you. Thank you.")


def _screen(trial: Trial, rater: Rater, last: str | None, note: Markup | str) -> Markup:
    return screens.comparison(
        trial.id,
        (trial.number, trial.total),
        trial.messages,
        (trial.left, trial.right),
        trial.options,
        trial.rubric,
        instructions=rater.instructions,
        last=last,
        note=note,
    )


def _reply(screen: Markup, say: str) -> dict[str, str]:
    return {"screen": str(screen), "say": say.strip()}


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _ratings(said: Mapping[str, Any]) -> dict[str, str]:
    value = said.get("ratings")
    return {str(name): str(choice) for name, choice in value.items()} if isinstance(value, Mapping) else {}


def _seconds(said: Mapping[str, Any]) -> float | None:
    value = said.get("seconds")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
