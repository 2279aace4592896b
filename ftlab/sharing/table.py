"""The comparison as rows of text, the same on the command line, in the app, in notebooks and in the report."""

from __future__ import annotations

from typing import Any

from ftlab.errors import shorten
from ftlab.evaluation.figures import change_text, signed, value_text
from ftlab.sharing.measures import (
    Comparison,
    Measure,
    improved,
    interval_text,
    measures_of,
    of_documents,
    p_of,
    sides_of,
    unit_text,
)

__all__ = ["comparison_table", "of_documents"]


def comparison_table(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per measure, with texts ready to show.

    Keys: measure, unit, help, group, name, and of the first and the adapted side base, adapted, change, base_interval,
    adapted_interval (95%), p, better. `better` is True or False for a significant change, None when the data cannot
    tell. `sides` has for each side value, interval, change, p and better.
    """
    names = [side["name"] for side in sides_of(comparison)]
    rows: list[dict[str, Any]] = []
    for measure in measures_of(comparison):
        rows += [_row(measure, names), *baseline_rows(measure, names)]
    cut = _cut(comparison, names)
    return [*rows, _flat(cut, names)] if cut else rows


def _row(measure: Measure, names: list[str]) -> dict[str, Any]:
    first = names[0]
    sides = {}
    for name in names:
        later = name != first
        sides[name] = {
            "value": value_text(measure, measure["values"].get(name)),
            "interval": interval_text(measure, (measure.get("intervals") or {}).get(name)),
            "change": change_text(measure, name, first) if later else "",
            "p": p_of(measure, name) if later else "",
            "better": improved(measure, name, first) if later else None,
        }
    row = {key: measure[key] for key in ("name", "group", "help")}
    return _flat(row | {"measure": measure["title"], "unit": unit_text(measure), "sides": sides}, names)


def baseline_rows(measure: Measure, names: list[str]) -> list[dict[str, Any]]:
    """What the commonest label and guessing would get, below the accuracy of labels; the same for every side."""
    known = (measure.get("detail") or {}).get("baselines") if measure["name"] == "accuracy" else None
    if not known:
        return []
    lines = [("chance", "Guessing", "One of the labels at random, without a model.", known["chance"])]
    if "label" in known:
        help = "The commonest label of the training rows each time, without a model."
        lines.insert(0, ("majority", f"Always “{shorten(known['label'], 30)}”", help, known["always"]))
    rows = []
    for name, title, help, value in lines:
        one = {"value": value_text(measure, value), "interval": "", "change": "", "p": "", "better": None}
        row = {"name": name, "group": measure["group"], "help": help, "measure": title, "unit": unit_text(measure)}
        rows.append(_flat(row | {"sides": {side: dict(one) for side in names}}, names))
    return rows


def _flat(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """`row` with the figures of its first and of its adapted side beside each other, as a table of two takes them."""
    first = row["sides"][names[0]]
    last = row["sides"].get("adapted") or row["sides"][names[-1]]
    return row | {
        "base": first["value"],
        "adapted": last["value"],
        "change": last["change"],
        "base_interval": first["interval"],
        "adapted_interval": last["interval"],
        "p": last["p"],
        "better": last["better"],
    }


def _cut(comparison: Comparison, names: list[str]) -> dict[str, Any] | None:
    """How many answers were cut, where some were."""
    known = [name for name in names if "truncated_answers" in comparison.get(name, {})]
    if not any(comparison[name]["truncated_answers"] for name in known):
        return None
    first = comparison[names[0]].get("truncated_answers", 0)
    sides = {}
    for name in names:
        cut = comparison[name]["truncated_answers"] if name in known else None
        change = signed(f"{abs(cut - first):,}", cut - first) if cut is not None and name != names[0] else ""
        value = "–" if cut is None else f"{cut:,}"
        sides[name] = {"value": value, "interval": "", "change": change, "p": "", "better": None}
    return {
        "name": "truncated_answers",
        "measure": "Answers cut",
        "unit": f"of {comparison[known[-1]]['rows']:,} rows",
        "group": "style",
        "help": "Answers that reached the length limit before the model ended them.",
        "sides": sides,
    }
