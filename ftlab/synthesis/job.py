"""Writing rows in a process of its own: the page can be closed, and the work stopped and continued.

The folder of the work (`<workspace>/made/<id>/`) holds `request.json`, `replies.jsonl`, `outcome.json` once the rows
are saved, `status.json`, `stop` after a stop was requested, and `write.log`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig
from ftlab.core import jobs
from ftlab.core.endpoint import WRITER, Endpoint
from ftlab.core.files import locked, read_json, write_json
from ftlab.core.run_directory import WORK_LOCK
from ftlab.core.workspace import Workspace
from ftlab.synthesis.make import Made, made_before, make
from ftlab.synthesis.plan import Settings, Work, document_work, examples_of, folder_of, row_work
from ftlab.synthesis.writing import DOCUMENTS


@dataclass(frozen=True)
class Request:
    """What is to be written. `documents` are paths; `data` holds the rows to extend, or whose form is followed; `run`
    is the id of the run whose training prompts are answered."""

    kind: str
    settings: Settings
    documents: tuple[str, ...] = ()
    data: DataConfig | None = None
    name: str | None = None
    who: str | None = None
    run: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"data": self.data.model_dump() if self.data else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        settings = values["settings"]
        endpoint = Endpoint(**settings["endpoint"]) if settings["endpoint"] else None
        return cls(
            values["kind"],
            Settings(**settings | {"endpoint": endpoint}),
            tuple(values["documents"]),
            DataConfig.model_validate(values["data"]) if values["data"] else None,
            values["name"],
            values["who"],
            values.get("run"),
        )


def work_of(request: Request, workspace: Workspace) -> Work:
    """The work that `request` asks for. Raises InputError as `document_work`, `answer_work` and `row_work` do."""
    if request.kind == DOCUMENTS:
        examples = examples_of(request.data, workspace) if request.data else ()
        return document_work(request.documents, request.settings, examples, request.name)
    if request.run:
        from ftlab.synthesis.answers import answer_work

        return answer_work(workspace.run(request.run), workspace, request.settings)
    return row_work(request.data or DataConfig(), workspace, request.kind, request.settings)


def start(request: Request, work: Work, workspace: Workspace) -> Path:
    """Start writing, unless that is at work already; returns the folder of the work."""
    folder = folder_of(workspace, work)
    folder.mkdir(parents=True, exist_ok=True)
    job = _job(folder)
    with locked(folder / "start.lock"):
        before = status(folder)
        if before is None or not before.is_active:
            write_json(folder / "request.json", request.as_dict() | {"workspace": str(workspace.root)})
            jobs.begin(job, jobs.Status(created=time.time()))
            words = [sys.executable, "-m", "ftlab.synthesis.job", "--", str(folder)]
            jobs.start(job, words, jobs.environment({}, online=True, keep=[WRITER.key_variable]))
    return folder


def status(folder: Path) -> jobs.Status | None:
    """The status, corrected if the process is gone; None if it was never started."""
    return jobs.followed(_job(folder), jobs.Status)


def latest(workspace: Workspace) -> Path | None:
    """The folder of the work that was started last; None if there is none."""
    dated = []
    for file in workspace.made_folder.glob("*/request.json"):
        with contextlib.suppress(FileNotFoundError):
            dated.append((file.stat().st_mtime, file.parent))
    return max(dated)[1] if dated else None


def outcome(folder: Path, workspace: Workspace) -> Made | None:
    """What was made; None before the end, and once its version was deleted."""
    values = read_json(folder / "outcome.json")
    return made_before(values, workspace) if values else None


def stop(folder: Path) -> jobs.StopResult:
    """Ask the process to stop; the second time, kill it."""
    return jobs.stop(_job(folder), status(folder))


_WORDS = jobs.Words(
    "the one that writes these rows",
    ended="The process that wrote the rows ended early",
    failed="The rows could not be written",
    again="start again: rows written so far are kept",
    idle="No rows are being written.",
    asked="Stopping. Replies so far are kept: start again to continue.",
)


def _job(folder: Path) -> jobs.Job:
    files = (folder / "status.json", folder / WORK_LOCK, folder / "write.log")
    return jobs.Job(*files, (folder,), folder / "stop", _WORDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process itself: writes the rows, and the outcome to status.json."""
    parser = argparse.ArgumentParser(prog="ftlab.synthesis.job")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    job = _job(folder)

    def work(writer: jobs.Writer[jobs.Status]) -> None:
        writer.tell("reading", 0, 0)
        values = read_json(folder / "request.json")
        request, workspace = Request.from_dict(values), Workspace.open(values["workspace"])
        with jobs.ended_by(lambda: job.is_asked_to_stop and request.settings.endpoint is None, jobs.Stopped):
            make(
                work_of(request, workspace),
                workspace,
                who=request.who,
                progress=writer.tell,
                should_stop=lambda: job.is_asked_to_stop,
            )

    return jobs.run(job, lambda: jobs.Writer(job.status_file, jobs.Status), work)


if __name__ == "__main__":
    sys.exit(main())
