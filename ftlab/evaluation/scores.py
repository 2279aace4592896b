"""The scores of each row and of each sampled answer, from which the measures are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ftlab.core.comparison import MeasureJson, MemorisationJson, ScoresJson
from ftlab.evaluation.documents import compare_documents, perplexity_of
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.measures import Measured, MeasureOptions, Rows, measure_answers
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, of_rows
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED, Followed, Probe, Written, by_replay, is_right

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
) -> Measured:
    """As `measure_answers`, where each side has k lists of answers to `references`, the same k on all sides.

    With k above 1 the value of a row is the mean over its answers (of those with a value), and behind the measure that
    tells right from wrong stands pass^k.
    """
    options = options or MeasureOptions()
    k = len(next(iter(answers.values())))
    if k == 1:
        return measure_answers(
            names, {side: samples for side, [samples] in answers.items()}, references, options=options
        )
    flat = {side: [text for sample in samples for text in sample] for side, samples in answers.items()}
    # Of all answers in one list, those to a row are a cluster (of the cluster that the row itself is in).
    tied = options.clusters or tuple(range(len(references)))
    measures, every = measure_answers(names, flat, [*references] * k, options=replace(options, clusters=tied * k))
    rows: Rows = {name: {side: _means(values, k) for side, values in one.items()} for name, one in every.items()}
    measures_by_row = [_by_row(measure, rows, len(references), k, options.clusters) for measure in measures]
    right = next((name for name in _RIGHT if name in rows), None)
    if right and references:
        place = [measure["name"] for measure in measures_by_row].index(right)
        rows[PASS] = {side: [_all(value) for value in values] for side, values in rows[right].items()}
        measures_by_row.insert(place + 1, _pass(measures_by_row[place], rows[PASS], k, options.clusters))
    return measures_by_row, rows


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
    means: list[float | None] = []
    for row in range(count):
        known = [value for value in values[row::count] if value is not None]
        means.append(math.fsum(known) / len(known) if known else None)
    return means


def _by_row(measure: MeasureJson, rows: Rows, count: int, k: int, clusters: Clusters) -> MeasureJson:
    """`measure` of all answers in one list, by rows. One of a whole corpus keeps its tests, which draw clusters."""
    detail = measure["detail"]
    if detail and "labels" in detail:
        detail = detail | {"samples": k}  # its table counts answers
    if measure["name"] not in rows or measure["name"] in OF_CORPUS:
        return {**measure, "rows": count, "detail": detail}
    total = None if measure["name"] in BUILT_IN else measure["values"]
    return of_rows(Measure.of(measure), rows[measure["name"]], detail=detail, total=total, clusters=clusters)


def _all(share: float | None) -> float | None:
    return None if share is None else float(share == 1)


def _pass(measure: MeasureJson, rows: Mapping[str, Sequence[float | None]], k: int, clusters: Clusters) -> MeasureJson:
    info = Measure(
        PASS,
        f"pass^{k}",
        f"Share of rows in which all {k} answers are right.",
        _PASS_RULE.format(k=k, measure=measure["title"]),
        group=measure["group"],
    )
    return of_rows(info, rows, detail={"of": measure["name"], "samples": k}, clusters=clusters)


@dataclass(frozen=True)
class Result:
    """What one side said: per row a loss and an answer (none for documents), per general question an answer, per
    general text a loss, by the form of the text, and per row the loss of each label (only where asked for).
    `more_answers`: where each row has several answers, the second ones, the third ones and so on. `choices`: of each
    question with choices whether it found the right one likeliest. `written`: what a base wrote to the prompts of OWN
    (asking.py), by its names, and how another side `followed` that. `memorisation`: how it treats its training rows."""

    losses: Losses
    answers: list[Answer]
    probe_answers: list[Answer]
    halved_to: int | None = None
    general: dict[str, Losses] = field(default_factory=dict)
    labels: list[list[float]] | None = None
    more_answers: Sequence[list[Answer]] = ()
    choices: Sequence[bool] = ()
    written: Mapping[str, list[Written]] = field(default_factory=dict)
    followed: Mapping[str, list[Followed]] = field(default_factory=dict)
    memorisation: MemorisationJson | None = None

    @property
    def samples(self) -> list[list[Answer]]:
        """All answers: the first of each row, then the second of each, ..."""
        return [self.answers, *self.more_answers]


@dataclass(frozen=True)
class Compared:
    """The `scores` of each side, the p of `tests` between base and adapted model by measure, the rows of
    predictions.jsonl and of probes.jsonl."""

    scores: dict[str, ScoresJson]
    tests: dict[str, float]
    predictions: list[dict[str, Any]]
    probes: list[dict[str, Any]]


def compare_results(
    rows: Sequence[dict[str, Any]],
    references: Sequence[str],
    sizes: Sequence[int] | None,
    probes: Sequence[Probe],
    sides: Mapping[str, Result],
    measures: Sequence[MeasureJson] = (),
    clusters: Sequence[int] | None = None,
) -> Compared:
    """Scores and tests; the rows of predictions.jsonl; the rows of probes.jsonl. What `measures`
    hold is not measured again.

    `sizes` are the bytes of documents, None where the rows are questions with `references`. `base` and `adapted` are
    among the sides. `clusters`: what each row belongs to.
    """
    from ftlab.evaluation.significance import mcnemar

    if sizes is not None:
        scores, tests, predictions = compare_documents(rows, sizes, sides, measures, clusters)
    else:
        scores, tests, predictions = _compare_answers(rows, references, sides, measures, clusters)
    known = {
        side: [is_right(a.text, p) for a, p in zip(result.probe_answers, probes, strict=True)]
        for side, result in sides.items()
    }
    for side in sides:
        _add_general(scores[side], known[side], probes)
    for name, places in by_replay([one.replayed for one in probes]).items():
        before, after = ([known[side][i] for i in places] for side in ("base", "adapted"))
        tests[name] = mcnemar(before, after)
    asked = []
    for i, probe in enumerate(probes):
        line = {"row": probe.row, "prompt": _last_question(probe.messages), "messages": probe.messages}
        line |= {"reference": probe.reference, "kind": probe.kind, "replayed": probe.replayed}
        line |= {"held": True, "also": list(probe.also)} if probe.held else {}
        for side, result in sides.items():
            line[side] = result.probe_answers[i].text
            line[f"{side}_correct"] = known[side][i]
        asked.append(line)
    return Compared(scores, tests, predictions, asked)


def _compare_answers(
    rows: Sequence[dict[str, Any]],
    references: Sequence[str],
    sides: Mapping[str, Result],
    measures: Sequence[MeasureJson],
    clusters: Sequence[int] | None,
) -> tuple[dict[str, ScoresJson], dict[str, float], list[dict[str, Any]]]:
    from ftlab.evaluation.metrics import is_exact
    from ftlab.evaluation.significance import loss_difference, mcnemar

    base, adapted = sides["base"], sides["adapted"]
    correct = {
        side: [is_exact(a.text, r) for a, r in zip(result.answers, references, strict=True)]
        for side, result in sides.items()
    }
    answers = {
        side: [[answer.text for answer in sample] for sample in result.samples] for side, result in sides.items()
    }

    def measure(name: str) -> MeasureJson:
        known = next((one for one in measures if one["name"] == name), None)
        options = MeasureOptions(clusters=tuple(clusters) if clusters else None)
        return known or measure_samples([name], answers, references, options=options)[0][0]

    bleu = measure("bleu")
    scores = {
        side: _answer_scores(result, perplexity_of(side, result.losses, measures, clusters), correct[side], clusters)
        for side, result in sides.items()
    }
    for side in sides:
        scores[side]["bleu"], scores[side]["bleu_interval"] = bleu["values"][side], bleu["intervals"][side]
        scores[side]["bleu_signature"] = bleu["rule"].removeprefix("sacrebleu, ")
    tests = {
        "exact_match": mcnemar(correct["base"], correct["adapted"], clusters),
        "perplexity": loss_difference(base.losses.nll, adapted.losses.nll, clusters),
        "bleu": _p(bleu),
    }
    if base.more_answers:
        exact = measure("exact_match")
        tests["exact_match"] = _p(exact)
        for side in sides:
            scores[side]["exact_match"] = exact["values"][side]
            scores[side]["exact_match_interval"] = exact["intervals"][side]
    predictions = []
    for i, row in enumerate(rows):
        prediction = {
            "row": row.get("row", i),
            "prompt": _last_question(row["messages"]),
            "messages": row["messages"][:-1],
        }
        prediction["reference"] = references[i]
        for side, result in sides.items():
            prediction[side] = result.answers[i].text
            prediction[f"{side}_tokens"], prediction[f"{side}_cut"] = result.answers[i].tokens, result.answers[i].cut
            prediction[f"{side}_correct"] = correct[side][i]
            prediction[f"{side}_loss"] = result.losses.per_token[i]
            if result.more_answers:
                more = [one[i] for one in result.more_answers]
                prediction[f"{side}_more"] = [{"answer": a.text, "tokens": a.tokens, "cut": a.cut} for a in more]
        predictions.append(prediction)
    return scores, tests, predictions


def _p(measure: MeasureJson) -> float:
    p = measure["differences"]["adapted"]["p"]
    assert p is not None  # BLEU and exact match are tested
    return p


def _answer_scores(
    result: Result,
    perplexity: tuple[float, list[float] | None],
    correct: list[bool],
    clusters: Sequence[int] | None,
) -> ScoresJson:
    from ftlab.evaluation.significance import share_interval

    return {
        "perplexity": perplexity[0],
        "perplexity_interval": perplexity[1],
        "exact_match": sum(correct) / len(correct),
        "exact_match_interval": share_interval(correct, clusters),
        "rows": len(correct),
        "tokens": sum(result.losses.tokens),
        "truncated_answers": sum(answer.cut for answer in result.answers),
        "mean_answer_tokens": sum(a.tokens for sample in result.samples for a in sample)
        / (len(result.samples) * len(result.answers)),
    }


def _add_general(scores: ScoresJson, known: Sequence[bool], probes: Sequence[Probe]) -> None:
    """Put into `scores` the shares of general questions answered right, of kinds that were not replayed and of those
    that were; None where none was asked."""
    from ftlab.evaluation.significance import wilson_interval

    places = by_replay([probe.replayed for probe in probes])
    others, replayed = ([known[i] for i in places.get(name, [])] for name in (NOT_REPLAYED, REPLAYED))
    scores["general_accuracy"] = sum(others) / len(others) if others else None
    scores["general_interval"] = wilson_interval(sum(others), len(others))
    scores["general_rows"] = len(others)
    scores["general_accuracy_replayed"] = sum(replayed) / len(replayed) if replayed else None
    scores["general_interval_replayed"] = wilson_interval(sum(replayed), len(replayed))
    scores["general_rows_replayed"] = len(replayed)


def _last_question(messages: list[dict[str, str]]) -> str:
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
