"""One run, several processes: here two on CPUs, which talk through gloo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from ftlab.config import build_config
from ftlab.core.files import read_json
from ftlab.core.workspace import Workspace
from ftlab.training import supervisor
from ftlab.training.launcher import rank_file
from ftlab.training.status import read_status
from tests.conftest import ROOT, end_runs, offline_environment
from tests.integration.test_supervision import until

pytestmark = pytest.mark.train
STEPS = 7


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    place = Workspace.open(tmp_path_factory.mktemp("launcher"))
    yield place
    end_runs(place)


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    """34 rows to train on: with eight of them a step, two are left at the end of the epoch."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"prompt": f"Say number {i}", "completion": f"word {i * 7 % 13}" + " again" * (i % 4)} for i in range(39)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(rows_file, batch, *, steps=STEPS, **launcher):
    return build_config(
        {
            "data": {"source": str(rows_file), "test_fraction": 0, "validation_fraction": 0.13},
            "optimisation": {
                "max_steps": steps,
                "batch_size": batch,
                "evaluations_per_epoch": 1,
                "early_stopping": 0,
                "warmup_fraction": 0,
            },
            "evaluation": {"after_training": False},
            "launcher": {"device": "cpu", "threads": 1, **launcher},
        }
    )


@pytest.fixture(scope="module")
def alone(rows_file, workspace):
    """One process, eight rows a step."""
    run = supervisor.submit(configured(rows_file, 8), workspace)
    assert supervisor.wait(run).state == "completed"
    return run


def assert_same(run, other):
    """The same curve, and the same adapter, up to the order in which float32 numbers are added."""
    for name in ("loss", "eval_loss", "learning_rate"):
        one = [(row["step"], row[name]) for row in run.metrics() if name in row]
        two = [(row["step"], row[name]) for row in other.metrics() if name in row]
        assert [step for step, _ in one] == [step for step, _ in two]
        assert [value for _, value in one] == pytest.approx([value for _, value in two], abs=1e-4)
    one, two = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, other))
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3


def pids(run):
    """The run's worker and its ranks."""
    ranks = [read_status(rank_file(run, rank)).pid for rank in (0, 1)]
    return [supervisor.status(run).pid, *ranks]


def all_gone(processes):
    """Zombies are gone: where a killed worker leaves its children to nobody, nobody buries them."""

    def lives(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(map(lives, processes))


def training_at(run, step):
    return until(lambda: (status := supervisor.status(run)).step >= step and status)


def ended(run):
    return until(lambda: not (status := supervisor.status(run)).is_active and status)


# Without padding, and padded batches through TRL.
@pytest.mark.parametrize("method", ["lora", pytest.param("prompt_tuning", marks=pytest.mark.long)])
def test_two_processes_are_held_to_the_base_as_one_is(rows_file, workspace, tmp_path, method):
    """44 rows, ten of them what the base says by itself: it is asked once, before the processes start."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"Greet guest {i}", "kind": "greeting"}) + "\n" for i in range(12))
    )
    runs = []
    for config in (configured(rows_file, 8), configured(rows_file, 4, processes=2)):
        config.data.replay, config.data.replay_fraction = f"self:{prompts}", 0.3
        config.method.name = method
        runs.append(supervisor.submit(config, workspace))
    assert [supervisor.wait(run).state for run in runs] == ["completed"] * 2
    assert_same(*runs)
    assert runs[0].teacher_file.read_bytes() == runs[1].teacher_file.read_bytes()


@pytest.mark.long
def test_two_processes_learn_what_one_learns_from_both_their_batches(rows_file, workspace, alone):
    run = supervisor.submit(configured(rows_file, 4, processes=2), workspace)
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    assert (status.step, status.total_steps, status.warnings) == (STEPS, STEPS, [])
    assert_same(run, alone)
    assert run.verification()["changes_logits"] and run.verification()["reload_difference"] < 1e-4
    assert read_json(run.environment_file)["processes"] == 2
    assert supervisor.status(alone).trained_parameters == status.trained_parameters
    until(lambda: all_gone(pids(run)))


@pytest.mark.long
def test_whatever_dies_no_process_is_left_and_the_run_goes_on_with_both(rows_file, workspace):
    run = supervisor.submit(configured(rows_file, 4, steps=600, processes=2), workspace)
    training_at(run, 8)

    worker, *ranks = pids(run)
    os.kill(ranks[1], signal.SIGKILL)
    status = ended(run)
    assert status.state == "failed"
    assert "process 2 of 2 was killed from outside (SIGKILL) at step" in status.error["what"]
    until(lambda: all_gone([worker, *ranks]))

    reached = supervisor.resume(run, workspace)
    assert reached >= 6
    training_at(run, reached + 1)
    worker, *ranks = pids(run)
    os.kill(worker, signal.SIGKILL)  # alone: the others are no children of the test, and belong to other sessions
    assert ended(run).state == "failed"
    until(lambda: all_gone(ranks))

    reached = supervisor.resume(run, workspace)
    training_at(run, reached + 1)
    processes = pids(run)
    assert "Stopping" in supervisor.stop(run).message
    status = ended(run)
    assert status.state == "stopped", status.error
    assert run.has_result and run.verification()["changes_logits"]
    until(lambda: all_gone(processes))
    steps = [row["step"] for row in run.metrics() if "loss" in row]
    assert steps == sorted(set(steps))


@pytest.mark.long
def test_two_machines_meet_by_the_accelerate_configuration(rows_file, workspace, alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "accelerate.yaml"
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_CPU",
        "num_machines": 2,
        "num_processes": 2,
        "machine_rank": 0,
        "main_process_ip": "127.0.0.1",
        "main_process_port": port,
        "same_network": True,
        "use_cpu": True,
    }
    file.write_text(yaml.safe_dump(settings))
    run = supervisor.submit(configured(rows_file, 4, processes=2, machines=2, config_file=str(file)), workspace)
    until(lambda: "--machine-rank 1" in run.log_tail())
    other = subprocess.run(
        [sys.executable, "-m", "ftlab.training.launching.launch", str(run.path), "--machine-rank", "1"],
        env=offline_environment(),
        cwd=ROOT,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert other.returncode == 0, other.stderr[-2000:]
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    assert_same(run, alone)


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    """32 pairs to train on, so that every step of an epoch is full with one process and with two."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"prompt": f"Say number {i}", "chosen": f"word {i * 7 % 13}", "rejected": "no" + " no" * (i % 4)}
        for i in range(38)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("stage", ["dpo", *(pytest.param(name, marks=pytest.mark.long) for name in ("kto", "reward"))])
def test_two_processes_learn_from_preferences_what_one_learns(pairs_file, workspace, stage):
    def trained(batch, **launcher):
        config = configured(pairs_file, batch, steps=6, **launcher).model_dump()
        config["stage"] = stage
        config["data"]["validation_fraction"] = 6 / 38
        run = supervisor.submit(build_config(config), workspace)
        status = supervisor.wait(run)
        assert status.state == "completed", status.error
        return run

    assert_same(trained(8), trained(4, processes=2))
