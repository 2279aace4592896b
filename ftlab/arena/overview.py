"""A blind test as its owner sees it, and answers that give their author away."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ftlab.arena.asking import TestSettings
from ftlab.arena.store import PUBLIC, Store, answers, audit, blind_tests, contestants, prompts, raters, trials, votes
from ftlab.errors import InputError, shorten

# Families and makers that answers name when asked who they are. Whole words only, as "phi" is in "philosophy".
FAMILIES = tuple(
    "Alibaba Anthropic Bard BLOOM ChatGPT Claude Cohere Command-R DeepSeek DeepMind Falcon Gemini Gemma GPT-2 GPT-3 "
    "GPT-4 GPT-5 gpt-oss Granite Grok Hugging~Face Kimi LLaMA Llama Microsoft~Copilot MiniCPM Mistral Mixtral "
    "Moonshot~AI OLMo OpenAI Phi-3 Phi-4 Qwen Qwen2 Qwen3 SmolLM SmolLM2 SmolLM3 StableLM TinyLlama Vicuna xAI Yi-34B "
    "Zephyr".replace("~", "\0").split()
)
PHRASES = ("as an AI language model", "as a large language model", "I was fine-tuned", "my training data")
AROUND = 40
CUT = "The answer was cut at the most tokens allowed"
# Silent reading of English prose: M. Brysbaert, Journal of Memory and Language 109, 2019; choosing takes a moment more.
_WORDS_A_MINUTE = 238
_SECONDS_TO_CHOOSE = 8


def names_of(title: str, spec: dict[str, Any]) -> set[str]:
    """The words by which a contestant may be known: title, base and the parts of its id, run, model, address."""
    names = {title}
    for key in ("base", "run", "model", "url"):
        value = str(spec.get(key) or "")
        names |= {value, value.rsplit("/", 1)[-1]}
    return {name for name in names if len(name) >= 3 and name.casefold() not in _EVERYDAY}


def names_in(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, the words around it) for each of `names`, and of known model families, that `text` says."""
    hits = {}
    known = {name.replace("\0", " ") for name in (*names, *FAMILIES, *PHRASES)}
    for name in sorted(known):
        hit = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if hit and name.casefold() not in hits:
            around = text[max(0, hit.start() - AROUND) : hit.end() + AROUND]
            hits[name.casefold()] = (name, shorten(around, 2 * AROUND + len(name)))
    return list(hits.values())


# Titles that owners give and answers say without meaning a model.
_EVERYDAY = {"base", "run", "new", "old", "model", "adapted", "tuned", "starter", "last", "before", "after", "adapter"}


def get_test(store: Store, test_id: str) -> Row[Any]:
    """The row of `blind_tests`. Raises InputError when there is none."""
    with store.reading() as connection:
        return find_test(connection, test_id)


def find_test(connection: Connection, test_id: str, *, lock: bool = False, share: bool = False) -> Row[Any]:
    """The row of `blind_tests`, within a transaction. `lock`: nobody else assigns or closes until it ends; `share`:
    nobody closes. SQLite, where one writes at a time, needs neither."""
    query = select(*PUBLIC).where(blind_tests.c.id == test_id)
    if lock or share:
        query = query.with_for_update(read=share, key_share=not share)
    test = connection.execute(query).first()
    if test is None:
        raise InputError("There is no such blind test", given=test_id, try_="take one from the list of tests")
    return test


def list_tests(store: Store) -> list[Row[Any]]:
    """All tests, the newest first."""
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
    stored = {name: value for name, value in test.settings.items() if name != "seed"}  # of an older ftlab
    return TestSettings(**stored | {"options": tuple(stored["options"]), "rubric": tuple(stored["rubric"])})


def missing_answers(store: Store, test_id: str) -> list[tuple[str, str]]:
    """(prompt id, contestant id) of what is still to be answered, by contestant and number of the prompt."""
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
    """Why the tally may be shown: planned, evidence, early or closed; None while it stays hidden."""
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
    """Votes that are no skips and not voided, ties by identical answers among them: what the planned number counts."""
    query = (
        select(func.count())
        .select_from(votes.join(trials, votes.c.trial_id == trials.c.id).join(raters, raters.c.id == trials.c.rater_id))
        .where(trials.c.test_id == test_id, votes.c.choice != "skip", raters.c.voided_at.is_(None))
    )
    return connection.execute(query).scalar_one()


def history(store: Store, test_id: str) -> list[Row[Any]]:
    """What happened to a test (opened early, closed, revoked, undone votes), the oldest first."""
    with store.reading() as connection:
        return list(connection.execute(select(audit).where(audit.c.test_id == test_id).order_by(audit.c.at)))


def progress(store: Store, test_id: str) -> dict[str, Any]:
    """How far a test is, without a word on who leads; `votes` counts the `automatic` ones, `skipped` come on top:

    {"state", "votes", "planned", "skipped", "automatic", "voided", "answers", "answers_wanted", "revealed",
    "raters": [{"id", "number", "pseudonym", "open_link", "revoked", "voided", "joined", "beside", "votes", "skipped",
    "last"}]}. `voided` votes are in none of the other numbers but those of their rater; `beside` are the numbers of
    other raters who joined by the open link from the same address.
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
        missing = len(answers_missing(connection, test_id))
        why = reveal(connection, test)

    last: dict[str, float] = {}
    for rater_id, by_itself, _, _, at in counted:
        if not by_itself:
            last[rater_id] = max(at, last.get(rater_id, 0.0))

    gone = {one.id for one in people if one.voided_at is not None}

    def votes_of(rater_id: str | None = None, *, automatic: bool | None = None, skip: bool = False) -> int:
        return sum(
            times
            for one, by_itself, choice, times, _ in counted
            if (rater_id == one or (rater_id is None and one not in gone))
            and automatic in (None, bool(by_itself))
            and (choice == "skip") == skip
        )

    return {
        "state": test.state,
        "votes": votes_of(),
        "planned": test.planned_votes,
        "skipped": votes_of(skip=True),
        "automatic": votes_of(automatic=True),
        "voided": sum(votes_of(one) for one in gone),
        "answers": made,
        "answers_wanted": made + missing,
        "revealed": why,
        "raters": [
            {
                "id": one.id,
                "number": one.number,
                "pseudonym": one.pseudonym,
                "open_link": one.open_link,
                "revoked": one.revoked_at is not None,
                "voided": one.voided_at is not None,
                "joined": one.created,
                "beside": [
                    other.number
                    for other in people
                    if one.came_from and other.came_from == one.came_from and other != one
                ],
                "votes": votes_of(one.id, automatic=False),
                "skipped": votes_of(one.id, skip=True),
                "last": last.get(one.id),
            }
            for one in people
        ],
    }


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
    flagged = [
        {"prompt": None, "contestant": None, "what": f"The instructions name {name!r}", "excerpt": excerpt}
        for name, excerpt in names_in(instructions, names)
    ]
    for number, title, text, cut, noted in rows:
        one = {"prompt": number, "contestant": title}
        flagged += [
            one | {"what": f"The answer names {name!r}", "excerpt": excerpt} for name, excerpt in names_in(text, names)
        ]
        if not text.strip():
            flagged.append(one | {"what": "The answer is empty", "excerpt": ""})
        if cut:
            flagged.append(one | {"what": CUT, "excerpt": shorten(text[-80:])})
        flagged += [one | {"what": what, "excerpt": ""} for what in noted]
    return flagged


def must_be_looked_at(flagged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some of `flags` may give a side away or void the test: then its owner opens it, and nothing else does.

    A long answer that was cut is none of these: it is what raters are asked to judge.
    """
    return any(one["what"] != CUT for one in flagged)


def seconds_each(store: Store, test_id: str) -> float | None:
    """About how long one comparison takes, in seconds: reading the question and two answers of mean length, and a
    choice. None before there are answers."""
    with store.reading() as connection:
        asked = connection.execute(select(prompts.c.messages).where(prompts.c.test_id == test_id)).scalars().all()
        query = select(answers.c.text).select_from(answers.join(prompts)).where(prompts.c.test_id == test_id)
        written = connection.execute(query).scalars().all()
    if not written:
        return None
    question = sum(len(str(turn["content"]).split()) for messages in asked for turn in messages) / len(asked)
    answer = sum(len(text.split()) for text in written) / len(written)
    return _SECONDS_TO_CHOOSE + 60 * (question + 2 * answer) / _WORDS_A_MINUTE
