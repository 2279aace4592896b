"""The table of measures: what each needs, how it is computed and tested, and the data it suits."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import regex

from ftlab.core.comparison import MeasureInfoJson, MeasureJson
from ftlab.core.processes import child_environment
from ftlab.data.final_number import final_number, same_final_number
from ftlab.errors import FtlabError, InputError, nearest
from ftlab.evaluation import significance
from ftlab.evaluation.metrics import text as structured
from ftlab.evaluation.metrics.form import named_labels, names_reference, unlabelled
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, loss_measure, of_counts, of_errors, of_rows
from ftlab.evaluation.metrics.text import (
    LIKELIHOOD_RULE,
    absolute_error,
    check_labels,
    find_all_labels,
    find_labels,
    gives_number,
    is_exact,
    is_general_match,
    is_number,
    json_value,
    label_numbers,
    looks_like_code,
    repetition,
    schema_validator,
    token_f1,
    words,
)
from ftlab.evaluation.metrics.tools import TOOL_MEASURES

if TYPE_CHECKING:
    from ftlab.evaluation.significance import Clusters

SEARCH_SECONDS = 0.1  # per answer: (a+)+$ can take longer than the age of the universe
_COMPILE_SECONDS = 5
_LONGEST = 1000  # characters
# Compiling a{99999999} takes minutes and gigabytes, and nothing inside the process can interrupt it.
_COMPILE = """
import sys, regex
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
except ImportError:
    pass
regex.compile(sys.argv[1])
"""


def compile_pattern(pattern: str, what: str) -> Any:
    """`pattern` compiled. Raises InputError, naming `what` it is for, if it is invalid or far too large."""
    if len(pattern) > _LONGEST:
        raise InputError(
            f"The regular expression of {what} is too long",
            given=f"{len(pattern):,} characters",
            allowed=f"at most {_LONGEST:,}",
        )
    if "{" in pattern and not _can_be_compiled(pattern):
        raise InputError(
            f"The regular expression of {what} takes too long to compile",
            given=pattern,
            allowed="at most a few hundred repetitions, such as {1,100}",
            try_="the reward length for long answers",
        )
    try:
        return regex.compile(unicodedata.normalize("NFC", pattern))
    except (regex.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"The regular expression of {what} is not valid: {error}",
            given=pattern,
            try_="a backslash before special characters, such as ( or ?, to match them literally",
        ) from None


def is_found(pattern: Any, text: str) -> bool | None:
    """Whether the compiled `pattern` matches anywhere in `text`; None if the search took too long."""
    try:
        return pattern.search(unicodedata.normalize("NFC", text), timeout=SEARCH_SECONDS) is not None
    except TimeoutError:
        return None


def _can_be_compiled(pattern: str) -> bool:
    """Whether a separate process can compile it in time. True for an invalid one, which is refused at once."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMPILE, pattern],
            capture_output=True,
            timeout=_COMPILE_SECONDS,
            text=True,
            env=child_environment({}),
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0 and "MemoryError" not in done.stderr


Answers = Mapping[str, Sequence[str]]
# The values of single rows: {measure: {side: [value]}}.
Rows = dict[str, Mapping[str, Sequence[float | None]]]
Measured = tuple[list[MeasureJson], Rows]

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
    """The measure `name`, and those others of `names` that result from the same computation."""
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
    if name in TOOL_MEASURES:
        return _by_tools(name, answers, references, options)
    return _by_json(name, answers, references, options)


def _by_labels(
    name: str, names: Sequence[str], answers: Answers, references: Sequence[str], options: MeasureOptions
) -> Measured:
    from ftlab.evaluation.metrics.text import baselines, find_all_labels, label_numbers

    labels = list(options.labels or find_all_labels(references))
    true = label_numbers(references, labels)
    if name == "label_named":
        named = {side: named_labels(texts, labels) for side, texts in answers.items()}
        rows = _right(named, true)
        return [of_rows(BUILT_IN[name], rows, clusters=options.clusters)], {name: rows}
    infos = [BUILT_IN[wanted] for wanted in ("accuracy", "macro_f1") if wanted in names]
    numbers_of = {side: label_numbers(texts, labels) for side, texts in answers.items()}
    measures, values = measure_labels(infos, true, numbers_of, labels, clusters=options.clusters)
    if detail := measures[0]["detail"]:
        detail["baselines"] = baselines(true, labels, options.commonest)
        for side, numbers in numbers_of.items():
            detail[side]["unlabelled"] = unlabelled(answers[side], numbers, labels)
    return measures, values


def measure_labels(
    infos: Sequence[Measure],
    true: Sequence[int],
    answered: Mapping[str, Sequence[int]],
    labels: Sequence[str],
    *,
    clusters: Clusters = None,
) -> Measured:
    """Accuracy and macro F1, as named in `infos`, of labels given as numbers (-1: not a label)."""
    import numpy as np

    from ftlab.evaluation.metrics.text import class_counts, class_detail, macro_f1

    rows = _right(answered, true)
    measures: list[MeasureJson] = []
    values: Rows = {}
    detail = class_detail(true, answered, labels)
    for info in infos:
        if info.name.endswith("accuracy"):
            measures.append(of_rows(info, rows, detail=detail, clusters=clusters))
            values[info.name] = rows
            continue
        counts = {side: class_counts(true, numbers, len(labels)) for side, numbers in answered.items()}
        present = np.isin(np.arange(len(labels)), true)

        def combine(sums: Any, present: Any = present) -> Any:
            return macro_f1(sums, present)

        p = _exchanged(counts, combine, clusters)
        # The table of classes goes with the accuracy if both are requested.
        alone = detail if len(infos) == 1 else None
        measures.append(of_counts(info, counts, combine, p=p, test=_BY_EXCHANGE, detail=alone, clusters=clusters))
    return measures, values


def _right(numbers: Mapping[str, Sequence[int]], true: Sequence[int]) -> dict[str, list[float | None]]:
    """1 or 0 for each row: whether a side gave the `true` label."""
    return {side: [float(a == b) for a, b in zip(of_side, true, strict=True)] for side, of_side in numbers.items()}


def _rows(
    rule: Callable[[str, str], float | bool | None], answers: Answers, references: Sequence[str]
) -> dict[str, list[float | None]]:
    def value(answer: str, reference: str) -> float | None:
        score = rule(answer, reference)
        return None if score is None else float(score)

    return {side: [value(*pair) for pair in zip(texts, references, strict=True)] for side, texts in answers.items()}


def _by_error(answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    """Over the rows whose reference has a number. See `of_errors` for answers without one."""
    from ftlab.evaluation.metrics.text import find_number

    wanted = [find_number(reference) for reference in references]
    asked = [place for place, value in enumerate(wanted) if value is not None]
    numbers = [value for value in wanted if value is not None]
    info = BUILT_IN["mean_absolute_error"]
    if not numbers:
        rows = _rows(absolute_error, answers, references)
        return [of_rows(info, rows)], {info.name: rows}
    # The largest error of an answer within the range of the references.
    cap = max(numbers) - min(numbers) or max(1.0, abs(numbers[0]))
    errors = {side: [absolute_error(texts[at], references[at]) for at in asked] for side, texts in answers.items()}
    own = [clusters[at] for at in asked] if clusters else None
    measure, capped = of_errors(replace(info, rule=f"{info.rule} ({cap:,.4g} here)"), errors, cap, clusters=own)
    by_row: dict[str, list[float | None]] = {side: [None] * len(references) for side in answers}
    for side, values in capped.items():
        for at, value in zip(asked, values, strict=True):
            by_row[side][at] = value
    return [measure], {info.name: by_row}


def _by_sacrebleu(name: str, answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    from ftlab.evaluation.metrics.text import corpus_metric, row_counts, row_scores, score_of_counts

    every, composed = [references, *answers.values()], [_composed(references), *map(_composed, answers.values())]
    references, answers = composed[0], dict(zip(answers, composed[1:], strict=True))
    metric = corpus_metric(name, references)
    counts = {side: row_counts(metric, texts, references) for side, texts in answers.items()}
    rows = {side: row_scores(metric, table) for side, table in counts.items()}
    rule = f"sacrebleu, {metric.get_signature()}"
    # Precomposed and decomposed letters are the same text, but the signature alone would not reproduce these figures.
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
    """The p of each later side against the first one. `unseen` is for measures in which many rows can gain a little and
    one lose much."""
    first, *later = counts
    return {
        side: significance.approximate_randomisation(counts[first], counts[side], combine, clusters, unseen=unseen)
        for side in later
    }


def _by_rouge(names: Sequence[str], answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    from ftlab.evaluation.metrics.text import rouge_rows, rouge_rule

    rows = rouge_rows([_ROUGE[name] for name in names], answers, references)
    infos = {name: replace(BUILT_IN[name], rule=rouge_rule()) for name in names}
    measures = [of_rows(infos[name], rows[_ROUGE[name]], clusters=clusters) for name in names]
    return measures, {name: rows[_ROUGE[name]] for name in names}


def _length_ratio(answers: Answers, references: Sequence[str], clusters: Clusters) -> Measured:
    import numpy as np

    wanted = [len(words(reference)) for reference in references]
    counts = {
        side: np.array([[len(words(answer)), size] for answer, size in zip(texts, wanted, strict=True)], dtype=float)
        for side, texts in answers.items()
    }

    def combine(sums: Any) -> Any:
        return sums[:, 0] / sums[:, 1].clip(min=1)

    p = _exchanged(counts, combine, clusters)
    return [of_counts(BUILT_IN["length_ratio"], counts, combine, p=p, test=_BY_EXCHANGE, clusters=clusters)], {}


def _by_pattern(answers: Answers, options: MeasureOptions) -> Measured:

    pattern = compile_pattern(options.pattern or "", "the measure pattern")
    hits = {side: [is_found(pattern, answer) for answer in texts] for side, texts in answers.items()}
    slow = {side: sum(value is None for value in values) for side, values in hits.items()}
    rows: dict[str, list[float | None]] = {side: [float(bool(value)) for value in hits[side]] for side in hits}
    rule = f"found anywhere in the answer: {options.pattern}"
    if any(slow.values()):
        rule += f" ({max(slow.values())} searches took longer than {SEARCH_SECONDS} seconds and count as not found)"
    return [of_rows(replace(BUILT_IN["pattern"], rule=rule), rows, clusters=options.clusters)], {"pattern": rows}


def _by_tools(name: str, answers: Answers, references: Sequence[str], options: MeasureOptions) -> Measured:
    listed = [json.loads(text) if text else [] for text in options.tools or [""] * len(references)]
    rows = {
        side: [
            TOOL_MEASURES[name](answer, reference, tools)
            for answer, reference, tools in zip(texts, references, listed, strict=True)
        ]
        for side, texts in answers.items()
    }
    measure = of_rows(BUILT_IN[name], rows, clusters=options.clusters)
    return [measure], {name: rows}


def _by_json(name: str, answers: Answers, references: Sequence[str], options: MeasureOptions) -> Measured:
    validator = structured.schema_validator(options.schema) if options.schema is not None else None
    info = BUILT_IN[name]
    if name == "json_valid":
        rows = _rows(lambda answer, reference: structured.is_valid_json(answer, validator), answers, references)
        rule = "valid JSON, and valid under the given schema" if validator is not None else info.rule
        return [of_rows(replace(info, rule=rule), rows, clusters=options.clusters)], {name: rows}
    rows, fields = {}, {}
    for side, texts in answers.items():
        right = [structured.fields_right(*pair, validator) for pair in zip(texts, references, strict=True)]
        rows[side] = [
            None if fields_of_row is None else sum(fields_of_row.values()) / len(fields_of_row)
            for fields_of_row in right
        ]
        fields[side] = right
    # In the display order of the fields.
    paths = (path for fields_of_row in next(iter(fields.values())) for path in fields_of_row or {})
    known = dict.fromkeys(map(structured.field_name, paths))
    detail = {"fields": {field: {side: _field_share(fields[side], field) for side in fields} for field in known}}
    by_schema = validator is not None and json_value(references[0].strip()) is None
    rule = structured.SCHEMA_FIELDS_RULE if by_schema else info.rule
    return [of_rows(replace(info, rule=rule), rows, detail=detail, clusters=options.clusters)], {name: rows}


def _field_share(rows: Sequence[dict[str, bool] | None], field: str) -> float:
    rights = [right for row in rows if row for path, right in row.items() if structured.field_name(path) == field]
    return sum(rights) / len(rights)


# The choices offered. general_accuracy is for general questions, not for the rows of a task.
NAMES = tuple(name for name, measure in BUILT_IN.items() if measure.group not in ("general", "cost"))
STYLE = ("answer_words", "length_ratio", "repetition")
# The minimum share of references of one kind: one bad row must not decide what is measured.
_MOST = 0.9
_SHORT = 5  # words: up to this length an answer is right or wrong, longer ones are more or less similar


@dataclass(frozen=True)
class MeasureOptions:
    """What some measures need: class labels, a JSON schema, a regular expression, the `tools` of each row as JSON text
    ("" for none), `extra` (the paths of custom metric files), `commonest` (the most common answer in training), and
    `clusters` (the cluster of each row, see significance.py)."""

    labels: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    pattern: str | None = None
    extra: tuple[str, ...] = ()
    clusters: tuple[int, ...] | None = None
    commonest: str | None = None
    tools: tuple[str, ...] | None = None


def describe(name: str) -> MeasureInfoJson:
    """Title, help, rule, unit, better, group and kind of the built-in measure `name`. Raises InputError."""
    if name not in BUILT_IN:
        raise InputError(
            "There is no such measure",
            given=name,
            allowed=f"{', '.join(NAMES)}; files of your own go under own metrics",
            try_=nearest(name, NAMES),
        )
    return BUILT_IN[name].as_json()


def suggest(references: Sequence[str], *, labels: Sequence[str] | None = None, tools: bool = False) -> list[str]:
    """The names of the measures that suit these reference answers: deciding ones first, length and repetition last.

    `tools`: some rows have tools, so calls are measured. Distinguishes labels, JSON objects and lists, numbers,
    reasoning that ends in a number, code, short answers and free text. Empty references are ignored.
    """
    known = [reference for reference in references if reference.strip()]

    def most(test: Any) -> bool:
        return sum(bool(test(reference)) for reference in known) >= _MOST * len(known)

    if not known:
        return list(STYLE)
    if tools:
        return [*TOOL_MEASURES, "exact_match", "bleu", *STYLE]
    # Recurring numbers are estimates or ratings, for which distance matters; only two values encode yes and no.
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
    """Raises InputError for anything that would stop `measure_answers`, before any model is loaded.

    Unknown names, a missing or invalid pattern or schema, labels that lack an answer, unusable metric files.
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
) -> Measured:
    """The measures `names` of the answers of each side, and their values by row: {measure: {side: [value]}}.

    The first key of `answers` is the side that the others are compared with. A value is None in rows to which the
    measure does not apply (no number, no field). Raises InputError as `check_measures` does, ValueError if answers and
    references are not paired.
    """

    options = options or MeasureOptions()
    for side, texts in answers.items():
        if len(texts) != len(references):
            raise ValueError(f"{len(texts)} answers of {side}, {len(references)} references: they must be paired")
    check_measures(names, references, options)
    if not references:
        return [], {}
    by_name: dict[str, MeasureJson] = {}
    rows: Rows = {}
    for name in dict.fromkeys(names):
        # Measures that share a computation are returned together, so requesting one of them again costs nothing.
        if name not in by_name:
            measures, values = measure_family(name, names, answers, references, options)
            by_name |= {measure["name"]: measure for measure in measures}
            rows |= values
    measures = [by_name[name] for name in dict.fromkeys(names)]
    for path in options.extra:
        from ftlab.evaluation.metrics.own import measure_own

        own, per_row = measure_own(path, answers, references, clusters=options.clusters)
        measures.append(own)
        rows |= {own["name"]: per_row} if per_row is not None else {}
    return measures, rows


def corpus_perplexity(nll: Sequence[float], tokens: Sequence[int]) -> float:
    """exp(sum of NLL / number of tokens): each token counts the same, regardless of the length of its row.

    Raises FtlabError if the loss is not a number or there are no tokens.
    """
    total, count = math.fsum(nll), sum(tokens)
    if not count:
        raise FtlabError("There are no tokens to score", why="every answer in the split is empty")
    if not math.isfinite(total):
        raise FtlabError(
            "The loss of the model is not a number",
            why="training has diverged, or the number format of the model overflows",
            try_="train again with a lower learning rate, or with model.dtype=float32",
        )
    # Beyond exp(700) a float overflows. Such a model knows nothing, and the exact figure does not matter.
    return math.exp(min(total / count, 700.0))


def measure_losses(
    nll: Mapping[str, Sequence[float]],
    tokens: Mapping[str, Sequence[int]],
    texts_bytes: Sequence[int] | None,
    *,
    name: str = "perplexity",
    group: Literal["task", "general", "style"] = "task",
    clusters: Sequence[int] | None = None,
) -> list[MeasureJson]:
    """Perplexity from summed losses (nats) over tokens, and with `texts_bytes` (UTF-8 bytes per row) bits per byte.

    The second is named like the first with a different ending: general_perplexity goes with general_bits_per_byte. A
    `name` that ends in bits_per_byte yields only that one. Raises FtlabError if a loss is not a number.
    """
    import numpy as np

    for side in nll:
        corpus_perplexity(nll[side], tokens[side])
    measures = []
    if not name.endswith("bits_per_byte"):
        counts = {side: np.column_stack([nll[side], tokens[side]]).astype(np.float64) for side in nll}
        measures.append(_losses(name, group, counts, lambda sums: np.exp(np.minimum(_ratio(sums), 700.0)), clusters))
    if texts_bytes is not None:
        bits = name.removesuffix("bits_per_byte").removesuffix("perplexity") + "bits_per_byte"
        counts = {side: np.column_stack([nll[side], texts_bytes]).astype(np.float64) for side in nll}
        measures.append(_losses(bits, group, counts, lambda sums: _ratio(sums) / np.log(2), clusters))
    return measures


def measure_likelihoods(
    losses: Mapping[str, Sequence[Sequence[float]]],
    labels: Sequence[str],
    references: Sequence[str],
    *,
    sizes: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
) -> Measured:
    """Classification by likelihood: the answer is the label to which the model gives the highest probability.

    `losses` holds for each side one list per row with the summed loss (nats) of each of `labels`. With `sizes` (UTF-8
    bytes of each label), losses are divided by bytes, like acc_norm of lm-evaluation-harness. The measures are
    likelihood_accuracy and likelihood_macro_f1. Raises InputError if a reference is not one of the labels.
    """
    import numpy as np

    check_labels(labels, references)
    divisor = np.asarray(sizes if sizes is not None else [1] * len(labels), dtype=np.float64)
    likeliest = {side: (np.asarray(table) / divisor).argmin(axis=1).tolist() for side, table in losses.items()}
    rule = LIKELIHOOD_RULE + (", by byte of the label" if sizes is not None else "")
    infos = [
        replace(BUILT_IN[name], name=f"likelihood_{name}", title=f"{BUILT_IN[name].title} by likelihood", rule=rule)
        for name in ("accuracy", "macro_f1")
    ]
    return measure_labels(infos, label_numbers(references, labels), likeliest, labels, clusters=clusters)


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
) -> MeasureJson:
    first, *later = counts
    p = {}
    for side in later:
        # Over the same tokens or bytes, the summed loss is sufficient; otherwise losses and tokens are exchanged
        # together.
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
