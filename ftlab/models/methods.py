"""What of a base is trained: LoRA matrices, LoRA on a 4-bit base, or all weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.config import MethodConfig
from ftlab.errors import InputError


@dataclass(frozen=True)
class Trained:
    """How many weights a method trains."""

    trained: int
    total: int

    @property
    def share(self) -> float:
        return self.trained / self.total if self.total else 0.0


def apply_method(model: Any, method: MethodConfig, *, gradient_checkpointing: bool = False) -> Any:
    """`model` ready for training by `method`: wrapped by PEFT, or itself with all weights trainable.

    Raises InputError when the LoRA targets name no layer of the model.
    """
    if method.name == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if method.name == "qlora":
        # Casts norms to float32 and lets gradients reach the adapter through the frozen 4-bit layers.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=lora_targets(method.targets),
        bias="none",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if "target" not in str(error).lower():
            raise
        raise InputError(
            "LoRA targets (method.targets) name no layer of this base",
            given=method.targets,
            allowed=f"all-linear, or some of: {', '.join(linear_names(model))}",
        ) from None


def lora_targets(text: str) -> str | list[str]:
    """PEFT's form of the setting: `all-linear` stays text, names become a list."""
    text = text.strip()
    return text if text == "all-linear" else [name.strip() for name in text.split(",") if name.strip()]


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of the model's linear layers, without the head."""
    import torch

    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return sorted(names - {"lm_head"})


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
