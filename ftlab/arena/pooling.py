"""A blind test and its repetitions on fresh prompts, judged together.

The evidence of each test is a supermartingale that starts at 1, on prompts of its own. So the product is one too, also
if a test was repeated because of what the one before it showed (P. Grünwald, R. de Heide and W. Koolen, Safe Testing,
JRSS B 86, 2024). It is one-sided, since two tests that lean opposite ways would otherwise confirm each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, select

from ftlab.arena import prompt_sources
from ftlab.arena.asking import ContestantSpec, PromptSpec, TestSettings, capacity
from ftlab.arena.ballots import Ballot, duels
from ftlab.arena.blind_tests import create_test, get_test, list_contestants, list_tests, settings_of
from ftlab.arena.evidence import FEWEST_RATERS, duel_majorities, log_evidence
from ftlab.arena.results import PooledJson, PooledTestJson, Word
from ftlab.arena.store import Store, prompts
from ftlab.arena.tally import CountedVotes, about_raters, read_votes, revealed_now
from ftlab.arena.verdict import BETTER, NO_WORSE, NOT_ENOUGH, WORSE, odds, points_text, whom
from ftlab.core.words import counted
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError
from ftlab.evaluation.clusters import clustered_share, same_share
from ftlab.evaluation.figures import from_to, percent
from ftlab.evaluation.significance import LEVEL, p_text, wilson_interval

# The settings that make a vote mean the same. Tests of an older ftlab lack some of them.
PLAN = ("generation", "options", "rubric", "instructions", "votes_per_prompt", "overlap", "live")
RULE = ("margin", "attention", "repeats", "min_attention", "min_consistency", "conversations")


def pool(store: Store, test_ids: Sequence[str]) -> PooledJson:
    """The verdict of two or more tests of the same two contestants and plan, on different prompts.

    Raises InputError for tests that cannot be pooled, and while one of them is hidden.
    """
    if len(set(test_ids)) < max(2, len(test_ids)):
        raise InputError(
            "Pooling takes two or more different tests",
            given=", ".join(test_ids),
            try_="repeat a test with create --like, or wait until the votes of its repetition may be shown",
        )
    tests = {test.id: test for test in list_tests(store)}
    if unknown := [test_id for test_id in test_ids if test_id not in tests]:
        raise InputError("There is no such blind test", given=", ".join(unknown))
    _check(store, [tests[test_id] for test_id in test_ids])
    known = [read_votes(store, test_id) for test_id in test_ids]
    names = list(known[0].titles)
    titles, margin = known[0].titles, known[0].margin
    null = 0.5 - margin / 100
    sides = {"above": 0.0, "below": 0.0}
    rows: list[PooledTestJson] = []
    every: list[Ballot] = []
    for part in known:
        first, second = part.titles
        met = duels(part.ballots, first, second, part.wanted)
        running = [0]
        for duel in met:
            if duel.settled in ("first", "second"):
                running.append(running[-1] + (duel.settled == "second"))
        for side in sides:
            sides[side] += (log_evidence(running[1:], null, side) or [0.0])[-1]
        (losses, wins), split = duel_majorities(met)
        rows.append(
            {
                "test": part.test.id,
                "title": part.test.title,
                "wins": wins,
                "losses": losses,
                "split": split,
                "votes": len(part.ballots),
            }
        )
        same = dict(zip((first, second), names, strict=True))
        every += [
            replace(b, prompt=f"{part.test.id} {b.prompt}", left=same[b.left], right=same[b.right])
            for b in part.ballots
        ]
    chosen = [ballot for ballot in every if ballot.winner is not None]
    won = [ballot.winner == names[1] for ballot in chosen]
    interval = clustered_share(won, [ballot.prompt for ballot in chosen], [ballot.rater for ballot in chosen])
    wins, losses = sum(row["wins"] for row in rows), sum(row["losses"] for row in rows)
    # Better and worse share the 5%; of "no worse" and "worse by more", only one can be false.
    threshold = (1 if margin else 2) / LEVEL
    sure = [side for side, value in sides.items() if value >= math.log(threshold) - 1e-9]
    verdict: Word = NOT_ENOUGH  # also if both are: the tests contradict each other
    if sure == ["below"]:
        verdict = WORSE
    elif sure == ["above"] and margin:
        verdict = NO_WORSE
    elif sure == ["above"]:
        verdict = BETTER
    differ = same_share([row["wins"] for row in rows], [row["wins"] + row["losses"] for row in rows])
    result: PooledJson = {
        "tests": rows,
        "verdict": verdict,
        "text": "",
        "win_rate": sum(won) / len(won) if won else None,
        "interval": interval,
        "prompts": {
            "wins": wins,
            "losses": losses,
            "split": sum(row["split"] for row in rows),
            "interval": wilson_interval(wins, wins + losses),
        },
        "raters": len({ballot.rater for ballot in every if not ballot.automatic}),
        "margin": margin,
        "evidence": {side: math.exp(min(value, 700.0)) for side, value in sides.items()},
        "threshold": threshold,
        "p_differ": differ,
        "notes": [
            _about_difference(rows, differ),
            *_left_out(store, tests, known),
            *(f"{part.test.title} ({part.test.id}): {note}" for part in known for note in _about_votes(store, part)),
        ],
    }
    result["text"] = _sentence(result, titles[names[1]], titles[names[0]])
    return result


def same_plan(store: Store, test: Row[Any], other: Row[Any]) -> str | None:
    """What differs between the plans of two tests, in words. None if votes in them mean the same."""
    mine, others = ([contestant.spec for contestant in list_contestants(store, each.id)] for each in (test, other))
    if mine != others:
        return "the contestants"
    for name in PLAN:
        if test.settings.get(name) != other.settings.get(name):
            return f"the {name.replace('_', ' ')}"
    for name in RULE:
        if (test.settings.get(name) or 0) != (other.settings.get(name) or 0):
            return f"the {name.replace('_', ' ')}"
    return None


def repetitions(store: Store, test_id: str) -> list[str]:
    """The tests to pool with this one, itself among them, in their order: those of its plan, on other prompts, whose
    votes are not hidden."""
    test, chosen = get_test(store, test_id), [test_id]
    taken = asked_in(store, test_id)
    for other in list_tests(store):
        if other.id == test_id or same_plan(store, test, other) or revealed_now(store, other.id) is None:
            continue
        if not taken & (asked := asked_in(store, other.id)):
            taken |= asked
            chosen.append(other.id)
    created = {each.id: each.created for each in list_tests(store)}
    return sorted(chosen, key=lambda each: created[each])


def prompts_for(store: Store, test_id: str, source: str) -> list[PromptSpec]:
    """The prompts of `source` (see `prompt_sources.named`) as this test asks them: whole conversations, if it does."""
    scripts = plan_of(store, test_id)[1].conversations
    return prompt_sources.named(source, store.workspace, conversations=scripts)


def repeat(store: Store, test_id: str, every: Sequence[PromptSpec], number: int | None = None) -> tuple[str, int]:
    """Create a test with the contestants and the plan of this one, on `number` (None: all) of the prompts that no test
    of the plan has asked. Returns its id, and how many prompts were left out because they trained a contestant.

    Raises InputError for a live test, and if no prompt is left.
    """
    contestants, settings = plan_of(store, test_id)
    fresh, left_out = prompt_sources.fresh(every, [each.spec for each in contestants], store.workspace)
    chosen = prompt_sources.sample(not_asked(store, test_id, fresh), number)
    planned = capacity(len(contestants), len(chosen), settings) or 1
    title = repeated_title(store, test_id)
    return create_test(store, title, contestants, chosen, settings, planned), left_out


def repeated_title(store: Store, test_id: str) -> str:
    """The title of the next repetition of a test: "adapted against base, repetition 2"."""
    test = get_test(store, test_id)
    number = sum(not same_plan(store, test, other) for other in list_tests(store))
    return f"{re.sub(r', repetition [0-9]+$', '', test.title)}, repetition {number}"


def plan_of(store: Store, test_id: str) -> tuple[list[ContestantSpec], TestSettings]:
    """The contestants and the settings of a repetition. Raises InputError for a live test."""
    test = get_test(store, test_id)
    if test.settings["live"]:
        raise InputError("A live test has no prompts to be repeated on", given=test.title)
    contestants = [ContestantSpec(each.title, each.spec) for each in list_contestants(store, test_id)]
    return contestants, replace(settings_of(test), gave_away=0)


def not_asked(store: Store, test_id: str, every: Sequence[PromptSpec]) -> list[PromptSpec]:
    """The prompts that no test of this plan has asked. Raises InputError if there are none."""
    asked = asked_in_plan(store, get_test(store, test_id))
    left = [prompt for prompt in every if prompt_fingerprint(prompt.messages) not in asked]
    if not left:
        raise InputError("All of these prompts were asked before", try_="choose other ones")
    return left


def asked_in(store: Store, test_id: str) -> set[str]:
    """The fingerprints of the prompts of a test."""
    with store.reading() as connection:
        return set(connection.execute(select(prompts.c.fingerprint).where(prompts.c.test_id == test_id)).scalars())


def asked_in_plan(store: Store, test: Row[Any]) -> set[str]:
    """The fingerprints of the prompts of a test and of all others with its plan."""
    same = [other.id for other in list_tests(store) if not same_plan(store, test, other)]
    return set().union(*(asked_in(store, test_id) for test_id in same))


def _check(store: Store, tests: Sequence[Row[Any]]) -> None:
    for number, test in enumerate(tests):
        if len(list_contestants(store, test.id)) != 2:
            raise InputError("Tests of two contestants can be pooled", given=f"{test.title}: more contestants")
        if revealed_now(store, test.id) is None:
            raise InputError(
                "The votes of a test are still hidden", given=test.title, try_="wait for its planned votes, or close it"
            )
        for before in tests[:number]:
            if what := same_plan(store, before, test):
                raise InputError(
                    f"These tests cannot be pooled: they differ in {what}",
                    given=f"{before.id} and {test.id}",
                    try_="repeat a test with: python -m ftlab arena create --like TEST",
                )
            if shared := asked_in(store, before.id) & asked_in(store, test.id):
                raise InputError(
                    "These tests cannot be pooled: they share prompts",
                    given=f"{counted(len(shared), 'prompt')} in {before.id} and {test.id}",
                    allowed="tests on different prompts",
                )


def _about_difference(rows: Sequence[PooledTestJson], p: float) -> str:
    shares = [percent(row["wins"] / n) for row in rows if (n := row["wins"] + row["losses"])]
    if len(shares) < 2:
        return "Fewer than two tests have prompts that chose a side."
    of = f"{', '.join(shares)} of prompts won; {p_text(p)}"
    if p < LEVEL:
        return f"The tests differ more than by chance ({of}): raters or prompts were not alike, so read each by itself."
    return f"No sign that the tests differ ({of})."


def _about_votes(store: Store, part: CountedVotes) -> list[str]:
    """What the verdict of one test says of its votes, and that of all must not hide."""
    notes, out = [], sum(row["excluded"] for row in part.quality)
    if (early := part.test.opened_early_votes) is not None:
        notes.append(f"The tally was opened early, after {early:,} of {part.test.planned_votes:,} planned votes.")
    if out:
        gone = counted(len(part.everyone) - len(part.ballots), "vote")
        notes.append(f"Without {gone} of {counted(out, 'rater')}, by the rule of the plan.")
    return notes + about_raters(store, part.test.id)


def _left_out(store: Store, tests: dict[str, Row[Any]], known: Sequence[CountedVotes]) -> list[str]:
    """Tests of the same plan that were not pooled: leaving out what one does not like voids the verdict."""
    pooled = {part.test.id for part in known}
    others = [
        test
        for test in tests.values()
        if test.id not in pooled and test.state in ("open", "closed") and not same_plan(store, known[0].test, test)
    ]
    hidden = [test for test in others if revealed_now(store, test.id) is None]
    seen = [test for test in others if test not in hidden]
    notes = []
    if hidden:
        notes.append(f"Of the same plan, and its votes are still hidden: {_listed(hidden)}.")
    if seen:
        notes.append(
            f"Not pooled, though the plan is the same: {_listed(seen)}. The verdict holds if none was left out for its "
            "votes."
        )
    return notes


def _listed(tests: Sequence[Row[Any]]) -> str:
    return ", ".join(f"{test.title} ({test.id})" for test in tests[:5]) + (", …" if len(tests) > 5 else "")


def _sentence(result: PooledJson, tuned: str, other: str) -> str:
    asked, interval = result["prompts"], result["interval"]
    if interval is None or asked["interval"] is None:
        return "Not enough votes: none chose a side."
    margin, number = result["margin"], len(result["tests"])
    by = f" by more than {points_text(margin)}" if margin else ""
    # As for one test: few say nothing of others. Raters are told apart by name, and equal names may be two people.
    many = result["raters"] >= FEWEST_RATERS
    over = f"over {number} tests{whom(result['raters'], result['raters']) if many else ' for the raters who voted'}"
    general = f"; of the votes of raters in general, {from_to(interval)}" if many else ""
    figures = (
        f"it won {asked['wins']:,} of the {asked['wins'] + asked['losses']:,} prompts on which raters chose a side "
        f"(95% interval {from_to(asked['interval'])}{general}"
    )
    evidence, decides = result["evidence"], f"decides from {result['threshold']:g} to 1"
    words = {BETTER: "better", NO_WORSE: "no worse", WORSE: "worse"}
    if result["verdict"] in words:
        strength = evidence["below" if result["verdict"] == WORSE else "above"]
        word = words[result["verdict"]]
        return f"{tuned} is {word} than {other}{by} {over}: {figures}; evidence {odds(strength)}, {decides})."
    claim = "no worse" if margin else "better"
    return (
        f"{counted(number, 'test')} together cannot tell whether {tuned} is {claim} than {other}{by}: {figures}; "
        f"evidence for {claim} {odds(evidence['above'])}, for worse {odds(evidence['below'])}, {decides})."
    )
