"""A blind test from draft to closed: its answers, what its owner may change and when, and what the owner sees.

draft -> generating -> ready -> open -> closed. A live test, whose raters write the prompts, opens directly from draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, Row, delete, func, select, update

from ftlab.arena.asking import (
    ContestantSpec,
    PromptSpec,
    TestSettings,
    capacity,
    check,
    same_question,
)
from ftlab.arena.conversations import texts_of
from ftlab.arena.handing_out import left_to_people, make_plan
from ftlab.arena.registration import plan_hash
from ftlab.arena.results import FlagJson, ProgressJson
from ftlab.arena.store import (
    PUBLIC,
    Store,
    answers,
    audit,
    blind_tests,
    contestants,
    new_id,
    new_secret,
    note,
    now,
    prompts,
    raters,
    storable,
    trials,
    votes,
)
from ftlab.core.words import counted
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError, shorten


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
    """Create a test in state draft. Returns its id. All contestants get the same prompts (see `same_question`).

    `secret`: the seed of sides and orders, to repeat a test with simulated raters; raters must not know it. Raises
    InputError for an invalid test.
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
    """Add a prompt to a test within a transaction. Returns its id."""
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
    """From draft to generating. May be called again after an interruption."""
    _move(store, test_id, ("draft", "generating"), "generating")


class AnswerDetails(TypedDict, total=False):
    """How an answer was generated: its length, whether the limit cut it, its time, what to review, and the answers of a
    conversation."""

    tokens: int | None
    cut: bool
    seconds: float | None
    flags: Sequence[str]
    turns: Sequence[dict[str, Any]] | None


def save_answer(
    store: Store,
    prompt_id: str,
    contestant_id: str,
    text: str,
    **details: Unpack[AnswerDetails],
) -> None:
    """Store the answer of a contestant, replacing an earlier one. Raises InputError once the test is open."""
    with store.writing() as connection:
        test_id = connection.execute(select(prompts.c.test_id).where(prompts.c.id == prompt_id)).scalar_one()
        _must_be(find_test(connection, test_id, lock=True), ("draft", "generating", "ready"), "its answers change")
        connection.execute(
            delete(answers).where(answers.c.prompt_id == prompt_id, answers.c.contestant_id == contestant_id)
        )
        add_answer(connection, prompt_id, contestant_id, text, **details)


def add_answer(
    connection: Connection,
    prompt_id: str,
    contestant_id: str,
    text: str,
    **details: Unpack[AnswerDetails],
) -> str:
    """Add an answer within a transaction. Returns its id."""
    answer_id = new_id()
    turns = details.get("turns")
    values = {"tokens": None, "cut": False, "seconds": None, **details, "flags": [*details.get("flags", ())]}
    values["turns"] = [{**turn, "text": storable(turn["text"])} for turn in turns] if turns else None
    connection.execute(
        answers.insert().values(
            id=answer_id, prompt_id=prompt_id, contestant_id=contestant_id, text=storable(text), **values
        )
    )
    return answer_id


def mark_ready(store: Store, test_id: str) -> None:
    """From generating to ready. Raises InputError while answers are missing."""
    with store.writing() as connection:
        _must_be(find_test(connection, test_id, lock=True), ("draft", "generating", "ready"), "it becomes ready")
        missing = len(answers_missing(connection, test_id))
        if missing:
            raise InputError(
                "Not all answers have been generated", given=f"{missing} are missing", try_="generate them first"
            )
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(state="ready"))


def open_test(store: Store, test_id: str) -> None:
    """Open the test for raters: from ready (or draft, if live) to open."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        if test.state in ("draft", "generating") and not test.settings["live"]:
            raise InputError("Not all answers have been generated", try_="generate them first")
        _must_be(test, ("draft", "ready"), "it is opened")
        # From an older ftlab, without votes: add the missing parts.
        lacking = (blind_tests.c.id == test_id) & blind_tests.c.secret.is_(None)
        connection.execute(update(blind_tests).where(lacking).values(secret=new_secret()))
        connection.execute(
            update(blind_tests)
            .where(blind_tests.c.id == test_id)
            .values(state="open", opened_at=now(), plan=make_plan(connection, test))
        )
        note(connection, test_id, "opened", plan=plan_hash(connection, find_test(connection, test_id)))


def close_test(store: Store, test_id: str) -> None:
    """End the voting. Closing before seeing the tally does not depend on the votes, so it does not count as opening
    early. The verdict states how many votes were planned."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_be(test, ("open",), "it is closed")
        values = {"state": "closed", "closed_at": now()}
        connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
        note(connection, test_id, "closed", votes=votes_given(connection, test_id), planned=test.planned_votes)


def open_early(store: Store, test_id: str) -> None:
    """Reveal the tally before the planned number of votes. This is recorded and stated in every report."""
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


def delete_test(store: Store, test_id: str) -> None:
    """Delete a test with all its data, including votes. Raises InputError while it is open."""
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


# Model families and makers that answers name when asked who they are. Whole words only, since "phi" is in "philosophy".
FAMILIES = tuple(
    "Alibaba Anthropic Bard BLOOM ChatGPT Claude Cohere Command-R DeepSeek DeepMind Falcon Gemini Gemma GPT-2 GPT-3 "
    "GPT-4 GPT-5 gpt-oss Granite Grok Hugging~Face Kimi LLaMA Llama Microsoft~Copilot MiniCPM Mistral Mixtral "
    "Moonshot~AI OLMo OpenAI Phi-3 Phi-4 Qwen Qwen2 Qwen3 SmolLM SmolLM2 SmolLM3 StableLM TinyLlama Vicuna xAI Yi-34B "
    "Zephyr".replace("~", "\0").split()
)
PHRASES = ("as an AI language model", "as a large language model", "I was fine-tuned", "my training data")
AROUND = 40
# Control tokens of the chat templates of Qwen, Llama, Mistral, Gemma and Alpaca. They may occur in one side's answers
# only.
_REMNANT = re.compile(
    r"<\|\w+\|>|</?think>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|<</?SYS>>|^### ?(?:Response|Instruction|Input):",
    re.MULTILINE,
)
CUT = "The answer was cut off at the token limit"
# Silent reading of English prose: M. Brysbaert, Journal of Memory and Language 109, 2019. Choosing takes a moment more.
_WORDS_A_MINUTE = 238
_SECONDS_TO_CHOOSE = 8


def names_of(title: str, spec: dict[str, Any]) -> set[str]:
    """The names that could identify a contestant: title, base and the parts of its id, run, model, address."""
    names = {title}
    for key in ("base", "run", "model", "url"):
        value = str(spec.get(key) or "")
        names |= {value, value.rsplit("/", 1)[-1]}
    return {name for name in names if len(name) >= 3 and name.casefold() not in _EVERYDAY}


def names_in(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, surrounding text) for each of `names` and of the known model families that occurs in `text`."""
    hits = {}
    known = {name.replace("\0", " ") for name in (*names, *FAMILIES, *PHRASES)}
    for name in sorted(known):
        hit = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if hit and name.casefold() not in hits:
            around = text[max(0, hit.start() - AROUND) : hit.end() + AROUND]
            hits[name.casefold()] = (name, shorten(around, 2 * AROUND + len(name)))
    return list(hits.values())


# Titles that occur in answers without referring to a model.
_EVERYDAY = {"base", "run", "new", "old", "model", "adapted", "tuned", "starter", "last", "before", "after", "adapter"}


def get_test(store: Store, test_id: str) -> Row[Any]:
    """The row of `blind_tests`. Raises InputError if there is none."""
    with store.reading() as connection:
        return find_test(connection, test_id)


def find_test(connection: Connection, test_id: str, *, lock: bool = False, share: bool = False) -> Row[Any]:
    """The row of `blind_tests`, within a transaction. `lock`: nobody else can assign trials or close the test until it
    ends. `share`: nobody can close it. SQLite has one writer at a time and needs neither."""
    query = select(*PUBLIC).where(blind_tests.c.id == test_id)
    if lock or share:
        query = query.with_for_update(read=share, key_share=not share)
    test = connection.execute(query).first()
    if test is None:
        raise InputError("There is no such blind test", given=test_id, try_="choose one from the list of tests")
    return test


def list_tests(store: Store) -> list[Row[Any]]:
    """All tests, newest first."""
    with store.reading() as connection:
        return list(connection.execute(select(*PUBLIC).order_by(blind_tests.c.created.desc())))


def list_contestants(store: Store, test_id: str) -> list[Row[Any]]:
    with store.reading() as connection:
        query = select(contestants).where(contestants.c.test_id == test_id).order_by(contestants.c.position)
        return list(connection.execute(query))


def list_prompts(store: Store, test_id: str) -> list[Row[Any]]:
    with store.reading() as connection:
        return list(connection.execute(select(prompts).where(prompts.c.test_id == test_id).order_by(prompts.c.number)))


def settings_of(test: Row[Any]) -> TestSettings:
    """The settings of a row of `blind_tests`."""
    stored = {name: value for name, value in test.settings.items() if name != "seed"}  # from an older ftlab
    return TestSettings(**stored | {"options": tuple(stored["options"]), "rubric": tuple(stored["rubric"])})


def missing_answers(store: Store, test_id: str) -> list[tuple[str, str]]:
    """(prompt id, contestant id) of each missing answer, by contestant and prompt number."""
    with store.reading() as connection:
        return answers_missing(connection, test_id)


def answers_missing(connection: Connection, test_id: str) -> list[tuple[str, str]]:
    query = (
        select(prompts.c.id, contestants.c.id)
        .join(contestants, contestants.c.test_id == prompts.c.test_id)
        .outerjoin(answers, (answers.c.prompt_id == prompts.c.id) & (answers.c.contestant_id == contestants.c.id))
        .where(prompts.c.test_id == test_id, answers.c.id.is_(None))
        .order_by(contestants.c.position, prompts.c.number)
    )
    return [(prompt_id, contestant_id) for prompt_id, contestant_id in connection.execute(query)]


def revealed(store: Store, test_id: str) -> str | None:
    """Why the tally may be shown: planned, evidence, early or closed. None while it stays hidden."""
    with store.reading() as connection:
        return reveal(connection, find_test(connection, test_id))


def reveal(connection: Connection, test: Row[Any]) -> str | None:
    """Like `revealed`, within a transaction."""
    if test.opened_early_at is not None:
        return "early"
    if test.evidence_at is not None:
        return "evidence"
    if votes_given(connection, test.id) >= test.planned_votes:
        return "planned"
    return "closed" if test.state == "closed" else None


def votes_of_people(known: ProgressJson) -> tuple[int, int]:
    """(cast, planned): the votes of people. Ties that came by themselves are no votes."""
    planned = known["planned"] if known["asked"] is None else known["asked"]
    return known["votes"] - known["automatic"], planned or 0


def votes_in_words(known: ProgressJson) -> str:
    """How many of the planned votes people have given: 5 of 24 planned votes."""
    cast, planned = votes_of_people(known)
    return f"{cast:,} of {planned:,} planned votes"


def identical_in_test(store: Store, test_id: str) -> int:
    """The comparisons of an open test that no rater sees, as both answers read the same."""
    with store.reading() as connection:
        return left_to_people(connection, find_test(connection, test_id))[0]


def identical_in_words(known: ProgressJson) -> str:
    """What raters are not asked about, in a sentence; empty if every two answers differ."""
    if not (number := known["identical"]):
        return ""
    pairs = "1 pair of answers is" if number == 1 else f"{number:,} pairs of answers are"
    return f"{pairs} the same: a tie, which no rater sees."


def votes_given(connection: Connection, test_id: str) -> int:
    """The number of votes toward the planned number: includes automatic ties, excludes skips, voided votes and control
    items."""
    query = (
        select(func.count())
        .select_from(votes.join(trials, votes.c.trial_id == trials.c.id).join(raters, raters.c.id == trials.c.rater_id))
        .where(
            trials.c.test_id == test_id,
            trials.c.control.is_(None),
            votes.c.choice != "skip",
            raters.c.voided_at.is_(None),
        )
    )
    return connection.execute(query).scalar_one()


def history(store: Store, test_id: str) -> list[Row[Any]]:
    """What happened to a test (opened early, closed, revoked, undone votes), oldest first."""
    with store.reading() as connection:
        return list(connection.execute(select(audit).where(audit.c.test_id == test_id).order_by(audit.c.at)))


def progress(store: Store, test_id: str) -> ProgressJson:
    """The progress of a test. Raises InputError if there is no such test."""
    with store.reading() as connection:
        test = find_test(connection, test_id)
        people = connection.execute(select(raters).where(raters.c.test_id == test_id).order_by(raters.c.number)).all()
        cast = connection.execute(
            select(raters.c.id, votes.c.automatic, votes.c.choice, func.count(), func.max(votes.c.created))
            .join(votes, votes.c.rater_id == raters.c.id)
            .join(trials, trials.c.id == votes.c.trial_id)
            .where(raters.c.test_id == test_id, trials.c.control.is_(None))
            .group_by(raters.c.id, votes.c.automatic, votes.c.choice)
        ).all()
        made = connection.execute(
            select(func.count()).select_from(answers.join(prompts)).where(prompts.c.test_id == test_id)
        ).scalar_one()
        missing = len(answers_missing(connection, test_id))
        alike, wanted = left_to_people(connection, test)
        why = reveal(connection, test)

    last: dict[str, float] = {}
    for rater_id, by_itself, _, _, at in cast:
        if not by_itself:
            last[rater_id] = max(at, last.get(rater_id, 0.0))

    gone = {rater.id for rater in people if rater.voided_at is not None}

    def votes_of(rater_id: str | None = None, *, automatic: bool | None = None, skip: bool = False) -> int:
        return sum(
            times
            for voter, by_itself, choice, times, _ in cast
            if (rater_id == voter or (rater_id is None and voter not in gone))
            and automatic in (None, bool(by_itself))
            and (choice == "skip") == skip
        )

    automatic = votes_of(automatic=True)
    return {
        "state": test.state,
        "votes": votes_of(),
        "planned": test.planned_votes,
        "skipped": votes_of(skip=True),
        "automatic": automatic,
        "identical": automatic if test.settings["live"] else alike,
        "asked": wanted,
        "voided": sum(votes_of(rater_id) for rater_id in gone),
        "answers": made,
        "answers_wanted": made + missing,
        "revealed": why,
        "raters": [
            {
                "id": rater.id,
                "number": rater.number,
                "pseudonym": rater.pseudonym,
                "group": rater.group_name or "",
                "open_link": rater.open_link,
                "revoked": rater.revoked_at is not None,
                "voided": rater.voided_at is not None,
                "joined": rater.created,
                "beside": [
                    other.number
                    for other in people
                    if rater.came_from and other.came_from == rater.came_from and other != rater
                ],
                "votes": votes_of(rater.id, automatic=False),
                "skipped": votes_of(rater.id, skip=True),
                "last": last.get(rater.id),
            }
            for rater in people
        ],
    }


def flags(store: Store, test_id: str) -> list[FlagJson]:
    """What its owner should check before a test starts, by prompt: answers that might reveal a side."""
    with store.reading() as connection:
        among = connection.execute(select(contestants).where(contestants.c.test_id == test_id)).all()
        query = (
            select(
                prompts.c.number, contestants.c.title, *(answers.c[name] for name in ("text", "cut", "flags", "turns"))
            )
            .select_from(answers.join(prompts).join(contestants, contestants.c.id == answers.c.contestant_id))
            .where(prompts.c.test_id == test_id)
            .order_by(prompts.c.number, contestants.c.position)
        )
        rows = connection.execute(query).all()
        instructions = find_test(connection, test_id).settings["instructions"]
    names = sorted({name for contestant in among for name in names_of(contestant.title, contestant.spec)})
    flagged: list[FlagJson] = [
        {"prompt": None, "contestant": None, "what": f"The instructions name {name!r}", "excerpt": excerpt}
        for name, excerpt in names_in(instructions, names)
    ]
    for number, title, text, cut, noted, turns in rows:
        remarks = [(f"The answer names {name!r}", excerpt) for name, excerpt in names_in(text, names)]
        for turn, part in enumerate(texts_of(text, turns), 1):
            if not part.strip():
                remarks.append(("The answer is empty", f"answer {turn} of the conversation" if turns else ""))
        if remnant := _REMNANT.search(text):
            around = text[max(0, remnant.start() - AROUND) : remnant.end() + AROUND]
            remarks.append(("The answer has a remnant of a template", shorten(around)))
        if cut:
            ended = next((turn["text"] for turn in turns or () if turn["cut"]), text)
            remarks.append((CUT, shorten(ended[-80:])))
        remarks += [(what, "") for what in noted]
        flagged += [
            {"prompt": number, "contestant": title, "what": what, "excerpt": excerpt} for what, excerpt in remarks
        ]
    return flagged


def leave_out(store: Store, test_id: str) -> int:
    """Remove from a ready test each prompt with an answer that needs review, with all its answers, regardless of whose
    answer it is. Returns the number of prompts removed. The planned votes shrink to what the rest allows.

    Raises InputError if the test has opened, or if no prompt would be left.
    """
    flagged = revealing(flags(store, test_id))
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_be(test, ("ready",), "prompts are left out")
        every = connection.execute(select(prompts.c.id, prompts.c.number).where(prompts.c.test_id == test_id)).all()
        gone = [prompt.id for prompt in every if prompt.number in flagged]
        if len(gone) == len(every):
            raise InputError("Every prompt has an answer that could reveal its side", try_="choose other prompts")
        if len(every) - len(gone) <= settings_of(test).attention:
            raise InputError(
                "Too few prompts would be left: the attention items take their own",
                given=f"{counted(len(every) - len(gone), 'prompt')}, {settings_of(test).attention} attention items",
                try_="choose other prompts, or fewer attention items",
            )
        if gone:
            among = connection.execute(select(func.count()).where(contestants.c.test_id == test_id)).scalar_one()
            how = settings_of(test)
            possible = capacity(among, len(every) - len(gone), how)
            values = {
                "settings": test.settings | {"gave_away": how.gave_away + len(gone)},
                "planned_votes": min(test.planned_votes, possible or test.planned_votes),
            }
            connection.execute(delete(prompts).where(prompts.c.id.in_(gone)))
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(**values))
            note(connection, test_id, "left out", prompts=sorted(flagged))
        return len(gone)


def revealing(flagged: Sequence[FlagJson]) -> set[int]:
    """The numbers of the prompts with an answer that must be looked at."""
    return {flag["prompt"] for flag in flagged if flag["prompt"] and must_be_looked_at([flag])}


def must_be_looked_at(flagged: Sequence[FlagJson]) -> bool:
    """Whether some of `flags` may reveal a side or void the test. Then only its owner can open it.

    A long answer that was cut does not count: raters judge it as it is.
    """
    return any(flag["what"] != CUT for flag in flagged)


def seconds_each(store: Store, test_id: str) -> float | None:
    """The approximate time for one comparison in seconds: reading the question and two answers of mean length, and
    choosing. None before there are answers."""
    with store.reading() as connection:
        asked = connection.execute(select(prompts.c.messages).where(prompts.c.test_id == test_id)).scalars().all()
        query = select(answers.c.text).select_from(answers.join(prompts)).where(prompts.c.test_id == test_id)
        written = connection.execute(query).scalars().all()
    if not written:
        return None
    question = sum(len(str(turn["content"]).split()) for messages in asked for turn in messages) / len(asked)
    answer = sum(len(text.split()) for text in written) / len(written)
    return _SECONDS_TO_CHOOSE + 60 * (question + 2 * answer) / _WORDS_A_MINUTE
