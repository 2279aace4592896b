"""The scripts that write the sample data sets; `python -m ftlab.samples.generate` runs them.

Here: how much two short texts share, so that no held-out prompt is a near copy of a training prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Trigrams = frozenset[tuple[str, ...]]


def word_trigrams(text: str) -> Trigrams:
    """Return all runs of three words of `text`, lower-cased and without punctuation."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def jaccard(first: Trigrams, second: Trigrams) -> float:
    """Return the share of trigrams two texts have in common: 0 for nothing, 1 for the same text."""
    return len(first & second) / len(first | second)


def is_near_copy(trigrams: Trigrams, others: Iterable[Trigrams], bound: float) -> bool:
    """Tell whether any of `others` shares at least `bound` (0 to 1) of its trigrams with `trigrams`."""
    return any(jaccard(trigrams, other) >= bound for other in others)
