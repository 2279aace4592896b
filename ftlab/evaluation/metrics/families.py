"""The built-in measures, family by family: those that share their work are made together."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftlab.data.final_number import same_final_number
from ftlab.evaluation import significance
from ftlab.evaluation.metrics import structured
from ftlab.evaluation.metrics.form import named_labels, names_reference, unlabelled
from ftlab.evaluation.metrics.numbers import absolute_error, gives_number
from ftlab.evaluation.metrics.summary import of_counts, of_errors, of_rows
from ftlab.evaluation.metrics.table import BUILT_IN, Measure
from ftlab.evaluation.metrics.text import (
    is_exact,
    is_general_match,
    json_value,
    repetition,
    token_f1,
    words,
)

if TYPE_CHECKING:
    from ftlab.evaluation.measures import MeasureOptions
    from ftlab.evaluation.significance import Clusters

Answers = Mapping[str, Sequence[str]]
Measured = tuple[list[dict[str, Any]], dict[str, dict[str, list[float | None]]]]

_BY_ROW: dict[str, Callable[[str, str], float | bool | None]] = {
    "exact_match": is_exact,
    "normalised_match": is_general_match,
    "general_accuracy": is_general_match,
    "general_accuracy_replayed": is_general_match,
    "token_f1": token_f1,
    "reference_named": names_reference,
    "final_number": same_final_number,
    "number_given": gives_number,
    "code_parses": lambda answer, reference: structured.code_parses(answer),
    "repetition": lambda answer, reference: repetition(answer),
    "answer_words": lambda answer, reference: len(words(answer)),
}
_BY_EXCHANGE = "approximate randomisation, 9999 exchanges"
_ROUGE = {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}


def measure_family(
    name: str, names: Sequence[str], answers: Answers, references: Sequence[str], options: MeasureOptions
) -> Measured:
    """The measure `name`, and with it those others of `names` that come of the same work."""
    if name in _BY_ROW:
        rows = _rows(_BY_ROW[name], answers, references)
        return [of_rows(BUILT_IN[name], rows, clusters=options.clusters)], {name: rows}
    if name == "mean_absolute_error":
        return _by_error(answers, references, options.clusters)
    if name in ("bleu", "chrf"):
        return _by_sacrebleu(name, answers, references, options.clusters)
    if name in _ROUGE:
        return _by_rouge([wanted for wanted in _ROUGE if wanted in names], answers, references, options.clusters)
    if name in ("accuracy", "macro_f1", "label_named"):
        return _by_labels(name, names, answers, references, options)
    if name == "length_ratio":
        return _length_ratio(answers, references, options.clusters)
    if name == "pattern":
        return _by_pattern(answers, options)
    return _by_json(name, answers, references, options)


def _by_labels(
    name: str, names: Sequence[str], answers: Answers, references: Sequence[str], options: MeasureOptions
) -> Measured:
    from ftlab.evaluation.metrics.classes import baselines, find_all_labels, label_numbers

    labels = list(options.labels or find_all_labels(references))
    true = label_numbers(references, labels)
    if name == "label_named":
        named = {side: named_labels(texts, labels) for side, texts in answers.items()}
        rows = {side: [float(a == b) for a, b in zip(said, true, strict=True)] for side, said in named.items()}
        return [of_rows(BUILT_IN[name], rows, clusters=options.clusters)], {name: rows}
    infos = [BUILT_IN[wanted] for wanted in ("accuracy", "macro_f1") if wanted in names]
    given = {side: label_numbers(texts, labels) for side, texts in answers.items()}
    measures, values = measure_labels(infos, true, given, labels, clusters=options.clusters)
    detail = measures[0]["detail"]
    detail["baselines"] = baselines(true, labels, options.commonest)
    for side, said in given.items():
        detail[side]["unlabelled"] = unlabelled(answers[side], said)
    return measures, values


def measure_labels(
    infos: Sequence[Measure],
    true: Sequence[int],
    given: Mapping[str, Sequence[int]],
    labels: Sequence[str],
    *,
    clusters: Clusters = None,
) -> Measured:
    """Accuracy and macro F1, as `infos` name them, of labels given as numbers (-1: none of them)."""
    import numpy as np

    from ftlab.evaluation.metrics.classes import class_counts, class_detail, macro_f1

    rows = {side: [float(a == b) for a, b in zip(said, true, strict=True)] for side, said in given.items()}
    measures, values = [], {}
    detail = class_detail(true, given, labels)
    for info in infos:
        if info.name.endswith("accuracy"):
            measures.append(of_rows(info, rows, detail=detail, clusters=clusters))
            values[info.name] = rows
            continue
        counts = {side: class_counts(true, said, len(labels)) for side, said in given.items()}
        present = np.isin(np.arange(len(labels)), true)

        def combine(sums: Any, present: Any = present) -> Any:
            return macro_f1(sums, present)

        p = _exchanged(counts, combine, clusters)
        # The table of the classes stands with the accuracy where both are asked for.
        alone = detail if len(infos) == 1 else None
        measures.append(of_counts(info, counts, combine, p=p, test=_BY_EXCHANGE, detail=alone, clusters=clusters))
    return measures, values


def _rows(
    rule: Callable[[str, str], float | bool | None], answers: Answers, references: Sequence[str]
) -> dict[str, list[float | None]]:
    def value(answer: str, reference: str) -> float | None:
        found = rule(answer, reference)
        return None if found is None else float(found)

    return {side: [value(*pair) for pair in zip(given, references, strict=True)] for side, given in answers.items()}


def _by_error(answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    """Over the rows whose reference has a number; see `of_errors` for the answers without one."""
    from ftlab.evaluation.metrics.numbers import find_number

    wanted = [find_number(reference) for reference in references]
    asked = [place for place, value in enumerate(wanted) if value is not None]
    numbers = [value for value in wanted if value is not None]
    info = BUILT_IN["mean_absolute_error"]
    if not numbers:
        rows = _rows(absolute_error, answers, references)
        return [of_rows(info, rows)], {info.name: rows}
    # As far as an answer can be off that stays among the references.
    cap = max(numbers) - min(numbers) or max(1.0, abs(numbers[0]))
    errors = {side: [absolute_error(given[at], references[at]) for at in asked] for side, given in answers.items()}
    own = [clusters[at] for at in asked] if clusters else None
    measure, capped = of_errors(replace(info, rule=f"{info.rule} ({cap:,.4g} here)"), errors, cap, clusters=own)
    found: dict[str, list[float | None]] = {side: [None] * len(references) for side in answers}
    for side, values in capped.items():
        for at, value in zip(asked, values, strict=True):
            found[side][at] = value
    return [measure], {info.name: found}


def _by_sacrebleu(name: str, answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    from ftlab.evaluation.metrics.corpus import corpus_metric, row_counts, row_scores, score_of_counts

    every, composed = [references, *answers.values()], [_composed(references), *map(_composed, answers.values())]
    references, answers = composed[0], dict(zip(answers, composed[1:], strict=True))
    metric = corpus_metric(name, references)
    counts = {side: row_counts(metric, given, references) for side, given in answers.items()}
    rows = {side: row_scores(metric, table) for side, table in counts.items()}
    rule = f"sacrebleu, {metric.get_signature()}"
    # Letters as one character or as two are the same text; the signature alone would not give these figures again.
    rule += "" if all(map(_same, every, composed)) else "; all texts in Unicode form NFC"
    info = replace(BUILT_IN[name], rule=rule)

    def combine(sums: Any) -> Any:
        return score_of_counts(metric, sums)

    p = _exchanged(counts, combine, clusters, unseen=True)
    test = f"{_BY_EXCHANGE}, and {significance.ONE_MORE}"
    return [of_counts(info, counts, combine, p=p, test=test, clusters=clusters)], {name: rows}


def _composed(texts: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", text) for text in texts]


def _same(before: Sequence[str], after: Sequence[str]) -> bool:
    return list(before) == list(after)


def _exchanged(
    counts: Mapping[str, Any], combine: Any, clusters: Clusters, *, unseen: bool = False
) -> dict[str, float]:
    """The p of each later side against the first one; `unseen` where many rows can gain a little and one lose much."""
    first, *later = counts
    return {
        side: significance.approximate_randomisation(counts[first], counts[side], combine, clusters, unseen=unseen)
        for side in later
    }


def _by_rouge(names: Sequence[str], answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    from ftlab.evaluation.metrics.rouge import rouge_rows, rouge_rule

    rows = rouge_rows([_ROUGE[name] for name in names], answers, references)
    infos = {name: replace(BUILT_IN[name], rule=rouge_rule()) for name in names}
    measures = [of_rows(infos[name], rows[_ROUGE[name]], clusters=clusters) for name in names]
    return measures, {name: rows[_ROUGE[name]] for name in names}


def _length_ratio(answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    import numpy as np

    wanted = [len(words(reference)) for reference in references]
    counts = {
        side: np.array([[len(words(answer)), size] for answer, size in zip(given, wanted, strict=True)], dtype=float)
        for side, given in answers.items()
    }

    def combine(sums: Any) -> Any:
        return sums[:, 0] / sums[:, 1].clip(min=1)

    p = _exchanged(counts, combine, clusters)
    return [of_counts(BUILT_IN["length_ratio"], counts, combine, p=p, test=_BY_EXCHANGE, clusters=clusters)], {}


def _by_pattern(answers: Answers, options: MeasureOptions) -> Measured:
    from ftlab.evaluation.patterns import SEARCH_SECONDS, compile_pattern, is_found

    pattern = compile_pattern(options.pattern or "", "the measure pattern")
    found = {side: [is_found(pattern, answer) for answer in given] for side, given in answers.items()}
    slow = {side: sum(value is None for value in values) for side, values in found.items()}
    rows: dict[str, list[float | None]] = {side: [float(bool(value)) for value in found[side]] for side in found}
    rule = f"found anywhere in the answer: {options.pattern}"
    if any(slow.values()):
        rule += f" ({max(slow.values())} searches took longer than {SEARCH_SECONDS} seconds and count as not found)"
    return [of_rows(replace(BUILT_IN["pattern"], rule=rule), rows, clusters=options.clusters)], {"pattern": rows}


def _by_json(name: str, answers: Answers, references: Sequence[str], options: MeasureOptions) -> Measured:
    validator = structured.schema_validator(options.schema) if options.schema is not None else None
    info = BUILT_IN[name]
    if name == "json_valid":
        rows = _rows(lambda answer, reference: structured.is_valid_json(answer, validator), answers, references)
        rule = "valid JSON, and valid under the given schema" if validator is not None else info.rule
        return [of_rows(replace(info, rule=rule), rows, clusters=options.clusters)], {name: rows}
    rows, fields = {}, {}
    for side, given in answers.items():
        right = [structured.fields_right(*pair, validator) for pair in zip(given, references, strict=True)]
        rows[side] = [None if found is None else sum(found.values()) / len(found) for found in right]
        fields[side] = right
    # In the order in which the fields come up.
    paths = (path for found in next(iter(fields.values())) for path in found or {})
    known = dict.fromkeys(map(structured.field_name, paths))
    detail = {"fields": {field: {side: _field_share(fields[side], field) for side in fields} for field in known}}
    by_schema = validator is not None and json_value(references[0].strip()) is None
    rule = structured.SCHEMA_FIELDS_RULE if by_schema else info.rule
    return [of_rows(replace(info, rule=rule), rows, detail=detail, clusters=options.clusters)], {name: rows}


def _field_share(rows: Sequence[dict[str, bool] | None], field: str) -> float:
    found = [right for row in rows if row for path, right in row.items() if structured.field_name(path) == field]
    return sum(found) / len(found)
