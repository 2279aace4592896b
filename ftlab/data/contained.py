"""Whole questions inside longer ones: "Where is my card?" in "Hi, this is Ann. Where is my card? Answer briefly."

A text is its sentences and lines, by their normal form. It is inside another when its sentences stand there in a row
and the rest is no question of its own: no question, no task ("Translate into French"), no number and no negation, but
what says how to answer ("Answer in 50 words.") may hold these. What a tenth of the different texts hold is a wrapper
and counts on neither side. A short question that stands behind many different beginnings ("What should I do?") is about
these, so that it is evidence of nothing. Runs of sentences are looked up by their numbers, so no text is compared with
all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftlab.data.normal import LIGHT, is_decisive, joined, without_courtesy, words_of

if TYPE_CHECKING:
    import numpy as np

_END = re.compile(r"[.!?…][\"'”’)\]*]*\s+|[。！？\n]+")
_MOST_SENTENCES = 16  # of a text in which others are looked for
_FEWEST_WORDS = 3  # of a text that is looked for
_MOST_MORE = 40  # words of the rest; behind a longer passage a question is about the passage
_WRAPPER_SHARE, _WRAPPER_TEXTS = 0.1, 6  # of the texts, and how many at least
_FEW = 5  # different beginnings behind which a question is one of its own
_ASKS = re.compile(
    r"[?？؟]|^(?:how|what|where|when|why|which|who|whose|can|could|should"
    r"|i\s+(?:also\s+)?(?:want|need|wish|would\s+like)\s+(?:to|you)|let\s+me\s+know|tell\s+me|help\s+me)\b"
)
_ASKS_NOTHING = re.compile(
    r"(?:(?:can|could|would)\s+(?:you|someone|anyone|anybody|somebody)\s+(?:please\s+)?(?:help|assist)(?:\s+(?:me|us))?"
    r"(?:\s+out)?(?:\s+with\s+(?:this|that|it))?|(?:please\s+)?help(?:\s+me)?(?:\s+out)?"
    r"|any\s+(?:ideas?|help|suggestions?|thoughts))[\s.!?]*"
)
_HOW_TO_ANSWER = re.compile(
    r"^(?:please\s+|also\s+)?(?:answer|reply|respond|think|lets\s+think|explain|keep|limit|use|be|do\s+not|dont|return"
    r"|output|give\s+(?:me\s+)?(?:only|just|a\s+(?:short|brief))|only|just|at\s+most|no\s+more\s+than|in\s+at\s+most)\b"
)
_TASKS = frozenset(
    "translate rewrite rephrase paraphrase summarize summarise classify categorize convert correct proofread identify "
    "edit reverse count spell extract list find replace compare write generate create compose describe calculate "
    "compute sort rank rate complete continue fill name label detect select choose pick analyze analyse evaluate turn "
    "transform change make remove add underline suggest define".split()
)
_POINTING = frozenset("this that it these those they them he she him her his their there".split())
_LITTLE = frozenset(
    "who whom whose what when where which why how can could should would will shall may might must if and or but of in "
    "on at for with about from by as".split()
)
_HOLLOW = LIGHT | _POINTING | _LITTLE


@dataclass
class Sentences:
    """`numbers[offsets[i]:offsets[i + 1]]` are the sentences of text i; the rest is by the number of a sentence: its
    `sizes` in words, those that say something (`content`), whether it is about something outside (`pointing`), whether
    it `adds` something that makes another question (by its words, or because it is the whole of some text), and whether
    it is a `wrapper`."""

    numbers: np.ndarray
    offsets: np.ndarray
    sizes: list[int]
    content: list[int]
    pointing: list[bool]
    adds: list[bool]
    wrapper: list[bool]

    def of(self, text: int) -> tuple[int, ...]:
        return tuple(self.numbers[self.offsets[text] : self.offsets[text + 1]].tolist())

    def core(self, sentences: Sequence[int]) -> tuple[int, ...]:
        """Without wrappers, where something is left."""
        return tuple(one for one in sentences if not self.wrapper[one]) or tuple(sentences)


class Reader:
    """Gathers the sentences of one text after the other."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # by the hash of the form: whole texts would take twice the room
        self._numbers: list[int] = []
        self._sizes: list[int] = []
        self._texts: list[int] = []
        self._different: dict[int, int] = {}
        self._content: list[int] = []
        self._pointing: list[bool] = []
        self._adds: list[bool] = []

    def read(self, plain: str, words: list[str]) -> list[str]:
        """Take a `plain_text` without courtesy, and its `words`; returns those of sentences that are more than that."""
        every: list[str] = []
        begin, before = 0, len(self._numbers)
        for end in (*(found.end() for found in _END.finditer(plain)), len(plain)):
            part, begin = plain[begin:end], end
            if len(part) < len(plain):
                whole, part = part, without_courtesy(part) if part.strip() else ""
                words = words_of(part)
                every += words_of(whole) if words and len(part) < len(whole) else words
            else:
                every += words
            if not words:
                continue
            key = hash(joined(words, part))
            if (number := self._known.get(key)) is None:
                number = self._known[key] = len(self._known)
                self._describe(part, words)
            self._numbers.append(number)
        self._different.setdefault(hash(tuple(self._numbers[before:])), len(self._texts))
        self._texts.append(len(self._numbers) - before)
        return every

    def sentences(self) -> Sentences:
        import numpy as np

        numbers = np.array(self._numbers, np.int32)
        offsets = np.concatenate([[0], np.cumsum(np.array(self._texts, np.int64))])
        single = offsets[:-1][np.diff(offsets) == 1]
        for number in np.unique(numbers[single]).tolist():
            self._adds[number] |= self._sizes[number] >= _FEWEST_WORDS
        different = np.array(list(self._different.values()), np.int64)  # copies of a text make no wrapper of it
        sizes = np.diff(offsets)
        kept = np.repeat(np.isin(np.arange(len(sizes)), different), sizes)
        owners = np.repeat(np.arange(len(sizes)), sizes)
        count = max(1, len(self._known))
        texts = np.bincount(np.unique(owners[kept] * count + numbers[kept]) % count, minlength=count)
        wrapper = texts >= max(_WRAPPER_TEXTS, _WRAPPER_SHARE * len(different))
        return Sentences(numbers, offsets, self._sizes, self._content, self._pointing, self._adds, wrapper.tolist())

    def _describe(self, part: str, words: Sequence[str]) -> None:
        self._sizes.append(len(words))
        self._content.append(sum(word not in _HOLLOW for word in words))
        self._pointing.append(not _POINTING.isdisjoint(words))
        start = part.strip()
        asks = words[0] in _TASKS or (_ASKS.search(start) is not None and not _ASKS_NOTHING.fullmatch(start))
        form = _HOW_TO_ANSWER.match(start) is not None
        self._adds.append(asks or (not form and any(map(is_decisive, words))))


def is_inside(sentences: Sentences, one: int, other: int) -> bool | None:
    """Whether one of two texts stands in the other as a whole, and the rest makes no other question of it; None where
    none does."""
    first, second = sorted((sentences.of(one), sentences.of(other)), key=len)
    return _is_inside(sentences, first, second)


def inside(sentences: Sentences) -> Iterator[tuple[list[int], list[int]]]:
    """(texts, others): the texts, which are the same, stand in each of the others."""
    import numpy as np

    if len(sentences.offsets) < 3:
        return
    counts = np.diff(sentences.offsets)
    texts: dict[tuple[int, ...], list[int]] = {}
    for text in np.flatnonzero(counts).tolist():
        texts.setdefault(sentences.core(sentences.of(text)), []).append(text)
    begins = Counter(core[0] for core in texts)
    found: dict[tuple[int, ...], list[int]] = {}
    for text in np.flatnonzero((counts > 1) & (counts <= _MOST_SENTENCES)).tolist():
        whole = sentences.core(sentences.of(text))
        for run in {*_runs(whole, begins), whole}:
            if run in texts:
                found.setdefault(run, []).append(text)
    held = {run: _within(sentences, texts[run], others) for run, others in found.items()}
    rests = Counter(rest for ways in held.values() for rest in {rest for _, some in ways for rest in some.values()})
    for ways in held.values():
        # A rest that stands around several questions is a wrapper, other ones are what a question is about.
        if len({rest for _, some in ways for rest in some.values() if rests[rest] == 1}) <= _FEW:
            yield from ((same, sorted(some)) for same, some in ways)


def _within(
    sentences: Sentences, texts: Iterable[int], others: Iterable[int]
) -> list[tuple[list[int], dict[int, frozenset[int]]]]:
    """(those of `texts` that are the same, the rest of each of the `others` that they stand in), for each way in which
    the texts are written."""
    ways: dict[tuple[int, ...], list[int]] = {}
    for text in texts:
        ways.setdefault(sentences.of(text), []).append(text)
    wholes = {other: sentences.of(other) for other in others}
    found = []
    for way, same in ways.items():
        held = [other for other, whole in wholes.items() if way != whole and _is_inside(sentences, way, whole)]
        if held:
            found.append((same, {other: frozenset(wholes[other]) - set(way) for other in held}))
    return found


def _is_inside(sentences: Sentences, short: tuple[int, ...], long: tuple[int, ...]) -> bool | None:
    if not short or len(short) >= len(long) or not set(short) <= set(long):
        return None
    rest = set(long) - set(short)
    if any(sentences.adds[one] for one in rest):
        return False
    core, whole = sentences.core(short), sentences.core(long)
    if not any(whole[at : at + len(core)] == core for at in range(len(whole) - len(core) + 1)):
        return None
    content = sum(sentences.content[one] for one in core)
    # "How can I fix this?" is about what stands before it.
    least = 2 if any(sentences.pointing[one] for one in core) else 1
    if content < least or sum(sentences.sizes[one] for one in core) < _FEWEST_WORDS:
        return None
    return sum(sentences.sizes[one] for one in rest) <= _MOST_MORE or None


def _runs(whole: tuple[int, ...], begins: Counter[int]) -> Iterator[tuple[int, ...]]:
    for at, first in enumerate(whole):
        if begins[first] > (at == 0):
            yield from (whole[at:end] for end in range(at + 1, len(whole) + 1) if end - at < len(whole))
