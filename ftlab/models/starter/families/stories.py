"""Small stories, everyday scenes and short mails. Many endings are correct, so these are scored by perplexity only."""

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
    MONTHS,
    NAMES,
    NUMBER_WORDS,
    PLACES,
    THINGS,
)

HOUSEHOLD = (
    "bowl mug plate teapot kettle toaster towel rug vase tray stool bench pot pan mixer heater fan "
    "speaker helmet backpack tent tablet laptop keyboard screen cable charger battery headphones doorbell "
    "guitar lamp chair desk shelf sofa blanket pillow mirror clock candle basket curtain carpet jug glass "
    "broom bucket suitcase raincoat sweater mattress drawer"
).split()
PLURAL_ONLY = {"headphones"}

COUNTED = ("orders", "friends", "questions", "pieces", "days off")

GREETINGS = (
    "Dear {a},",
    "Hello {a},",
    "Hi {a},",
    "Good morning {a},",
    "Good evening {a},",
    "Dear team,",
    "Dear customer,",
    "Hello everybody,",
)
CLOSINGS = (
    "Kind regards, {b}",
    "Best wishes, {b}",
    "Many thanks, {b}",
    "Yours, {b}",
    "Thank you, {b}",
    "Best regards, {b}",
    "Thanks a lot, {b}",
    "See you soon, {b}",
    "Warm greetings, {b}",
    "Let me know. {b}",
)
BODIES: dict[str, tuple[str, ...]] = {
    "a thing that was ordered": (
        "I am writing because the {t} I ordered has not been delivered yet.",
        "Could you tell me when the {t} will arrive?",
        "My order came without the {t}.",
        "I would like to have the {t} in {col}, if it is still possible.",
        "Please send the {ts} to our office in {c}.",
        "The color of the {t} is {col}, not gray.",
        "We need {w} more {ts} until {d}.",
        "I have been waiting since {d} and nobody has called me.",
    ),
    "a broken thing": (
        "The {t} stopped working after a few days.",
        "There is a crack in the {t}, so I cannot use it.",
        "One side of the {t} is damaged.",
        "The {t} gets too hot and makes a loud noise.",
        "Somebody dropped the {t} and now it is bent.",
        "I tried to repair the {t}, but some pieces are missing.",
        "The button on the {t} is stuck.",
        "The {t} was wet when I opened the box.",
    ),
    "a payment": (
        "I was charged twice for the same {t}.",
        "The amount on the bill is wrong.",
        "I have already paid by card.",
        "Please check the payment of {n} dollars.",
        "My bank says that the money was taken on {d}.",
        "Can I get a discount of {n} percent?",
        "The gift card did not work.",
        "The total should be {n} dollars.",
    ),
    "an account": (
        "I cannot log in any more.",
        "The link in the message has expired.",
        "I would like to close my old account and use the new email.",
        "Please remove my phone number.",
        "Somebody else may have used my login.",
        "The code never reached me.",
        "I typed my name wrong when I signed up.",
        "How do I change my settings?",
    ),
    "a visit": (
        "I hope you are well.",
        "We would love to see you on {d}.",
        "I will bring some {food} and the {t}.",
        "My sister and her children are coming too.",
        "The train from {c} arrives at {n} past {w2}.",
        "Please do not worry if you are late.",
        "We can sit in the garden until the evening.",
        "It has been such a long time.",
    ),
    "a plan for work": (
        "Our boss wants the plan before {d}.",
        "The meeting has been moved to {d}.",
        "I wrote down everything that was important.",
        "The new office opens in {m}.",
        "We still have a lot of work this week.",
        "Please read the pages and tell me what you think.",
        "Nothing is settled, so there is no rush.",
        "This is urgent, please hurry.",
    ),
    "a holiday": (
        "We are having a great time in {c}.",
        "The weather is fine and the hotel is cheap.",
        "Yesterday we took a boat and saw a lot of fish.",
        "The museum was closed, so we went swimming.",
        "I already bought {w} gifts for you.",
        "Our flight goes back in {m}.",
        "The food is better than at home.",
        "There is so much to see in this place.",
    ),
    "a favour": (
        "Could you look after my {t} while I am away?",
        "I only need it for two weeks.",
        "It does not matter if it takes a month or longer.",
        "You helped me once and I never forgot it.",
        "The key is under the {t} next to the door.",
        "If you have no time, just tell me.",
        "I will gladly do the same for you.",
        "Please give the {t} to our neighbor.",
    ),
}
FOOD = "bread cheese soup salad cake rice fruit sandwiches cookies honey butter pizza".split()
ASKS = (
    "Write a short mail about {t}.",
    "Write a message to {a} about {t}.",
    "Write a mail about {t} and sign it with {b}.",
    "Please write a few lines to {a} about {t}.",
)


def mails(rng: random.Random) -> Draft:
    a, b = rng.sample(NAMES, 2)
    thing = rng.choice(HOUSEHOLD)
    subject = rng.choice(list(BODIES))
    slots = {
        "a": a,
        "b": b,
        "t": thing,
        "ts": thing if thing in PLURAL_ONLY else plural_of(thing),
        "col": rng.choice(COLOURS),
        "c": rng.choice(CITIES),
        "d": rng.choice(DAYS),
        "m": rng.choice(MONTHS),
        "n": str(rng.randint(2, 60)),
        "w": rng.choice(NUMBER_WORDS[2:]),
        "w2": rng.choice(NUMBER_WORDS[6:13]),
        "food": rng.choice(FOOD),
    }
    body = rng.sample(BODIES[subject], rng.randint(1, 3))
    text = "\n".join((rng.choice(GREETINGS), " ".join(body), rng.choice(CLOSINGS))).format(**slots)
    if rng.random() < 0.3:
        text = text.replace("\n", " ")
    if rng.random() < 0.3:
        i = rng.randrange(len(NUMBER_WORDS))
        text = (
            text.split("\n")[0]
            + f" I have {an(thing)} and {NUMBER_WORDS[i]} {rng.choice(COUNTED)}. "
            + text.split("\n")[-1]
        )
    return one_turn(
        f"mail|{a}|{thing}|{subject}",
        rng.choice(ASKS).format(t=subject, **{k: v for k, v in slots.items() if k != "t"}),
        text,
    )


MAILS = (Family("mails", mails, "short mails and messages", share=0.5, scored="perplexity"),)


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

# Everyday scenes with the words of shops, offices and travel, so that later texts about them are not unfamiliar.
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
    """Five to eight sentences: opener, wish, trouble, turn, ending."""
    parts = [
        rng.choice(OPENERS),
        rng.choice(WISHES),
        *rng.sample(TROUBLES, rng.choice((1, 1, 2))),
        *rng.sample(TURNS, rng.choice((1, 2))),
        *rng.sample(ENDINGS, rng.choice((1, 1, 2))),
    ]
    return [_fill(p, slots) for p in parts]


def stories(rng: random.Random) -> Draft:
    """A story on request, or the rest of a story from its beginning."""
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
    *MAILS,
)
