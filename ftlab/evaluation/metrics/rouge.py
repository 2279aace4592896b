"""ROUGE by Google's rouge-score, the implementation that papers cite since 2019."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.metrics.text import folded, words

_WORD = re.compile(r"[^\W_]+")


class _Words:
    """rouge-score's own tokenizer drops every letter beyond a to z; on plain English this one gives the same words."""

    def tokenize(self, text: str) -> list[str]:
        return words(" ".join(_WORD.findall(folded(text))))


def rouge_rows(
    names: Sequence[str], answers: Mapping[str, Sequence[str]], references: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """F1 of ROUGE (Lin, 2004) for each row: {name: {side: [0 to 1]}}; names are rouge1, rouge2, rougeL."""
    scorer = _scorer(names)
    found: dict[str, dict[str, list[float]]] = {name: {side: [] for side in answers} for name in names}
    for side, given in answers.items():
        for answer, reference in zip(given, references, strict=True):
            for name, score in scorer.score(reference, answer).items():
                found[name][side].append(float(score.fmeasure))
    return found


def rouge_rule() -> str:
    from importlib.metadata import version

    return f"F1, rouge-score {version('rouge-score')}, lower case, one Unicode form, no stemming"


def _scorer(names: Sequence[str]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(names), tokenizer=_Words())
