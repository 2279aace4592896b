"""How much personal data is found, and what is taken for it: `python -m tests.benchmarks.personal_data`.

Recall is on planted data of many countries: numbers that the documentation of python-stdnum gives as valid, IBANs and
cards of random digits with right check digits, phone numbers that phonenumbers gives as examples of each country,
addresses and keys of usual forms. Each stands in sentences as people write them: with its name, with a general
word, and bare. False alarms are counted in sentences with ordinary numbers of orders, parcels, accounts and dates, and
in the samples; with `--data FOLDER` in the files of that folder, too, where what is found is printed for reading.

Prints a Markdown table, and a JSON object as the last line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from ftlab.data.checks.personal import find_personal

_SAMPLES = Path(__file__).resolve().parents[2] / "ftlab" / "samples"

# What people call the number in their own language and in English: not read from the checks.
NATIONAL = {
    "at.vnr": ("Meine Sozialversicherungsnummer lautet {}.", "My SVNR: {}"),
    "au.tfn": ("My tax file number is {}.", "TFN {}"),
    "be.nn": ("Mijn rijksregisternummer is {}.", "Mon NISS : {}"),
    "br.cpf": ("Meu CPF é {}.", "CPF: {}"),
    "ca.sin": ("My social insurance number is {}.", "SIN: {}"),
    "ch.ssn": ("Meine AHV-Nummer ist {}.", "No AVS {}"),
    "cl.rut": ("Mi RUT es {}.", "RUT: {}"),
    "cn.ric": ("我的身份证号码是{}。", "My resident identity card: {}"),
    "cz.rc": ("Moje rodné číslo je {}.", "Birth number: {}"),
    "de.idnr": ("Meine Steuer-ID ist {}.", "Steueridentifikationsnummer: {}"),
    "dk.cpr": ("Mit CPR-nummer er {}.", "CPR: {}"),
    "ee.ik": ("Minu isikukood on {}.", "Personal identification code {}"),
    "es.nif": ("Mi DNI es {}.", "NIF: {}"),
    "fi.hetu": ("Henkilötunnukseni on {}.", "My personal identity code is {}."),
    "fr.nir": ("Mon numéro de sécurité sociale est le {}.", "NIR : {}"),
    "gb.nhs": ("My NHS number is {}.", "NHS no. {}"),
    "gr.amka": ("ΑΜΚΑ: {}", "My AMKA is {}."),
    "hr.oib": ("Moj OIB je {}.", "OIB: {}"),
    "ie.pps": ("My PPS number is {}.", "PPSN {}"),
    "in_.aadhaar": ("My Aadhaar number is {}.", "Aadhaar: {}"),
    "in_.pan": ("My PAN is {}.", "PAN card {}"),
    "it.codicefiscale": ("Il mio codice fiscale è {}.", "CF: {}"),
    "jp.in_": ("マイナンバーは{}です。", "My Number: {}"),
    "kr.rrn": ("주민등록번호: {}", "My resident registration number is {}."),
    "lt.asmens": ("Mano asmens kodas {}.", "Personal code: {}"),
    "mx.curp": ("Mi CURP es {}.", "CURP: {}"),
    "nl.bsn": ("Mijn BSN is {}.", "Burgerservicenummer: {}"),
    "no.fodselsnummer": ("Fødselsnummeret mitt er {}.", "Personnummer: {}"),
    "pl.pesel": ("Mój PESEL to {}.", "PESEL: {}"),
    "pt.nif": ("O meu NIF é {}.", "Número de contribuinte: {}"),
    "ro.cnp": ("CNP-ul meu este {}.", "CNP: {}"),
    "ru.inn": ("Мой ИНН {}.", "INN: {}"),
    "se.personnummer": ("Mitt personnummer är {}.", "Swedish personal identity number {}"),
    "tr.tckimlik": ("TC kimlik numaram {}.", "TCKN: {}"),
    "us.ssn": ("My social security number is {}.", "SSN: {}"),
    "za.idnr": ("My South African ID number is {}.", "SA ID: {}"),
}
_GENERAL = ("My national ID number is {}.", "Identity number: {}", "My tax ID is {}.")
_BARE = ("Here it is: {}", "I am Ann Miller, {}, and I want my money back.")
_REGIONS = "US GB DE FR ES IT NL PL SE CH IN BR JP AU ZA MX".split()
_IBANS = "DE GB FR ES IT NL BE CH AT PL SE PT IE DK NO FI".split()
_ORDINARY = (
    "My order {} has not arrived.",
    "Where is parcel {}?",
    "Invoice {} was paid twice.",
    "The ticket number is {}.",
    "Customer {} wrote again.",
    "Reference: {}",
    "Serial number {} is broken.",
    "Please check {} in the system, no call needed.",
    "Product code {} is sold out in our national store.",
    "ID {} in the list",
)


def planted(seed: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """Kind, country or form, how it stands in the text, and the text; the personal part ends up in `find_personal`."""
    rng = random.Random(seed)
    for name, sentences in NATIONAL.items():
        for number in examples_of(name):
            for how, texts in (("named", sentences), ("general word", _GENERAL), ("bare", _BARE)):
                for text in texts:
                    yield "id_number", name, how, text.format(number)
    yield from _ibans(rng)
    yield from _cards(rng)
    yield from _phones()
    for _ in range(40):
        user, host = _word(rng), _word(rng)
        address = rng.choice([f"{user}@{host}.com", f"{user}.{host}@{host}-{user}.co.uk", f"{user}+x@mail.{host}.org"])
        yield "email", "-", "bare", f"Please answer to {address} today."
        letters = "".join(rng.choices(string.ascii_letters + string.digits, k=40))
        key = rng.choice([f"AKIA{letters[:16].upper()}", f"ghp_{letters[:36]}", f"sk-proj-{letters}", f"hf_{letters}"])
        yield "secret", "known prefix", "bare", f"It runs with {key} here."
        yield "secret", "password", "named", f"My password is {_word(rng)}{rng.randint(10, 999)}!{_word(rng)}"


def examples_of(module: str) -> list[str]:
    """The numbers that the documentation of a module of stdnum calls valid."""
    doc = importlib.import_module(f"stdnum.{module}").__doc__ or ""
    given = re.findall(r">>> (?:validate|format)\(u?'([^']+)'\)\n\s*u?'([^']*)'", doc)
    is_valid = importlib.import_module(f"stdnum.{module}").is_valid
    return list(dict.fromkeys(form for pair in given for form in pair if is_valid(form)))


def _ibans(rng: random.Random) -> Iterator[tuple[str, str, str, str]]:
    from stdnum import iban

    lengths = {"DE": 22, "GB": 22, "FR": 27, "ES": 24, "IT": 27, "NL": 18, "BE": 16, "CH": 21, "AT": 20, "PL": 28}
    lengths |= {"SE": 24, "PT": 25, "IE": 22, "DK": 18, "NO": 15, "FI": 18}
    lettered = {"GB": 4, "NL": 4, "IE": 4, "IT": 1}
    for country in _IBANS:
        for _ in range(4):
            letters = "".join(rng.choices(string.ascii_uppercase, k=lettered.get(country, 0)))
            digits = "".join(rng.choices(string.digits, k=lengths[country] - 4 - len(letters)))
            number = country + iban.calc_check_digits(f"{country}00{letters}{digits}") + letters + digits
            spaced = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
            for form, text in (("spaced", spaced), ("together", number)):
                yield "iban", country, form, f"Please pay to {text} this week."


def _cards(rng: random.Random) -> Iterator[tuple[str, str, str, str]]:
    from stdnum import luhn

    for name, prefix, length in (("Visa", "4", 16), ("Mastercard", "53", 16), ("Amex", "37", 15), ("JCB", "3530", 16)):
        for _ in range(10):
            digits = prefix + "".join(rng.choices(string.digits, k=length - len(prefix) - 1))
            digits += luhn.calc_check_digit(digits)
            spaced = " ".join(digits[at : at + 4] for at in range(0, length, 4))
            for form, text in (("spaced", spaced), ("together", digits)):
                yield "card", name, form, f"It was charged to {text} twice."


def _phones() -> Iterator[tuple[str, str, str, str]]:
    import phonenumbers as library

    for region in _REGIONS:
        for kind in (library.PhoneNumberType.FIXED_LINE, library.PhoneNumberType.MOBILE):
            number = library.example_number_for_type(region, kind)
            if number is None:
                continue
            if region == "US":  # its examples are numbers kept for fiction
                number = library.parse("212-867-5309", region)
            abroad = library.format_number(number, library.PhoneNumberFormat.INTERNATIONAL)
            home = library.format_number(number, library.PhoneNumberFormat.NATIONAL)
            yield "phone", region, "with + and country", f"Reach me under {abroad}, please."
            yield "phone", region, "national, named", f"My phone number is {home}."
            yield "phone", region, "national, bare", f"I am Ann Miller, {home}, from Leeds."


def _word(rng: random.Random) -> str:
    return "".join(rng.choices("bcdfghklmnprst", k=1) + rng.choices("aeiou", k=1)) * rng.randint(2, 3)


def ordinary(count: int, seed: int = 1) -> Iterator[str]:
    """Sentences with numbers that identify nobody."""
    rng = random.Random(seed)

    def digits(size: int) -> str:
        return "".join(rng.choices(string.digits, k=size))

    def letters(size: int) -> str:
        return "".join(rng.choices(string.ascii_uppercase, k=size))

    forms = (
        lambda: digits(rng.randint(6, 18)),
        lambda: f"{digits(3)}-{digits(7)}-{digits(7)}",  # Amazon
        lambda: f"{digits(6)}-{digits(4)}",
        lambda: f"{digits(3)}-{digits(2)}-{digits(4)}",
        lambda: f"{digits(4)} {digits(4)} {digits(4)}",
        lambda: f"20{rng.randint(19, 26)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}-{digits(4)}",
        lambda: f"{rng.randint(19, 26)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}-{digits(4)}",
        lambda: f"{letters(2)}{digits(9)}{letters(2)}",  # international post
        lambda: f"1Z{digits(3)}{letters(2)}{digits(10)}",  # UPS
        lambda: f"{letters(rng.randint(1, 4))}-{digits(rng.randint(5, 10))}",
        lambda: f"{letters(1)}{digits(8)}",
        lambda: f"978-{digits(1)}-{digits(2)}-{digits(6)}-{digits(1)}",
        lambda: f"{digits(8)}{letters(1)}",
        lambda: f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.{rng.randint(1990, 2026)}",
    )
    for _ in range(count):
        yield rng.choice(_ORDINARY).format(rng.choice(forms)())


def texts_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each line of the data files below `folder`; the sample that plants personal data is left out."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".csv", ".json", ".jsonl", ".txt") and "messy" not in str(path):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                yield path.name, line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of real data")
    parser.add_argument("--ordinary", type=int, default=20_000, help="sentences with ordinary numbers")
    parser.add_argument("--missed", action="store_true", help="print what is missed")
    args = parser.parse_args()
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    by_country: dict[str, list[bool]] = defaultdict(list)
    for kind, country, how, text in planted():
        hit = any(span.kind == kind for span in find_personal(text))
        hits[kind, how].append(hit)
        if how == "named":
            by_country[country].append(hit)
        if args.missed and not hit and how != "bare":
            print("missed:", kind, country, text)
    print("| kind | how it stands | planted | found |\n|---|---|---|---|")
    for (kind, how), found in hits.items():
        print(f"| {kind} | {how} | {len(found)} | {sum(found) / len(found):.0%} |")
    low = {country: found for country, found in by_country.items() if not all(found)}
    print("named and missed:", {country: f"{sum(found)} of {len(found)}" for country, found in low.items()})
    alarms: Counter[str] = Counter()
    for text in ordinary(args.ordinary):
        alarms.update(span.kind for span in find_personal(text))
    print(f"false alarms in {args.ordinary:,} sentences with ordinary numbers: {dict(alarms)}")
    real: dict[str, Counter[str]] = {}
    for folder in (_SAMPLES, args.data):
        if folder is None:
            continue
        seen: Counter[str] = Counter()
        lines = 0
        for name, text in texts_of(folder):
            lines += 1
            for span in find_personal(text):
                seen[span.kind] += 1
                print(f"  {name}: {span.kind}: … {text[max(0, span.start - 30) : span.end + 10]}")
        print(f"found in {lines:,} lines of {folder}: {dict(seen)}")
        real[folder.name] = seen
    shares = {f"{kind}, {how}": round(sum(found) / len(found), 3) for (kind, how), found in hits.items()}
    print(json.dumps({"recall": shares, "false_alarms": alarms, "found": real}))


if __name__ == "__main__":
    main()
