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
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import jobs
from ftlab.endpoint import CONTESTANT
from ftlab.errors import FtlabError, shorten
from ftlab.files import DamagedFile, last_line, locked
from ftlab.jobs import Job
from ftlab.processes import hold_own, let_go
from ftlab.quiet import quieten
from ftlab.run_directory import WORK_LOCK
from ftlab.workspace import Workspace

_NICENESS = 10
_TURN_SECONDS = 0.5


@dataclass
class Status(jobs.Status):
    """How far the answers are."""

    phase: str = "loading the libraries"


def _job(workspace: Workspace, test_id: str) -> Job:
    folder = workspace.answers_folder(test_id)
    files = (folder / "status.json", folder / WORK_LOCK, folder / "answers.log")
    return Job(*files, (test_id, workspace.root), folder / "stop")


def start(workspace: Workspace, test_id: str) -> None:
    """Begin to make the answers that are missing, unless that is at work."""
    from ftlab.arena.store import DATABASE_VARIABLE

    job = _job(workspace, test_id)
    with locked(job.status_file.with_name("start.lock")):
        before = status(workspace, test_id)
        if before is not None and before.is_active:
            return
        jobs.begin(job, Status(created=time.time()))
        command = [sys.executable, "-m", "ftlab.arena.answering", "--", test_id, str(workspace.root)]
        keys = [DATABASE_VARIABLE, CONTESTANT.key_variable]
        jobs.start(job, command, jobs.environment({}, online=True, keep=keys))


def status(workspace: Workspace, test_id: str) -> Status | None:
    """The status, set right where the process is gone; None when it was never started."""
    job = _job(workspace, test_id)

    def explain(current: Status, code: int | None) -> dict[str, Any]:
        return FtlabError(
            "The process that made the answers was ended before they were done",
            why=f"The last line of its log: {last_line(job.log_file) or 'it said nothing'}",
            try_="generate again: the answers that are there are kept",
        ).as_dict()

    with contextlib.suppress(FileNotFoundError, DamagedFile):
        return jobs.settled(job, lambda: jobs.read_status(job.status_file, Status), explain)
    return None


def at_work(workspace: Workspace) -> list[tuple[str, Status]]:
    """The blind tests whose answers are being made, by id."""
    tests = [file.parent.name for file in sorted(workspace.arena_folder.glob("*/status.json"))]
    found = [(test_id, status(workspace, test_id)) for test_id in tests]
    return [(test_id, current) for test_id, current in found if current is not None and current.is_active]


def stop(workspace: Workspace, test_id: str) -> str:
    """Ask for an end; asked a second time, kill the process. Returns what happened, in words."""
    current = status(workspace, test_id)
    return {
        "idle": "No answers are being made.",
        "asked": "Stopping: the answers that are there are kept.",
        "killed": "Stopped at once.",
        "ended": "It has ended already.",
        "unproven": "Not stopped at once: no process here proves to be the one that makes these answers.",
    }["idle" if current is None else jobs.stop(_job(workspace, test_id), current)]


def main(arguments: list[str] | None = None) -> int:
    """The process itself: makes the answers and leaves the outcome in status.json."""
    parser = argparse.ArgumentParser(prog="ftlab.arena.answering")
    parser.add_argument("test")
    parser.add_argument("workspace", type=Path)
    given = parser.parse_args(arguments)
    quieten()
    workspace = Workspace.open(given.workspace)
    job = _job(workspace, given.test)
    hold_own(job.lock)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    current = Status(created=time.time())
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        current = jobs.read_status(job.status_file, Status)
    current.sign()

    def keep(**values: Any) -> None:
        for name, value in values.items():
            setattr(current, name, value)
        jobs.write_status(job.status_file, current)

    keep()
    try:
        done = _work(workspace, given.test, lambda: job.is_asked_to_stop, keep)
        keep(state="done" if done else "stopped", finished=time.time())
        return 0
    except BaseException as error:
        traceback.print_exc()
        if not isinstance(error, FtlabError):
            error = FtlabError(
                "The answers could not be made",
                why=f"{type(error).__name__}: {shorten(error, 300)}",
                try_=f"generate again; if it stays, the whole message is in {job.log_file}",
            )
        keep(state="failed", finished=time.time(), error=error.as_dict())
        return 1
    finally:
        let_go()


def _work(workspace: Workspace, test_id: str, should_stop: Callable[[], bool], keep: Any) -> bool:
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
    while not should_stop():
        # One at a time uses the device, runs among them.
        with locked(workspace.device_lock, wait=False) as mine:
            if mine:
                with telling(tell):
                    return generate(open_store(workspace), test_id, progress=tell, should_stop=should_stop)
        tell("waiting for a run that uses the device", 0, 0)
        time.sleep(_TURN_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main())
