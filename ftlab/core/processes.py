"""Processes that outlive their parent: start one, check whether it is alive, verify its identity, end it.

Proof of life is a lock on a file beside the status: it is taken before the process starts, inherited by it, and
released by the system when it ends. So neither the clock nor process ids, which the system reuses, are trusted. Without
such locks (Windows, some network disks) the start time of the process is used instead.

`quieten` sets the libraries for every process of ftlab.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ftlab.errors import FtlabError

_START_SECONDS = 120.0
_KILL_SECONDS = 5.0
_LOCK_SECONDS = 10.0  # data loader workers notice within five seconds that their parent is gone
_HELD = "FTLAB_HELD_LOCK"  # the descriptor of the lock that a process inherited
_own: int | None = None  # the descriptor of this process's own proof of life
_KEEP = "FTLAB_KEEP_VARIABLES"
NICE = "FTLAB_NICE"  # how far work gives way, 0 to 19
# A tenth of the weight of a program of usual priority (Linux: 110 of 1024). Not the lowest: beside other busy programs
# a run would then stall for minutes (measured).
FOR_THE_APP = "10"
_FEW_CORES = 4

# Names and values that look like a secret. Proxy and package index addresses may contain a password too, but downloads
# need them.
_SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|APIKEY|ACCESSKEY|^AWS_|^AZURE_|_PWD$"
    r"|(^|_)(TOKENS?|KEYS?|PASS|PAT|AUTH|COOKIES?)(_|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"^(hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|AKIA)\w|^[a-z][\w+.-]*://[^/@\s]*:[^/@\s]+@"
)
_TO_FETCH = re.compile(r"^(https?|all|no|ftp)_proxy$|^PIP_|^UV_", re.IGNORECASE)
HUB_VARIABLES = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN")


def child_environment(values: Mapping[str, str], *, keep: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a child process: this one's without anything that looks like a secret, plus `values`.

    `keep` names the secrets that it needs (HF_TOKEN, or WANDB_ for all with that prefix). So does FTLAB_KEEP_VARIABLES,
    which is meant for custom metrics.
    """
    kept = [*keep, *os.environ.get(_KEEP, "").replace(",", " ").split()]

    def passes(name: str, value: str) -> bool:
        if any(name == exempt or (exempt.endswith("_") and name.startswith(exempt)) for exempt in kept):
            return True
        if _TO_FETCH.search(name):
            return True
        return not (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))

    inherited = {name: value for name, value in os.environ.items() if name != _HELD and passes(name, value)}
    return inherited | dict(values)


def package_path() -> str:
    """The PYTHONPATH for a process that imports this copy of ftlab."""
    return os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))


def start(command: Sequence[str], *, lock: Path, log: IO[bytes], environment: Mapping[str, str]) -> Any:
    """Start `command` in its own session, which holds the file `lock` until it ends; its output goes to `log`.

    The caller holds the start lock and has checked that nothing is running. Raises FtlabError when `lock` is held.
    """
    held = take(lock, wait_seconds=_LOCK_SECONDS)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # In its own session, it survives Ctrl+C in the terminal and the end of the app.
            start_new_session=True,
            env={**environment, **({} if held is None else {_HELD: str(held)})},
            close_fds=True,
            pass_fds=() if held is None else (held,),
        )
    finally:
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def attached(
    command: Sequence[str], *, log: IO[bytes], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in its own session, which ends with this block, including all its children.

    Its standard input stays open as long as this process lives; its end of file tells the command to end too.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
        close_fds=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process.pid)
            process.wait()
        elif hasattr(os, "killpg"):
            # Data loader workers, if the process was killed before it could end them.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()


def hold_own(lock: Path) -> None:
    """Hold `lock` until `let_go`, or until this process ends: inherited from `start`, or taken here when the process
    was started by hand.

    Raises FtlabError when another process holds it.
    """
    global _own
    descriptor = os.environ.pop(_HELD, "")
    if descriptor.isdigit():
        with contextlib.suppress(OSError):
            os.set_inheritable(int(descriptor), False)  # its own children do not count as proof of life
            _own = int(descriptor)
            return
    _own = take(lock)


def let_go() -> None:
    """Release the lock: the work is done, and only the exit of the process is left, which takes torch seconds."""
    global _own
    if _own is not None:
        os.close(_own)
        _own = None


def take(lock: Path, *, wait_seconds: float = 0.0) -> int | None:
    """The descriptor that holds `lock` until it is closed; None if this system or disk does not support such locks.

    Raises FtlabError when another process still holds it after `wait_seconds`.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            # A mere check (`is_held`) releases it at once.
            if is_held(lock) and time.monotonic() > end:
                os.close(descriptor)
                raise FtlabError(
                    "Another process is already working on it", try_="wait until it has finished, or stop it"
                ) from None
            time.sleep(0.01)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                lock.unlink()
            return None


def is_held(lock: Path) -> bool | None:
    """Whether a live process holds `lock`; None if unknown: no such file, or no support for such locks."""
    try:
        import fcntl

        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError):
        return None
    try:
        # Shared, so that two simultaneous checks do not mistake each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)


def mark_of(pid: int) -> str | float | None:
    """A mark that distinguishes the process `pid` from all others that had or will have this id; None without one.

    On Linux, the boot id and the start time in clock ticks since boot: psutil's create_time is derived from the wall
    clock and moves when that is set. Elsewhere create_time, in Unix seconds.
    """
    import psutil

    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        try:
            # Field 22 of proc(5), counted after the program name, which may contain spaces and parentheses.
            return f"{boot}/{Path(f'/proc/{pid}/stat').read_bytes().rpartition(b')')[2].split()[19].decode()}"
        except (OSError, IndexError):
            return None
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, ValueError, TypeError):
        return None


def is_alive(child: subprocess.Popen[bytes] | None, lock: Path, pid: Any, pid_started: Any, created: float) -> bool:
    """Whether the process is alive. `child` is that process if this one started it last; otherwise it holds `lock`, or
    has the id `pid` and the mark `pid_started`. `created` (Unix seconds) is when its start was requested.
    """
    if child is not None and child.poll() is None:
        return True
    held = is_held(lock)
    if held:
        return True
    if child is not None and pid in (None, child.pid):
        return False
    if pid is None:
        # Started by another process and not yet running Python: without a lock, assume for a while that it will.
        return held is None and abs(time.time() - created) < _START_SECONDS
    return _is_same(pid, pid_started)


def _is_same(pid: Any, pid_started: Any) -> bool:
    import psutil

    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        process = psutil.Process(pid)
        if isinstance(pid_started, str):
            same = mark_of(pid) == pid_started
        else:  # from an earlier version, or a system without the better mark
            same = pid_started is None or abs(process.create_time() - float(pid_started)) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return False


def proven(pid: Any, pid_started: Any, names: Sequence[str | Path]) -> Any:
    """The process `pid` (of psutil) if it is verifiably the one started for `names`, else None.

    A status file can be old, copied or forged: before a process is ended, its command line has to be one of ftlab's and
    contain each of `names` (text, or a folder by any of its paths), and its mark has to be `pid_started`.
    """
    import psutil

    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 1 or pid == os.getpid():
        return None
    try:
        process = psutil.Process(pid)
        words, folder = process.cmdline(), process.cwd()
    except (psutil.Error, ValueError, OverflowError, OSError):
        return None
    # The clock may have been set since an earlier version stored the start time.
    if isinstance(pid_started, str) and mark_of(pid) != pid_started:
        return None
    real = {os.path.realpath(os.path.join(folder, word)) for word in words}
    named = all(os.path.realpath(name) in real if isinstance(name, Path) else name in words for name in names)
    return process if named and any(word.split(".")[0] == "ftlab" for word in words) else None


def kill(
    child: subprocess.Popen[bytes] | None,
    pid: Any,
    pid_started: Any,
    names: Sequence[str | Path],
    alive: Callable[[], Any],
) -> bool:
    """Kill a process with all its children, and wait briefly until it is gone; `names` as in `proven`.

    False, without killing anything, when it is neither the `child` of this process nor verified by `proven`.
    """
    if child is not None and child.poll() is None:
        target: int = child.pid
    elif (process := proven(pid, pid_started, names)) is not None:
        target = process.pid
    else:
        return False
    kill_group(target)
    end = time.monotonic() + _KILL_SECONDS
    while alive() and time.monotonic() < end:
        time.sleep(0.1)
    return True


def kill_group(pid: int) -> None:
    """Kill the process `pid`, which the caller has verified, and all its children."""
    import psutil

    try:
        # Only a group that it leads is its own; any other also contains its parent.
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
            return
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return


def give_way() -> None:
    """Lower the priority of this process by `FTLAB_NICE`, which the app sets for the work that it starts: work gets
    every idle core, and a tenth of a busy one. Without the app nobody waits for a page, and nothing is lowered."""
    try:
        wanted = min(max(int(os.environ.get(NICE) or 0), 0), 19)
    except ValueError:
        return
    if not wanted:
        return
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(wanted - os.nice(0))
    # Linux shares the CPU among sessions first (autogroup), and nice counts only inside a session. Work is a session of
    # its own: with nice alone the app got half of a busy core. Only on machines with few cores, which app and work
    # share: on a large machine the other sessions belong to strangers. And not if a person runs the work by hand,
    # because their whole terminal would give way.
    few = (os.cpu_count() or 1) <= _FEW_CORES
    if few and hasattr(os, "getsid") and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(wanted))


_LIBRARIES = "transformers|trl|peft|accelerate|datasets|huggingface_hub|bitsandbytes|torch"
# Progress bars of quick downloads and loads, and the notice that parts of TRL may change.
_SETTINGS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
# oneDNN and torch cache a compiled kernel for each shape of a product: up to 1,024, about 1 MB each in bf16, which
# batches of varying length fill within a hundred steps. A step needs about twenty.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def quieten() -> None:
    """Silence the libraries; call it before they are imported. Variables that the user has set are kept.

    Only progress bars, deprecations and missing extras are silenced. Warnings that a result may be wrong (UserWarning
    of torch, "silently incorrect") and those of transformers' own log stay.
    """
    for name, value in (_SETTINGS | CACHES).items():
        os.environ.setdefault(name, value)
    # The notice that a faster 4-bit kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # The notice that a request to the Hub is retried; the final error says what came of it.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    for kind in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=rf"({_LIBRARIES})(\.|$)")
