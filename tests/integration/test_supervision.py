"""A run is a process of its own: what happens to it when it is stopped, killed, queued, or its starter goes away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from ftlab.config import build_config
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.training import supervisor
from ftlab.training.checkpoints import last_checkpoint
from ftlab.training.status import RunStatus
from tests.conftest import ROOT, end_runs, last_json, offline_environment, processes_in_session, run_cli

pytestmark = pytest.mark.train


def long_run(rows_file, **settings):
    """A configuration that trains for much longer than any test waits."""
    return build_config(
        {
            "data": {"source": str(rows_file)},
            "optimisation": {"max_steps": 5000, "batch_size": 4, "early_stopping": 0, "evaluations_per_epoch": 1},
            "evaluation": {"after_training": False},
            "launcher": {"threads": 1},
            **settings,
        }
    )


def until(condition, seconds=300, pause=0.1):  # a run gives way to whatever else this machine does
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError("it did not happen in time")


def training_at(run, step):
    return until(lambda: (status := supervisor.status(run)).step >= step and status)


def train_on_the_command_line(rows_file, workspace):
    """`python -m ftlab train` in a process of its own, and the run that it has started."""
    yaml = rows_file.with_name("run.yaml")
    yaml.write_text(long_run(rows_file).to_yaml())
    process = subprocess.Popen(
        [sys.executable, "-m", "ftlab", "train", str(yaml), "--workspace", str(workspace.root), "--json"],
        env=offline_environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As in a terminal: what is started in the background of a script is told to ignore ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return process, until(lambda: next(iter(workspace.runs()), None))


def test_stopping_saves_a_loadable_adapter_and_says_stopped(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    training_at(run, 3)
    message = supervisor.stop(run).message
    assert "Stopping" in message
    assert supervisor.status(run).state in ("stopping", "stopped")
    status = until(lambda: not (s := supervisor.status(run)).is_active and s)
    assert status.state == "stopped", status.error
    assert run.has_result
    assert list(run.checkpoints.glob("checkpoint-*"))
    assert run.verification()["reload_difference"] < 1e-3
    until(lambda: not processes_in_session(status.pid))


def test_a_second_stop_kills_the_process_group(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    status = training_at(run, 1)
    supervisor.stop(run)
    assert "Killed" in supervisor.stop(run).message
    assert supervisor.status(run).state == "stopped"
    assert processes_in_session(status.pid) == []


def test_a_stop_before_the_first_step_says_so_and_gives_no_advice_on_what_was_never_trained(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    until(lambda: supervisor.status(run).state == "running")  # it loads and prepares for seconds
    supervisor.stop(run)
    status = until(lambda: not (s := supervisor.status(run)).is_active and s)
    assert (status.state, status.phase) == ("stopped", "stopped before anything was trained")
    assert not run.has_result and not run.metrics_file.exists()
    assert not any("nothing was learned" in text for text in status.warnings), status.warnings


def test_a_stop_after_the_last_step_says_how_to_compare_what_was_trained(rows_file, workspace):
    values = {"max_steps": 3, "batch_size": 4, "early_stopping": 0, "evaluations_per_epoch": 1}
    config = long_run(rows_file, optimisation=values, evaluation={"after_training": True, "before_training": False})
    run = supervisor.submit(config, workspace)
    until(lambda: supervisor.status(run).phase in ("saving the result", "verifying the result"), pause=0.003)
    supervisor.stop(run)
    status = until(lambda: not (s := supervisor.status(run)).is_active and s)
    assert status.state == "completed", status.error
    assert run.has_result and run.verification() and run.comparison() is None
    assert any(f"python -m ftlab evaluate {run.id}" in text for text in status.warnings), status.warnings
    with pytest.raises(InputError, match=f"python -m ftlab evaluate {run.id}"):
        supervisor.resume(run, workspace)


def test_a_run_whose_folder_is_deleted_ends_and_leaves_no_half_folder(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    pid = training_at(run, 2).pid

    def removed():  # its files come and go while they are removed
        shutil.rmtree(run.path, ignore_errors=True)
        return not run.config_file.exists()

    until(removed, pause=0.001)
    until(lambda: not processes_in_session(pid), seconds=30)
    assert not run.path.exists(), sorted(run.path.rglob("*"))
    assert "deleted or moved" in supervisor.status(run).error["what"]


def test_a_killed_run_is_failed_with_what_why_and_what_to_try(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    status = training_at(run, 2)
    os.killpg(status.pid, signal.SIGKILL)
    status = until(lambda: not (s := supervisor.status(run)).is_active and s)
    assert status.state == "failed"
    assert "killed from outside (SIGKILL) at step" in status.error["what"]
    assert "memory" in status.error["why"]
    assert "smaller batch" in status.error["try"]
    assert len(run.metrics()) >= 1


def test_a_run_outlives_whoever_started_it_and_is_found_again(rows_file, workspace):
    """The app is killed and started again: the run goes on and its curve is complete."""
    starter, run = train_on_the_command_line(rows_file, workspace)
    before = training_at(run, 2)
    starter.kill()
    starter.communicate()
    later = training_at(run, before.step + 5)
    assert later.state == "running"
    assert later.pid == before.pid
    assert supervisor.active_runs(workspace) == [run]
    logged = [row["step"] for row in run.metrics() if "loss" in row]
    assert logged == sorted(set(logged))
    supervisor.stop(run)
    supervisor.stop(run)


def test_ctrl_c_asks_the_run_to_save_and_stop(rows_file, workspace):
    process, run = train_on_the_command_line(rows_file, workspace)
    training_at(run, 2)
    process.send_signal(signal.SIGINT)
    output, progress = process.communicate(timeout=120)
    assert process.returncode == 0, progress
    assert last_json(output) == {"run": run.id, "directory": str(run.path), "state": "stopped"}
    assert "Traceback" not in progress
    assert run.has_result


def test_a_run_waits_for_the_device_starts_in_its_turn_and_can_be_stopped_before(rows_file, workspace):
    first, second, third = (supervisor.submit(long_run(rows_file, name=name), workspace) for name in ("1", "2", "3"))
    training_at(first, 1)
    for run in (second, third):
        waiting = until(lambda run=run: (s := supervisor.status(run)).phase.startswith("waiting for the device") and s)
        assert waiting.state == "queued"
    supervisor.stop(second)
    status = until(lambda: not (s := supervisor.status(second)).is_active and s)
    assert status.state == "stopped"
    assert not second.has_result
    supervisor.stop(first)
    supervisor.stop(first)
    assert training_at(third, 1).state == "running"


def test_a_run_at_work_cannot_be_deleted(rows_file, workspace):
    run = supervisor.submit(long_run(rows_file), workspace)
    done = run_cli("runs", "delete", run.id, "--yes", "--workspace", str(workspace.root))
    assert done.returncode == 2
    assert "stop it first" in done.stderr
    until(lambda: supervisor.status(run).pid)
    supervisor.stop(run)
    supervisor.stop(run)
    supervisor.delete(run, workspace)
    assert workspace.runs() == []


@pytest.mark.skipif(
    sys.platform != "linux" or torch.version.cuda is not None,
    reason="RLIMIT_AS binds on Linux, and CUDA alone takes more address space than is allowed here",
)
def test_a_run_that_runs_out_of_memory_is_named_with_a_remedy(workspace, tmp_path, monkeypatch):
    """The trainer gets so little address space that its batch does not fit; everything else is real."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import resource, sys\n"
        "if 'ftlab.training.worker' in sys.orig_argv:\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}")
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Number {n}: " + "word " * 320, "completion": f"It is {n}."} for n in range(100)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = long_run(data, optimisation={"max_steps": 9, "batch_size": 64})
    config.data.validation_fraction = 0
    run = supervisor.submit(config, workspace)
    status = supervisor.wait(run)
    assert (status.state, status.total_steps) == ("failed", 9), status.error
    assert status.error["what"] == "The run ran out of memory."
    assert "smaller batch" in status.error["try"]
    assert "allocate memory" in run.log_tail()
    until(lambda: not processes_in_session(status.pid))


@pytest.mark.long
def test_a_full_disk_is_named_with_a_remedy_and_the_checkpoint_before_is_whole(rows_file, tmp_path):
    """A small disk of its own is filled while the run trains on it: the next checkpoint fits half."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        workspace = Workspace.open(small / "workspace")
        run = supervisor.submit(long_run(rows_file), workspace)
        pid = until(lambda: last_checkpoint(run) and supervisor.status(run).pid)
        whole = until(lambda: _held_between_checkpoints(run, pid))
        # The adapter will fit, and half of the optimizer, which torch writes in words of its own.
        size = {file.name: file.stat().st_size for file in whole.path.iterdir()}
        left = sum(size.values()) - size["optimizer.pt"] // 2
        with (small / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(small).free - left)
        os.killpg(pid, signal.SIGCONT)
        status = until(lambda: not (s := supervisor.status(run)).is_active and s)
        assert status.state == "failed"
        assert status.error["what"] == "The disk is full."
        assert "FTLAB_HOME" in status.error["try"]
        # The run itself could say so, because what was cut off has made room.
        assert "inline_container" in run.log_tail()
        assert last_checkpoint(run).path == whole.path
        assert all((path / "trainer_state.json").exists() for path in run.checkpoints.glob("checkpoint-*"))

        (small / "filler").unlink()
        assert supervisor.resume(run, workspace) == whole.step
        training_at(run, whole.step + 1)
        end_runs(workspace)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_run_that_died_with_its_machine_is_failed_not_running(workspace):
    run = workspace.create_run("dead")
    run.config_file.write_text("{}\n")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_status(run.status_file, RunStatus(state="running", pid=gone.pid, pid_started=1.0, created=time.time()))
    status = supervisor.status(run)
    assert status.state == "failed"
    assert status.error["try"]
    assert json.loads(run.status_file.read_text())["state"] == "failed"


def _held_between_checkpoints(run, pid):
    """Stop the run's processes for a while; its last checkpoint, or None when it was just writing one."""
    os.killpg(pid, signal.SIGSTOP)
    last = last_checkpoint(run)
    if max(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])) == last.path:
        return last
    os.killpg(pid, signal.SIGCONT)
    return None
