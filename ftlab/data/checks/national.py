"""National and tax numbers of persons, validated by python-stdnum.

Most of these are plain digits with one check digit, which one order number in ten passes by chance. So a number counts
only next to a word that names it ("BSN", "Steuer-ID"), or if its form is distinctive and chance matches are far rarer:
an Italian fiscal code, a Brazilian CPF with its dots. A number without a check digit (US, UK, Denmark) always needs its
word.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple


class Number(NamedTuple):
    """A kind of number: its module in stdnum, and the words that appear next to it (case-sensitive outside
    `(?i:...)`)."""

    module: str
    words: str


# Words in the languages of the country and in English. Acronyms are uppercase, since "sin" and "pan" are words.
BESIDE_A_WORD = (
    Number("at.vnr", r"SVNR|SVNr|(?i:sozialversicherungs?-?(?:nummer|nr))"),
    Number("at.tin", r"(?i:abgabenkontonummer|steuernummer)"),
    Number("au.tfn", r"TFN|(?i:tax file number)"),
    Number("be.nn", r"NISS|INSZ|(?i:rijksregisternummer|registre national|num[ée]ro national)"),
    Number("bg.egn", r"ЕГН|EGN"),
    Number("br.cpf", r"CPF"),
    Number("ca.sin", r"SIN|NAS|(?i:social insurance)"),
    Number("ch.ssn", r"AHV|AVS|(?i:ahv-?n(?:umme)?r)"),
    Number("cl.rut", r"RUT|RUN"),
    Number("cn.ric", r"(?i:resident identity)|身份证"),
    Number("cz.rc", r"RČ|(?i:rodn[ée] [čc][íi]slo|birth number)"),
    Number("de.idnr", r"IdNr|TIN|(?i:steuer-?(?:id|identifikations-?nummer|identnummer)|steuerliche id\w*)"),
    Number("de.stnr", r"(?i:steuer-?(?:nummer|nr))|StNr"),
    Number("dk.cpr", r"CPR|(?i:cpr-?n(?:umme)?r(?:et)?|personnummer(?:et)?)"),
    Number("ee.ik", r"(?i:isikukood)"),
    Number("es.nif", r"DNI|NIE|NIF"),
    Number("eu.vat", r"VAT|UID|(?i:ust\.?-?id\w*\.?-?(?:nr)?|umsatzsteuer-?id\w*|partita iva|btw|n[ºo°]? ?tva|vat)"),
    Number("fi.hetu", r"(?i:hetu|henkilötunnu\w+)"),
    Number("fr.nif", r"SPI|(?i:num[ée]ro fiscal)"),
    Number("fr.nir", r"NIR|INSEE|(?i:s[ée]curit[ée] sociale)"),
    Number("gb.nhs", r"NHS"),
    Number("gb.utr", r"UTR|(?i:unique taxpayer)"),
    Number("gr.amka", r"ΑΜΚΑ|AMKA"),
    Number("gr.vat", r"ΑΦΜ|AFM"),
    Number("hr.oib", r"OIB"),
    Number("hu.anum", r"(?i:ad[óo]sz[áa]m)"),
    Number("id.nik", r"NIK|KTP"),
    Number("ie.pps", r"PPSN?"),
    Number("in_.aadhaar", r"(?i:aadhaa?r)|UIDAI"),
    Number("in_.pan", r"PAN"),
    Number("is_.kennitala", r"(?i:kennitala)"),
    Number("it.codicefiscale", r"(?i:codice fiscale|cod\. ?fisc)|CF"),
    Number("jp.in_", r"(?i:my number)|マイナンバー|個人番号"),
    Number("kr.rrn", r"RRN|(?i:resident registration)|주민등록번호"),
    Number("lt.asmens", r"(?i:asmens kodas)"),
    Number("mx.curp", r"CURP"),
    Number("mx.rfc", r"RFC"),
    Number("my.nric", r"NRIC|(?i:mykad)"),
    Number("nl.bsn", r"BSN|(?i:burgerservicenummer|sofi-?nummer)"),
    Number("no.fodselsnummer", r"(?i:(?:f[øo]dsels|person)nummer(?:et)?)"),
    Number("pe.cui", r"DNI|CUI"),
    Number("pk.cnic", r"CNIC"),
    Number("pl.nip", r"NIP"),
    Number("pl.pesel", r"PESEL|(?i:pesel)"),
    Number("pt.nif", r"NIF|(?i:contribuinte)"),
    Number("ro.cnp", r"CNP|(?i:cod numeric personal)"),
    Number("ru.inn", r"ИНН|INN"),
    Number("se.personnummer", r"(?i:personnummer(?:et)?|personal identity number)"),
    Number("si.emso", r"EMŠO|EMSO"),
    Number("sk.rc", r"RČ|(?i:rodn[ée] [čc][íi]slo)"),
    Number("th.pin", r"(?i:thai id)|บัตรประชาชน"),
    Number("tr.tckimlik", r"TCKN|(?i:t\.?c\.? kimlik|kimlik no)"),
    Number("ua.rntrc", r"РНОКПП|ІПН|RNTRC"),
    Number("us.itin", r"ITIN"),
    Number("us.ssn", r"SSN|(?i:social security)"),
    Number("za.idnr", r"(?i:south african id|sa id)"),
)  # fmt: skip
# Next to these words, a number of any listed country counts.
_ANY = (
    r"(?i:national (?:id|identity|identification|insurance)|identity (?:card|document|number)|"
    r"personal (?:id|code|identity|identification)|(?:tax|taxpayer) (?:id|number|no|identification)|id card|"
    r"passport)|TIN"
)
# Distinctive forms that need no word. The share of texts of each form that pass by chance is 1 in 26 (and a date), 1 in
# 100, 1 in 97, 1 in 97, a country's prefix and 1 in 10, 1 in 31 (and a date), 1 in 10 (and a date, a sex and a state),
# 1 in 11 (and a date and a county).
BY_ITS_FORM = (
    ("it.codicefiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]"),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d"),
    ("fr.nir", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"),
    ("be.nn", r"\d\d\.\d\d\.\d\d-\d{3}[.-]\d\d"),
    ("ch.ssn", r"756\.\d{4}\.\d{4}\.\d\d"),
    ("fi.hetu", r"\d{6}[-+A]\d{3}[A-FHJ-NPR-Y]"),
    ("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d"),
    ("cn.ric", r"[1-8]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d\d{3}[\dX]"),
)
# These do not count next to a word that names no country.
_NO_CHECK_DIGIT = {
    "de.stnr",
    "us.ssn",
    "us.itin",
    "dk.cpr",
    "in_.pan",
    "id.nik",
    "my.nric",
    "pk.cnic",
    "mx.rfc",
    "eu.vat",
}
# Chinese, Japanese and Korean put no space between a word and a number.
_LETTER = r"A-Za-z0-9_\u00c0-\u04ff"
_LETTERS = re.compile(f"[{_LETTER}]")
_NOT_INSIDE = rf"(?<![{_LETTER}.,/-])(?:{{}})(?![{_LETTER}]|[.,/-]\d)"
_FORMS = re.compile("|".join(_NOT_INSIDE.format(f"(?P<n{at}>{form})") for at, (_, form) in enumerate(BY_ITS_FORM)))
_WORDS = re.compile(
    rf"(?<![{_LETTER}])(?:" + "|".join(f"{number.words}" for number in BESIDE_A_WORD)
    + rf"|(?P<any>{_ANY}))(?![{_LETTER}])"
)  # fmt: skip
_EACH = [re.compile(rf"(?<![{_LETTER}])(?:{number.words})(?![{_LETTER}])") for number in BESIDE_A_WORD]
_CANDIDATE = re.compile(rf"(?<![{_LETTER}.,/-])(?:[A-Z]{{1,5}}[ -]?)?\d(?:[ ./-]{{0,3}}[\dA-Za-z]){{4,21}}")
# A British national insurance number has no check digit and no stdnum module.
_BRITISH = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:\d\d ?){3}[A-D]\b")
_BRITISH_WORDS = re.compile(r"(?<!\w)(?:NINO|NI (?:number|no)|(?i:national insurance))(?!\w)")
_BEFORE, _AFTER = 30, 15  # characters between a number and its word


def find_numbers(text: str) -> Iterator[tuple[int, int]]:
    """The places of national and tax numbers in `text`."""
    for match in _FORMS.finditer(text):
        module = BY_ITS_FORM[int((match.lastgroup or "n0")[1:])][0]
        if _is_valid(module, match.group()):
            yield match.span()
    for match in _BRITISH.finditer(text):
        if _beside(text, *match.span(), _BRITISH_WORDS):
            yield match.span()
    if not _WORDS.search(text):
        return
    for match in _CANDIDATE.finditer(text):
        if (span := _named(text, match)) is not None:
            yield span


def _named(text: str, match: re.Match[str]) -> tuple[int, int] | None:
    """The longest part of `match` that is a valid number of the kind named by a nearby word."""
    # Words may come before and after it, as in "PESEL 44051401359 please".
    digit = match.start() + len(match.group()) - len(match.group().lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ -"))
    ends = [match.end(), *(match.start() + space.start() for space in re.finditer(r"[ ./-]+", match.group()))]
    spans = {(start, end) for start in (match.start(), digit) for end in ends}
    for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
        part = text[start:end]
        if sum(map(str.isdigit, part)) < 4 or len(part) < 7 or _LETTERS.match(text, end):
            continue
        sides = _around(text, start, end)
        words = [word for side in sides for word in _WORDS.finditer(side)]
        # Two countries may use the same name for their numbers.
        modules = {
            number.module
            for number, own in zip(BESIDE_A_WORD, _EACH, strict=True)
            if words and any(own.search(side) for side in sides)
        }
        if any(word.lastgroup == "any" for word in words):
            modules |= {number.module for number in BESIDE_A_WORD} - _NO_CHECK_DIGIT
        if any(_is_valid(module, part) for module in sorted(modules)):
            return start, end
    return None


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """The text before a number, back to the previous digit or the end of a sentence, and the text after it."""
    before = re.split(r"\d|(?<!\bno)(?<!\bnr)[.!?\n] ", text[max(0, start - 60) : start], flags=re.IGNORECASE)[-1]
    after = re.split(r"\d|[.!?,;\n]", text[end : end + 40])[0]
    # A word must begin within reach; its length does not matter.
    return before[-(_BEFORE + 25) :], after[: _AFTER + 25]


def _beside(text: str, start: int, end: int, words: re.Pattern[str]) -> bool:
    return any(words.search(side) for side in _around(text, start, end))


@cache
def _module(name: str) -> Any:
    return importlib.import_module(f"stdnum.{name}")


def _is_valid(module: str, number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    if len(set(digits)) == 1 or (module == "us.ssn" and digits in "0123456789"):
        return False
    return bool(_module(module).is_valid(number.upper()))
