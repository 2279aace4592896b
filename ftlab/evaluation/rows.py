"""The scores of each row and of each sampled answer, rows that changed sides, and measures by group of rows."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftlab.core.comparison import (
    ChangedJson,
    ComparisonJson,
    MeasureInfoJson,
    MeasureJson,
    MemorisationJson,
    ScoresJson,
    scores_of,
)
from ftlab.data.shapes import Example, without_weights
from ftlab.data.tool_calls import TOOL, spoken
from ftlab.evaluation.figures import in_sentence
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.losses import Losses, compare_documents, perplexity_of
from ftlab.evaluation.metrics.measures import Measured, MeasureOptions, Rows, measure_answers
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, of_rows
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED, Followed, Probe, Written, by_replay, is_right
from ftlab.evaluation.significance import (
    difference_p,
    holm,
    mcnemar,
    mean_difference,
    mean_interval,
    share_difference,
    share_interval,
)

if TYPE_CHECKING:
    from ftlab.evaluation.significance import Clusters

PASS = "pass_k"
# Measures that say whether one answer is right; the first one measured is used.
_RIGHT = ("tool_decision", "accuracy", "final_number", "exact_match", "normalised_match", "pattern")
# Their row values are not parts of the corpus value.
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
    """Like `measure_answers`, with k lists of answers to `references` per side, the same k on all sides.

    With k above 1, the value of a row is the mean over its answers (those with a value), and pass^k follows the measure
    that tells right from wrong.
    """
    options = options or MeasureOptions()
    k = len(next(iter(answers.values())))
    if k == 1:
        return measure_answers(
            names, {side: samples for side, [samples] in answers.items()}, references, options=options
        )
    flat = {side: [text for sample in samples for text in sample] for side, samples in answers.items()}
    # With all answers in one list, those to a row form a cluster (or join the cluster of the row itself).
    tied = options.clusters or tuple(range(len(references)))
    measures, every = measure_answers(
        names,
        flat,
        [*references] * k,
        options=replace(options, clusters=tied * k, tools=options.tools and options.tools * k),
    )
    rows: Rows = {
        name: {side: _means(values, k) for side, values in of_measure.items()} for name, of_measure in every.items()
    }
    measures_by_row = [_by_row(measure, rows, len(references), k, options.clusters) for measure in measures]
    right = next((name for name in _RIGHT if name in rows), None)
    if right and references:
        place = [measure["name"] for measure in measures_by_row].index(right)
        rows[PASS] = {side: [_all(value) for value in values] for side, values in rows[right].items()}
        measures_by_row.insert(place + 1, _pass(measures_by_row[place], rows[PASS], k, options.clusters))
    return measures_by_row, rows


def right_of(rows: Rows, number: int, k: int) -> dict[str, int] | None:
    """The number of right answers, of k, of each side to row `number`, by the measure used for pass^k."""
    name = next((name for name in _RIGHT if name in rows), None)
    if name is None or k == 1:
        return None
    shares = {side: values[number] for side, values in rows[name].items()}
    return {side: round(share * k) for side, share in shares.items() if share is not None}


def samples_note(rows: int, k: int, temperature: float) -> str | None:
    """A note on how answers were sampled; None for greedy decoding."""
    if not temperature:
        return None
    drawn = f"Answers were drawn at temperature {temperature:g}, with the same random numbers for the same prompt"
    if k == 1:
        return f"{drawn}, one for each row: evaluate with more (evaluation.samples) to see how they vary."
    return (
        f"{drawn}: {k} for each of the {rows} rows. The value of a row is the mean over its {k} answers; intervals and "
        "tests resample rows. The answers shown, and those counted as cut, are the first of each row. General "
        "questions are answered once, greedily."
    )


def _means(values: Sequence[float | None], k: int) -> list[float | None]:
    """Per row, the mean of its values. `values` are those of all first answers, then of all second ones."""
    count = len(values) // k
    means: list[float | None] = []
    for row in range(count):
        known = [value for value in values[row::count] if value is not None]
        means.append(math.fsum(known) / len(known) if known else None)
    return means


def _by_row(measure: MeasureJson, rows: Rows, count: int, k: int, clusters: Clusters) -> MeasureJson:
    """`measure` of all answers in one list, by row. One of a whole corpus keeps its tests, which draw clusters."""
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
    """The replies of one side: per row a loss and an answer (none for documents), per general question an answer,
    per general text a loss, by the form of the text, and per row the loss of each label (only if requested).
    `more_answers`: if each row has several answers, the second ones, the third ones and so on. `choices`: for each
    multiple-choice question, whether the right option was the most likely. `written`: a base's answers to the
    prompts of OWN (asking.py), by name, and how another side `followed` them. `memorisation`: how it treats its
    training rows."""

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
    rows: Sequence[Example],
    references: Sequence[str],
    sizes: Sequence[int] | None,
    probes: Sequence[Probe],
    sides: Mapping[str, Result],
    measures: Sequence[MeasureJson] = (),
    clusters: Sequence[int] | None = None,
    outside: Mapping[str, Sequence[Answer]] | None = None,
) -> Compared:
    """Scores and tests; the rows of predictions.jsonl; the rows of probes.jsonl. What `measures` hold is not measured
    again.

    `sizes` are the bytes of documents, None if the rows are questions with `references`. `base` and `adapted` are among
    the sides. `clusters`: the cluster of each row. `outside`: the sides that only have answers.
    """
    from ftlab.evaluation.significance import mcnemar

    if sizes is not None:
        scores, tests, predictions = compare_documents(
            rows, sizes, {side: result.losses for side, result in sides.items()}, measures, clusters
        )
    else:
        scores, tests, predictions = _compare_answers(rows, references, sides, measures, clusters)
        for side, answers in (outside or {}).items():
            scores[side] = _add_outside(side, answers, references, clusters, predictions)
    known = {
        side: [is_right(a.text, p) for a, p in zip(result.probe_answers, probes, strict=True)]
        for side, result in sides.items()
    }
    for side in sides:
        _add_general(scores[side], known[side], probes)
    for name, places in by_replay([probe.replayed for probe in probes]).items():
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
    rows: Sequence[Example],
    references: Sequence[str],
    sides: Mapping[str, Result],
    measures: Sequence[MeasureJson],
    clusters: Sequence[int] | None,
) -> tuple[dict[str, ScoresJson], dict[str, float], list[dict[str, Any]]]:
    from ftlab.evaluation.metrics import is_exact
    from ftlab.evaluation.significance import loss_difference, mcnemar

    base, adapted = sides["base"], sides["adapted"]
    correct = {
        side: [is_exact(spoken(a.text), r) for a, r in zip(result.answers, references, strict=True)]
        for side, result in sides.items()
    }
    answers = {
        side: [[spoken(answer.text) for answer in sample] for sample in result.samples]
        for side, result in sides.items()
    }

    def measure(name: str) -> MeasureJson:
        known = next((measure for measure in measures if measure["name"] == name), None)
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
        "bleu": _p_of(bleu),
    }
    if base.more_answers:
        exact = measure("exact_match")
        tests["exact_match"] = _p_of(exact)
        for side in sides:
            scores[side]["exact_match"] = exact["values"][side]
            scores[side]["exact_match_interval"] = exact["intervals"][side]
    predictions = []
    for i, row in enumerate(rows):
        prediction = {
            "row": row.get("row", i),
            "prompt": _last_question(row["messages"]),
            "messages": without_weights(row["messages"][:-1]),
        }
        prediction |= {"turn": row["turn"]} if "turn" in row else {}
        prediction["reference"] = references[i]
        for side, result in sides.items():
            prediction[side] = result.answers[i].text
            prediction[f"{side}_tokens"], prediction[f"{side}_cut"] = result.answers[i].tokens, result.answers[i].cut
            prediction[f"{side}_correct"] = correct[side][i]
            prediction[f"{side}_loss"] = result.losses.per_token[i]
            if result.more_answers:
                more = [sample[i] for sample in result.more_answers]
                prediction[f"{side}_more"] = [answer.as_dict() for answer in more]
        predictions.append(prediction)
    return scores, tests, predictions


def _add_outside(
    side: str,
    answers: Sequence[Answer],
    references: Sequence[str],
    clusters: Sequence[int] | None,
    predictions: list[dict[str, Any]],
) -> ScoresJson:
    """Add the answers of a side from elsewhere to `predictions`. Returns its scores, which include no loss."""
    from ftlab.evaluation.metrics import is_exact

    correct = [is_exact(spoken(a.text), r) for a, r in zip(answers, references, strict=True)]
    for prediction, answer, right in zip(predictions, answers, correct, strict=True):
        prediction[side] = answer.text
        prediction |= {f"{side}_tokens": answer.tokens, f"{side}_cut": answer.cut, f"{side}_correct": right}
    return {
        "exact_match": sum(correct) / len(correct),
        "exact_match_interval": share_interval(correct, clusters),
        "rows": len(correct),
        "truncated_answers": sum(answer.cut for answer in answers),
        "mean_answer_tokens": sum(answer.tokens for answer in answers) / len(answers),
    }


def _p_of(measure: MeasureJson) -> float:
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
    """Add to `scores` the shares of general questions answered right, of kinds that were not replayed and of those that
    were. None if none was asked."""
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
    """The last question, with the calls and replies after it."""
    last = max((at for at, turn in enumerate(messages) if turn["role"] == "user"), default=None)
    if last is None:
        return ""
    after = messages[last + 1 :]
    replied = after if any(turn["role"] == TOOL for turn in after) else []
    return "\n\n".join([messages[last]["content"], *(f"{turn['role']}: {turn['content']}" for turn in replied)])


Row = Mapping[str, Any]
RowT = TypeVar("RowT", bound=Mapping[str, Any])
FILTERS = ("All", "Improved", "Got worse", "Both wrong")
ORDERS = {
    "data": "As in the data",
    "lost": "What got worse first",
    "gained": "What improved first",
    "loss": "Highest loss first",
}
LOSS = "loss"
# In nats per token of one row; perplexity is that of the whole corpus.
LOSS_MEASURE: MeasureInfoJson = {
    "name": LOSS,
    "title": "Loss on the reference",
    "help": "How surprised the model is, in nats per token; the mean over the rows.",
    "rule": "mean over rows of the summed loss by the tokens of the row",
    "unit": "",
    "better": "lower",
    "group": "task",
    "kind": "loss",
}


def row_scores(row: Row, sides: Sequence[str]) -> dict[str, dict[str, float]]:
    """{measure: {side: value}} of one row of predictions.jsonl, including `loss` if known."""
    scores = {name: dict(values) for name, values in (row.get("scores") or {}).items()}
    if "exact_match" not in scores and f"{sides[0]}_correct" in row:
        scores["exact_match"] = {side: float(row[f"{side}_correct"]) for side in sides if f"{side}_correct" in row}
    losses = {side: row[f"{side}_loss"] for side in sides if row.get(f"{side}_loss") is not None}
    return scores | ({LOSS: losses} if losses else {})


def measured(rows: Sequence[Row], sides: Sequence[str]) -> list[str]:
    """The measures for which some row has a value on all `sides`."""
    names: dict[str, None] = {}
    for row in rows:
        for name, values in row_scores(row, sides).items():
            if all(values.get(side) is not None for side in sides):
                names[name] = None
    return list(names)


def gain(row: Row, measure: str, pair: tuple[str, str], *, higher: bool) -> float | None:
    """How much better the second side of `pair` did on this row than the first. None if not measured."""
    values = row_scores(row, pair).get(measure, {})
    before, after = (values.get(side) for side in pair)
    if before is None or after is None:
        return None
    return (after - before) * (1 if higher else -1)


def rows_in_common(runs: Sequence[Sequence[RowT]]) -> tuple[list[dict[str, RowT]], list[str]]:
    """The rows of each of `runs` by question, and the keys that all of them have, in the order of the first."""
    keyed = [
        {
            json.dumps([row.get("messages"), row.get("reference"), row.get("document")], ensure_ascii=False): row
            for row in rows
        }
        for rows in runs
    ]
    return keyed, [key for key in keyed[0] if all(key in of_run for of_run in keyed[1:])]


def changed(rows: Sequence[Row], measures: Sequence[MeasureJson], decided: str | None) -> ChangedJson | None:
    """The number of `rows` in which the adapted model is better and worse than the base: {by, better, worse}. None if
    there are none to compare.

    `by` is the title of the measure `decided`, or the loss if rows have no value of it.
    """
    pair = ("base", "adapted")
    known = measured(rows, pair)
    name = decided if decided in known else LOSS if LOSS in known else None
    if name is None:
        return None
    measure: MeasureInfoJson = next((measure for measure in measures if measure["name"] == name), LOSS_MEASURE)
    gains = [gain(row, name, pair, higher=measure["better"] != "lower") or 0.0 for row in rows]
    title = "loss" if "document" in rows[0] else in_sentence(measure["title"])
    return {"by": title, "better": sum(change > 0 for change in gains), "worse": sum(change < 0 for change in gains)}


def what_to_read(comparison: ComparisonJson) -> str:
    """The rows a person should read next, in a sentence."""
    change, documents = comparison.get("changed"), scores_of(comparison, "adapted").get("exact_match", 0) is None
    what = "document" if documents else "answer"
    then = "then try the model in Chat" + ("." if documents else " on prompts of your own.")
    if change is None:
        return f"Read the {what}s that changed, {then}"
    if not change["worse"]:
        return f"No {what} got worse by {change['by']}. Read some of those that changed, {then}"
    those = f"{what} that" if change["worse"] == 1 else f"{change['worse']:,} {what}s that"
    return f"Read the {those} got worse by {change['by']}, {then}"


def select(
    rows: Sequence[Row], search: str | None, kind: str | None, measure: str, pair: tuple[str, str], *, higher: bool
) -> list[Row]:
    """The rows whose texts contain all words of `search` and that belong to `kind`, one of FILTERS, by `measure`.

    Both wrong: neither side of `pair` scores above 0 on a measure where higher is better.
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
    """`rows` in one of ORDERS. Rows without a value come last; ties stay in the order of the data."""

    def change(row: Row) -> float | None:
        return gain(row, measure, pair, higher=higher)

    def loss(row: Row) -> float | None:
        return row_scores(row, pair).get(LOSS, {}).get(pair[1])

    if order not in ("lost", "gained", "loss"):
        return list(rows)
    key, sign = (loss, -1) if order == "loss" else (change, 1 if order == "lost" else -1)
    keyed = [(key(row), row) for row in rows]
    known = sorted(((value, row) for value, row in keyed if value is not None), key=lambda pair: sign * pair[0])
    return [row for _, row in known] + [row for value, row in keyed if value is None]


_Scored = tuple[dict[str, float], Any]  # values by side, and the row's cluster
MOST_SLICES = 12
_FEW_VALUES = 8  # numeric columns with more distinct values are cut into quartiles
OTHER = "(all others)"


@dataclass(frozen=True)
class Slice:
    """The rows with one value of a column: mean and 95% interval of each side, and of the difference to the first.

    `p` is unadjusted for each later side; for several slices use `findings`.
    """

    value: str
    rows: int
    means: dict[str, float]
    intervals: dict[str, list[float] | None]
    differences: dict[str, float]
    difference_intervals: dict[str, list[float] | None]
    p: dict[str, float]


def findings(parts: Sequence[Slice], side: str) -> list[bool]:
    """For each slice, whether `side` differs significantly there, adjusted over all slices (Holm, 5%)."""
    return [p is not None and p < 0.05 for p in holm([part.p.get(side) for part in parts])]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that divide `rows`: those with at least two distinct values and fewer values than rows."""
    names = dict.fromkeys(name for row in rows for name in row.get("columns") or {})
    columns = []
    for name in names:
        values = [row.get("columns", {}).get(name) for row in rows]
        different = len({str(value) for value in values})
        if different > 1 and (different < len(rows) or all(map(_is_number, values))):
            columns.append(name)
    return columns


def slices(rows: Sequence[Row], column: str, measure: str, sides: Sequence[str]) -> list[Slice]:
    """The `rows` by the value of `column`, each with `measure` on all `sides`, the largest slice first.

    Numeric columns with many values are cut at their quartiles and stay in order. Beyond MOST_SLICES values, the rest
    is one slice. Rows that lack the measure on a side are left out.
    """
    scored = [
        (row.get("columns", {}).get(column), row_scores(row, sides).get(measure, {}), row.get("cluster", f"row {at}"))
        for at, row in enumerate(rows)
    ]
    whole = [row for row in scored if all(row[1].get(side) is not None for side in sides)]
    bins = _bins([value for value, *_ in whole])
    parts: dict[str, list[_Scored]] = {_bin_name(quarter, bins): [] for quarter in bins}
    for value, scores, cluster in whole:
        name = _bin_name(_bin_of(value, bins), bins) if bins else str(value)
        parts.setdefault(name, []).append((scores, cluster))
    parted = list(parts.items()) if bins else _largest(parts)
    return [_slice(value, part, sides) for value, part in parted if part]


def _slice(value: str, scored: list[_Scored], sides: Sequence[str]) -> Slice:
    by_side = {side: [scores[side] for scores, _ in scored] for side in sides}
    clusters = [cluster for _, cluster in scored]
    first, *later = sides
    return Slice(
        value,
        len(scored),
        {side: sum(values) / len(values) for side, values in by_side.items()},
        {side: _interval(values, clusters) for side, values in by_side.items()},
        {side: (sum(by_side[side]) - sum(by_side[first])) / len(scored) for side in later},
        {side: _difference_interval(by_side[first], by_side[side], clusters) for side in later},
        {side: _p(by_side[first], by_side[side], clusters) for side in later},
    )


def _interval(values: Sequence[float], clusters: Sequence[Any]) -> list[float] | None:
    return share_interval(values, clusters) if _right_or_wrong(values) else mean_interval(values, clusters)


def _difference_interval(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Any]
) -> list[float] | None:
    if _right_or_wrong([*before, *after]):
        return share_difference(list(map(bool, before)), list(map(bool, after)), clusters)
    return mean_difference(before, after, clusters)[1] if len(before) > 1 else None


def _p(before: Sequence[float], after: Sequence[float], clusters: Sequence[Any]) -> float:
    if _right_or_wrong([*before, *after]):
        return mcnemar(list(map(bool, before)), list(map(bool, after)), clusters)
    return difference_p(before, after, clusters)


def _right_or_wrong(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _bins(values: Sequence[Any]) -> list[tuple[float, float]]:
    """The quartiles of a numeric column with many values, as (low, high). Empty for other columns."""
    if not all(map(_is_number, values)) or len(set(values)) <= _FEW_VALUES:
        return []
    import numpy as np

    cuts = sorted({float(cut) for cut in np.quantile(values, [0, 0.25, 0.5, 0.75, 1], method="lower")})
    return list(itertools.pairwise(cuts))


def _bin_of(value: float, bins: list[tuple[float, float]]) -> tuple[float, float]:
    return next((pair for pair in bins if value < pair[1]), bins[-1])


def _bin_name(pair: tuple[float, float], bins: list[tuple[float, float]]) -> str:
    return f"{pair[0]:g} to {'' if pair == bins[-1] else 'below '}{pair[1]:g}"


def _largest(parts: dict[str, list[_Scored]]) -> list[tuple[str, list[_Scored]]]:
    by_size = sorted(parts.items(), key=lambda part: -len(part[1]))
    if len(by_size) <= MOST_SLICES:
        return by_size
    rest = [scores for _, part in by_size[MOST_SLICES - 1 :] for scores in part]
    return [*by_size[: MOST_SLICES - 1], (OTHER, rest)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
