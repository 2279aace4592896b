"""From what both sides said to scores, tests and the rows a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.evaluation.documents import compare_documents
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED, Probe, by_replay


@dataclass(frozen=True)
class Result:
    """What one side said: per row a loss and an answer (none for documents), per general question an answer, per
    general text a loss, by the form of the text, and per row the loss of each label (only where asked for)."""

    losses: Losses
    answers: list[Answer]
    probe_answers: list[Answer]
    halved_to: int | None = None
    general: dict[str, Losses] = field(default_factory=dict)
    labels: list[list[float]] | None = None


def compare_results(
    rows: Sequence[dict[str, Any]],
    references: Sequence[str],
    sizes: Sequence[int] | None,
    probes: Sequence[Probe],
    sides: Mapping[str, Result],
    measures: Sequence[Mapping[str, Any]] = (),
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores and tests; the rows of predictions.jsonl; the rows of probes.jsonl. Of `measures` BLEU is taken over.

    `sizes` are the bytes of documents, None where the rows are questions with `references`. `base` and `adapted` are
    among the sides.
    """
    from ftlab.evaluation.metrics import is_general_match
    from ftlab.evaluation.significance import mcnemar

    if sizes is not None:
        scores, tests, predictions = compare_documents(rows, sizes, sides)
    else:
        scores, tests, predictions = _compare_answers(rows, references, sides, measures)
    known = {
        side: [is_general_match(a.text, p.reference) for a, p in zip(result.probe_answers, probes, strict=True)]
        for side, result in sides.items()
    }
    for side in sides:
        scores[side] |= _general_scores(known[side], probes)
    for name, places in by_replay(probes).items():
        tests[name] = mcnemar(*([known[side][i] for i in places] for side in ("base", "adapted")))
    asked = []
    for i, probe in enumerate(probes):
        shown = {"row": probe.row, "prompt": _last_question(probe.messages), "messages": probe.messages}
        shown |= {"reference": probe.reference, "kind": probe.kind, "replayed": probe.replayed}
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
) -> tuple[dict[str, dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
    from ftlab.evaluation.measures import measure_answers
    from ftlab.evaluation.metrics import is_exact
    from ftlab.evaluation.significance import loss_difference, mcnemar

    base, adapted = sides["base"], sides["adapted"]
    correct = {
        side: [is_exact(a.text, r) for a, r in zip(result.answers, references, strict=True)]
        for side, result in sides.items()
    }
    answers = {side: [answer.text for answer in result.answers] for side, result in sides.items()}
    bleu = next((measure for measure in measures if measure["name"] == "bleu"), None)
    if bleu is None:
        [bleu], _ = measure_answers(["bleu"], answers, references)
    scores = {side: _answer_scores(side, result, bleu, correct[side]) for side, result in sides.items()}
    tests = {
        "exact_match": mcnemar(correct["base"], correct["adapted"]),
        "perplexity": loss_difference(base.losses.nll, adapted.losses.nll),
        "bleu": bleu["differences"]["adapted"]["p"],
    }
    predictions = []
    for i, row in enumerate(rows):
        shown = {"row": row.get("row", i), "prompt": _last_question(row["messages"]), "messages": row["messages"][:-1]}
        shown["reference"] = references[i]
        for side, result in sides.items():
            shown[side] = result.answers[i].text
            shown[f"{side}_tokens"], shown[f"{side}_cut"] = result.answers[i].tokens, result.answers[i].cut
            shown[f"{side}_correct"] = correct[side][i]
            shown[f"{side}_loss"] = result.losses.per_token[i]
        predictions.append(shown)
    return scores, tests, predictions


def _answer_scores(side: str, result: Result, bleu: Mapping[str, Any], correct: list[bool]) -> dict[str, Any]:
    from ftlab.evaluation.significance import perplexity_interval, wilson_interval

    losses = result.losses
    return {
        "perplexity": losses.perplexity,
        "perplexity_interval": perplexity_interval(losses.nll, losses.tokens),
        "bleu": bleu["values"][side],
        "bleu_interval": bleu["intervals"][side],
        "bleu_signature": bleu["rule"].removeprefix("sacrebleu, "),
        "exact_match": sum(correct) / len(correct),
        "exact_match_interval": wilson_interval(sum(correct), len(correct)),
        "rows": len(correct),
        "tokens": sum(losses.tokens),
        "truncated_answers": sum(answer.cut for answer in result.answers),
        "mean_answer_tokens": sum(answer.tokens for answer in result.answers) / len(result.answers),
    }


def _general_scores(known: Sequence[bool], probes: Sequence[Probe]) -> dict[str, Any]:
    """The shares of general questions that were answered right, of kinds that were not replayed and of kinds that were;
    None where none was asked."""
    from ftlab.evaluation.significance import wilson_interval

    places = by_replay(probes)
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
