"""Whose base a contestant is, where no base is named; and what the votes are learned on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ftlab.arena import asking, blind_tests, links, trials
from ftlab.arena.store import open_store
from ftlab.cli.arena_inputs import learning_from, read_contestants
from ftlab.cli.main import main
from ftlab.config import build_config
from ftlab.core.files import write_text
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.models.starter import starter_path
from ftlab.training.gate import resolve_start


@pytest.fixture(scope="module")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shutil.copytree(starter_path(), tmp_path_factory.mktemp("bases") / "real").as_posix()


def trained(workspace: Workspace, base: str, label: str = "run") -> str:
    """The id of a run whose adapter is there."""
    run = workspace.create_run(label)
    write_text(run.config_file, build_config({"model": {"base": base}}).to_yaml())
    run.adapter.mkdir()
    saved = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "base_model_name_or_path": base}
    write_text(run.adapter / "adapter_config.json", json.dumps(saved))
    save_file({"weight": torch.zeros(1)}, run.adapter / "adapter_model.safetensors")
    return run.id


def bases(texts: list[str], workspace: Workspace) -> list[str]:
    return [one.spec["base"] for one in read_contestants(texts, workspace)]


def test_base_beside_a_run_is_the_base_of_that_run(workspace: Workspace, other_base: str) -> None:
    run = trained(workspace, other_base)
    prompted = '{"kind": "base", "title": "Prompted", "system_prompt": "Be brief."}'
    assert bases(["base", prompted, f"run:{run}"], workspace) == [other_base] * 3
    assert bases(["base", "run:last"], workspace) == [other_base] * 2
    for named in ("base=starter", "base:starter"):
        assert bases([named, f"run:{run}"], workspace) == ["starter", other_base]


def test_a_run_of_another_workspace_is_found_again_when_it_answers(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace.open(tmp_path / "other")
    run = other.run(trained(other, "starter"))
    [spec] = [one.spec for one in read_contestants([f"run:{run.path}"], workspace)]
    assert workspace.run(spec["run"]).path == run.path
    [spec] = [one.spec for one in read_contestants(["run:last"], other)]
    assert spec["run"] == run.id


def test_a_base_that_could_be_several_or_none_has_to_be_named(workspace: Workspace, other_base: str) -> None:
    with pytest.raises(InputError, match="no run of this test names one"):
        bases(["base", "https://host/v1#model"], workspace)
    one, two = trained(workspace, "starter", "toy"), trained(workspace, other_base, "real")
    with pytest.raises(InputError, match="different bases") as caught:
        bases(["base", f"run:{one}", f"run:{two}"], workspace)
    assert other_base in str(caught.value) and "base=starter" in str(caught.value)
    assert bases(["base=starter", f"run:{one}", f"run:{two}"], workspace)[0] == "starter"


def test_the_blind_test_tab_takes_the_base_of_the_run_that_is_chosen(workspace: Workspace, other_base: str) -> None:
    pytest.importorskip("gradio")
    from ftlab.ui.tabs.blind_test import form as blind_test_form
    from ftlab.ui.tabs.blind_test import plan as blind_test_plan

    older = trained(workspace, other_base, "a")
    trained(workspace, "starter", "b")
    values = blind_test_form.usual(workspace).changed({"who_2": f"run:{older}"})
    assert [one.spec["base"] for one in blind_test_plan.contestants(values, workspace)] == [other_base] * 2


def test_the_command_after_an_export_trains_what_was_tested(
    workspace: Workspace, other_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(workspace, other_base)
    store = open_store(workspace)
    among = read_contestants(["base", f"run:{run}"], workspace)
    how = asking.TestSettings({"max_new_tokens": 16, "temperature": 0.0})
    asked = [asking.PromptSpec([{"role": "user", "content": "Question"}])]
    test_id = blind_tests.create_test(store, "A test", among, asked, how, 1)
    blind_tests.start_generating(store, test_id)
    for one in blind_tests.list_contestants(store, test_id):
        blind_tests.save_answer(store, blind_tests.list_prompts(store, test_id)[0].id, one.id, f"by {one.title}")
    blind_tests.mark_ready(store, test_id)
    blind_tests.open_test(store, test_id)
    rater = links.create_raters(store, test_id, ["Ana"])[0].rater_id
    trials.vote(store, rater, trials.next_trial(store, rater).id, "left")
    assert learning_from(store, test_id, workspace) == [f"model.start={run}"]
    assert main(["arena", "export", "--workspace", str(workspace.root)]) == 0
    told = capsys.readouterr().err
    assert f"--set model.start={run}" in told and f"--workspace {workspace.root}" in told


def test_a_run_named_by_its_path_is_found_with_its_workspace(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = Workspace.open(tmp_path / "elsewhere")
    run = elsewhere.run(trained(elsewhere, "starter"))
    assert Workspace.of(run) == elsewhere
    config, start = resolve_start(build_config({"model": {"start": str(run.path)}}), workspace)
    assert start.adapter == run.adapter and config.model.start == str(run.path)
    config, start = resolve_start(build_config({"model": {"start": "last"}}), elsewhere)
    assert start.adapter == run.adapter and config.model.start == run.id


def test_last_beside_a_run_of_another_workspace_is_the_last_one_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ftlab.api import Run

    monkeypatch.setenv("FTLAB_HOME", str(workspace.root))
    elsewhere = Workspace.open(tmp_path / "elsewhere")
    first, last = trained(elsewhere, "starter", "a"), trained(elsewhere, "starter", "b")
    trained(workspace, "starter", "c")
    path = str(elsewhere.run(first).path)
    assert Run.find(path)._workspace == elsewhere
    seen = []
    monkeypatch.setattr("ftlab.evaluation.compare.evaluate_whole", lambda *asked, **_: seen.append(asked) or {})
    main(["evaluate", path, "last", "--json"])
    run, request = seen[0]
    assert [run.id, *(one.id for one in request.others)] == [first, last]
    words = ["arena", "create", "--contestant", "base", "--contestant", f"run:{path}", "--contestant", "run:last"]
    assert main([*words, "--prompts", "brand_voice", "--number", "3", "--json"]) == 0
    store = open_store(elsewhere)
    among = blind_tests.list_contestants(store, blind_tests.list_tests(store)[0].id)
    assert [one.spec.get("run") for one in among] == [None, first, last]
