"""GRPO and RLOO on the starter, trained for real in a process of their own."""

from __future__ import annotations

import json
import math

import pytest

from ftlab.config import build_config
from ftlab.data.rendering import encode_prompt
from ftlab.data.splits import prepare, read_split
from ftlab.errors import InputError
from ftlab.training import supervisor
from ftlab.workspace import Workspace, read_json
from tests.conftest import end_runs

pytestmark = pytest.mark.train

STEPS = 12


def configured(stage, source, *rewards, **sections):
    values = {
        "stage": stage,
        "data": {"source": source},
        "reinforcement": {"rewards": list(rewards), "max_new_tokens": 24, "generations": 8},
        "optimisation": {"batch_size": 48, "max_steps": STEPS, "early_stopping": 0, "evaluations_per_epoch": 8},
        "evaluation": {"max_rows": 40},
    }
    for name, section in sections.items():
        values.setdefault(name, {}).update(section)
    return build_config(values)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    place = Workspace.open(tmp_path_factory.mktemp("rlhf"))
    yield place
    end_runs(place)


@pytest.fixture(scope="module")
def rewarded(workspace):
    """The starter, whose answers to shop letters are a word or two, is rewarded for answers of 8 to 16 words."""
    config = configured("grpo", "brand_voice", {"kind": "length", "shortest": 8, "longest": 16})
    run = supervisor.submit(config, workspace)
    status = supervisor.wait(run)
    assert status.state == "completed", (status.error, run.log_tail())
    return run


def test_what_is_rewarded_becomes_likelier_on_prompts_that_training_never_saw(rewarded):
    found = read_json(rewarded.rewards_file)
    assert found["split"] == "test" and found["rows"] == 40
    assert found["adapted"]["reward"] > found["start"]["reward"] + 0.1
    assert found["interval"][0] > 0, "more than chance"
    answers = rewarded.reward_answers()
    lengths = [len(row["adapted"]["answer"].split()) for row in answers]
    # Worked out anew from the answers: a reward is what the rule says.
    expected = [min(1, length / 8, 16 / max(1, length)) for length in lengths]
    assert [row["adapted"]["reward"] for row in answers] == pytest.approx(expected)
    assert sum(expected) / 40 == pytest.approx(found["adapted"]["reward"])


def test_the_run_tells_of_rewards_lengths_and_distance_and_shows_what_was_tried(rewarded):
    rows = rewarded.metrics()
    steps = [row for row in rows if "loss" in row]
    names = {"reward", "reward_std", "kl", "entropy", "completion_length", "cut_share", "rewards/length"}
    assert all(names <= row.keys() and all(math.isfinite(row[name]) for name in names) for row in steps)
    assert rows[0]["step"] == 0 and rows[0]["eval_kl"] == 0, "it starts where its reference stands"
    assert all(0 <= row["cut_share"] <= 1 and row["completion_length"] <= 24 for row in steps)
    samples = rewarded.samples()
    assert {row["step"] for row in samples} == {row["step"] for row in steps}
    assert all(row["rewards"].keys() == {"length"} and row["prompt"][-1]["role"] == "user" for row in samples)


def test_the_result_loads_with_plain_peft_and_holds_one_adapter(rewarded):
    from peft import AutoPeftModelForCausalLM

    assert rewarded.verification()["changes_logits"] and rewarded.verification()["reload_difference"] < 1e-4
    assert not [path for path in rewarded.path.rglob("ref") if path.is_dir()]
    model = AutoPeftModelForCausalLM.from_pretrained(str(rewarded.adapter))
    assert list(model.peft_config) == ["default"]


def test_prompts_are_asked_while_training_as_the_chat_asks_them(rewarded):
    from ftlab.config import load_config
    from ftlab.models.load import load_tokenizer
    from ftlab.training.policy import GroupPolicy

    config = load_config(rewarded.config_file)
    tokenizer = load_tokenizer(config.model.base)
    rows = [row["messages"] for row in read_split(rewarded, "train")[:3]]
    rows.append(
        [{"role": "user", "content": f"Say {tokenizer.eos_token} twice"}, {"role": "assistant", "content": "x"}]
    )
    policy = GroupPolicy.__new__(GroupPolicy)
    policy.processing_class = tokenizer
    asked, _, _ = policy._tokenize_prompts([row[:-1] for row in rows])
    assert asked == [encode_prompt(row, tokenizer) for row in rows]


def test_prompts_without_answers_are_enough_and_long_ones_are_counted(workspace, tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Tell me about item {n}. " + "Please. " * (300 if n % 10 == 0 else 1)} for n in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configured("rloo", str(file), {"kind": "regex", "pattern": "^[A-Z]"}, {"kind": "json", "weight": 0})
    config.optimisation.max_steps, config.optimisation.batch_size, config.reinforcement.generations = 2, 8, 4
    run = supervisor.submit(config, workspace)
    status = supervisor.wait(run)
    assert status.state == "completed", (status.error, run.log_tail())
    assert any("leave no room" in text or "left out" in text for text in status.warnings)
    assert sum(part["too_long"] for part in run.manifest()["tokens"].values()) == 4
    assert set(read_json(run.rewards_file)["rewards"]) == {"regex", "json"}
    assert run.comparison() is None, "there is no reference to compare with"


def test_data_of_prompts_alone_are_refused_by_stages_that_learn_answers(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Number {n}"}) + "\n" for n in range(20)))
    data = configured("grpo", str(file)).data
    with pytest.raises(InputError):
        prepare(data, stage="sft")
    assert prepare(data, stage="grpo").splits["train"][0]["messages"][-1] == {"role": "assistant", "content": ""}


def test_an_exact_match_without_references_is_refused(workspace, tmp_path):
    file, before = tmp_path / "prompts.jsonl", workspace.runs()
    file.write_text("".join(json.dumps({"prompt": f"Number {n}"}) + "\n" for n in range(20)))
    with pytest.raises(InputError, match="needs a reference answer"):
        supervisor.submit(configured("grpo", str(file), {"kind": "exact_match"}), workspace)
    assert workspace.runs() == before
