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
class BaseShape:
    """What the usual settings depend on: the `family` (model_type) of a base and its `width` in channels."""

    family: str
    width: int


@dataclass(frozen=True)
class Facts:
    """`fields` are those of MethodConfig that the method reads. `learning_rate` is for real bases, None where the rule
    for low-rank and full tuning gives it (`real_rate`); `lowest` and `highest` bound what works on them (None:
    around the rule), `source` says where. `starter_rate` is for the tiny starter (found by runs on support_triage)."""

    title: str
    fields: tuple[str, ...]
    learning_rate: float | None
    starter_rate: float
    lowest: float | None
    highest: float | None
    source: str


_RULE = "tinker-cookbook 2025; Schulman et al., LoRA Without Regret, 2025"
METHODS: dict[str, Facts] = {
    "lora": Facts("LoRA", _LOW_RANK, None, 4e-3, None, None, _RULE),
    "dora": Facts("DoRA", _LOW_RANK, None, 4e-3, None, None, f"as LoRA: {_RULE}"),
    "qlora": Facts(
        "QLoRA", (*_LOW_RANK, "quantisation", "double_quantisation"), None, 4e-3, None, None, f"as LoRA: {_RULE}"
    ),
    "ia3": Facts("IA3", (), 3e-3, 0.1, 5e-4, 3e-2, "3e-3 in Liu et al. 2022, arXiv 2205.05638"),
    "bottleneck": Facts(
        "bottleneck adapters",
        ("placement", "reduction_factor", "activation"),
        3e-4,
        1e-2,
        3e-5,
        3e-3,
        "3e-5 to 3e-3 in Houlsby et al. 2019, arXiv 1902.00751; Hu et al. 2023, arXiv 2304.01933",
    ),
    "prefix_tuning": Facts(
        "prefix tuning",
        _VIRTUAL,
        5e-3,
        0.1,
        5e-5,
        3e-2,
        "5e-5 in Li & Liang 2021 (with a projection), 5e-3 and more in Liu et al. 2022, arXiv 2110.07602",
    ),
    "prompt_tuning": Facts(
        "prompt tuning",
        _VIRTUAL,
        3e-2,
        0.1,
        1e-3,
        3e-1,
        "3e-2 in PEFT's guide, 0.3 with Adafactor in Lester et al. 2021",
    ),
    "full": Facts("full fine-tuning", (), None, 1e-3, None, None, f"a tenth of LoRA's: {_RULE}"),
}
# Full tuning at 2,000 channels; LoRA takes ten times as much, whatever its rank. How steeply the rate falls with the
# width is known of two families (tinker-cookbook, get_lr, 2025); others take the lower of both.
_FULL_RATE, _REFERENCE_WIDTH, _LORA_FACTOR = 5e-5, 2000, 10
_SLOPES = {"llama": 0.781, "qwen": 0.0775}
_UNKNOWN = BaseShape("", _REFERENCE_WIDTH)


def real_rate(method: str, shape: BaseShape | None) -> float:
    """The usual learning rate of supervised tuning with `method` on a real base of `shape` (None: not known yet)."""
    found = METHODS[method].learning_rate
    if found is not None:
        return found
    shape = shape or _UNKNOWN
    known = [slope for name, slope in _SLOPES.items() if shape.family.startswith(name)]
    rates = [_FULL_RATE * (_REFERENCE_WIDTH / shape.width) ** slope for slope in known or _SLOPES.values()]
    return float(f"{min(rates) * (1 if method == 'full' else _LORA_FACTOR):.2g}")


def rate_range(method: str, shape: BaseShape | None = None) -> tuple[float, float]:
    """The lowest and the highest learning rate that is not unusual for `method` on a real base of `shape`."""
    facts = METHODS[method]
    if facts.lowest is None or facts.highest is None:
        usual = real_rate(method, shape)
        return usual / 10, usual * 3
    return facts.lowest, facts.highest


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
