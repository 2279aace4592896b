"""Processes that outlive whoever started them: whether one is still there, and how to end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

_START_SECONDS = 120.0
_KILL_SECONDS = 5.0


def is_alive(child: subprocess.Popen[bytes] | None, pid: int | None, pid_started: float | None, created: float) -> bool:
    """Whether the process is at work. `child` is it where this process started it; else it is `pid`, which the system
    may have given to another one since: `pid_started` tells them apart. `created` is when it was to start (all times
    in unix seconds).
    """
    import psutil

    if child is not None:
        return child.poll() is None
    if pid is None:
        # Started by somebody else and not yet in Python: trust the start for a while.
        return time.time() - created < _START_SECONDS
    try:
        process = psutil.Process(pid)
        same = pid_started is None or abs(process.create_time() - pid_started) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def kill(child: subprocess.Popen[bytes] | None, pid: int | None, alive: Callable[[], Any]) -> None:
    """End a process with everything it started, and wait a moment until it is gone."""
    pid = child.pid if child is not None else pid
    if pid is None:
        return
    kill_group(pid)
    end = time.monotonic() + _KILL_SECONDS
    while alive() and time.monotonic() < end:
        time.sleep(0.1)


def kill_group(pid: int) -> None:
    """End the process `pid` and everything it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
