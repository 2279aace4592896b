"""Checks in a separate process: the app stays responsive, the page can be closed, and checks can be stopped.

Each check has a folder named after the data and the request, so that nothing is checked twice:

    request.json    what to check: the data, base, max_length, prompts
    status.json     state (running, done, stopped, failed), phase, done, total, pid, heartbeat, error {what, why, try}
    report.json     the report, see README.md
    stop            exists once a stop was requested
    check.log       the output of the process, which is `python -m ftlab data inspect --job FOLDER SOURCE`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.config import STARTER, DataConfig, OptimisationConfig
from ftlab.core import jobs as core_jobs
from ftlab.core.files import DamagedFile, last_line, locked, read_json, write_json, write_text
from ftlab.core.processes import hold_own, let_go
from ftlab.core.run_directory import WORK_LOCK
from ftlab.core.workspace import Workspace
from ftlab.data.checks.run import check
from ftlab.data.inspection import files_of
from ftlab.data.load import find_source, named_in, recall
from ftlab.errors import ErrorJson, FtlabError, InputError, shorten

_SHORTEST = 16  # tokens
# Seconds per phase for 100,000 rows, and for loading (measured). Other phases take no time.
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
class Status(core_jobs.Status):
    """The progress of a check; `done` of `total` counts rows, or whatever the phase iterates over."""

    state: str = "running"

    @property
    def share(self) -> float | None:
        """The completed share of the whole check, 0 to 1, from typical phase times. None in short phases."""
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
    def process(self) -> core_jobs.Job:
        files = (self.status_file, self.folder / WORK_LOCK, self.folder / "check.log")
        return core_jobs.Job(*files, (self.folder,), self.stop_file)

    @cached_property
    def request(self) -> Request:
        return Request.from_dict(read_json(self.folder / "request.json"))

    def report(self) -> dict[str, Any] | None:
        """The report (see README.md). None if there is none yet."""
        return read_json(self.folder / "report.json")


def read_status(job: Job) -> Status:
    try:
        return core_jobs.read_status(job.status_file, Status)
    except (FileNotFoundError, DamagedFile):  # pruned in the meantime, or damaged
        return Status(state="failed", phase="", error=FtlabError("This check is gone", try_="check again").as_dict())


def write_status(job: Job, current: Status) -> None:
    current.heartbeat = time.time()
    core_jobs.write_status(job.status_file, current)


KEPT = 20  # finished jobs


def job_for(request: Request, workspace: Workspace) -> Job:
    """The job for exactly this request, whether or not it has run. Raises InputError if the data does not exist."""
    asked = [request.base, request.max_length, request.prompts]
    return Job(workspace.checks_folder / f"{_data_key(request.data, workspace)}-{_digest(asked)[:8]}")


def find(request: Request, workspace: Workspace) -> Job | None:
    """The most informative check of this data: a running one, else the requested one, else the newest report for
    another base, length or prompts. None if the data was never checked in its current state."""
    exact = job_for(request, workspace)
    same_data = exact.id.split("-")[0]
    known = [job for job in jobs(workspace) if job.id.startswith(f"{same_data}-")]
    at_work = next((job for job in known if status(job).is_active), None)
    if at_work is not None or exact in known:
        return at_work or exact
    return next((job for job in known if status(job).state in ("done", "stopped")), None)


def jobs(workspace: Workspace) -> list[Job]:
    """All stored checks, newest first."""
    dated = []
    for file in workspace.checks_folder.glob("*/status.json"):
        with contextlib.suppress(FileNotFoundError):
            dated.append((file.stat().st_mtime, file.parent))
    return [Job(folder) for _, folder in sorted(dated, reverse=True)]


def start(request: Request, workspace: Workspace, *, again: bool = False) -> Job:
    """Start the check unless it is running or done; `again` repeats a finished one.

    Raises InputError if the data does not exist.
    """
    job = job_for(request, workspace)
    with locked(workspace.checks_folder / "start.lock"):
        if job.status_file.exists():
            before = status(job)
            if before.is_active or (before.state == "done" and not again):
                return job
        (job.folder / "report.json").unlink(missing_ok=True)
        write_json(job.folder / "request.json", request.as_dict() | {"workspace": str(workspace.root)})
        core_jobs.begin(job.process, Status(created=time.time()))
        _start_process(job)
    _prune(workspace)
    return job


def status(job: Job) -> Status:
    """The status, corrected if the process is gone: failed, or stopped if a stop was requested."""

    def explain(current: Status, code: int | None) -> ErrorJson:
        where = f"during: {current.phase}" if current.phase else "before they began"
        last = last_line(job.process.log_file)
        return FtlabError(
            "The process of the checks ended before they were done",
            why=f"It ended {where}.{f' The last line of its log: {last}' if last else ''}",
            try_="check again; if it ends again, memory may be short: close other programs first",
        ).as_dict()

    return core_jobs.settled(job.process, lambda: read_status(job), explain)


def stop(job: Job) -> core_jobs.StopResult:
    """Ask the check to stop; on the second call, kill its process."""
    outcome = core_jobs.stop(job.process, status(job))
    messages: dict[core_jobs.StopOutcome, str] = {
        "idle": "No check is running.",
        "asked": "Stopping. Findings so far are kept.",
        "killed": "Stopped at once.",
        "ended": "It has already ended.",
        "unproven": "Not killed: no process here can be identified as this check.",
    }
    return core_jobs.StopResult(outcome, messages[outcome])


def _start_process(job: Job) -> None:
    # The command line is for people who read the process list; the request itself is in the folder.
    words = ["ftlab", "data", "inspect", "--job", str(job.folder), "--", job.request.data.source]
    core_jobs.start(job.process, [sys.executable, "-m", *words], _environment(job.request))


def _environment(request: Request) -> dict[str, str]:
    local_base = request.base == STARTER or Path(request.base).expanduser().exists()
    source = request.data.source.strip()
    offline = local_base and (source.startswith("version:") or find_source(source)[0] != "hub")
    # One core; the app keeps the rest.
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return core_jobs.environment({**one_core, "TOKENIZERS_PARALLELISM": "false"}, online=not offline)


def _data_key(data: DataConfig, workspace: Workspace) -> str:
    """A key shared by equal rows that are read the same way. Split and training settings do not change it."""
    read = data.model_dump(
        include={"source", "subset", "split", "encoding", "columns", "prompt_template", "system_prompt"}
    )
    read |= dict(named.as_dict()) if (named := recall(data, workspace)) and named_in(data) is None else {}
    return _digest([__version__, read, files_of(data.source, workspace)])[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _prune(workspace: Workspace) -> None:
    """Remove all folders but the newest KEPT and those of running checks."""
    old: Iterable[Job] = jobs(workspace)[KEPT:]
    for job in old:
        if not status(job).is_active:
            shutil.rmtree(job.folder, ignore_errors=True)


_WRITE_SECONDS = 0.4


class _Stopped(Exception):
    """A stop was requested before anything was checked."""


def work(folder: Path, load_tokenizer: Callable[[str], Any], context_of: Callable[[str], int | None]) -> int:
    """Run the check in `folder` in this process and write the outcome to its status. Returns the exit code.

    `context_of` gives the context length of a base in tokens.
    """
    job = Job(folder)
    hold_own(job.process.lock)
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(19 - os.nice(0))
    current = read_status(job)
    current.sign()
    written = 0.0

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal written
        current.phase, current.done, current.total = phase, done, total
        if time.monotonic() - written > _WRITE_SECONDS:
            written = time.monotonic()
            write_status(job, current)

    try:
        tell("loading the tokenizer", 0, 0)
        request = job.request
        workspace = Workspace(Path(read_json(folder / "request.json")["workspace"]))
        with core_jobs.ended_by(job.stop_file.exists, _Stopped):
            tokenizer, context = load_tokenizer(request.base), context_of(request.base)
        report = check(
            request.data,
            tokenizer=tokenizer,
            base=request.base,
            context=context,
            max_length=request.max_length,
            prompts=request.prompts or None,
            workspace=workspace,
            progress=tell,
            should_stop=job.stop_file.exists,
        )
        # Compact: indented, every row number would take a line.
        write_text(folder / "report.json", json.dumps(report.as_dict(), ensure_ascii=False, default=str))
        current.state = "stopped" if report.stopped else "done"
    except _Stopped:
        current.state = "stopped"
    except BaseException as error:
        traceback.print_exc()
        current.state, current.error = "failed", _explained(error, job)
    current.phase, current.done, current.total, current.finished = "", 0, 0, time.time()
    write_status(job, current)
    let_go()
    return 0 if current.state != "failed" else 1


def _explained(error: BaseException, job: Job) -> ErrorJson:
    if isinstance(error, FtlabError):
        return error.as_dict()
    if isinstance(error, MemoryError):
        what = FtlabError("There was not enough memory for the checks", try_="close other programs, then check again")
    else:
        what = FtlabError(
            "The checks failed inside ftlab",
            why=f"{type(error).__name__}: {shorten(error)}",
            try_=f"check again; if it keeps failing, file an issue with {job.process.log_file}",
        )
    return what.as_dict()
