"""A blind test from draft to closed: who answers what, and what its owner may still change when.

draft -> generating -> ready -> open -> closed. A live test, whose raters write the prompts, opens straight from draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from ftlab.arena.asking import (
    CHOICES,
    CRITERIA,
    STATES,
    ContestantSpec,
    PromptSpec,
    TestSettings,
    capacity,
    check,
    same_question,
)
from ftlab.arena.handing_out import make_plan
from ftlab.arena.overview import (
    answers_missing,
    find_test,
    flags,
    get_test,
    history,
    list_contestants,
    list_prompts,
    list_tests,
    missing_answers,
    must_be_looked_at,
    progress,
    reveal,
    revealed,
    settings_of,
    votes_given,
)
from ftlab.arena.store import (
    Store,
    answers,
    blind_tests,
    contestants,
    new_id,
    new_secret,
    note,
    now,
    prompts,
    storable,
    trials,
)
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError

__all__ = [
    "CHOICES",
    "CRITERIA",
    "STATES",
    "ContestantSpec",
    "PromptSpec",
    "TestSettings",
    "add_answer",
    "add_prompt",
    "capacity",
    "change_test",
    "close_test",
    "create_test",
    "delete_test",
    "find_test",
    "flags",
    "get_test",
    "history",
    "list_contestants",
    "list_prompts",
    "list_tests",
    "mark_ready",
    "missing_answers",
    "must_be_looked_at",
    "open_early",
    "open_test",
    "progress",
    "reveal",
    "revealed",
    "save_answer",
    "settings_of",
    "start_generating",
    "stop_by_evidence",
    "votes_given",
]


def create_test(
    store: Store,
    title: str,
    contestants: Sequence[ContestantSpec],
    prompts: Sequence[PromptSpec],
    settings: TestSettings,
    planned_votes: int,
    *,
    secret: str | None = None,
) -> str:
    """A new test in state draft; returns its id. All contestants are asked alike (see `same_question`).

    `secret`: what sides and orders are drawn from, where simulated raters are to see the same test again; never one
    that a person who votes could know. Raises InputError for what cannot be tested.
    """
    check(title, contestants, prompts, settings, planned_votes)
    contestants = same_question(contestants)
    test_id = new_id()
    with store.writing() as connection:
        connection.execute(
            blind_tests.insert().values(
                id=test_id,
                title=storable(title.strip()),
                created=now(),
                state="draft",
                settings=asdict(settings) | {"instructions": storable(settings.instructions)},
                planned_votes=planned_votes,
                secret=secret or new_secret(),
            )
        )
        for position, contestant in enumerate(contestants):
            _add_contestant(connection, test_id, position, contestant)
        for number, prompt in enumerate(prompts, 1):
            add_prompt(connection, test_id, number, prompt)
        note(connection, test_id, "made", planned_votes=planned_votes, prompts=len(prompts))
    return test_id


def _add_contestant(connection: Connection, test_id: str, position: int, contestant: ContestantSpec) -> None:
    connection.execute(
        contestants.insert().values(
            id=new_id(),
            test_id=test_id,
            position=position,
            title=storable(contestant.title.strip()),
            spec=contestant.spec,
        )
    )


def add_prompt(connection: Connection, test_id: str, number: int, prompt: PromptSpec) -> str:
    """Write a prompt into a test, as part of a transaction; returns its id."""
    messages = [{"role": turn["role"], "content": storable(turn["content"])} for turn in prompt.messages]
    prompt_id = new_id()
    connection.execute(
        prompts.insert().values(
            id=prompt_id,
            test_id=test_id,
            number=number,
            messages=messages,
            topic=prompt.topic,
            fingerprint=prompt_fingerprint(messages),
            reference=prompt.reference,
        )
    )
    return prompt_id


def start_generating(store: Store, test_id: str) -> None:
    """From draft to generating; may be called again after an interruption."""
    _move(store, test_id, ("draft", "generating"), "generating")


def save_answer(
    store: Store,
    prompt_id: str,
    contestant_id: str,
    text: str,
    *,
    tokens: int | None = None,
    cut: bool = False,
    seconds: float | None = None,
    flags: Sequence[str] = (),
) -> None:
    """Keep the answer of a contestant, in place of an earlier one. Raises InputError once the test is open."""
    with store.writing() as connection:
        test_id = connection.execute(select(prompts.c.test_id).where(prompts.c.id == prompt_id)).scalar_one()
        _must_be(find_test(connection, test_id, lock=True), ("draft", "generating", "ready"), "its answers change")
        connection.execute(
            delete(answers).where(answers.c.prompt_id == prompt_id, answers.c.contestant_id == contestant_id)
        )
        add_answer(connection, prompt_id, contestant_id, text, tokens, cut, seconds, flags)


def add_answer(
    connection: Connection,
    prompt_id: str,
    contestant_id: str,
    text: str,
    tokens: int | None = None,
    cut: bool = False,
    seconds: float | None = None,
    flags: Sequence[str] = (),
) -> str:
    """Write an answer, as part of a transaction; returns its id."""
    answer_id = new_id()
    connection.execute(
        answers.insert().values(
            id=answer_id,
            prompt_id=prompt_id,
            contestant_id=contestant_id,
            text=storable(text),
            tokens=tokens,
            cut=cut,
            seconds=seconds,
            flags=list(flags),
        )
    )
    return answer_id


def mark_ready(store: Store, test_id: str) -> None:
    """From generating to ready. Raises InputError while answers are missing."""
    with store.writing() as connection:
        _must_be(find_test(connection, test_id, lock=True), ("draft", "generating", "ready"), "it is made ready")
        missing = len(answers_missing(connection, test_id))
        if missing:
            raise InputError("Not all answers are there", given=f"{missing} are missing", try_="generate them first")
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(state="ready"))


def open_test(store: Store, test_id: str) -> None:
    """Let the raters in: from ready (or draft, when live) to open."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        if test.state in ("draft", "generating") and not test.settings["live"]:
            raise InputError("The answers are not all there yet", try_="generate them first")
        _must_be(test, ("draft", "ready"), "it is opened")
        # Made by an older ftlab, and nobody has voted yet: it gets what it lacks.
        lacking = (blind_tests.c.id == test_id) & blind_tests.c.secret.is_(None)
        connection.execute(update(blind_tests).where(lacking).values(secret=new_secret()))
        connection.execute(
            update(blind_tests)
            .where(blind_tests.c.id == test_id)
            .values(state="open", opened_at=now(), plan=make_plan(connection, test))
        )
        note(connection, test_id, "opened")


def close_test(store: Store, test_id: str) -> None:
    """Take no more votes. Who closes without having seen the tally stops at a number that chance did not choose, so
    this is no early opening; the verdict says how many votes were planned."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_be(test, ("open",), "it is closed")
        values = {"state": "closed", "closed_at": now()}
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
        note(connection, test_id, "closed", votes=votes_given(connection, test_id), planned=test.planned_votes)


def open_early(store: Store, test_id: str) -> None:
    """Show the tally before the planned number. It is written down, and every report says so."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_be(test, ("open",), "its tally is opened early")
        if reveal(connection, test) is not None:
            return
        cast = votes_given(connection, test_id)
        values = {"opened_early_at": now(), "opened_early_votes": cast}
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
        note(connection, test_id, "opened early", votes=cast, planned=test.planned_votes)


def stop_by_evidence(store: Store, test_id: str, evidence: float) -> None:
    """Record that the anytime-valid criterion is met, so that the tally may be shown."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        if test.evidence_at is None and test.state == "open":
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(evidence_at=now()))
            note(connection, test_id, "stopped by evidence", evidence=evidence, votes=votes_given(connection, test_id))


def change_test(
    store: Store,
    test_id: str,
    *,
    title: str | None = None,
    instructions: str | None = None,
    planned_votes: int | None = None,
) -> None:
    """Change what may still be changed: the title always, the rest until raters have begun.

    Whoever could move the goal once votes are there could stop where it suits.
    """
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        values: dict[str, Any] = {}
        if title is not None:
            if not title.strip():
                raise InputError("The test has no title", try_="give it one; raters do not see it")
            values["title"] = storable(title.strip())
        if (instructions is not None or planned_votes is not None) and _has_trials(connection, test_id):
            raise InputError(
                "Voting has started: the instructions and the planned number of votes cannot change now",
                try_="create a new test",
            )
        if instructions is not None:
            values["settings"] = test.settings | {"instructions": storable(instructions)}
        if planned_votes is not None:
            among = connection.execute(select(func.count()).where(contestants.c.test_id == test_id)).scalar_one()
            asked = connection.execute(select(func.count()).where(prompts.c.test_id == test_id)).scalar_one()
            possible = capacity(among, asked, settings_of(test))
            if planned_votes < 1 or (possible is not None and planned_votes > possible):
                raise InputError(
                    "So many votes cannot be planned", given=planned_votes, allowed=f"1 to {possible or 'any number'}"
                )
            values["planned_votes"] = planned_votes
        if values:
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
            note(connection, test_id, "changed", what=sorted(values))


def _has_trials(connection: Connection, test_id: str) -> bool:
    return connection.execute(select(trials.c.id).where(trials.c.test_id == test_id).limit(1)).first() is not None


def delete_test(store: Store, test_id: str) -> None:
    """Remove a test with all that belongs to it, votes too. Raises InputError while it is open."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_be(test, ("draft", "generating", "ready", "closed"), "it is deleted")
        connection.execute(delete(blind_tests).where(blind_tests.c.id == test_id))


def _move(store: Store, test_id: str, allowed: tuple[str, ...], state: str) -> None:
    with store.writing() as connection:
        _must_be(find_test(connection, test_id, lock=True), allowed, f"it becomes {state}")
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(state=state))


def _must_be(test: Row[Any], allowed: tuple[str, ...], what: str) -> None:
    if test.state not in allowed:
        raise InputError(f"The test must be {' or '.join(allowed)} when {what}", given=f"{test.title} is {test.state}")
