"""Checks in a process of their own: the app stays quick, the page may be closed, and they can be stopped.

A folder for each check, named after the data and what they were checked for, so that the same is not done twice:

    request.json    what is checked: the data, base, max_length, prompts
    status.json     state (running, done, stopped, failed), phase, done, total, pid, heartbeat, error {what, why, try}
    report.json     the report, see README.md
    stop            exists once somebody asked for an end
    check.log       what the process said
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
from ftlab.core.jobs import begin, environment, settled
from ftlab.core.jobs import start as start_process
from ftlab.core.jobs import stop as stop_process
from ftlab.core.workspace import Workspace
from ftlab.data.checks.job_files import Job, Request, Status, read_status
from ftlab.data.inspection import files_of
from ftlab.data.load import find_source, recall, said_in
from ftlab.errors import FtlabError

KEPT = 20  # folders


def job_for(request: Request, workspace: Workspace) -> Job:
    """Where exactly this check is kept, whether it was made or not. Raises InputError when there are no such data."""
    asked = [request.base, request.max_length, request.prompts]
    return Job(workspace.checks_folder / f"{_data_key(request.data, workspace)}-{_digest(asked)[:8]}")


def find(request: Request, workspace: Workspace) -> Job | None:
    """The check of these data that there is most to see of: one at work, else the one that was asked for, else the
    newest report for another base, length or prompts. None when these data, as they are now, were never checked."""
    exact = job_for(request, workspace)
    same_data = exact.id.split("-")[0]
    known = [job for job in jobs(workspace) if job.id.startswith(f"{same_data}-")]
    at_work = next((job for job in known if status(job).is_active), None)
    if at_work is not None or exact in known:
        return at_work or exact
    return next((job for job in known if status(job).state in ("done", "stopped")), None)


def jobs(workspace: Workspace) -> list[Job]:
    """All checks that are kept, the newest first."""
    found = []
    for file in workspace.checks_folder.glob("*/status.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append((file.stat().st_mtime, file.parent))
    return [Job(folder) for _, folder in sorted(found, reverse=True)]


def start(request: Request, workspace: Workspace, *, again: bool = False) -> Job:
    """Begin the check, unless it is at work or has been done; `again` does a finished one once more.

    Raises InputError when there are no such data.
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
    """The status, set right where the process is gone: it failed, or was stopped if that was asked for."""

    def explain(current: Status, code: int | None) -> dict[str, Any]:
        where = f"while at work on: {current.phase}" if current.phase else "before they began"
        last = last_line(job.process.log_file)
        return FtlabError(
            "The process of the checks was ended before they were done",
            why=f"It ended {where}.{f' The last line of its log: {last}' if last else ''}",
            try_="check again; if it ends again, memory may be short: close other programs first",
        ).as_dict()

    return settled(job.process, lambda: read_status(job), explain)


def stop(job: Job) -> str:
    """Ask the check to end; asked a second time, kill its process. Returns what happened, in words."""
    return {
        "idle": "No check is running.",
        "asked": "Stopping: what was found so far is kept.",
        "killed": "Stopped at once.",
        "ended": "It has ended already.",
        "unproven": "Not stopped at once: no process here proves to be the one of this check.",
    }[stop_process(job.process, status(job))]


def _start_process(job: Job) -> None:
    # The words of the command are for people who look at the list of processes; the request is in the folder.
    words = ["ftlab", "data", "inspect", "--job", str(job.folder), "--", job.request.data.source]
    start_process(job.process, [sys.executable, "-m", *words], _environment(job.request))


def _environment(request: Request) -> dict[str, str]:
    local_base = request.base == STARTER or Path(request.base).expanduser().exists()
    source = request.data.source.strip()
    offline = local_base and (source.startswith("version:") or find_source(source)[0] != "hub")
    # One core, so that the app keeps the rest.
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return environment({**one, "TOKENIZERS_PARALLELISM": "false"}, online=not offline)


def _data_key(data: DataConfig, workspace: Workspace) -> str:
    """Equal for equal rows read in the same way: the settings of the split and of the training change nothing."""
    read = data.model_dump(include={"source", "subset", "split", "columns", "prompt_template", "system_prompt"})
    read |= named.as_dict() if (named := recall(data, workspace)) and said_in(data) is None else {}
    return _digest([__version__, read, files_of(data.source, workspace)])[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _prune(workspace: Workspace) -> None:
    """Remove the oldest folders beyond the newest KEPT; what is at work stays."""
    old: Iterable[Job] = jobs(workspace)[KEPT:]
    for job in old:
        if not status(job).is_active:
            shutil.rmtree(job.folder, ignore_errors=True)
