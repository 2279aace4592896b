"""Closed sets of everyday facts. Every fact is trained; what is held out are pairs of a fact and a way of asking."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, an, capital, fact_draft, one_turn, vary
from ftlab.models.starter.families.fact_tables import (
    CAPITALS,
    COLOURS_OF,
    HOMES,
    LEGS,
    MEANINGS,
    NUMBERS_KNOWN,
    OPPOSITES,
    SEASON_FACTS,
    SOUNDS,
    USES,
    WORKERS,
    YOUNG,
)
from ftlab.models.starter.families.words import ALL_CATEGORIES, DAYS, MONTHS, PLURAL_CATEGORY

CAPITAL_PHRASES = (
    "What is the capital of {x}?",
    "Name the capital of {x}.",
    "Which city is the capital of {x}?",
    "Tell me the capital city of {x}.",
    "What is the capital city of {x}?",
    "The capital of {x} is which city?",
    "Do you know the capital of {x}?",
    "Give me the name of the capital of {x}.",
    "I forgot the capital of {x}. What is it?",
    "Capital of {x}?",
    "Complete: The capital of {x} is",
    "Which capital does {x} have?",
)
CAPITAL_SENTENCES = (
    "Say in a full sentence what the capital of {x} is.",
    "Answer in a sentence: what is the capital of {x}?",
    "In a full sentence, which city is the capital of {x}?",
    "Write one sentence about the capital of {x}.",
)
CAPITAL_COUNTRY = (
    "{x} is the capital of which country?",
    "Which country has {x} as its capital?",
    "In which country is {x}?",
    "Name the country whose capital is {x}.",
    "Where is {x}? Name the country.",
)

OPPOSITE_PHRASES = (
    "What is the opposite of {x}?",
    "Give me the opposite of {x}.",
    "Opposite of {x}?",
    "Name the opposite of the word {x}.",
    "What word means the opposite of {x}?",
    "Which word is the opposite of {x}?",
    "Not {x} but the opposite: which word?",
    "Find the opposite: {x}",
    'Write the opposite of "{x}".',
    "Tell me a word that is the opposite of {x}.",
    "If something is not {x}, what is it?",
    "The opposite of {x} is",
)

COLOUR_PHRASES = (
    "What colour is {x}?",
    "Which colour does {x} have?",
    "Tell me the colour of {x}.",
    "What is the colour of {x}?",
    "Name the colour of {x}.",
    "Think of {x}. What colour do you see?",
    "I want to paint {x}. Which colour do I need?",
    "The colour of {x} is",
    "Do you know what colour {x} is?",
    "Give me one word: the colour of {x}.",
)

SOUND_PHRASES = (
    "What sound does a {x} make?",
    "What does a {x} say?",
    "Which sound does a {x} make?",
    "Name the sound of a {x}.",
    "How does a {x} sound?",
    "Make the sound of a {x}.",
    "I hear a {x}. What do I hear?",
    "Complete: The {x} says",
)
YOUNG_PHRASES = (
    "What is a young {x} called?",
    "What do we call a baby {x}?",
    "Name the young of a {x}.",
    "A young {x} is called a",
    "What is the word for a baby {x}?",
    "How do we call a very young {x}?",
)
HOME_PHRASES = (
    "Where does a {x} live?",
    "What is the home of a {x}?",
    "Name the home of a {x}.",
    "Which home does a {x} have?",
    "A {x} goes home. Where does it go?",
    "What do we call the place where a {x} lives?",
)
LEG_PHRASES = (
    "How many legs does a {x} have?",
    "Count the legs of a {x}.",
    "A {x} has how many legs?",
    "Legs of a {x}?",
    "Tell me how many legs a {x} has.",
    "What number of legs does a {x} have?",
    "The number of legs of a {x} is",
)

USE_PHRASES = (
    "What do you use to {x}?",
    "Which thing helps you to {x}?",
    "I want to {x}. What do I need?",
    "What do people use to {x}?",
    "Name a thing to {x} with.",
    "What do I need to {x}?",
    "Tell me what I need if I want to {x}.",
    "Which object do we use to {x}?",
    "To {x}, we use",
    "My friend wants to {x}. What should she take?",
)

WORKER_PHRASES = (
    "Who {x}?",
    "What do we call a person who {x}?",
    "Name the job of someone who {x}.",
    "Which person {x}?",
    "My aunt {x}. What is her job?",
    "What is the job of a person who {x}?",
    "A person who {x} is called",
    "Which job is it when someone {x}?",
)

MEANING_PHRASES = (
    "What is the meaning of {x}?",
    "What does the word {x} mean?",
    "Explain the word {x}.",
    "Define {x}.",
    'What does "{x}" mean?',
    "Can you explain what {x} means?",
    "I do not know the word {x}. What does it mean?",
    "Give me the meaning of the word {x}.",
)

NUMBER_PHRASES = (
    "How many {x}?",
    "Do you know how many {x}?",
    "Tell me how many {x}.",
    "Can you say how many {x}?",
    "I would like to know how many {x}.",
    "Give the number: how many {x}?",
    "How many {x}? Answer with a number.",
)

SEASON_PHRASES = ("Which season {x}?", "Name the season that {x}.", "What season {x}?", "Tell me the season that {x}.")


def capitals(rng: random.Random) -> Draft:
    roll = rng.random()
    if roll < 0.70:
        return fact_draft(rng, "capital", CAPITALS, CAPITAL_PHRASES)
    if roll < 0.85:
        return fact_draft(rng, "capital in a sentence", CAPITALS, CAPITAL_SENTENCES, ("The capital of {x} is {y}.",))
    return fact_draft(rng, "country of", [(y, capital(x)) for x, y in CAPITALS], CAPITAL_COUNTRY)


def opposites(rng: random.Random) -> Draft:
    both = OPPOSITES + tuple((y, x) for x, y in OPPOSITES)
    return fact_draft(rng, "opposite", both, OPPOSITE_PHRASES)


def colours(rng: random.Random) -> Draft:
    return fact_draft(rng, "colour of", COLOURS_OF, COLOUR_PHRASES)


def animals(rng: random.Random) -> Draft:
    topic, table, phrases = rng.choice(
        (
            ("sound", SOUNDS, SOUND_PHRASES),
            ("young", YOUNG, YOUNG_PHRASES),
            ("home", HOMES, HOME_PHRASES),
            ("legs", LEGS, LEG_PHRASES),
        )
    )
    return _with_article(rng, topic, table, phrases)


def _with_article(rng: random.Random, topic: str, table: tuple, phrases: tuple[str, ...]) -> Draft:
    """As fact_draft, with "an" before a vowel."""
    x, y = rng.choice(table)
    i = rng.randrange(len(phrases))
    text = phrases[i].format(x=x)
    if x[0] in "aeiou":
        text = text.replace(f" a {x}", f" an {x}").replace(f"A {x}", f"An {x}")
    return one_turn(f"{topic}|{x}|{i}", vary(rng, text), y)


def uses(rng: random.Random) -> Draft:
    return fact_draft(rng, "use", USES, USE_PHRASES)


def jobs(rng: random.Random) -> Draft:
    return fact_draft(rng, "job", WORKERS, WORKER_PHRASES)


def meanings(rng: random.Random) -> Draft:
    x, y = rng.choice(MEANINGS)
    if rng.random() < 0.7:
        i = rng.randrange(len(MEANING_PHRASES))
        return one_turn(f"meaning|{x}|{i}", vary(rng, MEANING_PHRASES[i].format(x=x)), f"{capital(y)}.")
    phrases = ('Which word means "{y}"?', "What do we call {y}?", "Name it: {y}.", "I am thinking of {y}. What is it?")
    i = rng.randrange(len(phrases))
    return one_turn(f"word for|{x}|{i}", vary(rng, phrases[i].format(y=y)), x)


def known_numbers(rng: random.Random) -> Draft:
    return fact_draft(rng, "known number", NUMBERS_KNOWN, NUMBER_PHRASES)


def calendar(rng: random.Random) -> Draft:
    """Order of days, months and seasons."""
    roll = rng.random()
    if roll < 0.15:
        return fact_draft(rng, "season", SEASON_FACTS, SEASON_PHRASES)
    kind, cycle = ("day", DAYS) if rng.random() < 0.5 else ("month", MONTHS)
    i = rng.randrange(len(cycle))
    x, after, before = cycle[i], cycle[(i + 1) % len(cycle)], cycle[i - 1]
    if roll < 0.60:
        phrases: tuple[str, ...] = (
            f"Which {kind} comes after {x}?",
            f"What {kind} follows {x}?",
            f"What is the {kind} after {x}?",
            f"It is {x} now. Which {kind} is next?",
            f"Name the {kind} that comes right after {x}.",
            f"After {x} comes",
            f"Tell me the next {kind} after {x}.",
        )
        word, y = "after", after
    elif roll < 0.90:
        phrases = (
            f"Which {kind} comes before {x}?",
            f"What is the {kind} before {x}?",
            f"Name the {kind} that comes right before {x}.",
            f"It is {x} now. Which {kind} was before?",
            f"Tell me the {kind} before {x}.",
            f"Right before {x} comes",
        )
        word, y = "before", before
    else:
        place = ("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth").split()[i]
        whole = "week" if kind == "day" else "year"
        phrases = (
            f"What is the {place} {kind} of the {whole}?",
            f"Name the {place} {kind} of the {whole}.",
            f"Which {kind} is the {place} of the {whole}?",
            f"Tell me the {place} {kind} of the {whole}.",
        )
        word, y = "place", x
    j = rng.randrange(len(phrases))
    return one_turn(f"calendar|{word}|{x}|{j}", vary(rng, phrases[j]), y)


def categories(rng: random.Random) -> Draft:
    """What kind of thing a word is."""
    kind = rng.choice(list(ALL_CATEGORIES))
    word = rng.choice(ALL_CATEGORIES[kind])
    others = [k for k in ALL_CATEGORIES if k != kind]
    pair = [kind, rng.choice(others)]
    rng.shuffle(pair)
    phrases = (
        f"What kind of thing is {word}?",
        f"Which group does {word} belong to?",
        f"What is {word}: {an(pair[0])} or {an(pair[1])}?",
        f"Is {word} {an(pair[0])} or {an(pair[1])}?",
        f"Name the category of {word}.",
        f"Put {word} in a category.",
        f"Category of the word {word}?",
        f"Does {word} belong to the {PLURAL_CATEGORY[pair[0]]} or the {PLURAL_CATEGORY[pair[1]]}?",
        f"To which kind of things does {word} belong?",
        f"The word {word} names which kind of thing?",
    )
    i = rng.randrange(len(phrases))
    return one_turn(f"category|{word}|{i}", vary(rng, phrases[i]), kind)


FAMILIES = (
    Family("capitals", capitals, "capitals of 28 countries", facts=True),
    Family("opposites", opposites, "80 opposites of everyday words", facts=True),
    Family("colours", colours, "the usual colour of 26 things", share=0.7, facts=True),
    Family("animals", animals, "sounds, young, homes and legs of animals", facts=True),
    Family("uses", uses, "which thing is used for what", facts=True),
    Family("jobs", jobs, "who does which work", share=0.7, facts=True),
    Family("meanings", meanings, "short definitions, both ways", facts=True),
    Family("known numbers", known_numbers, "days in a week, wheels on a car ...", share=0.6, facts=True),
    Family("calendar", calendar, "order of days, months and seasons", facts=True),
    Family("categories", categories, "which kind of thing a word is", facts=True),
)
