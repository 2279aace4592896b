"""Memory of a training process: how much there is, how much it used, and which change would make it fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, filled
from ftlab.config.methods import METHODS
from ftlab.models.estimate import Need

# A run that uses less than this share of the free memory is safe from fragmentation and from other programs.
SAFE_SHARE = 0.9
# Activations that a layer keeps for the backward pass, in units of (tokens x hidden size): 34 bytes in a 16-bit format
# without the attention scores (which SDPA does not keep), and 2 when only its input is kept (Korthikanti et al. 2022,
# Reducing Activation Recomputation in Large Transformer Models, arXiv 2205.05198, section 4).
_KEPT, _KEPT_CHECKPOINTED = 34, 2
_QLORA_BYTES = 0.52  # a weight in nf4 with double quantization: 4.127 bits (Dettmers et al. 2023, section 3)
_CGROUP = Path("/sys/fs/cgroup")
# (limit, used) of the container that this process may be in: version 2 of control groups, then version 1.
_CONTAINER = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Remedy:
    """A change of settings that makes a run fit. `peak` is the memory it then takes (bytes), None if unknown."""

    settings: dict[str, Any]
    what: str
    costs: str
    peak: int | None = None
    measured: bool = False
    also: str = ""  # what it changes besides the batch

    def as_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "what": self.what,
            "costs": self.costs,
            "peak_bytes": self.peak,
            "measured": self.measured,
        }


def remedies(config: RunConfig, need: Need, available: int, lengths: Sequence[int]) -> list[Remedy]:
    """The changes that would make a run fit into `available` bytes, the least harmful first.

    `lengths` are the tokens of the training rows. The peaks are calculated from `need`, not measured.
    """
    room = int(available * SAFE_SHARE)
    batch, name = filled(config.optimisation.batch_size), config.method.name
    options: list[Remedy] = []

    def offer(fixed: int, factor: float, settings: dict[str, Any], what: str, costs: str) -> None:
        """The change with the largest batch that fits with it, if there is one."""
        for rows in divisors(batch):
            peak = int(fixed + need.activations * factor * rows / batch)
            if peak <= room and (settings or rows < batch):
                smaller = smaller_batch(config, rows) if rows < batch else {}
                options.append(Remedy(settings | smaller, _and_batch(what, config, rows), costs, peak))
                return

    offer(need.fixed, 1, {}, "", _COST_BATCH)
    checkpointing = _checkpointing(need)
    if not config.optimisation.gradient_checkpointing and name != "prefix_tuning":
        settings: dict[str, Any] = {"optimisation.gradient_checkpointing": True}
        offer(need.fixed, checkpointing, settings, "gradient checkpointing", _COST_CHECKPOINTING)
    if METHODS[name].quantises:
        fixed = need.fixed - max(0, need.linear - int(need.linear_weights * _QLORA_BYTES))
        if name == "full":
            # Full tuning also keeps a gradient and two moments of every weight, which the small matrices do not need.
            fixed -= 12 * need.linear_weights
        fixed = max(0, fixed)
        before = len(options)
        offer(fixed, 1, {"method.name": "qlora"}, "QLoRA", _COST_QLORA)
        if len(options) == before and not config.optimisation.gradient_checkpointing:
            settings = {"method.name": "qlora", "optimisation.gradient_checkpointing": True}
            offer(fixed, checkpointing, settings, "QLoRA and gradient checkpointing", _COST_QLORA)
    shorter = _shorter(config, need, room, lengths)
    return [*options, *([shorter] if shorter else [])]


def ladder(config: RunConfig, *, loading: bool) -> list[Remedy]:
    """Changes to try one after the other when nothing could be measured, each on top of those before it.

    `loading`: memory ran out before the first step, so that a smaller batch cannot help.
    """
    settings, batch, name = config.optimisation, filled(config.optimisation.batch_size), config.method.name
    steps: list[Remedy] = []
    change: dict[str, Any] = {}
    if not loading:
        for most in (batch // 4, batch // 16, 1):
            rows = next(rows for rows in divisors(batch) if rows <= max(1, most))
            if rows < change.get("optimisation.batch_size", batch):
                change |= smaller_batch(config, rows)
                steps.append(Remedy(dict(change), _and_batch("", config, rows), _COST_BATCH))
        if not settings.gradient_checkpointing and name != "prefix_tuning":
            change["optimisation.gradient_checkpointing"] = True
            also = "gradient checkpointing"
            steps.append(Remedy(dict(change), _and_batch(also, config, 1), _COST_CHECKPOINTING, also=also))
    if METHODS[name].quantises:
        change["method.name"] = "qlora"
        also = "QLoRA" if loading else "QLoRA and gradient checkpointing"
        what = also if loading else _and_batch(also, config, 1)
        steps.append(Remedy(dict(change), what, _COST_QLORA, also=also))
    return steps


def larger_batch(config: RunConfig, fits: Remedy, need: Need, available: int, below: int) -> Remedy | None:
    """`fits`, which was measured as `need`, with a batch as large as the memory allows, smaller than `below` rows;
    None when its own is the largest. Many small batches are slower than a few large ones."""
    batch = filled(config.optimisation.batch_size)
    measured = fits.settings.get("optimisation.batch_size", batch)
    for rows in divisors(batch):
        peak = int(need.fixed + need.activations * rows / measured)
        if measured < rows < below and peak <= available * SAFE_SHARE:
            what = _and_batch(fits.also, config, rows)
            return Remedy(fits.settings | smaller_batch(config, rows), what, fits.costs, peak, also=fits.also)
    return None


def divisors(batch: int) -> list[int]:
    """The batch sizes that, with accumulation, keep the rows of a step: `batch` first, 1 last."""
    return [rows for rows in range(batch, 0, -1) if batch % rows == 0] if batch else [1]


def smaller_batch(config: RunConfig, rows: int) -> dict[str, Any]:
    """Settings with `rows` a batch and as many rows a step as before."""
    return {
        "optimisation.batch_size": rows,
        "optimisation.gradient_accumulation": config.optimisation.rows_per_step // rows,
    }


def available_memory(device: str) -> tuple[int, int]:
    """(free for this process, whole) bytes of the GPU, or of the machine or container that this process is in.

    What this process holds already counts as free: it is part of what will be measured.
    """
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved(), total
    import psutil

    machine = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    limits = [(machine.available + own, machine.total)]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        whole, taken = _number(Path("/sys/fs/cgroup") / limit), _number(Path("/sys/fs/cgroup") / used)
        if whole is not None and taken is not None and whole < machine.total:
            # What is only kept of files is given back when memory is short.
            limits.append((whole - max(0, taken - _file_cache()) + own, whole))
    address_space = _address_space()
    if address_space is not None:
        limits.append((address_space, address_space))
    free, total = min(limits)
    return max(0, free), total


def held_memory(device: str) -> int:
    """Bytes that this process holds now: reserved on the GPU, or resident in RAM."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_reserved()
    import psutil

    return psutil.Process().memory_info().rss


def peak_memory(device: str) -> int:
    """The most bytes this process ever held: reserved on the GPU, or resident in RAM."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":
        # Not ru_maxrss, which begins with what the process that started this one held: an app with a model in its chat.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_COST_BATCH = "Learns the same. Smaller batches are somewhat slower."
_COST_CHECKPOINTING = "Learns the same. Each step takes about a third longer."
_COST_QLORA = "The base is rounded to 4 bits, which costs a little quality and, on a CPU, a lot of speed."


def _checkpointing(need: Need) -> float:
    """The part of the activations that stays with gradient checkpointing: the inputs of all layers, one layer whole,
    and what the vocabulary causes."""
    layers = _KEPT_CHECKPOINTED / _KEPT + 1 / max(1, need.layers)
    return need.head_share + (1 - need.head_share) * min(1.0, layers)


def _shorter(config: RunConfig, need: Need, room: int, lengths: Sequence[int]) -> Remedy | None:
    """The longest `max_length` that fits with the batch as it is (else with single rows), and the rows it cuts."""
    longest, batch = max(lengths, default=0), filled(config.optimisation.batch_size)
    for rows in dict.fromkeys((batch, 1)):
        activations = need.activations * rows / batch
        limit = int(longest * (room - need.fixed) / max(1, activations)) // 16 * 16
        cut = sum(length > limit for length in lengths)
        # A run that loses more than half of its rows is refused.
        if 16 <= limit < longest and cut <= len(lengths) / 2:
            single = rows < batch
            return Remedy(
                {"optimisation.max_length": limit} | (smaller_batch(config, rows) if single else {}),
                f"a longest example of {limit:,} tokens" + (", one row at a time" if single else ""),
                f"Leaves out {cut:,} of {len(lengths):,} training rows.",
                int(need.fixed + activations * limit / longest),
            )
    return None


def _and_batch(what: str, config: RunConfig, rows: int) -> str:
    settings = config.optimisation
    steps = settings.rows_per_step // rows
    smaller = f"a batch of {rows} with {steps} steps of accumulation" if rows < filled(settings.batch_size) else ""
    return " and ".join(filter(None, [smaller, what])) if smaller else what


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _file_cache() -> int:
    """Bytes of the container that hold files that are not in use."""
    for name in ("memory.stat", "memory/memory.stat"):
        try:
            lines = (_CGROUP / name).read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split(" ", 1) for line in lines if " " in line)
        return int(values.get("inactive_file", values.get("total_inactive_file", 0)))
    return 0


def _address_space() -> int | None:
    """The limit that `ulimit -v` sets for this process, in bytes."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
