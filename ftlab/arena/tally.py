"""The votes of a test in the database, read for the verdict, without those on prompts that trained a contestant."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from ftlab.arena.assignment import wanted_votes
from ftlab.arena.ballots import Ballot, counts, in_order
from ftlab.arena.freshness import stale_prompts
from ftlab.arena.store import Store, answers, contestants, guesses, prompts, raters, trials, votes
from ftlab.arena.tests import find_test


def count(store: Store, test_id: str) -> list[Ballot]:
    """All votes of a test, the oldest first. Raises InputError when there is no such test."""
    left, right = answers.alias(), answers.alias()
    query = (
        select(
            votes.c.choice,
            votes.c.created,
            votes.c.automatic,
            votes.c.ratings,
            votes.c.comment,
            votes.c.seconds,
            trials.c.id.label("trial"),
            prompts.c.id.label("prompt"),
            prompts.c.number,
            prompts.c.topic,
            raters.c.pseudonym.label("rater"),
            left.c.contestant_id.label("left"),
            right.c.contestant_id.label("right"),
            func.length(left.c.text).label("left_length"),
            func.length(right.c.text).label("right_length"),
            guesses.c.side.label("guess"),
        )
        .join(trials, votes.c.trial_id == trials.c.id)
        .join(prompts, trials.c.prompt_id == prompts.c.id)
        .join(raters, trials.c.rater_id == raters.c.id)
        .join(left, trials.c.left_answer_id == left.c.id)
        .join(right, trials.c.right_answer_id == right.c.id)
        .outerjoin(guesses, guesses.c.trial_id == trials.c.id)
        .where(trials.c.test_id == test_id)
    )
    with store.reading() as connection:
        find_test(connection, test_id)
        rows = connection.execute(query).mappings().all()
    return in_order(Ballot(**row | {"topic": row["topic"] or ""}) for row in rows)


def evaluate(store: Store, test_id: str) -> dict[str, Any]:
    """What `verdict.judge` makes of a test as it stands, with its id, title and state.

    Votes on prompts that a contestant was trained on do not count. Whether the verdict may be seen is for
    `tests.revealed` to say.
    """
    from ftlab.arena.verdict import judge

    stale = stale_prompts(store, test_id)
    with store.reading() as connection:
        test = find_test(connection, test_id)
        query = select(contestants.c.id, contestants.c.title).where(contestants.c.test_id == test_id)
        titles = dict(connection.execute(query.order_by(contestants.c.position)).tuples().all())
        numbers = select(prompts.c.id).where(prompts.c.test_id == test_id).order_by(prompts.c.number)
        prompt_ids = list(connection.execute(numbers).scalars())
    every = count(store, test_id)
    fresh = [ballot for ballot in every if ballot.prompt not in stale]
    settings = test.settings
    wanted: int | dict[str, int] = 1
    if not settings["live"]:
        wanted = wanted_votes(prompt_ids, settings["votes_per_prompt"], settings["overlap"], settings["seed"])
    # What is left out was decided before anybody voted, so the plan may shrink by it.
    planned = max(1, test.planned_votes - sum(map(counts, every)) + sum(map(counts, fresh)))
    found = judge(
        fresh,
        titles,
        planned=planned,
        wanted=wanted,
        opened_early=test.opened_early_votes,
        left_out=len(stale),
    )
    return {"id": test_id, "title": test.title, "state": test.state, "created": test.created} | found


def watch(store: Store, test_id: str) -> bool:
    """End the wait for the planned number when the evidence decides; returns whether it does. Call it after a vote."""
    from ftlab.arena.tests import stop_by_evidence
    from ftlab.arena.verdict import decided_by_evidence

    ...
