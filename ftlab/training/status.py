"""status.json: the progress of a run or an evaluation, written by its process and read by everything else."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ftlab.core import jobs
from ftlab.core.files import DamagedFile
from ftlab.core.jobs import Status
from ftlab.errors import FtlabError


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
        """(what is counted, done, total): in a phase of answers those of all models, else steps."""
        if self.total:
            return "answer", self.done, self.total
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


class StatusWriter(jobs.Writer[RunStatus]):
    """Keeps the status of a run up to date, and warns once of each thing."""

    def __init__(self, path: Path):
        # The configuration is in the folder of the run, or, for an evaluation or a launcher, in the folder above.
        places = (path.with_name("config.yaml"), path.parent.with_name("config.yaml"))
        self._run = next((file for file in places if file.exists()), None)
        super().__init__(path, RunStatus)

    def check_there(self) -> None:
        """Raise RunGone if the run was deleted."""
        if self._run is not None and not self._run.exists():
            raise RunGone(self._run.parent.name)

    def warn(self, message: str) -> None:
        if message not in self.status.warnings:
            self.update(warnings=[*self.status.warnings, message])


class Pace:
    """The time left of a training, from when its steps and validations ended (seconds of one clock).

    The first steps are left out: they wait for libraries, memory and compilation. The steps before the first validation
    count it as long as the one before training.
    """

    _SLOW, _FEWEST, _LATEST = 3, 5, 50  # steps

    def __init__(self, began: float):
        self._last, self._steps, self._validation = began, 0, 0.0
        self._validating = False
        self._seconds: deque[float] = deque(maxlen=self._LATEST)

    def validated(self, now: float) -> None:
        self._validating = True
        if not self._steps:
            self._validation = now - self._last

    def step_begins(self, now: float) -> None:
        if self._validating and self._steps:
            self._validation = now - self._last  # with the checkpoint and the answers beside it
        if self._validating or not self._steps:
            self._validating, self._last = False, now

    def step_ended(self, now: float) -> None:
        self._steps += 1
        if self._steps > self._SLOW:
            self._seconds.append(now - self._last)
        self._last = now

    def left(self, steps: int, validations: int) -> float | None:
        """Seconds for as many more; None before enough steps were measured."""
        if len(self._seconds) < self._FEWEST:
            return None
        return steps * sum(self._seconds) / len(self._seconds) + validations * self._validation
