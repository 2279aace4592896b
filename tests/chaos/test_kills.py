"""Killed at any moment and resumed, a run ends as if nothing had been; two that resume it at once start it once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from ftlab.config import build_config
from ftlab.core.jobs import write_status
from ftlab.core.processes import is_held
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError
from ftlab.evaluation.request import Request
from ftlab.training import supervisor
from ftlab.training.checkpoints import last_checkpoint
from ftlab.training.status import RunStatus, read_status
from tests.conftest import ROOT, offline_environment, processes_in_session

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="a run is ended from outside by its group"),
]
STEPS = 24
# What a run goes through, by what its status says.
PHASES = {
    "asking the base": lambda phase: phase.startswith("before training"),
    "preparing": lambda phase: phase in ("loading the libraries", "preparing the examples", "loading the base model"),
    "training": lambda phase: phase == "training",
    "saving": lambda phase: phase == "saving the result",
    "verifying": lambda phase: phase == "verifying the result",
    "evaluating": lambda phase: phase == "loading the model" or phase.startswith(("answers", "perplexity")),
}


def configured(rows_file):
    """Dropout, so that the state of the random numbers counts; few rows to evaluate."""
    return build_config(
        {
            "data": {"source": str(rows_file)},
            "method": {"dropout": 0.1},
            "optimisation": {"max_steps": STEPS, "batch_size": 4, "evaluations_per_epoch": 1, "early_stopping": 0},
            "evaluation": {"max_rows": 4, "max_new_tokens": 8, "memorisation": False, "probes": None},
            "launcher": {"device": "cpu", "threads": 1},
        }
    )


@dataclass(frozen=True)
class Outcome:
    """What must not depend on whether a run was killed."""

    curve: list[dict[str, Any]]
    weights: bytes
    answers: list[dict[str, Any]]
    scores: dict[str, Any]
    seconds: dict[str, float] = field(compare=False, default_factory=dict)  # that each phase took


def outcome(run: RunDirectory, seconds: dict[str, float] | None = None) -> Outcome:
    kept = ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate", "tokens")
    curve = [{name: row[name] for name in kept if name in row} for row in run.metrics()]
    comparison = run.comparison()
    assert comparison is not None, supervisor.status(run)
    names = ("perplexity", "exact_match", "rows")
    scores = {side: {name: comparison[side].get(name) for name in names} for side in ("base", "adapted")}
    answers = [{name: value for name, value in row.items() if "seconds" not in name} for row in run.predictions()]
    return Outcome(curve, (run.adapter / "adapter_model.safetensors").read_bytes(), answers, scores, seconds or {})


def undisturbed(config, workspace) -> Outcome:
    """A run that nobody kills, with the time that each of its phases took."""
    run, seconds, last = supervisor.submit(config, workspace), {}, time.monotonic()
    while (status := read_status(run.status_file)).is_active:
        time.sleep(0.01)
        now = time.monotonic()
        for name, belongs in PHASES.items():
            if belongs(status.phase):
                seconds[name] = seconds.get(name, 0.0) + now - last
        last = now
    assert status.state == "completed", status.error
    return outcome(run, seconds)


def kill(run: RunDirectory, phase: str, delay: float, sent: signal.Signals) -> bool:
    """Send a signal to the run `delay` seconds after it came into `phase`; False where it had ended before."""
    deadline = time.monotonic() + 300
    while not PHASES[phase]((status := read_status(run.status_file)).phase):
        if not status.is_active:
            return False
        assert time.monotonic() < deadline, f"it never came to {phase}: {supervisor.status(run)}"
        time.sleep(0.005)
    time.sleep(delay)
    pid = supervisor.status(run).pid
    try:
        os.killpg(pid, sent)
    except ProcessLookupError:
        return False
    while is_held(run.work_lock) or processes_in_session(pid):
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.1)
    return supervisor.status(run).state != "completed"


def survive(run: RunDirectory, workspace, sent: signal.Signals) -> None:
    """What has to hold right after a kill, and the way on."""
    status = supervisor.status(run)
    assert status.state == "failed" and status.error["try"], status
    assert sent.name in status.error["what"], status.error
    with_checkpoint = last_checkpoint(run)
    assert supervisor.resume(run, workspace) == (with_checkpoint.step if with_checkpoint else 0)


@pytest.mark.long
def test_a_run_killed_in_three_phases_ends_like_one_that_nobody_killed(rows_file, workspace):
    config = configured(rows_file)
    expected = undisturbed(config, workspace)
    assert set(expected.seconds) == set(PHASES), "each phase was seen"
    draw = random.Random(17)
    run = supervisor.submit(config, workspace)
    for phase, sent in (
        ("training", signal.SIGTERM),
        ("saving", signal.SIGKILL),
        ("evaluating", signal.SIGKILL),
    ):
        assert kill(run, phase, draw.random() * 0.5 * expected.seconds[phase], sent), phase
        survive(run, workspace, sent)
    assert supervisor.wait(run).state == "completed", supervisor.status(run).error
    assert outcome(run) == expected

    # The same run, evaluated by two at once.
    said = together(lambda: supervisor.submit_evaluation(run, workspace, Request(max_rows=1)))
    assert sorted(map(type, said), key=str) == [type(None), FtlabError], said
    for _ in range(2):
        supervisor.stop_evaluation(run)


@pytest.mark.long
@pytest.mark.timeout(24 * 3600)
def test_kills_at_random_moments_in_every_phase(rows_file, workspace, rounds, chaos_seed, capsys):
    config = configured(rows_file)
    expected = undisturbed(config, workspace)
    draw, phases = random.Random(chaos_seed), list(PHASES)
    run, killed, tried = supervisor.submit(config, workspace), 0, 0
    done: dict[str, int] = {}
    while killed < rounds:
        tried += 1
        phase, sent = phases[tried % len(phases)], draw.choice((signal.SIGKILL, signal.SIGTERM))
        if kill(run, phase, draw.random() * expected.seconds[phase], sent):
            survive(run, workspace, sent)
            killed += 1
            done[phase] = done.get(phase, 0) + 1
            say(capsys, f"killed in {phase} with {sent.name}, resumed")
            if tried % len(phases):
                continue
        # It came to its end before the signal, or has been killed in every phase: compared, and another one begun.
        assert supervisor.wait(run).state == "completed", supervisor.status(run).error
        assert outcome(run) == expected
        supervisor.delete(run, workspace)
        run = supervisor.submit(config, workspace)
    assert supervisor.wait(run).state == "completed", supervisor.status(run).error
    assert outcome(run) == expected
    say(capsys, f"kills survived {killed} of {killed}, by phase {done}")


def say(capsys, text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}", flush=True)


def resumable(rows_file, workspace) -> RunDirectory:
    """A run that failed before its first checkpoint."""
    run, _ = supervisor.create(configured(rows_file), workspace)
    write_status(run.status_file, RunStatus(state="failed", created=time.time(), finished=time.time()))
    return run


def workers_of(run: RunDirectory) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "ftlab.training.worker" in words and str(run.path) in words:
            found.append(process)
    return found


def together(act, times: int = 2) -> list[BaseException | None]:
    """What came of doing `act` in several threads at the same moment."""
    gate, said = threading.Barrier(times), []

    def do() -> None:
        gate.wait()
        try:
            act()
            said.append(None)
        except FtlabError as error:
            said.append(error)

    threads = [threading.Thread(target=do) for _ in range(times)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return said


def ended(run: RunDirectory) -> None:
    """Kill the run, as a person does who presses twice."""
    while not supervisor.status(run).pid and supervisor.status(run).is_active:
        time.sleep(0.02)
    supervisor.stop(run)
    assert "Killed" in supervisor.stop(run).message
    assert workers_of(run) == []


def two_command_lines(rows_file, workspace) -> None:
    run = resumable(rows_file, workspace)
    command = [sys.executable, "-m", "ftlab", "runs", "resume", run.id, "--workspace", str(workspace.root)]
    started = [
        subprocess.Popen(
            command, env=offline_environment(), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120) for one in started]
    assert sorted(one.returncode for one in started) == [0, 1], said
    assert any("is still running" in errors for _, errors in said), said
    assert len(workers_of(run)) == 1
    ended(run)


def test_two_command_lines_that_resume_at_once_start_one_worker(rows_file, workspace):
    two_command_lines(rows_file, workspace)


def test_threads_of_one_app_that_resume_at_once_start_one_worker(rows_file, workspace):
    run = resumable(rows_file, workspace)
    said = together(lambda: supervisor.resume(run, workspace), times=4)
    assert said.count(None) == 1 and all("is still running" in str(one) for one in said if one is not None), said
    assert len(workers_of(run)) == 1
    ended(run)


@pytest.mark.long
@pytest.mark.timeout(24 * 3600)
def test_two_command_lines_resume_at_once_again_and_again(rows_file, workspace, rounds, capsys):
    for _ in range(rounds):
        two_command_lines(rows_file, workspace)
    say(capsys, f"two resumes at once: one worker in {rounds} of {rounds}")
