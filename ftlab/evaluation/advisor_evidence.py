"""What a person's own evaluation says for the advisor: base, base with a prompt, and tuned model, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.figures import percent, value_text
from ftlab.evaluation.verdict import has_forgotten

_OLD = {"exact_match": ("Exact match", "share"), "bleu": ("BLEU", "score"), "perplexity": ("Perplexity", "loss")}


@dataclass(frozen=True)
class Evidence:
    """`text` holds the figures in one sentence. `tuning` and `over_prompting` are True (better than the base, than the
    prompted base), False (worse) or None (no clear difference). What was not measured is absent from
    `known`. `verdict` is the sentence on that; `forgetting` says what was forgotten, None where nobody looked."""

    run: str
    text: str
    rows: int | None
    known: frozenset[str]
    tuning: bool | None = None
    over_prompting: bool | None = None
    verdict: str = ""
    forgot: bool = False
    forgetting: str | None = None


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
    shown = "; ".join(f"{titles[side]} {value_text(measure, value)}" for side, value in values.items())
    rows = measure.get("rows")
    verdicts = comparison.get("verdicts") or {"adapted": comparison["verdict"]}
    judged = {"adapted": "tuning", "adapted_vs_prompted": "over_prompting"}
    found = {name: verdicts[side]["better"] for side, name in judged.items() if side in verdicts}
    said = next((verdicts[side] for side in reversed(judged) if side in verdicts), {})
    forgot, forgetting = _forgetting(comparison)
    return Evidence(
        comparison["run"],
        f"{measure['title']}: {shown}" + (f" ({rows} rows)" if rows else ""),
        rows,
        frozenset(found),
        verdict=said.get("text", ""),
        forgot=forgot,
        forgetting=forgetting,
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


def _forgetting(comparison: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether something was forgotten, and the sentence on it."""
    scored = comparison.get("forgetting")
    if scored:
        return scored["forgot"], scored["text"]
    sides = comparison.get("base", {}), comparison.get("adapted", {})
    before, after = (side.get("general_accuracy") for side in sides)
    if before is None or after is None:
        return False, None
    return has_forgotten(*sides), f"General accuracy: Base {percent(before)}; Adapted {percent(after)}."
