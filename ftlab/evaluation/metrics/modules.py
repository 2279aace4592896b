"""Every measure as an `evaluate.Metric` that loads without a network.

`evaluate.load` downloads a script even for local metrics. `load` creates them directly, and they combine with
`evaluate.combine`. Importing this module imports `evaluate`, which is slow: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate

from ftlab.evaluation.metrics.measures import MeasureOptions, corpus_perplexity, describe, measure_answers
from ftlab.evaluation.metrics.own import load_own


class OfAnswers(evaluate.Metric):
    """The built-in measure `measure` of answers (`predictions`) against reference answers."""

    def __init__(self, measure: str, options: MeasureOptions | None = None):
        # Must be set before the base class calls _info.
        self.measure, self.options = describe(measure), options
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        described = f"{self.measure['help']} {self.measure['rule']}".strip()
        return _metric_info(described, {"predictions": text, "references": text})

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        name = self.measure["name"]
        [measure], _ = measure_answers([name], {"answers": predictions}, references, options=self.options)
        by_sacrebleu = {f"{name}_signature": measure["rule"].removeprefix("sacrebleu, ")} if name in _SIGNED else {}
        return {name: measure["values"]["answers"], **by_sacrebleu}


class Perplexity(evaluate.Metric):
    """Corpus perplexity from summed losses: `predictions` are nats per row, `references` trained tokens per row."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return _metric_info("exp(sum of losses / number of tokens) over the tokens of the answers.", features)

    def _compute(self, predictions: Sequence[float], references: Sequence[int]) -> dict[str, float]:
        return {"perplexity": corpus_perplexity(predictions, references)}


_SIGNED = ("bleu", "chrf")


def load(name: str, options: MeasureOptions | None = None) -> evaluate.Metric:
    """The metric called `name` (one of measures.NAMES, or perplexity), or the one in the Python file at path `name`.

    Raises InputError for an unknown name, and for a file that is not a metric.
    """
    if name == "perplexity":
        return Perplexity(keep_in_memory=True)
    return load_own(name).metric if Path(name).suffix == ".py" else OfAnswers(name, options)


def score(name: str, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
    """The value of the metric `name` for `predictions` and `references`, computed in memory."""
    return load(name).compute(predictions=list(predictions), references=list(references))


def _metric_info(description: str, features: dict[str, datasets.Value]) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description="", features=datasets.Features(features)
    )
