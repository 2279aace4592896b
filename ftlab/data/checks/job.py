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
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.config import STARTER, DataConfig, OptimisationConfig
from ftlab.data.inspection import files_of
from ftlab.data.load import find_source
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.workspace import Workspace, locked, read_json, write_json, write_text

KEPT = 20  # folders
_SHORTEST = 16  # tokens
_START_SECONDS = 60.0
_WRITE_SECONDS = 0.4
# Seconds that each phase takes of 100,000 rows, and of loading (measured); others are over at once.
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
# Processes started by this one: only a parent learns how its child ended.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Request:
    """What is to be checked, and what it is checked for. `max_length` is in tokens."""

    data: DataConfig
    base: str = STARTER
    max_length: int = OptimisationConfig().max_length
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_length < _SHORTEST:
            allowed = f"{_SHORTEST} tokens or more"
            raise InputError("The longest example is too short", given=self.max_length, allowed=allowed)

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
class Status:
    """How far a check is. Times are unix seconds; `done` of `total` counts rows, or whatever the phase goes through."""

    state: str = "running"
    phase: str = "starting"
    done: int = 0
    total: int = 0
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: float | None = None
    created: float = 0.0
    finished: float | None = None
    error: dict[str, Any] | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ("running", "stopping")

    @property
    def share(self) -> float | None:
        """How much of the whole check is done, 0 to 1, by the usual times of its phases; None in short ones."""
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
    def log_file(self) -> Path:
        return self.folder / "check.log"

    @cached_property
    def request(self) -> Request:
        return Request.from_dict(read_json(self.folder / "request.json"))

    def report(self) -> dict[str, Any] | None:
        """The report (see README.md); None while there is none."""
        return read_json(self.folder / "report.json")


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
        for name in ("stop", "report.json"):
            (job.folder / name).unlink(missing_ok=True)
        write_json(job.folder / "request.json", request.as_dict() | {"workspace": str(workspace.root)})
        _write(job, Status(created=time.time()))
        _start_process(job)
    _prune(workspace)
    return job


def status(job: Job) -> Status:
    """The status, set right where the process is gone: it failed, or was stopped if that was asked for."""
    current = _read(job)
    if current.state != "running":
        child = _children.get(job.folder)
        if child is not None and child.poll() is not None:
            del _children[job.folder]
        return current
    if not _alive(job, current):
        # It may have ended between the two looks; only a status read after the death counts.
        current = _read(job)
        if current.state == "running":
            _record_death(job, current)
        return current
    if job.stop_file.exists():
        current.state = "stopping"
    return current


def stop(job: Job) -> str:
    """Ask the check to end; asked a second time, kill its process. Returns what happened, in words."""
    current = status(job)
    if not current.is_active:
        return "No check is running."
    if not job.stop_file.exists():
        write_text(job.stop_file, "")
        return "Stopping: what was found so far is kept."
    child = _children.get(job.folder)
    pid = child.pid if child is not None else current.pid
    if pid is not None:
        _kill(pid)
        for _ in range(50):
            if not _alive(job, current):
                break
            time.sleep(0.1)
    return "Stopped at once."


def work(folder: Path, load_tokenizer: Callable[[str], Any]) -> int:
    """Do the check in `folder`, in this process; the outcome is in its status. Returns the exit code."""
    import psutil

    from ftlab.data.checks.run import check

    job = Job(folder)
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(19 - os.nice(0))
    current = _read(job)
    current.pid, current.pid_started = os.getpid(), psutil.Process().create_time()
    written = 0.0

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal written
        current.phase, current.done, current.total = phase, done, total
        if time.monotonic() - written > _WRITE_SECONDS:
            written = time.monotonic()
            _write(job, current)

    try:
        tell("loading the tokenizer", 0, 0)
        request = job.request
        workspace = Workspace(Path(read_json(folder / "request.json")["workspace"]))
        tokenizer = load_tokenizer(request.base)
        report = check(
            request.data,
            tokenizer=tokenizer,
            base=request.base,
            max_length=request.max_length,
            prompts=request.prompts or None,
            workspace=workspace,
            progress=tell,
            should_stop=job.stop_file.exists,
        )
        # Compact: indented, every number of a row would take a line.
        write_text(folder / "report.json", json.dumps(report.as_dict(), ensure_ascii=False, default=str))
        current.state = "stopped" if report.stopped else "done"
    except BaseException as error:
        traceback.print_exc()
        current.state, current.error = "failed", _explained(error, job)
    current.phase, current.done, current.total, current.finished = "", 0, 0, time.time()
    _write(job, current)
    return 0 if current.state != "failed" else 1


def _explained(error: BaseException, job: Job) -> dict[str, str | None]:
    if isinstance(error, FtlabError):
        return error.as_dict()
    if isinstance(error, MemoryError):
        what = FtlabError("There was not enough memory for the checks", try_="close other programs, then check again")
    else:
        what = FtlabError(
            "The checks failed inside ftlab",
            why=f"{type(error).__name__}: {shorten(error)}",
            try_=f"check again; if it stays, report it with {job.log_file}",
        )
    return what.as_dict()


def _start_process(job: Job) -> None:
    # The words of the command are for people who look at the list of processes; the request is in the folder.
    command = [
        sys.executable,
        "-m",
        "ftlab",
        "data",
        "inspect",
        "--job",
        str(job.folder),
        "--",
        job.request.data.source,
    ]
    with job.log_file.open("wb") as log:
        _children[job.folder] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A session of its own: neither ctrl-C in the terminal nor the end of the app reaches it.
            start_new_session=True,
            env=_environment(job.request),
            close_fds=True,
        )


def _environment(request: Request) -> dict[str, str]:
    package_root = str(Path(__file__).resolve().parents[3])
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH")]))
    environment |= {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # One core, so that the app keeps the rest.
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment["TOKENIZERS_PARALLELISM"] = "false"
    local_base = request.base == STARTER or Path(request.base).expanduser().exists()
    source = request.data.source.strip()
    if local_base and (source.startswith("version:") or find_source(source)[0] != "hub"):
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return environment


def _data_key(data: DataConfig, workspace: Workspace) -> str:
    """Equal for equal rows read in the same way: the settings of the split and of the training change nothing."""
    read = data.model_dump(include={"source", "subset", "split", "columns", "prompt_template", "system_prompt"})
    return _digest([__version__, read, files_of(data.source, workspace)])[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _read(job: Job) -> Status:
    values = read_json(job.status_file)
    if values is None:  # removed meanwhile, as one of the oldest
        return Status(state="failed", phase="", error=FtlabError("This check is gone", try_="check again").as_dict())
    known = {item.name for item in fields(Status)}
    return Status(**{name: value for name, value in values.items() if name in known})


def _write(job: Job, current: Status) -> None:
    current.heartbeat = time.time()
    write_json(job.status_file, asdict(current))


def _alive(job: Job, current: Status) -> bool:
    import psutil

    child = _children.get(job.folder)
    if child is not None:
        return child.poll() is None
    if current.pid is None:
        # Started by somebody else and not yet in Python: trust the start for a while.
        return time.time() - current.created < _START_SECONDS
    try:
        process = psutil.Process(current.pid)
        same = current.pid_started is None or abs(process.create_time() - current.pid_started) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _record_death(job: Job, current: Status) -> None:
    current.finished = time.time()
    if job.stop_file.exists():
        current.state, current.phase = "stopped", ""
    else:
        where = f"while at work on: {current.phase}" if current.phase else "before they began"
        why = f"It ended {where}."
        last = _last_line(job.log_file)
        if last:
            why += f" The last line of its log: {last}"
        current.state, current.phase = "failed", ""
        current.error = FtlabError(
            "The process of the checks was ended before they were done",
            why=why,
            try_="check again; if it ends again, memory may be short: close other programs first",
        ).as_dict()
    # On a full disk the finding cannot be kept; it is found again by the next look.
    with contextlib.suppress(OSError):
        _write(job, current)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return shorten(lines[-1]) if lines else ""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _prune(workspace: Workspace) -> None:
    """Remove the oldest folders beyond the newest KEPT; what is at work stays."""
    old: Iterable[Job] = jobs(workspace)[KEPT:]
    for job in old:
        if not status(job).is_active:
            shutil.rmtree(job.folder, ignore_errors=True)
