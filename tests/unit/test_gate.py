"""Every door has one gate: what Start refuses, preflight, a sweep and a resumed run refuse too; no stored code runs."""

from __future__ import annotations

import dataclasses

import pytest

from ftlab.api.verbs import _configured
from ftlab.config import build_config, load_config, with_settings
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.measuring import left_out, options_of
from ftlab.evaluation.metrics import own
from ftlab.evaluation.request import Request
from ftlab.training import supervisor
from ftlab.training.arguments import check_trainer_settings, config_class
from ftlab.training.preflight.measure import run_preflight
from ftlab.training.status import RunStatus
from ftlab.training.sweep import submit_sweep


@pytest.fixture(autouse=True)
def nobody_named_anything(monkeypatch):
    monkeypatch.delenv(own.ONLY_FOLDER, raising=False)
    monkeypatch.setenv(own.NAMED_FILES, "")


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def planted(tmp_path):
    """A metric file that leaves a mark when it is run, and a configuration of somebody else that names it."""
    code, mark = tmp_path / "planted.py", tmp_path / "it ran"
    code.write_text(f"open({str(mark)!r}, 'w').close()\n", encoding="utf-8")
    theirs = build_config({"evaluation": {"own_metrics": str(code), "after_training": False}})
    (tmp_path / "theirs.yaml").write_text(theirs.to_yaml(), encoding="utf-8")
    return code, mark, tmp_path / "theirs.yaml"


REWARDED = {"reinforcement": {"rewards": [{"kind": "length", "shortest": 5, "longest": 20}]}}


def start(config, workspace):
    supervisor.create(config, workspace)


def sweep(config, workspace):
    submit_sweep(config, {"method.rank": [4, 8]}, workspace)


@pytest.mark.parametrize("door", [start, run_preflight, sweep])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"evaluation": {"measures": "meteor"}}, "meteor"),
        ({"evaluation": {"measures": "meteor", "after_training": False}}, "meteor"),
        ({"evaluation": {"pattern": "(", "after_training": False}}, "pattern"),
        ({"trainer": {"resume_from_checkpoint": "/tmp/theirs"}}, "resume_from_checkpoint"),
        ({"trainer": {"dataloader_num_workers": "two"}}, "Allowed: a whole number"),
        (
            {"trainer": {"log_completions_hub_repo": "somebody/else"}, "stage": "grpo"} | REWARDED,
            "log_completions_hub_repo",
        ),
        ({"launcher": {"config_file": "/nowhere.yaml"}}, "nowhere"),
    ],
    ids=[
        "measure",
        "measure of later",
        "pattern of later",
        "their checkpoint",
        "another type",
        "their repository",
        "launcher",
    ],
)
def test_what_start_refuses_is_refused_at_every_door(door, settings, said, workspace):
    with pytest.raises(InputError, match=said):
        door(build_config(settings), workspace)
    assert workspace.runs() == []


@pytest.mark.parametrize("stage", ["sft", "dpo", "kto", "reward", "grpo", "rloo"])
def test_every_default_of_trl_is_of_the_type_that_a_setting_must_have(stage):
    kind = config_class(stage)
    defaults = {one.name: one.default for one in dataclasses.fields(kind) if one.default is not dataclasses.MISSING}
    taken = 0
    for name, value in defaults.items():
        try:
            check_trainer_settings({name: value}, stage)
            taken += 1
        except InputError as error:
            assert "is set by ftlab" in str(error), error
    assert taken > 50


@pytest.mark.parametrize("door", [start, run_preflight, sweep])
def test_no_run_is_made_of_a_file_that_names_code(door, planted, workspace):
    _, mark, theirs = planted
    for config in (
        load_config(theirs),
        _configured(str(theirs), {}),
        _configured(load_config(theirs).model_copy(deep=True), {}),
        _configured(with_settings(load_config(theirs), {"method.rank": 4}), {}),
    ):
        with pytest.raises(InputError, match="comes from a stored configuration"):
            door(config, workspace)
    assert workspace.runs() == [] and not mark.exists()


def test_who_names_the_code_himself_gets_it_run(planted):
    code, _, theirs = planted
    for named in (
        lambda: _configured(None, {"evaluation": {"own_metrics": str(code)}}),
        lambda: _configured(build_config({"evaluation": {"own_metrics": str(code)}}), {}),
        lambda: _configured(with_settings(load_config(theirs), {"evaluation.own_metrics": str(code)}), {}),
        lambda: _configured(load_config(theirs, [f"evaluation.own_metrics={code}"]), {}),
    ):
        own.name_files([])
        assert own.may_run(code) is False
        config = named()
        assert options_of(config, None).extra == (str(code),) and left_out(config) == []
        del own.os.environ[own.NAMED_FILES]


def test_a_stored_configuration_is_evaluated_without_the_code_that_it_names_and_says_so(planted):
    code, mark, theirs = planted
    config = load_config(theirs)
    assert options_of(config, None).extra == ()
    [note] = left_out(config)
    assert str(code) in note and f"--metric {code}" in note
    assert not mark.exists()


def test_a_copied_run_is_resumed_with_checked_settings_only(workspace):
    run = workspace.create_run("theirs")
    config = build_config({"trainer": {"push_to_hub": True}})
    run.config_file.write_text(config.to_yaml(), encoding="utf-8")
    run.split_file("train").parent.mkdir(parents=True, exist_ok=True)
    run.split_file("train").write_text("{}\n", encoding="utf-8")
    write_status(run.status_file, RunStatus(state="stopped", created=1.0))
    with pytest.raises(InputError, match="push_to_hub"):
        supervisor.resume(run, workspace)
    assert supervisor.status(run).state == "stopped"


def test_an_evaluation_asked_for_by_a_program_names_no_code(planted, workspace, monkeypatch):
    code, mark, _ = planted
    monkeypatch.setenv(own.ONLY_FOLDER, str(workspace.metrics_folder))
    run = workspace.create_run("mine")
    run.config_file.write_text(build_config({}).to_yaml(), encoding="utf-8")
    run.adapter.mkdir(parents=True)
    (run.adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    write_status(run.status_file, RunStatus(state="completed", created=1.0))
    with pytest.raises(InputError, match="from one folder"):
        supervisor.submit_evaluation(run, workspace, Request(settings={"own_metrics": str(code)}))
    assert supervisor.evaluation_status(run) is None and not mark.exists()
