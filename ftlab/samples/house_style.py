"""The house style of Pinebrook, the invented shop of the `brand_voice` samples, as rules a program can check.

1. greeting: opens with "Hi", "Hello" or "Dear", the customer's first name and a comma ("Hi Anna, ...").
2. calm: no exclamation mark anywhere.
3. plain words: none of "unfortunately", "regret", "inconvenience", "policy", "kindly", "as per", "be advised".
4. full forms: no contractions ("I am", not "I'm").
5. short sentences: no sentence has more than 12 words (without the greeting and the sign-off).
6. offer: the last sentence before the sign-off offers help (it has the word "help").
7. sign-off: ends with a person and the shop, "<First name> at Pinebrook".

Training sees replies, never these rules: they independently check whether a model has learned the style.
"""

from __future__ import annotations

import re

RULES = ("greeting", "calm", "plain words", "full forms", "short sentences", "offer", "sign-off")
MOST_WORDS = 12

_GREETING = re.compile(r"(Hi|Hello|Dear) ([A-Z][a-z]+), ")
_NO_NAMES = {"Customer", "Guest", "Friend", "Sir", "Madam", "There", "Team", "All"}
_SIGN_OFF = re.compile(r"(?:^|(?<=[.?!]))\s*[A-Z][a-z]+ at Pinebrook\.?$")
_STIFF_WORDS = re.compile(r"\b(unfortunately|regret|inconvenience|policy|kindly|as per|be advised)\b", re.IGNORECASE)
_CONTRACTION = re.compile(r"\w'(m|re|s|ll|ve|d|t)\b", re.IGNORECASE)


def follows_house_style(text: str, *, prompt: str | None = None) -> list[str]:
    """The rules that `text` breaks, in the order of `RULES`; empty if it follows them all.

    With `prompt`, the name in the greeting must also occur in the prompt.
    """
    text = text.strip()
    greeting = _GREETING.match(text)
    name = greeting[2] if greeting is not None and greeting[2] not in _NO_NAMES else None
    named = name is not None
    if name is not None and prompt is not None:
        named = re.search(rf"\b{name}\b", prompt, re.IGNORECASE) is not None
    signed = _SIGN_OFF.search(text)
    body = text[greeting.end() if greeting else 0 : signed.start() if signed else len(text)]
    sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", body.strip()) if sentence]
    kept = {
        "greeting": named,
        "calm": "!" not in text,
        "plain words": not _STIFF_WORDS.search(text),
        "full forms": not _CONTRACTION.search(text),
        "short sentences": all(len(sentence.split()) <= MOST_WORDS for sentence in sentences),
        "offer": bool(sentences) and re.search(r"\bhelp\b", sentences[-1], re.IGNORECASE) is not None,
        "sign-off": signed is not None,
    }
    return [rule for rule in RULES if not kept[rule]]
