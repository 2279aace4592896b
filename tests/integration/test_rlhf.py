"""GRPO and RLOO on the starter, trained for real."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from ftlab.config import build_config
from ftlab.core.files import read_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode_prompt
from ftlab.data.splits import prepare, read_split
from ftlab.errors import InputError
from ftlab.training import supervisor, worker
from ftlab.training.status import StatusWriter

pytestmark = pytest.mark.train

STEPS = 10


def settings(stage, source, *rewards, **sections):
    """Few steps on small batches; only the rewards are compared afterwards, with answers as short as they are."""
    values = {
        "stage": stage,
        "data": {"source": source},
        "reinforcement": {"rewards": list(rewards), "max_new_tokens": 20, "generations": 8},
        "optimisation": {"batch_size": 32, "max_steps": STEPS, "early_stopping": 0, "learning_rate": 3e-3},
        "evaluation": {"after_training": True, "max_rows": 40, "max_new_tokens": 8, "probes": "none"},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return values


@pytest.fixture(scope="module")
def rewarded(train_here):
    """The starter, whose answers to customers are a word or two, is rewarded for answers of 8 to 16 words."""
    length = {"kind": "length", "shortest": 8, "longest": 16}
    return train_here(settings("grpo", "brand_voice", length, optimisation={"evaluations_per_epoch": 20})).run


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
    assert all(0 <= row["cut_share"] <= 1 and row["completion_length"] <= 20 for row in steps)
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
    from ftlab.training.reinforcement import GroupPolicy

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


def test_prompts_without_answers_are_enough_and_long_ones_are_counted(train_here, tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Tell me about item {n}. " + "Please. " * (300 if n % 10 == 0 else 1)} for n in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = {"kind": "regex", "pattern": "^[A-Z]"}, {"kind": "json", "weight": 0}
    few = {"max_steps": 2, "batch_size": 8}
    limits = {"rewards": list(rewards), "generations": 4, "max_new_tokens": 12}
    trained = train_here(settings("rloo", str(file), optimisation=few, reinforcement=limits))
    run, status = trained.run, trained.status
    assert status.state == "completed"
    assert any("were left out" in text for text in status.warnings)
    assert sum(part["too_long"] for part in run.manifest()["tokens"].values()) == 4
    assert set(read_json(run.rewards_file)["rewards"]) == {"regex", "json"}
    assert run.comparison() is None, "there is no reference to compare with"
    assert list(run.before_after()["contestants"]) == ["base", "adapted"]


def test_data_of_prompts_alone_are_refused_by_stages_that_learn_answers(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Number {n}"}) + "\n" for n in range(20)))
    data = build_config(settings("grpo", str(file))).data
    with pytest.raises(InputError):
        prepare(data, stage="sft")
    assert prepare(data, stage="grpo").splits["train"][0]["messages"][-1] == {"role": "assistant", "content": ""}


def test_an_exact_match_without_references_is_refused(voice_workspace, tmp_path):
    file, before = tmp_path / "prompts.jsonl", voice_workspace.runs()
    file.write_text("".join(json.dumps({"prompt": f"Number {n}"}) + "\n" for n in range(20)))
    with pytest.raises(InputError, match="needs a reference answer"):
        supervisor.submit(build_config(settings("grpo", str(file), {"kind": "exact_match"})), voice_workspace)
    assert voice_workspace.runs() == before


@pytest.mark.long
def test_rloo_against_a_reward_model_raises_its_score_on_prompts_that_training_never_saw(
    train_here, voice, voice_reward
):
    reward = {"kind": "model", "model": voice_reward.run.id}
    run = train_here(
        settings(
            "rloo",
            "brand_voice_preferences",
            model={"start": voice.run.id},
            data={"validation_fraction": 0},
            optimisation={"max_steps": 2 * STEPS},
            reinforcement={"rewards": [reward], "max_new_tokens": 56, "temperature": 0.7, "beta": 0.02},
        )
    ).run
    found = read_json(run.rewards_file)
    assert found["settings"]["start"] == voice.run.id
    assert found["adapted"]["reward"] > found["start"]["reward"]
    assert found["interval"][0] > 0, "more than chance"
    first = next(row for row in run.metrics() if "kl" in row)
    assert first["kl"] == pytest.approx(0, abs=1e-6), "its reference is the run that it starts from"


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(rewarded, tmp_path):
    again = RunDirectory(tmp_path / "runs" / rewarded.id)
    shutil.copytree(rewarded.path, again.path)
    shutil.rmtree(again.checkpoints / f"checkpoint-{STEPS}")
    shutil.rmtree(again.adapter)
    writer = StatusWriter(again.status_file)
    try:
        assert worker.train(again, writer) == "completed"
    finally:
        writer.close()
    assert read_json(again.environment_file)["resumed"][0]["step"] < STEPS
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (rewarded, again))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert again.samples() == rewarded.samples()
    assert [row.get("reward") for row in again.metrics()] == [row.get("reward") for row in rewarded.metrics()]


def test_what_learning_from_rewards_takes_is_measured_before_it_starts(voice_workspace):
    from ftlab.training.preflight.measure import run_preflight

    length = {"kind": "length", "shortest": 8, "longest": 16}
    config = build_config(settings("rloo", "brand_voice", length, launcher={"device": "cpu", "threads": 1}))
    found = run_preflight(config, voice_workspace, price_per_hour=3.6)
    assert found.kind == "measured" and found.fits and found.peak_bytes > 1 << 28
    assert found.steps == STEPS and found.seconds_per_step > 0 and found.evaluation_seconds > 0
    assert found.total_seconds > STEPS * found.seconds_per_step
    assert found.cost == pytest.approx(found.total_seconds / 1000)
    assert any("answers of 20 tokens" in note for note in found.notes)


def test_a_reward_that_does_not_exist_is_refused_before_anything_is_measured(voice_workspace):
    from ftlab.training.preflight.measure import run_preflight

    config = build_config(settings("grpo", "brand_voice", {"kind": "model", "model": "no-such-run"}))
    with pytest.raises(InputError, match="no-such-run"):
        run_preflight(config, voice_workspace)
