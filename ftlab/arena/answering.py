"""Making the answers of a blind test in a process of its own: the page may be closed, and it can be stopped.

A folder for each test, `<workspace>/arena/<test id>/`:

    status.json     state (starting, running, done, stopped, failed), phase, pid, times, error {what, why, try}
    stop            exists once somebody asked for an end
    answers.log     what the process said

How many answers there are stands in the database: each is kept as soon as it is made, so that a second start goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ftlab.endpoint import CONTESTANT
from ftlab.errors import FtlabError, shorten
from ftlab.files import locked, read_cached, write_json, write_text
from ftlab.processes import (
    HUB_VARIABLES,
    child_environment,
    hold_own,
    is_alive,
    kill,
    let_go,
    mark_of,
    package_path,
)
from ftlab.processes import start as start_process
from ftlab.quiet import quieten
from ftlab.run_directory import WORK_LOCK
from ftlab.workspace import Workspace

_NICENESS = 10
_TURN_SECONDS = 0.5
# Processes started by this one: only a parent learns how its child ended.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass
class Status:
    """How far the answers are. Times are unix seconds."""

    state: str = "starting"
    phase: str = "loading the libraries"
    pid: int | None = None
    pid_started: str | float | None = None  # see processes.mark_of
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    error: dict[str, Any] | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ("starting", "running", "stopping")


def start(workspace: Workspace, test_id: str) -> None:
    """Begin to make the answers that are missing, unless that is at work."""
    folder = workspace.answers_folder(test_id)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "start.lock"):
        before = status(workspace, test_id)
        if before is not None and before.is_active:
            return
        (folder / "stop").unlink(missing_ok=True)
        write_json(folder / "status.json", asdict(Status(created=time.time())))
        command = [sys.executable, "-m", "ftlab.arena.answering", "--", test_id, str(workspace.root)]
        with (folder / "answers.log").open("wb") as log:
            environment = _environment()
            _children[folder] = start_process(command, lock=folder / WORK_LOCK, log=log, environment=environment)


def status(workspace: Workspace, test_id: str) -> Status | None:
    """The status, set right where the process is gone; None when it was never started."""
    folder = workspace.answers_folder(test_id)
    current = _read(folder)
    if current is None or not current.is_active:
        return current
    if _alive(folder, current):
        if (folder / "stop").exists():
            current.state = "stopping"
        return current
    # It may have ended between the two looks; only a status read after the death counts.
    current = _read(folder)
    if current is not None and current.is_active:
        stopped = (folder / "stop").exists()
        current.state, current.finished = "stopped" if stopped else "failed", time.time()
        if not stopped:
            current.error = FtlabError(
                "The process that made the answers was ended before they were done",
                why=f"The last line of its log: {_last_line(folder)}",
                try_="generate again: the answers that are there are kept",
            ).as_dict()
        # On a full disk the finding cannot be kept; it is found again by the next look.
        with contextlib.suppress(OSError):
            write_json(folder / "status.json", asdict(current))
    return current


def at_work(workspace: Workspace) -> list[tuple[str, Status]]:
    """The blind tests whose answers are being made, by id."""
    tests = [file.parent.name for file in sorted(workspace.arena_folder.glob("*/status.json"))]
    found = [(test_id, status(workspace, test_id)) for test_id in tests]
    return [(test_id, current) for test_id, current in found if current is not None and current.is_active]


def stop(workspace: Workspace, test_id: str) -> str:
    """Ask for an end; asked a second time, kill the process. Returns what happened, in words."""
    current, folder = status(workspace, test_id), workspace.answers_folder(test_id)
    if current is None or not current.is_active:
        return "No answers are being made."
    if not (folder / "stop").exists():
        write_text(folder / "stop", "")
        return "Stopping: the answers that are there are kept."
    names = [test_id, workspace.root]
    if kill(_children.get(folder), current.pid, current.pid_started, names, lambda: _alive(folder, current)):
        return "Stopped at once."
    return "Not stopped at once: no process here proves to be the one that makes these answers."


def _alive(folder: Path, current: Status) -> bool:
    child = _children.get(folder)
    return is_alive(child, folder / WORK_LOCK, current.pid, current.pid_started, current.created)


def main(arguments: list[str] | None = None) -> int:
    """The process itself: makes the answers and leaves the outcome in status.json."""
    parser = argparse.ArgumentParser(prog="ftlab.arena.answering")
    parser.add_argument("test")
    parser.add_argument("workspace", type=Path)
    given = parser.parse_args(arguments)
    quieten()
    workspace = Workspace.open(given.workspace)
    folder = workspace.answers_folder(given.test)
    hold_own(folder / WORK_LOCK)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    current = _read(folder) or Status(created=time.time())
    current.pid, current.pid_started = os.getpid(), mark_of(os.getpid())

    def keep(**values: Any) -> None:
        for name, value in values.items():
            setattr(current, name, value)
        write_json(folder / "status.json", asdict(current))

    keep()
    try:
        done = _work(workspace, given.test, folder / "stop", keep)
        keep(state="done" if done else "stopped", finished=time.time())
        return 0
    except BaseException as error:
        traceback.print_exc()
        if not isinstance(error, FtlabError):
            error = FtlabError(
                "The answers could not be made",
                why=f"{type(error).__name__}: {shorten(error, 300)}",
                try_=f"generate again; if it stays, the whole message is in {folder / 'answers.log'}",
            )
        keep(state="failed", finished=time.time(), error=error.as_dict())
        return 1
    finally:
        let_go()


def _work(workspace: Workspace, test_id: str, stop_file: Path, keep: Any) -> bool:
    """Whether all answers were made."""
    from ftlab.arena.answers import generate
    from ftlab.arena.store import open_store
    from ftlab.models.bases.get import telling

    last = [""]

    def tell(phase: str, done: int, total: int) -> None:
        # How many there are stands in the database.
        if phase != last[0]:
            last[0] = phase
            keep(phase=phase)

    keep(state="running", started=time.time())
    while not stop_file.exists():
        # One at a time uses the device, runs among them.
        with locked(workspace.device_lock, wait=False) as mine:
            if mine:
                with telling(tell):
                    return generate(open_store(workspace), test_id, progress=tell, should_stop=stop_file.exists)
        tell("waiting for a run that uses the device", 0, 0)
        time.sleep(_TURN_SECONDS)
    return False


def _read(folder: Path) -> Status | None:
    values = read_cached(folder / "status.json")
    known = {item.name for item in fields(Status)}
    return None if values is None else Status(**{name: value for name, value in values.items() if name in known})


def _environment() -> dict[str, str]:
    from ftlab.arena.store import DATABASE_VARIABLE

    quiet = {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    needed = [DATABASE_VARIABLE, CONTESTANT.key_variable, *HUB_VARIABLES]
    return child_environment({"PYTHONPATH": package_path(), "TOKENIZERS_PARALLELISM": "false", **quiet}, keep=needed)


def _last_line(folder: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        lines = (folder / "answers.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return shorten(lines[-1]) if lines else "it said nothing"
    return "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
