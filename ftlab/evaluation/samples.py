"""Several answers to each row: what a row is worth, and in how many rows all of them are right.

The k answers to a row belong together: its value is their mean, and what is drawn again in intervals and tests is the
row. A measure of a whole corpus (BLEU, macro F1) sums its counts over all answers, and its tests draw rows as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ftlab.evaluation.measures import MeasureOptions, Rows, measure_answers
from ftlab.evaluation.metrics.summary import of_rows
from ftlab.evaluation.metrics.table import BUILT_IN, Measure

if TYPE_CHECKING:
    from ftlab.evaluation.significance import Clusters

PASS = "pass_k"
# What says of one answer that it is right; the first that is measured is taken.
_RIGHT = ("accuracy", "final_number", "exact_match", "normalised_match", "pattern")
# Their values of single rows are no parts of the value of the corpus.
OF_CORPUS = ("bleu", "chrf")
_PASS_RULE = (
    "pass^k (Yao et al. 2024, tau-bench, arXiv 2406.12045): mean over rows of C(c, k) / C(n, k), where c of n answers "
    "are right; here n = k = {k}, so a row counts where all {k} are right, by {measure}"
)


def measure_samples(
    names: Sequence[str],
    answers: Mapping[str, Sequence[Sequence[str]]],
    references: Sequence[str],
    *,
    options: MeasureOptions | None = None,
) -> tuple[list[dict[str, Any]], Rows]:
    """As `measure_answers`, where each side has k lists of answers to `references`, the same k on all sides.

    With k above 1 the value of a row is the mean over its answers (of those with a value), and behind the measure that
    tells right from wrong stands pass^k.
    """
    options = options or MeasureOptions()
    k = len(next(iter(answers.values())))
    if k == 1:
        return measure_answers(names, {side: given for side, [given] in answers.items()}, references, options=options)
    flat = {side: [text for sample in given for text in sample] for side, given in answers.items()}
    # Of all answers in one list, those to a row are a cluster (of the cluster that the row itself is in).
    tied = options.clusters or tuple(range(len(references)))
    measures, every = measure_answers(names, flat, [*references] * k, options=replace(options, clusters=tied * k))
    rows = {name: {side: _means(values, k) for side, values in one.items()} for name, one in every.items()}
    found = [_by_row(measure, rows, len(references), k, options.clusters) for measure in measures]
    right = next((name for name in _RIGHT if name in rows), None)
    if right and references:
        place = [measure["name"] for measure in found].index(right)
        rows[PASS] = {side: [_all(value) for value in values] for side, values in rows[right].items()}
        found.insert(place + 1, _pass(found[place], rows[PASS], k, options.clusters))
    return found, rows


def right_of(rows: Rows, number: int, k: int) -> dict[str, int] | None:
    """How many of the k answers of each side to row `number` are right, by the measure that pass^k goes by."""
    name = next((name for name in _RIGHT if name in rows), None)
    if name is None or k == 1:
        return None
    shares = {side: values[number] for side, values in rows[name].items()}
    return {side: round(share * k) for side, share in shares.items() if share is not None}


def samples_note(rows: int, k: int, temperature: float) -> str | None:
    """What a reader of the figures has to know of how answers were made; None for greedy decoding."""
    if not temperature:
        return None
    drawn = f"Answers were drawn at temperature {temperature:g}, with the same random numbers for the same prompt"
    if k == 1:
        return f"{drawn}, one to each row: ask again with more (evaluation.samples) to see how they vary."
    return (
        f"{drawn}: {k} to each of the {rows} rows. The value of a row is the mean over its {k} answers, and rows are "
        "what intervals and tests draw. Answers on show, and those counted as cut, are the first of each row. "
        "General questions, where there are any, are answered once, greedily."
    )


def _means(values: Sequence[float | None], k: int) -> list[float | None]:
    """Per row the mean of its values; `values` are those of all first answers, then of all second ones."""
    count = len(values) // k
    found: list[float | None] = []
    for row in range(count):
        known = [value for value in values[row::count] if value is not None]
        found.append(math.fsum(known) / len(known) if known else None)
    return found


def _by_row(measure: dict[str, Any], rows: Rows, count: int, k: int, clusters: Clusters) -> dict[str, Any]:
    """`measure` of all answers in one list, by rows. One of a whole corpus keeps its tests, which draw clusters."""
    detail = measure["detail"]
    if detail and "labels" in detail:
        detail = detail | {"samples": k}  # its table counts answers
    if measure["name"] not in rows or measure["name"] in OF_CORPUS:
        return measure | {"rows": count, "detail": detail}
    info = Measure(**{field.name: measure[field.name] for field in fields(Measure)})
    total = None if measure["name"] in BUILT_IN else measure["values"]
    return of_rows(info, rows[measure["name"]], detail=detail, total=total, clusters=clusters)


def _all(share: float | None) -> float | None:
    return None if share is None else float(share == 1)


def _pass(
    measure: Mapping[str, Any], rows: Mapping[str, Sequence[float | None]], k: int, clusters: Clusters
) -> dict[str, Any]:
    info = Measure(
        PASS,
        f"pass^{k}",
        f"Share of rows in which all {k} answers are right.",
        _PASS_RULE.format(k=k, measure=measure["title"]),
        group=measure["group"],
    )
    return of_rows(info, rows, detail={"of": measure["name"], "samples": k}, clusters=clusters)
