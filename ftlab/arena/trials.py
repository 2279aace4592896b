"""Two answers under an opaque id: handing them out, voting, undoing, guessing; each is one transaction.

The server decides everything that a request could get wrong: whose trial it is, whether it was voted on, whether the
test is open. Values in a request are only ever compared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select
from sqlalchemy.exc import IntegrityError

from ftlab.arena import handing_out
from ftlab.arena.asking import PromptSpec
from ftlab.arena.blind_tests import add_answer, add_prompt, reveal
from ftlab.arena.handing_out import Trial, Unit, choose
from ftlab.arena.links import find_rater
from ftlab.arena.store import Store, guesses, new_id, note, now, prompts, storable, trials, votes
from ftlab.core.words import composed
from ftlab.errors import InputError

# Run for every vote: building these statements takes longer than running them.
_LAST_VOTED = (
    select(trials.c.id)
    .join(votes, votes.c.trial_id == trials.c.id)
    .where(trials.c.rater_id == bindparam("rater"), votes.c.automatic.is_(False))
    .order_by(votes.c.created.desc(), trials.c.place.desc())
    .limit(1)
)
_OWN = select(trials).where(
    trials.c.id == bindparam("trial"), trials.c.rater_id == bindparam("rater"), trials.c.place > 0
)
_VOTE_ON = select(votes.c.id).where(votes.c.trial_id == bindparam("trial"))
_VOTE = votes.insert()

SIDES = ("left", "right")
RATINGS = ("left", "right", "same")
LONGEST_COMMENT = 4000
GUESSES = 3


def next_trial(store: Store, rater_id: str) -> Trial | None:
    """The trial that the rater left open, else a new one. None if there is nothing left to vote on.

    Raises InputError if the rater may not vote.
    """
    with store.reading() as connection:
        test, _ = find_rater(connection, rater_id)
        waiting = handing_out.waiting(connection, rater_id)
        if waiting is not None:
            return handing_out.trial_of(connection, test, waiting)
    if test.settings["live"]:
        return None
    # The vote on it waits for the disk, which also flushes this.
    with store.writing(on_disk=False) as connection:
        test, rater = find_rater(connection, rater_id, lock=True)
        waiting = handing_out.waiting(connection, rater_id)  # concurrent requests get the same trial
        if waiting is None:
            return handing_out.assign(connection, test, rater)
        return handing_out.trial_of(connection, test, waiting)


def vote(
    store: Store,
    rater_id: str,
    trial_id: str,
    choice: str,
    ratings: Mapping[str, str] | None = None,
    comment: str = "",
    seconds: float | None = None,
    sent_as: str = "",
) -> None:
    """Record the vote of a rater on a trial of theirs.

    `ratings` gives the better side (left, right, same) for each further criterion of the rubric. `sent_as` is an id
    that the browser made for this vote: if it arrives again, because no reply came back, it is the same vote and
    changes nothing. When this returns, the vote is on disk, in the current database file. Raises InputError, and
    changes nothing, for a trial that is forged or another rater's, a second vote, a choice that was not offered, and if
    the rater may not vote; FtlabError, saying what became of the vote, if the database cannot store it.
    """
    vote_id = _vote_id(trial_id, sent_as) if sent_as else new_id()

    def kept(connection: Connection) -> bool:
        return connection.execute(select(votes.c.id).where(votes.c.id == vote_id)).first() is not None

    with store.writing(kept=kept) as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        trial = _own(connection, rater_id, trial_id)
        values = _checked(test, choice, ratings or {}, comment, seconds)
        before = connection.execute(_VOTE_ON, {"trial": trial.id}).scalar()
        if before == vote_id:
            return
        if before is not None:
            raise _voted()
        row = {"id": vote_id, "trial_id": trial.id, "rater_id": rater_id, "created": now(), "automatic": False}
        try:
            connection.execute(_VOTE, row | values)
        except IntegrityError:  # the database has the final say
            raise _voted() from None


def arrived(store: Store, trial_id: str, sent_as: str) -> bool:
    """Whether the vote that a browser sent under this id is stored, also when its rater may no longer vote."""
    with store.reading() as connection:
        stored = select(votes.c.id).where(votes.c.id == _vote_id(trial_id, sent_as))
        return connection.execute(stored).first() is not None


def undo(store: Store, rater_id: str, trial_id: str | None = None) -> Trial:
    """Take back the rater's last vote and return its trial, under a new id, so that the old vote cannot be replayed.

    With `trial_id`, only if the last vote was on that trial. Raises InputError if there is nothing to take back or the
    tally may have been seen since.
    """
    with store.writing() as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        query = (
            select(trials, votes.c.choice, votes.c.comment, votes.c.ratings, votes.c.created.label("voted"))
            .join(votes, votes.c.trial_id == trials.c.id)
            .where(trials.c.rater_id == rater_id, votes.c.automatic.is_(False))
            .order_by(votes.c.created.desc(), trials.c.place.desc())
        )
        last = connection.execute(query.limit(1)).first()
        if last is None or (trial_id is not None and last.id != trial_id):
            raise InputError("There is no vote to undo")
        # Votes after an early look were not part of it; from the planned number on, anyone may have looked.
        seen_since = any(seen is not None and seen >= last.voted for seen in (test.opened_early_at, test.evidence_at))
        if seen_since or reveal(connection, test) == "planned":
            raise InputError("The votes have been counted, so this one can no longer be undone")
        connection.execute(delete(trials).where(trials.c.id == last.id))  # also deletes the vote and the guess
        again = {column.name: getattr(last, column.name) for column in trials.columns} | {"id": new_id()}
        connection.execute(trials.insert().values(**again))
        note(connection, test.id, "vote undone", rater=rater_id, trial=again["id"], choice=last.choice)
        row = connection.execute(select(trials).where(trials.c.id == again["id"])).one()
        written = {"comment": last.comment, "ratings": last.ratings}
        return replace(handing_out.trial_of(connection, test, row), written=written)


def guess(store: Store, rater_id: str, trial_id: str, side: str) -> None:
    """Record which side the rater thinks was the tuned model's, once for each trial they voted on."""
    if side not in SIDES:
        raise InputError("A guess must name a side", given=side, allowed="left or right")
    with store.writing() as connection:
        test, _ = find_rater(connection, rater_id, share=True)
        trial = _own(connection, rater_id, trial_id)
        voted = select(votes.c.id).where(votes.c.trial_id == trial.id, votes.c.automatic.is_(False))
        if connection.execute(voted).first() is None:
            raise InputError("Vote before you guess")
        if connection.execute(select(guesses.c.id).where(guesses.c.trial_id == trial.id)).first():
            raise InputError("You have already guessed")
        try:
            connection.execute(
                guesses.insert().values(
                    id=new_id(), test_id=test.id, rater_id=rater_id, trial_id=trial.id, side=side, created=now()
                )
            )
        except IntegrityError:
            raise InputError("You have already guessed") from None


def to_guess(store: Store, rater_id: str, after: str = "") -> Trial | None:
    """The trial whose sides a rater may guess next: one of their last GUESSES, newest first. `after`: older than this
    one. None while comparisons are left, if all were asked, and unless the test has two contestants.

    Asked before the last vote, the question would prime raters with the idea of a newly trained side.
    """
    if next_trial(store, rater_id) is not None:
        return None
    with store.reading() as connection:
        test, _ = find_rater(connection, rater_id)
        if test.settings["live"] or len(handing_out.contestant_ids(connection, test.id)) != 2:
            return None
        query = (
            select(trials, guesses.c.id.label("guess"))
            .join(votes, votes.c.trial_id == trials.c.id)
            .outerjoin(guesses, guesses.c.trial_id == trials.c.id)
            .where(
                trials.c.rater_id == rater_id,
                trials.c.control.is_(None),
                votes.c.automatic.is_(False),
                votes.c.choice != "skip",
            )
            .order_by(votes.c.created.desc(), trials.c.place.desc())
        )
        last = connection.execute(query.limit(GUESSES)).all()
        asked = next((place for place, row in enumerate(last, 1) if row.id == after), 0)
        row = next((row for row in last[asked:] if row.guess is None), None)
        return None if row is None else handing_out.trial_of(connection, test, row)


def last_voted(store: Store, rater_id: str) -> str | None:
    """The id of the trial that `undo` would take back. None if there is none."""
    with store.reading() as connection:
        return connection.execute(_LAST_VOTED, {"rater": rater_id}).scalar()


def live_contestants(store: Store, rater_id: str) -> tuple[str, str]:
    """The ids of the two contestants that answer this rater's next prompt: one of the least seen pairs, the lower
    first."""
    with store.reading() as connection:
        test, rater = find_rater(connection, rater_id)
        first, second = handing_out.live_pair(connection, test, rater)
        among = handing_out.contestant_ids(connection, test.id)
    return among[first], among[second]


def record_live(
    store: Store,
    rater_id: str,
    messages: Sequence[dict[str, str]],
    replies: Mapping[str, Mapping[str, Any]],
) -> Trial | None:
    """A trial of the rater's own prompt, once both answers are complete. None if they are equal, which is a tie.

    `replies` holds, by contestant id, the arguments of `blind_tests.add_answer`: text and details. Raises InputError if
    the rater may not vote, or still has a trial open.
    """
    with store.writing() as connection:
        test, rater = find_rater(connection, rater_id, lock=True)
        among = handing_out.contestant_ids(connection, test.id)
        if not test.settings["live"] or len(replies) != 2 or not set(replies) <= set(among):
            raise InputError("This trial does not belong to a live test")
        if handing_out.waiting(connection, rater_id) is not None:
            raise InputError("Please vote on the current answers first")
        last = connection.execute(select(func.max(prompts.c.number)).where(prompts.c.test_id == test.id)).scalar()
        prompt_id = add_prompt(connection, test.id, (last or 0) + 1, PromptSpec(list(messages)))
        for contestant_id, answer in replies.items():
            add_answer(connection, prompt_id, contestant_id, **answer)
        first, second = sorted(among.index(contestant_id) for contestant_id in replies)
        unit = Unit(prompt_id, (first, second))
        at = handing_out.standing(connection, test, rater_id)
        asked = [(own.unit, own.swapped) for own in at.own if own.place]
        chosen = choose([unit], [unit], {}, asked, at.key, rater.number)
        assert chosen is not None  # there is one, and nobody has seen it
        same = len({composed(storable(answer["text"])) for answer in replies.values()}) == 1
        row = handing_out.hand_out(connection, test, rater, *chosen, place=0 if same else len(asked) + 1)
        if same:
            handing_out.record_tie(connection, row)
            return None
        return handing_out.trial_of(connection, test, row)


def _vote_id(trial_id: str, sent_as: str) -> str:
    """Made of the trial too, so that an id of one's own choosing can meet no other vote."""
    return hashlib.sha256(f"{trial_id} {sent_as}".encode()).hexdigest()[:24]


def _own(connection: Connection, rater_id: str, trial_id: str) -> Row[Any]:
    """The trial with this id, if it is this rater's. A forged id and another rater's trial get the same response."""
    trial = connection.execute(_OWN, {"trial": trial_id, "rater": rater_id}).first()
    if trial is None:
        raise InputError("This trial is not yours; nothing was recorded", try_="reload the page")
    return trial


def _checked(
    test: Row[Any], choice: str, ratings: Mapping[str, str], comment: str, seconds: float | None
) -> dict[str, Any]:
    """The vote in a request, after validation."""
    if choice not in test.settings["options"]:
        raise InputError("This choice was not offered", given=choice, allowed=", ".join(test.settings["options"]))
    further = [criterion for criterion in test.settings["rubric"] if criterion != "overall"]
    if not set(ratings) <= set(further) or not set(ratings.values()) <= set(RATINGS):
        raise InputError(
            "Unknown ratings",
            given=dict(ratings),
            allowed=f"{', '.join(RATINGS)} for {', '.join(further) or 'no criterion'}",
        )
    if len(comment) > LONGEST_COMMENT:
        raise InputError("The comment is too long", given=f"{len(comment)} characters", allowed=f"{LONGEST_COMMENT}")
    if seconds is not None:
        # Measured by the browser, so only a hint.
        seconds = min(max(float(seconds), 0.0), 86400.0) if math.isfinite(seconds) else None
    return {"choice": choice, "ratings": dict(ratings), "comment": storable(comment.strip()), "seconds": seconds}


def _voted() -> InputError:
    return InputError("You have already voted on this; your first vote counts", try_="undo it to vote again")
