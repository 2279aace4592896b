"""Rewards by rule, on answers worked out by hand, and what is refused before a run starts."""

from __future__ import annotations

import pytest

from ftlab.config import build_config
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.training.rewards import (
    build_judges,
    check_references,
    check_reinforcement,
    check_rewards,
    exact_match_reward,
    json_reward,
    judged,
    length_reward,
    pin_rewards,
    reward_names,
)


def configured(*rewards, **more):
    return build_config({"stage": "grpo", "reinforcement": {"rewards": list(rewards)}} | more)


def scored(reward, answers, references=None, warn=pytest.fail):
    (judge,) = build_judges(configured(reward), device="cpu", warn=warn)
    return judge.score([[{"role": "user", "content": "?"}]] * len(answers), answers, references or [""] * len(answers))


@pytest.mark.parametrize(
    ("answer", "keys", "reward"),
    [
        ('{"queue": "sales"}', [], 1.0),
        (" [1, 2]\n", [], 1.0),
        ("42", [], 0.0),  # valid JSON, and too easy to say
        ('Here it is: {"queue": "sales"}', [], 0.0),
        ('{"queue": "sales"', [], 0.0),
        ("", [], 0.0),
        ("[" * 5000, [], 0.0),
        ('{"queue": "sales", "hours": 2}', ["queue", "hours"], 1.0),
        ('{"queue": "sales"}', ["queue", "hours"], 0.5),
        ("{}", ["queue", "hours"], 0.0),
        ('["queue", "hours"]', ["queue", "hours"], 0.0),
    ],
)
def test_json_is_rewarded_when_nothing_stands_around_it(answer, keys, reward):
    assert json_reward(answer, keys) == reward


@pytest.mark.parametrize(
    ("words", "shortest", "longest", "reward"),
    [
        (5, 5, 10, 1),
        (10, 5, 10, 1),
        (4, 5, 10, 0.8),
        (20, 5, 10, 0.5),
        (0, 5, None, 0),
        (0, None, 5, 1),
        (99, 3, None, 1),
    ],
)
def test_a_length_out_of_bounds_earns_the_less_the_farther_it_is(words, shortest, longest, reward):
    assert length_reward("word " * words, shortest, longest) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("answer", "reference", "reward"),
    [
        ("9 eggs at $2 are $18.\n#### 18", "She sells 9 * 2 = $<<9*2=18>>18.\n#### 18", 1.0),
        ("So she makes $18.00 a day.", "9 * 2 = 18\n#### 18", 1.0),
        ("The answer is \\boxed{70,000}.", "200,000-130,000=70000\n#### 70000", 1.0),
        ("#### 18\nLet me check: 2 * 8 = 16", "9 * 2 = 18\n#### 18", 1.0),  # the mark names the answer
        ("She has 18 eggs and sells 9", "9 * 2 = 18\n#### 18", 0.0),
        ("I do not know.", "9 * 2 = 18\n#### 18", 0.0),
    ],
)
def test_the_number_that_ends_an_answer_is_rewarded_whatever_the_way_to_it(answer, reference, reward):
    assert scored({"kind": "final_number"}, [answer], [reference]) == [reward]


def test_the_final_number_needs_references_with_numbers():
    config = configured({"kind": "final_number"})

    def examples(*answers):
        return [
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": one}]} for one in answers
        ]

    check_references(config, examples("#### 1", "It is 2."))
    with pytest.raises(InputError, match="reference answers with a number"):
        check_references(config, examples("#### 1", "none at all"))
    with pytest.raises(InputError, match="needs a reference answer"):
        check_references(config, examples("#### 1", ""))


def test_an_exact_match_compares_json_by_value_and_text_by_the_letter():
    assert exact_match_reward('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}') == 1
    assert exact_match_reward(" Paris ", "Paris") == 1
    assert exact_match_reward("paris", "Paris") == 0


def test_a_regular_expression_is_found_anywhere_unless_it_is_tied_to_the_ends():
    answers = ["Hello Anna", "Well, Hello", ""]
    assert scored({"kind": "regex", "pattern": "Hello"}, answers) == [1, 1, 0]
    assert scored({"kind": "regex", "pattern": "^Hello"}, answers) == [1, 0, 0]


def test_a_regular_expression_that_takes_forever_counts_as_not_found_and_is_said():
    said = []
    # Tries every way to cut the letters into groups before it gives up: 2 to the 40th.
    found = scored({"kind": "regex", "pattern": "^(?:(a|aa)+)+$"}, ["a" * 60 + "b", "aa"], warn=said.append)
    assert found == [0, 1]
    assert len(said) == 1 and "takes longer" in said[0]


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"kind": "regex"}, "needs a regular expression"),
        ({"kind": "regex", "pattern": "(a"}, "missing \\)"),
        ({"kind": "regex", "pattern": "a{99999999}"}, "takes too long to compile"),
        ({"kind": "regex", "pattern": "a" * 2000}, "too long"),
        ({"kind": "length"}, "needs a length"),
        ({"kind": "length", "shortest": 9, "longest": 3}, "No answer can be as long"),
        ({"kind": "json", "pattern": "x"}, "does not read pattern"),
        ({"kind": "model"}, "names no reward model"),
        ({"kind": "model", "model": "nowhere"}, "There is no run called 'nowhere'"),
        ({"kind": "json", "weight": 0}, "weight 0"),
    ],
)
def test_a_reward_that_cannot_be_used_is_refused_in_words(reward, words, tmp_path):
    with pytest.raises(InputError, match=words):
        check_rewards(configured(reward), Workspace.open(tmp_path))


def test_without_rewards_there_is_nothing_to_learn(tmp_path):
    with pytest.raises(InputError, match="needs rewards"):
        check_rewards(configured())


def test_a_run_of_another_stage_is_no_reward_model(tmp_path):
    workspace = Workspace.open(tmp_path)
    run = workspace.create_run("sft")
    run.config_file.write_text("stage: sft\n")
    with pytest.raises(InputError, match="not a reward model"):
        check_rewards(configured({"kind": "model", "model": run.id}), workspace)


def test_the_last_reward_run_is_written_down_by_its_id(tmp_path):
    workspace = Workspace.open(tmp_path)
    reward_run, later = workspace.create_run("a-reward"), workspace.create_run("b-sft")
    for run, stage in ((reward_run, "reward"), (later, "sft")):
        run.config_file.write_text(f"stage: {stage}\n")
        run.adapter.mkdir()
        (run.adapter / "adapter_config.json").write_text("{}")
    config = configured({"kind": "model", "model": "last"})
    pin_rewards(config, workspace)
    assert config.reinforcement.rewards[0].model == reward_run.id


def test_two_rewards_of_a_kind_have_names_of_their_own():
    config = configured(
        {"kind": "regex", "pattern": "a"}, {"kind": "regex", "pattern": "b"}, {"kind": "json", "name": "x"}
    )
    assert reward_names(config.reinforcement.rewards) == ["regex", "regex 2", "x"]


def test_rewards_are_added_up_by_their_weights():
    config = configured({"kind": "json"}, {"kind": "regex", "pattern": "!", "weight": -2})
    judges = build_judges(config, device="cpu", warn=pytest.fail)
    scores, rewards = judged(judges, [[], []], ['["!"]', "no"], ["", ""])
    assert scores == {"json": [1, 0], "regex": [1, 0]}
    assert rewards == [1 - 2, 0]


def test_a_batch_that_splits_the_answers_to_a_prompt_is_refused_with_the_nearest_that_fits():
    config = configured({"kind": "json"}, optimisation={"batch_size": 20})
    with pytest.raises(InputError, match=r"multiple of reinforcement.generations \(8\)") as refused:
        check_reinforcement(config)
    assert "batch_size=16" in refused.value.try_
    # Two of 20 make 40: five prompts with eight answers each.
    check_reinforcement(configured({"kind": "json"}, optimisation={"batch_size": 20, "gradient_accumulation": 2}))


def test_a_method_whose_start_cannot_be_kept_beside_it_is_refused():
    with pytest.raises(InputError, match="cannot be trained with this method"):
        check_reinforcement(configured({"kind": "json"}, method={"name": "prompt_tuning"}))
    with pytest.raises(InputError, match="cannot be trained with this initialization"):
        check_reinforcement(configured({"kind": "json"}, method={"initialisation": "pissa"}))
