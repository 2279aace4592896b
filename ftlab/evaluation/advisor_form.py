"""The short form of the advisor: what it asks, and the answers, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ftlab.errors import InputError

CHANGES = {
    "style": "style and tone",
    "format": "a fixed format: JSON, labels, a template",
    "facts": "facts that it does not know",
    "skill": "a task that it does badly",
    "language": "a language or jargon that it does not master",
}
FRESHNESS = {
    "never": "never, or hardly",
    "yearly": "about once a year",
    "monthly": "about once a month",
    "weekly": "about once a week",
    "daily": "every day or faster",
}
BUDGETS = {
    "none": "no GPU",
    "small": "one GPU for some hours, or Colab",
    "large": "several GPUs for days",
}
LATENCIES = {
    "relaxed": "some seconds are fine",
    "tight": "quick or cheap: short prompts",
}


@dataclass(frozen=True)
class Question:
    """One question of the form; `options` is empty where a number is asked for."""

    name: str
    title: str
    help: str
    options: dict[str, str]


QUESTIONS = (
    Question("change", "What should change?", "Everything that applies.", CHANGES),
    Question("freshness", "How often does the knowledge change?", "Only matters where facts should change.", FRESHNESS),
    Question("examples", "Examples at hand", "Prompts with the right answer; 0 when there are none.", {}),
    Question("text_mb", "Plain text at hand, in megabytes", "Handbooks, articles, mails of the field; 0 for none.", {}),
    Question("budget", "Budget", "What there is to train with.", BUDGETS),
    Question("latency", "How fast must answers come?", "Examples and passages in the prompt take time.", LATENCIES),
)


@dataclass(frozen=True)
class Needs:
    """A filled form. `text_mb` is in megabytes of UTF-8."""

    change: tuple[str, ...]
    freshness: str = "yearly"
    examples: int = 0
    text_mb: float = 0.0
    budget: str = "small"
    latency: str = "relaxed"

    def wants(self, *changes: str) -> bool:
        return any(change in self.change for change in changes)


def build_needs(
    change: Iterable[str],
    *,
    freshness: str = "yearly",
    examples: Any = 0,
    text_mb: Any = 0,
    budget: str = "small",
    latency: str = "relaxed",
) -> Needs:
    """The answers, checked. Raises InputError naming the question."""
    wanted = tuple(dict.fromkeys(part.strip() for part in change if part.strip()))
    if not wanted:
        raise InputError("Nothing is named that should change", allowed=", ".join(CHANGES))
    for name in wanted:
        _one_of("What should change", name, CHANGES)
    _one_of("How often the knowledge changes", freshness, FRESHNESS)
    _one_of("The budget", budget, BUDGETS)
    _one_of("How fast answers must come", latency, LATENCIES)
    return Needs(
        wanted,
        freshness,
        int(_number("Examples at hand", examples, whole=True)),
        _number("Plain text at hand", text_mb),
        budget,
        latency,
    )


def _one_of(name: str, given: str, allowed: dict[str, str]) -> None:
    if given not in allowed:
        raise InputError(f"{name} cannot take this value", given=given, allowed=", ".join(allowed))


def _number(name: str, given: Any, *, whole: bool = False) -> float:
    try:
        value = float(given if given not in (None, "") else 0)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1e12 or (whole and value != int(value)):
        allowed = "a whole number, 0 or more" if whole else "a number, 0 or more"
        raise InputError(f"{name} cannot take this value", given=given, allowed=allowed)
    return value
