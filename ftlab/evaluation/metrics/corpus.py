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
    """The corpus score, 0 to 100, of each line of summed `counts`."""
    import numpy as np

    # Rounding can put a perfect score at 100.00000000000004.
    return np.array([min(100.0, float(metric._compute_score_from_stats(line).score)) for line in counts])


def row_scores(metric: Any, counts: np.ndarray) -> list[float]:
    """The score of each row alone, to sort and to show rows by; the corpus score is not their mean."""
    from sacrebleu.metrics import BLEU

    # Short rows have no sequences of four words: without the effective order they would all score almost nothing.
    alone = BLEU(effective_order=True) if isinstance(metric, BLEU) else metric
    return score_of_counts(alone, counts).tolist()
