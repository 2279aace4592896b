"""Near copies: which texts ask the same question. The split, the checks, the leak check and blind tests use it.

Texts are compared by their words. Unicode form (NFKC), case, zero-width characters and punctuation do not count, nor
does courtesy ("Please", "could you tell me", "Thanks!"). Two texts are near copies if

- they hold the same numbers, arithmetic signs, number words, negations and question words, in the same order, and
- one has at most a word or two more than the other, or a typo. A different word makes a different question ("cancel my
  card", "activate my card"; "is", "was"), and so does an inserted topic word of the data ("my virtual card"). From 16
  words on, sharing 80% of the word trigrams is enough, as long as no word is replaced by another; from 41 words on,
  words may be replaced too, unless a single one is the only difference.

A text that occurs whole inside another is a near copy of it, unless the rest asks something of its own (see
`ftlab.data.normal`).

Answers count as evidence. Two different labels, numbers or JSON objects rule out near copies. A long answer shared by a
few rows supports them: then prompts need to share only 60% of their character shingles (80% if the answers are merely
near copies), whatever their numbers. Equal labels are no evidence.

Candidates come from equal hashes of word sequences with a few words left out (the deletion neighborhood of SymSpell,
Garbe 2012, on words) and, from 8 words on, from MinHash (Broder 1997) with banding (Leskovec, Rajaraman, Ullman, Mining
of Massive Datasets, chapter 3): 21 bands of 6 hashes find a pair at Jaccard 0.8 with probability 0.998. No step
compares every text with every other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations, product
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

from ftlab.data.normal import (
    LIGHT,
    LOOSE,
    SentenceReader,
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

NEAR = 0.8  # Jaccard of the word trigrams that makes two long texts near copies
FEWEST_WORDS = 8  # in a text for trigrams to mean anything
LONG = 16  # words in a text for trigrams alone to decide
ALIKE = 0.6  # share of the character shingles of the shorter prompt, if a long answer is the same
_LONG_ANSWER = 40  # characters in an answer for it to be specific to its prompt
_FEW = 5  # rows that may share an answer; an answer of more rows is a label or a stock phrase
_LABEL_WORDS, _LABEL_LETTERS = 5, 60  # at most in a label; letters are for scripts without spaces
_SHINGLE = 4  # characters
_MOST_WORDS = 40  # in a text whose deletions are looked up
_MOST_PAIRED = 16  # words in a text that may lack any two words; longer ones lack only adjacent words
_USUAL_TEXTS, _USUAL_SHARE = 3, 0.2  # texts, and share of those with the other word, that make a word no typo
_TOPIC_TEXTS, _TOPIC_SHARE = 10, 0.005  # texts, and share of all texts, that make a word a topic
_FRAME_WORDS = 8  # at the start or end of many rows form a template, which is not part of the question
_BANDS, _HASHES = 21, 6
_PIECE = 5_000
_COMPARED = 8  # texts of a bucket that each of its texts is compared with
_MOST_TRIES = 20  # failed comparisons after which a text is taken to have no copy
_SEED = 42
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it is 0 modulo 2^64


class Pair(NamedTuple):
    """Two positions. `how` is "same" (equal `normal_form`), "near", or "answer" (a long answer is the same word for
    word, and the prompts may differ)."""

    first: int
    second: int
    how: str


@dataclass
class Texts:
    """The `words` of texts, without courtesy and templates (what many texts begin or end with).

    `forms` holds numbers that are equal for equal normal forms, `asked` for equal normal forms without courtesy (-1 for
    an empty text). By word number: `names` is its text, `decisive` whether it distinguishes questions in any position,
    `light` whether a question can do without it, `topic` whether many texts have it, and `often` how many do.
    """

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
    """`texts` in the form that is compared. Raises Stopped."""
    import numpy as np

    vocabulary, reader = Vocabulary(), SentenceReader()
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
    # Adverbs ("really", "currently") are seldom the topic.
    topics = [of_many and not name.endswith("ly") for of_many, name in zip(topic.tolist(), names, strict=True)]
    return Texts(framed, forms, asked, names, decisive, light, topics, often.tolist(), reader.sentences())


def _once(words: list[str]) -> list[str]:
    """`words` without repetition: a question asked two or three times in a row counts once."""
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
    """Pairs of copies and near copies (see the module): enough to connect all texts that are alike, not every pair.

    `answers` are those of the `prompts`. With `sides`, both texts of a pair are on one side. With `across`, the first
    is on side 0 and the second on another side, and every text with a copy across is in some pair. In large groups of
    texts from one template, each text is compared with some of the others. Raises Stopped.
    """
    watch = watch or Watch()
    texts = prompts if isinstance(prompts, Texts) else read_texts(prompts, watch)
    evidence = None if answers is None else _read_answers(answers, watch)
    seen: set[tuple[int, int]] = set()

    def new(pairs: Iterator[tuple[int, int]], how: str, holds: Callable[[int, int], bool] | None) -> Iterator[Pair]:
        tried: Counter[int] = Counter()
        for pair in pairs:
            if pair in seen or max(tried[pair[0]], tried[pair[1]]) >= _MOST_TRIES:
                continue
            if holds is None or holds(*pair):
                seen.add(pair)
                yield Pair(*pair, how)
            else:
                tried.update(pair)

    def agree(first: int, second: int) -> bool:
        return not (evidence and evidence.contradict(first, second))

    def near(first: int, second: int) -> bool:
        return is_near(texts, first, second) and agree(first, second)

    meet = _Meeting(sides, across)
    yield from new((pair for bucket in _equal(texts.forms) for pair in meet.within(bucket)), "same", None)
    yield from new((pair for bucket in _equal(texts.asked) for pair in meet.within(bucket)), "near", None)
    yield from new(_one_more(texts, meet), "near", near)
    yield from new(_one_other(texts, meet), "near", near)
    yield from new(_by_trigrams(texts.words, meet, watch), "near", near)
    inner = (pair for few, others in inside(texts.sentences) for pair in meet.between(few, others))
    yield from new(inner, "near", agree)
    if evidence:
        yield from new(_alike_beside(texts, evidence, meet, watch), "near", None)
        yield from new((pair for bucket in evidence.copies for pair in meet.within(bucket, 1)), "answer", None)


def is_near(texts: Texts, first: int, second: int) -> bool:
    """Whether the texts at two positions are near copies by their words alone."""
    if texts.asked[first] == texts.asked[second]:
        return True
    if (within := is_inside(texts.sentences, first, second)) is not None:
        return within
    short, long = sorted((texts.of(first), texts.of(second)), key=len)
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
    if difference == float("inf"):  # a word is replaced
        missing, extra = Counter(short) - Counter(long), Counter(long) - Counter(short)
        if len(short) <= _MOST_WORDS or missing.total() == extra.total() == 1:
            return False
    return _jaccard(short, long) >= NEAR


def _allowed(words: int) -> float:
    """The words by which near copies may differ, if the shorter one has `words`; a light word counts half."""
    return 0.5 if words < 3 else 1 if words < FEWEST_WORDS else 1.5 if words < LONG else 3


def _difference(texts: Texts, short: list[int], long: list[int]) -> float:
    """The words by which two texts differ: a typo or a light word counts half, a word at either end three quarters.
    Infinite if a word is replaced by another, or if a topic word is inserted into a short text."""
    names = texts.names
    if len(short) == len(long) and sum(map(ne, short, long)) == 1:  # most pairs; the matcher is slow
        place = next(place for place, word in enumerate(short) if word != long[place])
        changes: Sequence[tuple[str, int, int, int, int]] = [("replace", place, place + 1, place, place + 1)]
    else:
        missing, more = Counter(short) - Counter(long), Counter(long) - Counter(short)
        for word in missing:
            if texts.light[word]:
                # "his" against "her", or "is" against "was": not an extra word but a different one.
                others = [extra for extra in more if texts.light[extra]]
                if others and not any(_stands_for(texts, word, extra) for extra in others):
                    return float("inf")
                continue
            name = names[word]
            if not any(_stands_for(texts, word, new) or name in names[new] or names[new] in name for new in more):
                return float("inf")
        changes = SequenceMatcher(None, short, long, autojunk=False).get_opcodes()
    total = 0.0
    for kind, a, b, c, d in changes:
        left, right = short[a:b], long[c:d]
        if kind == "equal" or "".join(names[w] for w in left) == "".join(names[w] for w in right):
            continue
        if kind == "replace" and len(left) == len(right):
            for word, replacement in zip(left, right, strict=True):
                if not _stands_for(texts, word, replacement):
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


def _stands_for(texts: Texts, word: int, other: int) -> bool:
    """Whether two words are interchangeable: one is a typo or another form of the other, or both are light words of one
    set. Neither is a typo if several texts have the rarer one, and not many fewer than have the other."""
    short, long = sorted((texts.names[word], texts.names[other]), key=len)
    if texts.light[word] and texts.light[other]:
        return LOOSE.get(short, -1) == LOOSE.get(long, -2)
    rare, often = sorted((texts.often[word], texts.often[other]))
    return is_typo(short, long, slips=rare < max(_USUAL_TEXTS, _USUAL_SHARE * often))


@dataclass
class _Meeting:
    """Which texts are compared: all (`sides` is None), those on one side, or side 0 with the others (`across`)."""

    sides: Sequence[int] | None
    across: bool

    def within(self, bucket: list[int], most: int = _COMPARED) -> Iterator[tuple[int, int]]:
        """Pairs of a bucket, in ascending order: each text with at most `most` others (up to twice that across)."""
        if self.across:
            yield from self.between(bucket, bucket, most)
            return
        for texts in self._parted(bucket).values():
            for place, later in enumerate(texts):
                for earlier in {*texts[: min(place, 1)], *texts[max(0, place - most + 1) : place]}:
                    yield earlier, later

    def between(self, left: list[int], right: list[int], most: int = _COMPARED) -> Iterator[tuple[int, int]]:
        """Pairs of a text in `left` and one in `right`; every text is in at least one pair."""
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
            for first, second in _crossed(texts, theirs.get(side, []), most):
                if first != second:
                    yield min(first, second), max(first, second)

    def _parted(self, texts: list[int]) -> dict[int, list[int]]:
        if self.sides is None:
            return {0: texts}
        parts: dict[int, list[int]] = {}
        for text in texts:
            parts.setdefault(self.sides[text], []).append(text)
        return parts


def _crossed(left: list[int], right: list[int], most: int) -> Iterator[tuple[int, int]]:
    yield from product(left, right[:most])
    yield from ((ours, theirs) for theirs in right[most:] for ours in left[:most])


def _equal(keys: np.ndarray, places: np.ndarray | None = None) -> Iterator[list[int]]:
    """The `places` (by default indices) of every group of equal keys, each in ascending order. Negative keys equal
    nothing."""
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
    """(texts, their words, hashes of the words) for each text length up to 40 words; a column per word."""
    import numpy as np

    sizes = words.sizes
    for size in np.unique(sizes[(sizes > 0) & (sizes <= _MOST_WORDS)]):
        texts = np.flatnonzero(sizes == size)
        numbers = words.numbers[words.offsets[texts][:, None] + np.arange(size)]
        yield texts, numbers, _mix(numbers.astype(np.uint64) + np.uint64(1))


def _sequence(hashes: np.ndarray) -> np.ndarray:
    """One hash per row for its sequence of words."""
    import numpy as np

    powers = np.cumprod(np.full(hashes.shape[1], _BASE, np.uint64))
    return (hashes * powers).sum(axis=1, dtype=np.uint64)


def _one_more(texts: Texts, meet: _Meeting) -> Iterator[tuple[int, int]]:
    """Pairs in which one text has more words, within `_allowed`: up to two anywhere, or more that are adjacent."""
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
    """The places of words that a text of `size` words may have in addition to another."""
    most = next((count for count in (6, 5, 4, 3, 2, 1) if count / 2 <= _allowed(size - count) and count < size), 0)
    for count in range(1, min(most, 4) + 1):
        if count == 2 and size <= _MOST_PAIRED:
            yield from combinations(range(size), 2)
        else:
            yield from (tuple(range(first, first + count)) for first in range(size - count + 1))


def _one_other(texts: Texts, meet: _Meeting) -> Iterator[tuple[int, int]]:
    """Pairs that differ in one word, if the two words are interchangeable."""
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
        for position, number in word_of.items():
            name = texts.names[number]
            for key_of in (*typings(name), *([f"set {LOOSE[name]}"] if name in LOOSE else [])):
                alike.setdefault(key_of, []).append(position)
        for members in alike.values():
            if len(members) > 1:
                pairs = meet.within(sorted(members))
                yield from (pair for pair in pairs if _stands_for(texts, word_of[pair[0]], word_of[pair[1]]))


def _by_trigrams(words: Words, meet: _Meeting, watch: Watch) -> Iterator[tuple[int, int]]:
    """Pairs of texts of 8 words or more that probably share their trigrams, by MinHash."""
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
            for pair in meet.within(bucket):
                if pair in seen:
                    continue
                first, second = signatures[place_of[pair[0]]], signatures[place_of[pair[1]]]
                if np.count_nonzero(first == second) >= enough:
                    seen.add(pair)
                    yield pair
    watch.at(_BANDS, _BANDS)


def _signatures(words: Words, watch: Watch) -> np.ndarray:
    import numpy as np
    from rensa import RMinHash

    total, count = len(words), _BANDS * _HASHES
    signatures = np.zeros((total, count), np.uint32)
    for begin in range(0, total, _PIECE):  # in pieces: the hashes take many times the memory of the text
        watch.at(begin, total)
        end = min(begin + _PIECE, total)
        hashes, offsets = _trigrams(words.part(begin, end))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), count, _SEED)
        signatures[begin:end] = np.array(matrix.to_rows(), np.uint32)
    return signatures


def _trigrams(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of all word trigrams of texts with three or more words."""
    import numpy as np

    sizes = words.sizes
    numbers = words.numbers.astype(np.uint64) + np.uint64(1)
    mixed = [_mix(numbers + np.uint64(place << 40)) for place in range(3)]
    every = _mix(mixed[0][:-2] + mixed[1][1:-1] * np.uint64(3) + mixed[2][2:] * np.uint64(5))
    inside = np.arange(len(numbers)) - np.repeat(words.offsets[:-1], sizes)
    keep = (inside < np.repeat(sizes - 2, sizes))[:-2]
    return every[keep], np.concatenate([[0], np.cumsum(sizes - 2)])


def _only(words: Words, texts: np.ndarray) -> Words:
    """Only these `texts`, in ascending order."""
    import numpy as np

    keep = np.zeros(len(words), bool)
    keep[texts] = True
    offsets = np.concatenate([[0], np.cumsum(words.sizes[texts])])
    return Words(words.numbers[np.repeat(keep, words.sizes)], offsets, words.vocabulary)


def share_trigrams(words: Words, first: int, second: int) -> bool:
    """Whether two texts share 80% of their word trigrams (Jaccard)."""
    return _jaccard(words.of(first).tolist(), words.of(second).tolist()) >= NEAR


def _jaccard(*texts: list[int]) -> float:
    first, second = (set(zip(words, words[1:], words[2:], strict=False)) for words in texts)
    return len(first & second) / max(1, len(first | second))


def _without_frames(words: Words) -> Words:
    """The words without templates: what many texts begin or end with, such as a prompt template or the list of labels.
    A text that consists only of a template is kept. Many means a tenth of the texts and at least 20, or half of a small
    set."""
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
    """The number of template words at the start (`step` 1) or the end (-1) of each text: a shared sequence, up to the
    last run of 8 words over which none of at least `many` texts diverges."""
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
    """The answers as evidence. `labels` says which answers are labels, of which only one can be right; `copies` holds
    the positions of equal long answers, if most long answers are unique."""

    texts: Texts
    labels: list[bool]
    shared: np.ndarray  # the normal form (a number) of a long answer of one or a few rows, else -1
    copies: list[list[int]]
    usual: np.ndarray  # whether three or more rows have the answer

    def contradict(self, first: int, second: int) -> bool:
        if not (self.labels[first] and self.labels[second]) or self.texts.forms[first] == self.texts.forms[second]:
            return False
        if self.usual[first] and self.usual[second]:
            return True
        left, right = set(self.texts.of(first)), set(self.texts.of(second))
        return not (left <= right or right <= left)  # "Paris", "It is Paris"


def is_label(answer: str) -> bool:
    """Whether an answer is a label, a number or JSON, of which only one can be right."""
    few = len(answer.split(None, _LABEL_WORDS)) <= _LABEL_WORDS and len(answer) <= _LABEL_LETTERS
    return few or answer.lstrip()[:1] in ("{", "[")


def _read_answers(answers: Sequence[str], watch: Watch) -> _Answers:
    import numpy as np

    texts = read_texts(answers, watch)
    labels = [bool(answer.strip()) and is_label(answer) for answer in answers]  # an empty answer says nothing
    long = np.array([len(answer) >= _LONG_ANSWER for answer in answers], bool) & ~np.array(labels, bool)
    long &= texts.forms >= 0
    counts = np.bincount(texts.forms[long], minlength=int(texts.forms.max(initial=0)) + 1)
    shared = np.where(long & (counts[texts.forms] <= _FEW), texts.forms, -1)
    repeated = long & (counts[texts.forms] > 1)
    unusual = repeated.sum() <= 0.2 * long.sum()
    usual = np.bincount(texts.forms + 1, minlength=1)[texts.forms + 1] > 2
    return _Answers(texts, labels, shared, list(_equal(shared)) if unusual else [], usual)


def _alike_beside(texts: Texts, evidence: _Answers, meet: _Meeting, watch: Watch) -> Iterator[tuple[int, int]]:
    """Pairs of somewhat similar prompts whose long answers are copies or near copies and not common."""
    for bucket in _equal(evidence.shared):
        yield from (pair for pair in meet.within(bucket) if _share_shingles(texts, *pair, ALIKE))
    for pair in _by_trigrams(evidence.texts.words, meet, watch):
        if min(evidence.shared[place] for place in pair) < 0:
            continue
        if is_near(evidence.texts, *pair) and _share_shingles(texts, *pair, NEAR):
            yield pair


def _share_shingles(texts: Texts, first: int, second: int, share: float) -> bool:
    """Whether two texts have this `share` of the character shingles of the shorter one in common."""
    left, right = (_shingles(" ".join(texts.names[word] for word in texts.of(text))) for text in (first, second))
    return len(left & right) >= share * max(1, min(len(left), len(right)))


def _shingles(text: str) -> set[str]:
    return {text[place : place + _SHINGLE] for place in range(max(1, len(text) - _SHINGLE + 1))}


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: spreads neighboring numbers over all 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
