"""What nobody should wait for: loading the heavy libraries, and giving memory back when a run starts."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time

from ftlab.core.run_directory import RunDirectory
from ftlab.ui import run_files

# In the order in which a person meets them: data and tokens first, models after.
_LIBRARIES = ("datasets", "transformers", "torch", "peft", "transformers.models.llama.modeling_llama")
_PAUSE_SECONDS = 2.0
_one_at_a_time = threading.Lock()


def import_later(served: threading.Event) -> threading.Thread:
    """Import the heavy libraries in a thread of low priority, after `served`, so that the first chat is quick."""
    thread = threading.Thread(target=_import, args=(served,), daemon=True, name="imports")
    thread.start()
    return thread


def ensure(name: str) -> None:
    """Import the library `name`, or wait until another thread has.

    transformers puts another object in its own place while it is imported; who says `from transformers import ...` in
    that moment gets the wrong one. So handlers of the app that need it call this first.
    """
    with _one_at_a_time:
        importlib.import_module(name)


def release_chat(device: str) -> threading.Thread:
    """Give a run that starts on `device` (auto, cpu or cuda) the GPU memory of the chat's models.

    In a thread, because an answer that is being written is finished first; the run needs longer to load its libraries.
    """
    from ftlab.evaluation.duet import release_for

    thread = threading.Thread(target=release_for, args=(device,), daemon=True, name="release")
    thread.start()
    return thread


def make_room(run: RunDirectory) -> threading.Thread:
    """As `release_chat`, for more work on `run`."""
    config = run_files.config(run)
    return release_chat(config.launcher.device if config else "auto")


def _import(served: threading.Event) -> None:
    served.wait()
    time.sleep(_PAUSE_SECONDS)
    with contextlib.suppress(AttributeError, OSError):
        # On Linux a thread has a priority of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    for name in _LIBRARIES:
        # Whoever needs a library that is missing says so in words at that moment.
        with contextlib.suppress(ImportError):
            ensure(name)
