"""What the adaptation methods are: which settings each of them reads, and the learning rate that usually works.

No heavy imports: forms, help and messages are drawn from here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftlab.config_sections import MethodConfig

_LOW_RANK = ("rank", "alpha", "rank_stabilised", "dropout", "targets", "initialisation")
_VIRTUAL = ("virtual_tokens", "initial_text")


@dataclass(frozen=True)
class Facts:
    """`fields` are those of MethodConfig that the method reads. `learning_rate` is for real bases, `starter_rate` for
    the tiny starter (found by runs on support_triage)."""

    title: str
    fields: tuple[str, ...]
    learning_rate: float
    starter_rate: float


# Sources of the rates for real bases:
# lora        ten times the rate of full tuning (Schulman et al., LoRA Without Regret, 2025)
# dora        as LoRA, 2e-4 for LLaMA-7B (Liu et al. 2024, arXiv 2402.09353)
# qlora       2e-4 for 7B and 13B (Dettmers et al. 2023, arXiv 2305.14314)
# ia3         3e-3 (Liu et al. 2022, arXiv 2205.05638)
# bottleneck  3e-4, within the 3e-5 to 3e-3 of Houlsby et al. 2019; also Hu et al. 2023, arXiv 2304.01933
# prefix      5e-3 for prefixes without a projection (Liu et al. 2022, P-Tuning v2, arXiv 2110.07602)
# prompt      3e-2 with AdamW as in PEFT's guide; Lester et al. 2021 (arXiv 2104.08691) take 0.3 with Adafactor
METHODS: dict[str, Facts] = {
    "lora": Facts("LoRA", _LOW_RANK, 2e-4, 4e-3),
    "dora": Facts("DoRA", _LOW_RANK, 2e-4, 4e-3),
    "qlora": Facts("QLoRA", (*_LOW_RANK, "quantisation", "double_quantisation"), 2e-4, 4e-3),
    "ia3": Facts("IA3", (), 3e-3, 0.1),
    "bottleneck": Facts("bottleneck adapters", ("placement", "reduction_factor", "activation"), 3e-4, 1e-2),
    "prefix_tuning": Facts("prefix tuning", _VIRTUAL, 5e-3, 0.1),
    "prompt_tuning": Facts("prompt tuning", _VIRTUAL, 3e-2, 0.1),
    "full": Facts("full fine-tuning", (), 2e-5, 1e-3),
}


def fields_of(method: str) -> tuple[str, ...]:
    """The settings of MethodConfig that `method` reads, without `name`. The others change nothing."""
    return METHODS[method].fields


def unused(method: MethodConfig) -> list[str]:
    """Settings that were changed from their default and that the chosen method does not read."""
    return [
        name
        for name, info in type(method).model_fields.items()
        if name != "name" and name not in fields_of(method.name) and getattr(method, name) != info.default
    ]


def virtual_tokens(method: MethodConfig) -> int:
    """How many positions of the base's context the method itself takes."""
    return method.virtual_tokens if "virtual_tokens" in fields_of(method.name) else 0


def summary(method: MethodConfig) -> str:
    """The method and the one setting that says most about it: `lora r=16`, `bottleneck houlsby /8`."""
    match method.name:
        case "lora" | "dora":
            return f"{method.name} r={method.rank}"
        case "qlora":
            return f"qlora r={method.rank} {method.quantisation}"
        case "bottleneck":
            return f"bottleneck {method.placement} /{method.reduction_factor}"
        case "prefix_tuning" | "prompt_tuning":
            return f"{method.name} {method.virtual_tokens} tokens"
        case _:
            return method.name
