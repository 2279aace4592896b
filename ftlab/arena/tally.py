"""Reads the votes of a test from the database for the verdict, without those on prompts that trained a contestant.

Such prompts, exact or near copies, would show memory, not skill. Copies are detected by the fingerprints in the
manifest of a run; near copies (`ftlab.data.near`: without the "?", with "Please", one more word, inside a longer text)
by its frozen training rows, if they still exist.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select

from ftlab.arena.ballots import Ballot, counts, in_order
from ftlab.arena.blind_tests import find_test, history, list_tests, progress, revealed, stop_by_evidence, votes_given
from ftlab.arena.controls import quality, rule_text
from ftlab.arena.conversations import is_script
from ftlab.arena.corrected import corrected_by_votes
from ftlab.arena.registration import registered
from ftlab.arena.results import CorrectedJson, EveryoneJson, QualityJson, TallyJson
from ftlab.arena.store import Store, answers, contestants, guesses, prompts, raters, trials, votes
from ftlab.arena.style import Style, style_of
from ftlab.arena.verdict import decided_early, judge
from ftlab.config import load_config
from ftlab.core.files import read_cached
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.partition import prompt_fingerprint, prompt_text
from ftlab.errors import FtlabError, InputError

log = logging.getLogger(__name__)


def count(store: Store, test_id: str) -> list[Ballot]:
    """All votes of a test except voided ones and those on control items, oldest first. Raises InputError if there is no
    such test."""
    return _all_votes(store, test_id)[0]


def _all_votes(store: Store, test_id: str) -> tuple[list[Ballot], list[Ballot]]:
    """As `count`, and the votes on control items."""
    query = (
        select(
            votes.c.choice,
            votes.c.created,
            votes.c.automatic,
            votes.c.ratings,
            votes.c.comment,
            votes.c.seconds,
            trials.c.id.label("trial"),
            trials.c.control,
            trials.c.left_answer_id,
            trials.c.right_answer_id,
            prompts.c.id.label("prompt"),
            prompts.c.number,
            prompts.c.topic,
            raters.c.pseudonym,
            raters.c.number.label("rater_number"),
            raters.c.group_name.label("group"),
            guesses.c.side.label("guess"),
        )
        .join(trials, votes.c.trial_id == trials.c.id)
        .join(prompts, trials.c.prompt_id == prompts.c.id)
        .join(raters, trials.c.rater_id == raters.c.id)
        .outerjoin(guesses, guesses.c.trial_id == trials.c.id)
        .where(trials.c.test_id == test_id, raters.c.voided_at.is_(None))
    )
    # Once for each answer, not for each vote: the database reads the whole text to know its length.
    texts = select(answers.c.id, answers.c.contestant_id, func.length(answers.c.text)).join(prompts)
    with store.reading() as connection:
        find_test(connection, test_id)
        rows = [dict(row) for row in connection.execute(query).mappings()]
        of_answer = {row[0]: row[1:] for row in connection.execute(texts.where(prompts.c.test_id == test_id))}
    people = {(row["pseudonym"], row["rater_number"]) for row in rows}
    shared = {name for name, times in Counter(name for name, _ in people).items() if times > 1}
    for row in rows:
        name, number = row.pop("pseudonym"), row.pop("rater_number")
        row["rater"] = f"{name} ({number})" if name in shared else name
        row["topic"], row["group"] = row["topic"] or "", row["group"] or ""
        for side in ("left", "right"):
            row[side], row[f"{side}_length"] = of_answer[row.pop(f"{side}_answer_id")]
    ordered = in_order(Ballot(**row) for row in rows)
    return [vote for vote in ordered if vote.control is None], [vote for vote in ordered if vote.control is not None]


def evaluate(store: Store, test_id: str, known: CountedVotes | None = None) -> TallyJson:
    """The result of `verdict.judge` for the current state of a test, with its id, title, state, `revealed` (why the
    tally may be `shown`; None while it must stay hidden) and `asked` (how many prompts count).

    Votes on prompts that a contestant was trained on do not count.
    """
    known = known or read_votes(store, test_id)
    result = judge(
        known.ballots,
        known.titles,
        planned=known.planned,
        wanted=known.wanted,
        closed_unseen=known.closed_unseen,
        opened_early=known.test.opened_early_votes,
        left_out=known.left_out,
        styles=_styles(store, test_id),
        margin=known.margin,
    )
    test = known.test
    with store.reading() as connection:
        plan = registered(connection, test)
    everyone, out = None, [row for row in known.quality if row["excluded"]]
    if out:
        whole = judge(
            known.everyone,
            known.titles,
            planned=known.planned_of_everyone,
            wanted=known.wanted_of_everyone,
            closed_unseen=known.closed_unseen,
            margin=known.margin,
        )
        everyone = EveryoneJson(verdict=whole["verdict"], text=whole["text"])
        result["notes"].append(_about_excluded(known, out, everyone))
    result["notes"] += about_raters(store, test_id)
    return {
        "id": test_id,
        "title": test.title,
        "state": test.state,
        "created": test.created,
        "live": test.settings["live"],
        "asked": len(known.numbers),
        "revealed": revealed_now(store, test_id, known),
        "registered": plan,
        "corrected": _corrected(store, known),
        "quality": known.quality,
        "everyone": everyone,
        **result,
    }


def _about_excluded(known: CountedVotes, out: Sequence[QualityJson], everyone: EveryoneJson) -> str:
    votes_ = len(known.everyone) - len(known.ballots)
    names = ", ".join(row["rater"] for row in out[:5]) + (", …" if len(out) > 5 else "")
    return (
        f"{votes_:,} {'vote' if votes_ == 1 else 'votes'} of {len(out):,} {'rater' if len(out) == 1 else 'raters'} "
        f"({names}) do not count, by the rule of the plan. {rule_text(known.test.settings)} With all raters: "
        f"{everyone['text']}"
    )


def _corrected(store: Store, known: CountedVotes) -> CorrectedJson | None:
    file, names = store.workspace.judged_file(known.test.id), list(known.titles)
    if len(names) != 2 or not file.exists():
        return None
    return corrected_by_votes(file, known.ballots, known.numbers, names[0], names[1], known.titles)


def _styles(store: Store, test_id: str) -> dict[tuple[str, str], Style]:
    query = select(answers.c.prompt_id, answers.c.contestant_id, answers.c.text).select_from(answers.join(prompts))
    with store.reading() as connection:
        rows = connection.execute(query.where(prompts.c.test_id == test_id)).all()
    return {(prompt, contestant): style_of(text) for prompt, contestant, text in rows}


def about_raters(store: Store, test_id: str) -> list[str]:
    """Notes on the raters: voided votes, and many raters from one address."""
    notes, known = [], progress(store, test_id)["raters"]
    voided = [rater for rater in known if rater["voided"]]
    if voided:
        seen = sum(
            bool(event.detail.get("tally_seen")) for event in history(store, test_id) if event.what == "votes voided"
        )
        votes_, people = sum(rater["votes"] for rater in voided), len(voided)
        notes.append(
            f"{votes_:,} {'vote' if votes_ == 1 else 'votes'} of {people:,} {'rater' if people == 1 else 'raters'} "
            "were voided by the owner of the test and do not count"
            + (f"; {seen:,} of these raters after the tally was visible." if seen else ".")
        )
    at_one = max((1 + len(rater["beside"]) for rater in known if rater["votes"] and not rater["voided"]), default=1)
    if at_one > 2:
        notes.append(
            f"{at_one:,} of the raters who joined by the open link came from one network address: a room full of "
            "people, or one person several times."
        )
    return notes


def revealed_now(store: Store, test_id: str, known: CountedVotes | None = None) -> str | None:
    """Why the tally may be shown: planned, evidence, early or closed. None while it stays hidden.

    Like `blind_tests.revealed`, after checking whether the evidence has decided in the meantime.
    """
    why = revealed(store, test_id)
    return "evidence" if why is None and watch(store, test_id, known) else why


def watch(store: Store, test_id: str, known: CountedVotes | None = None) -> bool:
    """End the wait for the planned number if the evidence already decides. Returns whether it does.

    Call it from time to time: once reached, the threshold stays reached. It does not reveal the direction.
    """
    known = known or read_votes(store, test_id)
    odds = decided_early(known.ballots, known.titles, planned=known.planned, wanted=known.wanted, margin=known.margin)
    if odds is not None and len(known.ballots) < len(known.everyone):
        # Who is excluded may change with each vote. With all raters, the threshold holds however often one looks.
        planned, wanted = known.planned_of_everyone, known.wanted_of_everyone
        whole = decided_early(known.everyone, known.titles, planned=planned, wanted=wanted, margin=known.margin)
        odds = None if whole is None else min(odds, whole)
    if odds is not None:
        stop_by_evidence(store, test_id, odds)
    return odds is not None


@functools.cache
def keep_watch(store: Store, every_seconds: float = 30.0) -> threading.Event:
    """Check the evidence of every open test while votes come in, so that a test can end without its owner watching.

    Runs one thread per store and process, until the returned event is set.
    """
    ended = threading.Event()

    def work() -> None:
        seen: dict[str, int] = {}
        while not ended.wait(every_seconds):
            try:
                for test in list_tests(store):
                    if test.state != "open" or revealed(store, test.id) is not None:
                        continue
                    with store.reading() as connection:
                        cast = votes_given(connection, test.id)
                    if cast != seen.get(test.id, 0):
                        watch(store, test.id)
                        seen[test.id] = cast
            except Exception:  # a database that is busy or briefly unavailable: the next check is soon
                log.exception("The evidence of the blind tests could not be read")

    threading.Thread(target=work, daemon=True, name="evidence of blind tests").start()
    return ended


@dataclass(frozen=True)
class CountedVotes:
    """The votes of a test that count, and what else the verdict needs. `everyone`: also those of raters that the plan's
    rule excludes, whose votes are taken off the planned numbers."""

    test: Row[Any]
    ballots: list[Ballot]
    titles: dict[str, str]
    planned: int
    wanted: dict[str, int]
    closed_unseen: bool
    left_out: int
    numbers: dict[str, int]  # of the prompts by id, without those left out
    everyone: list[Ballot]
    planned_of_everyone: int
    wanted_of_everyone: dict[str, int]
    controls: list[Ballot]
    right: dict[str, str]  # by prompt of an attention item: the contestant who answers it
    quality: list[QualityJson]

    @property
    def margin(self) -> float:
        """In points; 0 for a test of "better"."""
        return self.test.settings.get("margin", 0.0)


def read_votes(store: Store, test_id: str) -> CountedVotes:
    """The votes that count, and what else the verdict needs."""
    stale = stale_prompts(store, test_id)
    with store.reading() as connection:
        test = find_test(connection, test_id)
        query = select(contestants.c.id, contestants.c.title).where(contestants.c.test_id == test_id)
        titles = {
            contestant.id: contestant.title for contestant in connection.execute(query.order_by(contestants.c.position))
        }
        query = select(prompts.c.id, prompts.c.number).where(prompts.c.test_id == test_id)
        numbers = {prompt.id: prompt.number for prompt in connection.execute(query) if prompt.id not in stale}
        items = {prompt: answer for prompt, answer, *_ in (test.plan or {}).get("attention", ())}
        query = select(answers.c.id, answers.c.contestant_id).where(answers.c.id.in_(list(items.values())))
        of_answer = dict(connection.execute(query).all()) if items else {}
    right = {prompt: of_answer[answer] for prompt, answer in items.items()}
    numbers = {prompt: number for prompt, number in numbers.items() if prompt not in items}
    every, controls = _all_votes(store, test_id)
    fresh = [ballot for ballot in every if ballot.prompt not in stale]
    # Prompts are left out regardless of their votes, so the plan may shrink accordingly.
    planned = max(1, test.planned_votes - sum(map(counts, every)) + sum(map(counts, fresh)))
    wanted = dict(test.plan["prompts"]) if test.plan else {}
    rule = {name: test.settings.get(name, 0.0) for name in ("min_attention", "min_consistency")}
    reliability = quality(fresh, controls, right, **rule)
    out = {row["rater"] for row in reliability if row["excluded"]}
    kept = [ballot for ballot in fresh if ballot.rater not in out]
    # Exclusion does not depend on who is preferred, so the plan may shrink accordingly.
    gone = [ballot for ballot in fresh if ballot.rater in out and counts(ballot)]
    taken = Counter(ballot.prompt for ballot in gone)
    left = {prompt: votes_ - taken[prompt] for prompt, votes_ in wanted.items()}
    unseen = test.state == "closed" and test.opened_early_at is None and test.evidence_at is None
    return CountedVotes(
        test,
        kept,
        titles,
        max(1, planned - len(gone)),
        left,
        unseen,
        len(stale),
        numbers,
        everyone=fresh,
        planned_of_everyone=planned,
        wanted_of_everyone=wanted,
        controls=controls,
        right=right,
        quality=reliability,
    )


Messages = Sequence[Mapping[str, str]]


def stale_prompts(store: Store, test_id: str) -> dict[str, list[str]]:
    """The ids of the prompts of a test that a contestant was trained on, with the titles of these contestants."""
    with store.reading() as connection:
        query = select(contestants.c.title, contestants.c.spec).where(contestants.c.test_id == test_id)
        among = connection.execute(query.order_by(contestants.c.position)).all()
        if not any(_trained_by(store.workspace, contestant.spec) for contestant in among):
            return {}
        query = select(prompts.c.id, prompts.c.messages, prompts.c.reference).where(prompts.c.test_id == test_id)
        every = connection.execute(query.order_by(prompts.c.number)).all()
    messages, references = [prompt.messages for prompt in every], [prompt.reference for prompt in every]
    stale: dict[str, list[str]] = {}
    for who in among:
        for place in sorted(_known(store.workspace, who.spec, messages, references)):
            stale.setdefault(every[place].id, []).append(who.title)
    return stale


def fresh_only(
    workspace: Workspace,
    specs: Sequence[Mapping[str, Any]],
    asked: Sequence[Messages],
    references: Sequence[str | None] | None = None,
) -> list[int]:
    """The indices in `asked` (prompts as messages, with their correct answers, if known) of prompts that no contestant
    was trained on, exactly or nearly.

    Raises InputError if none is left.
    """
    stale: set[int] = set()
    for spec in specs:
        stale |= _known(workspace, spec, asked, references or [None] * len(asked))
    fresh = [place for place in range(len(asked)) if place not in stale]
    if asked and not fresh:
        raise InputError(
            "A contestant was trained on all of these prompts or near copies, so they would show memory, not skill",
            given=f"{len(asked)} prompts",
            allowed="prompts that none of the contestants was trained on",
            try_="use the held-out split of the run, or write new prompts",
        )
    return fresh


def _known(
    workspace: Workspace, spec: Mapping[str, Any], asked: Sequence[Messages], references: Sequence[str | None]
) -> set[int]:
    """The indices in `asked` of prompts that a contestant was trained on, exactly or nearly."""
    runs = _trained_by(workspace, spec)
    prints = _fingerprints(runs)
    places = {place for place, messages in enumerate(asked) if not prints.isdisjoint(_prints(messages, spec))}
    if not runs:
        return places
    from ftlab.data.splits import trained_nearly

    for scripts in (False, True):
        rest = [i for i in range(len(asked)) if i not in places and is_script(asked[i]) == scripts]
        texts = tuple((prompt_text(_turns(asked[place])), references[place] or "") for place in rest)
        for run in runs:
            near = trained_nearly(run, texts, spec.get("system_prompt"), scripts=scripts)
            places.update(rest[place] for place in near)
    return places


def _fingerprints(runs: Sequence[RunDirectory]) -> set[str]:
    return {
        fingerprint for run in runs for fingerprint in run.manifest().get("prompt_fingerprints", {}).get("train", [])
    }


def _trained_by(workspace: Workspace, spec: Mapping[str, Any]) -> list[RunDirectory]:
    """The runs whose training went into a contestant: its own, those it started from, and the reward models used. Empty
    for a base, an endpoint, and a run that is gone."""
    known = {run.id: run for run in workspace.runs()}
    waiting = [spec.get("run"), *_runs_in([spec.get("base")], known)]
    seen: dict[str, RunDirectory] = {}
    while waiting:
        run = known.get(str(waiting.pop()))
        if run is None or run.id in seen:
            continue
        seen[run.id] = run
        waiting += _teachers(run, known)
    return list(seen.values())


def _prints(messages: Sequence[Mapping[str, str]], spec: Mapping[str, Any]) -> set[str]:
    """The fingerprints under which a prompt may have been trained on: unchanged, and preceded by the contestant's
    system prompt, as data may hold it."""
    turns = _turns(messages)
    fingerprints = {prompt_fingerprint(turns)}
    if spec.get("system_prompt"):
        fingerprints.add(prompt_fingerprint([{"role": "system", "content": spec["system_prompt"]}, *turns]))
    return fingerprints


def _turns(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [dict(turn) for turn in messages]


def _teachers(run: RunDirectory, known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs whose training went into `run`."""
    parents = [(read_cached(run.environment_file) or {}).get("parent_run")]
    try:
        config = load_config(run.config_file)
    except FtlabError:
        return [parent for parent in parents if parent]
    named = [config.model.start, config.model.base, *(reward.model for reward in config.reinforcement.rewards)]
    return [parent for parent in parents if parent] + _runs_in(named, known)


def _runs_in(named: Sequence[str | None], known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs that are named by id or by a path into one."""
    parts = {part for name in named if name for part in (name, *Path(name).parts)}
    return [run_id for run_id in known if run_id in parts]
