"""Better, worse, or cannot tell: one rule for each kind of task, and the verdicts stored in older results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.config import RunConfig
from ftlab.core.comparison import ComparisonJson, ForgettingJson, MeasureJson, ScoresJson, SideJson, VerdictJson
from ftlab.core.words import listed
from ftlab.data.partition import TELLING_ROWS
from ftlab.data.tool_calls import spoken, tools_by_row
from ftlab.evaluation.figures import in_sentence, signed, value_text
from ftlab.evaluation.forgetting import answer_of, direction, is_unmeasured, kept_in_words, what_was_lost, with_adjusted
from ftlab.evaluation.metrics.form import COMPANIONS, judged_by_form
from ftlab.evaluation.metrics.measures import NAMES, MeasureOptions, Rows, measure_answers
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, of_rows
from ftlab.evaluation.rows import LOSS_MEASURE, rows_in_common, what_to_read
from ftlab.evaluation.significance import p_text
from ftlab.models.strength import why_not

# Below this share of right answers on both sides the task is free text, for which equality is uninformative.
_INFORMATIVE_SHARE = 0.05
# If parts of an answer or its distance are also measured, this share must be entirely right for that to decide.
_WHOLE_SHARE = 0.2
_FEW_ROWS = 50
_ALL = 0.95  # of the answers are right: nothing is left to learn from these rows
_NAMES = {"base": "the base", "prompted": "the prompted base", "adapted": "the adapted model"}
# Overlap with the reference; the first one measured represents all. Together with the loss it judges free text.
_OVERLAP = ("bleu", "chrf", "rouge_l", "rouge2", "rouge1", "token_f1")
_LOSSES = ("perplexity", "bits_per_byte")
# What decides: the first that applies, each with its reason.
_REASONS = {
    "tool_decision": "a call is right or wrong",
    "accuracy": "the answers are labels",
    "likelihood_accuracy": "the answers are labels",
    "final_number": "the number at the end of an answer is right or wrong",
    "exact_match": "answers here are right or wrong",
    "mean_absolute_error": "the answers are numbers and few are exactly right",
    "json_fields": "few answers are right in all of their fields",
    "reference_named": "hardly any answer equals its reference, but more hold it",
    "pattern": "hardly any answer equals its reference",
}


def judge(
    measures: Sequence[MeasureJson],
    side: str = "adapted",
    *,
    names: Mapping[str, str] | None = None,
    forgetting: ForgettingJson | None = None,
    by: str | None = None,
) -> VerdictJson:
    """The verdict on `side` against the first side of `measures` (dicts as measures.py makes them).

    Returns text (one sentence), better (True, False, or None if the data cannot tell), p, measure (what decided), why
    (what decided for which reason, and what the others say), forgetting (kept, lost or unknown, the answer of
    `forgetting` as found by forgetting.py; None if nothing general was asked, and for a base that was only prompted),
    forgot (whether that is lost) and then lost (what is shown, as a verb). `names` are the sides as named in the
    sentence; other runs keep their own names. The deciding measure follows a fixed order, so its p needs no adjustment.
    Only one thing depends on the figures: a share that is small on every side (`_single`) makes way for the next
    measure, whichever side is better. The other p form a list (see forgetting.gain_loss). `by` is the measure of an
    earlier verdict, which decides here too if it did so alone and both sides have it.
    """
    measures = with_adjusted(measures)
    against = next(iter(measures[0]["values"]), "base") if measures else "base"
    called = {name: (names or {}).get(name) or _NAMES.get(name, f"the run {name}") for name in (against, side)}
    task = [measure for measure in measures if measure["group"] == "task" and side in measure["differences"]]
    verdict, decided = _decide(task, side, against, called, by)
    verdict = judged_by_form(verdict, task, decided, side, against, improved, called)
    verdict["why"] = _why(task, decided, side, verdict["better"])
    undecided = verdict["better"] is None and "opposed" not in verdict
    verdict["text"] += _opposed(task, decided, side, against) if verdict["better"] else ""
    verdict["text"] += _changed(task, decided, side, against) if undecided else ""
    rows = decided[0]["rows"] if decided and verdict["better"] is None else None
    if rows and rows < TELLING_ROWS:
        few = f"{rows} row{'s' * (rows > 1)}"
        verdict["text"] += f". {few} cannot show a difference: at least {TELLING_ROWS} are needed"
    asked = forgetting if side != "prompted" and against == "base" else None
    verdict["forgetting"] = asked["answer"] if asked else None
    verdict["forgot"] = verdict["forgetting"] == "lost"
    if asked and verdict["forgot"]:
        verdict["lost"] = what_was_lost(asked)
    verdict["text"] += f"; {kept_in_words(asked)}." if asked else "."
    return verdict


def improved(measure: MeasureJson, side: str) -> bool | None:
    """Whether `side` is better than the first side by the unadjusted p of this measure, which was chosen to decide."""
    return direction(measure, side, adjusted=False)


def warnings(
    adapted: ScoresJson,
    longest_answer: str = "",
    forgetting: ForgettingJson | None = None,
    *,
    can_hold: bool = True,
) -> list[str]:
    """Notes on the result itself: what was forgotten, truncated answers, too few rows.

    `longest_answer`: the length at which answers are cut, in words. `can_hold`: whether the base can replay its own
    answers.
    """
    notes = []
    if forgetting and forgetting["answer"] == "lost":
        hold = "hold it to the base's own answers (data.replay: self), " if can_hold else ""
        notes.append(
            f"It {what_was_lost(forgetting)}. A lower strength undoes part of that without a new run. In a new run, "
            f"{hold}mix in general examples of the kinds that matter "
            "to you, lower the learning rate, or train fewer epochs."
        )
    cut = adapted["truncated_answers"]
    if cut > 0.1 * adapted["rows"]:
        notes.append(
            f"{cut} of {adapted['rows']} answers of the adapted model were cut off at the length limit"
            f"{f' ({longest_answer})' if longest_answer else ''}. If good answers may be longer, raise "
            "evaluation.max_new_tokens; otherwise the model has not learned to stop: train longer."
        )
    if adapted["rows"] < _FEW_ROWS:
        rows = "documents" if adapted["exact_match"] is None else "rows"
        notes.append(
            f"Only {adapted['rows']} held-out {rows}: the intervals are wide. Hold out more for a firmer verdict."
        )
    return notes


def next_steps(comparison: ComparisonJson, config: RunConfig) -> list[str]:
    """What to do next, the most urgent first, in sentences."""
    adapted, verdict = comparison["adapted"], comparison["verdict"]
    steps = []
    forgotten = answer_of(comparison)
    if forgotten == "lost":
        if why_not(config) is None:
            steps.append("Try a lower strength: it keeps more of the base and needs no new run.")
        if config.resolved().data.replay is None:
            held = "held to the base's own answers (Replay data: self)"
            mixed = "with general examples mixed in (Replay data), which protect the kinds that they hold"
            steps.append(f"Train again {mixed if config.is_starter else held}.")
        else:
            steps.append(
                "Train again with more replay data, a lower learning rate or fewer epochs. General examples protect "
                "the kinds that they hold."
            )
    elif forgotten == "unknown":
        steps.append(
            "To tell whether it was kept, ask more general questions that the base can answer (evaluation.probes: "
            "known_facts, known_choices or your own), or read more general text."
        )
    elif not config.is_starter and is_unmeasured(comparison):
        steps.append("Measure what it kept: evaluate again with the base's own answers (evaluation.probes: self).")
    if verdict["better"] is True and adapted["exact_match"] is None:
        steps.append(what_to_read(comparison))
        steps.append("Plain text teaches a subject, not how to answer. If it should answer, tune on answers next.")
    elif verdict["better"] is True:
        steps.append(what_to_read(comparison))
        steps.append("Have people who know the subject compare both models before anyone relies on it.")
    elif verdict["better"] is False:
        steps.append("Look at the training curve; then try a lower learning rate, fewer epochs, or cleaner examples.")
    elif adapted["rows"] < 2 * _FEW_ROWS:
        steps.append("Hold out more rows: with so few, only a large difference stands out from chance.")
    elif min(comparison[side]["exact_match"] or 0 for side in ("base", "adapted")) >= _ALL:
        steps.append("The base already answers these rows: evaluate on harder ones, or keep the base.")
    else:
        steps.append("Train for more epochs, with a higher rank, or with more examples of the task.")
    if adapted["truncated_answers"] > 0.1 * adapted["rows"]:
        steps.append(
            "Many answers were cut off. If good answers may be longer, raise the length limit "
            "(evaluation.max_new_tokens); otherwise train longer, so that the model learns to stop."
        )
    if config.is_starter:
        steps.append("The starter is a toy: repeat the run on a real base before drawing conclusions.")
    return steps


def _decide(
    task: Sequence[MeasureJson], side: str, against: str, called: Mapping[str, str], by: str | None
) -> tuple[VerdictJson, list[MeasureJson]]:
    known = {measure["name"]: measure for measure in task}
    than = "" if against == "base" else f" than {called[against]}"
    name = called[side]
    subject = f"The {name[4:]}" if name.startswith("the ") else name  # names of models keep their case
    between = "" if against == "base" else f" between {called[side]} and {called[against]}"
    single = known[by] if by in known and by in _REASONS else _single(known, side, against)
    fit = next((known[name] for name in _LOSSES if name in known), None)
    overlap = next((known[name] for name in _OVERLAP if name in known), None)
    if single is None and overlap is not None and fit is not None:
        return _by_free_text(fit, overlap, side, against, subject, than, between), [fit, overlap]
    single = single or overlap or next((other for other in task if other["name"] not in _LOSSES), None)
    if single is not None:
        evidence = _evidence(single, side, against, rows="rows")
        better = improved(single, side)
        text = f"{subject} is {_word(better)}{than}: {evidence}"
        text = text if better is not None else f"No clear difference{between}: {evidence}{_may_be(single, side)}"
        return _verdict(text, better, single, side), [single]
    if fit is not None:
        beside = [known["bits_per_byte"]] if fit["name"] != "bits_per_byte" and "bits_per_byte" in known else []
        more = "".join(f", {_figures(bits, side, against)}" for bits in beside)
        evidence = f"{_figures(fit, side, against)}{more} ({p_text(_p(fit, side))}, {fit['rows']} documents)"
        better = improved(fit, side)
        text = f"{subject} predicts unseen documents {_word(better)}{than}: {evidence}"
        text = text if better is not None else f"No clear difference{between} on unseen documents: {evidence}"
        return _verdict(text, better, fit, side), [fit, *beside]
    return {"text": "No measure tells which is better", "better": None, "p": None, "measure": None}, []


def _single(known: Mapping[str, MeasureJson], side: str, against: str) -> MeasureJson | None:
    """The measure that decides alone: one that tells right from wrong, or how much of an answer is right."""
    parts = "json_fields" in known or "mean_absolute_error" in known
    least = {"exact_match": _WHOLE_SHARE if parts else _INFORMATIVE_SHARE}
    for name in (name for name in _REASONS if name in known):
        # If hardly any answer is right on both sides, that share is uninformative.
        share = known[name]["kind"] == "share" and name not in ("accuracy", "likelihood_accuracy")
        values = [value for at in (side, against) if (value := known[name]["values"][at]) is not None]
        if not share or max(values, default=0.0) >= least.get(name, _INFORMATIVE_SHARE):
            return known[name]
    return None


def _by_free_text(
    fit: MeasureJson, overlap: MeasureJson, side: str, against: str, subject: str, than: str, between: str
) -> VerdictJson:
    losses = f"perplexity of the reference answers {_pair(fit, side, against)}"
    losses = losses if fit["name"] == "perplexity" else f"{_figures(fit, side, against)} of the reference answers"
    losses += f" ({p_text(_p(fit, side))}, {fit['rows']} rows)"
    overlapping = _evidence(overlap, side, against)
    better, nearer = improved(fit, side), improved(overlap, side)
    if better is None:
        return _verdict(f"No clear difference{between}: {losses}, {overlapping}", None, fit, side)
    word = _word(better)
    if nearer is None:
        # A more likely reference does not mean better answers: a model that babbles can achieve it.
        unproven = f"its own answers are not shown to be {word}: {overlapping}"
        return _verdict(f"{subject} fits this data {word}{than}: {losses}; {unproven}", None, overlap, side)
    if nearer != better:
        return _verdict(f"The measures disagree{between}: {losses}, {overlapping}", None, fit, side)
    return _verdict(f"{subject} is {word}{than}: {losses}, {overlapping}", better, fit, side)


def _opposed(task: Sequence[MeasureJson], decided: Sequence[MeasureJson], side: str, against: str) -> str:
    """The measure that clearly got worse although the verdict is a gain."""
    # The sentence already covers what the answers name.
    apart = {*_LOSSES, *(COMPANIONS.get(measure["name"]) for measure in decided)}
    others = [
        measure
        for measure in task
        if measure not in decided and measure["name"] not in apart and direction(measure, side) is False
    ]
    if not others:
        return ""
    worst = min(others, key=lambda measure: _p(measure, side))
    return f", but {in_sentence(worst['title'])} is worse: {_pair(worst, side, against)} ({p_text(_p(worst, side))})"


def _changed(task: Sequence[MeasureJson], decided: Sequence[MeasureJson], side: str, against: str) -> str:
    """The measures of answers that clearly changed, up to two, although the one that decides cannot tell."""
    if len(decided) != 1:
        return ""
    parts = []
    for word, better in (("better", True), ("worse", False)):
        changed = [
            measure
            for measure in task
            if measure not in decided and measure["name"] not in _LOSSES and direction(measure, side) is better
        ]
        if changed:
            most = sorted(changed, key=lambda measure: _p(measure, side))[:2]
            figures = [f"{in_sentence(m['title'])} {_pair(m, side, against)} ({p_text(_p(m, side))})" for m in most]
            parts.append(f"clearly {word}: {listed(figures)}")
    return "".join(f"; {part}" for part in parts)


def _why(task: Sequence[MeasureJson], decided: Sequence[MeasureJson], side: str, better: bool | None) -> str:
    if not decided:
        return ""
    titles = [measure["title"] for measure in decided]
    if len(decided) == 2:
        reason = "there are no answers to compare" if titles[1] == "Bits per byte" else "these answers are free text"
        sentences = [f"{titles[0]} and {in_sentence(titles[1])} decide together, because {reason}."]
    else:
        name = decided[0]["name"]
        own = "it is a measure of your own" if name not in BUILT_IN else "no other measure applies"
        sentences = [f"{titles[0]} decides, because {_REASONS.get(name, own)}."]
    others = [measure for measure in task if measure not in decided and measure["better"]]
    parts = []
    words: dict[bool | None, tuple[str, str]] = {
        True: ("agrees", "agree") if better is not None else ("is better", "are better"),
        False: ("says the opposite", "say the opposite") if better is not None else ("is worse", "are worse"),
        None: ("cannot tell", "cannot tell"),
    }
    for verdict, (singular, plural) in words.items():
        wanted = verdict if better is not False or verdict is None else not verdict
        titles = [in_sentence(measure["title"]) for measure in others if direction(measure, side) is wanted]
        if titles:
            parts.append(f"{listed(titles)} {singular if len(titles) == 1 else plural}")
    if parts:
        sentences.append(f"Of the other measures, {', '.join(parts)}; they are shown but do not decide.")
    return " ".join(sentences)


def _evidence(measure: MeasureJson, side: str, against: str, rows: str | None = None) -> str:
    difference = measure["differences"][side]
    counted = f", {difference.get('rows', measure['rows'])} {rows}" if rows else ""
    groups = f" in {difference['clusters']} groups" if rows and "clusters" in difference else ""
    return f"{_figures(measure, side, against)} ({p_text(_p(measure, side))}{counted}{groups}{_missing(measure, side)})"


def _may_be(measure: MeasureJson, side: str) -> str:
    """The range that may contain the difference: wide with ten rows, narrow with a thousand."""
    ends = measure["differences"][side].get("interval")
    if not ends or measure["kind"] == "loss":
        return ""
    low, high = (100 * end if measure["kind"] == "share" else end for end in ends)
    unit = " points" if measure["kind"] == "share" or measure.get("unit") == "points" else ""
    return f"; the difference may be {_amount(low)} to {_amount(high)}{unit}"


def _amount(value: float) -> str:
    return signed(f"{abs(value):.3g}" if abs(value) < 10 else f"{abs(value):,.0f}", value)


def _missing(measure: MeasureJson, side: str) -> str:
    """How many answers without a number count as the largest error, if any."""
    detail = measure["detail"]
    missing = detail.get("missing") if isinstance(detail, Mapping) else None
    if not detail or not missing or not any(missing.values()):
        return ""
    first = missing[next(iter(missing))]
    each = f"{detail['cap']:,.4g}"
    return f"; answers without a number: {missing[side]} against {first}, each counted as {each} off"


def _figures(measure: MeasureJson, side: str, against: str) -> str:
    if measure["name"] == "bits_per_byte":
        after, before = (value_text(measure, measure["values"][at]) for at in (side, against))
        return f"{after} bits per byte against {before}"
    return f"{in_sentence(measure['title'])} {_pair(measure, side, against)}"


def _pair(measure: MeasureJson, side: str, against: str) -> str:
    return " against ".join(value_text(measure, measure["values"][at]) for at in (side, against))


def _p(measure: MeasureJson, side: str) -> float:
    p = measure["differences"][side]["p"]
    assert p is not None  # measures of the task are tested
    return p


def _word(better: bool | None) -> str:
    return "better" if better else "worse"


def _verdict(text: str, better: bool | None, measure: MeasureJson, side: str) -> VerdictJson:
    return {"text": text, "better": better, "p": _p(measure, side), "measure": measure["name"]}


Row = dict[str, Any]
_PLAIN = ("exact_match", "bleu")


def side_by_side(
    runs: Sequence[tuple[ComparisonJson, Sequence[Row]]],
) -> tuple[ComparisonJson, list[Row]] | None:
    """The adapted sides of several runs as one comparison and its rows. The others are compared with the first run.

    Each of `runs` is its comparison and its predictions. Only rows that all of them were asked count; None if there are
    none. The measures are those that all have, and the loss as a mean over rows (its tokens are not stored).
    """
    keyed, common = rows_in_common([rows for _, rows in runs])
    if not common:
        return None
    sides = [_side(comparison) for comparison, _ in runs]
    names = [side["name"] for side in sides]
    rows = [_row([of_run[key] for of_run in keyed], names) for key in common]
    measures, values = _measures(rows, names)
    called = {side["name"]: f"the run {side['title']}" for side in sides}
    for place, row in enumerate(rows):
        row["scores"] = {name: {side: of_measure[side][place] for side in names} for name, of_measure in values.items()}
    asked = [len(of_run) for of_run in keyed]
    notes = [f"These are the {len(rows)} rows that all runs answered."] if max(asked) > len(rows) else []
    notes += _asked_differently([comparison.get("settings") or {} for comparison, _ in runs])
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


def _asked_differently(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    decodings = dict.fromkeys(str(setting.get("decoding", "greedy")) for setting in settings)
    if len(decodings) > 1:
        notes.append(f"Their decoding settings differ: {', '.join(decodings)}.")
    if any((setting.get("samples") or 1) > 1 for setting in settings):
        notes.append("If a row has several answers, only the first counts here.")
    return notes


def _side(comparison: ComparisonJson) -> SideJson:
    known = {side["name"]: side for side in comparison.get("sides", [])}
    # The timestamp at the beginning of an id says nothing about the run.
    title = re.sub(r"^\d{8}-\d{6}-", "", comparison["run"])
    return {"name": comparison["run"], "title": title, "what": known["adapted"]["what"] if "adapted" in known else ""}


def _row(rows: Sequence[Row], names: Sequence[str]) -> Row:
    """One row, with each run's answer under the name of the run."""
    kept = ("row", "turn", "prompt", "messages", "reference", "document", "columns", "cluster")
    merged = {key: rows[0][key] for key in kept if key in rows[0]}
    for name, row in zip(names, rows, strict=True):
        for key in ("", "_tokens", "_cut", "_correct", "_loss"):
            if f"adapted{key}" in row:
                merged[f"{name}{key}"] = row[f"adapted{key}"]
    merged["measured"] = [set(row.get("scores") or _PLAIN) for row in rows]
    return merged


def _measures(rows: list[Row], names: Sequence[str]) -> tuple[list[MeasureJson], Rows]:
    known = set.intersection(*(names_of_run for row in rows for names_of_run in row.pop("measured")))
    measures: list[MeasureJson] = []
    values: Rows = {}
    clusters = tuple(row["cluster"] for row in rows) if all("cluster" in row for row in rows) else None
    if "document" not in rows[0]:
        answers = {name: [spoken(row[name]) for row in rows] for name in names}
        chosen = [name for name in NAMES if name in known and name != "general_accuracy"]
        options = MeasureOptions(clusters=clusters, tools=tools_by_row([row["messages"] for row in rows]))
        measures, values = measure_answers(chosen, answers, [row["reference"] for row in rows], options=options)
    losses = {name: [row.get(f"{name}_loss") for row in rows] for name in names}
    if all(any(value is not None for value in of_side) for of_side in losses.values()):
        measures.append(of_rows(Measure.of(LOSS_MEASURE), losses, clusters=clusters))
    return measures, values
