"""Measures of answers and losses for any number of sides: values, intervals, and tests against the first side.

A measure is a dict that goes into comparison.json as it is:
name, title, unit, better (higher, lower or None), help, rule, group (task, general, style), kind (share, score, loss),
values {side: value or None}, intervals {side: [low, high] or None} (95%), rows,
differences {side: {value, interval, p, test}} for each side but the first, and detail (None, or what belongs to it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftlab.errors import InputError, nearest
from ftlab.evaluation import significance
from ftlab.evaluation.metrics.summary import describe_value, of_counts, of_rows
from ftlab.evaluation.metrics.table import BUILT_IN, loss_measure
from ftlab.evaluation.metrics.text import is_exact, is_general_match

NAMES = tuple(BUILT_IN)
Rows = dict[str, dict[str, list[float | None]]]


@dataclass(frozen=True)
class MeasureOptions:
    """What some measures need to know: labels of the classes, a JSON schema, a regular expression, and `extra`, the
    paths of metric files of one's own."""

    labels: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    pattern: str | None = None
    extra: tuple[str, ...] = ()


def describe(name: str) -> dict[str, Any]:
    """Title, help, rule, unit, better, group and kind of the built-in measure `name`. Raises InputError."""
    if name not in BUILT_IN:
        meant = nearest(name, NAMES)
        raise InputError(
            "There is no such measure",
            given=name,
            allowed=f"{', '.join(NAMES)}, or the path of a metric file",
            try_=f"{meant}" if meant else None,
        )
    return describe_value(BUILT_IN[name])


def suggest(references: Sequence[str], *, labels: Sequence[str] | None = None) -> list[str]:
    """The names of the measures that suit these reference answers."""
    return ["exact_match", "bleu"]


def measure_answers(
    names: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    options: MeasureOptions | None = None,
) -> tuple[list[dict[str, Any]], Rows]:
    """The measures `names` of the answers of each side, and their values row by row: {measure: {side: [value]}}.

    The first key of `answers` is the side that the others are compared with. Raises InputError for an unknown name or
    an option that is missing, ValueError when answers and references are not paired.
    """
    for side, given in answers.items():
        if len(given) != len(references):
            raise ValueError(f"{len(given)} answers of {side}, {len(references)} references: they must be paired")
    measures, rows = [], {}
    for name in dict.fromkeys(names):
        describe(name)
        if not references:
            continue
        found, values = _measure(name, answers, references, options or MeasureOptions())
        measures.append(found)
        rows[name] = values
    return measures, rows


def measure_losses(
    nll: Mapping[str, Sequence[float]],
    tokens: Mapping[str, Sequence[int]],
    texts_bytes: Sequence[int] | None,
    *,
    name: str = "perplexity",
    group: Literal["task", "general", "style"] = "task",
) -> list[dict[str, Any]]:
    """Perplexity of summed losses (nats) over tokens, and with `texts_bytes` (UTF-8 bytes a row) bits per byte.

    The second one is called as the first with its end replaced: general_perplexity goes with general_bits_per_byte. A
    `name` that ends in bits_per_byte gives that one alone. Raises FtlabError when a loss is not a number.
    """
    import numpy as np

    from ftlab.evaluation.perplexity import corpus_perplexity

    sides = list(nll)
    for side in sides:
        corpus_perplexity(nll[side], tokens[side])
    found = []
    if not name.endswith("bits_per_byte"):
        counts = {side: np.column_stack([nll[side], tokens[side]]).astype(np.float64) for side in sides}
        found.append(_losses(name, group, counts, lambda sums: np.exp(np.minimum(_ratio(sums), 700.0))))
    if texts_bytes is not None:
        bits = name.removesuffix("bits_per_byte").removesuffix("perplexity") + "bits_per_byte"
        counts = {side: np.column_stack([nll[side], texts_bytes]).astype(np.float64) for side in sides}
        found.append(_losses(bits, group, counts, lambda sums: _ratio(sums) / np.log(2)))
    return found


def _measure(
    name: str, answers: Mapping[str, Sequence[str]], references: Sequence[str], options: MeasureOptions
) -> tuple[dict[str, Any], dict[str, list[float | None]]]:
    info = BUILT_IN[name]
    if name == "bleu":
        return _by_sacrebleu(name, answers, references)
    rule = is_exact if name == "exact_match" else is_general_match
    rows = {
        side: [float(rule(*pair)) for pair in zip(given, references, strict=True)] for side, given in answers.items()
    }
    return of_rows(info, rows), rows


def _by_sacrebleu(
    name: str, answers: Mapping[str, Sequence[str]], references: Sequence[str]
) -> tuple[dict[str, Any], dict[str, list[float | None]]]:
    from dataclasses import replace

    from ftlab.evaluation.metrics.corpus import corpus_metric, row_counts, row_scores, score_of_counts

    metric = corpus_metric(name, references)
    counts = {side: row_counts(metric, given, references) for side, given in answers.items()}
    rows = {side: row_scores(metric, table) for side, table in counts.items()}
    info = replace(BUILT_IN[name], rule=f"sacrebleu, {metric.get_signature()}")
    p = significance.sacrebleu_p(metric, answers, references)
    test = f"paired bootstrap by sacrebleu, {significance.RESAMPLES} resamples"
    return of_counts(info, counts, lambda sums: score_of_counts(metric, sums), p=p, test=test), rows


def _losses(name: str, group: Any, counts: Mapping[str, Any], combine: Any) -> dict[str, Any]:
    first, *later = counts
    p = {}
    for side in later:
        # Over the same tokens or bytes the summed loss says all; else both change places together.
        same = (counts[side][:, 1] == counts[first][:, 1]).all()
        p[side] = (
            significance.loss_difference(counts[first][:, 0], counts[side][:, 0])
            if same
            else significance.approximate_randomisation(counts[first], counts[side], combine)
        )
    return of_counts(
        loss_measure(name, group), counts, combine, p=p, test="paired permutation of summed losses, 9999 resamples"
    )


def _ratio(sums: Any) -> Any:
    return sums[:, 0] / sums[:, 1].clip(min=1)
