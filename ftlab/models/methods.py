"""Tuning methods: check that a method supports the settings, apply it, and count the weights it trains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ftlab.config import MethodConfig, ModelConfig, RunConfig
from ftlab.config.methods import METHODS, unused
from ftlab.config.stages import SELF_STAGES
from ftlab.errors import InputError

_VIRTUAL = ("prefix_tuning", "prompt_tuning")
_PACKED = ("packing", "padding_free")
# AdamW keeps two float32 values for each trained weight.
_OPTIMIZER_BYTES = 8
_MANY_EXPERTS = 0.2  # of the weights; fewer hardly matter
_MOST_QUANTISED = 0.5  # of the weights; below that QLoRA saves less than half of the usual memory


@dataclass(frozen=True)
class Trained:
    """The number of weights that a method trains."""

    trained: int
    total: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


@dataclass(frozen=True)
class MethodSize:
    """Sizes known before the run: `weights_bytes` is the file of the result; a checkpoint adds the optimizer state."""

    trained: int
    total: int
    weights_bytes: int
    checkpoint_bytes: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


def check_method(config: RunConfig) -> list[str]:
    """Raise InputError for settings that the method does not support; returns notes on those that it ignores."""
    method, name = config.method, config.method.name
    title = METHODS[name].title
    if name == "prefix_tuning" and config.optimisation.gradient_checkpointing:
        raise InputError(
            "Prefix tuning cannot be trained with gradient checkpointing",
            given="optimisation.gradient_checkpointing: true",
            allowed="false: the prefix is stored in the cache, which checkpointing discards",
            try_="use a smaller batch with gradient accumulation, or prompt_tuning or lora",
        )
    packed = [setting for setting in _PACKED if config.trainer.get(setting)]
    if name in _VIRTUAL and packed:
        raise InputError(
            f"{title.capitalize()} cannot be trained on packed rows",
            given=f"trainer.{packed[0]}: true",
            allowed="false: virtual tokens precede each packed row, so only its first example would follow them",
            try_="leave it out, or choose lora",
        )
    if "initialisation" in METHODS[name].fields:
        _check_initialisation(method)
    _check_loss(config)
    return [f"method.{field} is set, but {title} does not use it." for field in unused(method)]


def _check_loss(config: RunConfig) -> None:
    loss = config.optimisation.loss
    if loss == "nll":
        return
    if config.stage not in SELF_STAGES:
        raise InputError(
            f"The loss {loss} (optimisation.loss) does not work with the stage {config.stage}",
            given=f"optimisation.loss: {loss}",
            allowed=f"nll here; {loss} reweights the tokens of good answers, in the stages {', '.join(SELF_STAGES)}",
            try_="leave it out",
        )
    if config.trainer.get("label_smoothing_factor"):
        raise InputError(
            f"Label smoothing does not work with the loss {loss} (optimisation.loss)",
            given=f"trainer.label_smoothing_factor: {config.trainer['label_smoothing_factor']}",
            allowed=f"0: {loss} reweights the target tokens, and smoothing trains all others too",
            try_="remove one of the two",
        )


def _check_initialisation(method: MethodConfig) -> None:
    from ftlab.models.peft_methods import CHANGES_BASE

    if method.initialisation in CHANGES_BASE and method.name != "lora":
        raise InputError(
            f"This initialization works with lora only, not with {method.name}",
            given=f"method.initialisation: {method.initialisation}",
            allowed="default, gaussian, orthogonal: the others modify the base, which could not be restored exactly",
        )
    if method.initialisation == "orthogonal" and method.rank % 2:
        raise InputError(
            "The orthogonal initialization needs an even LoRA rank (method.rank)",
            given=method.rank,
            allowed=f"for example {method.rank + 1}",
        )


def apply_method(
    model: Any,
    method: MethodConfig,
    *,
    tokenizer: Any = None,
    gradient_checkpointing: bool = False,
    task: str = "CAUSAL_LM",
) -> Any:
    """Prepare `model` for training with `method`: wrapped by PEFT, changed in place, or with all weights trainable.

    Prefix and prompt tuning, which are initialized from real words, need `tokenizer`. All trained weights are float32.
    `task` is PEFT's task type: CAUSAL_LM, or SEQ_CLS for a model that scores.
    Raises InputError when the method does not fit the model.
    """
    from ftlab.models import peft_methods

    if method.name == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model
    if method.name == "bottleneck":
        from ftlab.models.bottleneck import add_bottlenecks

        return add_bottlenecks(model, method)
    if method.name == "qlora":
        from peft import prepare_model_for_kbit_training

        # Casts norms to float32 and lets gradients flow to the adapter through the frozen 4-bit layers.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    model = peft_methods.wrap(model, method, task=task)
    if method.name in _VIRTUAL:
        peft_methods.start_from_text(model, method, tokenizer)
    return model


def remarks_on(model: Any, method: MethodConfig) -> list[str]:
    """Notes on the parts of `model` that `method`, once applied, trains or leaves out."""
    from ftlab.models.families import experts_left_out

    remarks = []
    share = experts_left_out(model)
    if method.name != "full" and share >= _MANY_EXPERTS:
        remarks.append(
            f"{METHODS[method.name].title} does not train the experts of this base, which make up {share:.0%} of its "
            "weights, only the layers around them."
        )
    if method.name == "qlora" and (share := _quantised_share(model)) < _MOST_QUANTISED:
        remarks.append(
            f"Only {share:.0%} of the weights of this base are quantized to {method.quantisation}: embeddings, experts "
            "and family-specific layers are not, so QLoRA saves little memory here."
        )
    return remarks


def count_trained(model: Any) -> Trained:
    """The trained and all weights of `model`. A 4-bit parameter packs two weights into a byte; both are counted."""
    trained = total = 0
    for parameter in model.parameters():
        count = parameter.numel()
        if type(parameter).__name__ == "Params4bit":
            count *= 2
        total += count
        trained += count if parameter.requires_grad else 0
    return Trained(trained, total)


def _quantised_share(model: Any) -> float:
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    counts = [
        (module.numel() * (2 if type(module).__name__ == "Params4bit" else 1), type(module).__name__)
        for module in frozen
    ]
    quantised = sum(count for count, kind in counts if kind in ("Params4bit", "Int8Params"))
    return quantised / max(1, sum(count for count, _ in counts))


def size_of(method: MethodConfig, base: ModelConfig) -> MethodSize:
    """What `method` will train on `base` and save, from the configuration of the base alone: no weights are loaded.

    For a Hub model that is not here yet, only config.json is downloaded. Raises InputError when that fails or the
    method does not fit the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.models import peft_methods
    from ftlab.models.bottleneck import add_bottlenecks
    from ftlab.models.load import load_config_of

    config = load_config_of(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    if method.name == "bottleneck":
        model = add_bottlenecks(model, method)
    elif method.name == "full":
        model.requires_grad_(True)
    else:
        model = peft_methods.wrap(model, method, empty=True)
    counted = count_trained(model)
    shapes = {
        _saved_name(name): list(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    doubled = method.name == "lora" and method.initialisation in peft_methods.CHANGES_BASE
    twice = {n: [2 * a, b] if "lora_A" in n else [a, 2 * b] for n, (a, b) in shapes.items()} if doubled else shapes
    return MethodSize(
        counted.trained,
        counted.total,
        weights_bytes=_safetensors_bytes(twice),
        checkpoint_bytes=_safetensors_bytes(shapes) + _OPTIMIZER_BYTES * counted.trained,
    )


def _saved_name(name: str) -> str:
    """The name of a weight in PEFT's file."""
    if name.startswith("prompt_encoder."):
        return "prompt_embeddings"
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _safetensors_bytes(shapes: dict[str, list[int]]) -> int:
    """The size of a safetensors file of float32 tensors: 8 bytes, a JSON header, the values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end
