"""A whole model out of a base and an adapter, or a whole model in another number format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.collect import Progress
from ftlab.method_table import METHODS, titles
from ftlab.models.strength import AS_TRAINED, set_strength
from ftlab.run_directory import RunDirectory

FORMATS = ("float32", "float16", "bfloat16")
_BYTES_A_WEIGHT = 4.3  # float32, and room for one matrix more


def check_mergeable(config: RunConfig) -> None:
    """Raise InputError where the method leaves nothing that could become part of the base's weights."""
    name = config.method.name
    why = METHODS[name].not_merged
    if not why:
        return
    raise InputError(
        f"{METHODS[name].title.capitalize()} cannot be merged into the base: {why}",
        given=f"method.name: {name}",
        allowed=titles(one for one in METHODS if not METHODS[one].not_merged),
        try_="export the adapter instead (without --merge), which its README tells how to load; for one model in one "
        "folder, train with method.name=lora",
    )


def write_merged(
    run: RunDirectory, config: RunConfig, dtype: str, folder: Path, tell: Progress, *, strength: float = AS_TRAINED
) -> None:
    """Write config and weights of the whole model at `strength` to `folder`, as safetensors in `dtype`.

    Sums are made in float32, on the base at full precision: a quantised base would bring its rounding with it. Raises
    FtlabError when the memory does not suffice.
    """
    import torch

    from ftlab.config import ModelConfig
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.load import load_base

    whole = config.method.name == "full"
    source = ModelConfig(base=str(run.model), dtype="float32") if whole else _float32(config.model)
    between = whole and strength != AS_TRAINED
    _check_memory(source, copies=2 if between else 1)
    tell("loading the base at full precision", 0, 0)
    model: Any = load_base(source, device="cpu")
    if between:
        tell("interpolating with the base", 0, 0)
        set_strength(model, strength, base=load_base(_float32(config.model), device="cpu"))
    if not whole:
        from peft import PeftModel

        tell("merging the adapter into the base", 0, 0)
        model = set_strength(PeftModel.from_pretrained(model, str(run.adapter)), strength)
        model = model.merge_and_unload(safe_merge=True)
    model.to(getattr(torch, dtype))
    tell("writing the weights", 0, 0)
    model.save_pretrained(folder)
    del model
    free_memory()


def _float32(model: Any) -> Any:
    return model.model_copy(deep=True, update={"dtype": "float32"})


def _check_memory(source: Any, copies: int = 1) -> None:
    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_config_of

    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(load_config_of(source))
    needed = sum(parameter.numel() for parameter in shape.parameters()) * _BYTES_A_WEIGHT * copies
    free = psutil.virtual_memory().available
    if needed > free:
        raise FtlabError(
            "There is not enough memory to merge this model",
            why=f"It takes {needed / 1e9:.1f} GB, 4 bytes a weight, and {free / 1e9:.1f} GB are free.",
            try_="end other programs, merge on a larger machine, or export the adapter instead (without --merge)",
        )
