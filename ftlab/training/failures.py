"""Why a run ended, in words. A warning from torch about wrong gradients ends it too."""

from __future__ import annotations

import contextlib
import errno
import re
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import TypedDict

from ftlab.core.files import TORCH_CANNOT_WRITE, disk_full, is_full, last_line, tail
from ftlab.core.jobs import DISK_FULL_CODE
from ftlab.errors import ErrorJson, FtlabError, shorten
from ftlab.training.status import RunStatus

_OUT_OF_MEMORY: ErrorJson = {
    "what": "The run ran out of memory.",
    "try": "a smaller batch with gradient accumulation, a shorter longest example, gradient checkpointing, "
    "QLoRA, or a smaller base",
}
_MEMORY_WORDS = (
    "out of memory", "outofmemory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc",
)  # fmt: skip
_DISK_FULL: ErrorJson = {
    "kind": "disk",
    "what": "The disk is full.",
    "why": "A checkpoint or a log could not be written.",
    "try": "delete old runs, or set FTLAB_HOME to a folder on a larger disk",
}
_TORCH_CANNOT_READ = ("PytorchStreamReader failed", "weights_only", "Weights only load failed")
_DAMAGED: ErrorJson = {
    "kind": "damaged",
    "what": "A saved file of this run cannot be read: it is damaged, or ftlab did not write it.",
    "try": "resume the run from its newest intact checkpoint; if it fails again, copy the run again",
}
_NOT_WRITTEN: ErrorJson = {
    "kind": "disk",
    "what": "A checkpoint could not be written.",
    "why": "Writing stopped in the middle of a file: the quota is used up, or the disk is failing.",
    "try": "delete old runs, or set FTLAB_HOME to a folder on another disk; then resume the run",
}


class LostRankJson(TypedDict):
    """One of several processes of a run that died."""

    rank: int
    exitcode: int


def explain_exception(error: BaseException, folder: Path | None = None) -> ErrorJson:
    """The error for status.json of `error`, raised inside the run that writes to `folder`."""
    if isinstance(error, FtlabError):
        return error.as_dict() | {"kind": "input" if error.exit_code == 2 else "run"}
    name = type(error).__name__
    if is_out_of_memory(error):
        return _OUT_OF_MEMORY | {"why": shorten(error, 300)}
    if (full := disk_full(error, folder or Path.cwd())) is not None:
        return full.as_dict() | {"kind": "disk"}
    if any(words in str(error) for words in TORCH_CANNOT_WRITE):
        return {**_NOT_WRITTEN}
    if is_damage(error):
        return _DAMAGED | {"why": f"Reading it ended with {name}."}
    return {
        "what": "The run failed with an unexpected error.",
        "why": f"{name}: {shorten(error, 300)}",
        "try": "see the end of its log; if the settings look right, file an issue with that log",
    }


def is_damage(error: BaseException) -> bool:
    """Whether a saved file could not be read, or contains what must not be loaded."""
    if type(error).__name__ in ("UnpicklingError", "SafetensorError", "BadZipFile"):
        return True
    return any(words in str(error) for words in _TORCH_CANNOT_READ)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or its cause, says that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or "OutOfMemory" in type(seen).__name__:
            return True
        if getattr(seen, "errno", None) == errno.ENOMEM or says_out_of_memory(str(seen)):
            return True
        seen = seen.__cause__
    return False


def says_out_of_memory(text: str) -> bool:
    """Whether a message or the end of a log says that memory ran out."""
    return any(words in text.lower() for words in _MEMORY_WORDS)


def explain_death(returncode: int | None, log_file: Path, status: RunStatus) -> ErrorJson:
    """The error for status.json of a process that ended without giving a reason.

    `returncode` is that of `subprocess` (negative: a signal), or None when the process was not our child.
    """
    end = tail(log_file)
    where = " at {} {} of {}".format(*counted) if (counted := status.counted) else ""
    if returncode == DISK_FULL_CODE or "No space left on device" in end or is_full(log_file.parent):
        return {**_DISK_FULL}
    if says_out_of_memory(end):
        return _OUT_OF_MEMORY | {"why": "The log says so."}
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else f"signal {-returncode}"
        killed = returncode == -getattr(signal, "SIGKILL", 9)
        return {
            "kind": "gone",
            "what": f"The training process was killed from outside ({name}){where}.",
            "why": "The system does that when memory runs out. A person or a scheduler can do it too."
            if killed
            else None,
            "try": "if nobody killed it, use a smaller batch, a shorter longest example, or QLoRA, and train again",
        }
    last = last_line(log_file)
    return {
        "kind": "gone",
        "what": f"The training process ended{where} without giving a reason.",
        "why": "It was killed (often because memory ran out), or the machine was restarted."
        + (f" Its log ends with: {shorten(last, 160)}" if last else ""),
        "try": "train again, with a smaller batch or QLoRA if memory ran out",
    }


def explain_lost_rank(
    lost: list[LostRankJson],
    processes: int,
    reported: ErrorJson | None,
    log_file: Path,
    status: RunStatus,
    returncode: int,
) -> ErrorJson:
    """The error of a run in which one of several processes failed, and took the others with it.

    `lost` are those that died, `reported` is the error of the first one that failed, `returncode` that of their
    launcher. SIGTERM is no reason: the launcher sends it to the remaining processes.
    """
    killed = [rank for rank in lost if rank["exitcode"] < 0 and rank["exitcode"] != -signal.SIGTERM]
    if killed:
        # Before all else: the others only report that they lost it.
        reason = explain_death(killed[0]["exitcode"], log_file, status)
        what = reason["what"].replace(
            "The training process", f"Training process {killed[0]['rank'] + 1} of {processes}"
        )
        return reason | {"what": what}
    if any(rank["exitcode"] == DISK_FULL_CODE for rank in lost):
        return {**_DISK_FULL}
    return reported or explain_death(returncode, log_file, status)


# torch warns: "an autograd kernel was not registered to the Autograd key(s) but we are trying to backprop through it.
# This may lead to silently incorrect behavior." (autograd_not_implemented_fallback.cpp, torch 2.13)
_WORDS = (
    r"silently (?:incorrect|wrong)|autograd kernel was not registered|(?:incorrect|wrong) gradient"
    r"|gradients? (?:will|may|might|can) be (?:silently )?(?:incorrect|wrong)"
)
_WRONG = re.compile(_WORDS, re.IGNORECASE)


@contextlib.contextmanager
def no_wrong_gradients() -> Iterator[None]:
    """Raise FtlabError where such a warning occurs: in the backward pass, before the weights change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=rf"(?is).*(?:{_WORDS})")
        try:
            yield
        except Warning as warning:
            if not _WRONG.search(str(warning)):
                raise
            raise _error(str(warning)) from warning


class LogWatch:
    """Looks for such warnings in what libraries print to `log_file` outside Python, from its current end on."""

    def __init__(self, log_file: Path):
        self._file = log_file
        self._read = log_file.stat().st_size if log_file.exists() else 0

    def check(self) -> None:
        """Raise FtlabError when one was printed since the last check."""
        if not self._file.exists():
            return
        with self._file.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        # A line that is still being written is read again.
        self._read += new.rfind(b"\n") + 1
        for line in new.decode("utf-8", "replace").splitlines():
            if _WRONG.search(line):
                raise _error(line)


def _error(text: str) -> FtlabError:
    return FtlabError(
        "The run was stopped because its gradients would be wrong.",
        why=f"A library warns: {shorten(text, 300)}",
        try_="another method (method.name=lora), or another version of that library; the run's log has the whole "
        "warning",
    )
