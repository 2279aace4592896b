"""Writes `support_triage`: customer messages to an invented shop, each with queue, priority and hours.

A message consists of a problem (which decides the queue, and with it the hours for one case), a cue for the urgency
(which decides the priority), sometimes a sentence on how many orders, items or people are affected (which doubles the
hours), and parts that decide nothing: opening, product, background, sign-off, a typo. The card states the same rules.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import pairwise

from ftlab.samples.generate import Trigrams, is_near_copy, word_trigrams

PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True)
class Problem:
    """What a customer writes about; it decides the queue."""

    name: str
    queue: str
    phrases: tuple[str, ...]
    several: tuple[str, ...]
    background: str
    items: tuple[str, ...]
    priorities: tuple[str, ...] = PRIORITIES


@dataclass(frozen=True)
class Cue:
    """A sentence that tells how urgent it is; `problems` limits it to where it sounds natural (empty: everywhere)."""

    text: str
    problems: tuple[str, ...] = ()
    may_open: bool = False
    weight: int = 1


DEVICES = ("lamp", "kettle", "clock", "radio", "toaster", "speaker", "printer", "camera", "fan", "heater", "mixer")
SMART = ("speaker", "printer", "camera", "radio", "watch", "tablet", "clock", "heater", "doorbell")
HARD = ("chair", "desk", "mirror", "shelf", "bench", *DEVICES)
THINGS = ("backpack", "tent", "blanket", "bike", "coat", "rug", "sofa", "helmet", "guitar", *HARD)
FURNITURE = ("chair", "desk", "mirror", "shelf", "bench", "rug", "sofa", "lamp", "clock")
LOOKS = ("red", "blue", "green", "white", "black", "brown", "gray", "yellow", "pink", "silver", "new")

ORDERS = (
    "The same goes for {n} more orders.",
    "This is about {n} orders in all.",
    "It is the same with {n} of my orders.",
)
ORDERS_TO_MEND = (
    "The same goes for {n} more orders.",
    "This is about {n} orders in all.",
    "I have {n} more orders like this.",
)
FAULTY = (
    "The same goes for {n} more of them.",
    "We have {n} of them, and all are like this.",
    "All {n} that we bought are like this.",
)
SEND_BACK = (
    "The same goes for {n} more of them.",
    "This is about {n} of them in all.",
    "We have {n} of them to give back.",
)
PEOPLE = (
    "{N} of us have the same problem.",
    "The same goes for {n} people in my office.",
    "It is the same for {n} people here.",
)
WANTED = (
    "We need {n} of them.",
    "I want to buy {n} of them.",
    "We plan to order {n} of them in all.",
)

# Hours of work for one case, by queue.
HOURS = {"billing": 2, "shipping": 4, "returns": 4, "technical": 8, "account": 2, "products": 1}

# fmt: off
PROBLEMS = (
    Problem(
        "charged twice", "billing",
        (
            "I was charged twice for the {item}.",
            "My card shows two payments for one {item}.",
            "You took the money for my {item} two times.",
            "My bank says I paid double for the {item}.",
            "The price of the {item} was taken from my card twice.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "invoice needed", "billing",
        (
            "I need an invoice for my {item}.",
            "Please send me the receipt for the {item}.",
            "The invoice for the {item} has my name wrong.",
            "I lost the receipt for my {item} and need a new copy.",
            "There was no invoice in the box with the {item}.",
        ),
        ORDERS_TO_MEND, "order", THINGS,
    ),
    Problem(
        "delivery late", "shipping",
        (
            "My {item} has not arrived yet.",
            "The {item} should have come last week.",
            "The delivery of my {item} is late.",
            "I ordered a {item} two weeks ago and it is still not here.",
            "I am still waiting for the parcel with the {item}.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "parcel lost", "shipping",
        (
            "The driver lost the parcel with my {item}.",
            "Your page says the {item} was delivered, but I never got it.",
            "Nobody at the post office can find the parcel with my {item}.",
            "The {item} was left at the wrong house and is gone.",
            "The parcel with my {item} was stolen from my door.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "arrived broken", "returns",
        (
            "The {item} arrived broken.",
            "There is a big crack in the {item} I got.",
            "My {item} came out of the box in pieces.",
            "The {item} was damaged when I opened the parcel.",
            "One side of the {item} was bent when I opened the box.",
        ),
        FAULTY, "order", HARD,
    ),
    Problem(
        "not wanted", "returns",
        (
            "I want to send the {item} back because it is too big.",
            "I changed my mind about the {item} and want to return it.",
            "The {item} does not fit in my room, so I would like to return it.",
            "I do not like the {item} and want to send it back.",
            "The {item} is fine, but I have no use for it and want to give it back.",
        ),
        SEND_BACK, "order", FURNITURE,
    ),
    Problem(
        "no power", "technical",
        (
            "The {item} does not turn on.",
            "My {item} turns off after a few minutes.",
            "The {item} worked for a week and now it is dead.",
            "When I press the button, the {item} does nothing.",
            "My {item} has no power, even when it is plugged in.",
        ),
        FAULTY, "order", DEVICES,
    ),
    Problem(
        "no connection", "technical",
        (
            "My {item} does not connect to my phone.",
            "The app cannot find my {item}.",
            "The {item} loses the wireless signal every hour.",
            "I cannot connect the {item} with the app.",
            "After the update the {item} no longer talks to my phone.",
        ),
        FAULTY, "order", SMART,
    ),
    Problem(
        "cannot log in", "account",
        (
            "I forgot my password and cannot see my order for the {item}.",
            "My password does not work any more.",
            "I cannot log in to look at my order for the {item}.",
            "The link to set a new password does not work.",
            "I am locked out of my account after too many tries.",
        ),
        PEOPLE, "account", THINGS,
    ),
    Problem(
        "account stolen", "account",
        (
            "Someone else ordered a {item} from my account.",
            "A stranger used my account to buy a {item}.",
            "I think a thief got into my account and changed my email.",
            "There is an order for a {item} in my account that I never made.",
            "A stranger changed the email of my account and bought a {item}.",
        ),
        PEOPLE, "account", THINGS,
        # A customer who finds a thief in the account and says there is no hurry would read oddly.
        priorities=("normal", "high"),
    ),
    Problem(
        "in stock", "products",
        (
            "When will the {item} be back in stock?",
            "Do you still have the {item} in your shop?",
            "The {item} is sold out, and I want to know when you get more.",
            "Is the {item} still for sale?",
            "Can I still buy the {item}, or is it sold out?",
        ),
        WANTED, "shopper", THINGS,
    ),
    Problem(
        "made to order", "products",
        (
            "Can you make the {item} with our name on it?",
            "I would like a {item} made to my own size.",
            "Can you make the {plain} in a color that we choose?",
            "Could you make a special {plain} from my own drawing?",
            "We would like the {item} with the sign of our team on it.",
        ),
        WANTED, "shopper", FURNITURE,
    ),
)
# fmt: on

STOPS_WORK = ("no power", "no connection", "cannot log in")
WORRYING = ("charged twice", "parcel lost", "account stolen")
CUES = {
    "high": (
        Cue("This is urgent.", may_open=True),
        Cue("I need an answer today.", may_open=True),
        Cue("Please help me right now.", may_open=True),
        Cue("My boss wants this settled today."),
        Cue("Please call me at once.", may_open=True),
        Cue("We cannot work until this is solved.", STOPS_WORK),
        Cue("I am very worried, so please act fast.", WORRYING, weight=2),
    ),
    "normal": (
        Cue("", weight=2),  # nothing said about the urgency
        Cue("Please look at it this week."),
        Cue("An answer in the next few days is fine."),
        Cue("I hope to hear from you in a day or two."),
        Cue("Could you let me know this week?"),
    ),
    "low": (
        Cue("There is no hurry.", may_open=True),
        Cue("Please take your time."),
        Cue("It can wait until next month."),
        Cue("No rush at all."),
        Cue("This is not important right now.", may_open=True),
        Cue("I do not mind if it takes a few weeks."),
    ),
}

# Sentences that decide nothing. Some hold numbers, so that a number alone is not a sign of a larger case.
BACKGROUND = {
    "order": (
        "My order number is {number}.",
        "I have been a customer for {years} years.",
        "It was a gift for my {relative}.",
        "I wrote to you on {day} too.",
        "I paid for it by card.",
        "I live on {street} Street.",
    ),
    "account": (
        "My customer number is {number}.",
        "I have been a customer for {years} years.",
        "I wrote to you on {day} too.",
        "My {relative} is helping me to write this.",
        "I live on {street} Street.",
    ),
    "shopper": (
        "I saw your shop window on {street} Street.",
        "My {relative} told me about your shop.",
        "I have been a customer for {years} years.",
        "My {relative} likes your shop.",
        "I could come by on {day}.",
    ),
}

OPENINGS = (
    "", "", "Hello,", "Hi,", "Hi there,", "Hey,", "Good morning,", "Good evening,", "Good day,", "Hello Pinebrook,",
    "Hi Pinebrook team,", "Dear Pinebrook team,", "Dear team,", "Hello, this is {name}.", "Hi, my name is {name}.",
    "Good morning, {name} here.", "Hello again,",
)  # fmt: skip
CLOSINGS = (
    "", "", "", "Thanks, {name}", "Thank you, {name}", "Best wishes, {name}", "Thank you.", "Thanks.", "Thanks a lot.",
    "Kind regards, {name}", "Many thanks.", "Yours, {name}",
)  # fmt: skip
NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack", "Karen", "Leo", "Maria", "Nick",
    "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor", "Wendy", "Amir", "Bella", "Chen", "Dina", "Eric", "Fatima",
    "Hugo", "Jane", "Kofi", "Lena", "Milo", "Petra", "Ravi", "Sara", "Tom",
)  # fmt: skip
RELATIVES = ("sister", "brother", "mother", "father", "friend", "aunt", "uncle", "daughter", "son", "neighbor")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
STREETS = ("Hill", "Oak", "River", "Park", "Church", "Lake", "Mill", "Garden")
NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty")

# Slips of the finger in words that decide nothing.
SLIPS = {
    "Please": "Plese", "please": "plese", "have": "hvae", "Thanks": "Thansk", "Hello": "Helo", "with": "wiht",
    "the": "teh", "Good": "Godo", "and": "adn", "Thank": "Thnak", "would": "woudl", "ordered": "orderd",
}  # fmt: skip
# Sentences that begin like this can follow another one after "and".
LINKABLE = ("I ", "It ", "There ", "My ", "This is ", "The same ", "{N} ", "We ")


SIZES = {"train": 600, "validation": 100, "test": 100}
SEED = "support_triage 1"
WORDS = (15, 45)  # shortest and longest message, in words

# The bound is stricter between splits than within one: a held-out score is only worth its distance from training.
NEAR_COPY_WITHIN = 0.8
NEAR_COPY_ACROSS = 0.6

SEVERAL_SHARE = 0.4
SLIP_SHARE = 0.06
LOWER_CASE_SHARE = 0.05


@dataclass(frozen=True)
class Ticket:
    """One message with what it was made from; `pair` is the combination of problem and cue phrase held out by split."""

    message: str
    problem: Problem
    priority: str
    several: bool
    pair: tuple[int, int]

    @property
    def hours(self) -> int:
        """Hours of work: those of the queue, doubled when several orders, items or people are concerned."""
        return HOURS[self.problem.queue] * (2 if self.several else 1)

    def as_row(self) -> dict[str, str]:
        """Return the row of the data set: the message and the answer as compact JSON."""
        answer = {"queue": self.problem.queue, "priority": self.priority, "hours": self.hours}
        return {"prompt": self.message, "completion": json.dumps(answer)}


def split_of_pair(problem_phrase: int, cue_phrase: int) -> str:
    """Return the split that owns a combination of problem phrase and cue phrase (numbers in the order of the tables).

    One combination in eight is kept for the test, one for validation; every phrase occurs in training with others.
    """
    return {0: "test", 4: "validation"}.get((problem_phrase * 3 + cue_phrase) % 8, "train")


def build() -> dict[str, list[dict[str, str]]]:
    """Return the rows of all splits, the same on every call."""
    return {split: [ticket.as_row() for ticket in tickets] for split, tickets in build_tickets().items()}


def build_tickets() -> dict[str, list[Ticket]]:
    """Return the tickets of all splits with what each was made from, the same on every call."""
    rng = random.Random(SEED)
    splits: dict[str, list[Ticket]] = {}
    taken: list[list[Trigrams]] = []
    for split, size in SIZES.items():
        tickets: list[Ticket] = []
        grams: list[Trigrams] = []
        while len(tickets) < size:
            # Problems and their phrases take turns, so that each has its share of every split.
            problem = PROBLEMS[len(tickets) % len(PROBLEMS)]
            phrase = len(tickets) // len(PROBLEMS) % len(problem.phrases)
            ticket = _write_ticket(rng, problem, phrase, split)
            if not WORDS[0] <= len(ticket.message.split()) <= WORDS[1]:
                continue
            own = word_trigrams(ticket.message)
            if is_near_copy(own, grams, NEAR_COPY_WITHIN):
                continue
            if any(is_near_copy(own, others, NEAR_COPY_ACROSS) for others in taken):
                continue
            tickets.append(ticket)
            grams.append(own)
        taken.append(grams)
        rng.shuffle(tickets)
        splits[split] = tickets
    return splits


def _write_ticket(rng: random.Random, problem: Problem, phrase_number: int, split: str) -> Ticket:
    priority, cue, pair = _choose_cue(rng, problem, phrase_number, split)
    several = rng.random() < SEVERAL_SHARE
    phrase = problem.phrases[phrase_number]
    plain = rng.choice(problem.items)
    slots = {
        "plain": plain,
        "item": _describe(rng, plain),
        "name": rng.choice(NAMES),
        "relative": rng.choice(RELATIVES),
        "day": rng.choice(DAYS),
        "street": rng.choice(STREETS),
        "years": str(rng.randint(2, 9)),
        "number": str(rng.randint(1000, 9999)),
    }
    count = rng.choice(NUMBERS) if rng.random() < 0.6 else str(rng.randint(3, 30))
    slots |= {"n": count, "N": count.capitalize()}

    extent = rng.choice(problem.several) if several else ""
    # With both a count and a cue the message is long enough; otherwise it gets some background more often than not.
    background = rng.random() < (0.1 if extent and cue.text else 0.6)
    sentences = [phrase, rng.choice(BACKGROUND[problem.background]) if background else "", extent]
    if cue.may_open and rng.random() < 0.4:
        sentences = [cue.text, *_link(rng, sentences)]
    else:
        sentences = _link(rng, [*sentences, cue.text])
    message = _join(rng.choice(OPENINGS), sentences, rng.choice(CLOSINGS)).format(**slots)
    return Ticket(_roughen(rng, message), problem, priority, several, pair)


def _choose_cue(
    rng: random.Random, problem: Problem, phrase_number: int, split: str
) -> tuple[str, Cue, tuple[int, int]]:
    """Return a priority, a cue for it that `split` may combine with the phrase, and the number of the combination."""
    phrase_place = phrase_number + sum(len(earlier.phrases) for earlier in PROBLEMS[: PROBLEMS.index(problem)])
    owned: dict[str, list[tuple[Cue, int]]] = {priority: [] for priority in PRIORITIES}
    cues = [(priority, cue) for priority in PRIORITIES for cue in CUES[priority]]
    for cue_place, (priority, cue) in enumerate(cues):
        fits = priority in problem.priorities and (not cue.problems or problem.name in cue.problems)
        if fits and split_of_pair(phrase_place, cue_place) == split:
            owned[priority].append((cue, cue_place))
    # A small split may own no combination of this phrase with one of the priorities.
    priority = rng.choice([priority for priority in PRIORITIES if owned[priority]])
    # Cues that fit few problems come up more often there, so that each is seen often enough to be learned.
    weights = [cue.weight * (3 if cue.problems else 1) for cue, _ in owned[priority]]
    cue, cue_place = rng.choices(owned[priority], weights)[0]
    return priority, cue, (phrase_place, cue_place)


def _link(rng: random.Random, sentences: list[str]) -> list[str]:
    """Drop the empty ones of problem, background, extent, cue; join two of them by "and" now and then."""
    background = sentences[1]
    sentences = [sentence for sentence in sentences if sentence]
    if rng.random() < 0.5:
        return sentences
    for i, (first, second) in enumerate(pairwise(sentences)):
        plain = first.endswith(".") and "," not in first and " and " not in first and not first.startswith("Please")
        if plain and background not in (first, second) and second.startswith(LINKABLE):
            return [*sentences[:i], f"{first[:-1]}, and {_small(second)}", *sentences[i + 2 :]]
    return sentences


def _small(sentence: str) -> str:
    if sentence.startswith("{N}"):
        return "{n}" + sentence.removeprefix("{N}")
    return sentence if sentence.startswith("I ") else sentence[0].lower() + sentence[1:]


def _describe(rng: random.Random, item: str) -> str:
    return f"{rng.choice(LOOKS)} {item}" if rng.random() < 0.6 else item


def _join(opening: str, sentences: list[str], closing: str) -> str:
    body = " ".join(sentences)
    # After "Hello," the sentence goes on in lower case, unless it starts with "I".
    if opening.endswith(","):
        body = _small(body)
    return " ".join(part for part in (opening, body, closing) if part)


def _roughen(rng: random.Random, message: str) -> str:
    """Make some messages look typed in haste: a slip of the finger, or no capitals."""
    roll = rng.random()
    if roll < SLIP_SHARE:
        words = message.split()
        places = [i for i, word in enumerate(words) if word in SLIPS]
        if places:
            place = rng.choice(places)
            words[place] = SLIPS[words[place]]
        return " ".join(words)
    if roll < SLIP_SHARE + LOWER_CASE_SHARE:
        return message.lower()
    return message
