"""Several processes for one run, through `accelerate launch`: DDP, FSDP, DeepSpeed, several machines.

There are three kinds of process: the run's worker (`train_together`) waits for its turn and writes status.json; it
starts accelerate's launcher (`launch`), which starts the ranks (`rank`), which train. On each additional machine a
person starts a launcher.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import TypedDict

from ftlab.config import LauncherConfig, RunConfig
from ftlab.config.stages import REWARD_STAGES, SUPERVISED_STAGES
from ftlab.core.files import read_json, write_text
from ftlab.core.jobs import Stopped
from ftlab.core.parsing import read_yaml
from ftlab.core.processes import proven
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import ErrorJson, FtlabError, InputError, shorten
from ftlab.training.failures import LostRankJson, explain_lost_rank
from ftlab.training.status import RunStatus, StatusWriter, read_status
from ftlab.training.verify import verify_saved

SHARDING = ("FSDP", "DEEPSPEED")
_KINDS = ("NO", "MULTI_CPU", "MULTI_GPU", *SHARDING)

NOT_BEGUN = "stopped before training began"  # the phase of a rank that was
_POLL_SECONDS = 0.3
_END_SECONDS = 10.0
# What the status of the run copies from its first rank.
_COPIED = ("phase", "step", "total_steps", "done", "total", "epoch", "eta_seconds", "tokens_per_second",
          "trained_parameters", "total_parameters")  # fmt: skip


class LostJson(TypedDict, total=False):
    """What a launcher leaves behind when it fails: the `ranks` that died, or its own `error`."""

    ranks: list[LostRankJson]
    error: ErrorJson


def uses_accelerate(launcher: LauncherConfig) -> bool:
    """Whether processes of `accelerate launch` train the run, not its worker."""
    return launcher.processes > 1 or launcher.config_file is not None


def threads_per_process(launcher: LauncherConfig) -> int:
    """The CPU threads of each process: the requested number, else its share of this machine's cores."""
    asked = launcher.threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or max(1, cores // here(launcher))


def here(launcher: LauncherConfig) -> int:
    """The number of processes on one machine."""
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
    """Write accelerate.yaml into the run directory: a copy of the configured file, else the least that is needed."""
    if not uses_accelerate(launcher):
        return
    if launcher.config_file:
        write_text(accelerate_file(run), Path(launcher.config_file).expanduser().read_text(encoding="utf-8"))
        return
    # Always a file: without one, accelerate uses old settings from ~/.cache/huggingface.
    values = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "gpu_ids": "all",
        "main_process_port": 0,  # any free port, so that two runs on one machine do not collide
        "num_machines": 1,
        "num_processes": launcher.processes,
    }
    write_text(accelerate_file(run), yaml.safe_dump(values))


def shards(launcher: LauncherConfig) -> bool:
    """Whether the accelerate configuration of `launcher` shards the weights over the processes."""
    try:
        values = _read(Path(launcher.config_file).expanduser()) if launcher.config_file else {}
    except InputError:
        return False
    return str(values.get("distributed_type")) in SHARDING


def check_launcher(config: RunConfig, *, kept: Path | None = None) -> None:
    """Raise InputError when `config.launcher` cannot work: too few GPUs, machines that cannot connect, a file that is
    no accelerate configuration. For an existing run, its copy of that file (`kept`) counts."""
    launcher = config.launcher
    if launcher.machines > 1 and launcher.config_file is None:
        raise InputError(
            "Several machines need an accelerate configuration (launcher.config_file)",
            given=f"launcher.machines: {launcher.machines}",
            try_="run `accelerate config`, which asks for the first machine's address, and name the file it writes",
        )
    if launcher.processes % launcher.machines:
        raise InputError(
            "Every machine has to run the same number of processes",
            given=f"launcher.processes: {launcher.processes}, launcher.machines: {launcher.machines}",
            allowed="processes over all machines, a multiple of the machines",
        )
    # Rewards are measured, and answers sampled, in one process.
    if uses_accelerate(launcher) and config.stage in REWARD_STAGES:
        raise InputError(
            f"The stage {config.stage} supports only one process",
            given=f"launcher.processes: {launcher.processes}",
            allowed=f"several processes in all stages but {' and '.join(REWARD_STAGES)}",
            try_="launcher.processes: 1, without launcher.config_file",
        )
    if shards(launcher) and config.stage not in SUPERVISED_STAGES:
        raise InputError(
            f"The stage {config.stage} cannot share its weights among processes",
            given=f"launcher.config_file: {launcher.config_file}",
            allowed=f"FSDP and DeepSpeed in the stages {' and '.join(SUPERVISED_STAGES)}",
            try_="launcher.processes without launcher.config_file: each process then holds the whole model",
        )
    if launcher.config_file is not None:
        _check_file(kept if kept and kept.exists() else Path(launcher.config_file).expanduser(), config)
    if launcher.processes > 1:
        _check_gpus(launcher)


def _check_gpus(launcher: LauncherConfig) -> None:
    from ftlab.models.load import pick_device

    if pick_device(launcher.device) == "cpu":
        return
    import torch

    each, there = launcher.processes // launcher.machines, torch.cuda.device_count()
    if each > there:
        raise InputError(
            "There are more processes than GPUs",
            given=f"launcher.processes: {launcher.processes}"
            + (f" on {launcher.machines} machines" if launcher.machines > 1 else ""),
            allowed=f"at most {there} on this machine, one for each GPU",
            try_=f"launcher.processes: {there * launcher.machines}",
        )


def _check_file(path: Path, config: RunConfig) -> None:
    launcher = config.launcher
    values = _read(path)
    kind = str(values.get("distributed_type"))
    if "distributed_type" not in values:
        raise _not_accelerate(path, "it names no distributed_type")
    if str(values.get("compute_environment", "LOCAL_MACHINE")) != "LOCAL_MACHINE" or kind not in _KINDS:
        raise InputError(
            f"{path.name} configures a kind of training that ftlab does not support",
            given=f"compute_environment: {values.get('compute_environment')}, distributed_type: {kind}",
            allowed=f"compute_environment LOCAL_MACHINE with distributed_type {', '.join(_KINDS)}",
        )
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        load_config_from_file(str(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise _not_accelerate(path, shorten(error, 200)) from None
    _check_inner(path, values)
    for name, ours, setting in (
        ("num_processes", launcher.processes, "processes"),
        ("num_machines", launcher.machines, "machines"),
    ):
        theirs = values.get(name, -1)
        if theirs not in (-1, ours):
            raise InputError(
                f"{path.name} and the run give different numbers of {setting}",
                given=f"{name}: {theirs} in the file, launcher.{setting}: {ours}",
                try_=f"launcher.{setting}: {theirs}",
            )
    if launcher.machines > 1:
        for name in ("main_process_ip", "main_process_port"):
            if not values.get(name):
                raise InputError(
                    f"{path.name} does not say how the machines connect: {name} is missing",
                    given=f"launcher.machines: {launcher.machines}",
                    try_="run `accelerate config` again and choose multi-node",
                )
    _check_sharding(path, kind, values, config)


def _check_inner(path: Path, values: dict[str, Any]) -> None:
    """accelerate reads every key of an inner section as an option of its launcher, even `log_dir: /anywhere`."""
    from torch.distributed.run import get_args_parser

    options = {action.dest for action in get_args_parser()._actions}
    for section, inner in values.items():
        strange = sorted(options & set(inner)) if isinstance(inner, dict) else []
        if strange:
            raise InputError(
                f"{path.name} has an unknown setting in {section}",
                given=f"{section}.{strange[0]}",
                allowed="the settings that `accelerate config` writes",
            )


def _check_sharding(path: Path, kind: str, values: dict[str, Any], config: RunConfig) -> None:
    from ftlab.models.load import pick_device

    if kind in SHARDING and config.method.changes_base:
        raise InputError(
            f"The LoRA initialisation {config.method.initialisation} needs all weights in each process",
            given=f"method.initialisation: {config.method.initialisation}, distributed_type: {kind}",
            try_="method.initialisation: default",
        )
    if kind in SHARDING and config.data.replay_prompts and config.data.replay_loss == "kl":
        raise InputError(
            "Replay by probabilities (data.replay_loss kl) needs all weights in one process",
            given=f"data.replay: {config.data.replay}, distributed_type: {kind}",
            try_="data.replay=none, or data.replay_loss=nll",
        )
    if kind in SHARDING and config.optimisation.loss == "eaft":
        raise InputError(
            "The loss eaft needs the whole head in each process",
            given=f"optimisation.loss: eaft, distributed_type: {kind}",
            try_="optimisation.loss=dft or nll",
        )
    if kind == "FSDP":
        state = (values.get("fsdp_config") or {}).get("fsdp_state_dict_type")
        if state != "FULL_STATE_DICT":
            raise InputError(
                f"{path.name} saves the model in shards that only FSDP can load",
                given=f"fsdp_config.fsdp_state_dict_type: {state}",
                allowed="FULL_STATE_DICT",
            )
    if kind in SHARDING and pick_device(config.launcher.device) == "cpu":
        # accelerate would silently fall back to plain data parallelism.
        raise InputError(
            f"{path.name} shards the weights across GPUs, but this run trains on the CPU",
            given=f"distributed_type: {kind}",
            try_="distributed_type: MULTI_CPU, or launcher.processes without a file",
        )
    if kind == "DEEPSPEED":
        from accelerate.utils import is_deepspeed_available

        if not is_deepspeed_available():
            raise InputError(
                "DeepSpeed is not installed", given=f"distributed_type: {kind}", try_="pip install deepspeed, or FSDP"
            )
        starter = (values.get("deepspeed_config") or {}).get("deepspeed_multinode_launcher")
        if config.launcher.machines > 1 and starter != "standard":
            raise InputError(
                f"{path.name} lets DeepSpeed start the other machines itself",
                given=f"deepspeed_config.deepspeed_multinode_launcher: {starter}",
                allowed="standard: start the run yourself on each machine",
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise InputError(
            "There is no such accelerate configuration (launcher.config_file)",
            given=path,
            try_="run `accelerate config --config_file FILE`, which writes one",
        ) from None
    if not isinstance(values, dict):
        raise _not_accelerate(path, "it contains no settings")
    return values


def _not_accelerate(path: Path, why: str) -> InputError:
    return InputError(
        f"{path.name} is not an accelerate configuration: {why}",
        given=path,
        allowed="a YAML file that `accelerate config` wrote",
    )


def train_together(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` with several processes, and verify the result after they have ended. Returns completed or stopped.

    Raises FtlabError with the error of the process that failed first.
    """
    _clear(run)
    if not accelerate_file(run).exists():
        keep_configuration(run, config.launcher)
    writer.update(phase="starting the processes")
    if config.launcher.machines > 1:
        writer.update(phase="waiting for the other machines: the log shows the command to run there")
        print(
            "Run this on each additional machine, with its number instead of 1:\n"
            f"  python -m ftlab.training.launching.launch {run.path.absolute()} --machine-rank 1",
            flush=True,
        )
    # Not `processes.attached`: the launcher stays in the session of the worker, and gets time to end the ranks.
    process = subprocess.Popen(
        [sys.executable, "-m", "ftlab.training.launching.launch", str(run.path), "--with-starter"],
        # Open as long as the worker lives; the launcher ends with it, and the ranks with the launcher. The ranks have
        # sessions of their own, which a signal to the worker's group does not reach.
        stdin=subprocess.PIPE,
    )
    try:
        while process.poll() is None:
            if run.stop_file.exists() and not rank_file(run, 0).exists():
                raise Stopped  # nothing was trained yet, and another machine may never join
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
    """Copy the progress of the first rank into the status of the run."""
    first = _status_of(rank_file(run, 0))
    if first is None:
        return
    now = {name: getattr(first, name) for name in _COPIED}
    if not first.is_active:
        del now["phase"]  # the rank has ended, and the run goes on
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
    """Leave no process behind: close the pipe, which ends the launcher and the ranks, and kill those that remain."""
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
        # The process id of a rank on another machine may belong to another process here.
        if (rank := proven(status.pid, status.pid_started, [run.path])) is not None:
            left.append(rank)
    for rank in psutil.wait_procs(left, timeout=_END_SECONDS)[1]:
        rank.kill()


def _reason(run: RunDirectory, config: RunConfig, status: RunStatus, returncode: int) -> FtlabError:
    """The error of training with several processes."""
    lost: list[LostJson] = [read_json(path, {}) for path in sorted(folder_of(run).glob("lost-*.json"))]
    failed = sorted(
        (rank for rank in _ranks(run) if rank.state == "failed" and rank.error), key=lambda rank: rank.finished or 0.0
    )
    error_of_first = failed[0].error if failed else next((file["error"] for file in lost if "error" in file), None)
    ranks = [rank for file in lost for rank in file.get("ranks", [])]
    reason = explain_lost_rank(ranks, config.launcher.processes, error_of_first, run.log_file, status, returncode)
    return FtlabError.from_json(reason)
