"""Exports for the app, each in a separate process: the page may be closed, and the app stays responsive.

<run>/exports/<kind>/            the export, once it is made and verified
<run>/exports/<kind>.job.json    the status of its process
<run>/exports/<kind>.log         its output
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftlab.core import jobs
from ftlab.core.files import locked, read_cached
from ftlab.core.jobs import Job, Status
from ftlab.core.run_directory import EXPORT_RECORD, RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import ErrorJson, FtlabError
from ftlab.export.shape import Kind


@dataclass(frozen=True)
class Progress:
    """The progress of an export: `text` is its current step, `error` why it failed, `record` its ftlab/export.json."""

    state: Literal["none", "working", "done", "failed"]
    text: str = ""
    record: dict[str, Any] | None = None
    error: ErrorJson | None = None


def start(run: RunDirectory, workspace: Workspace, kind: Kind, dtype: str | None) -> None:
    """Start exporting `run` for the app, unless that is already running. Raises immediately what `export.plan`
    raises."""
    from ftlab.config import load_config
    from ftlab.export.export import plan

    plan(run, load_config(run.config_file).resolved(), kind, dtype)
    with locked(run.exports / ".lock"):
        if progress(run, kind).state == "working":
            return
        job = _job(run, kind)
        command = [sys.executable, "-m", "ftlab.export.job", *(["--dtype", dtype] if dtype else []), "--"]
        jobs.begin(job, Status(created=time.time()))
        jobs.start(job, [*command, str(run.path), kind], _environment())


def progress(run: RunDirectory, kind: Kind) -> Progress:
    """The progress of the export of `kind`."""
    record = read_cached(run.export_folder(kind) / EXPORT_RECORD)
    current = jobs.followed(_job(run, kind), Status)
    if current is not None and current.is_active:
        counted = f" {current.done:,}/{current.total:,}" if current.total else ""
        return Progress("working", current.phase + counted, record)
    if current is not None and current.error and (record is None or record["created"] < current.created):
        return Progress("failed", record=record, error=current.error)
    return Progress("done", record=record) if record else Progress("none")


def raise_failure(state: Progress) -> None:
    """Raise FtlabError with the reason for a failed export."""
    if state.error is not None:
        raise FtlabError(state.error["what"], why=state.error["why"], try_=state.error["try"])


_WORDS = jobs.Words(
    "this export", ended="The export ended before it was done", failed="The export failed", again="export again"
)


def _job(run: RunDirectory, kind: Kind) -> Job:
    files = (run.exports / f"{kind}.job.json", run.exports / f".{kind}.work.lock", run.exports / f"{kind}.log")
    return Job(*files, (run.path, kind), words=_WORDS)


def _environment() -> dict[str, str]:
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    return jobs.environment(quiet, online=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process itself: exports the run into its own folder."""
    parser = argparse.ArgumentParser(prog="ftlab.export.job")
    parser.add_argument("run", type=Path)
    parser.add_argument("kind")
    parser.add_argument("--dtype")
    args = parser.parse_args(arguments)
    run, job = RunDirectory(args.run), _job(RunDirectory(args.run), args.kind)

    def work(writer: jobs.Writer[Status]) -> None:
        from ftlab.export.export import export_run

        export_run(run, run.export_folder(args.kind), kind=args.kind, dtype=args.dtype, tell=writer.tell)

    return jobs.run(job, lambda: jobs.Writer(job.status_file, Status), work)


if __name__ == "__main__":
    sys.exit(main())
