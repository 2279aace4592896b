"""The rows of a comparison one by one: what each side scored, which rows improved, and in which order to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.figures import in_sentence

Row = Mapping[str, Any]
FILTERS = ("All", "Improved", "Got worse", "Both wrong")
ORDERS = {
    "data": "As in the data",
    "lost": "What got worse first",
    "gained": "What improved first",
    "loss": "Highest loss first",
}
LOSS = "loss"
# In nats per token of one row; perplexity is that of the whole corpus.
LOSS_MEASURE = {"name": LOSS, "title": "Loss on the reference", "better": "lower", "kind": "loss", "unit": ""}


def row_scores(row: Row, sides: Sequence[str]) -> dict[str, dict[str, float]]:
    """{measure: {side: value}} of one row of predictions.jsonl; `loss` is among them where it is known."""
    found = {name: dict(values) for name, values in (row.get("scores") or {}).items()}
    if "exact_match" not in found and f"{sides[0]}_correct" in row:
        found["exact_match"] = {side: float(row[f"{side}_correct"]) for side in sides if f"{side}_correct" in row}
    losses = {side: row[f"{side}_loss"] for side in sides if row.get(f"{side}_loss") is not None}
    return found | ({LOSS: losses} if losses else {})


def measured(rows: Sequence[Row], sides: Sequence[str]) -> list[str]:
    """The measures that some row has a value of on all `sides`."""
    names: dict[str, None] = {}
    for row in rows:
        for name, values in row_scores(row, sides).items():
            if all(values.get(side) is not None for side in sides):
                names[name] = None
    return list(names)


def gain(row: Row, measure: str, pair: tuple[str, str], *, higher: bool) -> float | None:
    """How much better the second side of `pair` did on this row than the first; None where it was not measured."""
    values = row_scores(row, pair).get(measure, {})
    before, after = (values.get(side) for side in pair)
    if before is None or after is None:
        return None
    return (after - before) * (1 if higher else -1)


def changed(rows: Sequence[Row], measures: Sequence[Mapping[str, Any]], decided: str | None) -> dict[str, Any] | None:
    """How many `rows` of base and adapted model are better and worse: {by, better, worse}; None without any to compare.

    `by` is the title of the measure `decided`, else (where rows have no value of it) the loss.
    """
    pair = ("base", "adapted")
    known = measured(rows, pair)
    name = decided if decided in known else LOSS if LOSS in known else None
    if name is None:
        return None
    measure = next((one for one in measures if one["name"] == name), LOSS_MEASURE)
    gains = [gain(row, name, pair, higher=measure["better"] != "lower") or 0.0 for row in rows]
    title = "loss" if "document" in rows[0] else in_sentence(measure["title"])
    return {"by": title, "better": sum(one > 0 for one in gains), "worse": sum(one < 0 for one in gains)}


def what_to_read(comparison: Mapping[str, Any]) -> str:
    """Which rows a person should read next, in words that hold for as many as there are."""
    told, documents = comparison.get("changed"), comparison["adapted"].get("exact_match", 0) is None
    what = "document" if documents else "answer"
    then = "then try the model in Chat" + ("." if documents else " on prompts of your own.")
    if told is None:
        return f"Read the {what}s that changed, {then}"
    if not told["worse"]:
        return f"No {what} got worse by {told['by']}. Read some of those that changed, {then}"
    those = f"{what} that" if told["worse"] == 1 else f"{told['worse']:,} {what}s that"
    return f"Read the {those} got worse by {told['by']}, {then}"


def select(
    rows: Sequence[Row], search: str | None, kind: str | None, measure: str, pair: tuple[str, str], *, higher: bool
) -> list[Row]:
    """The rows that hold all words of `search` in their texts and belong to `kind`, one of FILTERS, by `measure`.

    Both wrong: neither side of `pair` scores anything above 0, where higher is better.
    """
    words = (search or "").lower().split()

    def belongs(row: Row) -> bool:
        if kind not in FILTERS or kind == "All":
            return True
        if kind == "Both wrong":
            values = row_scores(row, pair).get(measure, {})
            return higher and all(values.get(side, 1) <= 0 for side in pair)
        change = gain(row, measure, pair, higher=higher)
        return change is not None and (change > 0 if kind == "Improved" else change < 0)

    def holds(row: Row) -> bool:
        keys = ("document",) if "document" in row else ("prompt", "reference", *pair)
        text = " ".join(str(row.get(key, "")) for key in keys).lower()
        return all(word in text for word in words)

    return [row for row in rows if belongs(row) and holds(row)]


def ordered(rows: Sequence[Row], order: str, measure: str, pair: tuple[str, str], *, higher: bool) -> list[Row]:
    """`rows` in one of ORDERS; those that cannot be placed come last, equals stay as in the data."""

    def change(row: Row) -> float | None:
        return gain(row, measure, pair, higher=higher)

    def loss(row: Row) -> float | None:
        return row_scores(row, pair).get(LOSS, {}).get(pair[1])

    if order not in ("lost", "gained", "loss"):
        return list(rows)
    key, sign = (loss, -1) if order == "loss" else (change, 1 if order == "lost" else -1)
    found = [(key(row), row) for row in rows]
    known = sorted(((value, row) for value, row in found if value is not None), key=lambda pair: sign * pair[0])
    return [row for _, row in known] + [row for value, row in found if value is None]
