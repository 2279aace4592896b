"""Checks in a separate process: the app stays responsive, the page can be closed, and checks can be stopped.

Each check has a folder named after the data and the request, so that nothing is checked twice:

    request.json    what to check: the data, base, max_length, prompts
    status.json     state (running, done, stopped, failed ...), phase, done, total, pid, heartbeat, error
    report.json     the report, see README.md
    stop            exists once a stop was requested
    check.log       the output of the process, which is `python -m ftlab data inspect --job FOLDER SOURCE`
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.config import STARTER, DataConfig, OptimisationConfig
from ftlab.core import earlier
from ftlab.core import jobs as core_jobs
from ftlab.core.files import digest, locked, read_json, write_json, write_text
from ftlab.core.run_directory import WORK_LOCK
from ftlab.core.workspace import Workspace
from ftlab.data.checks.run import check
from ftlab.data.inspection import files_of
from ftlab.data.load import find_source, named_in, recall
from ftlab.errors import FtlabError, InputError

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

    @property
    def share(self) -> float | None:
        """The completed share of the whole check, 0 to 1, from typical phase times. None in short phases."""
        if self.phase not in _PHASE_SECONDS:
            return None
        phases = list(_PHASE_SECONDS)
        before = sum(_PHASE_SECONDS[name] for name in phases[: phases.index(self.phase)])
        within = self.done / self.total if self.total > 1 else 0
        return (before + within * _PHASE_SECONDS[self.phase]) / sum(_PHASE_SECONDS.values())


_WORDS = core_jobs.Words(
    "this check",
    ended="The process of the checks ended before they were done",
    failed="The checks failed inside ftlab",
    again="check again; if it ends again, memory may be short: close other programs first",
    idle="No check is running.",
    asked="Stopping. Findings so far are kept.",
)


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
        return core_jobs.Job(*files, (self.folder,), self.stop_file, _WORDS)

    @cached_property
    def request(self) -> Request:
        return Request.from_dict(read_json(self.folder / "request.json"))

    def report(self) -> dict[str, Any] | None:
        """The report (see README.md). None if there is none yet."""
        return earlier.check_report(read_json(self.folder / "report.json"))


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
    """The status, corrected if the process is gone."""
    gone = FtlabError("This check is gone", try_="check again")  # pruned in the meantime, or damaged
    return core_jobs.followed(job.process, Status) or Status(state="failed", phase="", error=gone.as_dict())


def stop(job: Job) -> core_jobs.StopResult:
    """Ask the check to stop; on the second call, kill its process."""
    return core_jobs.stop(job.process, status(job))


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
    return digest(value, sort_keys=True, default=str)


def _prune(workspace: Workspace) -> None:
    """Remove all folders but the newest KEPT and those of running checks."""
    old: Iterable[Job] = jobs(workspace)[KEPT:]
    for job in old:
        if not status(job).is_active:
            shutil.rmtree(job.folder, ignore_errors=True)


def work(folder: Path, load_tokenizer: Callable[[str], Any], context_of: Callable[[str], int | None]) -> int:
    """Run the check in `folder` in this process and write the outcome to its status. Returns the exit code.

    `context_of` gives the context length of a base in tokens.
    """
    job = Job(folder)

    def checked(writer: core_jobs.Writer[Status]) -> str:
        writer.tell("loading the tokenizer", 0, 0)
        request = job.request
        workspace = Workspace(Path(read_json(folder / "request.json")["workspace"]))
        with core_jobs.ended_by(job.stop_file.exists, core_jobs.Stopped):
            tokenizer, context = load_tokenizer(request.base), context_of(request.base)
        report = check(
            request.data,
            tokenizer=tokenizer,
            base=request.base,
            context=context,
            max_length=request.max_length,
            prompts=request.prompts or None,
            workspace=workspace,
            progress=writer.tell,
            should_stop=job.stop_file.exists,
        )
        # Compact: indented, every row number would take a line.
        write_text(folder / "report.json", json.dumps(report.as_dict(), ensure_ascii=False, default=str))
        return "stopped" if report.stopped else "done"

    return core_jobs.run(job.process, lambda: core_jobs.Writer(job.status_file, Status), checked)
