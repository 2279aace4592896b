"""BLEU and chrF by sacrebleu: corpus scores, from counts that add up over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftlab.evaluation.metrics.text import has_spaces

if TYPE_CHECKING:
    import numpy as np


def corpus_metric(name: str, references: Sequence[str]) -> Any:
    """sacrebleu's metric for `name` (bleu or chrf); BLEU by characters where the script has no spaces between words."""
    from sacrebleu.metrics import BLEU, CHRF

    if name == "chrf":
        return CHRF()
    return BLEU(force=True, tokenize="13a" if has_spaces(list(references)) else "char")


def row_counts(metric: Any, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What sacrebleu counts in each row, shape (rows, counts); the counts of a corpus are their sum.

    Raises ValueError when answers and references are not paired, which sacrebleu would score without complaint.
    """
    import numpy as np

    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, {len(references)} references: they must be paired")
    # sacrebleu's own significance test works on these two methods of its metrics; its public ones take texts only.
    return np.asarray(metric._extract_corpus_statistics(list(answers), [list(references)]), dtype=np.float64)


def score_of_counts(metric: Any, counts: np.ndarray) -> np.ndarray:
    """The corpus score, 0 to 100, of each line of summed `counts`: sacrebleu's formulas for all lines at once."""
    from sacrebleu.metrics import BLEU

    if isinstance(metric, BLEU):
        return _bleu(counts, effective_order=metric.effective_order)
    return _chrf(counts, metric.beta**2)


def _bleu(counts: np.ndarray, *, effective_order: bool) -> np.ndarray:
    """BLEU with exponential smoothing of counts: lengths of answers and references, right and all n-grams of 1 to 4."""
    import numpy as np

    given, wanted, right, total = counts[:, 0], counts[:, 1], counts[:, 2:6], counts[:, 6:10]
    reached = np.logical_and.accumulate(total > 0, axis=1)
    # Each order without a match counts half as much as the one before it.
    halved = 2.0 ** -np.cumsum(reached & (right == 0), axis=1)
    precision = np.where(reached, np.where(right > 0, right, halved) / total.clip(min=1), 1.0)
    orders = reached.sum(axis=1).clip(min=1) if effective_order else np.full(len(counts), 4)
    shorter = np.exp(1 - np.maximum(wanted / given.clip(min=1), 1))
    score = 100 * shorter * np.exp(np.log(precision).sum(axis=1) / orders)
    known = right.any(axis=1) & (reached.all(axis=1) | effective_order)
    # Rounding can put a perfect score at 100.00000000000004.
    return np.where(known, np.minimum(score, 100.0), 0.0)


def _chrf(counts: np.ndarray, weight: float) -> np.ndarray:
    """chrF of counts: for each order the n-grams of answers, of references and of both; `weight` is beta squared."""
    import numpy as np

    given, wanted, both = counts[:, 0::3], counts[:, 1::3], counts[:, 2::3]
    known = (given > 0) & (wanted > 0)
    orders = known.sum(axis=1).clip(min=1)
    precision = np.where(known, both / given.clip(min=1), 0).sum(axis=1) / orders
    recall = np.where(known, both / wanted.clip(min=1), 0).sum(axis=1) / orders
    divisor = weight * precision + recall
    score = 100 * (1 + weight) * precision * recall / np.where(divisor > 0, divisor, 1)
    return np.minimum(score, 100.0)


def row_scores(metric: Any, counts: np.ndarray) -> list[float]:
    """The score of each row alone, to sort and to show rows by; the corpus score is not their mean."""
    from sacrebleu.metrics import BLEU

    # Short rows have no sequences of four words: without the effective order they would all score almost nothing.
    alone = BLEU(effective_order=True) if isinstance(metric, BLEU) else metric
    return score_of_counts(alone, counts).tolist()
