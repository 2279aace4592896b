"""A measure: its names, the figures of each side, their intervals, and the test between sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ftlab.core.comparison import DifferenceJson, MeasureInfoJson, MeasureJson
from ftlab.data.final_number import FINAL_NUMBER_RULE
from ftlab.evaluation import significance
from ftlab.evaluation.metrics.form import LABEL_NAMED_RULE, REFERENCE_NAMED_RULE
from ftlab.evaluation.metrics.text import (
    CODE_RULE,
    EXACT_MATCH_RULE,
    FIELDS_RULE,
    JSON_RULE,
    LABEL_RULE,
    NUMBER_RULE,
    PROBE_RULE,
    TOKEN_F1_RULE,
)
from ftlab.evaluation.metrics.tools import ARGUMENTS_RULE, DECISION_RULE, NAME_RULE, SPARED_RULE, VALID_RULE

if TYPE_CHECKING:
    import numpy as np

    from ftlab.evaluation.significance import Clusters, Combine


@dataclass(frozen=True)
class Measure:
    """One measure. `group`: task (decides what is better), cost (of an answer), general (what was forgotten) or style
    (length, repetition); `kind`: share (0 to 1, shown in %), score or loss; `better`: the better direction, None if
    there is none."""

    name: str
    title: str
    help: str
    rule: str = ""
    unit: str = "%"
    better: Literal["higher", "lower"] | None = "higher"
    group: Literal["task", "cost", "general", "style"] = "task"
    kind: Literal["share", "score", "loss"] = "share"
    share_of: str = "% of rows"  # what a share is one of, where it is shown as a unit; not stored

    def as_json(self) -> MeasureInfoJson:
        return {
            "name": self.name,
            "title": self.title,
            "help": self.help,
            "rule": self.rule,
            "unit": self.unit,
            "better": self.better,
            "group": self.group,
            "kind": self.kind,
        }

    @classmethod
    def of(cls, measure: MeasureInfoJson) -> Measure:
        """The measure with the figures in `measure`."""
        return cls(
            measure["name"],
            measure["title"],
            measure["help"],
            measure["rule"],
            measure["unit"],
            measure["better"],
            measure["group"],
            measure["kind"],
        )


BUILT_IN = {
    measure.name: measure
    for measure in (
        Measure("exact_match", "Exact match", "Share of answers equal to the reference.", EXACT_MATCH_RULE),
        Measure(
            "normalised_match",
            "Exact match, normalised",
            "Share of answers equal to the reference, small differences ignored.",
            PROBE_RULE,
        ),
        Measure(
            "final_number",
            "Final number right",
            "Share of answers that end with the number of the reference, however they get there.",
            FINAL_NUMBER_RULE,
        ),
        Measure("accuracy", "Accuracy", "Share of answers that are the right label.", LABEL_RULE),
        Measure(
            "macro_f1",
            "Macro F1",
            "Mean F1 of the labels; a rare label counts as much as a frequent one.",
            f"mean over the labels of the references; {LABEL_RULE}",
            share_of="%, mean of labels",
        ),
        Measure(
            "label_named",
            "Right label named",
            "Share of answers that contain the right label, whatever surrounds it.",
            LABEL_NAMED_RULE,
        ),
        Measure(
            "reference_named",
            "Reference named",
            "Share of answers that contain the reference, whatever surrounds it.",
            REFERENCE_NAMED_RULE,
        ),
        Measure("json_valid", "Valid JSON", "Share of answers that parse as JSON.", JSON_RULE),
        Measure(
            "json_fields",
            "Fields right",
            "Share of the fields of each answer that are right.",
            FIELDS_RULE,
            share_of="% of fields",
        ),
        Measure("pattern", "Pattern found", "Share of answers that match the regular expression."),
        Measure("number_given", "Number given", "Share of answers that contain a number.", NUMBER_RULE),
        Measure(
            "mean_absolute_error",
            "Mean absolute error (capped)",
            "How far the numbers of the answers are from those of the references.",
            f"{NUMBER_RULE}; an answer without a number, and one that is farther off than the references are from each "
            "other, counts as that far off",
            unit="",
            better="lower",
            kind="score",
        ),
        Measure("code_parses", "Code parses", "Share of answers that are Python without syntax errors.", CODE_RULE),
        Measure(
            "tool_decision",
            "Right call, or none",
            "Share of answers that call the right tool with the right arguments, or nothing where no call is due.",
            DECISION_RULE,
        ),
        Measure(
            "tool_name",
            "Right tool",
            "Share of answers that call the right tool where a call is due.",
            NAME_RULE,
            share_of="% of calls due",
        ),
        Measure(
            "tool_arguments",
            "Arguments right",
            "Share of the arguments that are right by value.",
            ARGUMENTS_RULE,
            share_of="% of arguments",
        ),
        Measure(
            "tool_valid",
            "Valid by schema",
            "Share of answers with a call of a listed tool, valid under its schema, where a call is due.",
            VALID_RULE,
            share_of="% of calls due",
        ),
        Measure(
            "tool_spared",
            "No call when none is due",
            "Share of answers without a call where none is due.",
            SPARED_RULE,
            share_of="% of rows without one",
        ),
        Measure(
            "token_f1",
            "Token F1",
            "Overlap of single words with the reference.",
            TOKEN_F1_RULE,
            share_of="%, mean of rows",
        ),
        Measure("bleu", "BLEU", "Overlap of word sequences with the reference.", unit="points", kind="score"),
        Measure("chrf", "chrF", "Overlap of character sequences with the reference.", unit="points", kind="score"),
        Measure(
            "rouge1",
            "ROUGE-1",
            "Overlap of single words with the reference, as summaries are scored.",
            share_of="%, mean of rows",
        ),
        Measure(
            "rouge2",
            "ROUGE-2",
            "Overlap of word pairs with the reference, as summaries are scored.",
            share_of="%, mean of rows",
        ),
        Measure(
            "rouge_l", "ROUGE-L", "Longest sequence of words in common with the reference.", share_of="%, mean of rows"
        ),
        Measure(
            "general_accuracy",
            "General questions (kinds not replayed)",
            "Share of general questions answered right, of kinds that were not in training. A fall means forgetting.",
            PROBE_RULE,
            group="general",
            share_of="% of questions",
        ),
        Measure(
            "general_accuracy_replayed",
            "General questions (replayed kinds)",
            "Share of general questions answered right, of kinds that were mixed into training: what training on "
            "them preserved, not what the model kept by itself.",
            PROBE_RULE,
            group="general",
            share_of="% of questions",
        ),
        Measure(
            "seconds_per_answer",
            "Seconds per answer",
            "How long an answer takes, without loading the model.",
            "on this machine: seconds of a batch by its rows; behind an address: the mean from request to reply",
            unit="seconds",
            better="lower",
            group="cost",
            kind="score",
        ),
        Measure(
            "prompt_tokens",
            "Tokens read per answer",
            "The prompt with all that stands before the question, in tokens of the side.",
            "mean over rows; behind an address as its server counts them",
            unit="tokens",
            better="lower",
            group="cost",
            kind="score",
        ),
        Measure(
            "cost_per_thousand",
            "Cost of 1,000 answers",
            "In the currency of the prices that were given.",
            "on this machine: seconds by the price per hour; behind an address: counted tokens by prices per million",
            unit="currency",
            better="lower",
            group="cost",
            kind="score",
        ),
        Measure(
            "answer_words",
            "Words per answer",
            "How long the answers are.",
            "words by white space",
            unit="words",
            better=None,
            group="style",
            kind="score",
        ),
        Measure(
            "length_ratio",
            "Length to reference",
            "Words in all answers divided by words in all references; 1 means the same length.",
            "words by white space",
            unit="",
            better=None,
            group="style",
            kind="score",
        ),
        Measure(
            "repetition",
            "Repetition",
            "How much the answers repeat themselves.",
            "mean share of word triples that occurred before in the same answer",
            better="lower",
            group="style",
            share_of="% of word triples",
        ),
    )
}


def loss_measure(name: str, group: Literal["task", "general", "style"]) -> Measure:
    """The description of a measure of losses, from the end of its name: perplexity or bits_per_byte."""
    general = "General " if name.startswith("general_") else ""
    if name.endswith("bits_per_byte"):
        of = {"general_": " of general documents", "general_chat_": " of general chat answers"}
        return Measure(
            name,
            f"Bits per byte{of.get(name.removesuffix('bits_per_byte'), '')}",
            "Bits the model needs per byte of the text; comparable across tokenizers.",
            "summed loss in bits by the UTF-8 bytes of the text",
            unit="",
            better="lower",
            group=group,
            kind="loss",
        )
    return Measure(
        name,
        f"{general}Perplexity".capitalize(),
        f"How surprised the model is by {'general text' if general else 'what it should have said'}; 1 is certain.",
        "exp(summed loss / tokens) over all rows, of the tokens that training learns from",
        unit="",
        better="lower",
        group=group,
        kind="loss",
    )


def of_rows(
    info: Measure,
    rows: Mapping[str, Sequence[float | None]],
    *,
    detail: dict[str, Any] | None = None,
    total: Mapping[str, float | None] | None = None,
    clusters: Clusters = None,
) -> MeasureJson:
    """The measure that is the mean of a value per row, ignoring rows without a value (None).

    Right-or-wrong rows (only 0 and 1) get Wilson intervals and the exact McNemar test, others bootstrap intervals and
    the tests of `mean_p`. A difference covers the rows in which both sides have a value; its `rows` is their number,
    unless these are all. If only one side has a value, the other one must not gain by that: see `missing_counts`.
    `total` holds the values if they are known more precisely than by the mean.
    """
    first, *later = rows
    known = {side: [value for value in values if value is not None] for side, values in rows.items()}
    whole = all(value in (0, 1) for values in known.values() for value in values)
    binary = whole and info.kind == "share" and info.group != "style"
    differences: dict[str, DifferenceJson] = {}
    for side in later:
        both = list(zip(rows[first], rows[side], strict=True))
        places = [place for place, pair in enumerate(both) if None not in pair]
        if places:
            old, new = zip(*(both[place] for place in places), strict=True)
            differences[side] = significance.row_difference(
                old, new, binary=binary, clusters=_at(clusters, places), span=_span(info, old, new)
            )
            if len(places) < len(both):
                differences[side]["rows"] = len(places)
            if info.better and any((a is None) != (b is None) for a, b in both):
                missing_counts(differences[side], rows[first], rows[side], info.better, clusters)
    means = {side: math.fsum(values) / len(values) if values else None for side, values in known.items()}
    intervals: dict[str, list[float] | None] = {}
    for side, values in rows.items():
        places = [place for place, value in enumerate(values) if value is not None]
        interval = significance.share_interval if binary else significance.mean_interval
        intervals[side] = interval(known[side], _at(clusters, places))
        if info.kind == "share" and not binary and all(0 <= value <= 1 for value in known[side]):
            # A bootstrap cannot leave the values it draws from: near 0% and 100% it would shrink to a point.
            ends = [intervals[side], significance.share_interval(known[side], _at(clusters, places))]
            some = [pair for pair in ends if pair]
            intervals[side] = [min(low for low, _ in some), max(high for _, high in some)] if some else None
    return {
        **info.as_json(),
        "values": dict(total) if total else means,
        "intervals": intervals,
        "rows": sum(any(value is not None for value in row) for row in zip(*rows.values(), strict=True)),
        "differences": differences,
        "detail": detail,
    }


def of_errors(
    info: Measure, rows: Mapping[str, Sequence[float | None]], cap: float, *, clusters: Clusters = None
) -> tuple[MeasureJson, dict[str, list[float | None]]]:
    """The mean of errors, and the errors it is made of, such that refusing does not help and no single row decides.

    A missing answer (None) and an error above `cap` count as `cap`. The p is from a paired permutation of these.
    """
    capped = {side: [cap if value is None else min(value, cap) for value in values] for side, values in rows.items()}
    measure = of_rows(info, capped, clusters=clusters)
    first, *later = rows
    for side in later:
        # No error exceeds the cap, so no row outweighs others, and no missing one is below it.
        change = [new - old for old, new in zip(capped[first], capped[side], strict=True)]
        p = significance.exchange_p(change, clusters, span=cap)
        test = f"paired permutation of capped errors, and {significance.ONE_MORE}"
        measure["differences"][side]["p"] = p
        measure["differences"][side]["test"] = test
    measure["detail"] = {
        "cap": cap,
        "missing": {side: sum(value is None for value in values) for side, values in rows.items()},
        "capped": {side: sum(value is not None and value > cap for value in values) for side, values in rows.items()},
    }
    return measure, {side: list(values) for side, values in capped.items()}


def missing_counts(
    difference: DifferenceJson,
    base: Sequence[float | None],
    adapted: Sequence[float | None],
    better: str,
    clusters: Clusters = None,
) -> None:
    """Let a missing value count against its side in the p of `difference`, and prevent outliers from deciding it.

    All values of both sides are ranked together, missing ones last, and ranks are exchanged between the sides row by
    row. A difference counts only if means and ranks agree on its direction.
    """
    from scipy.stats import rankdata

    worst = math.inf if better == "lower" else -math.inf
    every = [worst if value is None else value for value in (*base, *adapted)]
    ranks = rankdata(every)
    change = ranks[len(base) :] - ranks[: len(base)]
    p = significance.exchange_p(change, clusters)
    agree = (difference["value"] > 0) == (change.sum() > 0) and change.sum() != 0
    difference["p"] = max(difference["p"] or 0.0, p) if agree else 1.0
    difference["test"] = f"{difference['test']}; and of ranks, a missing answer last"


def _span(info: Measure, old: Sequence[float], new: Sequence[float]) -> float | None:
    """The most that one row of this measure can change, if its kind determines that."""
    if info.kind == "loss":
        return significance.loss_span(old)
    return 1.0 if info.kind == "share" and all(0 <= value <= 1 for value in (*old, *new)) else None


def _at(clusters: Clusters, places: Sequence[int]) -> Clusters:
    return None if clusters is None else [clusters[place] for place in places]


def of_counts(
    info: Measure,
    counts: Mapping[str, np.ndarray],
    combine: Combine,
    *,
    p: Mapping[str, float],
    test: str,
    detail: dict[str, Any] | None = None,
    clusters: Clusters = None,
) -> MeasureJson:
    """The measure that `combine` computes from counts (rows, k) summed over rows, with bootstrap intervals.

    `p` holds the p of each later side by `test`.
    """
    values = {side: float(combine(table.sum(axis=0)[None])[0]) for side, table in counts.items()}
    intervals, changes = significance.bootstrap(counts, combine, clusters)
    rows = len(next(iter(counts.values())))
    return of_values(info, values, rows, intervals=intervals, changes=changes, p=p, test=test, detail=detail)


def of_values(
    info: Measure,
    values: Mapping[str, float | None],
    rows: int,
    *,
    intervals: Mapping[str, list[float] | None] | None = None,
    changes: Mapping[str, list[float] | None] | None = None,
    p: Mapping[str, float] | None = None,
    test: str = "",
    detail: dict[str, Any] | None = None,
) -> MeasureJson:
    """The measure with known values. Without `p` there is no test, and so no difference."""
    first, *later = values
    differences: dict[str, DifferenceJson] = {}
    for side in later:
        before, after = values[first], values[side]
        if p and before is not None and after is not None:
            interval = (changes or {}).get(side)
            differences[side] = {"value": after - before, "interval": interval, "p": p[side], "test": test}
    return {
        **info.as_json(),
        "values": dict(values),
        "intervals": dict(intervals or dict.fromkeys(values)),
        "rows": rows,
        "differences": differences,
        "detail": detail,
    }
