"""Formatting of figures in tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.core.endpoint import money


def percent(share: float, digits: int = 1) -> str:
    """A share of 0 to 1 with up to `digits` decimals: 86%, 97.5%. Never 0% or 100% for values that only round to
    them."""
    value = 100 * share
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").removesuffix(".") if "." in text else text
    least = 10.0**-digits
    if (text == "0" and value > 0) or (text == "100" and value < 100):
        return f"<{least:g}%" if text == "0" else f">{100 - least:g}%"
    return f"{text}%"


def points(change: float) -> str:
    """The amount of a change of a share, without its sign: 1 point, 7.5 points."""
    text = f"{100 * abs(change):.1f}".removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"


def from_to(interval: Sequence[float]) -> str:
    """An interval of shares: 41.2% to 97.5%."""
    low, high = (percent(round(bound, 3)) for bound in interval)
    return f"{low} to {high}"


def number(value: float) -> str:
    """A perplexity with three significant figures: 1.04, 24.3, 1,234."""
    if value >= 999.5:
        return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def tenths(value: float) -> str:
    """A BLEU score with one decimal: 24.3."""
    return f"{value:.1f}"


def nats(value: float) -> str:
    """A KL in nats per token, with three decimals: 0.430, 0.018; 0 for zero."""
    if 0 < value < 0.0005:
        return "<0.001"
    return "0" if value <= 0 else f"{value:.3f}"


def short(value: float) -> str:
    """Four significant digits, for the axis of a chart: 0.004, 1.234, 53.1, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def value_text(measure: Mapping[str, Any], value: float | None) -> str:
    """A value of `measure` as text: 86%, 24.3, 1.04; a dash for None."""
    if value is None:
        return "–"
    if measure["kind"] == "share":
        return percent(value)
    if measure["kind"] == "loss":
        return number(value)
    if measure.get("unit") == "nats":
        return nats(value)
    if measure.get("unit") in ("seconds", "currency"):
        return money(value) if value else "0"
    return tenths(value) if measure.get("unit") in ("points", "tokens", "words") else number(value)


def change_text(measure: Mapping[str, Any], side: str, first: str) -> str:
    """The change of `side` from `first`: +84 points, −95.7% for a loss, +95.2. Empty if one has no value."""
    before, after = (measure["values"].get(name) for name in (first, side))
    if before is None or after is None:
        return ""
    if measure["kind"] == "share":
        return signed(points(after - before), after - before)
    if measure["kind"] == "loss" and before:
        change = 100 * (after / before - 1)
        # A loss that is not quite zero did not fall by 100%.
        digits = 2 if -100 < change < -99.95 else 1
        return signed(f"{abs(change):,.{digits}f}".removesuffix(".0") + "%", change)
    return signed(value_text(measure, abs(after - before)), after - before)


def signed(text: str, value: float) -> str:
    """`text`, an amount, with the sign of `value`; without a sign if it only shows zeros."""
    if not any(digit in text for digit in "123456789"):
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def in_sentence(title: str) -> str:
    """A title within a sentence, in lower case (exact match) except for acronyms (BLEU, ROUGE-L)."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]
