"""Shared by all tiers: one real quickstart run per session, and a process environment without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftlab.training import supervisor
from ftlab.workspace import RunDirectory, Workspace

ROOT = Path(__file__).resolve().parents[1]
NO_NETWORK = ROOT / "tests" / "no_network"


@dataclass(frozen=True)
class Quickstart:
    """What `python -m ftlab quickstart --json` left behind."""

    workspace: Workspace
    run: RunDirectory
    result: dict[str, Any]
    output: str
    progress: str
    network_attempts: list[str]


def offline_environment(attempts: Path | None = None) -> dict[str, str]:
    """The environment of a process in which every connection beyond this machine fails and is written to `attempts`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FTLAB", "HF_", "GRADIO"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(NO_NETWORK), str(ROOT)])
    if attempts is not None:
        environment["FTLAB_TEST_NETWORK_ATTEMPTS"] = str(attempts)
    return environment


def run_cli(*arguments: str, timeout: float = 300, cwd: Path | None = None, **environment: str) -> Any:
    """`python -m ftlab ...` as a person calls it, without a network."""
    return subprocess.run(
        [sys.executable, "-m", "ftlab", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or ROOT,
        env=offline_environment() | environment,
        stdin=subprocess.DEVNULL,
    )


def last_json(output: str) -> dict[str, Any]:
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The main job, done once for the whole session."""
    folder = tmp_path_factory.mktemp("quickstart")
    attempts = folder / "network.txt"
    done = subprocess.run(
        [sys.executable, "-m", "ftlab", "quickstart", "--workspace", str(folder / "workspace"), "--json"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=ROOT,
        env=offline_environment(attempts),
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = last_json(done.stdout)
    workspace = Workspace.open(folder / "workspace")
    return Quickstart(
        workspace,
        workspace.run(result["run"]),
        result,
        done.stdout,
        done.stderr,
        attempts.read_text().splitlines() if attempts.exists() else [],
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace; runs that a failed test leaves behind are killed, so that they slow nobody."""
    workspace = Workspace.open(tmp_path / "workspace")
    yield workspace
    end_runs(workspace)


def end_runs(workspace: Workspace) -> None:
    """Kill every run that is still at work in `workspace`."""
    for run in supervisor.active_runs(workspace):
        supervisor.stop(run)
        supervisor.stop(run)


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Sixty small rows of prompt and completion."""
    file = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"What comes after {n}?", "completion": f"After {n} comes {n + 1}."} for n in range(60)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file
