"""Rows that are unlike the others: in language, or in length."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from ftlab.data.checks.duplicates import Sameness
from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.errors import shorten

if TYPE_CHECKING:
    import numpy as np

    from ftlab.data.words import Words

_SURE = 0.95  # probability of a language below which nothing is said
_FEWEST_LETTERS = 25  # of shorter texts a detector guesses
_MAIN_SHARE = 0.9  # of the rows that are told apart have to be in one language
_ASKED = 400  # rows that decide the main language
_COMMON = 0.4  # share of words that other rows use too, from which on a row is in the language of the others
_FAR = 5.0  # robust standard deviations of the logarithm of the length
_NARROWEST = 0.3  # of that deviation, so that texts of all but one length are no ruler
_FEW = 0.02  # more rows than this share are no outliers but a second kind of text
_FEWEST = 30
_PIECE = 10_000


def other_languages(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Rows whose prompt or answer is surely in another language than at least 90% of the rows.

    Only rows of uncommon words are put to the detector (langid.py, Lui and Baldwin 2012): the words that many rows
    share are in the main language, which is quicker and does not mistake names and codes for Latin.
    """
    found: dict[int, str] = {}
    main: dict[str, str] = {}
    for part, texts, words in (
        ("prompt", examples.prompts, same.prompt_words),
        ("answer", examples.answers, same.answer_words),
    ):
        strange = _strange(words)
        usual = main_language(texts)
        if usual is None:
            continue
        main[part] = usual
        for _, position in watch.over(strange):
            language = _language(texts[position])
            if language and language != usual:
                found.setdefault(position, f"{language}: {shorten(texts[position], 80)}")
    if len(found) > (1 - _MAIN_SHARE) * len(examples):
        return []  # several languages on purpose
    languages = Counter(text.split(":")[0] for text in found.values())
    return by_split("language", found, examples, shown=found, detail={"main": main, "languages": dict(languages)})


def odd_lengths(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Prompts or answers whose length is more than 5 robust standard deviations (1.4826 times the median absolute
    deviation; Iglewicz and Hoaglin 1993) from the median, on a logarithmic scale."""
    import numpy as np

    found: dict[int, str] = {}
    medians: dict[str, int] = {}
    if len(examples) < _FEWEST:
        return []
    first = "text" if examples.are_documents else "prompt"
    for part, texts in ((first, examples.prompts), ("answer", examples.answers)):
        watch.at(0, 1)
        sizes = np.fromiter(map(len, texts), np.float64, len(texts))
        far = np.flatnonzero(np.abs(robust_z(np.log1p(sizes))) > _FAR)
        if part == "answer":
            # One word is a finding of its own.
            far = np.array([position for position in far if len(texts[position].split(None, 1)) > 1], np.int64)
        medians[part] = int(np.median(sizes))
        if len(far) > max(1, _FEW * len(texts)):
            continue
        for position in far.tolist():
            found.setdefault(position, f"{part} of {int(sizes[position]):,} characters, usual are {medians[part]:,}")
    return by_split("length", found, examples, shown=found, detail={"median_characters": medians})


def robust_z(values: np.ndarray) -> np.ndarray:
    """How many robust standard deviations each value is from the median."""
    import numpy as np

    distances = values - np.median(values)
    return distances / max(1.4826 * float(np.median(np.abs(distances))), _NARROWEST)


def _strange(words: Words) -> list[int]:
    """Positions of the texts that share less than 40% of their words with many others."""
    import numpy as np

    if not len(words.numbers):
        return []
    pieces = [words.part(begin, min(begin + _PIECE, len(words))) for begin in range(0, len(words), _PIECE)]
    texts = [np.repeat(np.arange(len(piece)), piece.sizes) for piece in pieces]
    rows_with = np.zeros(len(words.vocabulary), np.int64)
    for piece, text in zip(pieces, texts, strict=True):
        pairs = np.unique(text << 32 | piece.numbers)
        rows_with += np.bincount(pairs & 0xFFFFFFFF, minlength=len(rows_with))
    common = rows_with >= max(3, 0.005 * len(words))
    shares = [
        np.bincount(text, weights=common[piece.numbers], minlength=len(piece)) / np.maximum(piece.sizes, 1)
        for piece, text in zip(pieces, texts, strict=True)
    ]
    return np.flatnonzero((np.concatenate(shares) < _COMMON) & (words.sizes > 2)).tolist()


def main_language(texts: list[str]) -> str | None:
    """ISO 639-1 code of the language that most of `texts` are in; None when too few tell, or no language prevails."""
    step = max(1, len(texts) // _ASKED)
    known = Counter(language for text in texts[::step][:_ASKED] if (language := _language(text)))
    if not known or sum(known.values()) < 10:
        return None
    language, count = known.most_common(1)[0]
    return language if count >= _MAIN_SHARE * sum(known.values()) else None


def _language(text: str) -> str | None:
    """ISO 639-1 code of the language of `text`; None when it is too short or the detector is not sure."""
    text = text[:250]
    letters = sum(map(str.isalpha, text))
    wide = sum("\u2e80" < letter < "\uffef" for letter in text)  # a character of these says as much as a word
    if letters + 4 * wide < _FEWEST_LETTERS or letters < 0.5 * len(text):
        return None
    language, probability = _identifier().classify(text)
    return str(language) if probability >= _SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
