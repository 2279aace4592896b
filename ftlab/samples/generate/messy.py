"""`messy_tickets`: support tickets with one planted defect of every kind that the checks know, and a list of them.

Each row has the kinds that the checks must report for it. If a defect needs two rows (a copy, a conflict), the rows
share a group: of copies only the later ones are reported, of conflicts all of them.
"""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import dataclass, field
from typing import Any

from ftlab.samples.generate import triage

_SEED = 11
_CLEAN, _HELD_OUT = 420, 40
COPIES = ("exact_duplicate", "near_duplicate")  # the first row of a group is the original, and in order
HELD_OUT_COPIES = ("overlap", "near_overlap")

ABOUT = {
    "overlap": "the prompt stands in test.csv too",
    "near_overlap": "test.csv has the prompt with another greeting or ending",
    "exact_duplicate": "the row stands twice",
    "near_duplicate": "the row stands again with another greeting or ending",
    "conflicting_answers": "one prompt, two answers",
    "unusable": "there is no prompt",
    "empty_answer": "the completion is empty or blank",
    "one_word_answer": "a placeholder in place of the answer",
    "left_over": "N/A in place of the answer",
    "roles": "two user turns in a row, the assistant first, a system turn in the middle, no user turn",
    "broken_json": "cut off, single quotes, a comma too many, text around it, or no JSON at all",
    "json_keys": "a key is renamed, missing, new, or holds text in place of a number",
    "language": "a ticket in German, Spanish or French",
    "length": "two dozen tickets run together, or one word",
    "encoding": "text decoded twice, replacement characters, a control character",
    "html": "tags and entities",
    "email": "an e-mail address",
    "phone": "a phone number",
    "card": "a payment card number",
    "iban": "a bank account number",
    "secret": "a key or a password",
    "too_long": "more tokens of the starter than 512",
    "not_covered": "test.csv asks about boats, which no training row does",
}

OTHER_LANGUAGES = (
    "Guten Tag, meine Lampe ist gestern kaputt angekommen und ich möchte sie bitte so bald wie möglich zurückschicken.",
    "Hola, mi pedido todavía no ha llegado y necesito saber cuándo voy a recibir la silla que compré la semana pasada.",
    "Bonjour, je n'arrive plus à me connecter à mon compte depuis hier et je voudrais changer mon mot de passe.",
)
BOATS = (
    "Our sailboat lost its anchor near the harbor. Who repairs masts and hulls?",
    "Which sailboat needs a new anchor, mast and hull paint for the harbor regatta?",
    "The harbor captain asked about sailboat anchors, hull varnish and regatta flags.",
    "Does the regatta captain moor sailboats by anchor or along the harbor wall?",
    "Sailboat hull cracked during the regatta; the harbor mast crane is closed.",
)
PERSONAL = {
    "email": (
        "You can also write to maria.lopez@brightpost.net about it.",
        "My address is j_kowalski87@mailhaven.org if that helps.",
        "Please copy tom.reed+orders@northlake-studio.co.uk on the answer.",
    ),
    "phone": (
        "Call me at +49 30 901820 after six.",
        "My number is (212) 867-5309.",
        "You reach me by phone: 020 7946 0958.",
    ),
    "card": ("I paid with card 4539 1488 0343 6467.", "The charge was on 5425233430109903."),
    "iban": ("Send the money to DE89 3704 0044 0532 0130 00.", "My account is GB29NWBK60161331926819."),
    "secret": (
        "The shop plugin uses the key AKIAIOSFODNN7EXAMPLE.",
        "My password: tr0ub4dor&3x is not taken any more.",
        "We connect with the token ghp_16C7e42F292c6912E7710c838347Ae178B4a.",
    ),
}
# Nothing is wrong with these, but a careless check might report them.
DECOYS = (
    "The order number is 4539148803436468.",
    "It was bought on 2026-03-14 at 10:30.",
    "The guide says to write to help@example.com first.",
    "My sister José and I met at the café.",
    "I read that 3 < 5 and that R&D is busy.",
    "The code on the box is 00481-22-9.",
    "It is the size 120 x 60 x 75.",
    "Zoë sent it from Malmö.",
)


@dataclass
class Row:
    prompt: str
    completion: str
    kinds: tuple[str, ...] = ()
    group: int | None = None


@dataclass
class Messy:
    """The rows of both files, and what was planted: kind -> split -> row numbers from 0."""

    train: list[Row]
    test: list[Row]
    planted: dict[str, dict[str, list[int]]] = field(default_factory=dict)


def build_messy() -> Messy:
    rng = random.Random(_SEED)
    built = triage.build()
    clean = [Row(row["prompt"], row["completion"]) for row in built["train"]]
    rng.shuffle(clean)
    fresh = iter(clean[_CLEAN:])
    train = clean[:_CLEAN]
    for row, decoy in zip(train, DECOYS, strict=False):
        row.prompt = f"{row.prompt} {decoy}"
    train += _talks(fresh) + _defects(fresh, rng) + _groups(fresh)
    rng.shuffle(train)
    _originals_first(train)
    test = [Row(row["prompt"], row["completion"]) for row in rng.sample(built["test"], _HELD_OUT)]
    test += [Row(text, _answer("products", "normal", 1), ("not_covered",)) for text in BOATS]
    sources = rng.sample([row for row in train if not row.kinds and row.group is None and "[" not in row.prompt], 6)
    for number, row in enumerate(sources):
        row.kinds = (HELD_OUT_COPIES[number // 3],)
        test.append(Row(row.prompt if number < 3 else _reworded(row.prompt, number), row.completion))
    rng.shuffle(test)
    messy = Messy(train, test)
    messy.planted = _planted(messy)
    return messy


def files() -> dict[str, str]:
    """The text of every file of the sample, by name."""
    messy = build_messy()
    return {
        "messy_tickets.csv": _csv(messy.train, "T"),
        "test.csv": _csv(messy.test, "H"),
        "manifest.json": _manifest(messy),
    }


def _defects(fresh: Any, rng: random.Random) -> list[Row]:
    """Rows with a defect of their own."""
    rows = []

    def change(kinds: tuple[str, ...], prompt: str = "{}", completion: str = "{}") -> None:
        row = next(fresh)
        rows.append(Row(prompt.replace("{}", row.prompt), completion.replace("{}", row.completion), kinds))

    for sentences, kind in ((texts, kind) for kind, texts in PERSONAL.items()):
        for sentence in sentences:
            change((kind,), f"{{}} {sentence}")
    change(("encoding",), "{} We met at the cafÃ© in MÃ¼nchen.")
    change(("encoding",), "{} It wonâ€™t work and I donâ€™t know why.")
    change(("encoding",), "{} My name is Jos\ufffd P\ufffdrez.")
    change(("encoding",), "{} The screen shows\x07 nothing.")
    change(("html",), "<p>{}</p>")
    change(("html",), "{}<br>Sent from my phone")
    change(("html",), "{} Best&nbsp;regards, Lee &amp; Sons")
    change(("html",), '{} <a href="#">Unsubscribe</a>')
    for blank in ("", "", "  ", ""):
        change(("empty_answer",), completion=blank)
    for _ in range(2):
        rows.append(Row("", next(fresh).completion, ("unusable",)))
    for word, kind in (("ok", "one_word_answer"), ("N/A", "left_over"), ("todo", "one_word_answer")):
        change((kind, "broken_json"), completion=word)
    change(("broken_json",), completion="Sure! Here is the JSON: {}")
    for damage in (_cut, _single_quotes, _comma):
        row = next(fresh)
        rows.append(Row(row.prompt, damage(row.completion), ("broken_json",)))
    for other in (_renamed, _missing, _as_text, _extra):
        row = next(fresh)
        rows.append(Row(row.prompt, json.dumps(other(json.loads(row.completion))), ("json_keys",)))
    for text in OTHER_LANGUAGES:
        rows.append(Row(text, _answer("returns", "normal", 4), ("language",)))
    together = " ".join(next(fresh).prompt for _ in range(24))
    rows.append(Row(together, _answer("billing", "low", 2), ("length", "too_long")))
    rows.append(Row("Help", _answer("account", "high", 2), ("length",)))
    rows += [Row(json.dumps(turns), _answer("shipping", "normal", 4), ("roles",)) for turns in _wrong_turns(fresh)]
    rng.shuffle(rows)
    return rows


def _talks(fresh: Any) -> list[Row]:
    """Valid conversations: a prompt may be a list of turns."""
    rows = []
    for question in ("What is your order number?", "Which lamp is it?", "Since when?"):
        row = next(fresh)
        turns = [_turn("user", "Hello, I need some help."), _turn("assistant", question), _turn("user", row.prompt)]
        rows.append(Row(json.dumps(turns), row.completion))
    return rows


def _wrong_turns(fresh: Any) -> list[list[dict[str, str]]]:
    texts = [next(fresh).prompt for _ in range(5)]
    return [
        [_turn("user", texts[0]), _turn("user", "Is anybody there?")],
        [_turn("assistant", "Hello, how can I help?"), _turn("user", texts[1])],
        [_turn("user", texts[2]), _turn("system", "Answer with JSON."), _turn("user", "Please hurry up.")],
        [_turn("system", "Answer with JSON."), _turn("assistant", texts[3])],
        [_turn("user", texts[4]), _turn("assistant", "One moment."), _turn("assistant", "Still looking.")],
    ]


def _groups(fresh: Any) -> list[Row]:
    """Rows that are wrong only together with another row."""
    rows, group = [], 0
    for number in range(4):
        for kind in COPIES:
            row = next(fresh)
            prompt = row.prompt if kind == "exact_duplicate" else _reworded(row.prompt, number)
            rows += [Row(row.prompt, row.completion, (), group), Row(prompt, row.completion, (kind,), group)]
            group += 1
    for queue in ("billing", "technical", "account"):
        row = next(fresh)
        other = json.loads(row.completion)
        other["queue"] = queue if other["queue"] != queue else "products"
        for completion in (row.completion, json.dumps(other)):
            rows.append(Row(row.prompt, completion, ("conflicting_answers",), group))
        group += 1
    return rows


def _reworded(prompt: str, number: int) -> str:
    """A near copy of the text, with 80% or more of its word trigrams."""
    return (f"{prompt} Thanks!", f"Please: {prompt}", f"{prompt.rstrip('.')} OK?")[number % 3]


def _originals_first(rows: list[Row]) -> None:
    """Put every original before its copy, so that it is clear which one is the copy."""
    first: dict[int, int] = {}
    for position, row in enumerate(rows):
        if row.group is None:
            continue
        earlier = first.setdefault(row.group, position)
        if earlier != position and rows[earlier].kinds and not row.kinds:
            rows[earlier], rows[position] = row, rows[earlier]


def _planted(messy: Messy) -> dict[str, dict[str, list[int]]]:
    planted: dict[str, dict[str, list[int]]] = {}
    for split, rows in (("train", messy.train), ("test", messy.test)):
        for position, row in enumerate(rows):
            for kind in row.kinds:
                planted.setdefault(kind, {}).setdefault(split, []).append(position)
    return {kind: planted[kind] for kind in ABOUT}


def _manifest(messy: Messy) -> str:
    entries = [
        json.dumps({"kind": kind, "split": split, "rows": rows, "about": ABOUT[kind]})
        for kind, splits in messy.planted.items()
        for split, rows in splits.items()
    ]
    sizes = {"messy_tickets.csv": len(messy.train), "test.csv": len(messy.test)}
    head = f'"files": {{"train": "messy_tickets.csv", "test": "test.csv"}},\n"rows": {json.dumps(sizes)}'
    return "{\n" + head + ',\n"planted": [\n' + ",\n".join(entries) + "\n]\n}\n"


def _csv(rows: list[Row], letter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["ticket", "prompt", "completion"])
    writer.writerows([f"{letter}-{number:04}", row.prompt, row.completion] for number, row in enumerate(rows))
    return out.getvalue()


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _answer(queue: str, priority: str, hours: int) -> str:
    return json.dumps({"queue": queue, "priority": priority, "hours": hours})


def _cut(text: str) -> str:
    return text[: len(text) - 12]


def _single_quotes(text: str) -> str:
    return text.replace('"', "'")


def _comma(text: str) -> str:
    return text[:-1] + ",}"


def _renamed(answer: dict[str, Any]) -> dict[str, Any]:
    return {"department" if key == "queue" else key: value for key, value in answer.items()}


def _missing(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "hours"}


def _as_text(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"hours": str(answer["hours"])}


def _extra(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"comment": "see above"}
