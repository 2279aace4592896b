"""Texts as flat arrays of word ids, and the progress of long checks, which can be stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[str, int, int], None]
CHUNK = 2000  # rows between two checks of the stop button


class Stopped(Exception):
    """The user pressed stop; findings so far are kept."""


@dataclass
class Watch:
    """Reports the progress of a check and reacts to the stop button. Raises Stopped from `at`."""

    progress: Progress | None = None
    should_stop: Callable[[], bool] | None = None
    phase: str = ""

    def at(self, done: int, total: int) -> None:
        if self.should_stop is not None and self.should_stop():
            raise Stopped
        if self.progress is not None:
            self.progress(self.phase, done, total)

    def over(self, items: Sequence[Any]) -> Any:
        """(position, item) for all `items`, reporting every 2000 of them."""
        total = len(items)
        for position, item in enumerate(items):
            if position % CHUNK == 0:
                self.at(position, total)
            yield position, item
        self.at(total, total)


# Scripts without spaces between words are split into characters.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")


class Vocabulary(dict):
    """word -> id, growing with every new word."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


@dataclass
class Words:
    """`numbers[offsets[i]:offsets[i + 1]]` are the words of text i, lower-cased and without punctuation."""

    numbers: np.ndarray
    offsets: np.ndarray
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        import numpy as np

        return np.diff(self.offsets)

    def of(self, position: int) -> np.ndarray:
        return self.numbers[self.offsets[position] : self.offsets[position + 1]]

    def part(self, begin: int, end: int) -> Words:
        """Texts `begin` to `end`."""
        offsets = self.offsets[begin : end + 1]
        return Words(self.numbers[offsets[0] : offsets[-1]], offsets - offsets[0], self.vocabulary)


def split_words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def count_words(texts: Sequence[str], watch: Watch, vocabulary: Vocabulary | None = None) -> Words:
    import numpy as np

    vocabulary = Vocabulary() if vocabulary is None else vocabulary
    number = vocabulary.__getitem__
    pieces, sizes = [], np.zeros(len(texts) + 1, np.int64)
    gathered: list[int] = []
    for position, text in watch.over(texts):
        before = len(gathered)
        gathered.extend(map(number, _WORD.findall(text.lower())))
        sizes[position + 1] = len(gathered) - before
        if len(gathered) > 1_000_000:  # lists of Python ints take eight times the memory
            pieces.append(np.array(gathered, np.int32))
            gathered = []
    pieces.append(np.array(gathered, np.int32))
    return Words(np.concatenate(pieces), np.cumsum(sizes), vocabulary)


def join(one: Words, other: Words) -> Words:
    """The words of text i of `one` followed by those of text i of `other` (same vocabulary)."""
    import numpy as np

    sizes = one.sizes + other.sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    numbers = np.empty(offsets[-1], np.int32)
    numbers[np.repeat(offsets[:-1] - one.offsets[:-1], one.sizes) + np.arange(len(one.numbers))] = one.numbers
    shift = offsets[:-1] + one.sizes - other.offsets[:-1]
    numbers[np.repeat(shift, other.sizes) + np.arange(len(other.numbers))] = other.numbers
    return Words(numbers, offsets, one.vocabulary)
