"""What a person's own evaluation says for the advisor: base, base with a prompt, and tuned model, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.verdict import number, percent, tenths

FORGETTING_LIMIT = 0.05
_OLD = {"exact_match": ("Exact match", "share"), "bleu": ("BLEU", "score"), "perplexity": ("Perplexity", "loss")}


@dataclass(frozen=True)
class Evidence:
    """`text` holds the figures in one sentence. `tuning` and `over_prompting` are True (better than the base, than the
    prompted base), False (worse) or None (no clear difference). What was not measured is absent from
    `known`. `lost` is the fall of general accuracy, 0 to 1."""

    run: str
    text: str
    rows: int | None
    known: frozenset[str]
    tuning: bool | None = None
    over_prompting: bool | None = None
    lost: float | None = None

    @property
    def forgot(self) -> bool:
        return self.lost is not None and self.lost > FORGETTING_LIMIT + 1e-9


def evidence_of(comparison: dict[str, Any] | None) -> Evidence | None:
    """The figures of one comparison; None where there is none, or nothing in it that two sides can be compared by."""
    if not comparison:
        return None
    measure = _deciding(comparison)
    if measure is None:
        return None
    titles = {side["name"]: side["title"] for side in comparison.get("sides", [])} or {
        "base": "Base",
        "adapted": "Adapted",
    }
    values = {side: measure["values"][side] for side in titles if measure["values"].get(side) is not None}
    if not {"base", "adapted"} <= values.keys():
        return None
    shown = "; ".join(f"{titles[side]} {_value(value, measure['kind'])}" for side, value in values.items())
    rows = measure.get("rows")
    verdicts = comparison.get("verdicts") or {"adapted": comparison["verdict"]}
    judged = {"adapted": "tuning", "adapted_vs_prompted": "over_prompting"}
    found = {name: verdicts[side]["better"] for side, name in judged.items() if side in verdicts}
    return Evidence(
        comparison["run"],
        f"{measure['title']}: {shown}" + (f" ({rows} rows)" if rows else ""),
        rows,
        frozenset(found),
        lost=_lost(comparison),
        **found,
    )


def _deciding(comparison: dict[str, Any]) -> dict[str, Any] | None:
    """The measure that decided the verdict, else the first of the task that has a better end."""
    name = (comparison.get("verdict") or {}).get("measure")
    measures = comparison.get("measures")
    if measures is None:
        measures = [_old(comparison, key) for key in _OLD if key in comparison.get("base", {})]
    fitting = [one for one in measures if one["group"] == "task" and one["better"] is not None]
    return next((one for one in fitting if one["name"] == name), fitting[0] if fitting else None)


def _old(comparison: dict[str, Any], key: str) -> dict[str, Any]:
    """A measure of a comparison that was made before there were `measures`."""
    title, kind = _OLD[key]
    sides = ("base", "adapted")
    return {
        "name": key,
        "title": title,
        "kind": kind,
        "group": "task",
        "better": "lower" if kind == "loss" else "higher",
        "rows": comparison["adapted"].get("rows"),
        "values": {side: comparison[side][key] for side in sides},
    }


def _lost(comparison: dict[str, Any]) -> float | None:
    before, after = (comparison.get(side, {}).get("general_accuracy") for side in ("base", "adapted"))
    return None if before is None or after is None else before - after


def _value(value: float, kind: str) -> str:
    return percent(value) if kind == "share" else number(value) if kind == "loss" else tenths(value)
