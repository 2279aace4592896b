"""A blind test from draft to closed: who answers what, and what its owner may still change when.

draft -> generating -> ready -> open -> closed. A live test, whose raters write the prompts, opens straight from draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from ftlab.arena.handing_out import make_plan
from ftlab.arena.naming import names_in, names_of
from ftlab.arena.specs import ContestantSpec, PromptSpec, TestSettings, capacity, check
from ftlab.arena.store import (
    Store,
    answers,
    audit,
    blind_tests,
    contestants,
    new_id,
    note,
    now,
    prompts,
    raters,
    storable,
    trials,
    votes,
)
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError, shorten


def create_test(
    store: Store,
    title: str,
    contestants: Sequence[ContestantSpec],
    prompts: Sequence[PromptSpec],
    settings: TestSettings,
    planned_votes: int,
) -> str:
    """A new test in state draft; returns its id. Raises InputError for what cannot be tested."""
    check(title, contestants, prompts, settings, planned_votes)
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


def get_test(store: Store, test_id: str) -> Row[Any]:
    """The row of `blind_tests`. Raises InputError when there is none."""
    with store.reading() as connection:
        return find_test(connection, test_id)


def find_test(connection: Connection, test_id: str, *, lock: bool = False, share: bool = False) -> Row[Any]:
    """The row of `blind_tests`, within a transaction. `lock`: nobody else assigns or closes until it ends; `share`:
    nobody closes. SQLite, where one writes at a time, needs neither."""
    query = select(blind_tests).where(blind_tests.c.id == test_id)
    if lock or share:
        query = query.with_for_update(read=share, key_share=not share)
    found = connection.execute(query).first()
    if found is None:
        raise InputError("There is no such blind test", given=test_id, try_="take one from the list of tests")
    return found


def list_tests(store: Store) -> list[Row[Any]]:
    """All tests, the newest first."""
    with store.reading() as connection:
        return list(connection.execute(select(blind_tests).order_by(blind_tests.c.created.desc())))


def list_contestants(store: Store, test_id: str) -> list[Row[Any]]:
    with store.reading() as connection:
        query = select(contestants).where(contestants.c.test_id == test_id).order_by(contestants.c.position)
        return list(connection.execute(query))


def list_prompts(store: Store, test_id: str) -> list[Row[Any]]:
    with store.reading() as connection:
        return list(connection.execute(select(prompts).where(prompts.c.test_id == test_id).order_by(prompts.c.number)))


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


def missing_answers(store: Store, test_id: str) -> list[tuple[str, str]]:
    """(prompt id, contestant id) of what is still to be answered, by contestant and number of the prompt."""
    with store.reading() as connection:
        return _missing(connection, test_id)


def _missing(connection: Connection, test_id: str) -> list[tuple[str, str]]:
    query = (
        select(prompts.c.id, contestants.c.id)
        .join(contestants, contestants.c.test_id == prompts.c.test_id)
        .outerjoin(answers, (answers.c.prompt_id == prompts.c.id) & (answers.c.contestant_id == contestants.c.id))
        .where(prompts.c.test_id == test_id, answers.c.id.is_(None))
        .order_by(contestants.c.position, prompts.c.number)
    )
    return [(prompt_id, contestant_id) for prompt_id, contestant_id in connection.execute(query)]


def mark_ready(store: Store, test_id: str) -> None:
    """From generating to ready. Raises InputError while answers are missing."""
    with store.writing() as connection:
        _must_be(find_test(connection, test_id, lock=True), ("draft", "generating", "ready"), "it is made ready")
        missing = len(_missing(connection, test_id))
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
        given = votes_given(connection, test_id)
        values = {"opened_early_at": now(), "opened_early_votes": given}
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
        note(connection, test_id, "opened early", votes=given, planned=test.planned_votes)


def stop_by_evidence(store: Store, test_id: str, evidence: float) -> None:
    """The anytime-valid criterion is met: the tally may be seen. Called by whoever computes it, after a vote."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        if test.evidence_at is None and test.state == "open":
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(evidence_at=now()))
            note(connection, test_id, "stopped by evidence", evidence=evidence, votes=votes_given(connection, test_id))


def revealed(store: Store, test_id: str) -> str | None:
    """Why the tally may be seen: planned, evidence, early or closed; None while it is hidden."""
    with store.reading() as connection:
        return reveal(connection, find_test(connection, test_id))


def reveal(connection: Connection, test: Row[Any]) -> str | None:
    """As `revealed`, within a transaction."""
    if test.opened_early_at is not None:
        return "early"
    if test.evidence_at is not None:
        return "evidence"
    if votes_given(connection, test.id) >= test.planned_votes:
        return "planned"
    return "closed" if test.state == "closed" else None


def votes_given(connection: Connection, test_id: str) -> int:
    """Votes that are no skips, ties by identical answers among them: what the planned number counts."""
    query = (
        select(func.count())
        .select_from(votes.join(trials, votes.c.trial_id == trials.c.id))
        .where(trials.c.test_id == test_id, votes.c.choice != "skip")
    )
    return connection.execute(query).scalar_one()


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
                "Raters have begun: what they were asked and how many votes are planned stay as they are",
                try_="make a new test",
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


def settings_of(test: Row[Any]) -> TestSettings:
    """The settings of a row of `blind_tests`."""
    given = test.settings
    return TestSettings(**given | {"options": tuple(given["options"]), "rubric": tuple(given["rubric"])})


def history(store: Store, test_id: str) -> list[Row[Any]]:
    """What happened to a test (opened early, closed, revoked, undone votes), the oldest first."""
    with store.reading() as connection:
        return list(connection.execute(select(audit).where(audit.c.test_id == test_id).order_by(audit.c.at)))


def flags(store: Store, test_id: str) -> list[dict[str, Any]]:
    """What its owner should look at before a test starts, as raters might know a side by it:

    [{"prompt": number, "contestant": title, "what": sentence, "excerpt": text}], by prompt.
    """
    with store.reading() as connection:
        among = connection.execute(select(contestants).where(contestants.c.test_id == test_id)).all()
        query = (
            select(prompts.c.number, contestants.c.title, answers.c.text, answers.c.cut, answers.c.flags)
            .select_from(answers.join(prompts).join(contestants, contestants.c.id == answers.c.contestant_id))
            .where(prompts.c.test_id == test_id)
            .order_by(prompts.c.number, contestants.c.position)
        )
        rows = connection.execute(query).all()
        instructions = find_test(connection, test_id).settings["instructions"]
    names = sorted({name for one in among for name in names_of(one.title, one.spec)})
    found = [
        {"prompt": None, "contestant": None, "what": f"The instructions name {name!r}", "excerpt": excerpt}
        for name, excerpt in names_in(instructions, names)
    ]
    for number, title, text, cut, noted in rows:
        one = {"prompt": number, "contestant": title}
        found += [
            one | {"what": f"The answer names {name!r}", "excerpt": excerpt} for name, excerpt in names_in(text, names)
        ]
        if not text.strip():
            found.append(one | {"what": "The answer is empty", "excerpt": ""})
        if cut:
            found.append(
                one | {"what": "The answer was cut at the most tokens allowed", "excerpt": shorten(text[-80:])}
            )
        found += [one | {"what": what, "excerpt": ""} for what in noted]
    return found


def progress(store: Store, test_id: str) -> dict[str, Any]:
    """How far a test is, without a word on who leads; `votes` counts the `automatic` ones, `skipped` come on top:

    {"state", "votes", "planned", "skipped", "automatic", "answers", "answers_wanted", "revealed",
    "raters": [{"id", "number", "pseudonym", "open_link", "revoked", "votes", "skipped", "last"}]}.
    """
    with store.reading() as connection:
        test = find_test(connection, test_id)
        people = connection.execute(select(raters).where(raters.c.test_id == test_id).order_by(raters.c.number)).all()
        counted = connection.execute(
            select(raters.c.id, votes.c.automatic, votes.c.choice, func.count(), func.max(votes.c.created))
            .join(votes, votes.c.rater_id == raters.c.id)
            .where(raters.c.test_id == test_id)
            .group_by(raters.c.id, votes.c.automatic, votes.c.choice)
        ).all()
        made = connection.execute(
            select(func.count()).select_from(answers.join(prompts)).where(prompts.c.test_id == test_id)
        ).scalar_one()
        missing = len(_missing(connection, test_id))
        shown = reveal(connection, test)

    last: dict[str, float] = {}
    for rater_id, by_itself, _, _, at in counted:
        if not by_itself:
            last[rater_id] = max(at, last.get(rater_id, 0.0))

    def given(rater_id: str | None = None, *, automatic: bool | None = None, skip: bool = False) -> int:
        return sum(
            times
            for one, by_itself, choice, times, _ in counted
            if rater_id in (None, one) and automatic in (None, bool(by_itself)) and (choice == "skip") == skip
        )

    return {
        "state": test.state,
        "votes": given(),
        "planned": test.planned_votes,
        "skipped": given(skip=True),
        "automatic": given(automatic=True),
        "answers": made,
        "answers_wanted": made + missing,
        "revealed": shown,
        "raters": [
            {
                "id": one.id,
                "number": one.number,
                "pseudonym": one.pseudonym,
                "open_link": one.open_link,
                "revoked": one.revoked_at is not None,
                "votes": given(one.id, automatic=False),
                "skipped": given(one.id, skip=True),
                "last": last.get(one.id),
            }
            for one in people
        ],
    }


def _move(store: Store, test_id: str, allowed: tuple[str, ...], state: str) -> None:
    with store.writing() as connection:
        _must_be(find_test(connection, test_id, lock=True), allowed, f"it becomes {state}")
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(state=state))


def _must_be(test: Row[Any], allowed: tuple[str, ...], what: str) -> None:
    if test.state not in allowed:
        raise InputError(f"The test must be {' or '.join(allowed)} when {what}", given=f"{test.title} is {test.state}")
