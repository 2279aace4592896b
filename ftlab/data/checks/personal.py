"""Personal data and secrets in text: found, previewed, and masked.

Numbers are reported only if they validate. A card number has the prefix and length of a card company and passes the
Luhn check (python-stdnum). An IBAN has its country's length and check digits (python-stdnum). A national or tax number
has its country's check digits and either a nearby word or a distinctive form (national.py). A phone number is one its
country assigns, or it follows a word such as "call" (phonenumbers, the library of Android). Keys are recognized by
their documented prefixes, other secrets by a name (password =, api_key:) and a value that looks random. Addresses at
example.com and similar domains are ignored. Names and postal addresses are not detected: that takes a model, and no
maintained library on the package index includes one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ftlab.data.checks.finding import Examples, Finding, by_split
from ftlab.data.checks.national import find_numbers
from ftlab.data.normal import Watch

PERSONAL = ("secret", "card", "iban", "id_number", "email", "phone")
MASKS = {kind: f"[{kind}]" for kind in PERSONAL}


class Span(NamedTuple):
    """The place of personal data in a text; `start` and `end` in characters."""

    kind: str
    start: int
    end: int


def find_personal(text: str) -> list[Span]:
    """All personal data and secrets in `text`, in order and without overlaps. The order of PERSONAL breaks ties."""
    spans: list[Span] = []
    taken = bytearray(len(text))
    for kind in PERSONAL:
        for start, end in _FINDERS[kind](text):
            if not any(taken[start:end]):
                taken[start:end] = b"\x01" * (end - start)
                spans.append(Span(kind, start, end))
    return sorted(spans, key=lambda span: span.start)


def mask(text: str, kinds: tuple[str, ...] = PERSONAL) -> str:
    """`text` with everything personal replaced by [email], [phone], [card], [iban], [id_number] or [secret]."""
    parts, done = [], 0
    for span in find_personal(text):
        if span.kind in kinds:
            parts += [text[done : span.start], MASKS[span.kind]]
            done = span.end
    return "".join(parts) + text[done:]


def preview(text: str) -> str:
    """A masked preview of personal data: its first one or two characters and its length."""
    kept = text[:2] if len(text) > 8 else text[:1]
    return f"{kept}{'•' * min(len(text) - len(kept), 12)}"


def personal_data(examples: Examples, watch: Watch) -> list[Finding]:
    """One finding per kind (secret, card, iban, id_number, email, phone) and split."""
    excerpts: dict[str, dict[int, str]] = {kind: {} for kind in PERSONAL}
    counts: Counter[str] = Counter()
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            if not _is_worth_a_look(text):
                continue
            for span in find_personal(text):
                counts[span.kind] += 1
                before = mask(text[max(0, span.start - 25) : span.start])
                excerpts[span.kind].setdefault(position, f"… {before}{preview(text[span.start : span.end])}")
    return [
        finding
        for kind in PERSONAL
        for finding in by_split(
            kind, excerpts[kind], examples, excerpts=excerpts[kind], detail={"places": counts[kind]}
        )
    ]


_WORTH_A_LOOK = re.compile(r"\d(?:[ ().+/-]{0,3}\d){6}|\b[A-Z]{2} ?\d{2}|[A-Z]{4}\d{2}|[A-Za-z0-9_-]{20}")
_SECRET_WORDS = ("passw", "passphrase", "pwd", "secret", "token", "key")


def _is_worth_a_look(text: str) -> bool:
    """A fast filter: False for text that cannot hold personal data, which always contains an @ or a digit."""
    if "@" in text or "-----BEGIN" in text:
        return True
    if not _DIGIT.search(text):
        return False
    lower = text.lower()
    return any(word in lower for word in _SECRET_WORDS) or _WORTH_A_LOOK.search(text) is not None


_DIGIT = re.compile("[0-9]")
_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_NOBODY = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|(?:your|my)?domain\.com|(?:your)?company\.com|localhost)$",
    re.IGNORECASE,
)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _NOBODY.search(match.group()):
                yield match.span()


_DIGITS = re.compile(r"(?<![\w.,])\d(?:[ -]?\d){12,18}(?![\w]|[.,]\d)")
# Prefixes and lengths of ISO/IEC 7812 issuers: Visa, Mastercard, American Express, Discover, Diners, JCB.
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3})?(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    from stdnum import luhn

    for match in _DIGITS.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        from stdnum import iban

        # An uppercase word may follow: take the longest part that validates.
        parts = [match.group(), *(match.group()[: space.start()] for space in re.finditer(" ", match.group()))]
        for part in sorted(parts, key=len, reverse=True):
            if iban.is_valid(part, check_country=False):
                yield match.start(), match.start() + len(part)
                break


_NUMBER = re.compile(r"(?<![\w.,/:-])(?:\+|\(\+?)?\d(?:[ ().\u2011/-]{0,3}\d){6,14}(?![\w]|[.,:/-]\d)")
_CALL = re.compile(
    r"(?:phone|call|tel|telephone|mobile|cell|fax|whatsapp|text|sms|reach|ring|dial|telefon|handy|anruf\w*|móvil|portable"
    r"|tél|téléphone|teléfono)\b[^\d+(]{0,25}$",
    re.IGNORECASE,
)
_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}")
# No area has the code 555, and 555-01xx is reserved for fiction.
_FICTION = re.compile(
    r"(?:\+?1[ .-]?)?(?:\(555\) ?|555[ .-])\d{3}[ .-]\d{4}|(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])?555[ .-]01\d\d"
)
_DATE = re.compile(r"(?:19|20)\d\d[ ./-]\d{1,2}[ ./-]\d{1,2}|\d{1,2}[ ./-]\d{1,2}[ ./-](?:19|20)\d\d")


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _NUMBER.finditer(text):
        number = match.group()
        size = sum(map(str.isdigit, number))
        if not 7 <= size <= 15 or _DATE.match(number) or _FICTION.fullmatch(number):
            continue
        if (
            _is_international(number)
            or _AMERICAN.fullmatch(number)
            or _CALL.search(text[max(0, match.start() - 60) : match.start()])
        ):
            yield match.span()


def _is_international(number: str) -> bool:
    if not number.lstrip("(").startswith(("+", "00")):
        return False
    import phonenumbers

    written = number if "+" in number else "+" + number.lstrip("(")[2:]
    try:
        parsed = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return False
    # Order numbers also begin with 00.
    return phonenumbers.is_possible_number(parsed) if "+" in number else phonenumbers.is_valid_number(parsed)


_KEYS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # Amazon
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20,}"  # GitHub, GitLab
    r"|\bsk-(?:proj-|ant-|live-)?[\w-]{20,}|\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"  # OpenAI, Anthropic, Stripe
    r"|\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,}"  # Hugging Face, npm, PyPI
    r"|\bxox[abeoprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}"  # Slack, Google
    r"|\bSG\.[\w-]{20,}\.[\w-]{20,}"  # SendGrid
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web token
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_NAMED = re.compile(
    r"(?:passw(?:or)?d|passphrase|pwd|secret|api[_ -]?key|access[_ -]?key|auth[_ -]?token|access[_ -]?token|token)"
    r"[\"']?\s*(?:[:=]|\bis:?)\s*[\"']?([^\s\"',;<>]{6,})",
    re.IGNORECASE,
)


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _KEYS.finditer(text))
    for match in _NAMED.finditer(text):
        value = match.group(1).rstrip(".!?)")
        if _looks_random(value):
            yield match.start(1), match.start(1) + len(value)


def _looks_random(value: str) -> bool:
    """Whether letters and digits are mixed, with at least 2.5 bits of entropy per character."""
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and len(value) >= 6 and bits >= 2.5


_FINDERS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "secret": _secrets,
    "card": _cards,
    "iban": _ibans,
    "id_number": find_numbers,
    "email": _emails,
    "phone": _phones,
}
