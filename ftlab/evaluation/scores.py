"""From what both sides said to scores, tests and the rows a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.evaluation.documents import compare_documents
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.own_answers import Followed, Written
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED, Probe, by_replay, is_right


@dataclass(frozen=True)
class Result:
    """What one side said: per row a loss and an answer (none for documents), per general question an answer, per
    general text a loss, by the form of the text, and per row the loss of each label (only where asked for).
    `more_answers`: where each row has several answers, the second ones, the third ones and so on. `choices`: of each
    question with choices whether it found the right one likeliest. `written`: what a base wrote to the prompts of OWN
    (asking.py), by its names, and how another side `followed` that."""

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

    @property
    def samples(self) -> list[list[Answer]]:
        """All answers: the first of each row, then the second of each, ..."""
        return [self.answers, *self.more_answers]


def compare_results(
    rows: Sequence[dict[str, Any]],
    references: Sequence[str],
    sizes: Sequence[int] | None,
    probes: Sequence[Probe],
    sides: Mapping[str, Result],
    measures: Sequence[Mapping[str, Any]] = (),
    clusters: Sequence[int] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores and tests; the rows of predictions.jsonl; the rows of probes.jsonl. Of `measures` BLEU is taken over, and
    exact match where each row has several answers.

    `sizes` are the bytes of documents, None where the rows are questions with `references`. `base` and `adapted` are
    among the sides. `clusters`: what each row belongs to.
    """
    from ftlab.evaluation.significance import mcnemar

    if sizes is not None:
        scores, tests, predictions = compare_documents(rows, sizes, sides, clusters)
    else:
        scores, tests, predictions = _compare_answers(rows, references, sides, measures, clusters)
    known = {
        side: [is_right(a.text, p) for a, p in zip(result.probe_answers, probes, strict=True)]
        for side, result in sides.items()
    }
    for side in sides:
        scores[side] |= _general_scores(known[side], probes)
    for name, places in by_replay([one.replayed for one in probes]).items():
        tests[name] = mcnemar(*([known[side][i] for i in places] for side in ("base", "adapted")))
    asked = []
    for i, probe in enumerate(probes):
        shown = {"row": probe.row, "prompt": _last_question(probe.messages), "messages": probe.messages}
        shown |= {"reference": probe.reference, "kind": probe.kind, "replayed": probe.replayed}
        shown |= {"held": True, "also": list(probe.also)} if probe.held else {}
        for side, result in sides.items():
            shown[side] = result.probe_answers[i].text
            shown[f"{side}_correct"] = known[side][i]
        asked.append(shown)
    return {**scores, "tests": tests}, predictions, asked


def _compare_answers(
    rows: Sequence[dict[str, Any]],
    references: Sequence[str],
    sides: Mapping[str, Result],
    measures: Sequence[Mapping[str, Any]],
    clusters: Sequence[int] | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
    from ftlab.evaluation.measures import MeasureOptions
    from ftlab.evaluation.metrics import is_exact
    from ftlab.evaluation.samples import measure_samples
    from ftlab.evaluation.significance import loss_difference, mcnemar

    base, adapted = sides["base"], sides["adapted"]
    correct = {
        side: [is_exact(a.text, r) for a, r in zip(result.answers, references, strict=True)]
        for side, result in sides.items()
    }
    answers = {side: [[answer.text for answer in one] for one in result.samples] for side, result in sides.items()}

    def measure(name: str) -> Mapping[str, Any]:
        known = next((one for one in measures if one["name"] == name), None)
        options = MeasureOptions(clusters=tuple(clusters) if clusters else None)
        return known or measure_samples([name], answers, references, options=options)[0][0]

    bleu = measure("bleu")
    scores = {side: _answer_scores(side, result, bleu, correct[side], clusters) for side, result in sides.items()}
    tests = {
        "exact_match": mcnemar(correct["base"], correct["adapted"], clusters),
        "perplexity": loss_difference(base.losses.nll, adapted.losses.nll, clusters),
        "bleu": bleu["differences"]["adapted"]["p"],
    }
    if base.more_answers:
        exact = measure("exact_match")
        tests["exact_match"] = exact["differences"]["adapted"]["p"]
        for side in sides:
            scores[side] |= {"exact_match": exact["values"][side], "exact_match_interval": exact["intervals"][side]}
    predictions = []
    for i, row in enumerate(rows):
        shown = {"row": row.get("row", i), "prompt": _last_question(row["messages"]), "messages": row["messages"][:-1]}
        shown["reference"] = references[i]
        for side, result in sides.items():
            shown[side] = result.answers[i].text
            shown[f"{side}_tokens"], shown[f"{side}_cut"] = result.answers[i].tokens, result.answers[i].cut
            shown[f"{side}_correct"] = correct[side][i]
            shown[f"{side}_loss"] = result.losses.per_token[i]
            if result.more_answers:
                more = [one[i] for one in result.more_answers]
                shown[f"{side}_more"] = [{"answer": a.text, "tokens": a.tokens, "cut": a.cut} for a in more]
        predictions.append(shown)
    return scores, tests, predictions


def _answer_scores(
    side: str, result: Result, bleu: Mapping[str, Any], correct: list[bool], clusters: Sequence[int] | None
) -> dict[str, Any]:
    from ftlab.evaluation.significance import perplexity_interval, share_interval

    losses = result.losses
    return {
        "perplexity": losses.perplexity,
        "perplexity_interval": perplexity_interval(losses.nll, losses.tokens, clusters),
        "bleu": bleu["values"][side],
        "bleu_interval": bleu["intervals"][side],
        "bleu_signature": bleu["rule"].removeprefix("sacrebleu, "),
        "exact_match": sum(correct) / len(correct),
        "exact_match_interval": share_interval(correct, clusters),
        "rows": len(correct),
        "tokens": sum(losses.tokens),
        "truncated_answers": sum(answer.cut for answer in result.answers),
        "mean_answer_tokens": sum(a.tokens for one in result.samples for a in one)
        / (len(result.samples) * len(result.answers)),
    }


def _general_scores(known: Sequence[bool], probes: Sequence[Probe]) -> dict[str, Any]:
    """The shares of general questions that were answered right, of kinds that were not replayed and of kinds that were;
    None where none was asked."""
    from ftlab.evaluation.significance import wilson_interval

    places = by_replay([one.replayed for one in probes])
    found: dict[str, Any] = {}
    for name, ending in ((NOT_REPLAYED, ""), (REPLAYED, "_replayed")):
        right = [known[i] for i in places.get(name, [])]
        found |= {
            name: sum(right) / len(right) if right else None,
            f"general_interval{ending}": wilson_interval(sum(right), len(right)),
            f"general_rows{ending}": len(right),
        }
    return found


def _last_question(messages: list[dict[str, str]]) -> str:
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
