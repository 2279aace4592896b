"""A judge on all prompts, people on some: what it costs, what is kept, and what the votes make of it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from ftlab.arena import blind_tests, trials
from ftlab.arena.corrected import corrected, read_scores
from ftlab.arena.judging import judge_test, plan_judging, sides_of_test
from ftlab.arena.store import Store, open_store
from ftlab.arena.tally import evaluate
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.judge_plan import build_settings
from ftlab.report.arena import check_lines
from tests.arena import answered, draft, opened
from tests.judge_server import judge_server, says, shown


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path / "workspace"))


def by_number(errs: int):
    """A judge that prefers contestant 1, except on every `errs`-th prompt."""

    def behave(request, number):
        blocks = shown(request["body"])
        prompt = int(re.findall(r"\d+", blocks["prompt"])[0])
        best = "0" if prompt % errs == 0 else "1"
        return says("A" if blocks["answer_a"].endswith(f"by {best}") else "B")

    return behave


def vote(store: Store, rater: str, prefers: float, most: int) -> None:
    draw = random.Random(0)
    for _ in range(most):
        trial = trials.next_trial(store, rater)
        trials.vote(
            store, rater, trial.id, "left" if trial.left.endswith("by 1") == (draw.random() < prefers) else "right"
        )


def test_every_prompt_is_judged_in_both_orders_once_and_votes_on_some_correct_it(store):
    test, raters = opened(store, ("Ana",), prompts=60, planned=30)
    with judge_server(by_number(errs=10)) as server:
        settings = build_settings(server.url, "judge-1", sides=sides_of_test(store, test))
        planned = plan_judging(store, test, settings)
        assert (planned.rows, planned.requests, planned.open) == (60, 120, 120) and not server.requests
        assert judge_test(store, test, settings) == 60
        assert judge_test(store, test, settings) == 60 and len(server.requests) == 120  # nothing is asked twice
    assert plan_judging(store, test, settings).open == 0
    scores, model = read_scores(store.workspace.judged_file(test), *settings.sides)
    assert model == "judge-1" and sum(scores.values()) == 54

    assert "It takes votes on 20 prompts" in evaluate(store, test)["corrected"]["text"]
    vote(store, raters[0], 0.9, 30)
    tally = evaluate(store, test)
    result = tally["corrected"]
    assert result["prompts"] == 30 and result["judged"] == 60
    low, high = result["interval"]
    assert low < 0.9 < high and result["votes_alone"] is not None
    assert "Votes alone" in result["text"] and f"{result['agree']} of 30" in result["text"]
    assert dict(check_lines(tally))["With a judge that votes correct"].startswith(result["text"])


def test_a_judge_that_agrees_narrows_the_interval_and_one_that_guesses_does_no_harm():
    rng = np.random.default_rng(3)
    people = (rng.random(240) < 0.7).astype(float)
    alone = corrected(people[:40], np.zeros(40), np.zeros(0))
    perfect = corrected(people[:40], people[:40], people[40:])
    coin = (rng.random(240) < 0.5).astype(float)
    guessed = corrected(people[:40], coin[:40], coin[40:])
    width = {
        name: one.interval[1] - one.interval[0]
        for name, one in (("alone", alone), ("perfect", perfect), ("coin", guessed))
    }
    assert width["perfect"] < 0.75 * width["alone"] and width["coin"] < 1.1 * width["alone"]
    assert perfect.weight > 0.7 and guessed.weight < 0.3
    # A judge that is wrong in one direction everywhere is put right.
    always = corrected(people[:40], np.ones(40), np.ones(200))
    assert always.win_rate == pytest.approx(alone.win_rate) and always.weight == 0


def test_all_votes_for_one_side_are_no_certainty():
    one = corrected(np.ones(20), np.ones(20), np.ones(200))
    assert one.interval[0] < 0.9 and one.interval[1] == 1


def test_what_a_judge_cannot_take_part_in_is_said(store):
    with pytest.raises(InputError, match="two contestants"):
        sides_of_test(store, draft(store, contestants=3))
    with pytest.raises(InputError, match="two contestants"):
        sides_of_test(store, draft(store, prompts=0, live=True))
    test = draft(store)
    settings = build_settings("http://127.0.0.1:9/v1", "judge-1", sides=sides_of_test(store, test))
    with pytest.raises(FtlabError, match="no answers"):
        plan_judging(store, test, settings)


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(store):
    test = answered(store, prompts=3, write=lambda prompt, contestant: "same" if prompt == 1 else f"by {contestant}")
    with judge_server(lambda request, number: says("A")) as server:
        settings = build_settings(server.url, "judge-1", sides=sides_of_test(store, test))
        assert judge_test(store, test, settings) == 3 and len(server.requests) == 4
    # It says A whichever stands first: a change of mind is half a win.
    assert read_scores(store.workspace.judged_file(test), *settings.sides)[0] == {1: 0.5, 2: 0.5, 3: 0.5}
    assert blind_tests.get_test(store, test).state == "ready"  # raters are shown nothing of it
