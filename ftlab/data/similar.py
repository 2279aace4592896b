"""Prompts that repeat each other nearly, as the checks define it, so that a split can keep them on one side."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_SIGNS = re.compile(r"[.,!?;:…]+(?=\s|$)")


def plain(text: str) -> str:
    """`text` without regard to case, spaces and closing signs."""
    return _SIGNS.sub("", " ".join(text.split()).casefold())


def join_near_duplicates(texts: Sequence[str], join: Callable[[int, int], None]) -> None:
    """Call `join` for pairs of near duplicates (80% of the word trigrams, from 8 words on): enough pairs to connect
    all of a group."""
    from ftlab.data.checks.examples import Watch
    from ftlab.data.checks.near import FEWEST_WORDS, near_pairs
    from ftlab.data.checks.words import count_words

    watch = Watch()
    words = count_words(texts, watch)
    long = words.sizes >= FEWEST_WORDS
    if not long.any():
        return

    def wanted(one: int, other: int) -> bool:
        return bool(long[one] and long[other])

    short = [position for position, enough in enumerate(long) if not enough]
    for one, other, _ in near_pairs(words, [0] * len(texts), watch, wanted, left_out=short):
        join(one, other)
