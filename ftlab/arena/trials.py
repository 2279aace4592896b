"""Two answers under an opaque id: handing them out, voting, undoing, guessing; each one transaction.

The server decides everything that a request could get wrong: whose trial it is, whether it was voted on, whether the
test is open. What a request names is only ever compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Row, cast, delete, func, select
from sqlalchemy.exc import IntegrityError

from ftlab.arena.assignment import Shown, Unit, choose, remaining, still_open, wanted_votes
from ftlab.arena.links import find_rater
from ftlab.arena.store import (
    Store,
    answers,
    contestants,
    guesses,
    new_id,
    note,
    now,
    prompts,
    raters,
    storable,
    trials,
    votes,
)
from ftlab.arena.tests import PromptSpec, add_answer, add_prompt, votes_given
from ftlab.errors import InputError

SIDES = ("left", "right")
RATINGS = ("left", "right", "same")
LONGEST_COMMENT = 4000
# Who leaves a trial open this long has gone: another rater may have the prompt.
STALE_SECONDS = 30 * 60


@dataclass(frozen=True)
class Trial:
    """What a rater may see, and nothing else. `number` of about `total` for this rater."""

    id: str
    number: int
    total: int
    messages: list[dict[str, str]]
    left: str
    right: str
    options: tuple[str, ...]
    rubric: tuple[str, ...]


def next_trial(store: Store, rater_id: str) -> Trial | None:
    """The trial that the rater left open, else a new one; None when there is nothing more to vote on.

    Raises InputError when the rater may not vote.
    """
    with store.reading() as connection:
        test, rater = find_rater(connection, rater_id)
        waiting = _waiting(connection, rater_id)
        if waiting is not None:
            return _shown(connection, test, waiting)
    if test.settings["live"]:
        return None
    with store.writing() as connection:
        test, rater = find_rater(connection, rater_id, lock=True)
        waiting = _waiting(connection, rater_id)  # asked twice at once: both get the same
        if waiting is None:
            waiting = _assign(connection, test, rater)
        return None if waiting is None else _shown(connection, test, waiting)


def vote(
    store: Store,
    rater_id: str,
    trial_id: str,
    choice: str,
    ratings: Mapping[str, str] | None = None,
    comment: str = "",
    seconds: float | None = None,
) -> None:
    """Record the vote of a rater on a trial of theirs.

    `ratings` says for further criteria of the rubric which side is better (left, right, same). When this returns, the
    vote is on disk. Raises InputError, and changes nothing, for a trial that is forged or another rater's, a second
    vote, a choice that was not offered, and when the rater may not vote.
    """
    with store.writing() as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        trial = _own(connection, rater_id, trial_id)
        given = _checked(test, choice, ratings or {}, comment, seconds)
        if connection.execute(select(votes.c.id).where(votes.c.trial_id == trial.id)).first():
            raise _voted()
        try:
            connection.execute(
                votes.insert().values(
                    id=new_id(), trial_id=trial.id, rater_id=rater_id, created=now(), automatic=False, **given
                )
            )
        except IntegrityError:  # the last word is the database's
            raise _voted() from None


def undo(store: Store, rater_id: str, trial_id: str | None = None) -> Trial:
    """Take back the rater's last vote and return its trial, under a new id, so that the old vote cannot be replayed.

    With `trial_id`, only when the last vote was on that trial. Raises InputError when there is nothing to take back or
    the tally has been seen since.
    """
    with store.writing() as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        query = (
            select(trials, votes.c.choice, votes.c.created.label("voted"))
            .join(votes, votes.c.trial_id == trials.c.id)
            .where(trials.c.rater_id == rater_id, votes.c.automatic.is_(False))
            .order_by(votes.c.created.desc(), trials.c.place.desc())
        )
        last = connection.execute(query.limit(1)).first()
        if last is None or (trial_id is not None and last.id != trial_id):
            raise InputError("There is no vote to take back")
        if any(seen is not None and seen >= last.voted for seen in (test.opened_early_at, test.evidence_at)):
            raise InputError("The votes have been counted since: this one stays")
        connection.execute(delete(trials).where(trials.c.id == last.id))  # takes the vote and the guess along
        again = {column.name: getattr(last, column.name) for column in trials.columns} | {"id": new_id()}
        connection.execute(trials.insert().values(**again))
        note(connection, test.id, "vote undone", rater=rater_id, trial=again["id"], choice=last.choice)
        row = connection.execute(select(trials).where(trials.c.id == again["id"])).one()
        return _shown(connection, test, row)


def guess(store: Store, rater_id: str, trial_id: str, side: str) -> None:
    """Record which side the rater thinks was the tuned model's, once for each trial they voted on."""
    if side not in SIDES:
        raise InputError("A guess names a side", given=side, allowed="left or right")
    with store.writing() as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        trial = _own(connection, rater_id, trial_id)
        voted = select(votes.c.id).where(votes.c.trial_id == trial.id, votes.c.automatic.is_(False))
        if connection.execute(voted).first() is None:
            raise InputError("The guess comes after the vote")
        if connection.execute(select(guesses.c.id).where(guesses.c.trial_id == trial.id)).first():
            raise InputError("You have guessed already")
        try:
            connection.execute(
                guesses.insert().values(
                    id=new_id(), test_id=test.id, rater_id=rater_id, trial_id=trial.id, side=side, created=now()
                )
            )
        except IntegrityError:
            raise InputError("You have guessed already") from None


def last_voted(store: Store, rater_id: str) -> str | None:
    """The id of the trial that `undo` would take back, None when there is none."""
    with store.reading() as connection:
        query = (
            select(trials.c.id)
            .join(votes, votes.c.trial_id == trials.c.id)
            .where(trials.c.rater_id == rater_id, votes.c.automatic.is_(False))
            .order_by(votes.c.created.desc(), trials.c.place.desc())
        )
        return connection.execute(query.limit(1)).scalar()


def live_contestants(store: Store, rater_id: str) -> tuple[str, str]:
    """The ids of the two contestants that answer this rater's next prompt: the pair seen least, the lower first."""
    with store.reading() as connection:
        test, _ = find_rater(connection, rater_id)
        among = _contestants(connection, test.id)
        counted = select(trials.c.pair, func.count()).where(trials.c.rater_id == rater_id).group_by(trials.c.pair)
        seen = dict(connection.execute(counted).tuples().all())
    pairs = itertools.combinations(range(len(among)), 2)
    first, second = min(pairs, key=lambda pair: seen.get(_text(pair), 0))
    return among[first], among[second]


def record_live(
    store: Store,
    rater_id: str,
    messages: Sequence[dict[str, str]],
    given: Mapping[str, Mapping[str, Any]],
) -> Trial | None:
    """A trial of the rater's own prompt, once both answers are complete; None when they are the same, which is a tie.

    `given` holds by contestant id what `tests.add_answer` takes: text, tokens, cut, seconds, flags. Raises InputError
    when the rater may not vote, or still has a trial open.
    """
    with store.writing() as connection:
        test, rater = find_rater(connection, rater_id, lock=True)
        among = _contestants(connection, test.id)
        if not test.settings["live"] or len(given) != 2 or not set(given) <= set(among):
            raise InputError("This is no trial of a live test")
        if _waiting(connection, rater_id) is not None:
            raise InputError("Please vote on the answers that are there first")
        last = connection.execute(select(func.max(prompts.c.number)).where(prompts.c.test_id == test.id)).scalar()
        prompt_id = add_prompt(connection, test.id, (last or 0) + 1, PromptSpec(list(messages)))
        for contestant_id, answer in given.items():
            add_answer(connection, prompt_id, contestant_id, **answer)
        first, second = sorted(among.index(contestant_id) for contestant_id in given)
        unit = Unit(prompt_id, (first, second))
        asked = [(one, swapped) for one, swapped, _ in _own_trials(connection, rater_id)]
        chosen = choose([unit], [unit], {}, asked, test.settings["seed"], rater.number)
        assert chosen is not None
        same = len({storable(answer["text"]).strip() for answer in given.values()}) == 1
        row = _hand_out(connection, test, rater, *chosen, asked=not same)
        if same:
            _tie(connection, row)
        return None if same else _shown(connection, test, row)


def _assign(connection: Connection, test: Row[Any], rater: Row[Any]) -> Row[Any] | None:
    """Make the next trial of a rater. Identical answers on the way become ties by themselves."""
    if votes_given(connection, test.id) >= test.planned_votes:
        return None
    plan = _plan(connection, test)
    while True:
        own = _own_trials(connection, rater.id)
        shown = _handed_out(connection, test.id)
        among = still_open(plan.units, plan.wanted, shown, {unit for unit, _, _ in own})
        asked = [(unit, swapped) for unit, swapped, place in own if place]
        chosen = choose(plan.units, among, shown, asked, test.settings["seed"], rater.number)
        if chosen is None:
            return None
        unit, swapped = chosen
        row = _hand_out(connection, test, rater, unit, swapped, asked=unit not in plan.identical)
        if unit not in plan.identical:
            return row
        _tie(connection, row)


def _tie(connection: Connection, trial: Row[Any]) -> None:
    """The vote on identical answers, which nobody is asked about."""
    connection.execute(
        votes.insert().values(
            id=new_id(),
            trial_id=trial.id,
            rater_id=trial.rater_id,
            choice="tie",
            ratings={},
            comment="",
            created=now(),
            automatic=True,
        )
    )


@dataclass(frozen=True)
class _Plan:
    """What a test consists of. `identical`: both answers are the same text."""

    units: list[Unit]
    wanted: dict[str, int]
    identical: set[Unit]


def _plan(connection: Connection, test: Row[Any]) -> _Plan:
    asked = select(prompts.c.id).where(prompts.c.test_id == test.id).order_by(prompts.c.number)
    prompt_ids = list(connection.execute(asked).scalars())
    settings = test.settings
    wanted = wanted_votes(prompt_ids, settings["votes_per_prompt"], settings["overlap"], settings["seed"])
    pairs = list(itertools.combinations(range(len(_contestants(connection, test.id))), 2))
    units = [Unit(prompt_id, pair) for prompt_id in prompt_ids for pair in pairs]
    one, other, first, second = answers.alias(), answers.alias(), contestants.alias(), contestants.alias()
    same = connection.execute(
        select(one.c.prompt_id, first.c.position, second.c.position)
        .join(other, other.c.prompt_id == one.c.prompt_id)
        .join(first, first.c.id == one.c.contestant_id)
        .join(second, second.c.id == other.c.contestant_id)
        .where(
            first.c.test_id == test.id,
            first.c.position < second.c.position,
            func.trim(one.c.text) == func.trim(other.c.text),
        )
    )
    return _Plan(units, wanted, {Unit(prompt_id, (low, high)) for prompt_id, low, high in same})


def _handed_out(connection: Connection, test_id: str) -> dict[Unit, Shown]:
    """How often each unit counts as handed out: voted on and not skipped, or shown just now and still open."""
    waits = votes.c.id.is_(None) & (trials.c.created > now() - STALE_SECONDS) & raters.c.revoked_at.is_(None)
    query = (
        select(trials.c.prompt_id, trials.c.pair, func.count(), func.sum(cast(trials.c.swapped, Integer)))
        .join(raters, raters.c.id == trials.c.rater_id)
        .outerjoin(votes, votes.c.trial_id == trials.c.id)
        .where(trials.c.test_id == test_id, waits | (votes.c.choice != "skip"))
        .group_by(trials.c.prompt_id, trials.c.pair)
    )
    return {
        Unit(prompt_id, _positions(pair)): Shown(times, swapped)
        for prompt_id, pair, times, swapped in connection.execute(query)
    }


def _own_trials(connection: Connection, rater_id: str) -> list[tuple[Unit, bool, int]]:
    """(unit, swapped, place) of all that was handed to a rater."""
    query = select(trials.c.prompt_id, trials.c.pair, trials.c.swapped, trials.c.place)
    rows = connection.execute(query.where(trials.c.rater_id == rater_id))
    return [(Unit(prompt_id, _positions(pair)), bool(swapped), place) for prompt_id, pair, swapped, place in rows]


def _hand_out(
    connection: Connection, test: Row[Any], rater: Row[Any], unit: Unit, swapped: bool, *, asked: bool = True
) -> Row[Any]:
    """Write the trial down; returns its row."""
    among = _contestants(connection, test.id)
    left, right = reversed(unit.pair) if swapped else unit.pair
    answered = select(answers.c.contestant_id, answers.c.id).where(answers.c.prompt_id == unit.prompt_id)
    by_contestant = dict(connection.execute(answered).tuples().all())
    last = connection.execute(select(func.max(trials.c.place)).where(trials.c.rater_id == rater.id)).scalar()
    trial_id = new_id()
    connection.execute(
        trials.insert().values(
            id=trial_id,
            test_id=test.id,
            rater_id=rater.id,
            prompt_id=unit.prompt_id,
            pair=_text(unit.pair),
            left_answer_id=by_contestant[among[left]],
            right_answer_id=by_contestant[among[right]],
            swapped=swapped,
            place=(last or 0) + 1 if asked else 0,
            created=now(),
        )
    )
    return connection.execute(select(trials).where(trials.c.id == trial_id)).one()


def _contestants(connection: Connection, test_id: str) -> list[str]:
    """The ids of the contestants, by position."""
    query = select(contestants.c.id).where(contestants.c.test_id == test_id).order_by(contestants.c.position)
    return list(connection.execute(query).scalars())


def _waiting(connection: Connection, rater_id: str) -> Row[Any] | None:
    """The first trial of a rater that has no vote."""
    query = (
        select(trials)
        .outerjoin(votes, votes.c.trial_id == trials.c.id)
        .where(trials.c.rater_id == rater_id, votes.c.id.is_(None))
        .order_by(trials.c.place)
    )
    return connection.execute(query.limit(1)).first()


def _shown(connection: Connection, test: Row[Any], trial: Row[Any]) -> Trial:
    """A row of `trials` as its rater may see it."""
    asked = connection.execute(select(prompts.c.messages).where(prompts.c.id == trial.prompt_id)).scalar_one()
    sides = select(answers.c.id, answers.c.text).where(answers.c.id.in_([trial.left_answer_id, trial.right_answer_id]))
    text = dict(connection.execute(sides).tuples().all())
    return Trial(
        trial.id,
        trial.place,
        _total(connection, test, trial),
        asked,
        text[trial.left_answer_id],
        text[trial.right_answer_id],
        tuple(test.settings["options"]),
        tuple(test.settings["rubric"]),
    )


def _total(connection: Connection, test: Row[Any], trial: Row[Any]) -> int:
    """About how many trials the rater of `trial` will have had in the end, this one and those before it among them."""
    voting = select(func.count()).where(raters.c.test_id == test.id, raters.c.revoked_at.is_(None))
    among = connection.execute(voting).scalar_one()
    own = _own_trials(connection, trial.rater_id)
    last = max(place for _, _, place in own)
    planned = test.planned_votes - votes_given(connection, test.id) - 1
    if test.settings["live"]:
        return last + remaining(planned, planned, among)
    plan = _plan(connection, test)
    shown = _handed_out(connection, test.id)
    asked = [unit for unit in plan.units if unit not in plan.identical]
    left = sum(max(0, plan.wanted[unit.prompt_id] - shown.get(unit, Shown()).times) for unit in asked)
    mine = still_open(asked, plan.wanted, shown, {unit for unit, _, _ in own})
    return last + remaining(len(mine), min(left, planned), among)


def _own(connection: Connection, rater_id: str, trial_id: str) -> Row[Any]:
    """The trial of this id, if it is this rater's; a forged id and another rater's trial are answered alike."""
    query = select(trials).where(trials.c.id == trial_id, trials.c.rater_id == rater_id, trials.c.place > 0)
    trial = connection.execute(query).first()
    if trial is None:
        raise InputError("This is no trial of yours; nothing was recorded", try_="load the page again")
    return trial


def _checked(
    test: Row[Any], choice: str, ratings: Mapping[str, str], comment: str, seconds: float | None
) -> dict[str, Any]:
    """What a request says of a vote, when all of it may be said."""
    if choice not in test.settings["options"]:
        raise InputError("This choice was not offered", given=choice, allowed=", ".join(test.settings["options"]))
    further = [criterion for criterion in test.settings["rubric"] if criterion != "overall"]
    if not set(ratings) <= set(further) or not set(ratings.values()) <= set(RATINGS):
        raise InputError(
            "These ratings were not asked for",
            given=dict(ratings),
            allowed=f"{', '.join(RATINGS)} for {', '.join(further) or 'no criterion'}",
        )
    if len(comment) > LONGEST_COMMENT:
        raise InputError("The comment is too long", given=f"{len(comment)} characters", allowed=f"{LONGEST_COMMENT}")
    if seconds is not None:
        # It is measured by the browser, so it is a hint and no more.
        seconds = min(max(float(seconds), 0.0), 86400.0) if math.isfinite(seconds) else None
    return {"choice": choice, "ratings": dict(ratings), "comment": storable(comment.strip()), "seconds": seconds}


def _voted() -> InputError:
    return InputError("You have voted on this already; the first vote stands", try_="undo it to vote again")


def _text(pair: tuple[int, int]) -> str:
    return f"{pair[0]}-{pair[1]}"


def _positions(pair: str) -> tuple[int, int]:
    low, high = pair.split("-")
    return int(low), int(high)
