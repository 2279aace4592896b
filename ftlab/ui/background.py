"""Background work: import the heavy libraries, and free memory when a run starts."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time

from ftlab.core.run_directory import RunDirectory
from ftlab.ui import run_files

# In order of first use: data and tokens first, models after.
_LIBRARIES = ("datasets", "transformers", "torch", "peft", "transformers.models.llama.modeling_llama")
_PAUSE_SECONDS = 2.0
_one_at_a_time = threading.Lock()


def import_later(served: threading.Event) -> threading.Thread:
    """Import the heavy libraries in a low-priority thread, after `served`, so that the first chat starts quickly."""
    thread = threading.Thread(target=_import, args=(served,), daemon=True, name="imports")
    thread.start()
    return thread


def ensure(name: str) -> None:
    """Import the library `name`, or wait until another thread has imported it.

    transformers replaces its own module object while it is imported, so a concurrent `from transformers import ...`
    gets the wrong one. Handlers that need the library call this function first.
    """
    with _one_at_a_time:
        importlib.import_module(name)


def release_models(device: str) -> threading.Thread:
    """Free the GPU memory of the models of Chat and of live tests for a run that starts on `device` (auto, cpu, cuda).

    Runs in a thread, because an answer in progress is finished first. The run needs longer to load its libraries.
    """
    from ftlab.evaluation.loaded import release_for

    thread = threading.Thread(target=release_for, args=(device,), daemon=True, name="release")
    thread.start()
    return thread


def make_room(run: RunDirectory) -> threading.Thread:
    """Like `release_models`, for more work on `run`."""
    config = run_files.config(run)
    return release_models(config.launcher.device if config else "auto")


def _import(served: threading.Event) -> None:
    served.wait()
    time.sleep(_PAUSE_SECONDS)
    with contextlib.suppress(AttributeError, OSError):
        # On Linux, each thread has its own priority.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    for name in _LIBRARIES:
        # Code that needs a missing library reports it when it runs.
        with contextlib.suppress(ImportError):
            ensure(name)
