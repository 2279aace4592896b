"""What of a base is trained: choose a method, check that it can do what is asked, apply it, and count its weights."""

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
# AdamW keeps two float32 numbers for each weight that is trained.
_OPTIMIZER_BYTES = 8
_MANY_EXPERTS = 0.2  # of the weights; below that nobody would miss them
_MOST_QUANTISED = 0.5  # of the weights; below that QLoRA saves less than half of what it promises


@dataclass(frozen=True)
class Trained:
    """How many weights a method trains."""

    trained: int
    total: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


@dataclass(frozen=True)
class MethodSize:
    """Known before the run: `weights_bytes` is the file of the result; a checkpoint adds the optimiser's state."""

    trained: int
    total: int
    weights_bytes: int
    checkpoint_bytes: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


def check_method(config: RunConfig) -> list[str]:
    """Raise InputError for what the method cannot do; returns remarks on settings that it does not read."""
    method, name = config.method, config.method.name
    title = METHODS[name].title
    if name == "prefix_tuning" and config.optimisation.gradient_checkpointing:
        raise InputError(
            "Prefix tuning cannot be trained with gradient checkpointing",
            given="optimisation.gradient_checkpointing: true",
            allowed="false: the prefix lives in the cache, which is dropped when layers are computed twice",
            try_="a smaller batch with gradient accumulation, or prompt_tuning or lora",
        )
    packed = [setting for setting in _PACKED if config.trainer.get(setting)]
    if name in _VIRTUAL and packed:
        raise InputError(
            f"{title.capitalize()} cannot be trained on packed rows",
            given=f"trainer.{packed[0]}: true",
            allowed="false: the virtual tokens stand before a batch row, so only its first example would see them",
            try_="leave it out, or choose lora",
        )
    if "initialisation" in METHODS[name].fields:
        _check_initialisation(method)
    _check_loss(config)
    return [f"method.{field} was set, and {title} does not use it." for field in unused(method)]


def _check_loss(config: RunConfig) -> None:
    loss = config.optimisation.loss
    if loss == "nll":
        return
    if config.stage not in SELF_STAGES:
        raise InputError(
            f"The loss {loss} (optimisation.loss) does not go with the stage {config.stage}",
            given=f"optimisation.loss: {loss}",
            allowed=f"nll here; {loss} weighs the tokens of good answers, in the stages {', '.join(SELF_STAGES)}",
            try_="leave it out",
        )
    if config.trainer.get("label_smoothing_factor"):
        raise InputError(
            f"Label smoothing does not go with the loss {loss} (optimisation.loss)",
            given=f"trainer.label_smoothing_factor: {config.trainer['label_smoothing_factor']}",
            allowed=f"0: {loss} weighs the tokens that are right, and smoothing trains the others too",
            try_="leave one of the two out",
        )


def _check_initialisation(method: MethodConfig) -> None:
    from ftlab.models.peft_methods import CHANGES_BASE

    if method.initialisation in CHANGES_BASE and method.name != "lora":
        raise InputError(
            f"This initialisation works with lora only, not with {method.name}",
            given=f"method.initialisation: {method.initialisation}",
            allowed="default, gaussian, orthogonal: the others rewrite the base, which could not be given back exactly",
        )
    if method.initialisation == "orthogonal" and method.rank % 2:
        raise InputError(
            "The orthogonal initialisation needs an even LoRA rank (method.rank)",
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
    """`model` ready for training by `method`: wrapped by PEFT, changed in place, or with all weights trainable.

    `tokenizer` is needed by prefix and prompt tuning, whose start is real words. All trained weights are float32.
    `task` is PEFT's task type: CAUSAL_LM, or SEQ_CLS for a model that scores.
    Raises InputError when the method finds no place in the model.
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

        # Casts norms to float32 and lets gradients reach the adapter through the frozen 4-bit layers.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    model = peft_methods.wrap(model, method, task=task)
    if method.name in _VIRTUAL:
        peft_methods.start_from_text(model, method, tokenizer)
    return model


def remarks_on(model: Any, method: MethodConfig) -> list[str]:
    """What a person should know about what `method` trains of `model`, to which it was applied."""
    from ftlab.models.families import experts_left_out

    remarks = []
    share = experts_left_out(model)
    if method.name != "full" and share >= _MANY_EXPERTS:
        remarks.append(
            f"{METHODS[method.name].title} trains nothing in the experts of this base, which are {share:.0%} of its "
            "weights: it trains the layers around them."
        )
    if method.name == "qlora" and (share := _quantised_share(model)) < _MOST_QUANTISED:
        remarks.append(
            f"Only {share:.0%} of the weights of this base are stored in {method.quantisation}: embeddings, experts "
            "and layers of a family's own kind stay as they are, so QLoRA saves little memory here."
        )
    return remarks


def count_trained(model: Any) -> Trained:
    """Trained and all weights of `model`. A 4-bit weight holds two numbers in a byte and is counted as two."""
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
    """What `method` will train on `base` and save, from the base's configuration alone: no weight is loaded.

    Of a Hub model that is not here yet, only config.json is downloaded. Raises InputError when it cannot be had or
    the method finds no place in it.
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
    """What PEFT calls a weight in its file."""
    if name.startswith("prompt_encoder."):
        return "prompt_embeddings"
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _safetensors_bytes(shapes: dict[str, list[int]]) -> int:
    """The size of a safetensors file of float32 tensors: 8 bytes, a header in JSON, the numbers."""
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
