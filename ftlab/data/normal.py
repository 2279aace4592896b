"""How texts are written alike, and which words can tell two questions apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

_ZERO_WIDTH = regex.compile(r"[\p{Cf}\u034f\u115f\u1160\u3164\ufe00-\ufe0f]+")
_RAISED = regex.compile(r"[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")  # NFKC alone makes 52 of 5²
_WRAPPED = regex.compile(r"\s*<([a-z][a-z0-9]*)(?:\s[^<>]*)?>(.*)</\1\s*>\s*", regex.DOTALL)
_APOSTROPHE = regex.compile(r"(?<=\p{L})['’ʼ‘`´](?=\p{L})")
# Scripts without spaces between words are taken character by character.
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = regex.compile(
    rf"[{_IDEOGRAPHS}]"
    r"|\d+(?:[.,]\d+)+"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{_IDEOGRAPHS}]]+#?"
    r"|(?!\p{Extended_Pictographic})[+<>=×÷±√∞≤≥≠≈%\p{Sc}\p{So}]"  # emoji say nothing that a question turns on
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
_NEGATIONS = frozenset(
    "not no never without neither nor none nothing nobody nicht kein keine keinen keinem keiner keines nie niemals "
    "ohne pas jamais sans sin nunca jamás não sem nem niet geen zonder не нет ни без "
    "ikke inte ingen değil yok không नहीं न لا لم لن ليس 不 没 無 无 否 非 未".split()
)
# Words without an apostrophe, as people type them too, that are nothing else.
_SAID_IN_FULL = {
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
# Words that a question can have or lack and stay the same.
LIGHT = frozenset(
    "a an the my your our his her its their this that these those some any of also just very really actually exactly "
    "exact quickly simply currently still yet already again now today here there right perhaps maybe please kindly "
    "thank thanks do does did is are am be been was were have has i me we you it to so then bitte danke".split()
)


def normal_form(text: str) -> str:
    """`text` as it is compared: equal for texts that differ in case, Unicode form, zero-width characters, spaces and
    punctuation. Numbers are written alike ("1,000" is 1000), short forms in full ("can't" is can not). A text without
    words is itself."""
    return joined(words_of(plain_text(text)), text)


def plain_text(text: str) -> str:
    """`text` in lower case and one Unicode form (NFKC), without zero-width characters and apostrophes in words."""
    if text.isascii():
        text = text.lower()
    else:
        text = _APOSTROPHE.sub("'", _RAISED.sub(r"^\g<0>", _ZERO_WIDTH.sub("", text)))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    while text.rstrip().endswith(">") and (wrapped := _WRAPPED.fullmatch(text)):
        text = wrapped[2]
    return _APOSTROPHE.sub("", text) if "'" in text else text


def words_of(plain: str) -> list[str]:
    """The words, numbers and signs of a `plain_text`."""
    words = _TOKEN.findall(plain)
    if "," in plain:
        words = [word.replace(",", "") if _THOUSANDS.fullmatch(word) else word for word in words]
    if not _SAID_IN_FULL.keys().isdisjoint(words):
        words = [part for word in words for part in _SAID_IN_FULL.get(word, word).split()]
    return words


def joined(words: Sequence[str], text: str) -> str:
    """Without spaces ("log in" is "login"), but between digits."""
    form = " ".join(words)
    if not form:
        return " ".join(text.split())
    return _BETWEEN_WORDS.sub("", form) if any(map(str.isdigit, form)) else form.replace(" ", "")


def without_courtesy(plain: str) -> str:
    """A `plain_text` without greeting, "please", "could you tell me" before it and thanks after it."""
    return _CLOSING.sub("", _OPENING.sub("", plain, 1))


# Of the light words those that may stand for one another; "me" and "you", "please" and "thanks" may not.
LOOSE = LIGHT - frozenset("i me we you please kindly thank thanks bitte danke".split())


@lru_cache(maxsize=100_000)
def is_typo(short: str, long: str) -> bool:
    """Whether two words differ by accents, a final s, or one slip of the finger within five letters or more: a letter
    too few, two in the wrong order, or (of six) a wrong one that is not the first."""
    short, long = _folded(short), _folded(long)
    if short == long:
        return True
    if not (short.isalpha() and long.isalpha()) or len(long) - len(short) > 1:
        return False
    if len(short) >= 3 and short + "s" == long:
        return True
    if len(short) < 5:
        return False
    differing = [place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b]
    if len(short) < len(long):
        first = differing[0] if differing else len(short)
        return first > 0 and short[first:] == long[first + 1 :]
    if len(differing) == 1:
        return len(short) >= 6 and differing[0] > 0
    if len(differing) == 2 and differing[1] == differing[0] + 1:
        return short[differing[0]] == long[differing[1]] and short[differing[1]] == long[differing[0]]
    return False


def _folded(word: str) -> str:
    """Without accents."""
    if word.isascii():
        return word
    parts = unicodedata.normalize("NFKD", word)
    return unicodedata.normalize("NFC", "".join(part for part in parts if not "\u0300" <= part <= "\u036f"))


@lru_cache(maxsize=100_000)
def typings(word: str) -> tuple[str, ...]:
    """Keys of which two words that `is_typo` joins share one."""
    word = _folded(word)
    if len(word) < 3 or not word.isalpha():
        return (word,)
    return tuple({word} | {word[:place] + word[place + 1 :] for place in range(len(word))})


def is_decisive(word: str) -> bool:
    """Whether a word tells questions apart wherever it stands: numbers, signs, negations."""
    if word in _NEGATIONS or word in _NUMBER_WORDS or any(map(str.isdigit, word)):
        return True
    return not any(map(str.isalpha, word))
