"""The main job, done once for real (the `quickstart` fixture), looked at from all sides."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import textwrap

import jsonschema
import pytest

from ftlab.core.comparison import stored_form, whole_form
from ftlab.core.files import read_json
from ftlab.data.rendering import encode_prompt
from ftlab.evaluation.duet import load_duet
from tests.conftest import ROOT, last_json, offline_environment, run_cli
from tests.json_shapes import check_shape

pytestmark = pytest.mark.train


def test_the_adapted_model_beats_its_base_on_rows_it_never_saw(quickstart):
    base, adapted = quickstart.result["base"], quickstart.result["adapted"]
    assert base["rows"] == adapted["rows"] == 100
    assert base["exact_match"] < 0.05
    # The aim is 80%, and the README says what was reached; rounding on another machine moves it by some points.
    assert adapted["exact_match"] > 0.65
    assert adapted["perplexity"] < base["perplexity"]
    assert adapted["bleu"] > base["bleu"]


def test_kinds_that_are_replayed_are_held_and_it_is_said_that_others_are_not(quickstart):
    base, adapted = quickstart.result["base"], quickstart.result["adapted"]
    assert min(base["general_accuracy"], base["general_accuracy_replayed"]) > 0.9
    assert adapted["general_accuracy_replayed"] > base["general_accuracy_replayed"] - 0.075
    # Measured: 68%; rounding on another machine moves it by some points.
    assert adapted["general_accuracy"] < base["general_accuracy"] - 0.1
    assert (
        "what the base knew: lost, general questions (kinds not replayed)"
        in quickstart.run.comparison()["verdict"]["text"]
    )


def test_the_last_line_is_one_object_and_the_progress_is_elsewhere(quickstart):
    assert set(quickstart.result) == {"run", "directory", "seconds", "base", "adapted"}
    general = {"general_accuracy", "general_accuracy_replayed"}
    assert set(quickstart.result["base"]) == {"perplexity", "bleu", "exact_match", "rows"} | general
    assert "tokens/s" in quickstart.progress
    assert "Next steps" in quickstart.progress
    assert "nrefs:1|case:mixed" in quickstart.output


def test_nothing_tried_the_network(quickstart):
    assert quickstart.network_attempts == []


def test_the_run_directory_holds_the_contract(quickstart):
    run = quickstart.run
    for file in (run.config_file, run.status_file, run.metrics_file, run.log_file, run.manifest_file):
        assert file.exists(), file
    for file in (run.split_file("train"), run.environment_file, run.report_file, run.comparison_file):
        assert file.exists(), file
    manifest = run.manifest()
    assert manifest["splits"]["test"] == 100
    assert all(len(source["sha256"]) == 64 for source in manifest["sources"])
    assert manifest["tokens"]["train"]["trained_tokens"] < manifest["tokens"]["train"]["tokens"]
    assert not list(run.path.rglob("*.pkl"))
    assert not (run.adapter / "training_args.bin").exists()
    rows = run.metrics()
    assert rows[0]["step"] == 0 and "eval_loss" in rows[0]
    assert all(math.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_the_comparison_keeps_its_schema_and_its_file_holds_each_figure_once(quickstart):
    file = quickstart.run.comparison_file
    stored, comparison = json.loads(file.read_text(encoding="utf-8")), quickstart.run.comparison()
    schema = json.loads((ROOT / "ftlab" / "docs" / "comparison.schema.json").read_text(encoding="utf-8"))
    for found in (stored, comparison):
        jsonschema.validate(found, schema)
    assert stored_form(comparison) == stored and whole_form(stored) == comparison
    assert "verdict" not in stored and "tests" not in stored
    assert comparison["verdict"] == stored["verdicts"]["adapted"]
    named = {measure["name"]: measure for measure in stored["measures"]}
    for side in ("base", "adapted"):
        assert named.keys().isdisjoint(stored[side])
        assert comparison[side]["perplexity"] == named["perplexity"]["values"][side]


def test_the_base_was_asked_before_the_first_training_step_and_not_again(quickstart):
    run = quickstart.run
    every = [read_json(file) for file in (run.evaluation / "results").glob("*.json")]
    kept = [one for one in every if "question" in one]  # the others tell where answers under another limit are
    of_base = [one for one in kept if one["side"]["name"] == "base"]
    assert {one["question"] for one in of_base} == {
        "losses",
        "answers",
        "own",
        "own_task",
        "probes",
        "general_text",
        "general_chat",
    }
    first_step = min(event["time"] for event in run.metrics())
    assert max(one["created"] for one in of_base) < first_step
    assert {one["question"] for one in kept if one["created"] > first_step} >= {"losses", "answers", "memorisation"}
    assert "before training: answers of the base" in quickstart.progress


def test_the_adapter_is_verified_to_change_the_base(quickstart):
    finding = quickstart.run.verification()
    assert finding["changes_logits"] is True
    assert finding["largest_change"] > 0.1
    assert finding["reload_difference"] < 1e-4


def test_the_adapter_answers_the_same_with_plain_peft(quickstart, tmp_path):
    """In a fresh process that cannot import ftlab, however it is installed, from a copy of the folder."""
    rows = quickstart.run.predictions()[:10]
    shutil.copytree(quickstart.run.adapter, tmp_path / "adapter")
    (tmp_path / "rows.json").write_text(json.dumps([row["messages"] for row in rows]))
    script = textwrap.dedent("""
        import json, sys
        sys.modules["ftlab"] = None  # import ftlab, and anything below it, raises
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoTokenizer, GenerationConfig
        model = AutoPeftModelForCausalLM.from_pretrained("adapter")
        tokenizer = AutoTokenizer.from_pretrained("adapter")
        settings = GenerationConfig.from_pretrained("adapter", max_new_tokens=128, do_sample=False)
        for messages in json.load(open("rows.json")):
            inputs = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            output = model.generate(**inputs, generation_config=settings)
            answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
            print(json.dumps(answer))
    """)
    environment = {key: value for key, value in offline_environment().items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == [row["adapted"] for row in rows]


def test_the_chat_answers_as_the_evaluation_did(quickstart):
    duet = load_duet(quickstart.run)
    assert duet.base_model is duet.model, "base and adapter share one copy of the weights"
    for row in quickstart.run.predictions()[:5]:
        *_, last = duet.stream(row["prompt"])
        assert last.done
        assert (last.base, last.adapted) == (row["base"], row["adapted"])


def test_the_chat_streams_both_sides_and_stops_by_itself(quickstart):
    prompt = next(row["prompt"] for row in quickstart.run.predictions() if row["adapted_correct"])
    seen = list(load_duet(quickstart.run).stream(prompt))
    assert len(seen) > 3
    assert [one.done for one in seen] == [False] * (len(seen) - 1) + [True]
    assert "adapted" not in seen[-1].cut
    assert json.loads(seen[-1].adapted).keys() == {"queue", "priority", "hours"}


def test_sampling_repeats_with_a_seed_and_differs_without(quickstart):
    duet = load_duet(quickstart.run)

    def say(seed):
        *_, last = duet.stream("Tell me a story.", temperature=1.5, seed=seed, max_new_tokens=40)
        return last.base

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(4)}) > 1


def test_a_conversation_too_long_for_the_model_drops_its_oldest_turns(quickstart):
    duet = load_duet(quickstart.run)
    turns = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "word " * 60}] * 6
    *_, last = duet.stream("Hello", {"base": turns, "adapted": turns}, max_new_tokens=8)
    assert any("oldest turns" in note for note in last.notes)


def test_both_sides_see_the_same_prompt_as_in_training(quickstart):
    duet = load_duet(quickstart.run)
    messages = quickstart.run.predictions()[0]["messages"]
    prompt, dropped = duet._prompt(messages, duet.asked, None, 64)
    assert dropped == 0
    assert prompt == encode_prompt([*messages, {"role": "assistant", "content": "x"}], duet.tokenizer)


def test_the_adapter_loads_without_ftlab_and_answers_as_it_was_evaluated(quickstart, tmp_path):
    place = ("--workspace", str(quickstart.workspace.root))
    done = run_cli("export", "last", "--to", str(tmp_path / "tickets"), "--json", *place)
    assert done.returncode == 0, done.stderr
    made = last_json(done.stdout)
    assert made["verification"]["same_as_evaluated"] == made["verification"]["prompts"] == 20
    assert made["verification"]["without_ftlab"]
    assert {"adapter_model.safetensors", "base/model.safetensors", "tokenizer.json", "README.md"} <= set(made["files"])
    assert not any("checkpoint" in name or name.endswith((".bin", ".pt", ".pkl")) for name in made["files"])
    # The lines of its README, as somebody elsewhere runs them, give the first recorded answer.
    code = (tmp_path / "tickets" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    row = quickstart.run.predictions()[0]
    code = code.replace('"Your question"', repr(row["prompt"]))
    fresh = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.modules['ftlab'] = None\nimport os; os.chdir({made['folder']!r})\n{code}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert fresh.stdout.strip() == row["adapted"], fresh.stderr[-2000:]


def test_the_command_line_evaluates_lists_shows_and_chats(quickstart):
    place = ("--workspace", str(quickstart.workspace.root))
    evaluated = run_cli("evaluate", quickstart.run.id, "--rows", "10", "--json", *place)
    assert evaluated.returncode == 0, evaluated.stderr
    assert last_json(evaluated.stdout)["adapted"]["rows"] == 10
    listed = run_cli("runs", "list", "--json", *place)
    assert last_json(listed.stdout)["runs"][0]["state"] == "completed"
    shown = run_cli("runs", "show", "last", *place)
    assert "completed" in shown.stdout and "Exact match" in shown.stdout
    assert last_json(run_cli("runs", "show", "last", "--json", *place).stdout)["comparison"]
    check_shape("quickstart", last_json(quickstart.output))
    message = quickstart.run.predictions()[0]["prompt"]
    said = run_cli("chat", "last", "--message", message, "--json", *place)
    assert last_json(said.stdout)["adapted"] == quickstart.run.predictions()[0]["adapted"]
