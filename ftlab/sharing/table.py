"""The comparison as rows of text, the same on the command line, in the app, in notebooks and in the report."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.significance import LEVEL, p_text
from ftlab.evaluation.verdict import number, percent, tenths

_HELP = {
    "exact_match": "Share of answers equal to the reference.",
    "perplexity": "How surprised the model is by the reference answers; 1 is certain.",
    "bits_per_byte": "The same for every tokenizer: what the model needs to write down a byte of the text.",
    "bleu": "Overlap of words with the reference.",
    "general_accuracy": "Share of general questions answered right. A fall is forgetting.",
}
_OF_DOCUMENTS = "How surprised the model is by documents that it has not seen; 1 is certain."


def of_documents(comparison: dict[str, Any]) -> bool:
    """Whether plain text was compared: documents that are predicted, without prompts and answers."""
    return comparison["adapted"].get("exact_match", 0) is None


def comparison_table(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per measure, with texts ready to show.

    Keys: measure, unit, base, adapted, change, base_interval, adapted_interval (95%), p, better, help. `better` is
    True or False for a significant change, None when the data cannot tell.
    """
    base, adapted = comparison["base"], comparison["adapted"]
    fit = _row(comparison, "perplexity", "Perplexity", "lower is better", number, _relative, lower_is_better=True)
    if of_documents(comparison):
        bits = ("bits_per_byte", "Bits per byte", "lower is better", number, _relative)
        found = [fit | {"help": _OF_DOCUMENTS}, _row(comparison, *bits, lower_is_better=True)]
    else:
        found = [
            _row(comparison, "exact_match", "Exact match", "% of rows", percent, _points),
            fit,
            _row(comparison, "bleu", "BLEU", "0 to 100", tenths, _difference),
        ]
    if base.get("general_accuracy") is not None and adapted.get("general_accuracy") is not None:
        found.append(_row(comparison, "general_accuracy", "General accuracy", "% of questions", percent, _points))
    if base["truncated_answers"] or adapted["truncated_answers"]:
        cut = [side["truncated_answers"] for side in (base, adapted)]
        found.append(
            {
                "measure": "Answers cut",
                "unit": f"of {adapted['rows']:,} rows",
                "base": f"{cut[0]:,}",
                "adapted": f"{cut[1]:,}",
                "change": _signed(f"{abs(cut[1] - cut[0]):,}", cut[1] - cut[0]),
                "base_interval": "",
                "adapted_interval": "",
                "p": "",
                "better": None,
                "help": "Answers that reached the length limit before the model ended them.",
            }
        )
    return found


def _row(
    comparison: dict[str, Any],
    name: str,
    measure: str,
    unit: str,
    write: Any,
    change: Any,
    *,
    lower_is_better: bool = False,
) -> dict[str, Any]:
    before, after = comparison["base"][name], comparison["adapted"][name]
    p = comparison.get("tests", {}).get(name)
    better = None if before == after or (p is not None and p >= LEVEL) else (after < before) == lower_is_better
    key = {"general_accuracy": "general_interval"}.get(name, f"{name}_interval")
    intervals = {f"{side}_interval": _interval(comparison[side].get(key), write) for side in ("base", "adapted")}
    return {
        "measure": measure,
        "unit": unit,
        "base": write(before),
        "adapted": write(after),
        "change": change(before, after),
        **intervals,
        "p": p_text(p) if p is not None else "",
        "better": better,
        "help": _HELP[name],
    }


def _interval(interval: list[float] | None, write: Any) -> str:
    if not interval:
        return ""
    if write is percent:
        return f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}%"
    return f"{write(interval[0])}–{write(interval[1])}"


def _signed(text: str, value: float) -> str:
    if not any(digit in text for digit in "123456789"):
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def _points(before: float, after: float) -> str:
    points = 100 * (after - before)
    return _signed(f"{abs(points):.1f}".removesuffix(".0") + " points", points)


def _difference(before: float, after: float) -> str:
    return _signed(tenths(abs(after - before)), after - before)


def _relative(before: float, after: float) -> str:
    change = 100 * (after / before - 1)
    return _signed(f"{abs(change):,.1f}".removesuffix(".0") + "%", change)
