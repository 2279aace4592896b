"""Preference tuning, done for real: the starter learns a house style, then which of two answers people prefer."""

from __future__ import annotations

import inspect
import json
import math
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from safetensors.torch import load_file, save_file
from trl import DPOTrainer

from ftlab.config import build_config, load_config
from ftlab.config.stages import LOSSES
from ftlab.core.files import read_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode_prompt, stop_token_ids
from ftlab.data.splits import read_split
from ftlab.errors import InputError
from ftlab.evaluation.before_after import compare_answers, evaluate_preferences
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.request import Request
from ftlab.models.load import load_base, load_run
from ftlab.models.reward import load_reward_model, score
from ftlab.samples.house_style import follows_house_style
from ftlab.training import supervisor, worker
from ftlab.training.checkpoints import last_checkpoint
from ftlab.training.preferences import prepare_preferences
from ftlab.training.status import StatusWriter
from tests.conftest import end_runs, last_json, offline_environment, run_cli

pytestmark = pytest.mark.train

PAIRS = {"source": "brand_voice_preferences"}


@pytest.fixture(scope="module")
def dpo(voice, train_here):
    """DPO from the instruction-tuned run, with the comparisons that follow training."""
    return train_here(
        {
            "name": "voice-dpo",
            "stage": "dpo",
            "model": {"start": voice.run.id},
            "data": PAIRS,
            "optimisation": {"epochs": 1, "evaluations_per_epoch": 1},
            "evaluation": {"after_training": True, "max_new_tokens": 60, "probes": "none"},
        }
    ).run


def few_steps(stage, start=None, **settings):
    """Settings of a run of three steps on sixteen pairs."""
    optimisation = {"max_steps": 3, "batch_size": 4, "evaluations_per_epoch": 1, "early_stopping": 0}
    return {
        "stage": stage,
        "model": {"start": start.run.id} if start else {},
        "data": PAIRS | {"max_rows": 16},
        "optimisation": optimisation | settings.pop("optimisation", {}),
    } | settings


def test_dpo_starts_from_the_earlier_run_itself(dpo):
    """Reference and model are the same adapter, so nothing is preferred yet: sigmoid loss ln 2, margin 0."""
    first = dpo.metrics()[0]
    assert first["step"] == 0
    assert first["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["eval_margin"] == pytest.approx(0, abs=1e-6)


def test_dpo_prefers_the_chosen_answers_of_rows_it_never_saw(dpo):
    found = dpo.preferences()
    assert found["split"] == "test" and found["rows"] == 40
    assert found["accuracy"] > 0.8  # measured: 34 of 40 (seed 0)
    assert found["margin"] > 0


def test_the_charts_of_a_preference_run_have_their_figures(dpo):
    last = [row for row in dpo.metrics() if "eval_accuracy" in row][-1]
    names = {"loss", "accuracy", "margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected"}
    assert {f"eval_{name}" for name in names} <= last.keys()
    assert any(names <= row.keys() for row in dpo.metrics())


def test_answers_after_dpo_follow_the_house_style_as_often(voice, dpo):
    """Greedy answers to 100 customers whom neither run has met. The run before was trained on this style: nine in ten
    of its answers follow it already. That the chosen answers win is seen on the pairs."""
    rows = read_split(dpo, "test") + read_split(voice.run, "test")

    def followed(run):
        model, tokenizer = load_run(run)
        prompts = [encode_prompt(row["messages"], tokenizer) for row in rows]
        stops = stop_token_ids(tokenizer, model.generation_config)
        answers = generate_answers(model, tokenizer, prompts, max_new_tokens=80, stop_ids=stops).answers
        asked = [next(turn["content"] for turn in row["messages"] if turn["role"] == "user") for row in rows]
        return sum(not follows_house_style(one.text, prompt=text) for one, text in zip(answers, asked, strict=True))

    before, after = followed(voice.run), followed(dpo)
    assert before > 80 and after > before - 5


def test_the_result_is_one_adapter_that_plain_peft_loads(dpo, tmp_path):
    """In a fresh process that cannot import ftlab; the reference is not saved beside it."""
    run = dpo
    assert not [path for path in run.adapter.rglob("*") if path.is_dir()], "no second adapter"
    assert run.verification()["reload_difference"] < 1e-4
    assert run.verification()["changes_logits"] is True
    shutil.copytree(run.adapter, tmp_path / "adapter")
    rows = run.predictions()[:4]
    (tmp_path / "rows.json").write_text(json.dumps([row["messages"] for row in rows]))
    script = textwrap.dedent("""
        import json
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoTokenizer, GenerationConfig
        model = AutoPeftModelForCausalLM.from_pretrained("adapter")
        tokenizer = AutoTokenizer.from_pretrained("adapter")
        settings = GenerationConfig.from_pretrained("adapter", max_new_tokens=60, do_sample=False)
        for messages in json.load(open("rows.json")):
            inputs = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            output = model.generate(**inputs, generation_config=settings)
            print(json.dumps(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)))
    """)
    environment = {key: value for key, value in offline_environment().items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [row["adapted"] for row in rows]


def test_the_run_says_where_it_came_from(dpo, voice):
    run = dpo
    assert read_json(run.environment_file)["parent_run"] == voice.run.id
    config = load_config(run.config_file)
    assert (config.model.start, config.model.base, config.method.rank) == (voice.run.id, "starter", 16)
    reference = load_file(run.start / "adapter_model.safetensors")
    parent = load_file(voice.run.adapter / "adapter_model.safetensors")
    assert all(reference[name].equal(parent[name]) for name in parent)


def test_the_reward_model_scores_the_chosen_answers_of_unseen_rows_higher(voice_reward):
    assert evaluate_preferences(voice_reward.run)["accuracy"] > 0.8
    rows = read_split(voice_reward.run, "test")
    model, tokenizer = load_reward_model(voice_reward.run.adapter)
    chosen, rejected = (
        score(model, tokenizer, [row["prompt"] + row[side] for row in rows]) for side in ("chosen", "rejected")
    )
    assert sum(a > b for a, b in zip(chosen, rejected, strict=True)) > 0.8 * len(rows)
    one = score(model, tokenizer, [rows[3]["prompt"] + rows[3]["chosen"]])
    assert one[0] == pytest.approx(chosen[3], abs=1e-4), "padding changes nothing"


def test_base_start_and_run_answer_the_same_held_out_prompts(dpo, voice):
    found, rows = dpo.before_after(), dpo.before_after_answers()
    assert list(found["contestants"]) == ["base", "start", "adapted"]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in read_split(dpo, "test")]
    assert [row["adapted"]["answer"] for row in rows] == [row["adapted"] for row in dpo.predictions()]
    tuned, tokenizer = load_run(voice.run)
    for name, model in (("start", tuned), ("base", load_base(voice.config.model, device="cpu"))):
        prompts = [encode_prompt([*row["prompt"], {"role": "assistant", "content": ""}], tokenizer) for row in rows[:5]]
        stops = stop_token_ids(tokenizer, model.generation_config)
        alone = generate_answers(model, tokenizer, prompts, max_new_tokens=60, stop_ids=stops).answers
        assert [one.text for one in alone] == [row[name]["answer"] for row in rows[:5]], name
    assert {row["start"]["answer"] for row in rows} != {row["adapted"]["answer"] for row in rows}
    words = [len(row["start"]["answer"].split()) for row in rows]
    assert found["contestants"]["start"]["words"] == pytest.approx(sum(words) / 40)


def test_an_answer_is_made_once_for_the_same_weights(dpo, tmp_path):
    phases = []

    def note(phase, done, total):
        phases.append(phase)

    copy = RunDirectory(shutil.copytree(dpo.path, tmp_path / "runs" / dpo.id, symlinks=True))
    again = compare_answers(copy, max_rows=4, progress=note)
    assert again["rows"] == 4 and not [phase for phase in phases if phase.startswith("answers of")]
    shutil.copy2(copy.start / "adapter_model.safetensors", copy.adapter / "adapter_model.safetensors")
    copy.checksums_file.unlink()  # as if this were what training has saved
    compare_answers(copy, max_rows=4, progress=note)
    assert not [phase for phase in phases if phase.startswith("answers of")], "these weights have answered as the start"
    assert all(row["adapted"] == row["start"] for row in copy.question("4-rows").before_after_answers())
    file = copy.adapter / "adapter_model.safetensors"
    save_file({name: weights / 2 for name, weights in load_file(file).items()}, file, metadata={"format": "pt"})
    compare_answers(copy, max_rows=4, progress=note)
    assert {phase for phase in phases if phase.startswith("answers of")} == {
        "answers of the adapted model to the held-out prompts"
    }
    assert copy.before_after()["rows"] == dpo.before_after()["rows"] > 4


def test_a_reward_model_prefers_the_tuned_answers_and_is_called_a_proxy(dpo, voice_reward, voice_workspace):
    judge = voice_reward.run
    place = ("--workspace", str(voice_workspace.root), "--json")
    done = run_cli("evaluate", dpo.id, "--reward-model", judge.id, *place, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not people's" in done.stdout and "learned from the same preferences" in done.stdout
    judged = last_json(done.stdout)["before_after"]["win_rates"][judge.id]
    against = judged["against"]
    assert against["base"]["win_rate"] > 0.8 and against["base"]["difference_interval"][0] > 0
    rows = dpo.before_after_answers()
    wins = sum(row["adapted"]["scores"][judge.id] > row["start"]["scores"][judge.id] for row in rows)
    ties = sum(row["adapted"]["answer"] == row["start"]["answer"] for row in rows)
    assert (against["start"]["wins"], against["start"]["ties"]) == (wins, ties)
    writer = StatusWriter(dpo.evaluation_status_file)
    try:
        assert worker.evaluate(dpo, writer, dpo.evaluation_stop_file, Request(reward_model=judge)) == "completed"
    finally:
        writer.close()
    assert dpo.before_after()["win_rates"][judge.id] == judged, "judged once"


def test_a_reward_model_cannot_be_chatted_with_or_started_from(voice_reward, voice_workspace):
    with pytest.raises(InputError, match="reward model"):
        load_run(voice_reward.run)
    with pytest.raises(InputError, match="reward model"):
        supervisor.create(build_config(few_steps("dpo", voice_reward)), voice_workspace)


@pytest.mark.long
def test_kto_learns_from_single_judged_answers(voice, train_here):
    data, settings = PAIRS | {"max_rows": 120}, {"epochs": 1, "evaluations_per_epoch": 1}
    kto = train_here({"stage": "kto", "model": {"start": voice.run.id}, "data": data, "optimisation": settings})
    first, *_, last = [row for row in kto.run.metrics() if "eval_margin" in row]
    assert first["eval_margin"] == pytest.approx(0, abs=1e-6)
    assert last["eval_margin"] > 0 and last["eval_loss"] < first["eval_loss"]
    assert "eval_kl" in last
    assert evaluate_preferences(kto.run)["accuracy"] > 0.75


@pytest.mark.parametrize(("stage", "loss"), [("orpo", None), ("cpo", "simpo"), ("dpo", "ipo")])
def test_other_losses_train_from_the_earlier_run(voice, train_here, stage, loss):
    done = train_here(few_steps(stage, voice, preference={"loss": loss, "watch": "accuracy"}))
    assert done.status.state == "completed"
    last = [row for row in done.run.metrics() if "eval_accuracy" in row][-1]
    assert math.isfinite(last["eval_loss"]) and "eval_margin" in last
    assert done.run.verification()["reload_difference"] < 1e-4


def test_full_training_and_a_reference_that_is_scored_beforehand(train_here):
    done = train_here(few_steps("dpo", method={"name": "full"}, preference={"precompute_reference": True}))
    assert done.run.metrics()[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert done.run.model.exists() and done.run.verification()["changes_logits"]


def test_sft_goes_on_from_an_adapter(voice, train_here):
    settings = few_steps("sft", voice) | {"data": {"source": "brand_voice", "max_rows": 16}}
    done = train_here(settings)
    # A fresh adapter begins far above: the starter does not know this style.
    assert done.run.metrics()[0]["eval_loss"] < 2 < 4
    assert done.run.verification()["changes_logits"]


@pytest.mark.long
def test_a_stopped_dpo_run_goes_on_as_if_nothing_had_happened(voice, voice_workspace, train_here):
    settings = few_steps("dpo", voice, method={}, optimisation={"max_steps": 6, "batch_size": 8})
    settings["optimisation"]["evaluations_per_epoch"] = 2
    whole = train_here(settings)
    run, _ = supervisor.create(build_config(settings | {"evaluation": {"after_training": False}}), voice_workspace)
    shutil.copytree(whole.run.checkpoints, run.checkpoints)
    first = min(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for folder in run.checkpoints.glob("checkpoint-*"):
        if folder != first:
            shutil.rmtree(folder)
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None and 0 < checkpoint.step < 6
    writer = StatusWriter(run.status_file)
    try:
        writer.update(state=worker.train(run, writer))
    finally:
        writer.close()
    resumed, trained = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, whole.run))
    assert all(resumed[name].equal(trained[name]) for name in trained)


def test_the_command_line_trains_and_shows_a_preference_run(voice, voice_workspace):
    """In a process of its own."""
    place = ("--workspace", str(voice_workspace.root))
    settings = {"stage": "orpo", "model.start": voice.run.id, "data.source": PAIRS["source"], "data.max_rows": 20}
    settings |= {"optimisation.max_steps": 2, "optimisation.batch_size": 4, "evaluation.after_training": "false"}
    given = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    done = run_cli("train", *given, *place, timeout=900)
    end_runs(voice_workspace)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = run_cli("runs", "show", "last", *place).stdout
    assert "orpo (experimental in TRL)" in shown and f"started from {voice.run.id}" in shown


def test_every_loss_that_trl_names_is_offered_and_can_be_computed(voice, voice_workspace):
    source = inspect.getsource(DPOTrainer._compute_loss)
    named = re.search(r"Should be one of \[(.*?)\]\"", source.replace("\n", " ")).group(1)
    assert set(LOSSES["dpo"]) == set(re.findall(r"'(\w+)'", named))
    run, config = supervisor.create(build_config(few_steps("dpo", voice)), voice_workspace)
    writer = StatusWriter(run.status_file)
    try:
        trainer = prepare_preferences(run, config, writer).trainer
        writer.update(state="stopped")  # nobody waits for its turn
    finally:
        writer.close()
    rows = trainer.data_collator([trainer.train_dataset[number] for number in range(3)])
    trainer.label_smoothing = 0.1
    for loss in LOSSES["dpo"]:
        trainer.loss_types = [loss]
        assert math.isfinite(float(trainer.compute_loss(trainer.model, dict(rows)))), loss
