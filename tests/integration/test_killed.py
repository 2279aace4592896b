"""Killed at the worst moment: trainer and app at once, while a checkpoint is being written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftlab.config import build_config
from ftlab.training import supervisor
from ftlab.training.checkpoints import last_checkpoint
from tests.conftest import ROOT, last_json, offline_environment, processes_in_session, run_cli

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process is held still while it is looked at"),
]
EVERY, STEPS = 12, 48  # 48 rows for training in batches of 4: a checkpoint after each of four epochs


def kill_while_it_writes(run, part: str, others: list[int]) -> Path:
    """Kill the run, and `others`, while a new checkpoint of it holds `part` and is not complete; returns its folder.

    The run is held still while it is looked at, so that the moment is certain: where it had gone on, the next
    checkpoint is waited for.
    """
    until(lambda: supervisor.status(run).phase == "training" and last_checkpoint(run))
    pid = supervisor.status(run).pid
    seen = set(run.checkpoints.glob("checkpoint-*"))

    def killed() -> Path | None:
        for folder in set(run.checkpoints.glob("checkpoint-*")) - seen:
            if not (folder / part).exists():
                continue
            os.killpg(pid, signal.SIGSTOP)
            if not (folder / "trainer_state.json").exists():
                for one in others:
                    os.kill(one, signal.SIGKILL)
                os.killpg(pid, signal.SIGKILL)
                return folder
            os.killpg(pid, signal.SIGCONT)
            seen.add(folder)
        return None

    return until(killed, pause=0.002)


def until(condition, seconds=300, pause=0.1):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError("it did not happen in time")


def ended(run):
    return until(lambda: not (status := supervisor.status(run)).is_active and status)


def steps_of(run) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in run.checkpoints.glob("checkpoint-*")]


def test_trainer_and_app_killed_during_a_checkpoint_lose_nothing_that_was_whole(rows_file, workspace, tmp_path):
    config = build_config(
        {
            "data": {"source": str(rows_file)},
            # Full, because its checkpoints are the largest: 35 MB of the starter.
            "method": {"name": "full"},
            "optimisation": {"max_steps": STEPS, "batch_size": 4, "evaluations_per_epoch": 1, "early_stopping": 0},
            "evaluation": {"after_training": False},
            "launcher": {"threads": 1},
        }
    )
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    starter = subprocess.Popen(
        [sys.executable, "-m", "ftlab", "train", str(tmp_path / "run.yaml"), "--workspace", str(workspace.root)],
        env=offline_environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = until(lambda: next(iter(workspace.runs()), None))

    # The trainer and whoever started it, while the weights of the second checkpoint or a later one are written.
    cut = kill_while_it_writes(run, "config.json", [starter.pid])
    starter.wait()
    status = ended(run)
    assert status.state == "failed"
    assert "memory" in status.error["why"]
    assert status.error["try"]
    until(lambda: not processes_in_session(status.pid))
    whole = last_checkpoint(run)
    assert whole.path != cut
    assert whole.step % EVERY == 0 and whole.step < int(cut.name.rpartition("-")[2])
    with run.metrics_file.open("a") as file:
        file.write('{"step": 99, "lo')
    listed = run_cli("runs", "list", "--json", "--workspace", str(workspace.root))
    assert [one["state"] for one in last_json(listed.stdout)["runs"]] == ["failed"], listed.stderr

    # Resumed by somebody else, and killed alone while the optimizer is written.
    assert supervisor.resume(run, workspace) == whole.step
    cut = kill_while_it_writes(run, "optimizer.pt", [])
    status = ended(run)
    assert status.state == "failed"
    assert "killed from outside (SIGKILL) at step" in status.error["what"]
    assert last_checkpoint(run).path != cut

    supervisor.resume(run, workspace)
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    assert status.step == STEPS
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    validated = [row["step"] for row in rows if "eval_loss" in row]
    assert validated == list(range(0, STEPS + 1, EVERY))
    # Kept are the best and the last; the result is the best, and without what only training needs.
    best = min((row for row in rows if row.get("eval_loss") and row["step"]), key=lambda row: row["eval_loss"])["step"]
    assert STEPS in steps_of(run) and best in steps_of(run)
    assert len(steps_of(run)) <= 2
    kept = {path.suffix for path in run.model.iterdir()}
    assert ".safetensors" in kept and not kept & {".pt", ".pth", ".bin"}
    until(lambda: not processes_in_session(status.pid))
