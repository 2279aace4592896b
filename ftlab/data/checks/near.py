"""Near copies among many texts: MinHash and banding find candidates, each is then measured by its real Jaccard value.

MinHash: Broder 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3. With 21 bands of 6
hashes a pair at Jaccard 0.8 is found with probability 0.998, one at 0.5 becomes a candidate in 28 of 100 cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from ftlab.data.checks.examples import Watch
from ftlab.data.checks.words import Words, join

if TYPE_CHECKING:
    import numpy as np

NEAR = 0.8  # Jaccard of the word trigrams from which on two texts are near copies
FEWEST_WORDS = 8  # of shorter texts one other word is another meaning; they have to be the same words
_BANDS, _HASHES = 21, 6
_PIECE = 5_000
# Keep form letters, of which thousands share a bucket, from being compared each with each.
_COMPARED = 8  # texts of a bucket that one text is compared with
_MOST_TRIES = 40  # comparisons in vain after which a text is taken for no copy
_SEED = 42


def trigrams(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of all runs of three words of each text; of shorter texts one hash of all their words."""
    import numpy as np

    sizes = words.sizes
    numbers = words.numbers.astype(np.uint64) + np.uint64(1)
    mixed = [_mix(numbers + np.uint64(place << 40)) for place in range(3)]
    every = np.zeros(len(numbers), np.uint64)
    if len(numbers) > 2:
        every[:-2] = _mix(mixed[0][:-2] + mixed[1][1:-1] * np.uint64(3) + mixed[2][2:] * np.uint64(5))
    inside = np.arange(len(numbers)) - np.repeat(words.offsets[:-1], sizes)
    keep = inside < np.repeat(np.maximum(sizes - 2, 0), sizes)
    for position in np.flatnonzero((sizes > 0) & (sizes < 3)):
        start = words.offsets[position]
        every[start] = hash(tuple(words.of(position).tolist())) & 0xFFFFFFFFFFFFFFFF
        keep[start] = True
    counts = np.where(sizes > 2, sizes - 2, np.minimum(sizes, 1))
    return every[keep], np.concatenate([[0], np.cumsum(counts)])


def near_pairs(
    words: Words | Sequence[Words],
    sides: Sequence[int],
    watch: Watch,
    wanted: Callable[[int, int], bool],
    *,
    across: bool = False,
    left_out: Collection[int] = (),
) -> Iterator[tuple[int, int, float]]:
    """(one, other, Jaccard) of texts that share at least 80% of their trigrams and are `wanted`. Of several `words` the
    texts of the same position are read as one.

    Pairs lie within one side, the earlier text first; with `across` between side 0, which comes first, and the others.
    Texts without words and those `left_out` are not looked at. In large groups of form letters each text is compared
    with some of the others.
    """
    import numpy as np

    parts = [words] if isinstance(words, Words) else list(words)
    looked_at = sum(part.sizes for part in parts) > 0
    looked_at[list(left_out)] = False
    texts = np.flatnonzero(looked_at)
    signatures = _signatures(parts, watch)
    seen: set[tuple[int, int]] = set()
    tried: Counter[int] = Counter()
    for band in range(_BANDS):
        watch.at(band, _BANDS)
        for bucket in _buckets(signatures[texts, band * _HASHES : (band + 1) * _HASHES]):
            for one, other in _pairs(texts[bucket].tolist(), sides, across):
                counted = one if across else other
                if (one, other) in seen or tried[counted] >= _MOST_TRIES or not wanted(one, other):
                    continue
                seen.add((one, other))
                shared = _jaccard(parts, one, other)
                if shared >= NEAR:
                    yield one, other, shared
                else:
                    tried[counted] += 1
    watch.at(_BANDS, _BANDS)


def _buckets(part: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of two or more rows of `part` that are equal, each in rising order."""
    import numpy as np

    keys = np.zeros(len(part), np.uint64)
    for column in range(part.shape[1]):
        keys = _mix(keys * np.uint64(31) + part[:, column].astype(np.uint64))
    order = np.argsort(keys, kind="stable")
    changes = np.flatnonzero(np.diff(keys[order])) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(keys))
    for number in np.flatnonzero(ends - starts > 1):
        yield order[starts[number] : ends[number]]


def _pairs(bucket: list[int], sides: Sequence[int], across: bool) -> Iterator[tuple[int, int]]:
    by_side: dict[int, list[int]] = {}
    for text in bucket:
        by_side.setdefault(sides[text], []).append(text)
    if across:
        others = [text for side, texts in by_side.items() if side for text in texts]
        for text in by_side.get(0, []) if others else []:
            for other in others[:_COMPARED]:
                yield text, other
        return
    for texts in by_side.values():
        for place, later in enumerate(texts):
            for earlier in (*texts[: min(place, 2)], *texts[max(2, place - _COMPARED) : place]):
                yield earlier, later


def _signatures(parts: Sequence[Words], watch: Watch) -> np.ndarray:
    import numpy as np
    from rensa import RMinHash

    total, count = len(parts[0]), _BANDS * _HASHES
    signatures = np.zeros((total, count), np.uint32)
    for begin in range(0, total, _PIECE):  # a piece at a time: hashes take many times the room of the text
        watch.at(begin, total)
        end = min(begin + _PIECE, total)
        hashes, offsets = trigrams(reduce(join, (part.part(begin, end) for part in parts)))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), count, _SEED)
        signatures[begin:end] = np.array(matrix.to_rows(), np.uint32)
    return signatures


def _jaccard(parts: Sequence[Words], one: int, other: int) -> float:
    first, second = (_trigram_set([word for part in parts for word in part.of(text).tolist()]) for text in (one, other))
    return len(first & second) / len(first | second)


def _trigram_set(words: list[int]) -> set[tuple[int, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: spreads neighbouring numbers over all 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
