"""A blind test and its repetitions, judged together."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from scipy.integrate import quad
from sqlalchemy import update

from ftlab.arena import trials
from ftlab.arena.asking import PromptSpec
from ftlab.arena.blind_tests import get_test, open_early
from ftlab.arena.evidence import log_evidence
from ftlab.arena.links import void
from ftlab.arena.pooling import asked_in, pool, repeat, repetitions, same_plan
from ftlab.arena.store import Store, open_store, prompts
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui.tabs.blind_test import repeat as blind_repeat
from ftlab.ui.tabs.blind_test.picture import picture
from tests.arena import opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path / "workspace"))


def held(store: Store, first_prompt: int, wins: int, losses: int, name: str = "Ana", **settings: object) -> str:
    """A closed test on prompts of its own: so many wins and losses of the second contestant."""
    test, (rater,) = opened(store, (name,), prompts=wins + losses, **settings)
    with store.writing() as connection:
        for prompt in connection.execute(prompts.select().where(prompts.c.test_id == test)).all():
            changed = {"fingerprint": f"{first_prompt + prompt.number}"}
            connection.execute(update(prompts).where(prompts.c.id == prompt.id).values(**changed))
    left = wins
    while (trial := trials.next_trial(store, rater)) is not None:
        best = "1" if left > 0 else "0"
        left -= 1
        trials.vote(store, rater, trial.id, "left" if trial.left.endswith(best) else "right")
    return test


def test_the_evidence_of_two_tests_is_multiplied_and_each_side_stands_for_itself(store):
    one, two = held(store, 0, 9, 3), held(store, 100, 8, 2, "Bo")

    def mean(wins: int, losses: int) -> float:  # over the rates above one half, by quadrature
        return 2 * quad(lambda rate: (2 * rate) ** wins * (2 - 2 * rate) ** losses, 0.5, 1)[0]

    result = pool(store, [one, two])
    assert result["evidence"]["above"] == pytest.approx(mean(9, 3) * mean(8, 2), rel=1e-6)
    assert result["evidence"]["below"] == pytest.approx(mean(3, 9) * mean(2, 8), rel=1e-6)
    assert result["threshold"] == 40 and result["verdict"] == "not_enough" and "cannot tell" in result["text"]
    third = pool(store, [one, two, held(store, 400, 14, 2, "Cy")])
    assert third["verdict"] == "better" and third["evidence"]["above"] > 40
    assert third["text"].startswith("Contestant 1 is better than Contestant 0 over 3 tests for the raters who voted")
    assert (result["win_rate"], result["raters"]) == (pytest.approx(17 / 22), 2)
    assert (result["prompts"]["wins"], result["prompts"]["losses"]) == (17, 5)
    assert "raters in general" not in result["text"]  # there are two
    assert "17 of the 22 prompts" in result["text"] and "No sign that the tests differ" in result["notes"][0]
    # Tests that lean opposite ways do not confirm each other (both products are 48), and the difference is said.
    other = held(store, 200, 0, 12)
    against = pool(store, [held(store, 300, 12, 0), other])
    assert against["verdict"] == "not_enough" and "differ more than by chance" in against["notes"][0]
    assert one in against["notes"][1] and "Not pooled" in against["notes"][1]


def test_only_tests_of_one_plan_on_different_prompts_that_may_be_seen_are_pooled(store):
    one = held(store, 0, 6, 2)
    with pytest.raises(InputError, match="two or more different"):
        pool(store, [one, one])
    with pytest.raises(InputError, match="share prompts") as error:
        pool(store, [one, held(store, 4, 6, 2)])
    assert "4 prompts" in str(error.value)
    with pytest.raises(InputError, match="differ in the margin"):
        pool(store, [one, held(store, 100, 6, 2, margin=10)])
    hidden, _ = opened(store, ("Ana",), prompts=3)
    with pytest.raises(InputError, match="still hidden"):
        pool(store, [one, hidden])
    three, _ = opened(store, ("Ana",), prompts=1, contestants=3)
    with pytest.raises(InputError, match="two contestants"):
        pool(store, [one, three])


def test_a_margin_is_pooled_as_a_margin(store):
    result = pool(store, [held(store, 0, 12, 8, margin=20), held(store, 100, 11, 9, "Bo", margin=20)])
    assert result["threshold"] == 20 and result["margin"] == 20
    assert result["verdict"] == "no_worse" and "no worse than Contestant 0 by more than 20 points" in result["text"]


@pytest.mark.parametrize(("margin", "rate"), [(0.0, 0.5), (0.1, 0.4)])
def test_repeating_until_one_likes_the_product_is_wrong_in_at_most_one_of_twenty(margin, rate):
    """After each of up to four tests, whoever looks decides whether to repeat it."""
    draw, wrong = random.Random(5), 0
    for _ in range(400):
        above = below = 0.0
        for _ in range(4):
            wins = [draw.random() < rate for _ in range(30)]
            running = [sum(wins[: n + 1]) for n in range(30)]
            above += log_evidence(running, 0.5 - margin, "above")[-1]
            below += log_evidence(running, 0.5 - margin, "below")[-1]
            if (above if margin else max(above, below)) >= math.log(20 if margin else 40):
                wrong += 1
                break
    assert wrong <= 0.05 * 400


def test_a_repetition_keeps_the_plan_and_asks_nothing_twice_and_is_pooled_by_itself(store):
    first = held(store, 0, 9, 3)
    assert repetitions(store, first) == [first]
    every = [PromptSpec([{"role": "user", "content": f"Fresh {number}?"}]) for number in range(12)]
    second, left_out = repeat(store, first, every, 8)
    again = get_test(store, second)
    assert left_out == 0 and again.title == "A test, repetition 1" and again.state == "draft"
    assert not same_plan(store, get_test(store, first), again) and len(asked_in(store, second)) == 8
    third, _ = repeat(store, second, every)
    assert not asked_in(store, third) & asked_in(store, second) and len(asked_in(store, third)) == 4
    assert get_test(store, third).title == "A test, repetition 2"
    with pytest.raises(InputError, match="All of these prompts were asked before"):
        repeat(store, first, every)
    assert repetitions(store, first) == [first]  # what is still to be voted on is not pooled
    other = held(store, 100, 8, 2, "Bo")
    assert repetitions(store, other) == [first, other]
    assert repetitions(store, held(store, 100, 5, 1, "Cy")) != [first, other]  # it shares prompts with the second


def test_what_was_voided_or_opened_early_is_said_of_the_pooled_verdict_at_once(store):
    first, (ana, bo) = opened(store, ("Ana", "Bo"), prompts=4, planned=4)
    for rater in (ana, bo):
        trials.vote(store, rater, trials.next_trial(store, rater).id, "left")
    second = held(store, 100, 8, 2, "Cy")
    assert "data-pooled" not in picture(second, store.workspace)["verdict"]
    open_early(store, first)
    early = f"A test ({first}): The tally was opened early, after 2 of 4 planned votes."
    assert early in picture(second, store.workspace)["verdict"]
    void(store, bo)
    voided = f"A test ({first}): 1 vote of 1 rater were voided by the owner"
    assert voided in picture(second, store.workspace)["verdict"]
    notes = pool(store, [first, second])["notes"]
    assert early in notes and any(note.startswith(voided) for note in notes)


def test_the_tab_shows_a_test_with_its_repetitions_and_offers_to_repeat_it(store):
    first = held(store, 0, 9, 3)
    assert "data-pooled" not in picture(first, store.workspace)["verdict"]
    held(store, 100, 8, 2, "Bo")
    drawn = picture(first, store.workspace)["verdict"]
    assert 'data-pooled="not_enough"' in drawn and "With its repetitions" in drawn
    tab = blind_repeat.create
    with pytest.raises(InputError, match="No prompts are chosen"):
        tab(store, first, "", None)
    file = store.workspace.root / "more.txt"
    file.write_text("\n".join(f"Another question {n}?" for n in range(5)), encoding="utf-8")
    made = tab(store, first, str(file), "3")
    assert len(asked_in(store, made)) == 3 and get_test(store, made).open_link_key
