"""Runs compared by what they have answered already, on the rows that all of them were asked: nothing is asked again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.measures import NAMES, MeasureOptions, measure_answers
from ftlab.evaluation.metrics.summary import of_rows
from ftlab.evaluation.metrics.table import Measure
from ftlab.evaluation.verdict import judge

Row = dict[str, Any]
_LOSS = Measure(
    "loss",
    "Loss on the reference",
    "How surprised the model is, in nats per token; the mean over the rows.",
    "mean over rows of the summed loss by the tokens of the row",
    unit="",
    better="lower",
    kind="loss",
)
_PLAIN = ("exact_match", "bleu")


def side_by_side(
    runs: Sequence[tuple[Mapping[str, Any], Sequence[Row]]],
) -> tuple[dict[str, Any], list[Row]] | None:
    """The adapted sides of several runs as one comparison and its rows; the first run is what the others differ from.

    Each of `runs` is its comparison and its predictions. Only rows that all of them were asked count; None without any.
    The measures are those that all have, and the loss as a mean over rows (its tokens are not kept).
    """
    keyed = [{_key(row): row for row in rows} for _, rows in runs]
    common = [key for key in keyed[0] if all(key in one for one in keyed[1:])]
    if not common:
        return None
    sides = [_side(comparison) for comparison, _ in runs]
    names = [side["name"] for side in sides]
    rows = [_row([one[key] for one in keyed], names) for key in common]
    measures, values = _measures(rows, names)
    called = {side["name"]: f"the run {side['title']}" for side in sides}
    for place, row in enumerate(rows):
        row["scores"] = {name: {side: found[side][place] for side in names} for name, found in values.items()}
    asked = [len(one) for one in keyed]
    notes = [f"These are the {len(rows)} rows that all of them have answered."] if max(asked) > len(rows) else []
    first = runs[0][0]
    return {
        "run": first["run"],
        "created": min(comparison["created"] for comparison, _ in runs),
        "split": first.get("split", ""),
        "seconds": None,
        "rows": len(rows),
        "sides": sides,
        "measures": measures,
        "verdicts": {name: judge(measures, name, names=called) for name in names[1:]},
        "settings": {"answers": "as they were stored by the evaluation of each run"},
        "notes": notes,
    }, rows


def _side(comparison: Mapping[str, Any]) -> dict[str, str]:
    known = {side["name"]: side for side in comparison.get("sides", [])}
    # The time at the beginning of an id tells nobody what the run is.
    title = re.sub(r"^\d{8}-\d{6}-", "", comparison["run"])
    return {"name": comparison["run"], "title": title, "what": known.get("adapted", {}).get("what", "")}


def _key(row: Mapping[str, Any]) -> str:
    return json.dumps([row.get("messages"), row.get("reference"), row.get("document")], ensure_ascii=False)


def _row(found: Sequence[Row], names: Sequence[str]) -> Row:
    """One row with what each run said to it under the run's own name."""
    kept = ("row", "prompt", "messages", "reference", "document", "columns", "cluster")
    merged = {key: found[0][key] for key in kept if key in found[0]}
    for name, row in zip(names, found, strict=True):
        for key in ("", "_tokens", "_cut", "_correct", "_loss"):
            if f"adapted{key}" in row:
                merged[f"{name}{key}"] = row[f"adapted{key}"]
    merged["measured"] = [set(row.get("scores") or _PLAIN) for row in found]
    return merged


def _measures(rows: list[Row], names: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[Any]]]]:
    known = set.intersection(*(one for row in rows for one in row.pop("measured")))
    found: list[dict[str, Any]] = []
    values: dict[str, dict[str, list[Any]]] = {}
    clusters = tuple(row["cluster"] for row in rows) if all("cluster" in row for row in rows) else None
    if "document" not in rows[0]:
        answers = {name: [row[name] for row in rows] for name in names}
        chosen = [name for name in NAMES if name in known and name != "general_accuracy"]
        options = MeasureOptions(clusters=clusters)
        found, values = measure_answers(chosen, answers, [row["reference"] for row in rows], options=options)
    losses = {name: [row.get(f"{name}_loss") for row in rows] for name in names}
    if all(any(value is not None for value in one) for one in losses.values()):
        found.append(of_rows(_LOSS, losses, clusters=clusters))
    return found, values
