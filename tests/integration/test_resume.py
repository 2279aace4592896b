"""A run that was stopped or killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftlab.config import build_config
from ftlab.core.files import append_jsonl, read_json, write_json
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.models.identity import check_result
from ftlab.models.load import load_run
from ftlab.training import supervisor
from ftlab.training.checkpoints import check_sealed, go_back_to, last_checkpoint, passed_over, seal
from ftlab.training.gate import resolve_start
from ftlab.training.status import RunStatus
from tests.conftest import end_runs, run_cli

STEPS = 100


@pytest.fixture
def workspace(tmp_path):
    place = Workspace.open(tmp_path / "workspace")
    yield place
    end_runs(place)


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"prompt": f"Say the word number {i}", "completion": f"word {i * 7 % 13}"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(rows_file, **data):
    """Long enough to be killed in the middle; dropout, so that the random state counts."""
    return build_config(
        {
            "data": {"source": str(rows_file), **data},
            "method": {"dropout": 0.1},
            "optimisation": {"max_steps": STEPS, "batch_size": 4, "evaluations_per_epoch": 1, "early_stopping": 0},
            "evaluation": {"after_training": False},
            "launcher": {"threads": 1},
        }
    )


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def curve(run):
    """What was logged at each step, without times."""
    kept = ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate", "tokens")
    return [{name: row[name] for name in kept if name in row} for row in run.metrics()]


@pytest.mark.train
def test_killed_and_resumed_on_another_machine_equals_uninterrupted_step_for_step(rows_file, workspace, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"Greet guest {i}", "kind": "greeting"}) + "\n" for i in range(12))
    )
    config = configured(rows_file, replay=f"self:{prompts}", replay_fraction=0.2)
    whole = supervisor.submit(config, workspace)
    killed = supervisor.submit(config, workspace)
    assert supervisor.wait(whole).state == "completed"

    until(lambda: (point := last_checkpoint(killed)) and point.step >= 36 and point)
    pid = until(lambda: supervisor.status(killed).pid)
    os.killpg(pid, signal.SIGKILL)
    assert until(lambda: not (status := supervisor.status(killed)).is_active and status).state == "failed"
    assert last_checkpoint(killed).step < STEPS

    # Copied to another place, the original gone.
    elsewhere = Workspace.open(tmp_path / "elsewhere")
    shutil.move(killed.path, elsewhere.runs_folder / killed.id)
    moved = elsewhere.run(killed.id)
    resumed = run_cli("runs", "resume", moved.id, "--json", "--workspace", str(elsewhere.root))
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["step"] >= 36
    status = supervisor.wait(moved)
    assert status.state == "completed", status.error

    assert curve(moved) == curve(whole)
    answered = [(row["step"], row["row"]) for row in moved.samples()]
    assert answered == sorted(set(answered)) and answered[0] == (0, 0)
    one, other = (
        load_file(whole.adapter / "adapter_model.safetensors"),
        load_file(moved.adapter / "adapter_model.safetensors"),
    )
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert read_json(moved.environment_file)["resumed"][0]["step"] >= 36


@pytest.mark.train
def test_training_ends_by_itself_once_unseen_rows_are_learned_no_better_and_keeps_the_best(rows_file, workspace):
    asked = configured(rows_file)
    # Learned by heart soon: the rows have nothing in common that could be learned.
    asked.optimisation.early_stopping, asked.optimisation.learning_rate = 2, 5e-3
    run = supervisor.submit(asked, workspace)
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    seen = {row["step"]: row["eval_loss"] for row in run.metrics() if "eval_loss" in row}
    assert status.step == max(seen) < STEPS
    best = min(seen, key=seen.__getitem__)
    assert [step for step in seen if step > best] == sorted(seen)[-2:], "two in a row brought nothing better"
    kept, last = (
        load_file(place / "adapter_model.safetensors")
        for place in (run.adapter, run.checkpoints / f"checkpoint-{max(seen)}")
    )
    assert any((kept[name] != last[name]).any() for name in kept)


def a_checkpoint(run, step, *, best=None, leave_out=()):
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt"):
        if name in leave_out:
            continue
        if name.endswith(".safetensors"):
            save_file({"weight": torch.zeros(100)}, folder / name)
        else:
            torch.save({"state": torch.zeros(100)}, folder / name)
    if "trainer_state.json" not in leave_out:
        write_json(folder / "trainer_state.json", {"global_step": step, "best_model_checkpoint": best})
    return folder


def test_a_checkpoint_that_was_cut_off_while_it_was_written_is_passed_over(workspace):
    run = workspace.create_run("cut")
    good = a_checkpoint(run, 10)
    a_checkpoint(run, 20, leave_out=("trainer_state.json",))
    (a_checkpoint(run, 30) / "trainer_state.json").write_text('{"global_st')
    a_checkpoint(run, 5, leave_out=("scheduler.pt",))  # killed while it was removed
    for step, name in ((40, "adapter_model.safetensors"), (50, "optimizer.pt")):
        # As an unfinished copy leaves it: every file is there.
        os.truncate(a_checkpoint(run, step) / name, 300)
    assert last_checkpoint(run).path == good
    run.metrics_file.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (5, 10, 15)))
    go_back_to(run, last_checkpoint(run))
    assert [row["step"] for row in run.metrics()] == [5, 10]
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-10"]


def test_half_a_line_that_a_kill_left_spoils_neither_the_curve_nor_the_next_line(workspace):
    run = workspace.create_run("cut")
    a_checkpoint(run, 10)
    row = {"step": 10, "loss": 1.0, "note": "für"}
    run.metrics_file.write_bytes((json.dumps(row, ensure_ascii=False) + "\n").encode() + b'{"step": 11, "note": "f\xc3')
    assert run.metrics() == [row]
    go_back_to(run, last_checkpoint(run))
    append_jsonl(run.metrics_file, {"step": 11, "loss": 0.5})
    assert [row["step"] for row in run.metrics()] == [10, 11]


def test_the_best_checkpoint_is_found_again_in_a_folder_that_was_moved(workspace):
    run = workspace.create_run("moved")
    a_checkpoint(run, 10)
    a_checkpoint(run, 20, best="C:\\runs\\old\\checkpoints\\checkpoint-10")
    go_back_to(run, last_checkpoint(run))
    assert last_checkpoint(run).state["best_model_checkpoint"] == str(run.checkpoints / "checkpoint-10")


def test_a_run_that_was_trained_to_its_end_says_how_to_train_longer(workspace):
    run = workspace.create_run("done")
    run.config_file.write_text("name: done\n")
    write_status(run.status_file, RunStatus(state="completed", step=9, total_steps=9))
    with pytest.raises(InputError, match="more epochs"):
        supervisor.resume(run, workspace)


def damage(file, at=0.5):
    """Turn over some bytes in the middle of `file`, as a failing disk does: nothing says so."""
    content = bytearray(file.read_bytes())
    for place in range(int(len(content) * at), int(len(content) * at) + 8):
        content[place] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_whole_one_and_it_is_said(workspace, name):
    run = workspace.create_run("flipped")
    good, bad = a_checkpoint(run, 10), a_checkpoint(run, 20)
    for folder in (good, bad):
        seal(folder)
    assert last_checkpoint(run).path == bad and passed_over(run, last_checkpoint(run)) == []
    damage(bad / name, at=0.3)
    taken = last_checkpoint(run)
    assert taken.path == good
    assert passed_over(run, taken) == [f"checkpoint-20 is damaged ({name}): training resumes from checkpoint-10."]
    go_back_to(run, taken)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-10"]


def test_a_hole_in_the_optimizer_of_an_earlier_version_without_checksums_is_found_too(workspace):
    run = workspace.create_run("old")
    good, bad = a_checkpoint(run, 10), a_checkpoint(run, 20)
    with (bad / "optimizer.pt").open("r+b") as file:
        file.seek(file.seek(0, os.SEEK_END) // 2)
        file.write(bytes(range(1, 65)))
    assert torch.load(bad / "optimizer.pt"), "torch itself does not see it"
    assert last_checkpoint(run).path == good
    assert passed_over(run, last_checkpoint(run))


def test_a_damaged_best_checkpoint_is_neither_taken_nor_the_best_any_more(workspace):
    run = workspace.create_run("best")
    best, last = a_checkpoint(run, 10), a_checkpoint(run, 20)
    state = {"global_step": 20, "best_model_checkpoint": str(best), "best_metric": 0.1, "best_global_step": 10}
    write_json(last / "trainer_state.json", state)
    for folder in (best, last):
        seal(folder)
    damage(best / "adapter_model.safetensors")
    with pytest.raises(FtlabError, match="best checkpoint of this run, checkpoint-10, is damaged"):
        check_sealed(best)
    said = go_back_to(run, last_checkpoint(run))
    assert "checkpoint-10" in said[0]
    found = last_checkpoint(run)  # still sealed, with its new state
    assert found.path == last and not best.exists()
    assert {found.state[name] for name in ("best_model_checkpoint", "best_metric", "best_global_step")} == {None}


@pytest.mark.train
@pytest.mark.long
def test_flipped_bytes_in_what_was_trained_are_said_by_everybody_who_loads_it_and_mended_by_a_resume(
    rows_file, workspace
):
    config = configured(rows_file)
    config.optimisation.max_steps = 24
    config.evaluation.after_training = False
    run = supervisor.submit(config, workspace)
    assert supervisor.wait(run).state == "completed", supervisor.status(run).error
    weights = run.adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    newest = last_checkpoint(run)
    assert (newest.path / "checksums.json").exists() and run.checksums_file.exists()
    check_result(run)

    damage(weights)
    for act in (lambda: load_run(run), lambda: resolve_start(build_config({"model": {"start": run.id}}), workspace)):
        with pytest.raises(FtlabError, match=r"adapter/adapter_model\.safetensors differs from what training saved"):
            act()
    evaluated = run_cli("evaluate", run.id, "--rows", "2", "--workspace", str(workspace.root))
    assert evaluated.returncode == 1 and "is damaged" in evaluated.stderr and "Traceback" not in evaluated.stderr

    # The newest checkpoint is damaged as well: the one before it is whole.
    damage(newest.path / "optimizer.pt")
    resumed = run_cli("runs", "resume", run.id, "--workspace", str(workspace.root))
    assert resumed.returncode == 0, resumed.stderr
    assert f"{newest.path.name} is damaged (optimizer.pt)" in resumed.stdout
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    assert any(newest.path.name in text for text in status.warnings)
    assert weights.read_bytes() == whole
    check_result(run)
