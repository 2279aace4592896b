"""A check on disk: its request, status and folder (see `job.py`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab.config import STARTER, DataConfig, OptimisationConfig
from ftlab.core import jobs
from ftlab.core.files import DamagedFile, read_json
from ftlab.core.run_directory import WORK_LOCK
from ftlab.errors import FtlabError, InputError

_SHORTEST = 16  # tokens
# Seconds per phase for 100,000 rows, and for loading (measured); other phases take no time.
_PHASE_SECONDS = {
    "starting": 2,
    "loading the tokenizer": 6,
    "reading": 5,
    "counting words": 9,
    "conflicting answers": 1,
    "damaged characters": 1,
    "personal data": 1,
    "languages": 14,
    "near duplicates": 5,
    "coverage": 3,
    "tokens": 5,
}


@dataclass(frozen=True)
class Request:
    """What to check, and for which base and length. `max_length` is in tokens."""

    data: DataConfig
    base: str = STARTER
    max_length: int = OptimisationConfig().max_length
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_length < _SHORTEST:
            allowed = f"{_SHORTEST} tokens or more"
            raise InputError("max_length is too small", given=self.max_length, allowed=allowed)

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.data.model_dump(),
            "base": self.base,
            "max_length": self.max_length,
            "prompts": list(self.prompts),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        data = DataConfig.model_validate(values["data"])
        return cls(data, values["base"], values["max_length"], tuple(values["prompts"]))


@dataclass
class Status(jobs.Status):
    """The progress of a check; `done` of `total` counts rows, or whatever the phase iterates over."""

    state: str = "running"

    @property
    def share(self) -> float | None:
        """The share of the whole check that is done, 0 to 1, by the usual times of its phases; None in short phases."""
        if self.phase not in _PHASE_SECONDS:
            return None
        phases = list(_PHASE_SECONDS)
        before = sum(_PHASE_SECONDS[name] for name in phases[: phases.index(self.phase)])
        within = self.done / self.total if self.total > 1 else 0
        return (before + within * _PHASE_SECONDS[self.phase]) / sum(_PHASE_SECONDS.values())


@dataclass(frozen=True)
class Job:
    """One check on disk."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def stop_file(self) -> Path:
        return self.folder / "stop"

    @property
    def process(self) -> jobs.Job:
        files = (self.status_file, self.folder / WORK_LOCK, self.folder / "check.log")
        return jobs.Job(*files, (self.folder,), self.stop_file)

    @cached_property
    def request(self) -> Request:
        return Request.from_dict(read_json(self.folder / "request.json"))

    def report(self) -> dict[str, Any] | None:
        """The report (see README.md); None if there is none yet."""
        return read_json(self.folder / "report.json")


def read_status(job: Job) -> Status:
    try:
        return jobs.read_status(job.status_file, Status)
    except (FileNotFoundError, DamagedFile):  # pruned in the meantime, or damaged
        return Status(state="failed", phase="", error=FtlabError("This check is gone", try_="check again").as_dict())


def write_status(job: Job, current: Status) -> None:
    current.heartbeat = time.time()
    jobs.write_status(job.status_file, current)
