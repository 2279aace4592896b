"""More than one process for one run, through `accelerate launch`: DDP, FSDP, DeepSpeed, several machines.

Three kinds of process: the run's worker (`train_together`) waits for its turn, writes status.json and ends first when
somebody ends the run; under it `python -m ftlab.training.launcher RUN_DIRECTORY` is accelerate's launcher; under that
are the ranks (`rank`), which train. On each further machine a person starts the second kind, with --machine-rank.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from ftlab.config import LauncherConfig, RunConfig, load_config
from ftlab.errors import FtlabError
from ftlab.training.failures import explain_exception, explain_lost_rank, is_out_of_memory
from ftlab.training.launcher_check import SHARDING
from ftlab.training.status import RunStatus, StatusWriter, read_status
from ftlab.workspace import RunDirectory, read_json, write_json, write_text

_POLL_SECONDS = 0.3
_END_SECONDS = 10.0
_SHOWN = ("phase", "step", "total_steps", "epoch", "eta_seconds", "tokens_per_second", "trained_parameters",
          "total_parameters")  # fmt: skip


def uses_accelerate(launcher: LauncherConfig) -> bool:
    """Whether the run is trained by processes of `accelerate launch` instead of by its worker itself."""
    return launcher.processes > 1 or launcher.config_file is not None


def threads_per_process(launcher: LauncherConfig) -> int:
    """The CPU threads of each process: those that were asked for, else its share of this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return launcher.threads or max(1, cores // here(launcher))


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
    # Always a file: without one accelerate takes the settings that somebody once left in ~/.cache/huggingface.
    values = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "gpu_ids": "all",
        "main_process_port": 0,  # any that is free: two runs on one machine do not meet
        "num_machines": 1,
        "num_processes": launcher.processes,
    }
    write_text(accelerate_file(run), yaml.safe_dump(values))


def command(run: RunDirectory, launcher: LauncherConfig, *, machine_rank: int | None = None) -> list[str]:
    """The arguments of `accelerate launch` that start the ranks of `run` on this machine."""
    kind = str(yaml.safe_load(accelerate_file(run).read_text(encoding="utf-8")).get("distributed_type"))
    arguments = [
        "--config_file", str(accelerate_file(run)),
        "--num_processes", str(launcher.processes),
        "--num_machines", str(launcher.machines),
        "--num_cpu_threads_per_process", str(threads_per_process(launcher)),
        # The number format is a setting of the run: transformers' Trainer hands it to accelerate.
        "--mixed_precision", "no",
        "--dynamo_backend", "no",
    ]  # fmt: skip
    if machine_rank is not None:
        arguments += ["--machine_rank", str(machine_rank)]
    if kind not in SHARDING and launcher.processes > 1:
        # Also on CPUs: the flag means torch's own launcher. With --cpu accelerate starts a single process, whatever
        # the number, and leaves the others to mpirun.
        arguments.append("--multi_gpu")
    return [*arguments, "--module", "ftlab.training.rank", str(run.path)]


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
            f"  python -m ftlab.training.launcher {run.path.absolute()} --machine-rank 1",
            flush=True,
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "ftlab.training.launcher", str(run.path), "--with-starter"],
        # Held open as long as the worker lives; the launcher ends with it, and the ranks with the launcher. They are
        # sessions of their own, so that a signal to the worker's group does not reach them.
        stdin=subprocess.PIPE,
    )
    try:
        while process.poll() is None:
            if run.stop_file.exists() and not rank_file(run, 0).exists():
                return "stopped"  # nothing was trained yet, and another machine may never come
            _show(run, writer)
            time.sleep(_POLL_SECONDS)
        _show(run, writer)
    finally:
        _end(process, run)
    if process.returncode != 0:
        raise _reason(run, config, writer.status, process.returncode)
    _verify(run, config, writer)
    return "stopped" if read_status(rank_file(run, 0)).state == "stopped" else "completed"


def end_with_starter(descriptor: int) -> None:
    """Wait until the other end of the pipe `descriptor` closes, because its holder is gone; then end at once."""
    while os.read(descriptor, 1):
        pass
    os._exit(1)


def main() -> int:
    """Accelerate's launcher for one run on this machine."""
    parser = argparse.ArgumentParser(
        prog="ftlab.training.launcher", description="On a further machine: take part in a run that trains on several."
    )
    parser.add_argument("run", type=Path, help="the run directory, on a disk that all machines see")
    parser.add_argument("--machine-rank", type=int, help="the number of this machine; 0 is where the run was started")
    parser.add_argument("--with-starter", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    run = RunDirectory(given.run.absolute())
    config = load_config(run.config_file)
    if given.with_starter:
        threading.Thread(target=end_with_starter, args=(os.dup(0),), daemon=True).start()
    _tie_children()
    _set_environment(config)
    return _launch(run, command(run, config.launcher, machine_rank=given.machine_rank))


def _tie_children() -> None:
    """Give whatever this process starts a standard input that closes when this process is gone, however it ends."""
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    os.set_inheritable(write, False)


def _set_environment(config: RunConfig) -> None:
    from ftlab.models.load import is_hub_id, pick_device
    from ftlab.training.supervisor import environment_for

    os.environ.update(environment_for(config, online=is_hub_id(config.model.base)))
    if pick_device(config.launcher.device) == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _launch(run: RunDirectory, arguments: list[str]) -> int:
    """Run `accelerate launch` to its end, and leave behind which ranks died, and of what."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        print(error, flush=True)
        lost = [{"rank": rank, "exitcode": one.exitcode} for rank, one in sorted(error.failures.items())]
        write_json(folder_of(run) / "lost.json", {"ranks": lost})
        return 1
    except subprocess.CalledProcessError as error:  # of a single process, which accelerate starts itself
        write_json(folder_of(run) / "lost.json", {"ranks": [{"rank": 0, "exitcode": error.returncode}]})
        return 1
    except Exception as error:
        write_json(folder_of(run) / "lost.json", {"error": explain_exception(error)})
        raise
    return 0


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


def _verify(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> None:
    """Verify what the processes left behind; it is a warning where that is too large for one."""
    from ftlab.training.verify import verify_kept, warn_of

    writer.update(phase="verifying the result", eta_seconds=None, tokens_per_second=None)
    try:
        warn_of(verify_kept(run, config), writer)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        writer.warn("The result is saved, and not verified: it does not fit into the memory of one process.")


def _status_of(path: Path) -> RunStatus | None:
    try:
        return read_status(path)
    except FileNotFoundError:
        return None


def _ranks(run: RunDirectory) -> list[RunStatus]:
    found = (_status_of(path) for path in sorted(folder_of(run).glob("rank-*.json")))
    return [status for status in found if status is not None]


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
        # A rank on another machine has a number that may be somebody else's here: the time tells them apart.
        try:
            one = psutil.Process(status.pid)
            if status.pid_started and abs(one.create_time() - status.pid_started) < 1.0:
                left.append(one)
        except psutil.NoSuchProcess:
            continue
    for one in psutil.wait_procs(left, timeout=_END_SECONDS)[1]:
        one.kill()


def _reason(run: RunDirectory, config: RunConfig, status: RunStatus, returncode: int) -> FtlabError:
    """Why training with several processes failed."""
    lost: dict[str, Any] = read_json(folder_of(run) / "lost.json", {})
    failed = sorted(
        (one for one in _ranks(run) if one.state == "failed" and one.error), key=lambda one: one.finished or 0.0
    )
    told = failed[0].error if failed else lost.get("error")
    reason = explain_lost_rank(lost.get("ranks", []), config.launcher.processes, told, run.log_file, status, returncode)
    error = FtlabError(reason["what"], why=reason.get("why"), try_=reason.get("try"))
    error.exit_code = 2 if reason.get("kind") == "input" else 1
    return error


if __name__ == "__main__":
    sys.exit(main())
