"""Personal data: what is found, what is left alone, and that masking leaves nothing behind."""

from __future__ import annotations

import pytest

from ftlab.data.checks.personal import find_personal, mask, preview


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ada.l+x@mail.firm.co.uk, please.", "Write to [email], please."),
        ("Call +49 30 901820 or 0044 20 7946 0958.", "Call [phone] or [phone]."),
        ("My number is (212) 867-5309!", "My number is [phone]!"),
        ("Phone: 020 7946 0958", "Phone: [phone]"),
        # Test numbers that the card companies publish.
        ("Paid with 4111 1111 1111 1111.", "Paid with [card]."),
        ("Amex 378282246310005, Mastercard 5555-5555-5555-4444", "Amex [card], Mastercard [card]"),
        # From the standard's registry of examples (SWIFT IBAN registry).
        ("To DE89 3704 0044 0532 0130 00 today", "To [iban] today"),
        ("GB29NWBK60161331926819", "[iban]"),
        ("key AKIAIOSFODNN7EXAMPLE here", "key [secret] here"),
        ("password: hunter2zwei", "password: [secret]"),
        ('{"api_key": "9f8e7d6c5b4a"}', '{"api_key": "[secret]"}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[secret]"),
        ("a@b.org and c@d.org", "[email] and [email]"),
        # The examples of python-stdnum's documentation, and of the tax office for the German number.
        ("Mijn BSN is 1112.22.333.", "Mijn BSN is [id_number]."),
        ("Meine Steuer-ID: 36 574 261 809, danke", "Meine Steuer-ID: [id_number], danke"),
        ("PESEL 44051401359 please", "PESEL [id_number] please"),
        ("111222333 is my BSN", "[id_number] is my BSN"),
        ("Fødselsnummeret er 151086 95088.", "Fødselsnummeret er [id_number]."),
        ("マイナンバーは621498320257です。", "マイナンバーは[id_number]です。"),
        ("my SSN is 536-90-4399", "my SSN is [id_number]"),
        ("NHS no. 943 476 5870", "NHS no. [id_number]"),
        ("my NI number is AB 12 34 56 C", "my NI number is [id_number]"),
        ("My tax ID is 36574261809.", "My tax ID is [id_number]."),
        ("ho RCCMNL83S18D969H qui", "ho [id_number] qui"),
        ("390.533.447-05", "[id_number]"),
    ],
)
def test_what_is_found_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert find_personal(mask(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Write to somebody@example.com.",
        "The order 4539148803436468 was sent.",  # one digit off Luhn's check
        "It happened on 2026-03-14 at 10:30, or 14.03.2026.",
        "ISBN 978-3-16-148410-0",
        "It costs 1,234,567.89 or 12 345 678 in all.",
        "I forgot my password: please help.",
        "The password is wrong and the token is missing.",
        "Version 1.2.3.4567890, 192.168.100.200",
        "DE89 3704 0044 0532 0130 01",  # wrong check digits
        "@ada said hello @ 5",
        "3.14159265358979",
        "1234567890 rows",
        "My order 111222333 is late.",  # a valid BSN, by chance as one number in eleven is
        "My BSN is 111222334.",  # wrong check digit
        "Order 200227-4832, part 536-90-4399, box 44051401359, lot AB123456C",
        "Customer 36574261809 has no national store.",
        "Vivo sin 046 454 286 dollars",  # a word, and not Canada's SIN
        "The ticket number is 0057 6691 0580",
        "Call (555) 123-4567 or 415-555-0132.",  # no such area; kept for fiction
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert find_personal(text) == []


def test_only_the_kinds_asked_for_are_masked() -> None:
    assert mask("a@b.org, +49 30 901820", ("phone",)) == "a@b.org, [phone]"


def test_a_preview_shows_no_more_than_two_characters() -> None:
    assert preview("maria@post.net") == "ma••••••••••••" and preview("hunter2") == "h••••••"
