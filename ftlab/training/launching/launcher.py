"""More than one process for one run, through `accelerate launch`: DDP, FSDP, DeepSpeed, several machines.

Three kinds of process: the run's worker (`train_together`) waits for its turn and writes status.json; under it is
accelerate's launcher (`launch`); under that are the ranks (`rank`), which train. On each further machine a person
starts a launcher.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from ftlab.config import LauncherConfig, RunConfig
from ftlab.core.files import read_json, write_text
from ftlab.core.processes import proven
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError
from ftlab.training.failures import explain_lost_rank
from ftlab.training.status import RunStatus, StatusWriter, Stopped, read_status
from ftlab.training.verify import verify_saved

NOT_BEGUN = "stopped before training began"  # the phase of a rank that was
_POLL_SECONDS = 0.3
_END_SECONDS = 10.0
_SHOWN = ("phase", "step", "total_steps", "done", "total", "epoch", "eta_seconds", "tokens_per_second",
          "trained_parameters", "total_parameters")  # fmt: skip


def uses_accelerate(launcher: LauncherConfig) -> bool:
    """Whether the run is trained by processes of `accelerate launch` instead of by its worker itself."""
    return launcher.processes > 1 or launcher.config_file is not None


def threads_per_process(launcher: LauncherConfig) -> int:
    """The CPU threads of each process: those that were asked for, else its share of this machine's cores."""
    asked = launcher.threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or max(1, cores // here(launcher))


def here(launcher: LauncherConfig) -> int:
    """How many of the processes run on one machine."""
    return max(1, launcher.processes // launcher.machines)


def folder_of(run: RunDirectory) -> Path:
    return run.path / "launcher"


def rank_file(run: RunDirectory, rank: int) -> Path:
    """The status file of one process."""
    return folder_of(run) / f"rank-{rank}.json"


def accelerate_file(run: RunDirectory) -> Path:
    """The accelerate configuration of `run`: a copy, so that the run directory is complete."""
    return run.path / "accelerate.yaml"


def keep_configuration(run: RunDirectory, launcher: LauncherConfig) -> None:
    """Write accelerate.yaml into the run directory: the person's own file, or what several processes need at least."""
    if not uses_accelerate(launcher):
        return
    if launcher.config_file:
        write_text(accelerate_file(run), Path(launcher.config_file).expanduser().read_text(encoding="utf-8"))
        return
    # Always a file: without one accelerate takes the settings left behind in ~/.cache/huggingface.
    values = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "gpu_ids": "all",
        "main_process_port": 0,  # any that is free: two runs on one machine do not meet
        "num_machines": 1,
        "num_processes": launcher.processes,
    }
    write_text(accelerate_file(run), yaml.safe_dump(values))


def train_together(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` with several processes, and verify the result once all are gone. Returns completed or stopped.

    Raises FtlabError with the reason of the process that failed first.
    """
    _clear(run)
    if not accelerate_file(run).exists():
        keep_configuration(run, config.launcher)
    writer.update(phase="starting the processes")
    if config.launcher.machines > 1:
        writer.update(phase="waiting for the other machines: the log says what to start there")
        print(
            "Start on each further machine, with its number in the place of 1:\n"
            f"  python -m ftlab.training.launching.launch {run.path.absolute()} --machine-rank 1",
            flush=True,
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "ftlab.training.launching.launch", str(run.path), "--with-starter"],
        # Held open as long as the worker lives; the launcher ends with it, and the ranks with the launcher. They are
        # sessions of their own, so that a signal to the worker's group does not reach them.
        stdin=subprocess.PIPE,
    )
    try:
        while process.poll() is None:
            if run.stop_file.exists() and not rank_file(run, 0).exists():
                raise Stopped  # nothing was trained yet, and another machine may never come
            writer.check_there()
            _show(run, writer)
            time.sleep(_POLL_SECONDS)
        _show(run, writer)
    finally:
        _end(process, run)
    if process.returncode != 0:
        raise _reason(run, config, writer.status, process.returncode)
    first = read_status(rank_file(run, 0))
    if first.phase == NOT_BEGUN:
        raise Stopped
    stopped = first.state == "stopped"
    verify_saved(run, config, writer, stopped=stopped)
    return "stopped" if stopped else "completed"


def _show(run: RunDirectory, writer: StatusWriter) -> None:
    """Make what the first rank says of itself the status of the run."""
    first = _status_of(rank_file(run, 0))
    if first is None:
        return
    now = {name: getattr(first, name) for name in _SHOWN}
    if not first.is_active:
        del now["phase"]  # it has ended, and the run goes on
    if any(getattr(writer.status, name) != value for name, value in now.items()):
        writer.update(**now)
    for message in first.warnings:
        writer.warn(message)


def _status_of(path: Path) -> RunStatus | None:
    try:
        return read_status(path)
    except FileNotFoundError:
        return None


def _ranks(run: RunDirectory) -> list[RunStatus]:
    statuses = (_status_of(path) for path in sorted(folder_of(run).glob("rank-*.json")))
    return [status for status in statuses if status is not None]


def _clear(run: RunDirectory) -> None:
    for path in folder_of(run).glob("*"):
        path.unlink()
    folder_of(run).mkdir(exist_ok=True)


def _end(process: subprocess.Popen[bytes], run: RunDirectory) -> None:
    """Leave no process behind: the pipe closes, the launcher and the ranks end; who does not is killed."""
    import psutil

    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    left = []
    for status in _ranks(run):
        # A rank on another machine has a number that may be another process's here.
        if (process_left := proven(status.pid, status.pid_started, [run.path])) is not None:
            left.append(process_left)
    for process_left in psutil.wait_procs(left, timeout=_END_SECONDS)[1]:
        process_left.kill()


def _reason(run: RunDirectory, config: RunConfig, status: RunStatus, returncode: int) -> FtlabError:
    """Why training with several processes failed."""
    lost: list[dict[str, Any]] = [read_json(path, {}) for path in sorted(folder_of(run).glob("lost-*.json"))]
    failed = sorted(
        (rank for rank in _ranks(run) if rank.state == "failed" and rank.error), key=lambda rank: rank.finished or 0.0
    )
    error_of_first = failed[0].error if failed else next((file["error"] for file in lost if "error" in file), None)
    ranks = [rank for file in lost for rank in file.get("ranks", [])]
    reason = explain_lost_rank(ranks, config.launcher.processes, error_of_first, run.log_file, status, returncode)
    error = FtlabError(reason["what"], why=reason.get("why"), try_=reason.get("try"))
    error.exit_code = 2 if reason.get("kind") == "input" else 1
    return error
