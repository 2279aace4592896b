"""What a person's own evaluation says for the advisor: base, base with a prompt, and tuned model, in figures."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.advisor import Evidence
from ftlab.evaluation.figures import percent, value_text
from ftlab.evaluation.forgetting import answer_of
from ftlab.sharing.measures import measures_of, sides_of, verdict_of

_SHOWN = {"adapted": "tuning", "adapted_vs_prompted": "over_prompting"}


def evidence_of(comparison: dict[str, Any] | None) -> Evidence | None:
    """The figures of one comparison; None where there is none, or nothing in it that two sides can be compared by."""
    measure = _deciding(comparison) if comparison else None
    if not comparison or measure is None:
        return None
    titles = {side["name"]: side["title"] for side in sides_of(comparison)}
    values = {side: measure["values"][side] for side in titles if measure["values"].get(side) is not None}
    if not {"base", "adapted"} <= values.keys():
        return None
    figures = "; ".join(f"{titles[side]} {value_text(measure, value)}" for side, value in values.items())
    rows = f" ({measure['rows']} rows)" if measure.get("rows") else ""
    verdicts = {name: found for side, name in _SHOWN.items() if (found := verdict_of(comparison, side))}
    forgot, forgetting = _forgetting(comparison)
    return Evidence(
        comparison["run"],
        f"{measure['title']}: {figures}{rows}",
        frozenset(verdicts),
        verdict=(verdicts.get("over_prompting") or verdicts.get("tuning") or {}).get("text", ""),
        forgot=forgot,
        forgetting=forgetting,
        **{name: found["better"] for name, found in verdicts.items()},
    )


def _deciding(comparison: dict[str, Any]) -> dict[str, Any] | None:
    """The measure that decided the verdict, else the first of the task that has a better end."""
    name = (comparison.get("verdict") or {}).get("measure")
    fitting = [one for one in measures_of(comparison) if one["group"] == "task" and one["better"] is not None]
    return next((one for one in fitting if one["name"] == name), fitting[0] if fitting else None)


def _forgetting(comparison: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether something was forgotten, and the sentence on it."""
    scored, lost = comparison.get("forgetting"), answer_of(comparison) == "lost"
    if scored:
        return lost, scored["text"]
    sides = comparison.get("base", {}), comparison.get("adapted", {})
    before, after = (side.get("general_accuracy") for side in sides)
    if before is None or after is None:
        return False, None
    return lost, f"General accuracy: Base {percent(before)}; Adapted {percent(after)}."
