"""Accelerate's launcher for one run on this machine: `python -m ftlab.training.launching.launch RUN_DIRECTORY`.

The run's worker starts it. On each additional machine of the run a person starts it, with --machine-rank.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from pathlib import Path

from ftlab.config import LauncherConfig, RunConfig, load_config
from ftlab.core.files import write_json
from ftlab.core.parsing import read_yaml
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError
from ftlab.training.failures import explain_exception
from ftlab.training.launcher import SHARDING, accelerate_file, folder_of, threads_per_process


def command(run: RunDirectory, launcher: LauncherConfig, *, machine_rank: int | None = None) -> list[str]:
    """The arguments of `accelerate launch` that start the ranks of `run` on this machine."""
    kind = str(read_yaml(accelerate_file(run)).get("distributed_type"))
    arguments = [
        "--config_file", str(accelerate_file(run)),
        "--num_processes", str(launcher.processes),
        "--num_machines", str(launcher.machines),
        "--num_cpu_threads_per_process", str(threads_per_process(launcher)),
        # The number format is a setting of the run: transformers' Trainer hands it to accelerate.
        "--mixed_precision", "no",
        "--dynamo_backend", "no",
    ]  # fmt: skip
    if launcher.machines > 1:
        # Regardless of the file: the run has one copy of it for all machines, and starts on the first.
        arguments += ["--machine_rank", str(machine_rank or 0)]
    if kind not in SHARDING and launcher.processes > 1:
        # On CPUs too: the flag selects torch's own launcher. With --cpu accelerate starts a single process, whatever
        # the number, and leaves the others to mpirun.
        arguments.append("--multi_gpu")
    return [*arguments, "--module", "ftlab.training.launching.rank", str(run.path)]


def end_with_starter(descriptor: int) -> None:
    """Wait until the other end of the pipe `descriptor` closes, because its process is gone; then exit at once."""
    while os.read(descriptor, 1):
        pass
    os._exit(1)


def main() -> int:
    """Accelerate's launcher for one run on this machine."""
    parser = argparse.ArgumentParser(
        prog="ftlab.training.launching.launch",
        description="On an additional machine: join a run that trains on several.",
    )
    parser.add_argument("run", type=Path, help="the run directory, on a disk that all machines share")
    parser.add_argument(
        "--machine-rank", type=int, help="the number of this machine; 0 is the one that started the run"
    )
    parser.add_argument("--with-starter", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    run = RunDirectory(args.run.absolute())
    try:
        config = load_config(run.config_file)
        _check_machine(config.launcher, args.machine_rank)
    except FtlabError as error:
        print(error.message(), file=sys.stderr)
        return error.exit_code
    if args.with_starter:
        threading.Thread(target=end_with_starter, args=(os.dup(0),), daemon=True).start()
    _tie_children()
    _set_environment(config)
    arguments = command(run, config.launcher, machine_rank=args.machine_rank)
    return _launch(arguments, folder_of(run) / f"lost-{args.machine_rank or 0}.json")


def _check_machine(launcher: LauncherConfig, number: int | None) -> None:
    if number is not None and not 0 < number < launcher.machines:
        raise InputError(
            "The run has no such machine",
            given=f"--machine-rank {number}, launcher.machines: {launcher.machines}",
            allowed=f"1 to {launcher.machines - 1}" if launcher.machines > 1 else "a run with several machines",
        )


def _tie_children() -> None:
    """Give child processes a standard input that closes when this process is gone, however it ends."""
    read, _ = os.pipe()  # children do not inherit the other end
    os.dup2(read, 0)
    os.close(read)


def _set_environment(config: RunConfig) -> None:
    from ftlab.models.load import is_hub_id, pick_device
    from ftlab.training.supervisor import environment_for

    environment = environment_for(config, online=is_hub_id(config.model.base))
    os.environ.clear()  # on an additional machine a person has started this process, with all their secrets
    os.environ.update(environment)
    if pick_device(config.launcher.device) == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _launch(arguments: list[str], lost_file: Path) -> int:
    """Run `accelerate launch` to its end, and write to `lost_file` (LostJson) which ranks died."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        print(error, flush=True)
        lost = [{"rank": rank, "exitcode": failure.exitcode} for rank, failure in sorted(error.failures.items())]
        write_json(lost_file, {"ranks": lost})
        return 1
    except subprocess.CalledProcessError as error:  # from a single process, which accelerate starts itself
        write_json(lost_file, {"ranks": [{"rank": 0, "exitcode": error.returncode}]})
        return 1
    except Exception as error:
        write_json(lost_file, {"error": explain_exception(error)})
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
