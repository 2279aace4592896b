"""One measure of given answers, for tests: the measure as it is told, and its value for one answer."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers

TRUE = ["bug", "bug", "question", "praise", "bug", "question", "praise", "bug"] * 3  # labels of 24 rows


def one(name: str, answers: dict[str, list[str]], references: list[str], **options: Any) -> tuple[dict, Any]:
    [found], rows = measure_answers([name], answers, references, options=MeasureOptions(**options))
    return found, rows.get(name)


def value(name: str, answer: str, reference: str, **options: Any) -> Any:
    found, _ = one(name, {"base": [answer]}, [reference], **options)
    return found["values"]["base"]
