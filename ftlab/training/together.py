"""Communication among the processes that train one run. With a single process, each function returns at once.

`accelerate launch` starts them, and passes each its number in the environment.
"""

from __future__ import annotations

import os


def processes() -> int:
    """The number of processes that train this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process writes what there is only one of: the curve, the result, the files of the run."""
    return rank() == 0


def is_sharded() -> bool:
    """Whether FSDP or DeepSpeed may shard the weights, so that no process holds them all."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED"))


def wait_for_all() -> None:
    """Return when every process has called this."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def total(*values: float) -> tuple[float, ...]:
    """The sums of `values` over the processes, equal in all of them. All have to call it."""
    if processes() == 1:
        return values
    import torch
    from accelerate import PartialState

    summed = torch.tensor(values, dtype=torch.float64, device=PartialState().device)
    torch.distributed.all_reduce(summed)
    return tuple(summed.tolist())
