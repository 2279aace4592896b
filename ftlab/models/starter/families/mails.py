"""Short mails and messages: greeting, one or two sentences, closing. Scored by perplexity only.

They are there for their words (shops, travel, offices, households), so that mail-like texts are not strange to the
starter and cost few tokens.
"""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, an, one_turn
from ftlab.models.starter.families.word_tasks import plural_of
from ftlab.models.starter.families.words import CITIES, COLOURS, DAYS, MONTHS, NAMES, NUMBER_WORDS

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


FAMILIES = (Family("mails", mails, "short mails and messages", share=0.5, scored="perplexity"),)
