"""Exports for the app, each in a separate process: the page may be closed, and the app stays responsive.

<run>/exports/<kind>/            the export, once it is made and verified
<run>/exports/<kind>.job.json    the process: pid, pid_started, created
<run>/exports/<kind>.log         its output: progress, and the reason for a failure
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from ftlab.core import jobs
from ftlab.core.files import locked, read_cached, tail, write_json
from ftlab.core.jobs import Job, Status
from ftlab.core.processes import mark_of
from ftlab.core.run_directory import EXPORT_RECORD, RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.export.shape import Kind

_PREFIX = "ftlab: "
_MOST_LOG = 1 << 20  # bytes of its log that are read


@dataclass(frozen=True)
class Progress:
    """The progress of an export. `text` is its current step, or why it failed; `record` is its ftlab/export.json."""

    state: Literal["none", "working", "done", "failed"]
    text: str = ""
    record: dict[str, Any] | None = None


def start(run: RunDirectory, workspace: Workspace, kind: Kind, dtype: str | None) -> None:
    """Start exporting `run` for the app, unless that is already running. Raises immediately what `export.plan`
    raises."""
    from ftlab.config import load_config
    from ftlab.export.export import plan

    plan(run, load_config(run.config_file).resolved(), kind, dtype)
    with locked(run.exports / ".lock"):
        if progress(run, kind).state == "working":
            return
        command = [sys.executable, "-m", "ftlab", "export", str(run.path), "--to", str(run.export_folder(kind))]
        command += ["--merge"] if kind == "merged" else []
        command += ["--dtype", dtype] if dtype else []
        job = _job(run, kind)
        pid = jobs.start(job, [*command, "--workspace", str(workspace.root)], _environment())
        write_json(job.status_file, {"pid": pid, "pid_started": mark_of(pid), "created": time.time()})


def progress(run: RunDirectory, kind: Kind) -> Progress:
    """The progress of the export of `kind`."""
    record = read_cached(run.export_folder(kind) / EXPORT_RECORD)
    job = _job(run, kind)
    began = read_cached(job.status_file)
    if began is None:
        return Progress("done", record=record) if record else Progress("none")
    last = _last_line(job)
    if jobs.is_alive(job, Status(pid=began["pid"], pid_started=began["pid_started"], created=began["created"])):
        return Progress("working", last, record)
    if record is not None and record["created"] >= began["created"]:
        return Progress("done", record=record)
    reason = (
        last.removeprefix(_PREFIX) if last.startswith(_PREFIX) else f"The process ended: {last or 'without any output'}"
    )
    return Progress("failed", reason, record)


def raise_failure(state: Progress) -> None:
    """Raise FtlabError with the reason for a failed export."""
    if state.state == "failed":
        what, _, try_ = state.text.partition(" Try: ")
        raise FtlabError(what, try_=try_ or None)


def _job(run: RunDirectory, kind: Kind) -> Job:
    files = (run.exports / f"{kind}.job.json", run.exports / f".{kind}.work.lock", run.exports / f"{kind}.log")
    return Job(*files, (run.path, run.export_folder(kind)))


def _last_line(job: Job) -> str:
    """The last line of the log, preferring those of ftlab to those of libraries."""
    lines = tail(job.log_file, _MOST_LOG).strip().splitlines()
    own = [line for line in lines if line.startswith(_PREFIX)]
    return (own or lines or [""])[-1].strip()


def _environment() -> dict[str, str]:
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    return jobs.environment(quiet, online=True)
