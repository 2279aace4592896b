"""Rules that compare one answer with its reference as text, and rules about the answer alone."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from typing import Any

from ftlab.data.final_number import quantity, same_quantity
from ftlab.wording import composed

EXACT_MATCH_RULE = (
    "white space at both ends and the Unicode form of letters ignored; where the reference is a JSON object or list, "
    "or one number (1,000 = 1000 = 1e3; not 007, +49 or more than 15 digits; 3.10 is not 3.1), compared by value"
)
PROBE_RULE = (
    "upper and lower case, white space, Unicode forms and a final full stop, question or exclamation mark ignored"
)
TOKEN_F1_RULE = (
    "as SQuAD: lower case, Unicode forms, punctuation and the articles a, an, the left out; words by white space, each "
    "character a word in scripts without spaces"
)
# Nobody sees them: soft hyphen, zero-width space, word joiner, byte order mark. Joiners that shape letters stay.
_UNSEEN = str.maketrans("", "", "\u00ad\u200b\u2060\ufeff")
# Kana, Han, Thai, Lao, Khmer and Myanmar are written without spaces between words.
_UNSPACED = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_GRAM = 3  # words


def is_exact(prediction: str, reference: str) -> bool:
    """Whether an answer equals its reference as EXACT_MATCH_RULE says."""
    prediction, reference = (composed(text) for text in (prediction, reference))
    if prediction == reference:
        return True
    wanted = json_value(reference)
    if wanted is not None:
        given = json_value(prediction)
        return given is not None and same_value(given, wanted)
    return same_quantity(prediction, reference)


def is_general_match(prediction: str, reference: str) -> bool:
    """Whether a short answer equals its reference, ignoring case, spacing and the final punctuation mark."""
    return plain(prediction) == plain(reference)


def token_f1(prediction: str, reference: str) -> float:
    """The F1 of the words that answer and reference share, 0 to 1 (Rajpurkar et al., 2016, arXiv 1606.05250)."""
    given, wanted = _squad_words(prediction), _squad_words(reference)
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    # 2PR / (P + R), written out.
    return 2 * shared / (len(given) + len(wanted))


def repetition(text: str) -> float:
    """The share of the word triples of `text` that occurred in it before, 0 to 1; 0 for short texts.

    Rep-3 of Welleck et al. 2020 (arXiv 1908.04319), with words for tokens.
    """
    given = words(text)
    grams = Counter(tuple(given[at : at + _GRAM]) for at in range(len(given) - _GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def words(text: str) -> list[str]:
    """Words by white space; in scripts without spaces each character counts as one."""
    return _UNSPACED.sub(r" \1 ", text).split()


def has_spaces(texts: list[str]) -> bool:
    """Whether most letters of `texts` belong to scripts that put spaces between words."""
    letters = sum(sum(character.isalpha() for character in text) for text in texts)
    return 2 * sum(len(_UNSPACED.findall(text)) for text in texts) <= letters


def folded(text: str) -> str:
    """`text` in one Unicode form (NFKC), without characters that nobody sees and regardless of case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_UNSEEN).casefold())


def is_unspaced(character: str) -> bool:
    """Whether `character` belongs to a script that puts no spaces between words."""
    return _UNSPACED.match(character) is not None


def plain(text: str) -> str:
    """`text` without what PROBE_RULE ignores."""
    return " ".join(folded(text).split()).rstrip(".!?").rstrip()


def json_value(text: str) -> dict[str, Any] | list[Any] | None:
    """The JSON object or list that `text` is, else None: a bare number or word is text."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def same_value(left: Any, right: Any) -> bool:
    """Equality of JSON values: 4 is 4.0, but true is not 1, which Python's == would say. A text that is a number is
    that number where the other value is one ("1,000", 1000); two texts are equal as they are written ("1e3", "1000" are
    not)."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_value(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, str) and isinstance(right, str):
        return unicodedata.normalize("NFC", left) == unicodedata.normalize("NFC", right)
    if isinstance(left, str) != isinstance(right, str):
        text, number = (left, right) if isinstance(left, str) else (right, left)
        return isinstance(number, int | float) and not isinstance(number, bool) and quantity(text) == number
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _squad_words(text: str) -> list[str]:
    return words(_ARTICLES.sub(" ", _PUNCTUATION.sub("", folded(text))))
