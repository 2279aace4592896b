"""Work in a separate process that outlives the page, the app and the terminal: a run, an evaluation, the answers of a
blind test, a data check, an export.

There is no daemon. Readers combine the status that the process writes with the lock that it holds as long as it lives
(see `processes`). A stop file asks the process to end; a second request kills it with all its children.

    begin(job, Status(created=now)); start(job, command, environment(...))    whoever starts it
    run(job, work)                                                            the process itself
    followed(job, Status); stop(job, status)                                  everybody else
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from ftlab.core import processes
from ftlab.core.files import DamagedFile, disk_full, last_line, locked, read_json, write_json, write_text
from ftlab.core.processes import (
    HUB_VARIABLES,
    child_environment,
    give_way,
    hold_own,
    let_go,
    mark_of,
    package_path,
    quieten,
)
from ftlab.errors import ErrorJson, FtlabError, shorten

_LOOK_SECONDS = 0.25
_AGAIN_SECONDS = 2.0
_TURN_SECONDS = 0.5
_WRITE_SECONDS = 0.5
HEARTBEAT_SECONDS = 2.0
DISK_FULL_CODE = 28  # the exit code of a process that could not write how it ended (ENOSPC)
ACTIVE_STATES = ("queued", "starting", "running", "stopping")
# Child processes by the lock they hold: only a parent learns the exit code of its child.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass
class Status:
    """The progress of a job. Times are Unix seconds; `done` of `total` counts the items of its current phase."""

    STATES: ClassVar[tuple[str, ...]] = ("starting", "running", "stopping", "done", "stopped", "failed")

    state: str = "starting"
    phase: str = "starting"
    done: int = 0
    total: int = 0
    pid: int | None = None
    pid_started: str | float | None = None  # see processes.mark_of
    heartbeat: float | None = None
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    eta_seconds: float | None = None
    error: ErrorJson | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    def sign(self) -> None:
        """Record this process as the one that does the work."""
        self.pid, self.pid_started = os.getpid(), mark_of(os.getpid())


class Stopped(Exception):
    """The work was asked to stop before it was done. Its text, if any, is the last phase in the status."""


AnyStatus = TypeVar("AnyStatus", bound=Status)


@dataclass(frozen=True)
class Words:
    """What people read about a kind of job. `this` names it in the middle of a sentence."""

    this: str = "this work"
    ended: str = "The process ended before its work was done"  # without a word
    failed: str = "The work could not be done"
    again: str = "start it again"
    idle: str = "Nothing to stop: the state is {state}."
    asked: str = "Stopping."
    killed: str = "Stopped at once."


@dataclass(frozen=True)
class Job:
    """The files of a job; without a `stop_file` it is killed at once instead of being asked to stop.

    `names` are words of its command line that identify it (text, or a folder by any of its paths): they are verified
    before it is killed.
    """

    status_file: Path
    lock: Path
    log_file: Path
    names: tuple[str | Path, ...]
    stop_file: Path | None = None
    words: Words = Words()

    @property
    def is_asked_to_stop(self) -> bool:
        return self.stop_file is not None and self.stop_file.exists()


def begin(job: Job, first: Status) -> None:
    """Write the first status of a job that is about to start, and clear any earlier stop request."""
    if job.stop_file is not None:
        job.stop_file.unlink(missing_ok=True)
    write_status(job.status_file, first)


def start(job: Job, command: Sequence[str], environment: Mapping[str, str], *, append: bool = False) -> int:
    """Start `command`, which does the work of `job`, in its own session; returns its process id.

    Its output replaces the log unless `append`. The caller holds the start lock, has checked that the job is not
    running, and has called `begin`. Raises FtlabError when a process is running it after all.
    """
    job.log_file.parent.mkdir(parents=True, exist_ok=True)
    with job.log_file.open("ab" if append else "wb") as log:
        child = processes.start(command, lock=job.lock, log=log, environment=environment)
    _children[job.lock] = child
    return child.pid


def environment(values: Mapping[str, str], *, online: bool, keep: Iterable[str] = ()) -> dict[str, str]:
    """The environment for a process of ftlab: this one's without its secrets, plus `values`; quiet, and offline for the
    Hub unless `online`, where the user has not set these. `keep` names secrets that it needs."""
    defaults = {
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if not online:
        defaults |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    needed = [*keep, *(HUB_VARIABLES if online else ())]
    return defaults | child_environment({"PYTHONPATH": package_path(), **values}, keep=needed)


def is_alive(job: Job, current: Status) -> bool:
    """Whether the process of `current` is alive."""
    child = _children.get(job.lock)
    return processes.is_alive(child, job.lock, current.pid, current.pid_started, current.created)


def settled(
    job: Job, kind: type[AnyStatus], explain: Callable[[AnyStatus, int | None], ErrorJson] | None = None
) -> AnyStatus:
    """The status, corrected when its process is gone: stopped if that was requested, else failed.

    `explain` returns the error of a failure, from the last status and the exit code (as in `subprocess`, negative for
    a signal; None when another process started it). Raises as `read_status`.
    """
    current = read_status(job.status_file, kind)
    if not current.is_active:
        _exit_code(job, current)  # reaps the child, so that no zombie is left
        return current
    if is_alive(job, current):
        if current.state in ("starting", "running") and job.is_asked_to_stop:
            current.state = "stopping"
        return current
    # It may have ended between the two checks; only a status read after its end counts.
    current = read_status(job.status_file, kind)
    if current.is_active:
        current.finished, current.eta_seconds = time.time(), None
        if job.is_asked_to_stop:
            current.state, current.phase = "stopped", "killed on request"
        else:
            code = _exit_code(job, current)
            current.error = explain(current, code) if explain else _death(job, current, code)
            current.state, current.phase = "failed", ""
        # On a full disk the correction cannot be stored; the next reader makes it again.
        with contextlib.suppress(OSError):
            write_status(job.status_file, current)
    return current


def followed(job: Job, kind: type[AnyStatus]) -> AnyStatus | None:
    """As `settled`; None if it was never started, or its status cannot be read."""
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        return settled(job, kind)
    return None


def _death(job: Job, current: Status, code: int | None) -> ErrorJson:
    during = f"It ended during: {current.phase}. " if current.phase else ""
    last = f"The last line of its log: {last_line(job.log_file) or 'it is empty'}"
    if code == DISK_FULL_CODE:
        last = "The disk is full."
    return FtlabError(job.words.ended, why=during + last, try_=job.words.again).as_dict()


class Writer(Generic[AnyStatus]):
    """Keeps the status of this process up to date, with a heartbeat from a thread of its own.

    The heartbeat distinguishes a process in one long step from one whose interpreter hangs.
    """

    def __init__(self, path: Path, kind: type[AnyStatus]):
        self._path = path
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._written = 0.0
        try:
            self.status = read_status(path, kind)
        except (FileNotFoundError, DamagedFile):
            self.status = kind(created=time.time())
        self.status.sign()
        self.update()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    def check_there(self) -> None:
        """Raise FtlabError if the job was deleted: writing now would bring back half of its folder."""

    def update(self, **changes: Any) -> None:
        """Write these `changes` and a heartbeat. Raises as `check_there`."""
        with self._lock:
            self.check_there()
            for name, value in changes.items():
                setattr(self.status, name, value)
            self.status.heartbeat, self._written = time.time(), time.monotonic()
            write_status(self._path, self.status)

    def tell(self, phase: str, done: int, total: int) -> None:
        """As `update`, but written at most twice a second within a phase."""
        if phase != self.status.phase or time.monotonic() - self._written > _WRITE_SECONDS:
            self.update(phase=phase, done=done, total=total)
        else:
            self.status.done, self.status.total = done, total

    def close(self) -> None:
        """End the heartbeat."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                self.update()
            except OSError:
                # A full disk must not end the heartbeat: it may work again a moment later.
                continue
            except FtlabError:
                return  # the job was deleted: the working thread notices by itself


AnyWriter = TypeVar("AnyWriter", bound=Writer[Any])


def run(
    job: Job,
    writer: Callable[[], AnyWriter],
    work: Callable[[AnyWriter], str | None],
    *,
    explain: Callable[[BaseException], ErrorJson] | None = None,
    gives_way: bool = True,
) -> int:
    """What the process of `job` does: the `work`, which returns its final state (None: done), and its outcome in the
    status. Returns the exit code. `explain` returns the error for the status, and logs it."""
    quieten()
    if gives_way:
        give_way()
    try:
        hold_own(job.lock)
    except FtlabError as error:  # a person has started this process
        print(error, file=sys.stderr)
        return error.exit_code
    report = writer()
    end: dict[str, Any] = {"phase": "", "eta_seconds": None}
    try:
        if report.status.state == "starting":
            report.update(state="running", started=time.time())
        try:
            end |= {"state": work(report) or "done", "done": 0, "total": 0}
        except Stopped as stopped:
            end |= {"state": "stopped", "phase": str(stopped)}
        except BaseException as error:
            report.check_there()  # an error may be a consequence, such as a missing file
            end |= {"state": "failed", "error": explain(error) if explain else _failure(error, job)}
        report.update(**end, finished=time.time())
    except OSError:
        return DISK_FULL_CODE  # not even the outcome can be written: the exit code tells the parent process
    except FtlabError as gone:  # see Writer.check_there
        print(gone, flush=True)
        return 1
    finally:
        report.close()
        let_go()
    return 1 if end["state"] == "failed" else 0


def _failure(error: BaseException, job: Job) -> ErrorJson:
    """`error` itself where it is one for people; else that the job failed, and where its message is."""
    traceback.print_exc()
    told = error if isinstance(error, FtlabError) else disk_full(error, job.status_file.parent)
    if told is None:
        again = f"{job.words.again}; if it fails again, the full message is in {job.log_file}"
        why = "Memory ran out" if isinstance(error, MemoryError) else f"{type(error).__name__}: {shorten(error, 300)}"
        told = FtlabError(job.words.failed, why=why, try_=again)
    return told.as_dict()


@contextlib.contextmanager
def turn(
    lock: Path,
    should_stop: Callable[[], bool],
    waiting: Callable[[str], None],
    ahead: Callable[[], int] = lambda: 0,
) -> Iterator[None]:
    """Within it this process alone holds `lock`: one at a time uses a device, after those `ahead` in the queue.
    Meanwhile `waiting` gets the phase. Raises Stopped if a stop comes first."""
    while not should_stop():
        if not (count := ahead()):
            with locked(lock, wait=False) as mine:
                if mine:
                    yield
                    return
        waiting(f"waiting for the device{f', {count} ahead in the queue' if count else ''}")
        time.sleep(_TURN_SECONDS)
    raise Stopped


StopOutcome = Literal["idle", "asked", "killed", "ended", "unproven"]


@dataclass(frozen=True)
class StopResult:
    """What a request to stop did (see `stop`), and the message about it."""

    outcome: StopOutcome
    message: str


def at_work(names: Iterable[str], status: Callable[[str], AnyStatus | None]) -> list[tuple[str, AnyStatus]]:
    """Those of `names` whose job is active, with its status."""
    states = [(name, status(name)) for name in names]
    return [(name, current) for name, current in states if current is not None and current.is_active]


def stop(job: Job, current: Status | None) -> StopResult:
    """Ask the process of `job` to end; the second time, kill it with all its children. `current` is its settled status,
    None if it was never started. `unproven`: nothing was killed, since no process here could be verified as the one
    meant."""
    if current is None or not current.is_active:
        return StopResult("idle", job.words.idle.format(state=current.state if current else "none"))
    if job.stop_file is not None and not job.stop_file.exists():
        write_text(job.stop_file, "")
        return StopResult("asked", job.words.asked)
    child = _children.get(job.lock)
    if processes.kill(child, current.pid, current.pid_started, job.names, lambda: is_alive(job, current)):
        return StopResult("killed", job.words.killed)
    if not is_alive(job, current):
        return StopResult("ended", "It has already ended.")
    return StopResult(
        "unproven",
        f"Not killed: no process on this machine can be identified as {job.words.this}. It may still be starting, or "
        "it runs on another machine or in another container. Stop it there.",
    )


@contextlib.contextmanager
def ended_by(asked: Callable[[], bool], error: type[Exception]) -> Iterator[None]:
    """Within it `error` is raised soon after `asked` says so, whatever goes on: importing a library, loading a model,
    the middle of a batch, working out intervals. For work that loses nothing by it.

    What asks itself between batches answers a stop after its batch, and that takes minutes where a process that gives
    way shares two cores (facts: nice). Only the main thread gets signals: in another one this does nothing.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    within, sent, raised, over = True, False, False, threading.Event()

    def watch() -> None:
        nonlocal sent
        # More than once: a library may have taken the error for one of its own.
        while not over.wait(_LOOK_SECONDS):
            if asked() and not over.is_set():
                sent = True
                if hasattr(signal, "pthread_kill"):
                    signal.pthread_kill(main.ident or 0, signal.SIGINT)  # ends a wait, too
                else:  # Windows
                    _thread.interrupt_main()
                over.wait(_AGAIN_SECONDS)

    def end(number: int, frame: Any) -> None:
        nonlocal raised
        if within and asked():
            raised = True
            raise error
        if not sent and callable(before):  # one that was sent comes too late where the work has just ended
            before(number, frame)

    before = signal.signal(signal.SIGINT, end)
    watcher = threading.Thread(target=watch, daemon=True, name="stop")
    try:  # twice: a stop may come on the last line of the inner block
        try:
            watcher.start()
            yield
        except Exception as caught:
            # Who catches everything may have wrapped it in an error of their own.
            if raised and not isinstance(caught, error):
                raise error from caught
            raise
        finally:
            within = False
    finally:
        within = False
        try:
            over.set()
            watcher.join()
        finally:
            signal.signal(signal.SIGINT, before)


def _exit_code(job: Job, current: Status) -> int | None:
    child = _children.get(job.lock)
    # A different process id: another program has restarted the job since.
    return child.poll() if child is not None and current.pid in (None, child.pid) else None


def write_status(path: Path, current: Status) -> None:
    write_json(path, asdict(current))


def read_status(path: Path, kind: type[AnyStatus]) -> AnyStatus:
    """The status in `path`. Raises FileNotFoundError when there is none, DamagedFile when it cannot be read."""
    values = read_json(path)
    if values is None:
        raise FileNotFoundError(path)
    if values["state"] not in kind.STATES:
        raise DamagedFile(path, f"{shorten(values['state'], 40)!r} is not a state")
    known = {}
    for item in fields(kind):
        if item.name in values:
            known[item.name] = value = values[item.name]
            if not isinstance(value, _types(str(item.type))) or not _plausible(item.name, value):
                raise DamagedFile(path, f"{item.name} has the invalid value {shorten(value, 40)!r}")
    return kind(**known)


_OF = {"str": (str,), "int": (int,), "float": (int, float), "None": (type(None),)}
_OF |= {"ErrorJson": (dict,), "list[str]": (list,)}
_TIMES = ("pid_started", "heartbeat", "created", "started", "finished")


def _types(annotation: str) -> tuple[type, ...]:
    return tuple(kind for part in annotation.split(" | ") for kind in _OF[part])


def _plausible(name: str, value: Any) -> bool:
    """Whether a time is one that datetime can represent: it ends with the year 9999."""
    return name not in _TIMES or not isinstance(value, float) or 0 <= value < 253e9
