"""status.json: what a run (or an evaluation) is doing, written by its process and read by everybody else."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ftlab.errors import FtlabError, shorten
from ftlab.files import DamagedFile, read_json, write_json
from ftlab.processes import mark_of

ACTIVE_STATES = ("queued", "running", "stopping")
# Written by the process of a run. Whoever reads finds `damaged` too, where the file cannot be read.
STATES = (*ACTIVE_STATES, "stopped", "completed", "failed")
HEARTBEAT_SECONDS = 2.0


class Stopped(Exception):
    """Somebody asked for an end before the work was done."""


class RunGone(FtlabError):
    """The folder of the run was deleted while it was at work."""

    def __init__(self, name: str):
        super().__init__(
            f"The folder of the run {name} was deleted or moved while it was at work, so the work has ended"
        )


@dataclass
class RunStatus:
    """Times are unix seconds. `step` of `total_steps` counts optimiser steps and stays when training has ended; `done`
    of `total` counts what any other phase goes through (rows of an evaluation, requests to a judge), else 0 of 0."""

    state: str = "queued"
    phase: str = "waiting to start"
    pid: int | None = None
    pid_started: str | float | None = None  # see processes.mark_of
    heartbeat: float | None = None
    step: int = 0
    total_steps: int = 0
    done: int = 0
    total: int = 0
    epoch: float = 0.0
    eta_seconds: float | None = None
    tokens_per_second: float | None = None
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    error: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    trained_parameters: int | None = None
    total_parameters: int | None = None
    peak_bytes: int | None = None  # the most memory that the process has held: of the GPU, else RAM

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def counted(self) -> tuple[str, int, int] | None:
        """What is counted now, how many are done, and of how many: rows in a phase that has some, else steps."""
        if self.total:
            return "row", self.done, self.total
        return ("step", self.step, self.total_steps) if self.total_steps else None

    @property
    def seconds(self) -> float | None:
        """How long it has worked, waiting not counted."""
        if self.started is None:
            return None
        return (self.finished or time.time()) - self.started


def read_status(path: Path) -> RunStatus:
    """The status in `path`. Raises FileNotFoundError when there is none, DamagedFile when it cannot be read."""
    values = read_json(path)
    if values is None:
        raise FileNotFoundError(path)
    if values["state"] not in STATES:
        raise DamagedFile(path, f"no run is {shorten(values['state'], 40)!r}")
    known = {item.name: values[item.name] for item in fields(RunStatus) if item.name in values}
    for name, value in known.items():
        if not isinstance(value, _TYPES[name]) or (isinstance(value, float) and not _plausible(name, value)):
            raise DamagedFile(path, f"{name} cannot be {shorten(value, 40)!r}")
    return RunStatus(**known)


def _plausible(name: str, value: float) -> bool:
    """No calendar goes on after the year 9999."""
    return name not in _TIMES or 0 <= value < 253e9


_TIMES = ("pid_started", "heartbeat", "created", "started", "finished")
_OF = {"str": (str,), "int": (int,), "float": (int, float), "None": (type(None),)}
_OF |= {"dict[str, Any]": (dict,), "list[str]": (list,)}
_TYPES = {
    item.name: tuple(kind for part in str(item.type).split(" | ") for kind in _OF[part]) for item in fields(RunStatus)
}


def damaged(error: DamagedFile) -> RunStatus:
    """What is shown of a run whose status cannot be read."""
    return RunStatus(state="damaged", phase="", error=error.as_dict() | {"kind": "damaged"})


def write_status(path: Path, status: RunStatus) -> None:
    write_json(path, asdict(status))


class StatusWriter:
    """Keeps status.json of this process up to date, with a heartbeat from a thread of its own.

    The heartbeat tells a process that works on one long step from one that hangs without its interpreter.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._ended = threading.Event()
        # Of the run it is about: in its folder, or in the one above that of an evaluation or a launcher.
        places = (path.with_name("config.yaml"), path.parent.with_name("config.yaml"))
        self._run = next((file for file in places if file.exists()), None)
        try:
            self._status = read_status(path)
        except (FileNotFoundError, DamagedFile):
            self._status = RunStatus(created=time.time())
        self._status.pid = os.getpid()
        self._status.pid_started = mark_of(os.getpid())
        self.update()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    @property
    def status(self) -> RunStatus:
        return self._status

    @property
    def is_gone(self) -> bool:
        """Whether the run was deleted."""
        return self._run is not None and not self._run.exists()

    def check_there(self) -> None:
        """Raise RunGone when the run was deleted: whatever is written then would make half a folder of it again."""
        if self._run is not None and self.is_gone:
            raise RunGone(self._run.parent.name)

    def update(self, **changes: Any) -> None:
        """Write these `changes` and a heartbeat. Raises RunGone."""
        with self._lock:
            self.check_there()
            for name, value in changes.items():
                setattr(self._status, name, value)
            self._status.heartbeat = time.time()
            write_status(self._path, self._status)

    def warn(self, message: str) -> None:
        if message not in self._status.warnings:
            self.update(warnings=[*self._status.warnings, message])

    def close(self) -> None:
        """End the heartbeat."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                self.update()
            except OSError:
                # A full disk must not end a heartbeat that may work again a moment later.
                continue
            except RunGone:
                return  # the thread that works finds out by itself
