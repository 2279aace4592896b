"""The tuning methods: the settings each one reads, its usual learning rate, and what it can be combined with.

The only list of methods; `models/methods.py` builds them. No heavy imports: forms, help and messages use this table
too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftlab.config.sections import MethodConfig

_LOW_RANK = ("rank", "alpha", "rank_stabilised", "dropout", "targets", "initialisation")
_VIRTUAL = ("virtual_tokens", "initial_text")


@dataclass(frozen=True)
class BaseShape:
    """The facts about a base that defaults depend on: its `family` (model_type) and `width` (hidden size)."""

    family: str
    width: int


@dataclass(frozen=True)
class Method:
    """`fields` are the fields of MethodConfig that the method reads. `learning_rate` is for real bases; None: the rule
    for low-rank and full tuning (`real_rate`). `lowest` and `highest` bound the rates that work (None: a range around
    the rule), `source` is their reference. `starter_rate` is for the starter, tuned on support_triage.

    `continues`: a later run can train its adapter further. `preferences`, `reinforcement`: the stages that support it.
    `quantises`: QLoRA can replace it to save memory. `not_merged`, `no_strength`: why its result cannot be merged into
    the base, or scaled to a strength; empty if it can.
    """

    title: str
    fields: tuple[str, ...]
    starter_rate: float
    source: str
    learning_rate: float | None = None
    lowest: float | None = None
    highest: float | None = None
    continues: bool = False
    preferences: bool = False
    reinforcement: bool = False
    quantises: bool = False
    not_merged: str = ""
    no_strength: str = ""


_RULE = "tinker-cookbook 2025; Schulman et al., LoRA Without Regret, 2025"
_KEYS = "it learned keys and values that precede every text, not a change of the weights"
_TOKENS = "it learned tokens that precede every text, not a change of the weights"
_BEND = "it added nonlinear layers between those of the base"
_LORA = Method(
    "LoRA",
    _LOW_RANK,
    starter_rate=4e-3,
    source=_RULE,
    continues=True,
    preferences=True,
    reinforcement=True,
    quantises=True,
)
METHODS: dict[str, Method] = {
    "lora": _LORA,
    "dora": replace(_LORA, title="DoRA", source=f"as LoRA: {_RULE}"),
    "qlora": replace(
        _LORA,
        title="QLoRA",
        fields=(*_LOW_RANK, "quantisation", "double_quantisation"),
        source=f"as LoRA: {_RULE}",
        quantises=False,
    ),
    "ia3": Method(
        "IA3",
        (),
        learning_rate=3e-3,
        starter_rate=0.1,
        lowest=5e-4,
        highest=3e-2,
        source="3e-3 in Liu et al. 2022, arXiv 2205.05638",
        continues=True,
        reinforcement=True,
    ),
    "bottleneck": Method(
        "bottleneck adapters",
        ("placement", "reduction_factor", "activation"),
        learning_rate=3e-4,
        starter_rate=1e-2,
        lowest=3e-5,
        highest=3e-3,
        source="3e-5 to 3e-3 in Houlsby et al. 2019, arXiv 1902.00751; Hu et al. 2023, arXiv 2304.01933",
        not_merged=f"{_BEND}, which no weight matrix can express",
        no_strength=f"{_BEND}, and scaling them does not scale their effect",
    ),
    "prefix_tuning": Method(
        "prefix tuning",
        _VIRTUAL,
        learning_rate=5e-3,
        starter_rate=0.1,
        lowest=5e-5,
        highest=3e-2,
        source="5e-5 in Li & Liang 2021 (with a projection), 5e-3 and up in Liu et al. 2022, arXiv 2110.07602",
        not_merged=_KEYS,
        no_strength=_KEYS,
    ),
    "prompt_tuning": Method(
        "prompt tuning",
        _VIRTUAL,
        learning_rate=3e-2,
        starter_rate=0.1,
        lowest=1e-3,
        highest=3e-1,
        source="3e-2 in PEFT's guide, 0.3 with Adafactor in Lester et al. 2021",
        not_merged=_TOKENS,
        no_strength=_TOKENS,
    ),
    "full": Method(
        "full fine-tuning",
        (),
        starter_rate=1e-3,
        source=f"a tenth of LoRA's: {_RULE}",
        preferences=True,
        reinforcement=True,
        quantises=True,
    ),
}
CONTINUED = tuple(name for name, method in METHODS.items() if method.continues)
FOR_PREFERENCES = tuple(name for name, method in METHODS.items() if method.preferences)
FOR_REINFORCEMENT = tuple(name for name, method in METHODS.items() if method.reinforcement)


def titles(names: Iterable[str]) -> str:
    """The titles of the methods with these names, for a message."""
    return ", ".join(METHODS[name].title for name in names)


# Full tuning at a width of 2,000; LoRA takes ten times the rate, at any rank. How steeply the rate falls with the width
# is known for two families (tinker-cookbook, get_lr, 2025); others take the lower of the two.
_FULL_RATE, _REFERENCE_WIDTH, _LORA_FACTOR = 5e-5, 2000, 10
_SLOPES = {"llama": 0.781, "qwen": 0.0775}
_UNKNOWN = BaseShape("", _REFERENCE_WIDTH)


def real_rate(method: str, shape: BaseShape | None) -> float:
    """The usual learning rate of supervised tuning with `method` on a real base of `shape` (None: not known yet)."""
    fixed = METHODS[method].learning_rate
    if fixed is not None:
        return fixed
    shape = shape or _UNKNOWN
    known = [slope for name, slope in _SLOPES.items() if shape.family.startswith(name)]
    rates = [_FULL_RATE * (_REFERENCE_WIDTH / shape.width) ** slope for slope in known or _SLOPES.values()]
    return float(f"{min(rates) * (1 if method == 'full' else _LORA_FACTOR):.2g}")


def rate_range(method: str, shape: BaseShape | None = None) -> tuple[float, float]:
    """The lowest and highest plausible learning rate of `method` on a real base of `shape`."""
    facts = METHODS[method]
    if facts.lowest is None or facts.highest is None:
        usual = real_rate(method, shape)
        return usual / 10, usual * 3
    return facts.lowest, facts.highest


def fields_of(method: str) -> tuple[str, ...]:
    """The settings of MethodConfig that `method` reads, without `name`. The others have no effect."""
    return METHODS[method].fields


def unused(method: MethodConfig) -> list[str]:
    """Settings that differ from their default and that the chosen method does not read."""
    return [
        name
        for name, info in type(method).model_fields.items()
        if name != "name" and name not in fields_of(method.name) and getattr(method, name) != info.default
    ]


def virtual_tokens(method: MethodConfig) -> int:
    """The number of tokens of the base's context that the method itself uses."""
    return method.virtual_tokens if "virtual_tokens" in fields_of(method.name) else 0


def summary(method: MethodConfig) -> str:
    """The method and its main setting: `lora r=16`, `bottleneck houlsby /8`."""
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
