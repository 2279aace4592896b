"""Checks the settings of a run with several processes before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftlab.config import LauncherConfig, RunConfig
from ftlab.core.parsing import read_yaml
from ftlab.errors import InputError, shorten

SHARDING = ("FSDP", "DEEPSPEED")
_KINDS = ("NO", "MULTI_CPU", "MULTI_GPU", *SHARDING)
# The stages whose trainers were written for it: losses and counts are over the tokens of all processes.
_STAGES = ("sft", "pretraining")


def shards(launcher: LauncherConfig) -> bool:
    """Whether its accelerate configuration spreads the weights over processes, none of which has them all."""
    try:
        values = _read(Path(launcher.config_file).expanduser()) if launcher.config_file else {}
    except InputError:
        return False
    return str(values.get("distributed_type")) in SHARDING


def check_launcher(config: RunConfig, *, kept: Path | None = None) -> None:
    """Raise InputError when `config.launcher` cannot be: too few GPUs, machines without a way to each other, or no
    accelerate configuration in its file. A run that exists has a copy of it (`kept`), which counts."""
    launcher = config.launcher
    together = launcher.processes > 1 or launcher.config_file is not None
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
    if together and config.stage not in _STAGES:
        raise InputError(
            f"The stage {config.stage} supports only one process",
            given=f"launcher.processes: {launcher.processes}",
            allowed=f"several processes in the stages {' and '.join(_STAGES)}",
            try_="launcher.processes: 1, without launcher.config_file",
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
    """accelerate takes every key of an inner section for an option of its launcher, `log_dir: /anywhere` too."""
    from torch.distributed.run import get_args_parser

    options = {action.dest for action in get_args_parser()._actions}
    for section, inner in values.items():
        strange = sorted(options & set(inner)) if isinstance(inner, dict) else []
        if strange:
            raise InputError(
                f"{path.name} sets in {section} what does not belong there",
                given=f"{section}.{strange[0]}",
                allowed="what `accelerate config` writes",
            )


def _check_sharding(path: Path, kind: str, values: dict[str, Any], config: RunConfig) -> None:
    from ftlab.models.load import pick_device

    if kind in SHARDING and config.method.initialisation in ("pissa", "pissa_niter_16", "olora"):
        raise InputError(
            f"The LoRA initialisation {config.method.initialisation} needs all weights in each process",
            given=f"method.initialisation: {config.method.initialisation}, distributed_type: {kind}",
            try_="method.initialisation: default",
        )
    if kind in SHARDING and config.data.replay_prompts and config.data.replay_loss == "kl":
        raise InputError(
            "The base's own answers cannot be held by their probabilities if no process holds all weights",
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
                f"{path.name} saves the model in pieces, which nothing but FSDP can load",
                given=f"fsdp_config.fsdp_state_dict_type: {state}",
                allowed="FULL_STATE_DICT",
            )
    if kind in SHARDING and pick_device(config.launcher.device) == "cpu":
        # accelerate would silently train with plain data parallelism instead.
        raise InputError(
            f"{path.name} spreads the weights over GPUs, and this run trains on the CPU",
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
                allowed="standard: on each machine the run is started by hand",
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
        raise _not_accelerate(path, "it holds no settings")
    return values


def _not_accelerate(path: Path, why: str) -> InputError:
    return InputError(
        f"{path.name} is not an accelerate configuration: {why}",
        given=path,
        allowed="a YAML file that `accelerate config` wrote",
    )
