"""The process of one check: `python -m ftlab data inspect --job FOLDER SOURCE`. Not for manual use."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.core.files import read_json, write_text
from ftlab.core.jobs import ended_by
from ftlab.core.processes import hold_own, let_go
from ftlab.core.workspace import Workspace
from ftlab.data.checks.job_files import Job, read_status, write_status
from ftlab.data.checks.run import check
from ftlab.errors import ErrorJson, FtlabError, shorten

_WRITE_SECONDS = 0.4


class _Stopped(Exception):
    """Somebody asked for an end before anything was checked."""


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
        with ended_by(job.stop_file.exists, _Stopped):
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
