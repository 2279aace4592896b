"""Measures of answers and losses for any number of sides: values, intervals, and tests against the first side.

A measure is a dict that goes into comparison.json as it is:
name, title, unit, better (higher, lower or None), help, rule, group (task, general, style), kind (share, score, loss),
values {side: value or None}, intervals {side: [low, high] or None} (95%), rows,
differences {side: {value, interval, p, test}} for each side but the first, and detail (None, or what belongs to it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftlab.data.final_number import final_number
from ftlab.errors import InputError, nearest
from ftlab.evaluation import significance
from ftlab.evaluation.metrics.classes import LIKELIHOOD_RULE, check_labels, find_all_labels, find_labels, label_numbers
from ftlab.evaluation.metrics.numbers import is_number
from ftlab.evaluation.metrics.structured import looks_like_code, schema_validator
from ftlab.evaluation.metrics.table import BUILT_IN, loss_measure
from ftlab.evaluation.metrics.text import json_value, words
from ftlab.evaluation.patterns import compile_pattern

# Those to choose from; general_accuracy is for general questions and not for the rows of a task.
NAMES = tuple(name for name, measure in BUILT_IN.items() if measure.group != "general")
STYLE = ("answer_words", "length_ratio", "repetition")
Rows = dict[str, dict[str, list[float | None]]]
# So many of a hundred references must be of a kind: one bad row must not decide what is measured.
_MOST = 0.9
_SHORT = 5  # words: up to here an answer is right or wrong, beyond it is more or less alike


@dataclass(frozen=True)
class MeasureOptions:
    """What some measures need to know: labels of the classes, a JSON schema, a regular expression, and `extra`, the
    paths of metric files of one's own; `commonest` is the answer that most of the training rows have; and `clusters`,
    what each row belongs to (see significance.py)."""

    labels: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    pattern: str | None = None
    extra: tuple[str, ...] = ()
    clusters: tuple[int, ...] | None = None
    commonest: str | None = None


def describe(name: str) -> dict[str, Any]:
    """Title, help, rule, unit, better, group and kind of the built-in measure `name`. Raises InputError."""
    if name not in BUILT_IN:
        raise InputError(
            "There is no such measure",
            given=name,
            allowed=f"{', '.join(NAMES)}; files of your own go under own metrics",
            try_=nearest(name, NAMES),
        )
    return asdict(BUILT_IN[name])


def suggest(references: Sequence[str], *, labels: Sequence[str] | None = None) -> list[str]:
    """The names of the measures that suit these reference answers, what decides first, length and repetition last.

    Labels, JSON objects and lists, numbers, reasoning that ends in a number, code, short answers and free text are told
    apart. Empty references decide nothing.
    """
    known = [reference for reference in references if reference.strip()]

    def most(test: Any) -> bool:
        return sum(bool(test(reference)) for reference in known) >= _MOST * len(known)

    if not known:
        return list(STYLE)
    # Numbers that recur are estimates or ratings, whose distance counts; two of them are a code for yes and no.
    if labels or (find_labels(known) and (not most(is_number) or len(set(known)) == 2)):
        return ["accuracy", "label_named", "macro_f1"]
    if most(lambda text: json_value(text.strip()) is not None):
        return ["exact_match", "reference_named", "json_fields", "json_valid", "bleu", "repetition"]
    if most(is_number):
        return ["exact_match", "reference_named", "mean_absolute_error", "number_given"]
    if most(lambda text: final_number(text) is not None):
        return ["final_number", "exact_match", "bleu", *STYLE]
    if most(looks_like_code):
        return ["exact_match", "code_parses", "chrf", "bleu", *STYLE]
    if most(lambda text: len(words(text)) <= _SHORT):
        return ["exact_match", "reference_named", "normalised_match", "token_f1", *STYLE]
    return ["exact_match", "bleu", "chrf", "rouge_l", *STYLE]


def check_measures(names: Sequence[str], references: Sequence[str], options: MeasureOptions) -> None:
    """Raises InputError for whatever would stop `measure_answers`, before any model is loaded.

    Unknown names, a pattern or schema that is missing or not valid, labels that miss an answer, unusable metric files.
    """
    for name in names:
        describe(name)
    if "pattern" in names:
        _pattern(options)
    if options.schema is not None:
        schema_validator(options.schema)
    if {"accuracy", "macro_f1", "label_named"} & set(names):
        _labels(references, options)
    if options.extra:
        from ftlab.evaluation.metrics.own import load_own

        for path in options.extra:
            load_own(path)


def measure_answers(
    names: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    options: MeasureOptions | None = None,
) -> tuple[list[dict[str, Any]], Rows]:
    """The measures `names` of the answers of each side, and their values row by row: {measure: {side: [value]}}.

    The first key of `answers` is the side that the others are compared with. A value is None in rows where the measure
    says nothing (no number, no field). Raises InputError as `check_measures` does, ValueError when answers and
    references are not paired.
    """
    from ftlab.evaluation.metrics.families import measure_family

    options = options or MeasureOptions()
    for side, given in answers.items():
        if len(given) != len(references):
            raise ValueError(f"{len(given)} answers of {side}, {len(references)} references: they must be paired")
    check_measures(names, references, options)
    if not references:
        return [], {}
    found: dict[str, dict[str, Any]] = {}
    rows: Rows = {}
    for name in dict.fromkeys(names):
        # Measures that share their work come together: asking for one of them again costs nothing.
        if name not in found:
            measures, values = measure_family(name, names, answers, references, options)
            found |= {measure["name"]: measure for measure in measures}
            rows |= values
    measures = [found[name] for name in dict.fromkeys(names)]
    for path in options.extra:
        from ftlab.evaluation.metrics.own import measure_own

        own, values = measure_own(path, answers, references, clusters=options.clusters)
        measures.append(own)
        rows |= {own["name"]: values} if values is not None else {}
    return measures, rows


def measure_losses(
    nll: Mapping[str, Sequence[float]],
    tokens: Mapping[str, Sequence[int]],
    texts_bytes: Sequence[int] | None,
    *,
    name: str = "perplexity",
    group: Literal["task", "general", "style"] = "task",
    clusters: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Perplexity of summed losses (nats) over tokens, and with `texts_bytes` (UTF-8 bytes a row) bits per byte.

    The second one is called as the first with its end replaced: general_perplexity goes with general_bits_per_byte. A
    `name` that ends in bits_per_byte gives that one alone. Raises FtlabError when a loss is not a number.
    """
    import numpy as np

    from ftlab.evaluation.perplexity import corpus_perplexity

    for side in nll:
        corpus_perplexity(nll[side], tokens[side])
    found = []
    if not name.endswith("bits_per_byte"):
        counts = {side: np.column_stack([nll[side], tokens[side]]).astype(np.float64) for side in nll}
        found.append(_losses(name, group, counts, lambda sums: np.exp(np.minimum(_ratio(sums), 700.0)), clusters))
    if texts_bytes is not None:
        bits = name.removesuffix("bits_per_byte").removesuffix("perplexity") + "bits_per_byte"
        counts = {side: np.column_stack([nll[side], texts_bytes]).astype(np.float64) for side in nll}
        found.append(_losses(bits, group, counts, lambda sums: _ratio(sums) / np.log(2), clusters))
    return found


def measure_likelihoods(
    losses: Mapping[str, Sequence[Sequence[float]]],
    labels: Sequence[str],
    references: Sequence[str],
    *,
    sizes: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
) -> tuple[list[dict[str, Any]], Rows]:
    """Classification by likelihood: the label whose text the model finds likeliest as its answer.

    `losses` holds for each side one line a row with the summed loss (nats) of each of `labels`. With `sizes` (UTF-8
    bytes of each label) losses count by byte, as acc_norm of lm-evaluation-harness does. The measures are
    likelihood_accuracy and likelihood_macro_f1. Raises InputError when a reference is none of the labels.
    """
    from dataclasses import replace

    import numpy as np

    from ftlab.evaluation.metrics.families import measure_labels

    check_labels(labels, references)
    divisor = np.asarray(sizes if sizes is not None else [1] * len(labels), dtype=np.float64)
    given = {side: (np.asarray(table) / divisor).argmin(axis=1).tolist() for side, table in losses.items()}
    rule = LIKELIHOOD_RULE + (", by byte of the label" if sizes is not None else "")
    infos = [
        replace(BUILT_IN[name], name=f"likelihood_{name}", title=f"{BUILT_IN[name].title} by likelihood", rule=rule)
        for name in ("accuracy", "macro_f1")
    ]
    return measure_labels(infos, label_numbers(references, labels), given, labels, clusters=clusters)


def _pattern(options: MeasureOptions) -> Any:
    if not options.pattern:
        raise InputError(
            "The measure pattern needs a regular expression", try_=r"evaluation.pattern, such as ^\d+ hours$"
        )
    return compile_pattern(options.pattern, "the measure pattern")


def _labels(references: Sequence[str], options: MeasureOptions) -> list[str]:
    labels = list(options.labels or find_all_labels(references))
    check_labels(labels, references)
    return labels


def _losses(
    name: str, group: Any, counts: Mapping[str, Any], combine: Any, clusters: Sequence[int] | None
) -> dict[str, Any]:
    from ftlab.evaluation.metrics.summary import of_counts

    first, *later = counts
    p = {}
    for side in later:
        # Over the same tokens or bytes the summed loss says all; else losses and tokens change places together.
        same = (counts[side][:, 1] == counts[first][:, 1]).all()
        p[side] = (
            significance.loss_difference(counts[first][:, 0], counts[side][:, 0], clusters)
            if same
            else significance.approximate_randomisation(counts[first], counts[side], combine, clusters, unseen=True)
        )
    test = f"summed losses: {significance.MEAN_TEST}"
    return of_counts(loss_measure(name, group), counts, combine, p=p, test=test, clusters=clusters)


def _ratio(sums: Any) -> Any:
    return sums[:, 0] / sums[:, 1].clip(min=1)
