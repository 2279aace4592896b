"""Sizes of a run before it starts: its memory, batches, weights and steps, and changes that make it fit."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict

from ftlab.config import OptimisationConfig, RunConfig, filled
from ftlab.config.methods import METHODS
from ftlab.config.stages import SUPERVISED_STAGES

if TYPE_CHECKING:
    from ftlab.models.estimate import Need

# A run that uses less than this share of the free memory is safe from fragmentation and from other programs.
SAFE_SHARE = 0.9
# Activations that a layer keeps for the backward pass, in units of (tokens x hidden size): 34 bytes in a 16-bit format
# without the attention scores (which SDPA does not keep), and 2 when only its input is kept (Korthikanti et al. 2022,
# Reducing Activation Recomputation in Large Transformer Models, arXiv 2205.05198, section 4).
_KEPT, _KEPT_CHECKPOINTED = 34, 2
_QLORA_BYTES = 0.52  # a weight in nf4 with double quantization: 4.127 bits (Dettmers et al. 2023, section 3)
_CGROUP = Path("/sys/fs/cgroup")
# (limit, used) of the container that this process may be in: control groups version 2, then version 1.
_CONTAINER = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


class ComparisonSecondsJson(TypedDict):
    """Seconds of evaluating the base `before` training, and of the rest of the comparison `after` it."""

    before: float
    after: float


class MeasuredJson(TypedDict, total=False):
    """measured.json: what a probe has found out so far. Memory is in bytes; `tokens` and what follows are of one epoch.

    `loaded` is the memory before the first step, `lengths` and `drawn` are the tokens of the rows and the order in
    which the sampler draws them. The last two are those of a rate trial: losses of the rows `before` any step, and by
    rate.
    """

    device: str
    device_name: str
    dtype: str
    bfloat16_gain: float | None
    card_has_bf16: bool | None
    available: int
    total: int
    peak: int
    loaded: int
    replay_seconds: float
    startup_seconds: float
    template: Literal["marked", "plain", "missing"]
    stop_trained: bool | None
    context: int | None
    computing: list[str]
    weights_bytes: int
    trained_bytes: int
    trained: int
    linear_bytes: int
    linear_weights: int
    optimiser_bytes: int
    layers: int
    head_share: float
    steps: int
    evaluations: int
    lengths: list[int]
    tokens: int
    computed: int
    steps_per_epoch: int
    drawn: list[int]
    longest_seconds: float
    longest_rows: int
    longest_tokens: int
    seconds_per_token: float
    step_seconds: float
    steps_timed: int
    answers_grow_to: float
    evaluation_seconds: float
    comparison_seconds: ComparisonSecondsJson
    forgetting_seconds: float
    rows_asked: int
    done: bool
    before: list[float]
    losses: dict[str, list[float]]


class RemedyJson(TypedDict):
    settings: dict[str, Any]
    what: str
    costs: str
    peak_bytes: int | None
    measured: bool


@dataclass(frozen=True)
class Remedy:
    """A change of settings that makes a run fit. `peak` is the memory it then takes (bytes), None if unknown."""

    settings: dict[str, Any]
    what: str
    costs: str
    peak: int | None = None
    measured: bool = False
    also: str = ""  # what it changes besides the batch

    def as_dict(self) -> RemedyJson:
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
    if not config.optimisation.gradient_checkpointing and not METHODS[name].no_checkpointing:
        settings: dict[str, Any] = {"optimisation.gradient_checkpointing": True}
        offer(need.fixed, checkpointing, settings, "gradient checkpointing", _COST_CHECKPOINTING)
    if smaller := METHODS[name].smaller:
        title = METHODS[smaller].title
        fixed = need.fixed - max(0, need.linear - int(need.linear_weights * _QLORA_BYTES))
        if config.method.is_full:
            # Full tuning also keeps a gradient and two moments of every weight, which frozen weights do not need.
            fixed -= 12 * need.linear_weights
        fixed = max(0, fixed)
        before = len(options)
        offer(fixed, 1, {"method.name": smaller}, title, _COST_QLORA)
        if len(options) == before and not config.optimisation.gradient_checkpointing:
            settings = {"method.name": smaller, "optimisation.gradient_checkpointing": True}
            offer(fixed, checkpointing, settings, f"{title} and gradient checkpointing", _COST_QLORA)
    shorter = _shorter(config, need, room, lengths)
    return [*options, *([shorter] if shorter else [])]


def ladder(config: RunConfig, *, loading: bool) -> list[Remedy]:
    """Changes to try in turn when nothing could be measured, each in addition to those before it.

    `loading`: memory ran out before the first step, so a smaller batch cannot help.
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
        if not settings.gradient_checkpointing and not METHODS[name].no_checkpointing:
            change["optimisation.gradient_checkpointing"] = True
            also = "gradient checkpointing"
            steps.append(Remedy(dict(change), _and_batch(also, config, 1), _COST_CHECKPOINTING, also=also))
    if METHODS[name].smaller:
        change["method.name"] = METHODS[name].smaller
        title = METHODS[METHODS[name].smaller].title
        also = title if loading else f"{title} and gradient checkpointing"
        what = also if loading else _and_batch(also, config, 1)
        steps.append(Remedy(dict(change), what, _COST_QLORA, also=also))
    return steps


def larger_batch(config: RunConfig, fits: Remedy, need: Need, available: int, below: int) -> Remedy | None:
    """`fits`, which was measured as `need`, with the largest batch below `below` rows that the memory allows; None if
    it has that already. Many small batches are slower than a few large ones."""
    batch = filled(config.optimisation.batch_size)
    measured = fits.settings.get("optimisation.batch_size", batch)
    for rows in divisors(batch):
        peak = int(need.fixed + need.activations * rows / measured)
        if measured < rows < below and peak <= available * SAFE_SHARE:
            what = _and_batch(fits.also, config, rows)
            return Remedy(fits.settings | smaller_batch(config, rows), what, fits.costs, peak, also=fits.also)
    return None


def divisors(batch: int) -> list[int]:
    """The batch sizes that, with accumulation, keep the rows per step: from `batch` down to 1."""
    return [rows for rows in range(batch, 0, -1) if batch % rows == 0] if batch else [1]


def smaller_batch(config: RunConfig, rows: int) -> dict[str, Any]:
    """Settings with `rows` per batch and as many rows per step as before."""
    return {
        "optimisation.batch_size": rows,
        "optimisation.gradient_accumulation": config.optimisation.rows_per_step // rows,
    }


def available_memory(device: str) -> tuple[int, int]:
    """(free for this process, total) bytes of the GPU, or of the machine or container that this process is in.

    The memory of this process counts as free: it is part of what will be measured.
    """
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved(), total
    import psutil

    machine = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    limits = [(machine.available + own, machine.total)]
    for limit, used in _CONTAINER:
        whole, taken = _number(_CGROUP / limit), _number(_CGROUP / used)
        if whole is not None and taken is not None and whole < machine.total:
            # The cache of files is released when memory is short.
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
    """The most bytes that this process has held: reserved on the GPU, or resident in RAM."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":
        # Not ru_maxrss, which starts with the memory of the parent process, such as an app with a model loaded for
        # chat.
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
    """The share of the activations that remains with gradient checkpointing: the inputs of all layers, one complete
    layer, and the logits."""
    layers = _KEPT_CHECKPOINTED / _KEPT + 1 / max(1, need.layers)
    return need.head_share + (1 - need.head_share) * min(1.0, layers)


def _shorter(config: RunConfig, need: Need, room: int, lengths: Sequence[int]) -> Remedy | None:
    """The longest `max_length` that fits with the present batch, else with single rows, and the rows it leaves out."""
    longest, batch = max(lengths, default=0), filled(config.optimisation.batch_size)
    for rows in dict.fromkeys((batch, 1)):
        activations = need.activations * rows / batch
        limit = int(longest * (room - need.fixed) / max(1, activations)) // 16 * 16
        cut = sum(length > limit for length in lengths)
        # A run that loses more than half of its rows is rejected.
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
    """Bytes of the container that hold cached files."""
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


@dataclass(frozen=True)
class Steps:
    """The optimizer steps and validations of a run; `between_*` are in steps."""

    per_epoch: int
    total: int
    warmup: int
    between_logs: int
    between_evaluations: int
    evaluations: int


def planned_steps(settings: OptimisationConfig, rows: int, *, validation: bool, processes: int = 1) -> Steps:
    """The steps of training on `rows` examples; the first validation is before the first step.

    Each of the `processes` reads a batch of its own in every step.
    """
    per_epoch = max(1, math.ceil(rows / (settings.rows_per_step * processes)))
    total = settings.max_steps or math.ceil(per_epoch * (settings.epochs or 1))
    logged = max(1, total // 200)
    between = max(1, min(per_epoch // settings.evaluations_per_epoch, total))
    # At a logged step, so that a resumed run logs the same averages.
    between = min(math.ceil(between / logged) * logged, total)
    warmup = math.ceil(total * settings.warmup_fraction)
    return Steps(per_epoch, total, warmup, logged, between, 1 + total // between if validation else 0)


LOOKED_AT = 200  # batches of an epoch whose padding is counted


def count_batches(trainer: Any) -> MeasuredJson:
    """The tokens computed in an epoch, padding included, from batches of the run's own sampler."""
    dataset = trainer.train_dataset
    loader = trainer.get_train_dataloader()
    _, steps_per_epoch, *_ = trainer.set_initial_training_values(trainer.args, loader)
    drawn = [list(indexes) for indexes in itertools.islice(loader.batch_sampler, LOOKED_AT)]
    sizes = [tokens_of(trainer, dataset, indexes) for indexes in drawn]
    counts = row_lengths(dataset, both=True)
    real = sum(counts[index] for indexes in drawn for index in indexes)
    per_batch = sum(sizes) / len(sizes)
    # Among batches with the usual number of rows, those closest to the mean come first.
    whole = [batch for batch in zip(sizes, drawn, strict=True) if len(batch[1]) == len(drawn[0])]
    usual = sorted(whole, key=lambda batch: abs(batch[0] - per_batch))
    return {
        "tokens": sum(counts),
        "computed": round(sum(counts) * sum(sizes) / real),
        "steps_per_epoch": steps_per_epoch,
        "drawn": [index for _, indexes in usual for index in indexes],
    }


def tokens_of(trainer: Any, dataset: Any, indexes: Sequence[int]) -> int:
    """Tokens, padding included, of the batch that the trainer's own collator makes of these rows."""
    columns = dataset[list(indexes)]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    batch = trainer.data_collator(rows)
    # Some collators put both sides of pairs into one batch, others into two; the prompt alone is not computed.
    return sum(
        int(value.numel())
        for name, value in batch.items()
        if name.endswith("input_ids") and not name.startswith("prompt")
    )


def row_lengths(dataset: Any, *, both: bool = False) -> list[int]:
    """Tokens of the longest sequence of each row; with `both`, of all its sequences."""
    names = set(dataset.column_names)
    if "input_ids" in names:
        return [len(ids) for ids in dataset["input_ids"]]
    prompts = [len(ids) for ids in dataset["prompt_ids"]] if "prompt_ids" in names else [0] * len(dataset)
    kinds = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
    sides = [[len(ids) for ids in dataset[name]] for name in kinds if name in names]
    if both:
        return [len(sides) * prompt + sum(each) for prompt, *each in zip(prompts, *sides, strict=True)]
    return [prompt + max(each) for prompt, *each in zip(prompts, *sides, strict=True)]


def about_template(tokenizer: Any, dataset: Any) -> MeasuredJson:
    """Whether the chat template marks answers, and whether the rows train the stop token."""
    from ftlab.data.rendering import facts_of
    from ftlab.data.safe_templates import FALLBACK_TEMPLATE

    facts = facts_of(tokenizer)
    template = tokenizer.chat_template
    missing = isinstance(template, str) and template.endswith(FALLBACK_TEMPLATE.removeprefix("BOS"))
    last = _last_trained(dataset[: min(50, len(dataset))])
    return {
        "template": "missing" if missing else "marked" if facts.marks_answers else "plain",
        "stop_trained": None if last is None else not facts.stop_ids.isdisjoint(last),
    }


def _last_trained(rows: dict[str, list[Any]]) -> set[int] | None:
    """The last trained token of each of `rows` (columns of examples); None if no text is trained, as for rewards."""
    if "labels" in rows:
        trained = [[label for label in labels if label != -100] for labels in rows["labels"]]
    else:
        side = next((name for name in ("chosen", "completion") if f"{name}_trained" in rows), None)
        if side is None:
            return None
        # Text of the template after the stop token, such as a line feed, is not trained.
        sides = zip(rows[f"{side}_ids"], rows[f"{side}_trained"], strict=True)
        trained = [list(itertools.compress(ids, mask)) for ids, mask in sides]
    return {tokens[-1] for tokens in trained if tokens}


def about_weights(model: Any, stage: str) -> MeasuredJson:
    """Numbers of weights and bytes, and the share of the activations that is due to the vocabulary."""
    import torch

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    frozen = [module.weight for module in linear if module.weight.numel() > 1e4]
    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    text = model.config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    return {
        "weights_bytes": sum(weight.numel() * weight.element_size() for weight in weights),
        "trained_bytes": sum(weight.numel() * weight.element_size() for weight in trained),
        "trained": sum(weight.numel() for weight in trained),
        "linear_bytes": sum(weight.numel() * weight.element_size() for weight in frozen),
        "linear_weights": sum(weight.numel() for weight in frozen),
        "layers": layers,
        # Preferences and rewards never hold the logits of a batch (speed.LogProbs).
        "head_share": head_share(hidden, layers, text.vocab_size) if stage in SUPERVISED_STAGES else 0.0,
    }


def head_share(hidden: int, layers: int, vocabulary: int) -> float:
    """The share of the logits in the activations of a step: three copies in float32 (logits, softmax, gradient) against
    `_KEPT` units for each layer."""
    head = 3 * 4 * vocabulary
    return head / (head + _KEPT * hidden * layers)


def planned(trainer: Any, config: RunConfig) -> MeasuredJson:
    """The steps and validations of the run; several processes share its rows."""
    if config.launcher.processes == 1:
        return {"steps": _total_steps(trainer), "evaluations": _evaluations(trainer)}
    rows, validation = len(trainer.train_dataset), trainer.eval_dataset is not None
    steps = planned_steps(config.optimisation, rows, validation=validation, processes=config.launcher.processes)
    return {"steps": steps.total, "evaluations": steps.evaluations}


def _total_steps(trainer: Any) -> int:
    loader = trainer.get_train_dataloader()
    return int(trainer.set_initial_training_values(trainer.args, loader)[-1])


def _evaluations(trainer: Any) -> int:
    """The number of validations, including the one before the first step."""
    if trainer.eval_dataset is None:
        return 0
    return int(trainer.args.eval_on_start) + _total_steps(trainer) // max(1, int(trainer.args.eval_steps))
