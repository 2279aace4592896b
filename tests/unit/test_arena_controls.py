"""Repeated and attention items: what raters see, what counts, and the rule that excludes raters by them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.arena import blind_tests, controls, links, trials
from ftlab.arena import store as tables
from ftlab.arena.analysis import write_analysis
from ftlab.arena.ballots import Ballot
from ftlab.arena.preferences import collect
from ftlab.arena.store import Store, open_store
from ftlab.arena.tally import count, evaluate, read_votes
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.report.arena import quality_rows, write_arena_report
from tests.arena import answered, opened
from tests.unit.test_arena_analysis import recomputed

Choose = Callable[[trials.Trial], str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path / "workspace"))


def words(number: int, position: int) -> str:
    """An answer that could answer no other prompt."""
    return " ".join(f"{letter * 4}{number}" for letter in "abcdefg"[: 6 + position])


def topic(text: str) -> str:
    return text.split()[0][4:]


def careful(trial: trials.Trial) -> str:
    """Prefers the answer to the question, and of two such the longer one."""
    asked = str(int(trial.messages[-1]["content"].split()[-1]) + 1)  # "Question 0" is prompt 1
    fits = [topic(text) == asked for text in (trial.left, trial.right)]
    if fits[0] != fits[1]:
        return "left" if fits[0] else "right"
    return "left" if len(trial.left) > len(trial.right) else "right"


def vote_all(store: Store, raters: dict[str, Choose], seen: dict[str, list[trials.Trial]] | None = None) -> None:
    """The raters vote in turn until nothing is left for them."""
    waiting = dict(raters)
    while waiting:
        for rater, choose in list(waiting.items()):
            trial = trials.next_trial(store, rater)
            if trial is None:
                del waiting[rater]
                continue
            if seen is not None:
                seen.setdefault(rater, []).append(trial)
            trials.vote(store, rater, trial.id, choose(trial), seconds=2.0)


def test_raters_get_items_they_cannot_tell_apart_and_no_vote_on_them_counts(store):
    settings = {"votes_per_prompt": 2, "attention": 3, "repeats": 0.5}
    test, raters = opened(store, ("Ana", "Bo"), prompts=23, write=words, **settings)
    seen: dict[str, list[trials.Trial]] = {}
    vote_all(store, dict.fromkeys(raters, careful), seen)
    for rater, got in seen.items():
        # 20 prompts that count, 3 attention items, and 10 repeated ones; for who votes last, the last three come once.
        assert 30 <= len(got) <= 33 and [trial.number for trial in got] == list(range(1, len(got) + 1))
        assert all(trial.number <= trial.total and 28 <= trial.total <= 38 for trial in got)
        fields = {tuple(sorted(dataclasses.asdict(trial))) for trial in got}
        assert len(fields) == 1 and len({len(trial.id) for trial in got}) == 1
        strange = [trial for trial in got if topic(trial.left) != topic(trial.right)]
        assert len(strange) == 3 and strange[0].number > 1
        pairs = Counter(frozenset((trial.left, trial.right)) for trial in got)
        twice = [pair for pair, times in pairs.items() if times == 2]
        assert len(twice) == len(got) - 23
        for pair in twice:
            first, again = [trial for trial in got if {trial.left, trial.right} == pair]
            assert (first.left, first.right) == (again.right, again.left) and again.number > first.number + 1
        with store.reading() as connection:
            kinds = Counter(row.control for row in connection.execute(tables.trials.select()) if row.rater_id == rater)
        assert kinds == {None: 20, "attention": 3, "repeat": len(twice)}
    counts = blind_tests.progress(store, test)
    assert (counts["votes"], counts["planned"], counts["revealed"]) == (40, 40, "planned")
    assert [rater["votes"] for rater in counts["raters"]] == [20, 20]
    assert len(count(store, test)) == 40 and len(read_votes(store, test).controls) == sum(map(len, seen.values())) - 40
    tally = evaluate(store, test)
    assert tally["votes"]["cast"] == 40 and tally["asked"] == 20 and tally["everyone"] is None
    for row in tally["quality"]:
        same, repeated = row["consistency"]
        assert same == repeated >= 7 and (row["attention"], row["agreement"], row["seconds"]) == ([3, 3], [20, 20], 2.0)
    assert tally["registered"]["kept"]


def test_a_rater_who_does_not_read_is_excluded_by_the_rule_and_both_verdicts_are_told(store, tmp_path):
    settings = {"votes_per_prompt": 3, "attention": 4, "repeats": 0.2, "min_attention": 0.8, "min_consistency": 0.6}
    test, (ana, bo, cy) = opened(store, ("Ana", "Bo", "Cy"), prompts=24, write=words, **settings)
    vote_all(store, {ana: careful, bo: careful, cy: lambda _: "left"})
    tally = evaluate(store, test)
    quality = {row["rater"]: row for row in tally["quality"]}
    assert [row["excluded"] for row in quality.values()].count(True) == 1 and quality["Cy"]["excluded"]
    assert quality["Ana"]["attention"] == [4, 4] and quality["Cy"]["consistency"][0] == 0
    assert quality["Cy"]["votes"] == 20 and tally["votes"]["cast"] == 40 and tally["votes"]["raters"] == 2
    assert tally["verdict"] == "better" and tally["everyone"]["verdict"] == "better"
    note = next(note for note in tally["notes"] if "rule of the plan" in note)
    assert note.startswith("20 votes of 1 rater (Cy) do not count") and tally["everyone"]["text"] in note
    assert [row[-1] for row in quality_rows(tally)].count("excluded") == 1
    assert "excluded" in write_arena_report(store, test).read_text(encoding="utf-8")
    rows = collect(store, test)
    voters = {vote["rater"] for origin in rows.pair_origins for vote in origin["votes"]}
    assert len(rows.pairs) == 20 and voters == {"Ana", "Bo"}, "nothing is learned from excluded raters"
    folder = write_analysis(store, test, tmp_path / "analysis")
    done = recomputed(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "As ftlab says." in done.stdout and "Excluded raters: " in done.stdout and "With all raters: " in done.stdout
    plan = json.loads((folder / "plan.json").read_text())
    assert "80% of their attention items" in plan["rule"]["raters"]
    assert len(plan["controls"]["attention"]) == 4 and len(plan["controls"]["repeated"]) == 4
    # Somebody who lets Cy pass after the fact is noticed.
    file = folder / "controls.csv"
    rows = file.read_text().splitlines()
    file.write_text("\n".join(row for row in rows if not row.startswith("attention")) + "\n")
    raters = folder / "raters.csv"
    raters.write_text(raters.read_text().replace(",1\n", ",0\n"))
    assert recomputed(folder).returncode == 1


def test_an_item_can_be_undone_and_is_never_a_vote(store):
    test, (ana,) = opened(store, ("Ana",), prompts=12, write=words, attention=2, repeats=0.5)
    while (trial := trials.next_trial(store, ana)) is not None:
        before = blind_tests.progress(store, test)["votes"]
        trials.vote(store, ana, trial.id, "left")
        if topic(trial.left) != topic(trial.right):
            assert blind_tests.progress(store, test)["votes"] == before
            again = trials.undo(store, ana)
            assert (again.left, again.right, again.number) == (trial.left, trial.right, trial.number)
            trials.vote(store, ana, again.id, "right")
            break
    assert trial is not None and all(ballot.control is None for ballot in read_votes(store, test).ballots)


def test_quality_is_what_one_counts_by_hand():
    def ballot(rater: str, prompt: str, choice: str, control: str | None = None, seconds: float = 1.0) -> Ballot:
        return Ballot(prompt, rater, "a", "b", choice, 0.0, seconds=seconds, control=control)

    votes = [ballot("Ana", str(n), "left", seconds=n) for n in range(5)]
    votes += [ballot("Bo", str(n), choice) for n, choice in enumerate(["left", "right", "both_good", "skip"])]
    items = [ballot("Ana", str(n), choice, "repeat") for n, choice in enumerate(["left", "right", "left", "skip"])]
    items += [ballot("Bo", "x", choice, "attention") for choice in ("left", "right", "both_bad", "both_good", "skip")]
    rule: dict[str, Any] = {"min_attention": 0.5, "min_consistency": 0.7}
    ana, bo = controls.quality(votes, items, {"x": "a"}, **rule)
    assert (ana["votes"], ana["seconds"], bo["votes"]) == (5, 2.0, 3)
    assert ana["consistency"] == [2, 3] and ana["excluded"] and ana["attention"] == [0, 0]
    # Both bad and a skip say nothing; the genuine answer was chosen once in three.
    assert bo["attention"] == [1, 3] and bo["excluded"]
    assert ana["agreement"] == bo["agreement"] == [1, 3]
    assert not any(row["excluded"] for row in controls.quality(votes, items, {"x": "a"}))
    # Two repeated items are too few to exclude by.
    ana, _ = controls.quality(votes, items[:2], {"x": "a"}, **rule)
    assert ana["consistency"] == [1, 2] and not ana["excluded"]


def test_attention_items_are_plain_or_refused_before_the_test_opens(store):
    labels = answered(store, lambda number, position: "positive" if (number + position) % 2 else "negative", prompts=12,
                      attention=3)  # fmt: skip
    with pytest.raises(InputError, match="too much alike"):
        blind_tests.open_test(store, labels)
    assert blind_tests.get_test(store, labels).state == "ready"
    questions = {str(n): f"Question {n}" for n in range(9)}
    texts = {(str(n), who): words(n if n < 6 else 6, who) for n in range(9) for who in (0, 1)}
    items = controls.set_aside(questions, texts, 9, random.Random(1))
    assert len({item[0] for item in items}) == 9 and all(right != wrong for _, right, _, wrong in items)
    same = {"6", "7", "8"}
    assert all(prompt != other and not {prompt, other} <= same for prompt, _, other, _ in items)
    with pytest.raises(InputError, match="10 wanted, 9 possible"):
        controls.set_aside(questions, texts, 10, random.Random(1))


@pytest.mark.parametrize(("change", "message"), [
    ({"attention": 1}, "attention items is not possible"),
    ({"attention": 6}, "attention items is not possible"),
    ({"repeats": 0.9}, "cannot be repeated"),
    ({"min_attention": 0.5}, "excluded by their attention"),
    ({"min_consistency": 0.5, "attention": 2}, "excluded by their consistency"),
    ({"min_consistency": 2, "repeats": 0.5}, "excluded by their consistency"),
    ({"attention": 2, "min_attention": 0.5, "contestants": 3}, "two contestants only"),
])  # fmt: skip
def test_items_that_a_test_cannot_have_are_refused(store, change, message):
    with pytest.raises(InputError, match=message):
        answered(store, prompts=6, planned=2, **change)


def test_a_test_without_items_hands_out_what_it_always_did(store):
    test, raters = opened(store, ("Ana",), prompts=6)
    links.create_raters(store, test, ["Bo"])
    seen: dict[str, list[trials.Trial]] = {}
    vote_all(store, {raters[0]: lambda _: "left"}, seen)
    assert len(seen[raters[0]]) == 6 and seen[raters[0]][-1].total == 6
    plan = blind_tests.get_test(store, test).plan
    assert plan["attention"] == [] and plan["repeated"] == []
