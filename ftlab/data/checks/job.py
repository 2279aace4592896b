"""Checks in a separate process: the app stays responsive, the page can be closed, and checks can be stopped.

Each check has a folder named after the data and the request, so that nothing is checked twice:

    request.json    what to check: the data, base, max_length, prompts
    status.json     state (running, done, stopped, failed), phase, done, total, pid, heartbeat, error {what, why, try}
    report.json     the report, see README.md
    stop            exists once a stop was requested
    check.log       the output of the process
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.config import STARTER, DataConfig
from ftlab.core.files import last_line, locked, write_json
from ftlab.core.jobs import StopOutcome, StopResult, begin, environment, settled
from ftlab.core.jobs import start as start_process
from ftlab.core.jobs import stop as stop_process
from ftlab.core.workspace import Workspace
from ftlab.data.checks.job_files import Job, Request, Status, read_status
from ftlab.data.inspection import files_of
from ftlab.data.load import find_source, recall, said_in
from ftlab.errors import ErrorJson, FtlabError

KEPT = 20  # folders


def job_for(request: Request, workspace: Workspace) -> Job:
    """The job of exactly this request, whether it has run or not. Raises InputError if the data does not exist."""
    asked = [request.base, request.max_length, request.prompts]
    return Job(workspace.checks_folder / f"{_data_key(request.data, workspace)}-{_digest(asked)[:8]}")


def find(request: Request, workspace: Workspace) -> Job | None:
    """The most informative check of this data: a running one, else the one requested, else the newest report for
    another base, length or prompts. None if the data was never checked in its current state."""
    exact = job_for(request, workspace)
    same_data = exact.id.split("-")[0]
    known = [job for job in jobs(workspace) if job.id.startswith(f"{same_data}-")]
    at_work = next((job for job in known if status(job).is_active), None)
    if at_work is not None or exact in known:
        return at_work or exact
    return next((job for job in known if status(job).state in ("done", "stopped")), None)


def jobs(workspace: Workspace) -> list[Job]:
    """All stored checks, the newest first."""
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
        begin(job.process, Status(created=time.time()))
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

    return settled(job.process, lambda: read_status(job), explain)


def stop(job: Job) -> StopResult:
    """Ask the check to stop; on the second call, kill its process."""
    outcome = stop_process(job.process, status(job))
    messages: dict[StopOutcome, str] = {
        "idle": "No check is running.",
        "asked": "Stopping. Findings so far are kept.",
        "killed": "Stopped at once.",
        "ended": "It has already ended.",
        "unproven": "Not killed: no process here can be identified as this check.",
    }
    return StopResult(outcome, messages[outcome])


def _start_process(job: Job) -> None:
    # The command line is for people who read the process list; the request itself is in the folder.
    words = ["ftlab", "data", "inspect", "--job", str(job.folder), "--", job.request.data.source]
    start_process(job.process, [sys.executable, "-m", *words], _environment(job.request))


def _environment(request: Request) -> dict[str, str]:
    local_base = request.base == STARTER or Path(request.base).expanduser().exists()
    source = request.data.source.strip()
    offline = local_base and (source.startswith("version:") or find_source(source)[0] != "hub")
    # One core; the app keeps the rest.
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return environment({**one_core, "TOKENIZERS_PARALLELISM": "false"}, online=not offline)


def _data_key(data: DataConfig, workspace: Workspace) -> str:
    """A key that is equal for equal rows read the same way: split and training settings do not change it."""
    read = data.model_dump(include={"source", "subset", "split", "columns", "prompt_template", "system_prompt"})
    read |= named.as_dict() if (named := recall(data, workspace)) and said_in(data) is None else {}
    return _digest([__version__, read, files_of(data.source, workspace)])[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _prune(workspace: Workspace) -> None:
    """Remove all folders but the newest KEPT and those of running checks."""
    old: Iterable[Job] = jobs(workspace)[KEPT:]
    for job in old:
        if not status(job).is_active:
            shutil.rmtree(job.folder, ignore_errors=True)
