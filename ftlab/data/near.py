"""Which texts are the same question, nearly: one answer for the split, the checks, the leak check and blind tests.

Texts are compared by their words: Unicode forms (NFKC), case, zero-width characters and punctuation do not count. Two
texts are near copies when, without courtesy ("Please", "could you tell me", "Thanks!"),

- they hold the same numbers, signs of arithmetic, number words, negations and question words, in the same order, and
- one is the other with a word or two more, or with a typing error. Another word in place of one is another question
  ("cancel my card", "activate my card"; "is", "was"), and so is one of the topics of the data put in between ("my
  virtual card"). Of texts from 16 words on, 80% of the word trigrams in common will do where no word stands in place of
  another; from 41 words on that may be, if it is not the only difference.

One that stands as a whole in the other is a near copy where the rest is no question of its own (see
`ftlab.data.normal`).

Answers are evidence beside the prompt. Two different labels, numbers or JSON objects speak against near copies. A long
answer that a few rows share speaks for them: then prompts that share 60% of their character shingles will do (80% where
the answers are only nearly the same), whatever their numbers. Labels that are the same say nothing.

Candidates come from equal hashes of word sequences without one or two words (the deletion neighborhood of SymSpell,
Garbe 2012, for words) and, of texts from 8 words on, from MinHash (Broder 1997) with banding (Leskovec, Rajaraman,
Ullman, Mining of Massive Datasets, chapter 3): with 21 bands of 6 hashes a pair at Jaccard 0.8 is found with
probability 0.998. No step compares all texts with all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

from ftlab.data.normal import (
    LIGHT,
    LOOSE,
    Reader,
    Sentences,
    Vocabulary,
    Watch,
    Words,
    inside,
    is_decisive,
    is_inside,
    is_typo,
    joined,
    plain_text,
    typings,
    without_courtesy,
    words_of,
)

if TYPE_CHECKING:
    import numpy as np

NEAR = 0.8  # Jaccard of the word trigrams from which on two long texts are near copies
FEWEST_WORDS = 8  # words from which on trigrams tell anything
LONG = 16  # words from which on trigrams alone decide: another word is one of many
ALIKE = 0.6  # of the character shingles of the shorter prompt, where a long answer is the same
_LONG_ANSWER = 40  # characters from which on an answer says something of its own
_FEW = 5  # rows that may share an answer; what more rows share is a label or a stock phrase
_LABEL_WORDS, _LABEL_LETTERS = 5, 60  # the second for scripts without spaces
_SHINGLE = 4  # characters
_MOST_WORDS = 40  # of the texts whose deletions are looked up
_MOST_PAIRED = 16  # words up to which any two words may be left out; of longer texts neighbors only
_USUAL_TEXTS, _USUAL_SHARE = 3, 0.2  # texts that hold a word which is no typing error of one that more hold
_TOPIC_TEXTS, _TOPIC_SHARE = 10, 0.005  # of the texts a word of the topics stands in
_FRAME_WORDS = 8  # words that many rows begin or end with are a template, no part of the question
_BANDS, _HASHES = 21, 6
_PIECE = 5_000
_COMPARED = 8  # texts of a bucket that one text is compared with
_MOST_TRIES = 20  # comparisons in vain after which a text is taken for no copy
_SEED = 42
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it is 0 modulo 2^64


class Pair(NamedTuple):
    """Two positions; `how` is same (the same `normal_form`), near, or answer: the prompts may differ, and a long answer
    is the same word for word."""

    one: int
    other: int
    how: str


@dataclass
class Texts:
    """Texts as `words`, without courtesy, and without templates (what many begin or end with). `forms` are numbers that
    are equal for the same normal form, `asked` for the same but for courtesy (-1 of an empty text). `names` are the
    words by their numbers, `decisive` those that tell questions apart wherever they stand, `light` those that a
    question can lack, `topic` those of many texts, `often` how many texts hold
    each; `sentences` are those of the texts."""

    words: Words
    forms: np.ndarray
    asked: np.ndarray
    names: list[str]
    decisive: list[bool]
    light: list[bool]
    topic: list[bool]
    often: list[int]
    sentences: Sentences

    def of(self, position: int) -> list[int]:
        return self.words.of(position).tolist()


def read_texts(texts: Sequence[str], watch: Watch | None = None) -> Texts:
    """The words of `texts`, as they are compared. Raises Stopped."""
    import numpy as np

    vocabulary, reader = Vocabulary(), Reader()
    known: dict[str, int] = {}
    numbers: list[int] = []
    sizes = np.zeros(len(texts) + 1, np.int64)
    forms, asked = np.full(len(texts), -1, np.int64), np.full(len(texts), -1, np.int64)
    for position, text in (watch or Watch()).over(texts):
        plain = plain_text(text)
        words = words_of(plain)
        if form := joined(words, text):
            forms[position] = asked[position] = known.setdefault(form, len(known))
        bare = without_courtesy(plain)
        if len(bare) < len(plain) and (left := words_of(bare)):
            words = left
            asked[position] = known.setdefault(joined(words, bare), len(known))
        left = _once(reader.read(bare, words) or words)
        if len(left) < len(words):
            words = left
            asked[position] = known.setdefault(joined(words, bare), len(known))
        numbers.extend(map(vocabulary.__getitem__, words))
        sizes[position + 1] = len(words)
    whole = Words(np.array(numbers, np.int32), np.cumsum(sizes), vocabulary)
    names = list(vocabulary)
    decisive, light = [is_decisive(name) for name in names], [name in LIGHT for name in names]
    framed = _without_frames(whole)
    owners = np.repeat(np.arange(len(framed)), framed.sizes)
    once = np.unique(owners * max(1, len(names)) + framed.numbers) % max(1, len(names))
    often = np.bincount(once, minlength=len(names))
    topic = often >= max(_TOPIC_TEXTS, _TOPIC_SHARE * len(framed))
    # Adverbs are seldom what a text is about: "really", "currently".
    topics = [of_many and not name.endswith("ly") for of_many, name in zip(topic.tolist(), names, strict=True)]
    return Texts(framed, forms, asked, names, decisive, light, topics, often.tolist(), reader.sentences())


def _once(words: list[str]) -> list[str]:
    """What the words say, once: the same question two or three times is one."""
    for times in (2, 3):
        size = len(words) // times
        if size >= 3 and size * times == len(words) and words == words[:size] * times:
            return words[:size]
    return words


def near_pairs(
    prompts: Sequence[str] | Texts,
    answers: Sequence[str] | None = None,
    *,
    sides: Sequence[int] | None = None,
    across: bool = False,
    watch: Watch | None = None,
) -> Iterator[Pair]:
    """Pairs of texts that are the same or nearly (see the module): enough to connect all that are alike, not all pairs.

    `answers` stand beside the `prompts`. With `sides` pairs lie within one side, and with `across` between side 0,
    which comes first in a pair, and the others; then every text that is like one of the other side is in some pair.
    In large groups of texts from one mold each is compared with some of the others. Raises Stopped.
    """
    watch = watch or Watch()
    texts = prompts if isinstance(prompts, Texts) else read_texts(prompts, watch)
    evidence = None if answers is None else _read_answers(answers, watch)
    seen: set[tuple[int, int]] = set()

    def new(pairs: Iterator[tuple[int, int]], how: str, agree: Callable[[int, int], bool] | None) -> Iterator[Pair]:
        tried: Counter[int] = Counter()
        for pair in pairs:
            if pair in seen or max(tried[pair[0]], tried[pair[1]]) >= _MOST_TRIES:
                continue
            if agree is None or agree(*pair):
                seen.add(pair)
                yield Pair(*pair, how)
            else:
                tried.update(pair)

    def near(one: int, other: int) -> bool:
        return is_near(texts, one, other) and not (evidence and evidence.contradict(one, other))

    meet = _Meeting(sides, across)
    yield from new((pair for bucket in _equal(texts.forms) for pair in meet.within(bucket)), "same", None)
    yield from new((pair for bucket in _equal(texts.asked) for pair in meet.within(bucket)), "near", None)
    yield from new(_one_more(texts, meet), "near", near)
    yield from new(_one_other(texts, meet), "near", near)
    yield from new(_by_trigrams(texts.words, meet, watch), "near", near)
    inner = (pair for few, others in inside(texts.sentences) for pair in meet.between(few, others))
    yield from new(inner, "near", lambda one, other: not (evidence and evidence.contradict(one, other)))
    if evidence:
        yield from new(_alike_beside(texts, evidence, meet, watch), "near", None)
        yield from new((pair for bucket in evidence.copies for pair in meet.within(bucket, 1)), "answer", None)


def is_near(texts: Texts, one: int, other: int) -> bool:
    """Whether two of `texts` are near copies by their words alone."""
    if texts.asked[one] == texts.asked[other]:
        return True
    if (within := is_inside(texts.sentences, one, other)) is not None:
        return within
    short, long = sorted((texts.of(one), texts.of(other)), key=len)
    decisive = texts.decisive
    if [word for word in short if decisive[word]] != [word for word in long if decisive[word]]:
        return False
    if not short:
        return False
    difference = _difference(texts, short, long)
    if difference <= _allowed(len(short)):
        return True
    if len(short) < LONG:
        return False
    if difference == float("inf"):  # a word for another
        first, second = Counter(short), Counter(long)
        if len(short) <= _MOST_WORDS or (first - second).total() == (second - first).total() == 1:
            return False
    return _jaccard(short, long) >= NEAR


def _allowed(words: int) -> float:
    """How many words two texts may differ in, the shorter of which has `words`; a light word is half a word."""
    return 0.5 if words < 3 else 1 if words < FEWEST_WORDS else 1.5 if words < LONG else 3


def _difference(texts: Texts, short: list[int], long: list[int]) -> float:
    """Words that one has more, a typing error or a light word being half of one, a word at either end three quarters;
    infinite where another word stands in place of one, and where a word of the topics is put into a few words."""
    names = texts.names
    if len(short) == len(long) and sum(map(ne, short, long)) == 1:  # as most pairs, and the matcher is slow
        place = next(place for place, word in enumerate(short) if word != long[place])
        changes: Sequence[tuple[str, int, int, int, int]] = [("replace", place, place + 1, place, place + 1)]
    else:
        missing, more = Counter(short) - Counter(long), Counter(long) - Counter(short)
        for word in missing:
            if texts.light[word]:
                # "his" here and "her" there, or "is" and "was": no word more, but another.
                others = [one for one in more if texts.light[one]]
                if others and not any(_stands_for(texts, word, one) for one in others):
                    return float("inf")
                continue
            name = names[word]
            if not any(_stands_for(texts, word, one) or name in names[one] or names[one] in name for one in more):
                return float("inf")
        changes = SequenceMatcher(None, short, long, autojunk=False).get_opcodes()
    total = 0.0
    for kind, a, b, c, d in changes:
        left, right = short[a:b], long[c:d]
        if kind == "equal" or "".join(names[w] for w in left) == "".join(names[w] for w in right):
            continue
        if kind == "replace" and len(left) == len(right):
            for one, other in zip(left, right, strict=True):
                if not _stands_for(texts, one, other):
                    return float("inf")
                total += 0.5
        elif kind == "replace" and not all(texts.light[word] for word in left + right):
            return float("inf")
        else:
            at_end = a == 0 or b == len(short)
            content = [word for word in left + right if not texts.light[word]]
            if not at_end and len(short) < FEWEST_WORDS and any(texts.topic[word] for word in content):
                return float("inf")
            total += 0.5 * (len(left) + len(right) - len(content)) + (0.75 if at_end else 1) * len(content)
    return total


def _stands_for(texts: Texts, one: int, other: int) -> bool:
    """Whether one word is the other with a typing error, in another form, or both mean as little. Where
    several texts hold the rarer one, and not much fewer than hold the other, none of them is a typing error."""
    first, second = sorted((texts.names[one], texts.names[other]), key=len)
    if texts.light[one] and texts.light[other]:
        return LOOSE.get(first, -1) == LOOSE.get(second, -2)
    rare, often = sorted((texts.often[one], texts.often[other]))
    return is_typo(first, second, slips=rare < max(_USUAL_TEXTS, _USUAL_SHARE * often))


@dataclass
class _Meeting:
    """Who is compared with whom: all (`sides` is None), those of one side, or side 0 with the others (`across`)."""

    sides: Sequence[int] | None
    across: bool

    def within(self, bucket: list[int], most: int = _COMPARED) -> Iterator[tuple[int, int]]:
        """Pairs of a bucket, in rising order: each text with at most `most` others (up to twice that across)."""
        if self.across:
            yield from self.between(bucket, bucket, most)
            return
        for texts in self._parted(bucket).values():
            for place, later in enumerate(texts):
                for earlier in {*texts[: min(place, 1)], *texts[max(0, place - most + 1) : place]}:
                    yield earlier, later

    def between(self, left: list[int], right: list[int], most: int = _COMPARED) -> Iterator[tuple[int, int]]:
        """Pairs of one of `left` and one of `right`, so that each is in some."""
        ours, theirs = self._parted(left), self._parted(right)
        if self.across:
            for texts, others in (
                (ours.get(0, []), [text for side, some in theirs.items() if side for text in some]),
                (theirs.get(0, []), [text for side, some in ours.items() if side for text in some]),
            ):
                yield from _crossed(texts, others, most)
                if left is right:
                    return
            return
        for side, texts in ours.items():
            for one, other in _crossed(texts, theirs.get(side, []), most):
                if one != other:
                    yield min(one, other), max(one, other)

    def _parted(self, texts: list[int]) -> dict[int, list[int]]:
        if self.sides is None:
            return {0: texts}
        parts: dict[int, list[int]] = {}
        for text in texts:
            parts.setdefault(self.sides[text], []).append(text)
        return parts


def _crossed(left: list[int], right: list[int], most: int) -> Iterator[tuple[int, int]]:
    for one in left:
        for other in right[:most]:
            yield one, other
    for other in right[most:]:
        for one in left[:most]:
            yield one, other


def _equal(keys: np.ndarray, places: np.ndarray | None = None) -> Iterator[list[int]]:
    """The `places` (their indices, unless given) of two or more equal keys, each list in rising order; keys below 0
    equal none."""
    import numpy as np

    if places is None:
        places = np.flatnonzero(keys >= 0)
        keys = keys[places]
    order = np.argsort(keys, kind="stable")
    changes = np.flatnonzero(np.diff(keys[order])) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(keys))
    for number in np.flatnonzero(ends - starts > 1):
        yield places[order[starts[number] : ends[number]]].tolist()


def _by_length(words: Words) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(texts, their words, hashes of these) for each number of words up to 40: arrays of that many columns."""
    import numpy as np

    sizes = words.sizes
    for size in np.unique(sizes[(sizes > 0) & (sizes <= _MOST_WORDS)]):
        texts = np.flatnonzero(sizes == size)
        numbers = words.numbers[words.offsets[texts][:, None] + np.arange(size)]
        yield texts, numbers, _mix(numbers.astype(np.uint64) + np.uint64(1))


def _sequence(hashes: np.ndarray) -> np.ndarray:
    """One number for the words of each row, in their order."""
    import numpy as np

    powers = np.cumprod(np.full(hashes.shape[1], _BASE, np.uint64))
    return (hashes * powers).sum(axis=1, dtype=np.uint64)


def _one_more(texts: Texts, meet: _Meeting) -> Iterator[tuple[int, int]]:
    """Texts one of which has up to three words more, as far as `_allowed`: anywhere, or beside each other."""
    import numpy as np

    parts = list(_by_length(texts.words))
    if not parts:
        return
    whole = np.concatenate([_sequence(hashes) for _, _, hashes in parts])
    owners = np.concatenate([places for places, _, _ in parts])
    order = np.argsort(whole, kind="stable")
    whole, owners = whole[order], owners[order]
    keys, longer = [], []
    for places, _, hashes in parts:
        size = hashes.shape[1]
        for left_out in _left_out(size):
            kept = np.delete(np.arange(size), left_out)
            short = _sequence(hashes[:, kept])
            at = np.minimum(np.searchsorted(whole, short), len(whole) - 1)
            hit = whole[at] == short
            keys.append(short[hit])
            longer.append(places[hit])
    if not any(map(len, keys)):
        return
    key, text = np.concatenate(keys), np.concatenate(longer)
    order = np.lexsort((text, key))
    key, text = key[order], text[order]
    starts = np.flatnonzero(np.diff(key, prepend=~key[:1]))
    for start, end in zip(starts, np.append(starts[1:], len(key)), strict=True):
        low, high = np.searchsorted(whole, key[start], "left"), np.searchsorted(whole, key[start], "right")
        yield from meet.between(sorted(owners[low:high].tolist()), np.unique(text[start:end]).tolist())


def _left_out(size: int) -> Iterator[tuple[int, ...]]:
    """The places of the words that a text of `size` words may have more than another."""
    most = next((count for count in (6, 5, 4, 3, 2, 1) if count / 2 <= _allowed(size - count) and count < size), 0)
    for count in range(1, min(most, 4) + 1):
        if count == 2 and size <= _MOST_PAIRED:
            yield from combinations(range(size), 2)
        else:
            yield from (tuple(range(first, first + count)) for first in range(size - count + 1))


def _one_other(texts: Texts, meet: _Meeting) -> Iterator[tuple[int, int]]:
    """Texts with another word in one place that may stand for the first."""
    import numpy as np

    decisive = np.array(texts.decisive, bool)
    keys, places, words = [], [], []
    for texts_here, numbers, hashes in _by_length(texts.words):
        size = hashes.shape[1]
        for place in range(size):
            free = ~decisive[numbers[:, place]]
            rest = _sequence(np.delete(hashes, place, axis=1)) if size > 1 else np.zeros(len(hashes), np.uint64)
            keys.append(_mix(rest + np.uint64((place << 8) + size))[free])
            places.append(texts_here[free])
            words.append(numbers[free, place])
    if not keys:
        return
    key, text, word = np.concatenate(keys), np.concatenate(places), np.concatenate(words)
    for bucket in _equal(key, np.arange(len(key))):
        if len(set(word[bucket].tolist())) < 2:
            continue
        word_of = dict(zip(text[bucket].tolist(), word[bucket].tolist(), strict=True))
        alike: dict[str, list[int]] = {}
        for one, number in word_of.items():
            name = texts.names[number]
            for key_of in (*typings(name), *([f"set {LOOSE[name]}"] if name in LOOSE else [])):
                alike.setdefault(key_of, []).append(one)
        for members in alike.values():
            if len(members) > 1:
                pairs = meet.within(sorted(members))
                yield from (pair for pair in pairs if _stands_for(texts, word_of[pair[0]], word_of[pair[1]]))


def _by_trigrams(words: Words, meet: _Meeting, watch: Watch) -> Iterator[tuple[int, int]]:
    """Texts from 8 words on that seem to share their trigrams."""
    import numpy as np

    long = np.flatnonzero(words.sizes >= FEWEST_WORDS)
    if len(long) < 2:
        return
    signatures = _signatures(_only(words, long), watch)
    place_of = np.full(len(words), -1, np.int64)
    place_of[long] = np.arange(len(long))
    enough = (NEAR - 0.15) * _BANDS * _HASHES  # four standard deviations below
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        watch.at(band, _BANDS)
        keys = np.zeros(len(long), np.uint64)
        for column in range(band * _HASHES, (band + 1) * _HASHES):
            keys = _mix(keys * np.uint64(31) + signatures[:, column].astype(np.uint64))
        for bucket in _equal(keys, long):
            for one, other in meet.within(bucket):
                if (one, other) in seen:
                    continue
                if np.count_nonzero(signatures[place_of[one]] == signatures[place_of[other]]) >= enough:
                    seen.add((one, other))
                    yield one, other
    watch.at(_BANDS, _BANDS)


def _signatures(words: Words, watch: Watch) -> np.ndarray:
    import numpy as np
    from rensa import RMinHash

    total, count = len(words), _BANDS * _HASHES
    signatures = np.zeros((total, count), np.uint32)
    for begin in range(0, total, _PIECE):  # a piece at a time: hashes take many times the room of the text
        watch.at(begin, total)
        end = min(begin + _PIECE, total)
        hashes, offsets = _trigrams(words.part(begin, end))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), count, _SEED)
        signatures[begin:end] = np.array(matrix.to_rows(), np.uint32)
    return signatures


def _trigrams(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of all runs of three words of each text, which has three or more."""
    import numpy as np

    sizes = words.sizes
    numbers = words.numbers.astype(np.uint64) + np.uint64(1)
    mixed = [_mix(numbers + np.uint64(place << 40)) for place in range(3)]
    every = _mix(mixed[0][:-2] + mixed[1][1:-1] * np.uint64(3) + mixed[2][2:] * np.uint64(5))
    inside = np.arange(len(numbers)) - np.repeat(words.offsets[:-1], sizes)
    keep = (inside < np.repeat(sizes - 2, sizes))[:-2]
    return every[keep], np.concatenate([[0], np.cumsum(sizes - 2)])


def _only(words: Words, texts: np.ndarray) -> Words:
    """These `texts` alone, in rising order."""
    import numpy as np

    keep = np.zeros(len(words), bool)
    keep[texts] = True
    offsets = np.concatenate([[0], np.cumsum(words.sizes[texts])])
    return Words(words.numbers[np.repeat(keep, words.sizes)], offsets, words.vocabulary)


def share_trigrams(words: Words, one: int, other: int) -> bool:
    """Whether two texts have 80% of their word trigrams in common (Jaccard)."""
    return _jaccard(words.of(one).tolist(), words.of(other).tolist()) >= NEAR


def _jaccard(one: list[int], other: list[int]) -> float:
    first, second = (set(zip(words, words[1:], words[2:], strict=False)) for words in (one, other))
    return len(first & second) / max(1, len(first | second))


def _without_frames(words: Words) -> Words:
    """The words of each text without those that many begin or end with, where something is left: a prompt template, or
    the list of labels. Many are a tenth of the texts and twenty, or half of few texts."""
    import numpy as np

    many = max(0.1 * len(words), min(20, 0.5 * len(words)), 6)
    heads, tails = _shared(words, many, 1), _shared(words, many, -1)
    whole = heads + tails >= words.sizes
    heads[whole], tails[whole] = 0, 0
    inside = np.arange(len(words.numbers)) - np.repeat(words.offsets[:-1], words.sizes)
    sizes = words.sizes - heads - tails
    keep = (inside >= np.repeat(heads, words.sizes)) & (inside < np.repeat(words.sizes - tails, words.sizes))
    return Words(words.numbers[keep], np.concatenate([[0], np.cumsum(sizes)]), words.vocabulary)


def _shared(words: Words, many: float, step: int) -> np.ndarray:
    """How many words at the beginning (`step` 1) or the end (-1) of each text are a template: 8 or more in a row after
    which none of `many` texts that began alike goes another way."""
    import numpy as np

    sizes, begin = words.sizes, words.offsets[:-1] if step > 0 else words.offsets[1:] - 1
    counts, run, before = (np.zeros(len(words), np.int64) for _ in range(3))
    texts, keys = np.flatnonzero(sizes > 0), np.zeros(len(words), np.uint64)
    length = 0
    while len(texts):
        numbers = words.numbers[begin[texts] + step * length].astype(np.uint64)
        keys[texts] = _mix(keys[texts] * np.uint64(31) + numbers + np.uint64(1))
        _, which, often = np.unique(keys[texts], return_inverse=True, return_counts=True)
        now = often[which]
        run[texts] = np.where(now == before[texts], run[texts] + 1, 1)
        before[texts] = now
        texts = texts[now >= many]
        length += 1
        whole = texts[run[texts] >= _FRAME_WORDS]
        counts[whole] = length
        texts = texts[sizes[texts] > length]
    return counts


@dataclass
class _Answers:
    """What was answered: `labels` are answers of which only one can be right, `copies` the positions of long answers
    that are the same, where answers mostly are not."""

    texts: Texts
    labels: list[bool]
    shared: np.ndarray  # long answers that a few rows share (or one has) by their normal form, else -1
    copies: list[list[int]]
    usual: np.ndarray  # whether several rows have the answer

    def contradict(self, one: int, other: int) -> bool:
        if not (self.labels[one] and self.labels[other]) or self.texts.forms[one] == self.texts.forms[other]:
            return False
        if self.usual[one] and self.usual[other]:
            return True
        first, second = set(self.texts.of(one)), set(self.texts.of(other))
        return not (first <= second or second <= first)  # "Paris", "It is Paris"


def is_label(answer: str) -> bool:
    """Whether an answer is a label, a number or JSON, of which only one can be right."""
    few = len(answer.split(None, _LABEL_WORDS)) <= _LABEL_WORDS and len(answer) <= _LABEL_LETTERS
    return few or answer.lstrip()[:1] in ("{", "[")


def _read_answers(answers: Sequence[str], watch: Watch) -> _Answers:
    import numpy as np

    texts = read_texts(answers, watch)
    labels = [bool(answer.strip()) and is_label(answer) for answer in answers]  # of no answer nothing is known
    long = np.array([len(answer) >= _LONG_ANSWER for answer in answers], bool) & ~np.array(labels, bool)
    long &= texts.forms >= 0
    counts = np.bincount(texts.forms[long], minlength=int(texts.forms.max(initial=0)) + 1)
    shared = np.where(long & (counts[texts.forms] <= _FEW), texts.forms, -1)
    repeated = long & (counts[texts.forms] > 1)
    unusual = repeated.sum() <= 0.2 * long.sum()
    usual = np.bincount(texts.forms + 1, minlength=1)[texts.forms + 1] > 2
    return _Answers(texts, labels, shared, list(_equal(shared)) if unusual else [], usual)


def _alike_beside(texts: Texts, evidence: _Answers, meet: _Meeting, watch: Watch) -> Iterator[tuple[int, int]]:
    """Texts that are somewhat alike, whose long answers are the same or nearly, and not those of many."""
    for bucket in _equal(evidence.shared):
        yield from (pair for pair in meet.within(bucket) if _share_shingles(texts, *pair, ALIKE))
    for one, other in _by_trigrams(evidence.texts.words, meet, watch):
        if min(evidence.shared[one], evidence.shared[other]) < 0:
            continue
        if is_near(evidence.texts, one, other) and _share_shingles(texts, one, other, NEAR):
            yield one, other


def _share_shingles(texts: Texts, one: int, other: int, share: float) -> bool:
    """Whether this share of the character shingles of one text is in the other."""
    first, second = (_shingles(" ".join(texts.names[word] for word in texts.of(text))) for text in (one, other))
    return len(first & second) >= share * max(1, min(len(first), len(second)))


def _shingles(text: str) -> set[str]:
    return {text[place : place + _SHINGLE] for place in range(max(1, len(text) - _SHINGLE + 1))}


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: spreads neighboring numbers over all 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
