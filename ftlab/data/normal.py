"""How texts are written alike, and which words can tell two questions apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

_ZERO_WIDTH = regex.compile(r"[\p{Cf}\u034f\u115f\u1160\u3164\ufe00-\ufe0f]+")
_RAISED = regex.compile(r"[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")  # NFKC alone makes 52 of 5²
_WRAPPED = regex.compile(r"\s*<([a-z][a-z0-9]*)(?:\s[^<>]*)?>(.*)</\1\s*>\s*", regex.DOTALL)
# Letters that look like Latin ones, by confusables.txt of Unicode (UTS #39): Cyrillic, then Greek.
_CYRILLIC = ("АВЕКМНОРСТУХІЈЅаеорсухѕіјһԁԛԝѵ", "ABEKMHOPCTYXIJSaeopcyxsijhdqwv")
_FROM_CYRILLIC = str.maketrans(*_CYRILLIC)
_TO_CYRILLIC = str.maketrans(_CYRILLIC[1], _CYRILLIC[0])
LATIN_LOOKS = dict(zip(_CYRILLIC[0] + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανρυι", _CYRILLIC[1] + "ABEZHIKMNOPTYXoavpui", strict=True))
_TO_LATIN = str.maketrans(LATIN_LOOKS)
_OTHER_SCRIPT = regex.compile(r"[\p{Cyrillic}\p{Greek}]")
_MIXED = regex.compile(r"(?=\p{L}*\p{Latin})(?=\p{L}*[\p{Cyrillic}\p{Greek}])\p{L}{2,}")
# Acronyms that are another word in lower case; in a text of one case they cannot be told from it, but by an article.
_ACRONYM = regex.compile(r"(?<![\p{L}\p{N}.])(?:(US|IT|WHO)(?![\p{L}\p{N}])|U\.S(?:\.A)?\.?(?![\p{L}\p{N}]))")
_THE_US = regex.compile(r"\b(the|a|non)([ -])us\b")
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
# What is asked, of how many, and in which relation: with another of these it is another question, however long.
_TELLING = frozenset(
    "who whom whose what when where which why how or only every each all both more less fewer most least first "
    "last".split()
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
    if not text.isascii():
        text = _in_one_script(_ZERO_WIDTH.sub("", text))
    if _ACRONYM.search(text) and 2 * sum(map(str.islower, text)) > sum(map(str.isalpha, text)):
        text = _ACRONYM.sub(lambda found: "USA" if found[1] in ("US", None) else f"{found[1]}#", text)
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
    """`text` with the letters that only look like those of their word (a Cyrillic о in a Latin word) as they seem."""
    if not (_OTHER_SCRIPT.search(text) and regex.search(r"\p{Latin}", text)):
        return text
    text = _MIXED.sub(lambda found: _word_in_one_script(found[0]), text)
    # A word of its own ("а") is Latin where the text is, and holds no Cyrillic letter that looks like none.
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


# Light words that may stand for one another, by the number of their set; no others do: "is" and "was", "his" and
# "her", "now" and "then" make another question.
LOOSE = {
    word: number
    for number, words in enumerate(
        "a an the my our, this that, these those, is are am, was were, do does, have has, some any, now currently, "
        "still yet, perhaps maybe, just very really actually exactly exact quickly simply".split(", ")
    )
    for word in words.split()
}
# Words that one slip makes of one another.
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
    """Whether two words differ by accents, a final s, or (`slips`) one slip of the finger within five letters or more:
    a letter too few, two in the wrong order, or (of eight) a vowel for another that is not the first letter. One letter
    for another makes a new word ("charged", "changed"), as do the slips between common words (contract, contact)."""
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


@lru_cache(maxsize=100_000)
def is_decisive(word: str) -> bool:
    """Whether a word tells questions apart wherever it stands: numbers, signs, negations, what is asked."""
    if word in _NEGATIONS or word in _NUMBER_WORDS or word in _TELLING or any(map(str.isdigit, word)):
        return True
    return not any(map(str.isalpha, word))
