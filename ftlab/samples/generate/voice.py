"""Writes `brand_voice` and `brand_voice_preferences`: replies of an invented shop that follow its house style or break
it.

In a prompt, a customer gives a first name and asks one thing. The reply greets by that name, answers in two short
sentences that depend on the question, offers help, and is signed by the person responsible for such questions. The
rejected side of a preference answers the same question and breaks one to three rules of `house_style.py`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from ftlab.samples.generate import Trigrams, is_near_copy, word_trigrams
from ftlab.samples.house_style import RULES, follows_house_style

HARD = ("kettle", "lamp", "teapot", "clock", "mug", "mirror", "vase", "tray", "bench", "shelf", "chair", "bowl")
THINGS = ("blanket", "basket", "candle", "rug", "pillow", "towel", "stool", "plant pot", *HARD)
MENDABLE = ("lamp", "clock", "chair", "bench", "shelf", "stool", "mirror", "basket")
COLORS = ("red", "blue", "green", "white", "black", "brown", "gray", "yellow")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack", "Karen", "Leo", "Maria", "Nick",
    "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor", "Wendy", "Amir", "Bella", "Chen", "Dina", "Eric", "Fatima",
    "Hugo", "Jane", "Kofi", "Lena", "Milo", "Petra", "Ravi", "Sara", "Tom",
)  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """One thing customers write about and the sentences that answer it; `{item}`, `{day}` and `{color}` are slots."""

    staff: str  # who signs
    asks: tuple[str, ...]
    firsts: tuple[str, ...]  # go on after "Hi Anna, " and so start in lower case
    seconds: tuple[str, ...]
    items: tuple[str, ...] = THINGS


HOURS_ASKS = (
    "When do you open on {day}?",
    "Are you open on {day}?",
    "What are your hours on {day}?",
    "Can I visit the shop on {day}?",
    "How late can I come by on {day}?",
    "I want to look at a {item} on {day}. When is the shop open?",
)
HOURS_FIRSTS = (
    "thank you for asking about {day}.",
    "I am glad to tell you about {day}.",
    "here are our hours for {day}.",
)

TOPICS = (
    Topic(
        "Nora",
        (
            "Where is my {item}? It was due on {day}.",
            "My {item} was due on {day}, but it is not here.",
            "I have waited for my {item} since {day}.",
            "You said my {item} would come on {day}. It did not.",
            "Can you find my {item}? It should have come on {day}.",
        ),
        (
            "thank you for asking about your {item}.",
            "your {item} should be with you by now.",
            "I have looked for your {item} just now.",
        ),
        (
            "I will ask the driver what went wrong on {day}.",
            "It left us before {day}, and I will find it today.",
            "It missed {day}, so I will call the driver today.",
        ),
    ),
    Topic(
        "Omar",
        HOURS_ASKS,
        HOURS_FIRSTS,
        ("We open at 9 and close at 6.", "Our doors are open from 9 to 6."),
    ),
    Topic(
        "Theo",
        (
            "I would like to return the {item} I bought on {day}.",
            "How can I send back the {item}? It came on {day}.",
            "The {item} is too big for us. Can I bring it back?",
            "I bought a {item} on {day} and do not need it. What can I do?",
            "Do you take back a {item} that I have not used?",
        ),
        (
            "of course you can return the {item}.",
            "we will gladly take back the {item}.",
            "thank you for telling me about the {item}.",
        ),
        (
            "You have 30 days to return it.",
            "Bring it to the shop within 30 days.",
            "Mail it to us within 30 days.",
        ),
    ),
    Topic(
        "Theo",
        (
            "The {item} I got on {day} is broken.",
            "There is a crack in my new {item}. I am not happy.",
            "My {item} came in pieces on {day}.",
            "The {item} broke the first time I used it.",
            "I opened the box on {day} and the {item} was broken.",
        ),
        (
            "I am sorry about the broken {item}.",
            "thank you for telling me about the broken {item}.",
            "a broken {item} is no fun at all.",
        ),
        (
            "A new {item} will leave our shop today.",
            "I will send you a new one today.",
            "You will get a new one, and you can keep both.",
        ),
        HARD,
    ),
    Topic(
        "Iris",
        (
            "Do you have the {item} in {color}?",
            "I am looking for a {color} {item}.",
            "Is there a {color} {item} in your shop?",
            "Can I buy the {item} in {color} too?",
            "Does the {item} come in {color}?",
        ),
        (
            "yes, we have the {item} in {color}.",
            "a {color} {item} is a fine choice.",
            "we do have a {color} {item} here.",
        ),
        (
            "You can order it today or come by.",
            "It is on the shelf in our shop.",
            "I can send one to you this week.",
        ),
    ),
    Topic(
        "Iris",
        (
            "Can you wrap the {item} as a gift?",
            "The {item} is a gift. Do you have nice paper?",
            "I need the {item} wrapped for {day}.",
            "How much is it to wrap a {item} as a gift?",
            "Could the {item} come in gift paper?",
        ),
        (
            "we will wrap the {item} for you.",
            "a {item} makes a lovely gift.",
            "yes, we can wrap the {item}.",
        ),
        (
            "The gift paper costs 2 dollars.",
            "It costs 2 dollars, and a card is included.",
            "You pay 2 dollars for paper and a card.",
        ),
    ),
    Topic(
        "Nora",
        (
            "The {item} came on {day} and I love it.",
            "I just want to say thank you for the lovely {item}.",
            "My new {item} is the best thing in the house.",
            "The quick help with my {item} on {day} was great.",
            "We use the {item} each day, and it is great.",
        ),
        (
            "your kind words about the {item} made my day.",
            "thank you for writing about the {item}.",
            "it is good to hear about your {item}.",
        ),
        (
            "I will read your note to the whole team.",
            "We hope it stays with you for many years.",
            "The people who made it will be very glad.",
        ),
    ),
    Topic(
        "Omar",
        (
            "I called you about my {item} on {day} and nobody answered.",
            "Why did nobody pick up the phone on {day}? I have a {item} to order.",
            "I waited for an hour on the phone on {day}. It was about a {item}.",
            "On {day} I tried to call about the {item} three times.",
            "Your phone was off on {day}. I only had a question about a {item}.",
        ),
        (
            "I am sorry that we missed you on {day}.",
            "you should have reached us on {day}.",
            "thank you for trying to call on {day}.",
        ),
        (
            "I will call you today about the {item}.",
            "Tell me about the {item}, and I will answer today.",
            "I have time for you and the {item} today.",
        ),
    ),
    Topic(
        "Nora",
        (
            "How long does it take to send a {item}?",
            "If I order the {item} on {day}, when will it be here?",
            "How soon can I have the {item}?",
            "When would a {item} get to my house?",
            "I would order a {item} on {day}. How many days does it take?",
        ),
        (
            "thank you for choosing the {item}.",
            "your {item} will travel fast.",
            "we will pack the {item} on the same day.",
        ),
        (
            "It will reach you in three days.",
            "The trip to your door takes three days.",
            "Please count on three days from your order.",
        ),
    ),
    Topic(
        "Theo",
        (
            "Can you mend an old {item}?",
            "My {item} is ten years old and needs a repair.",
            "Do you repair things? I have an old {item}.",
            "I do not want to throw away my old {item}. Can you fix it?",
            "Could I bring you my {item} on {day} for a repair?",
        ),
        (
            "we like to mend an old {item}.",
            "your old {item} is in good hands with us.",
            "please bring your {item} to the shop.",
        ),
        (
            "A repair takes about one week.",
            "It will be ready after one week.",
            "Our workshop needs one week for it.",
        ),
        MENDABLE,
    ),
    Topic(
        "Iris",
        (
            "Please keep a {item} for me until {day}.",
            "Can you put a {color} {item} aside? I will come on {day}.",
            "I can only come on {day}. Will you hold the {item} for me?",
            "May I pick up the {item} on {day}?",
            "I want to buy the {item}, but I have no time before {day}.",
        ),
        (
            "I have put the {item} aside for you.",
            "the {item} now has your name on it.",
            "we will keep the {item} for you.",
        ),
        (
            "It will wait for you until {day}.",
            "You can pick it up on {day}.",
            "Please come to the front desk on {day}.",
        ),
    ),
    Topic(
        "Nora",
        (
            "Please cancel my order for the {item}.",
            "I ordered a {item} on {day}, but I want to stop the order.",
            "I do not want the {item} any more. It has not been sent yet.",
            "Can I still cancel the {item} that I ordered on {day}?",
            "I ordered the {item} two times. Please cancel one of them.",
        ),
        (
            "I have stopped the order for the {item}.",
            "your order for the {item} is cancelled.",
            "the {item} will stay here with us.",
        ),
        (
            "Your money will be back in three days.",
            "You get your money back within three days.",
            "Please give your bank three days to pay you.",
        ),
    ),
    Topic(
        "Omar",
        (
            "Is the {item} cheaper if I buy two?",
            "Do I pay less for two of the {color} {item}?",
            "I want two of the {item}. Is there a better price?",
            "What can you do about the price if I take a second {item}?",
            "I already have one {item} from you. Is a second one cheaper?",
        ),
        (
            "a second {item} is a good idea.",
            "it is good that you like the {item}.",
            "yes, a second {item} costs you less.",
        ),
        (
            "You save 10 percent when you buy two.",
            "We take 10 percent off the second one.",
            "The second one is 10 percent cheaper.",
        ),
    ),
    Topic(
        "Iris",
        (
            "How do I clean my {item}?",
            "My {color} {item} has a spot. What should I do?",
            "What is the best way to care for the {item}?",
            "Can I wash the {item} with soap?",
            "The {item} got dirty on {day}. How can I clean it?",
        ),
        (
            "it is easy to care for the {item}.",
            "your {item} will soon look like new.",
            "thank you for taking care of the {item}.",
        ),
        (
            "Use a soft cloth and warm water.",
            "Warm water and a soft cloth work best.",
            "A soft cloth and warm water are enough.",
        ),
        HARD,
    ),
)
# The weekend has hours of its own: a reply about Saturday or Sunday is a fact to learn, not a phrase to copy.
WEEKEND_SECONDS = {
    "Saturday": ("We open at 10 and close at 4.", "Our doors are open from 10 to 4."),
    "Sunday": ("We are closed and open again on Monday at 9.", "Our doors are closed until Monday at 9."),
}

INTRODUCTIONS = (
    "Hi, this is {name}. {ask}",
    "Hello, my name is {name}. {ask}",
    "{name} here. {ask}",
    "Hello, I am {name}. {ask}",
    "Good morning, {name} here. {ask}",
    "{ask} Thanks, {name}",
    "Hi. {ask} Best wishes, {name}",
    "Hello. {ask} My name is {name}.",
    "Dear Pinebrook team, {ask} Kind regards, {name}",
    "Good evening. {ask} Thank you, {name}",
    "{ask} Please write back to {name}.",
    "Hey Pinebrook, it is {name}. {ask}",
)
GREETINGS = ("Hi", "Hello", "Dear")
OFFERS = (
    "Write any time if I can help.",
    "I am glad to help with anything else.",
    "Just ask if you need more help.",
    "I am here if you need help.",
    "Let me know if I can help again.",
    "Tell me how else I can help.",
)

# What the rejected answers do instead.
WRONG_GREETINGS = ("Hello, ", "Hi there, ", "Dear customer, ", "", "Hey {name}, ", "To {name}: ", "Good day, ")
STIFF_STARTS = ("As per our policy, ", "Kindly note that ", "Please be advised that ", "Kindly be advised that ")
STIFF_REQUESTS = ("As per our policy, please ", "Kindly ", "It is our policy to ask this of you: please ")
STIFF_SENTENCES = (
    "We regret any inconvenience.",
    "Unfortunately we are very busy this week.",
    "This is our usual policy.",
    "Kindly keep this message.",
)
STIFF_OFFERS = ("Kindly ask for help.", "Kindly write for help.", "Help is given as per our rules.")
LONG_LINKS = (
    ", and as far as I can see from here, ",
    ", and I think that you will be pleased to hear that ",
    ", so I want to let you know that ",
    ", and to make a long story short, ",
    ", and ",
    ", and ",
    ", and ",
)
LONG_REQUESTS = (
    ", and when you have a free moment some time this week, please ",
    ", so if that is fine with you and your plans, please ",
    ", and to make a long story short, please ",
    ", so please ",
    ", so please ",
)
REQUEST_STARTS = ("Use ", "Tell ", "Mail ", "Bring ", "Please ")
CONTRACTIONS = (
    ("I am", "I'm"), ("I will", "I'll"), ("I have", "I've"), ("it is", "it's"), ("It is", "It's"), ("we will", "we'll"),
    ("You will", "You'll"), ("It will", "It'll"), ("do not", "don't"), ("We are", "We're"), ("you are", "you're"),
)  # fmt: skip
SHORT_FORMS = ("That's how we do it here.", "Don't worry about it.", "You're always welcome here.", "That's a promise.")
NOT_AN_OFFER = ("", "", "Have a nice day.", "That is all.", "See you soon.")
WRONG_SIGN_OFFS = ("", "", "The Pinebrook team", "Customer service", "Best regards", "Your shop", "Support desk")


REPLY_SIZES = {"train": 400, "validation": 60, "test": 60}
PREFERENCE_SIZES = {"train": 220, "validation": 40, "test": 40}
SEED = "brand_voice 1"
NEAR_COPY_WITHIN = 0.8
NEAR_COPY_ACROSS = 0.65


@dataclass(frozen=True)
class Question:
    """A customer's message with what a reply has to know about it."""

    prompt: str
    topic: Topic
    name: str
    day: str
    item: str
    color: str

    def fill(self, text: str) -> str:
        """Fill the slots of a sentence with what this customer wrote about."""
        return text.format(name=self.name, day=self.day, item=self.item, color=self.color)


@dataclass(frozen=True)
class Reply:
    """The parts of a reply, so that rules can be broken one part at a time."""

    greeting: str
    first: str
    second: str
    offer: str
    sign_off: str


def build_replies() -> dict[str, list[dict[str, str]]]:
    """Return the rows (prompt, completion) of `brand_voice` by split, the same on every call."""
    rng = random.Random(f"{SEED} replies")
    return {
        split: [{"prompt": question.prompt, "completion": _join(_write_reply(rng, question))} for question in questions]
        for split, questions in _write_questions("replies").items()
    }


def build_preferences() -> dict[str, list[dict[str, str]]]:
    """Return the rows (prompt, chosen, rejected) of `brand_voice_preferences` by split, the same on every call."""
    rng = random.Random(f"{SEED} preferences")
    splits = {}
    for split, questions in _write_questions("preferences").items():
        rows = []
        for number, question in enumerate(questions):
            # Every second rejected answer is the longer one, so that length says nothing about the label.
            chosen, rejected = _write_pair(rng, question, rejected_longer=number % 2 == 0)
            rows.append({"prompt": question.prompt, "chosen": chosen, "rejected": rejected})
        rng.shuffle(rows)
        splits[split] = rows
    return splits


def _write_questions(wanted: str) -> dict[str, list[Question]]:
    """Return the questions of one of the two data sets by split; both are drawn together to keep them apart."""
    rng = random.Random(f"{SEED} questions")
    taken: list[list[Trigrams]] = []
    result: dict[str, dict[str, list[Question]]] = {"replies": {}, "preferences": {}}
    for data_set, sizes in (("replies", REPLY_SIZES), ("preferences", PREFERENCE_SIZES)):
        for split, size in sizes.items():
            questions: list[Question] = []
            grams: list[Trigrams] = []
            while len(questions) < size:
                question = _write_question(rng, TOPICS[len(questions) % len(TOPICS)], data_set, split)
                own = word_trigrams(question.prompt)
                if is_near_copy(own, grams, NEAR_COPY_WITHIN):
                    continue
                if any(is_near_copy(own, others, NEAR_COPY_ACROSS) for others in taken):
                    continue
                questions.append(question)
                grams.append(own)
            taken.append(grams)
            rng.shuffle(questions)
            result[data_set][split] = questions
    return result[wanted]


# Twelve shares of the combinations of (way to ask, item, day), so that held-out prompts combine them anew.
_SHARES = (
    ("replies", "test"), ("replies", "validation"), ("preferences", "test"), ("preferences", "validation"),
    ("replies", "train"), ("preferences", "train"), ("replies", "train"), ("preferences", "train"),
    ("replies", "train"), ("preferences", "train"), ("replies", "train"), ("replies", "train"),
)  # fmt: skip


def _write_question(rng: random.Random, topic: Topic, data_set: str, split: str) -> Question:
    while True:
        ask, item, day = rng.choice(topic.asks), rng.choice(topic.items), rng.choice(DAYS)
        place = 5 * topic.asks.index(ask)
        place += topic.items.index(item) if "{item}" in ask else 0
        place += 3 * DAYS.index(day) if "{day}" in ask else 0
        if _SHARES[place % len(_SHARES)] == (data_set, split):
            break
    name, color = rng.choice(NAMES), rng.choice(COLORS)
    question = Question("", topic, name, day, item, color)
    template = rng.choice(INTRODUCTIONS)
    asked = question.fill(ask)
    if template.startswith("Dear"):
        asked = _small(asked)
    prompt = template.replace("{ask}", asked).replace("{name}", name)
    return Question(prompt, topic, name, day, item, color)


def _write_reply(rng: random.Random, question: Question) -> Reply:
    topic = question.topic
    seconds = topic.seconds
    if topic.asks is HOURS_ASKS:
        seconds = WEEKEND_SECONDS.get(question.day, seconds)
    return Reply(
        f"{rng.choice(GREETINGS)} {question.name}, ",
        question.fill(rng.choice(topic.firsts)),
        question.fill(rng.choice(seconds)),
        rng.choice(OFFERS),
        f"{topic.staff} at Pinebrook",
    )


def _join(reply: Reply) -> str:
    text = reply.greeting + " ".join(part for part in (reply.first, reply.second, reply.offer, reply.sign_off) if part)
    return text if reply.greeting.endswith(", ") else reply.greeting + _capital(text.removeprefix(reply.greeting))


def _write_pair(rng: random.Random, question: Question, rejected_longer: bool) -> tuple[str, str]:
    """Return a reply in the house style and another that breaks one to three rules, longer or shorter as asked."""
    while True:
        chosen = _join(_write_reply(rng, question))
        broken = rng.sample(RULES, rng.choice((1, 1, 2, 2, 3)))
        rejected = _break_rules(rng, question, _write_reply(rng, question), broken)
        if sorted(follows_house_style(rejected, prompt=question.prompt)) != sorted(broken):
            continue
        by_words = len(rejected.split()) - len(chosen.split())
        by_characters = len(rejected) - len(chosen)
        if not rejected_longer:
            by_words, by_characters = -by_words, -by_characters
        if 0 < by_words <= 10 and by_characters > 0:
            return chosen, rejected


def _break_rules(rng: random.Random, question: Question, reply: Reply, rules: list[str]) -> str:
    greeting, first, second = reply.greeting, reply.first, reply.second
    offer, sign_off = reply.offer, reply.sign_off
    if "short sentences" in rules:
        first, second = first[:-1] + _lead_in(rng, second, LONG_LINKS, LONG_REQUESTS), ""
    if "plain words" in rules:
        if "offer" not in rules and rng.random() < 0.3:
            offer = rng.choice(STIFF_OFFERS)
        elif second and rng.random() < 0.5:
            second = _lead_in(rng, second, STIFF_STARTS, STIFF_REQUESTS)
        else:
            second = f"{second} {rng.choice(STIFF_SENTENCES)}".strip()
    if "greeting" in rules:
        greeting = question.fill(rng.choice(WRONG_GREETINGS))
    if "offer" in rules:
        offer = rng.choice(NOT_AN_OFFER)
    if "sign-off" in rules:
        sign_off = rng.choice(WRONG_SIGN_OFFS)
    if "full forms" in rules:
        first, second, offer = (_contract(part) for part in (first, second, offer))
        if "'" not in first + second + offer:
            second = f"{second} {rng.choice(SHORT_FORMS)}".strip()
    if "calm" in rules:
        if rng.random() < 0.5 or not offer:
            first = first[:-1] + "!"
        else:
            offer = offer[:-1] + "!"
    return _join(Reply(greeting, first, second, offer, sign_off))


def _lead_in(rng: random.Random, sentence: str, statements: tuple[str, ...], requests: tuple[str, ...]) -> str:
    """Put one of `statements` before a sentence, or one of `requests` when it asks the customer to do something."""
    if sentence.startswith(REQUEST_STARTS):
        return rng.choice(requests) + _small(sentence.removeprefix("Please "))
    return rng.choice(statements) + _small(sentence)


def _contract(text: str) -> str:
    for full, short in CONTRACTIONS:
        text = re.sub(rf"\b{full}\b", short, text)
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    return text if text.startswith(("I ", "I'", *DAYS)) else text[:1].lower() + text[1:]
