"""Work in a separate process that outlives the page, the app and the terminal: a run, an evaluation, the answers of a
blind test, a data check, an export.

There is no daemon. Readers combine the status that the process writes with the lock that it holds as long as it lives
(see `processes`). A stop file asks the process to end; a second request kills it with all its children.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from ftlab.core import processes
from ftlab.core.files import DamagedFile, last_line, locked, read_json, write_json, write_text
from ftlab.core.processes import HUB_VARIABLES, child_environment, mark_of, package_path
from ftlab.errors import ErrorJson, FtlabError, shorten

_LOOK_SECONDS = 0.25
_AGAIN_SECONDS = 2.0
_TURN_SECONDS = 0.5
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


AnyStatus = TypeVar("AnyStatus", bound=Status)


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
    job: Job, read: Callable[[], AnyStatus], explain: Callable[[AnyStatus, int | None], ErrorJson]
) -> AnyStatus:
    """The status returned by `read`, corrected when its process is gone: stopped if that was requested, else failed.

    `explain` returns the error of a failure, from the last status and the exit code (as in `subprocess`, negative for
    a signal; None when another process started it).
    """
    current = read()
    if not current.is_active:
        _exit_code(job, current)  # reaps the child, so that no zombie is left
        return current
    if is_alive(job, current):
        if current.state in ("starting", "running") and job.is_asked_to_stop:
            current.state = "stopping"
        return current
    # It may have ended between the two checks; only a status read after its end counts.
    current = read()
    if current.is_active:
        current.finished, current.eta_seconds = time.time(), None
        if job.is_asked_to_stop:
            current.state, current.phase = "stopped", "killed on request"
        else:
            current.error = explain(current, _exit_code(job, current))
            current.state, current.phase = "failed", ""
        # On a full disk the correction cannot be stored; the next reader makes it again.
        with contextlib.suppress(OSError):
            write_status(job.status_file, current)
    return current


def followed(job: Job, kind: type[AnyStatus], ended: str, again: str) -> AnyStatus | None:
    """The status, corrected if the process is gone: `ended` says that it ended before it was done, `again` what to do.
    None if it was never started, or its status cannot be read."""

    def explain(current: AnyStatus, code: int | None) -> ErrorJson:
        last = f"The last line of its log: {last_line(job.log_file) or 'it is empty'}"
        return FtlabError(ended, why=last, try_=again).as_dict()

    with contextlib.suppress(FileNotFoundError, DamagedFile):
        return settled(job, lambda: read_status(job.status_file, kind), explain)
    return None


def as_told(error: BaseException, job: Job, what: str, again: str) -> FtlabError:
    """`error` itself where it is one for people; else `what` failed, where its message is, and to try `again`."""
    if isinstance(error, FtlabError):
        return error
    return FtlabError(
        what,
        why=f"{type(error).__name__}: {shorten(error, 300)}",
        try_=f"{again}; if it fails again, the full message is in {job.log_file}",
    )


@contextlib.contextmanager
def turn(lock: Path, should_stop: Callable[[], bool], waiting: Callable[[], None]) -> Iterator[bool]:
    """Within it this process alone holds `lock`: one at a time uses a device. False if a stop came first; `waiting` is
    called while another process has it."""
    while not should_stop():
        with locked(lock, wait=False) as mine:
            if mine:
                yield True
                return
        waiting()
        time.sleep(_TURN_SECONDS)
    yield False


StopOutcome = Literal["idle", "asked", "killed", "ended", "unproven"]


@dataclass(frozen=True)
class StopResult:
    """What a request to stop did (see `stop`), and the message about it."""

    outcome: StopOutcome
    message: str


def stop(job: Job, current: Status) -> StopOutcome:
    """Ask the process of `job` to end; the second time, kill it with all its children. `current` is its settled status.
    `unproven`: nothing was killed, since no process here could be verified as the one meant."""
    if not current.is_active:
        return "idle"
    if job.stop_file is not None and not job.stop_file.exists():
        write_text(job.stop_file, "")
        return "asked"
    child = _children.get(job.lock)
    if processes.kill(child, current.pid, current.pid_started, job.names, lambda: is_alive(job, current)):
        return "killed"
    return "unproven" if is_alive(job, current) else "ended"


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
