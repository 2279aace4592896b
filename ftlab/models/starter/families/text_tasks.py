"""Tasks on small texts: sentiment, rewriting, reading, titles, gaps, yes or no."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, an, capital, one_turn, vary
from ftlab.models.starter.families.facts import CAPITALS, COLOURS_OF, OPPOSITES, USES, WORKERS
from ftlab.models.starter.families.words import ADJECTIVES, ALL_CATEGORIES, COLOURS, DAYS, DEEDS, NAMES, PLACES, THINGS

SUBJECTS = (
    "film book meal hotel party trip concert soup room game lesson shop coffee train service phone "
    "printer lamp song show dinner weather beach museum flight parcel app website jacket holiday"
).split()
PRAISE = "wonderful great lovely beautiful excellent delicious perfect amazing nice fantastic brilliant good".split()
BLAME = "terrible awful boring horrible bad ugly disappointing broken poor dreadful useless sad".split()
GOOD_ENDINGS = (
    "I enjoyed every minute",
    "I would do it again",
    "we all smiled",
    "I am very happy",
    "it made my day",
    "we had a lot of fun",
    "I can recommend it to everyone",
    "thank you so much",
    "I love it",
)
BAD_ENDINGS = (
    "I want my money back",
    "I will never come again",
    "we were very angry",
    "it was a waste of time",
    "I am so disappointed",
    "nobody helped us",
    "I cannot recommend it",
    "we left early",
    "I hate it",
)
PLAIN_FACTS = (
    "starts at nine",
    "is in the main street",
    "was on Tuesday",
    "has a number on the door",
    "is next to the station",
    "comes from another town",
    "is open from nine to five",
    "was in the list",
    "is on the second floor",
    "takes an hour",
)


def sentiment(rng: random.Random) -> Draft:
    subject = rng.choice(SUBJECTS)
    mood = rng.choice(("positive", "positive", "negative", "negative", "neutral"))
    if mood == "neutral":
        fact = rng.choice(PLAIN_FACTS)
        text, key = f"The {subject} {fact}.", fact
    else:
        word = rng.choice(PRAISE if mood == "positive" else BLAME)
        ending = rng.choice(GOOD_ENDINGS if mood == "positive" else BAD_ENDINGS)
        i = rng.randrange(8)
        key = ending if i in (5, 6) else word
        text = (
            f"The {subject} was {word}.",
            f"What a {word} {subject}! {capital(ending)}.",
            f"The {subject} was {word} and {ending}.",
            f"{capital(ending)}. The {subject} was really {word}.",
            f"I think the {subject} is {word}.",
            f"The {subject}? {capital(ending)}!",
            f"After the {subject}, {ending}.",
            f"My {subject} was so {word} that I told all my friends. {capital(ending)}.",
        )[i]
    ask = rng.choice(
        (
            "Is this positive, negative or neutral? {t}",
            "What is the sentiment of this text? {t}",
            "How does the writer feel? Answer positive, negative or neutral. {t}",
            "Sentiment: {t}",
            "Classify the review: {t}",
            "Positive, negative or neutral: {t}",
            "{t} Is this review positive, negative or neutral?",
            "Decide if this is positive, negative or neutral.\n{t}",
        )
    )
    return one_turn(f"sentiment|{subject}|{key}", ask.format(t=text), mood)


def rewriting(rng: random.Random) -> Draft:
    """A sentence in another form: question, negation, past, polite, other person, word replaced."""
    name, (base, past, third, obj) = rng.choice(NAMES), rng.choice(DEEDS)
    now = f"{name} {third} {obj}."
    kind = rng.randrange(7)
    if kind == 0:
        ask, answer = (
            rng.choice(
                ("Make this a question: {t}", "Turn this sentence into a question: {t}", "Rewrite as a question: {t}")
            ),
            f"Does {name} {base} {obj}?",
        )
    elif kind == 1:
        ask, answer = (
            rng.choice(
                (
                    "Say the opposite with not: {t}",
                    "Make this sentence negative: {t}",
                    "Put a not into this sentence: {t}",
                )
            ),
            f"{name} does not {base} {obj}.",
        )
    elif kind == 2:
        ask, answer = (
            rng.choice(
                (
                    "Put this into the past: {t}",
                    "Rewrite in the past tense: {t}",
                    "Say that it happened yesterday, without the word yesterday: {t}",
                )
            ),
            f"{name} {past} {obj}.",
        )
    elif kind == 3:
        ask, answer = (
            rng.choice(("Put this into the future: {t}", "Rewrite with will: {t}", "Say that it will happen: {t}")),
            f"{name} will {base} {obj}.",
        )
    elif kind == 4:
        name, now = "", f"{capital(base)} {obj}."
        ask, answer = (
            rng.choice(
                (
                    "Say this politely: {t}",
                    "Make this polite: {t}",
                    "Rewrite as a polite request: {t}",
                    "Ask nicely: {t}",
                )
            ),
            f"Could you please {base} {obj}?",
        )
    elif kind == 5:
        other = rng.choice([n for n in NAMES if n != name])
        ask, answer = (
            rng.choice(
                (
                    f"Replace {name} with {other}: {{t}}",
                    f"Write {other} in place of {name}: {{t}}",
                    f"Change the name {name} to {other}: {{t}}",
                )
            ),
            f"{other} {third} {obj}.",
        )
        name = f"{name}>{other}"
    else:
        ask, answer = (
            rng.choice(
                ("Rewrite with I: {t}", "Say it about yourself: {t}", "Change it so that it starts with I: {t}")
            ),
            f"I {base} {obj}.",
        )
    return one_turn(f"rewrite|{kind}|{name}|{base}", ask.format(t=now), answer)


def reading(rng: random.Random) -> Draft:
    """A question about two or three sentences before it."""
    people = rng.sample(NAMES, rng.choice((1, 2, 2, 2, 3)))
    things = rng.sample(THINGS, len(people))
    colours = rng.sample(COLOURS, len(people))
    places = rng.sample(PLACES, len(people))
    i = rng.randrange(len(people))
    if rng.random() < 0.5:
        verb = rng.choice(("has", "buys", "finds", "carries"))
        text = " ".join(f"{p} {verb} a {c} {t}." for p, c, t in zip(people, colours, things, strict=True))
        ask, answer = rng.choice(
            (
                (f"Who {verb} the {things[i]}?", people[i]),
                (f"What colour is the {things[i]}?", colours[i]),
                (f"What is {colours[i]}?", f"the {things[i]}"),
                (f"Who {verb} something {colours[i]}?", people[i]),
            )
        )
    else:
        text = " ".join(
            f"{p} is in the {c}." if rng.random() < 0.6 else f"{p} goes to the {c}."
            for p, c in zip(people, places, strict=True)
        )
        ask, answer = rng.choice(
            ((f"Where is {people[i]}?", f"in the {places[i]}"), (f"Who is in the {places[i]}?", people[i]))
        )
    whole = rng.choice(("{t} {q}", "Read this: {t} Now answer: {q}", "{q} {t}", "Text: {t}\nQuestion: {q}"))
    return one_turn(f"read|{text}|{ask}", whole.format(t=text, q=ask), answer)


def titles(rng: random.Random) -> Draft:
    """A title for a story of three sentences: who, and where it happened."""
    name, place, thing, (_, past, _, obj) = rng.choice(NAMES), rng.choice(PLACES), rng.choice(THINGS), rng.choice(DEEDS)
    mood = rng.choice(ADJECTIVES)
    if rng.random() < 0.5:
        text = rng.choice(
            (
                f"One day {name} went to the {place}. It was a {mood} day. There {name} {past} {obj}.",
                f"On {rng.choice(DAYS)} {name} walked to the {place}. Everybody was {mood}. {name} {past} {obj} "
                "and went home.",
                f"{name} wanted to see the {place}. The way was long. At the {place}, {name} {past} {obj}.",
            )
        )
        answer, key = f"{name} at the {place}", f"at|{name}|{place}"
    else:
        text = rng.choice(
            (
                f"{name} lost a {thing}. The {thing} was {mood}. "
                f"After an hour, {name} found the {thing} at the {place}.",
                f"{name} could not find the {thing}. A friend looked at the {place}. There was the {mood} {thing}!",
            )
        )
        answer, key = f"The lost {thing}", f"lost|{name}|{thing}"
    ask = rng.choice(
        (
            "Give this story a title: {t}",
            "Write a title: {t}",
            "What is a good title for this story? {t}",
            "{t} Give it a short title.",
            "Sum up in a title: {t}",
        )
    )
    return one_turn(f"title|{key}", ask.format(t=text), answer)


def gaps(rng: random.Random) -> Draft:
    """A missing word: the fact is from a closed set, the sentence varies."""
    x, y, frames = rng.choice(
        (
            (
                *rng.choice(CAPITALS),
                (
                    "The capital of {x} is ___.",
                    "___ is the capital of {x}.",
                    "If you go to the capital of {x}, you are in ___.",
                ),
            ),
            (
                *rng.choice(OPPOSITES),
                ("The opposite of {x} is ___.", "It is not {x}, it is ___.", "{x} and ___ are opposites."),
            ),
            (
                *rng.choice(COLOURS_OF),
                ("The colour of {x} is ___.", "I think of {x} and see the colour ___.", "We paint {x} in ___."),
            ),
            (*rng.choice(USES), ("To {x}, you need ___.", "We use ___ to {x}.", "With ___ you can {x}.")),
            (*rng.choice(WORKERS), ("A person who {x} is ___.", "It is ___ who {x}.", "In this town ___ {x}.")),
        )
    )
    asks = (
        "Fill in the gap: {t}",
        "Which word is missing? {t}",
        "Complete the sentence: {t}",
        "Fill in the blank: {t}",
    )
    i, j = rng.randrange(len(frames)), rng.randrange(len(asks))
    return one_turn(f"gap|{x}|{y}|{i}|{j}", asks[j].format(t=capital(frames[i].format(x=x))), y)


def yes_or_no(rng: random.Random) -> Draft:
    """Yes-or-no questions about kinds, capitals, opposites, colors and numbers."""
    yes = rng.random() < 0.5
    answer = "yes" if yes else "no"
    topic = rng.randrange(5)
    if topic == 0:
        kind = rng.choice(list(ALL_CATEGORIES))
        x = rng.choice(ALL_CATEGORIES[kind])
        y = kind if yes else rng.choice([k for k in ALL_CATEGORIES if k != kind])
        asks: tuple[str, ...] = (f"Is {x} {an(y)}?", f"Is {x} the name of {an(y)}?", f"Yes or no: {x} is {an(y)}.")
    elif topic == 1:
        x, city = rng.choice(CAPITALS)
        y = city if yes else rng.choice([c for _, c in CAPITALS if c != city])
        asks = (
            f"Is {y} the capital of {x}?",
            f"Yes or no: the capital of {x} is {y}.",
            f"Is the capital of {x} {y}?",
        )
    elif topic == 2:
        x, other = rng.choice(OPPOSITES)
        y = other if yes else rng.choice([b for a, b in OPPOSITES if a != x])
        asks = (
            f"Is {y} the opposite of {x}?",
            f"Are {x} and {y} opposites?",
            f"Yes or no: the opposite of {x} is {y}.",
        )
    elif topic == 3:
        x, colour = rng.choice(COLOURS_OF)
        y = colour if yes else rng.choice([c for c in COLOURS if c != colour])
        asks = (f"Is {x} {y}?", f"Is the colour of {x} {y}?", f"Yes or no: {x} is {y}.")
    else:
        low, high = map(str, sorted(rng.sample(range(60), 2)))
        if rng.random() < 0.5:
            x, y = (high, low) if yes else (low, high)
            asks = (
                f"Is {x} bigger than {y}?",
                f"Is the number {x} greater than {y}?",
                f"Yes or no: {x} is more than {y}.",
            )
        else:
            x, y = (low, high) if yes else (high, low)
            asks = (f"Is {x} smaller than {y}?", f"Yes or no: {x} is less than {y}.")
    i = rng.randrange(len(asks))
    return one_turn(f"yes|{topic}|{x}|{y}|{i}", vary(rng, capital(asks[i])), answer)


FAMILIES = (
    Family("sentiment", sentiment, "positive, negative or neutral"),
    Family("rewriting", rewriting, "question, negation, past, future, polite, other name", share=1.3),
    Family("reading", reading, "questions about two or three sentences", share=1.6),
    Family("titles", titles, "a title for a small story", share=0.7),
    Family("gaps", gaps, "fill in the missing word", facts=True),
    Family(
        "yes or no", yes_or_no, "yes or no about kinds, capitals, opposites, colours, numbers", share=1.6, facts=True
    ),
)
