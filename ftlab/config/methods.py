"""The tuning methods: the settings each one reads, its usual learning rate, and what it can be combined with.

The only list of methods; `models/methods.py` builds them. No heavy imports: forms, help and messages use this table
too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

_LOW_RANK = ("rank", "alpha", "rank_stabilised", "dropout", "targets", "initialisation")
_VIRTUAL = ("virtual_tokens", "initial_text")
# Initializations that subtract their initial value from the weights of the base, which they thereby change.
CHANGES_BASE = ("pissa", "pissa_niter_16", "olora")


@dataclass(frozen=True)
class BaseShape:
    """The facts about a base that defaults depend on: its `family` (model_type) and `width` (hidden size)."""

    family: str
    width: int


@dataclass(frozen=True)
class Method:
    """`about` explains it in the help of the setting. `fields` are the fields of MethodConfig that the method reads;
    `brief` shows its main ones. `learning_rate` is for real bases; None: the rule for low-rank and full tuning
    (`real_rate`). `lowest` and `highest` bound the rates that work (None: a range around the rule), `source` is their
    reference. `starter_rate` is for the starter, tuned on support_triage.

    `full`: it trains the weights of the base. `from_weights`: it supports the initializations in CHANGES_BASE.
    `continues`: a later run can train its adapter further. `preferences`, `reinforcement`: the stages that support it.
    `smaller`: the method that does the same with less memory, if there is one. `no_checkpointing`, `not_merged`,
    `no_strength`: why it does not work with gradient checkpointing, and why its result cannot be merged into the base,
    or scaled to a strength; empty if it can. `scaled_on_base`: scaling its adapter needs the weights of the base.
    """

    title: str
    about: str
    fields: tuple[str, ...]
    starter_rate: float
    source: str
    brief: str = "{name}"
    learning_rate: float | None = None
    lowest: float | None = None
    highest: float | None = None
    full: bool = False
    from_weights: bool = False
    continues: bool = False
    preferences: bool = False
    reinforcement: bool = False
    smaller: str = ""
    no_checkpointing: str = ""
    not_merged: str = ""
    no_strength: str = ""
    scaled_on_base: bool = False

    @property
    def heading(self) -> str:
        """The title at the start of a sentence."""
        return self.title[:1].upper() + self.title[1:]


_RULE = "tinker-cookbook 2025; Schulman et al., LoRA Without Regret, 2025"
_KEYS = "it learned keys and values that precede every text, not a change of the weights"
_TOKENS = "it learned tokens that precede every text, not a change of the weights"
_BEFORE_TEXT = "learned tokens before the text"
_BEND = "it added nonlinear layers between those of the base"
_LORA = Method(
    "LoRA",
    "low-rank matrices beside the weights, the usual choice",
    _LOW_RANK,
    starter_rate=4e-3,
    source=_RULE,
    brief="{name} r={rank}",
    from_weights=True,
    continues=True,
    preferences=True,
    reinforcement=True,
    smaller="qlora",
)
METHODS: dict[str, Method] = {
    "lora": _LORA,
    "dora": replace(
        _LORA,
        title="DoRA",
        about="lora with learned magnitudes, slower",
        source=f"as LoRA: {_RULE}",
        from_weights=False,
        scaled_on_base=True,
    ),
    "qlora": replace(
        _LORA,
        title="QLoRA",
        about="lora on a 4-bit or 8-bit base, to save memory",
        fields=(*_LOW_RANK, "quantisation", "double_quantisation"),
        source=f"as LoRA: {_RULE}",
        brief="{name} r={rank} {quantisation}",
        from_weights=False,
        smaller="",
    ),
    "ia3": Method(
        "IA3",
        "one factor per channel, the smallest",
        (),
        learning_rate=3e-3,
        starter_rate=0.1,
        lowest=5e-4,
        highest=3e-2,
        source="3e-3 in Liu et al. 2022, arXiv 2205.05638",
        continues=True,
        reinforcement=True,
        scaled_on_base=True,
    ),
    "bottleneck": Method(
        "bottleneck adapters",
        "small layers between the layers",
        ("placement", "reduction_factor", "activation"),
        brief="{name} {placement} /{reduction_factor}",
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
        _BEFORE_TEXT,
        _VIRTUAL,
        brief="{name} {virtual_tokens} tokens",
        learning_rate=5e-3,
        starter_rate=0.1,
        lowest=5e-5,
        highest=3e-2,
        source="5e-5 in Li & Liang 2021 (with a projection), 5e-3 and up in Liu et al. 2022, arXiv 2110.07602",
        no_checkpointing="the prefix is stored in the cache, which checkpointing discards",
        not_merged=_KEYS,
        no_strength=_KEYS,
    ),
    "prompt_tuning": Method(
        "prompt tuning",
        _BEFORE_TEXT,
        _VIRTUAL,
        brief="{name} {virtual_tokens} tokens",
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
        "all weights",
        (),
        starter_rate=1e-3,
        source=f"a tenth of LoRA's: {_RULE}",
        full=True,
        preferences=True,
        reinforcement=True,
        smaller="qlora",
    ),
}
# Literals are those of the table, which a type checker cannot read.
if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
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
    """The usual learning rate of supervised tuning with `method` on a real base of `shape` (None: unknown)."""
    fixed = METHODS[method].learning_rate
    if fixed is not None:
        return fixed
    shape = shape or _UNKNOWN
    known = [slope for name, slope in _SLOPES.items() if shape.family.startswith(name)]
    rates = [_FULL_RATE * (_REFERENCE_WIDTH / shape.width) ** slope for slope in known or _SLOPES.values()]
    return float(f"{min(rates) * (1 if METHODS[method].full else _LORA_FACTOR):.2g}")


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
