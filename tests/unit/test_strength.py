"""A strength chosen after training is the base at 0, the trained model at 1 and a straight line between, everywhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from ftlab.api import Run
from ftlab.arena.asking import load_writer, run_contestant, split_strength, weights_of
from ftlab.cli.arena_inputs import read_contestants
from ftlab.cli.main import main
from ftlab.config import build_config, load_config
from ftlab.core.files import DamagedFile, read_json
from ftlab.core.jobs import write_status
from ftlab.core.processes import mark_of, take
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.duet import load_duet
from ftlab.evaluation.loaded import release
from ftlab.evaluation.request import Request
from ftlab.evaluation.sides import adapted_side, config_of, identity
from ftlab.evaluation.strengths import measure_strengths, propose, strengths_of
from ftlab.export.export import export_run, plan, write_files
from ftlab.models.load import load_run
from ftlab.models.strength import GRID, check_strength, choose_strength, chosen_strength, set_strength, why_not
from ftlab.report.report import contents
from ftlab.training import supervisor
from ftlab.training.gate import Start, remarks_on
from ftlab.training.status import RunStatus, StatusWriter
from ftlab.training.worker import evaluate
from ftlab.ui import run_files
from tests.json_shapes import check_shape
from tests.small_runs import make_base, make_run, save_result

IDS = torch.arange(20, 40)[None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `runs` of a workspace with a tiny base beside it, and a LoRA and a fully tuned run of that."""
    folder = tmp_path_factory.mktemp("strength") / "workspace"
    make_base(folder / "base")
    probes = folder / "probes.jsonl"
    probes.write_text('{"prompt": "What is water?", "completion": "Wet."}\n' * 3)
    (folder / "runs").mkdir()
    for method in ("lora", "full"):
        run = make_run(folder / "runs", folder / "base", probes, method)
        save_result(run, folder / "base", method)
    return folder / "runs"


def _adapter(base: Path, kind: str) -> Any:
    """The base with a random adapter of `kind` that changes its answers."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    if kind == "ia3":
        settings: Any = IA3Config(
            task_type="CAUSAL_LM",
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            init_ia3_weights=False,
        )
    else:
        settings = LoraConfig(
            r=4,
            lora_alpha=6,
            target_modules="all-linear",
            init_lora_weights=False,
            use_dora=kind == "dora",
            use_rslora=kind == "rslora",
            task_type="CAUSAL_LM",
        )
    torch.manual_seed(3)
    adapted = get_peft_model(model, settings).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    return adapted


def _logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def _between(base: Path, trained: Any, strength: float) -> Any:
    """The base with every weight moved by hand towards `trained`, a plain model."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    with torch.no_grad():
        for (name, mine), (other, goal) in zip(model.named_parameters(), trained.named_parameters(), strict=True):
            assert name == other
            mine += strength * (goal - mine)
    return model


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "ia3"])
def test_a_strength_is_a_point_on_the_line_from_the_base_to_the_trained_weights(runs: Path, kind: str) -> None:
    base = runs.parent / "base"
    adapted = _adapter(base, kind)
    trained = _logits(adapted)
    merged = _adapter(base, kind).merge_and_unload()
    for strength in (0.25, 0.75, 1.25):
        expected = _logits(_between(base, merged, strength))
        assert (_logits(set_strength(adapted, strength)) - expected).abs().max() < 1e-4
    base_alone = _logits(AutoModelForCausalLM.from_pretrained(base).eval())
    assert (trained - base_alone).abs().max() > 0.1
    assert (_logits(set_strength(adapted, 0.0)) - base_alone).abs().max() < 1e-5
    assert torch.equal(_logits(set_strength(adapted, 1.0)), trained)


def test_whole_weights_are_interpolated_with_those_of_the_base(runs: Path) -> None:
    run, base = RunDirectory(runs / "run-full"), runs.parent / "base"
    trained, _ = load_run(run)
    for strength in (0.0, 0.5, 1.0):
        model, _ = load_run(run, strength=strength)
        assert (_logits(model) - _logits(_between(base, trained, strength))).abs().max() < 1e-4
    assert torch.equal(_logits(load_run(run)[0]), _logits(trained))


def test_an_adapter_on_a_quantised_base_is_scaled_as_on_a_whole_one(runs: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, runs.parent / "base", runs.parent / "probes.jsonl", "qlora")
    save_result(run, runs.parent / "base")
    by_hand, _ = load_run(run)
    trained = _logits(by_hand)
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            if "lora_B" in name:
                parameter *= 0.5
    half = _logits(load_run(run, strength=0.5)[0])
    assert torch.allclose(half, _logits(by_hand), atol=1e-4)
    assert (half - trained).abs().max() > 0.1


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("prefix_tuning", "keys and values"),
        ("prompt_tuning", "tokens that precede"),
        ("bottleneck", "nonlinear layers"),
    ],
)
def test_a_method_without_a_line_to_the_base_says_why_it_has_no_strength(method: str, reason: str) -> None:
    config = build_config({"method": {"name": method}})
    assert reason in (why_not(config) or "")
    assert check_strength(config, 1) == 1
    with pytest.raises(InputError, match=reason):
        check_strength(config, 0.5)


@pytest.mark.parametrize("strength", [-0.1, 1.3, float("nan"), "much"])
def test_a_strength_out_of_range_is_refused_with_the_range(strength: Any) -> None:
    with pytest.raises(InputError, match=r"0 \(the base\) to 1.25"):
        check_strength(build_config({}), strength)


@pytest.mark.parametrize("name", ["run-lora", "run-full"])
def test_answers_of_another_strength_are_those_of_another_model(runs: Path, name: str) -> None:
    run = RunDirectory(runs / name)
    config = config_of(run)
    trained, half, more = (
        identity(adapted_side(run, config, first=True, **at)) for at in ({}, {"strength": 0.5}, {"strength": 0.75})
    )
    assert len({json.dumps(one) for one in (trained, half, more)}) == 3
    assert ["strength", 1.0] not in trained  # what was kept before there were strengths stays known
    assert half[: len(trained)] == trained and half[-1] == ["strength", 0.5]


def test_an_evaluation_at_a_strength_lies_beside_the_runs_own_and_says_so(runs: Path) -> None:
    run = RunDirectory(runs / "run-lora")
    own = evaluate_run(run)
    half = evaluate_run(run, Request(strength=0.5))
    assert run.comparison() == own
    assert half["question"]["name"] == "strength-0.5" and "at strength 0.5" in half["question"]["text"]
    assert half["sides"][1]["title"] == "Adapted, strength 0.5"
    assert half["base"] == own["base"]
    assert half["adapted"]["perplexity"] != own["adapted"]["perplexity"]
    assert run.with_side("adapted").path == run.path
    zero = evaluate_run(run, Request(strength=0))
    assert zero["adapted"]["perplexity"] == pytest.approx(own["base"]["perplexity"], rel=1e-5)


SHARE = {"kind": "share", "unit": "%", "better": "higher"}
LOSS = {"kind": "loss", "unit": "", "better": "lower"}
POINTS = {"kind": "score", "unit": "points", "better": "higher"}


@pytest.mark.parametrize(
    ("measure", "values", "proposed"),
    [
        (SHARE, {0.25: 0.67, 0.5: 0.93, 0.75: 0.95, 1.0: 0.95}, 0.75),
        (SHARE, {0.25: 0.67, 0.5: 0.94, 0.75: 0.95, 1.0: 0.95}, 0.5),  # a point less is allowed
        (SHARE, {0.25: 0.0, 0.5: 0.05, 0.75: 0.83, 1.0: 0.95}, 1.0),
        (SHARE, {0.25: 0.9, 0.5: 0.97, 0.75: 0.96, 1.0: 0.95}, 0.5),  # better than as trained fits, too
        (LOSS, {0.25: 1.30, 0.5: 1.22, 0.75: 1.21, 1.0: 1.20}, 0.75),  # a loss may be a hundredth higher
        (POINTS, {0.25: 20.0, 0.5: 38.9, 0.75: 39.1, 1.0: 40.0}, 0.75),
        (SHARE, {0.25: None, 1.0: 0.95}, 1.0),
        (SHARE, {0.25: 0.3, 1.0: None}, 1.0),
    ],
)
def test_the_smallest_strength_within_a_point_is_proposed(
    measure: dict[str, Any], values: dict[float, float | None], proposed: float
) -> None:
    assert propose(values, measure) == proposed


def test_strengths_are_chosen_on_validation_rows_and_told_on_test_rows(runs: Path) -> None:
    run = RunDirectory(runs / "run-lora")
    found = measure_strengths(run)
    assert [one["strength"] for one in found["strengths"]] == [0.0, *GRID]
    assert found["split"] == "validation" and found["test"]["split"] == "test"
    assert {one["strength"] for one in found["test"]["strengths"]} == {0.0, found["proposed"], 1.0}
    assert [one["name"] for one in found["kept"]] == ["general_accuracy"]
    assert all(one["difference"] for one in found["strengths"] if one["strength"] != 1)
    assert strengths_of(run) is not None
    asked = len(list((run.evaluation / "results").iterdir()))
    assert measure_strengths(run)["strengths"] == found["strengths"]
    assert len(list((run.evaluation / "results").iterdir())) == asked  # nothing is asked twice


def _exported(folder: Path, merged: bool) -> Any:
    if merged:
        return AutoModelForCausalLM.from_pretrained(folder).eval()
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), str(folder)).eval()


@pytest.mark.parametrize(
    ("kind", "merged"),
    [("lora", False), ("rslora", True), ("dora", False), ("dora", True), ("ia3", False), ("full", True)],
)
def test_an_export_at_a_strength_has_the_logits_of_the_run_at_it(
    runs: Path, tmp_path: Path, kind: str, merged: bool
) -> None:
    base, probes = runs.parent / "base", runs.parent / "probes.jsonl"
    run = make_run(tmp_path, base, probes, "lora" if kind == "rslora" else kind)
    save_result(run, base, "full" if kind == "full" else "lora")
    if kind != "full":
        _adapter(base, kind).save_pretrained(run.adapter)
    config = load_config(run.config_file).resolved()
    folder = tmp_path / "out"
    folder.mkdir()
    shape = plan(run, config, "merged" if merged else "adapter", "float32" if merged else None, 0.75)
    write_files(run, config, shape, folder, lambda *_: None)
    config.model.dtype = "float32"
    expected = _logits(load_run(run, strength=0.75)[0])
    assert (_logits(_exported(folder, merged)) - expected).abs().max() < 1e-4
    assert (_logits(load_run(run)[0]) - expected).abs().max() > 1e-2


def test_an_export_at_the_chosen_strength_is_verified_at_it_and_its_card_says_so(runs: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", runs.parent / "base", runs.parent / "probes.jsonl")
    save_result(run, runs.parent / "base")
    evaluate_run(run)  # as trained: its answers are not what the export has to give
    choose_strength(run, 0.75)
    done = export_run(run, tmp_path / "out")
    assert done.verification["strength"] == 0.75
    assert done.verification["compared_with"] == "that the run's own model gives now"
    assert done.verification["carried"]["slope"] == pytest.approx(1, abs=0.01)
    before, after = (read_json(folder / "adapter_config.json") for folder in (run.adapter, done.folder))
    assert after["lora_alpha"] == 0.75 * before["lora_alpha"]
    card = (done.folder / "README.md").read_text()
    assert "75% of the change made by training" in card and "for the model as trained" in card
    assert "model-index" not in card  # the Hub's figures would be those of another model

    evaluate_run(run, Request(strength=0.75))
    again = export_run(run, tmp_path / "out")
    assert again.verification["compared_with"] == "that the evaluation recorded"
    card = (again.folder / "README.md").read_text()
    assert "At this strength: " in card and "model-index" in card
    assert plan(run, load_config(run.config_file).resolved(), "adapter", None, 1).strength == 1


def test_a_choice_changes_no_weight_and_is_void_once_the_weights_are_others(runs: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, runs.parent / "base", runs.parent / "probes.jsonl")
    save_result(run, runs.parent / "base")
    weights = (run.adapter / "adapter_model.safetensors").read_bytes()
    assert chosen_strength(run) == 1
    choose_strength(run, 0.5)
    assert chosen_strength(run) == 0.5
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == weights
    save_result(run, runs.parent / "base", seed=7)
    assert chosen_strength(run) == 1
    choose_strength(run, 0.5)
    choose_strength(run, 1)
    assert not run.strength_file.exists()


@pytest.mark.parametrize("name", ["run-lora", "run-full"])
def test_a_chat_answers_at_the_strength_it_is_asked_for(runs: Path, name: str) -> None:
    run = RunDirectory(runs / name)
    answers = {}
    try:
        for strength in (0.0, 1.0, 0.5, 1.0):
            *_, last = load_duet(run).stream("Hello there", as_trained=False, max_new_tokens=8, strength=strength)
            answers.setdefault(strength, []).append(last.adapted)
            assert any(f"strength {strength:g}" in note for note in last.notes) == (strength != 1)
            at = load_run(run, strength=strength)[0]
            assert torch.allclose(_logits(load_duet(run).model), _logits(at), atol=1e-4)
        assert answers[0.0] == [last.base]
        assert answers[1.0][0] == answers[1.0][1]
    finally:
        release()


def test_a_contestant_at_a_strength_is_another_model_than_the_run_as_trained(runs: Path) -> None:
    workspace = Workspace(runs.parent)
    trained, half = run_contestant(workspace, "run-lora"), run_contestant(workspace, "run-lora@0.5")
    assert half.spec["strength"] == 0.5 and "strength" not in trained.spec
    assert half.title != trained.title and "0.5" in half.title
    assert weights_of(half.spec) != weights_of(trained.spec)
    expected = _logits(load_run(RunDirectory(runs / "run-lora"), strength=0.5)[0])
    assert torch.allclose(_logits(load_writer(workspace, half.spec).model), expected)
    with pytest.raises(InputError, match="out of range"):
        run_contestant(workspace, "run-lora@7")
    base, named = read_contestants(["base", "run:run-lora@0.5"], workspace)
    assert named.spec == half.spec and base.spec["base"] == half.spec["base"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a@0.75", ("a", 0.75)), ("a", ("a", None)), ("/x@y/runs/a", ("/x@y/runs/a", None)), ("a@b@1", ("a@b", 1.0))],
)
def test_what_stands_behind_the_last_at_sign_is_a_strength_when_it_is_a_number(text: str, parts: Any) -> None:
    assert split_strength(text) == parts


def test_the_command_measures_proposes_and_keeps_a_choice(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(runs / "run-lora")
    words = ["strength", str(run.path), "--workspace", str(runs.parent)]
    assert main([*words, "--rows", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"] == 4 and found["chosen"] == 1
    check_shape("strength", found)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "validation rows" in printed and "1 (as trained)" in printed and "proposed" in printed
    assert main([*words, "--set", "0.75"]) == 0
    assert "at strength 0.75" in capsys.readouterr().out
    choice = read_json(run.strength_file)
    assert choice["strength"] == chosen_strength(run) == 0.75
    assert choice["figures"]["split"] == "validation"
    assert main([*words, "--set", "2"]) == 2
    assert main(["evaluate", str(run.path), "--strength", "0.5", "--tasks", "arc_easy"]) == 2
    assert main([*words, "--set", "1"]) == 0
    assert chosen_strength(run) == 1


def test_a_run_that_starts_from_one_with_a_strength_says_that_it_starts_from_all_of_it(runs: Path) -> None:
    workspace, run = Workspace(runs.parent), RunDirectory(runs / "run-full")
    assert remarks_on(Start(None, run.id), workspace) == []
    choose_strength(run, 0.5)
    [remark] = remarks_on(Start(None, run.id), workspace)
    choose_strength(run, 1)
    assert "strength 0.5" in remark and "starts from its full adapter" in remark


def test_the_panel_shows_what_was_measured_and_hides_where_there_is_no_strength(runs: Path, tmp_path: Path) -> None:
    import gradio as gr

    from ftlab.ui.tabs.evaluate import strength as strength_box

    workspace, run = Workspace(runs.parent), RunDirectory(runs / "run-lora")
    found = measure_strengths(run, max_rows=4)
    with gr.Blocks():
        panel = strength_box.build()
    updates = strength_box.show(panel, run.id, workspace)
    assert updates[panel.box]["visible"] is True
    text = str(updates[panel.result])
    assert f"Proposed: strength {found['proposed']:g}" in text and "validation rows" in text and "test rows" in text
    hidden = make_run(runs, runs.parent / "base", runs.parent / "probes.jsonl", "bottleneck")
    assert strength_box.show(panel, hidden.id, workspace)[panel.box]["visible"] is False
    assert strength_box.show(panel, None, workspace)[panel.box]["visible"] is False


def test_the_panel_says_what_became_of_measuring_and_no_more_than_that(runs: Path, tmp_path: Path) -> None:
    import gradio as gr

    from ftlab.ui.run_view import run as run_view
    from ftlab.ui.tabs.evaluate import strength as strength_box

    run = make_run(runs, runs.parent / "base", runs.parent / "probes.jsonl", name="run-stopped")
    save_result(run, runs.parent / "base")
    run.evaluation.mkdir()
    with gr.Blocks():
        panel = strength_box.build()

    def shown(**status: Any) -> str:
        write_status(run.evaluation_status_file, RunStatus(created=time.time(), task=supervisor.STRENGTHS, **status))
        return str(strength_box.show(panel, run.id, Workspace(runs.parent))[panel.result])

    # The process of this test stands for the one that measures.
    lock = take(run.evaluation_lock)
    try:
        here = {"pid": os.getpid(), "pid_started": mark_of(os.getpid())}
        assert "Measuring the strengths. The strip above" in shown(state="running", **here)
        run.evaluation_stop_file.touch()
        assert "Stopping. The strip above" in shown(state="running", **here)
    finally:
        if lock is not None:
            os.close(lock)
    ended = shown(state="stopped", warnings=["Measuring the strengths was stopped."])
    assert "was stopped" in ended and "strip above" not in ended and "Not measured yet" not in ended
    assert "There was no room" in shown(state="failed", error={"what": "There was no room", "why": None, "try": None})
    assert "Not measured yet" in shown(state="completed")
    assert run_view.measuring(run, supervisor.EVALUATION, "Evaluating") == "", "it was for something else"


def test_reports_say_that_their_figures_are_those_as_trained_once_another_strength_is_used(runs: Path) -> None:
    run = RunDirectory(runs / "run-lora")
    evaluate_run(run)
    assert "Strength" not in dict(contents(run)["facts"])
    choose_strength(run, 0.5)
    fact = dict(contents(run)["facts"])["Strength"]
    choose_strength(run, 1)
    assert "used at 0.5" in fact and "as trained" in fact


def test_a_notebook_measures_and_chooses_a_strength(runs: Path) -> None:
    run = Run.find("run-lora", runs.parent)
    found = run.strengths(max_rows=4)
    assert list(found.table.index) == ["0 (base)", "0.25", "0.5", "0.75", "1 (as trained)"]
    assert f"Proposed: strength {found.proposed:g}" in found._repr_html_() and "proposed" in repr(found)
    assert run.choose_strength(0.75) == run.strength == 0.75
    assert run.choose_strength(1) == run.strength == 1


def test_the_process_of_the_app_measures_strengths_and_stops_when_it_is_told_to(runs: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, runs.parent / "base", runs.parent / "probes.jsonl")
    save_result(run, runs.parent / "base")
    run.evaluation.mkdir()
    writer = StatusWriter(run.evaluation_status_file)
    try:
        run.evaluation_stop_file.touch()
        assert evaluate(run, writer, run.evaluation_stop_file, strengths=True) == "stopped"
        assert strengths_of(run) is None
        run.evaluation_stop_file.unlink()
        assert evaluate(run, writer, run.evaluation_stop_file, strengths=True) == "completed"
    finally:
        writer.close()
    assert strengths_of(run) is not None and run.comparison() is None


def test_a_choice_that_cannot_be_read_is_said_and_the_app_goes_on_without_it(runs: Path) -> None:
    run = RunDirectory(runs / "run-lora")
    choose_strength(run, 0.5)
    kept = read_json(run.strength_file)
    try:
        for damage in ("", "{", json.dumps(kept | {"strength": "half"}), json.dumps(kept | {"strength": 7})):
            run.strength_file.write_text(damage)
            with pytest.raises(DamagedFile, match=r"strength\.json is damaged"):
                chosen_strength(run)
            assert run_files.strength(run) == 1
    finally:
        choose_strength(run, 1)
