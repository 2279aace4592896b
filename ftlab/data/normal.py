"""Texts in the forms that are compared: words in flat arrays, normal forms, and questions contained in longer texts.

Long comparisons report their progress to a `Watch`, which can also stop them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex

from ftlab.core.jobs import Stopped

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[str, int, int], None]
CHUNK = 2000  # rows between two checks for a stop request


@dataclass
class Watch:
    """Reports the progress of a check and responds to the Stop button: `at` raises Stopped."""

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
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
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


_ZERO_WIDTH = regex.compile(r"[\p{Cf}\u034f\u115f\u1160\u3164\ufe00-\ufe0f]+")
_RAISED = regex.compile(r"[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")  # NFKC alone makes 52 of 5²
_WRAPPED = regex.compile(r"\s*<([a-z][a-z0-9]*)(?:\s[^<>]*)?>(.*)</\1\s*>\s*", regex.DOTALL)
# Letters that look like Latin ones, from Unicode's confusables.txt (UTS #39): Cyrillic, then Greek. Names in blind
# tests also use the table (`arena.links`).
_CYRILLIC = ("АВЕКМНОРСТУХІЈЅаеорсухѕіјһԁԛԝѵ", "ABEKMHOPCTYXIJSaeopcyxsijhdqwv")
_FROM_CYRILLIC = str.maketrans(*_CYRILLIC)
_TO_CYRILLIC = str.maketrans(_CYRILLIC[1], _CYRILLIC[0])
LATIN_LOOKS = dict(zip(_CYRILLIC[0] + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανρυι", _CYRILLIC[1] + "ABEZHIKMNOPTYXoavpui", strict=True))
_TO_LATIN = str.maketrans(LATIN_LOOKS)
_OTHER_SCRIPT = regex.compile(r"[\p{Cyrillic}\p{Greek}]")
_MIXED = regex.compile(r"(?=\p{L}*\p{Latin})(?=\p{L}*[\p{Cyrillic}\p{Greek}])\p{L}{2,}")
# Acronyms that are a different word in lower case; in text of a single case, only an article distinguishes them.
_ACRONYM = regex.compile(r"(?<![\p{L}\p{N}.])(?:(US|IT|WHO)(?![\p{L}\p{N}])|U\.S(?:\.A)?\.?(?![\p{L}\p{N}]))")
_THE_US = regex.compile(r"\b(the|a|non)([ -])us\b")
_APOSTROPHE = regex.compile(r"(?<=\p{L})['’ʼ‘`´](?=\p{L})")
_TOKEN = regex.compile(
    rf"[{_IDEOGRAPHS}]"
    r"|\d+(?:[.,]\d+)+"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{_IDEOGRAPHS}]]+#?"
    r"|(?!\p{Extended_Pictographic})[+<>=×÷±√∞≤≥≠≈%\p{Sc}\p{So}]"  # emoji do not change a question
    r"|[-−*/^](?=\s*[\d(])",
    regex.V1,
)
_BETWEEN_WORDS = regex.compile(r"(?<!\d) | (?!\d)")
_THOUSANDS = regex.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_GREETING = (
    r"(?:hi|hello|hey|dear\s+(?:sir|madam|team|all)|good\s+(?:morning|afternoon|evening))(?:\s+there|\s+team|\s+all|\s+guys|\s+everyone)?"
    r"\s*[,.!:\n–-]+"
)
_OPENING = regex.compile(  # of text in lower case
    rf"^\s*(?:(?:{_GREETING}|(?:please|pls|plz|kindly)\b,?"
    r"|(?:can|could|would)\s+you\b(?:\s+please\b|\s+kindly\b)?(?:\s+(?:tell|explain\s+to|help|show)\s+me\b|\s+let\s+me\s+know\b)?"
    r"|(?:please\s+)?tell\s+me\b|i(?:\s+would|'d|’d)\s+like\s+to\s+know\b|i\s+want\s+to\s+know\b|do\s+you\s+know\b"
    r"|i\s+was\s+wondering\b(?:\s+(?:if|whether)\b)?|(?:a\s+)?quick\s+question\s*[:,.!-]|ok(?:ay)?\s+so\b|q(?:uestion)?\s*:)[\s,:]*)+"
)
_CLOSING = regex.compile(
    r"(?:[,.!?;\n–-]+\s*(?:please(?:\s+help(?:\s+me)?)?|its\s+urgent|a(?:nswer)?\s*:"
    r"|(?:best|kind|warm)(?:\s+regards)?,?\s*\n[^\n.?!]{1,40}|pls|plz|thanks|thank\s+you|thx|cheers|many\s+thanks)"
    r"(?:\s+a\s+lot|\s+very\s+much|\s+so\s+much|\s+in\s+advance|\s+for\s+your\s+help)?[\s.!]*)+$"
)
_NUMBER_WORDS = frozenset(
    "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "twice".split()
)
# Words for what is asked, how many, and which relation: changing one changes the question, however long it is.
_TELLING = frozenset(
    "who whom whose what when where which why how or only every each all both more less fewer most least first "
    "last".split()
)
_NEGATIONS = frozenset(
    "not no never without neither nor none nothing nobody nicht kein keine keinen keinem keiner keines nie niemals "
    "ohne pas jamais sans sin nunca jamás não sem nem niet geen zonder не нет ни без "
    "ikke inte ingen değil yok không नहीं न لا لم لن ليس 不 没 無 无 否 非 未".split()
)
# Contractions typed without an apostrophe that are not words themselves.
_CONTRACTIONS = {
    f"{verb}nt": f"{verb} not"
    for verb in "do does did is are was were has have had should would could must need".split()
} | {
    "cant": "can not",
    "cannot": "can not",
    "wont": "will not",
    "im": "i am",
    "ive": "i have",
    "whats": "what is",
    "wheres": "where is",
    "hows": "how is",
    "whos": "who is",
    "thats": "that is",
    "theres": "there is",
    "youre": "you are",
    "theyre": "they are",
}
# Words whose presence does not change a question.
LIGHT = frozenset(
    "a an the my your our his her its their this that these those some any of also just very really actually exactly "
    "exact quickly simply currently still yet already again now today here there right perhaps maybe please kindly "
    "thank thanks do does did is are am be been was were have has i me we you it to so then bitte danke".split()
)


def normal_form(text: str) -> str:
    """A form that is equal for texts that differ only in case, Unicode form, zero-width characters, spaces and
    punctuation. Numbers are unified ("1,000" is 1000) and contractions expanded ("can't" is can not). In a text without
    words, only spaces are normalized."""
    return joined(words_of(plain_text(text)), text)


def plain_text(text: str) -> str:
    """`text` in lower case and Unicode form NFKC, without zero-width characters and apostrophes in words."""
    if not text.isascii():
        text = _in_one_script(_ZERO_WIDTH.sub("", text))
    if _ACRONYM.search(text) and 2 * sum(map(str.islower, text)) > sum(map(str.isalpha, text)):
        text = _ACRONYM.sub(lambda match: "USA" if match[1] in ("US", None) else f"{match[1]}#", text)
    if text.isascii():
        text = text.lower()
    else:
        text = _APOSTROPHE.sub("'", _RAISED.sub(r"^\g<0>", text))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if "us" in text:
        text = _THE_US.sub(r"\1\2usa", text)
    while text.rstrip().endswith(">") and (wrapped := _WRAPPED.fullmatch(text)):
        text = wrapped[2]
    return _APOSTROPHE.sub("", text) if "'" in text else text


def _in_one_script(text: str) -> str:
    """`text` with lookalike letters (a Cyrillic о in a Latin word) replaced by those of the word's script."""
    if not (_OTHER_SCRIPT.search(text) and regex.search(r"\p{Latin}", text)):
        return text
    text = _MIXED.sub(lambda match: _word_in_one_script(match[0]), text)
    # A whole word ("а") counts as Latin if the text is mostly Latin and all its Cyrillic letters have Latin lookalikes.
    cyrillic = regex.findall(r"\p{Cyrillic}", text)
    if cyrillic and set(cyrillic) <= set(_CYRILLIC[0]) and len(cyrillic) < len(regex.findall(r"\p{Latin}", text)):
        text = text.translate(_FROM_CYRILLIC)
    return text


def _word_in_one_script(word: str) -> str:
    if len(word) < 4 and regex.search(r"\p{Greek}", word):
        return word  # ρgh is a formula
    latin = word.translate(_TO_LATIN)
    if not _OTHER_SCRIPT.search(latin):
        return latin
    cyrillic = word.translate(_TO_CYRILLIC)
    return word if regex.search(r"\p{Latin}", cyrillic) else cyrillic


def words_of(plain: str) -> list[str]:
    """The words, numbers and signs of a `plain_text`."""
    words = _TOKEN.findall(plain)
    if "," in plain:
        words = [word.replace(",", "") if _THOUSANDS.fullmatch(word) else word for word in words]
    if not _CONTRACTIONS.keys().isdisjoint(words):
        words = [part for word in words for part in _CONTRACTIONS.get(word, word).split()]
    return words


def joined(words: Sequence[str], text: str) -> str:
    """The `words` of `text` without spaces ("log in" is "login"), except between digits."""
    form = " ".join(words)
    if not form:
        return " ".join(text.split())
    return _BETWEEN_WORDS.sub("", form) if any(map(str.isdigit, form)) else form.replace(" ", "")


def without_courtesy(plain: str) -> str:
    """A `plain_text` without an opening (a greeting, "please", "could you tell me") and without closing thanks."""
    return _CLOSING.sub("", _OPENING.sub("", plain, 1))


# Sets of interchangeable light words: word -> number of its set. Others are not interchangeable: "is" and "was", "his"
# and "her", "now" and "then" make different questions.
LOOSE = {
    word: number
    for number, words in enumerate(
        "a an the my our, this that, these those, is are am, was were, do does, have has, some any, now currently, "
        "still yet, perhaps maybe, just very really actually exactly exact quickly simply".split(", ")
    )
    for word in words.split()
}
# Common words that are one typo apart.
_BOTH_WORDS = frozenset(
    frozenset(pair.split("/"))
    for pair in "contract/contact country/county price/prince trial/trail diary/dairy casual/causal quite/quiet "
    "desert/dessert later/latter bought/brought through/trough breath/breathe cloth/clothe loose/loses chose/choose "
    "marital/martial angel/angle untied/united sacred/scared signing/singing planed/planned friend/fiend "
    "complement/compliment complementary/complimentary stationary/stationery reality/realty "
    "lighting/lightning hanger/hangar being/begin broad/board though/through thought/though "
    "filing/filling staring/starring hoping/hopping".split()
)


def is_typo(short: str, long: str, *, slips: bool = True) -> bool:
    """Whether two words differ only by accents, a final s, or (with `slips`) one slip of the finger in a word of five
    or more letters: a missing letter, two swapped letters, or (in eight or more) a wrong vowel that is not the first
    letter. Other replaced letters make a different word ("charged", "changed"), and so do slips between common words
    ("contract", "contact")."""
    return _is_same_word(short, long) or (slips and _is_slip(short, long))


def _is_same_word(short: str, long: str) -> bool:
    short, long = _folded(short), _folded(long)
    return short == long or (len(short) >= 3 and short.isalpha() and short + "s" == long)


@lru_cache(maxsize=100_000)
def _is_slip(short: str, long: str) -> bool:
    short, long = _folded(short), _folded(long)
    if not (short.isalpha() and long.isalpha()) or len(long) - len(short) > 1 or len(short) < 5:
        return False
    if frozenset((short, long)) in _BOTH_WORDS:
        return False
    differing = [place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b]
    if len(short) < len(long):
        first = differing[0] if differing else len(short)
        return first > 0 and short[first:] == long[first + 1 :]
    if len(differing) == 1:
        place = differing[0]
        return len(short) >= 8 and place > 0 and {short[place], long[place]} <= set("aeiouy")
    if len(differing) == 2 and differing[1] == differing[0] + 1:
        return short[differing[0]] == long[differing[1]] and short[differing[1]] == long[differing[0]]
    return False


def _folded(word: str) -> str:
    """`word` without accents."""
    if word.isascii():
        return word
    parts = unicodedata.normalize("NFKD", word)
    return unicodedata.normalize("NFC", "".join(part for part in parts if not "\u0300" <= part <= "\u036f"))


@lru_cache(maxsize=100_000)
def typings(word: str) -> tuple[str, ...]:
    """Keys to find typos by: two words that `is_typo` accepts share at least one."""
    word = _folded(word)
    if len(word) < 3 or not word.isalpha():
        return (word,)
    return tuple({word} | {word[:place] + word[place + 1 :] for place in range(len(word))})


@lru_cache(maxsize=100_000)
def is_decisive(word: str) -> bool:
    """Whether a word distinguishes questions in any position: numbers, signs, negations, question words."""
    if word in _NEGATIONS or word in _NUMBER_WORDS or word in _TELLING or any(map(str.isdigit, word)):
        return True
    return not any(map(str.isalpha, word))


_END = re.compile(r"[.!?…][\"'”’)\]*]*\s+|[。！？\n]+")
_MOST_SENTENCES = 16  # in a text that is searched for others
_FEWEST_WORDS = 3  # in a text that is searched for
_MOST_MORE = 40  # words in the rest; after a longer passage, a question is about the passage
_WRAPPER_SHARE, _WRAPPER_TEXTS = 0.1, 6  # share of the texts with a wrapper, and the fewest texts
_FEW = 5  # different contexts in which a question still stands for itself
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
    """The sentences of texts: `numbers[offsets[i]:offsets[i + 1]]` are those of text i.

    By sentence number: `sizes` in words, `content` words, whether it refers to something outside itself (`pointing`),
    whether it `adds` to a question so that it becomes another one (by its words, or because it is a whole text
    elsewhere), and whether it is a `wrapper`, which many texts have.
    """

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
        """The `sentences` that are not wrappers; all of them if there are no others."""
        return tuple(sentence for sentence in sentences if not self.wrapper[sentence]) or tuple(sentences)


class SentenceReader:
    """Collects the sentences of texts, one text at a time."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # by the hash of the form: the forms themselves would take twice the memory
        self._numbers: list[int] = []
        self._sizes: list[int] = []
        self._texts: list[int] = []
        self._different: dict[int, int] = {}
        self._content: list[int] = []
        self._pointing: list[bool] = []
        self._adds: list[bool] = []

    def read(self, plain: str, words: list[str]) -> list[str]:
        """Add a `plain_text` without courtesy, and its `words`. Returns the words that are not courtesy in any
        sentence."""
        every: list[str] = []
        begin, before = 0, len(self._numbers)
        for end in (*(match.end() for match in _END.finditer(plain)), len(plain)):
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
        different = np.array(list(self._different.values()), np.int64)  # copies of a text do not make it a wrapper
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


def is_inside(sentences: Sentences, first: int, second: int) -> bool | None:
    """Whether one of two texts occurs whole in the other and the rest does not change the question; None if neither
    occurs in the other."""
    short, long = sorted((sentences.of(first), sentences.of(second)), key=len)
    return _is_inside(sentences, short, long)


def inside(sentences: Sentences) -> Iterator[tuple[list[int], list[int]]]:
    """(texts, others): the texts, which are equal, occur whole in each of the others."""
    import numpy as np

    if len(sentences.offsets) < 3:
        return
    counts = np.diff(sentences.offsets)
    texts: dict[tuple[int, ...], list[int]] = {}
    for text in np.flatnonzero(counts).tolist():
        texts.setdefault(sentences.core(sentences.of(text)), []).append(text)
    begins = Counter(core[0] for core in texts)
    others_of: dict[tuple[int, ...], list[int]] = {}
    for text in np.flatnonzero((counts > 1) & (counts <= _MOST_SENTENCES)).tolist():
        whole = sentences.core(sentences.of(text))
        for run in {*_runs(whole, begins), whole}:
            if run in texts:
                others_of.setdefault(run, []).append(text)
    held = {run: _within(sentences, texts[run], others) for run, others in others_of.items()}
    rests = Counter(rest for ways in held.values() for rest in {rest for _, some in ways for rest in some.values()})
    for ways in held.values():
        # A rest around several questions is a wrapper; a rest that occurs once is what the question is about.
        if len({rest for _, some in ways for rest in some.values() if rests[rest] == 1}) <= _FEW:
            yield from ((same, sorted(some)) for same, some in ways)


def _within(
    sentences: Sentences, texts: Iterable[int], others: Iterable[int]
) -> list[tuple[list[int], dict[int, frozenset[int]]]]:
    """For each way in which `texts` are written: (the texts written that way, the rest of each of the `others` that
    contains them)."""
    ways: dict[tuple[int, ...], list[int]] = {}
    for text in texts:
        ways.setdefault(sentences.of(text), []).append(text)
    wholes = {other: sentences.of(other) for other in others}
    groups = []
    for way, same in ways.items():
        held = [other for other, whole in wholes.items() if way != whole and _is_inside(sentences, way, whole)]
        if held:
            groups.append((same, {other: frozenset(wholes[other]) - set(way) for other in held}))
    return groups


def _is_inside(sentences: Sentences, short: tuple[int, ...], long: tuple[int, ...]) -> bool | None:
    if not short or len(short) >= len(long) or not set(short) <= set(long):
        return None
    rest = set(long) - set(short)
    if any(sentences.adds[sentence] for sentence in rest):
        return False
    core, whole = sentences.core(short), sentences.core(long)
    if not any(whole[at : at + len(core)] == core for at in range(len(whole) - len(core) + 1)):
        return None
    content = sum(sentences.content[sentence] for sentence in core)
    # "How can I fix this?" refers to what comes before it.
    least = 2 if any(sentences.pointing[sentence] for sentence in core) else 1
    if content < least or sum(sentences.sizes[sentence] for sentence in core) < _FEWEST_WORDS:
        return None
    return sum(sentences.sizes[sentence] for sentence in rest) <= _MOST_MORE or None


def _runs(whole: tuple[int, ...], begins: Counter[int]) -> Iterator[tuple[int, ...]]:
    for at, first in enumerate(whole):
        if begins[first] > (at == 0):
            yield from (whole[at:end] for end in range(at + 1, len(whole) + 1) if end - at < len(whole))
