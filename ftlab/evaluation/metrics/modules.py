"""Scores of answers, as `evaluate.Metric` modules that load without a network.

`evaluate.load` downloads a script even for metrics it could know; these are made directly, and combine with
`evaluate.combine`. Importing this module costs the import of `evaluate`: do it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from ftlab.evaluation.metrics.text import EXACT_MATCH_RULE, PROBE_RULE, is_exact, is_general_match


class ExactMatch(evaluate.Metric):
    """The share of answers equal to their reference."""

    def _info(self) -> evaluate.MetricInfo:
        return _text_metric(f"Share of answers equal to the reference ({EXACT_MATCH_RULE}).")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"exact_match": _share(is_exact, predictions, references)}


class GeneralAccuracy(evaluate.Metric):
    """The share of short general questions answered as the reference does."""

    def _info(self) -> evaluate.MetricInfo:
        return _text_metric(f"Share of short answers equal to the reference ({PROBE_RULE}).")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"general_accuracy": _share(is_general_match, predictions, references)}


class Bleu(evaluate.Metric):
    """Corpus BLEU by sacrebleu, 0 to 100, with the signature that makes it reproducible (Post, 2018)."""

    def _info(self) -> evaluate.MetricInfo:
        return _text_metric("Corpus BLEU by sacrebleu, one reference per answer.")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from sacrebleu.metrics import BLEU

        # sacrebleu scores transposed references without complaint: one stream with as many texts as there are answers.
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} answers, {len(references)} references: they must be paired")
        bleu = BLEU(force=True)
        score = bleu.corpus_score(list(predictions), [list(references)])
        # Rounding can put a perfect score at 100.00000000000004.
        return {"bleu": min(100.0, float(score.score)), "bleu_signature": str(bleu.get_signature())}


class Perplexity(evaluate.Metric):
    """Corpus perplexity from summed losses: `predictions` are nats per row, `references` trained tokens per row."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return _metric_info("exp(sum of losses / number of tokens) over the tokens of the answers.", features)

    def _compute(self, predictions: Sequence[float], references: Sequence[int]) -> dict[str, float]:
        from ftlab.evaluation.perplexity import corpus_perplexity

        return {"perplexity": corpus_perplexity(predictions, references)}


def score(metric: type[evaluate.Metric], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
    """What `metric` says of `predictions` and `references`, worked out in memory."""
    return metric(keep_in_memory=True).compute(predictions=list(predictions), references=list(references))


def _text_metric(description: str) -> evaluate.MetricInfo:
    return _metric_info(description, {"predictions": datasets.Value("string"), "references": datasets.Value("string")})


def _metric_info(description: str, features: dict[str, datasets.Value]) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description="", features=datasets.Features(features)
    )


def _share(matches: Any, predictions: Sequence[str], references: Sequence[str]) -> float:
    right = [matches(*pair) for pair in zip(predictions, references, strict=True)]
    return sum(right) / len(right)
