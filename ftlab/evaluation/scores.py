"""From what both sides said to scores, tests and the rows a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.documents import Pieces, compare_documents
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.probes import Probe
from ftlab.evaluation.verdict import judge


@dataclass(frozen=True)
class Task:
    """What both sides are asked: held-out rows with their tokens, and general questions with theirs.

    Where the rows are documents, `pieces` says which of `encoded` belong to which, and there are no prompts.
    """

    rows: list[dict[str, Any]]
    encoded: list[Any]
    prompts: list[list[int]]
    references: list[str]
    probes: list[Probe]
    probe_prompts: list[list[int]]
    max_new_tokens: int
    probe_tokens: int
    batch_rows: int
    context: int | None
    pieces: Pieces | None = None

    @property
    def steps(self) -> int:
        """Rows to work through for one side."""
        return len(self.encoded) + len(self.prompts) + len(self.probes)


@dataclass(frozen=True)
class Result:
    """What one side said."""

    losses: Losses
    answers: list[Answer]
    probe_answers: list[Answer]
    halved_to: int | None


def compare_results(task: Task, base: Result, adapted: Result) -> tuple[dict[str, Any], list[dict], list[dict]]:
    """Scores, tests and verdict; the rows of predictions.jsonl; the rows of probes.jsonl."""
    from ftlab.evaluation.metrics import is_general_match
    from ftlab.evaluation.significance import mcnemar

    sides = {"base": base, "adapted": adapted}
    compared = compare_documents if task.pieces else _compare_answers
    scores, tests, predictions = compared(task, sides)
    known = {
        side: [is_general_match(a.text, p.reference) for a, p in zip(result.probe_answers, task.probes, strict=True)]
        for side, result in sides.items()
    }
    for side, result in sides.items():
        scores[side] |= _general_scores(result, task, known[side])
    if task.probes:
        tests["general_accuracy"] = mcnemar(known["base"], known["adapted"])
    probes = []
    for i, probe in enumerate(task.probes):
        shown = {"row": probe.row, "prompt": _last_question(probe.messages), "reference": probe.reference}
        for side, result in sides.items():
            shown[side] = result.probe_answers[i].text
            shown[f"{side}_correct"] = known[side][i]
        probes.append(shown)
    verdict = judge(scores["base"], scores["adapted"], tests)
    return {**scores, "tests": tests, "verdict": verdict}, predictions, probes


def _compare_answers(
    task: Task, sides: Mapping[str, Result]
) -> tuple[dict[str, dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
    from ftlab.evaluation.metrics import is_exact
    from ftlab.evaluation.significance import bleu_difference, loss_difference, mcnemar

    base, adapted = sides["base"], sides["adapted"]
    correct = {
        side: [is_exact(a.text, r) for a, r in zip(result.answers, task.references, strict=True)]
        for side, result in sides.items()
    }
    texts = [[answer.text for answer in result.answers] for result in (base, adapted)]
    p_bleu, *bleu_intervals = bleu_difference(*texts, task.references)
    scores = {
        side: _answer_scores(result, task, correct[side]) | {"bleu_interval": interval}
        for (side, result), interval in zip(sides.items(), bleu_intervals, strict=True)
    }
    tests = {
        "exact_match": mcnemar(correct["base"], correct["adapted"]),
        "perplexity": loss_difference(base.losses.nll, adapted.losses.nll),
        "bleu": p_bleu,
    }
    predictions = []
    for i, row in enumerate(task.rows):
        shown = {"row": row.get("row", i), "prompt": _last_question(row["messages"]), "messages": row["messages"][:-1]}
        shown["reference"] = task.references[i]
        for side, result in sides.items():
            shown[side] = result.answers[i].text
            shown[f"{side}_correct"] = correct[side][i]
            shown[f"{side}_loss"] = result.losses.per_token[i]
        predictions.append(shown)
    return scores, tests, predictions


def _answer_scores(result: Result, task: Task, correct: list[bool]) -> dict[str, Any]:
    from ftlab.evaluation import metrics
    from ftlab.evaluation.significance import perplexity_interval, wilson_interval

    texts, losses = [a.text for a in result.answers], result.losses
    return {
        **metrics.score(metrics.Perplexity, losses.nll, losses.tokens),
        "perplexity_interval": perplexity_interval(losses.nll, losses.tokens),
        **metrics.score(metrics.Bleu, texts, task.references),
        **metrics.score(metrics.ExactMatch, texts, task.references),
        "exact_match_interval": wilson_interval(sum(correct), len(correct)),
        "rows": len(task.rows),
        "tokens": sum(losses.tokens),
        "truncated_answers": sum(answer.cut for answer in result.answers),
        "mean_answer_tokens": sum(answer.tokens for answer in result.answers) / len(result.answers),
    }


def _general_scores(result: Result, task: Task, known: list[bool]) -> dict[str, Any]:
    from ftlab.evaluation import metrics
    from ftlab.evaluation.significance import wilson_interval

    texts = [answer.text for answer in result.probe_answers]
    general = metrics.score(metrics.GeneralAccuracy, texts, [p.reference for p in task.probes]) if known else {}
    return {
        "general_accuracy": general.get("general_accuracy"),
        "general_interval": wilson_interval(sum(known), len(known)),
        "general_rows": len(known),
    }


def _last_question(messages: list[dict[str, str]]) -> str:
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
