"""status.json: the progress of a run or an evaluation, written by its process and read by everything else."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ftlab.core import jobs
from ftlab.core.files import DamagedFile
from ftlab.core.jobs import Status, write_status
from ftlab.errors import FtlabError

HEARTBEAT_SECONDS = 2.0


class Stopped(Exception):
    """The work was asked to stop before it was done."""


class RunGone(FtlabError):
    """The folder of the run was deleted while it was running."""

    def __init__(self, name: str):
        super().__init__(f"The folder of the run {name} was deleted or moved while it was running, so it ended")


@dataclass
class RunStatus(Status):
    """The progress of a run. `step` of `total_steps` counts optimizer steps and stays when training has ended; `done`
    of `total` counts the items of any other phase (rows of an evaluation, requests to a judge), else 0 of 0."""

    # Readers also see `damaged`, when the file cannot be read.
    STATES: ClassVar[tuple[str, ...]] = ("queued", "running", "stopping", "stopped", "completed", "failed")

    state: str = "queued"
    phase: str = "waiting to start"
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    tokens_per_second: float | None = None
    task: str = ""  # what an evaluation started on its own measures (see supervisor); empty in older files
    warnings: list[str] = field(default_factory=list)
    trained_parameters: int | None = None
    total_parameters: int | None = None
    peak_bytes: int | None = None  # peak memory of the process: of the GPU, else RAM

    @property
    def counted(self) -> tuple[str, int, int] | None:
        """(what is counted, done, total): rows in a phase that counts them, else steps."""
        if self.total:
            return "row", self.done, self.total
        return ("step", self.step, self.total_steps) if self.total_steps else None

    @property
    def seconds(self) -> float | None:
        """The seconds of work, without the wait in the queue."""
        if self.started is None:
            return None
        return (self.finished or time.time()) - self.started


def read_status(path: Path) -> RunStatus:
    """The status in `path`. Raises FileNotFoundError when there is none, DamagedFile when it cannot be read."""
    return jobs.read_status(path, RunStatus)


def damaged(error: DamagedFile) -> RunStatus:
    """The status shown for a run whose file cannot be read."""
    return RunStatus(state="damaged", phase="", error=error.as_dict() | {"kind": "damaged"})


class StatusWriter:
    """Keeps status.json of this process up to date, with a heartbeat from a thread of its own.

    The heartbeat distinguishes a process in one long step from one whose interpreter hangs.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._ended = threading.Event()
        # The configuration is in the folder of the run, or, for an evaluation or a launcher, in the folder above.
        places = (path.with_name("config.yaml"), path.parent.with_name("config.yaml"))
        self._run = next((file for file in places if file.exists()), None)
        try:
            self._status = read_status(path)
        except (FileNotFoundError, DamagedFile):
            self._status = RunStatus(created=time.time())
        self._status.sign()
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
        """Raise RunGone if the run was deleted: writing now would bring back half of its folder."""
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
                # A full disk must not end the heartbeat: it may work again a moment later.
                continue
            except RunGone:
                return  # the working thread notices by itself
