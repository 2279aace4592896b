"""Small stories and everyday scenes: told, continued, or as the frame of a title. Many endings are right, so these are
scored by perplexity only."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, an, capital, one_turn
from ftlab.models.starter.families.word_tasks import plural_of
from ftlab.models.starter.families.words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLOURS,
    DAYS,
    DRINKS,
    FRUITS,
    JOBS,
    NAMES,
    PLACES,
    THINGS,
)

OPENERS = (
    "One day {a} went to the {p}.",
    "It was {d}, and {a} was at the {p}.",
    "Once there was a {adj} {job} called {a}.",
    "{a} and {b} were good friends.",
    "Last {d} {a} walked to the {p} with {b}.",
    "{a} lived in a {adj} house near the {p}.",
    "Early in the morning {a} looked out of the window.",
    "In the town of {c} lived a {job} called {a}.",
    "{a} had a {adj} {animal} called {b}.",
    "Once upon a time there was a {adj} {animal}.",
)
WISHES = (
    "{a} wanted to buy a {col} {t}.",
    "{a} was looking for a {t}.",
    "{b} had lost a {col} {t}.",
    "The {animal} was very hungry.",
    "{a} wished for a new {t}.",
    "Today {a} had to bring a {t} to {b}.",
    "But the {t} was broken.",
    "It was the birthday of {b}, and {a} had no {t}.",
    "{a} had promised to help {b}.",
    "The {t} that {a} had ordered had not come.",
    "There was a strange sound behind the {p}.",
    "Suddenly it began to rain.",
)
TROUBLES = (
    "The way was long and the wind was cold.",
    "Nobody knew where the {t} was.",
    "But the door was closed.",
    "The shop had no {ts} left.",
    "Then {a} saw a {adj} {animal} under a tree.",
    "A {col} bird sat on the roof and looked at them.",
    "{a} asked a {job}, but the {job} did not know.",
    "The bus was late, so they had to walk.",
    "They looked in the {p}, under the bridge and behind the trees.",
    "{b} was afraid, but {a} was not.",
    "The {animal} took the {t} and ran away.",
    "{a} had only two coins.",
    "The phone did not work, and the map was wet.",
)
TURNS = (
    "Then {b} had an idea.",
    "At last {a} found the {t} in a {col} box.",
    "A {adj} {job} came and helped them.",
    '"Do not worry," said {b}. "I can help you."',
    '"Look!" said {a}. "There is the {t}!"',
    "The {animal} came back with the {t}.",
    "They shared a {fruit} and waited.",
    "{b} gave {a} a {col} {t}.",
    '"May I have it, please?" asked {a}.',
    "{a} sat down, drank some {drink} and thought about it.",
    "A friend from {c} called and told them what to do.",
)
ENDINGS = (
    "In the evening they all went home.",
    "{a} was very happy.",
    "From that day on they were friends.",
    '"Thank you," said {b}, and they laughed.',
    "They ate a {fruit} and sang a song.",
    "The {animal} slept next to the fire.",
    "{a} never forgot that day.",
    "So it was a good {d} after all.",
    "And {a} gave the {t} to {b}.",
    "Then it was time to sleep.",
    "Since then, the {t} stands in the kitchen.",
)

# Everyday scenes with the words of shops, offices and travel, so that later texts about them are not strange.
SCENES = (
    (
        "I ordered {n} {ts} on {d}, but the parcel has not arrived yet.",
        "The shop says that it will come on {d2}.",
        "I will wait until then.",
    ),
    (
        "The printer in our office does not work.",
        "{a} checked the cable and the paper.",
        "Now we wait for help from the service.",
    ),
    (
        "{a} forgot the password of the account.",
        "After three tries the account was locked.",
        "A new password was sent by email.",
    ),
    (
        "The invoice for {month_n} {ts} was wrong.",
        "{a} called the shop and asked for a new one.",
        "The right amount was {n} euros.",
    ),
    (
        "Our flight to {c} was late by {n} minutes.",
        "We drank some {drink} and read a book.",
        "In the end everybody got a seat.",
    ),
    ("The app closes each time {a} opens it.", "An update did not help.", "The team is working on the problem."),
    (
        "{a} wants to return a {t} because it is broken.",
        "The receipt is in the box.",
        "The money will be back in {n} days.",
    ),
    (
        "The customer asked for a {col} {t} and got a {col2} one.",
        "We are sorry for the mistake.",
        "The right one will be sent today.",
    ),
    (
        "The internet at the {p} is very slow today.",
        "{a} cannot open the website.",
        "Please turn the box off and on again.",
    ),
    (
        "Please remember the meeting on {d} at {n} o'clock.",
        "{a} brings the plan and {b} brings the {t}.",
        "We meet at the {p}.",
    ),
    ("The delivery to {c} costs {n} euros.", "It takes two days.", "You can pay by card or with an invoice."),
    ("{a} would like to change the address of the order.", "The new address is in {c}.", "The order number is {n}."),
    (
        "The {t} is sold out, but a {col} one will be in the shop on {d}.",
        "We can keep it for you.",
        "Just send us a short message.",
    ),
    ("The screen of the laptop is black.", "{a} pressed the button twice.", "The battery was empty."),
)


def _slots(rng: random.Random) -> dict[str, str]:
    a, b = rng.sample(NAMES, 2)
    d, d2 = rng.sample(DAYS, 2)
    col, col2 = rng.sample(COLOURS, 2)
    t = rng.choice(THINGS)
    return {
        "a": a,
        "b": b,
        "d": d,
        "d2": d2,
        "col": col,
        "col2": col2,
        "t": t,
        "ts": plural_of(t),
        "p": rng.choice(PLACES),
        "c": rng.choice(CITIES),
        "adj": rng.choice(ADJECTIVES),
        "animal": rng.choice(ANIMALS),
        "job": rng.choice(JOBS),
        "fruit": rng.choice(FRUITS),
        "drink": rng.choice(DRINKS),
        "n": str(rng.randint(2, 60)),
        "month_n": str(rng.randint(2, 12)),
    }


def _fill(pattern: str, slots: dict[str, str]) -> str:
    text = pattern.format(**slots)
    for word in (slots["adj"], slots["animal"], slots["fruit"], slots["t"], slots["col"], slots["col2"]):
        text = text.replace(f" a {word}", f" {an(word)}").replace(f"A {word}", capital(an(word)))
    return capital(text)


def story_sentences(rng: random.Random, slots: dict[str, str]) -> list[str]:
    """Five to eight sentences in the order opener, wish, trouble, turn, ending."""
    parts = [
        rng.choice(OPENERS),
        rng.choice(WISHES),
        *rng.sample(TROUBLES, rng.choice((1, 1, 2))),
        *rng.sample(TURNS, rng.choice((1, 2))),
        *rng.sample(ENDINGS, rng.choice((1, 1, 2))),
    ]
    return [_fill(p, slots) for p in parts]


def stories(rng: random.Random) -> Draft:
    """A story on request, or the rest of one whose start is given."""
    slots = _slots(rng)
    sentences = story_sentences(rng, slots)
    key = f"story|{slots['a']}|{slots['t']}"
    if rng.random() < 0.4:
        cut = rng.randint(1, 3)
        ask = rng.choice(("Continue the story: {t}", "Go on: {t}", "What happens next? {t}", "Finish this story. {t}"))
        return one_turn(key, ask.format(t=" ".join(sentences[:cut])), " ".join(sentences[cut:]))
    about = rng.choice((f"{slots['a']} and a {slots['t']}", f"a {slots['t']}", slots["a"]))
    ask = rng.choice(
        (
            "Tell me a story about {t}.",
            "Write a short story about {t}.",
            "Please tell a small story about {t}.",
            "I would like to hear a story about {t}.",
        )
    )
    return one_turn(key, _fill(ask.format(t=about), slots), " ".join(sentences))


def scenes(rng: random.Random) -> Draft:
    """A scene from a shop, an office or a journey, to be continued."""
    slots = _slots(rng)
    sentences = [_fill(p, slots) for p in rng.choice(SCENES)]
    ask = rng.choice(("Continue: {t}", "Go on: {t}", "Write the next sentences. {t}", "What comes after this? {t}"))
    return one_turn(
        f"scene|{slots['a']}|{slots['t']}|{slots['d']}", ask.format(t=sentences[0]), " ".join(sentences[1:])
    )


FAMILIES = (
    Family("stories", stories, "small stories, told or continued", share=0.6, scored="perplexity"),
    Family("scenes", scenes, "scenes from shops, offices and journeys", share=0.4, scored="perplexity"),
)
