"""One of the processes that train a run together: `python -m ftlab.training.launching.rank RUN_DIRECTORY`.

`accelerate launch` starts them (see `launcher`). Each writes its progress and its error to a status file of its own;
the run's worker copies that of the first one into status.json. Not to be called by hand.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path

from ftlab.config import load_config
from ftlab.core.jobs import Stopped
from ftlab.core.processes import give_way, quieten
from ftlab.core.run_directory import RunDirectory
from ftlab.training import together
from ftlab.training.failures import DISK_FULL_CODE, explain_exception
from ftlab.training.launcher import NOT_BEGUN, rank_file
from ftlab.training.launching.launch import end_with_starter
from ftlab.training.status import StatusWriter
from ftlab.training.worker import train_here

# How long one process waits for another, for example while the first writes a checkpoint of many gigabytes.
_PATIENCE = timedelta(minutes=30)


def main() -> int:
    parser = argparse.ArgumentParser(prog="ftlab.training.launching.rank")
    parser.add_argument("run", type=Path)
    run = RunDirectory(parser.parse_args().run)
    quieten()
    # torch starts each rank in a session of its own, which the priority of the worker's session does not reach.
    give_way()
    threading.Thread(target=end_with_starter, args=(0,), daemon=True).start()
    writer = StatusWriter(rank_file(run, together.rank()))
    try:
        writer.update(state="running", started=time.time(), phase="loading the libraries")
        config = load_config(run.config_file)
        _meet(config.launcher.device)
        outcome = train_here(run, config, writer)
        together.wait_for_all()
        writer.update(state=outcome, phase="", finished=time.time())
        return 0
    except Stopped:
        writer.update(state="stopped", phase=NOT_BEGUN, finished=time.time())
        return 0
    except BaseException as error:
        try:
            traceback.print_exc()
            writer.update(state="failed", error=explain_exception(error), finished=time.time())
        except OSError:
            return DISK_FULL_CODE  # not even the error can be written
        return 1


def _meet(device: str) -> None:
    """Connect to the other processes, and select the GPU of this one."""
    from accelerate import PartialState

    from ftlab.models.load import pick_device

    PartialState(cpu=pick_device(device) == "cpu", timeout=_PATIENCE)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by a normal exit: after a failure the interpreter can wait forever for a process that is gone.
    os._exit(code)
