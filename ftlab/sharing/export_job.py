"""Exports for the app, each in a process of its own: the page may be closed, and the app stays quick.

<run>/exports/<kind>/            the export, once it is made and verified
<run>/exports/<kind>.job.json    the process: pid, pid_started, created
<run>/exports/<kind>.log         what it said: progress, and the reason of a failure
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftlab.errors import FtlabError
from ftlab.files import locked, read_cached, write_json
from ftlab.processes import HUB_VARIABLES, child_environment, is_alive, mark_of, package_path
from ftlab.processes import start as start_process
from ftlab.run_directory import RunDirectory
from ftlab.sharing.shape import RECORD, Kind
from ftlab.workspace import Workspace

_PREFIX = "ftlab: "
# Processes started by this one: only a parent learns how its child ended.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Progress:
    """`text` is what it does now, or why it failed; `record` is ftlab/export.json of what is there."""

    state: Literal["none", "working", "done", "failed"]
    text: str = ""
    record: dict[str, Any] | None = None


def start(run: RunDirectory, workspace: Workspace, kind: Kind, dtype: str | None) -> None:
    """Begin to export `run` for the app, unless that is under way. Raises what `export.plan` raises, at once."""
    from ftlab.config import load_config
    from ftlab.sharing.export import plan

    plan(run, load_config(run.config_file).resolved(), kind, dtype)
    with locked(run.exports / ".lock"):
        if progress(run, kind).state == "working":
            return
        command = [sys.executable, "-m", "ftlab", "export", str(run.path), "--to", str(run.export_folder(kind))]
        command += ["--merge"] if kind == "merged" else []
        command += ["--dtype", dtype] if dtype else []
        with _log(run, kind).open("wb") as log:
            process = start_process(
                [*command, "--workspace", str(workspace.root)],
                lock=_lock(run, kind),
                log=log,
                environment=_environment(),
            )
        _children[_job(run, kind)] = process
        job = {"pid": process.pid, "pid_started": mark_of(process.pid), "created": time.time()}
        write_json(_job(run, kind), job)


def progress(run: RunDirectory, kind: Kind) -> Progress:
    """How far the export of `kind` is."""
    record = read_cached(run.export_folder(kind) / RECORD)
    job = read_cached(_job(run, kind))
    if job is None:
        return Progress("done", record=record) if record else Progress("none")
    last = _last_line(run, kind)
    child = _children.get(_job(run, kind))
    if is_alive(child, _lock(run, kind), job["pid"], job["pid_started"], job["created"]):
        return Progress("working", last, record)
    if record is not None and record["created"] >= job["created"]:
        return Progress("done", record=record)
    reason = (
        last.removeprefix(_PREFIX) if last.startswith(_PREFIX) else f"The process ended: {last or 'without a word'}"
    )
    return Progress("failed", reason, record)


def raise_failure(found: Progress) -> None:
    """Raise FtlabError with the reason of a failed export."""
    if found.state == "failed":
        what, _, try_ = found.text.partition(" Try: ")
        raise FtlabError(what, try_=try_ or None)


def _job(run: RunDirectory, kind: Kind) -> Path:
    return run.exports / f"{kind}.job.json"


def _lock(run: RunDirectory, kind: Kind) -> Path:
    return run.exports / f".{kind}.work.lock"


def _log(run: RunDirectory, kind: Kind) -> Path:
    return run.exports / f"{kind}.log"


def _last_line(run: RunDirectory, kind: Kind) -> str:
    """The last line that the process said, without those of libraries where it is ftlab's turn to speak."""
    try:
        lines = _log(run, kind).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    own = [line for line in lines if line.startswith(_PREFIX)]
    return (own or lines or [""])[-1].strip()


def _environment() -> dict[str, str]:
    quiet = {
        "PYTHONPATH": package_path(),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
    return child_environment(quiet, keep=HUB_VARIABLES)
