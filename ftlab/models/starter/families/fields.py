"""Reading named fields out of a sentence, as JSON or as lines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from ftlab.models.starter.families.draft import Draft, Family, capital, one_turn
from ftlab.models.starter.families.word_tasks import plural_of
from ftlab.models.starter.families.words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLOURS,
    DAYS,
    FRUITS,
    JOBS,
    MONTHS,
    NAMES,
    PLACES,
    SPORTS,
    THINGS,
)

Record = dict[str, str | int]


def person(rng: random.Random) -> tuple[Record, str]:
    r: Record = {"name": rng.choice(NAMES), "age": rng.randint(5, 80), "city": rng.choice(CITIES)}
    if rng.random() < 0.4:
        r["job"] = rng.choice(JOBS)
        return r, rng.choice(
            (
                "{name} is {age} years old, works as a {job} and lives in {city}.",
                "I know a {job} called {name}. {name} lives in {city} and is {age}.",
                "My name is {name}, I am {age}, I am a {job} and my home is {city}.",
            )
        )
    return r, rng.choice(
        (
            "{name} is {age} years old and lives in {city}.",
            "My friend {name} lives in {city} and is {age} years old.",
            "Hello, I am {name}, I am {age} and I come from {city}.",
            "In {city} there lives a person called {name}, aged {age}.",
            "{name}, {age}, from {city}.",
        )
    )


def pet(rng: random.Random) -> tuple[Record, str]:
    r: Record = {"owner": rng.choice(NAMES), "animal": rng.choice(ANIMALS[:16]), "colour": rng.choice(COLOURS)}
    return r, rng.choice(
        (
            "{owner} has a {colour} {animal}.",
            "The {animal} of {owner} is {colour}.",
            "A {colour} {animal} lives with {owner}.",
            "Look, the {colour} {animal} belongs to {owner}.",
        )
    )


def meeting(rng: random.Random) -> tuple[Record, str]:
    r: Record = {
        "day": rng.choice(DAYS),
        "time": f"{rng.randint(7, 20)}:{rng.choice(('00', '15', '30', '45'))}",
        "place": rng.choice(PLACES),
    }
    return r, rng.choice(
        (
            "We meet on {day} at {time} in the {place}.",
            "Come to the {place} at {time} on {day}.",
            "The meeting is at the {place}, {day}, {time}.",
            "On {day} we see each other at {time}. Wait for me at the {place}.",
        )
    )


def purchase(rng: random.Random) -> tuple[Record, str]:
    item = rng.choice((*THINGS, *FRUITS))
    r: Record = {"item": item, "count": rng.randint(2, 30), "price": rng.randint(2, 99)}
    return r, rng.choice(
        (
            "I bought {count} {items} for {price} euros.",
            "{count} {items} cost {price} euros.",
            "She paid {price} euros for {count} {items}.",
            "The bill says {count} {items}, {price} euros.",
        )
    ).replace("{items}", plural_of(item))


def birthday(rng: random.Random) -> tuple[Record, str]:
    r: Record = {"name": rng.choice(NAMES), "day": rng.randint(1, 28), "month": rng.choice(MONTHS)}
    return r, rng.choice(
        (
            "{name} was born on {day} {month}.",
            "The birthday of {name} is on {day} {month}.",
            "On {day} {month} we sing for {name}.",
            "{name} has a party on {day} {month}.",
        )
    )


def hobby(rng: random.Random) -> tuple[Record, str]:
    r: Record = {"name": rng.choice(NAMES), "sport": rng.choice(SPORTS), "day": rng.choice(DAYS)}
    return r, rng.choice(
        (
            "{name} does {sport} every {day}.",
            "Every {day} is {sport} day for {name}.",
            "{sport} is what {name} likes to do on {day}.",
        )
    )


def trip(rng: random.Random) -> tuple[Record, str]:
    a, b = rng.sample(CITIES, 2)
    r: Record = {"from": a, "to": b, "month": rng.choice(MONTHS)}
    return r, rng.choice(
        (
            "We travel from {from} to {to} in {month}.",
            "In {month} I fly to {to} from {from}.",
            "My flight leaves {from} in {month} and lands in {to}.",
        )
    )


def lost(rng: random.Random) -> tuple[Record, str]:
    r: Record = {
        "thing": rng.choice(THINGS),
        "colour": rng.choice(COLOURS),
        "size": rng.choice(("big", "small")),
        "place": rng.choice(PLACES),
    }
    return r, rng.choice(
        (
            "I lost my {size} {colour} {thing} at the {place}.",
            "Somebody found a {size} {colour} {thing} near the {place}.",
            "At the {place} there is a {thing}. It is {size} and {colour}.",
        )
    )


SCHEMAS: tuple[Callable[[random.Random], tuple[Record, str]], ...] = (
    person,
    pet,
    meeting,
    purchase,
    birthday,
    hobby,
    trip,
    lost,
)

SYSTEM = (
    "You answer with JSON only.",
    "Read the text and return JSON.",
    "Extract the fields and answer in JSON.",
    "Return one JSON object and nothing else.",
)
ASK_JSON = (
    "Extract {keys} as JSON: {t}",
    "Give {keys} as JSON. {t}",
    "Write {keys} of this text as a JSON object: {t}",
    "{t}\nReturn JSON with {keys}.",
    "Turn this into JSON with the keys {keys}: {t}",
    "Text: {t}\nJSON with {keys}:",
    "Read the text and fill in {keys} as JSON.\n{t}",
)


def _and(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + " and " + keys[-1]


def extraction(rng: random.Random) -> Draft:
    """All or some fields as a JSON object, in the requested order."""
    record, pattern = rng.choice(SCHEMAS)(rng)
    text = capital(pattern.format(**record))
    keys = list(record)
    if rng.random() < 0.3:
        keys = rng.sample(keys, rng.randint(1, len(keys)))
    answer = json.dumps({k: record[k] for k in keys})
    key = "json|" + "|".join(map(str, record.values()))
    if rng.random() < 0.3:
        return one_turn(
            key,
            rng.choice(
                (f"{text}\nKeys: {', '.join(keys)}", f"{_and(keys)}: {text}", f"Fields: {', '.join(keys)}\n{text}")
            ),
            answer,
            rng.choice(SYSTEM),
        )
    return one_turn(key, rng.choice(ASK_JSON).format(keys=_and(keys), t=text), answer)


def lines(rng: random.Random) -> Draft:
    """A single field as a bare value, or all fields as lines of key and value."""
    record, pattern = rng.choice(SCHEMAS)(rng)
    text = capital(pattern.format(**record))
    keys = list(record)
    key = "lines|" + "|".join(map(str, record.values()))
    if rng.random() < 0.5:
        k = rng.choice(keys)
        ask = rng.choice(
            (
                f"What is the {k}? {text}",
                f"Find the {k} in this text: {text}",
                f"{text} Give me only the {k}.",
                f"{text}\n{k}?",
            )
        )
        return one_turn(key, ask, str(record[k]))
    ask = rng.choice(
        (
            f"List {_and(keys)} line by line: {text}",
            f"Write {_and(keys)} below each other. {text}",
            f"{text}\nOne line each for {_and(keys)}.",
        )
    )
    return one_turn(key, ask, "\n".join(f"{k}: {record[k]}" for k in keys))


def arranging(rng: random.Random) -> Draft:
    """The reverse: a JSON object becomes a sentence."""
    name, thing, colour, mood = rng.choice(NAMES), rng.choice(THINGS), rng.choice(COLOURS), rng.choice(ADJECTIVES)
    record, answer = rng.choice(
        (
            ({"name": name, "thing": thing, "colour": colour}, f"{name} has a {colour} {thing}."),
            ({"thing": thing, "colour": colour, "size": mood}, f"The {thing} is {colour} and {mood}."),
        )
    )
    ask = rng.choice(
        ("Write a sentence from this: {t}", "Turn this JSON into a sentence: {t}", "Say this in a sentence: {t}")
    )
    return one_turn(f"arrange|{'|'.join(record.values())}", ask.format(t=json.dumps(record)), answer)


FAMILIES = (
    Family("extraction", extraction, "fields of a sentence as JSON", share=2.4),
    Family("lines", lines, "one field, or all of them as lines", share=1.3),
    Family("arranging", arranging, "a JSON object becomes a sentence", share=0.6),
)
