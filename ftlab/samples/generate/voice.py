"""Writes `brand_voice` and `brand_voice_preferences`: replies of an invented shop, in its house style and out of it.

A prompt is a customer who gives a first name and asks one thing. A reply greets by that name, answers in two short
sentences that depend on what was asked, offers help and is signed by the person who looks after such questions. The
rejected side of a preference answers the same question and breaks one to three rules of `house_style.py`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from ftlab.samples.generate.overlap import Trigrams, is_near_copy, word_trigrams
from ftlab.samples.generate.voice_wording import (
    COLORS,
    CONTRACTIONS,
    DAYS,
    GREETINGS,
    HOURS_ASKS,
    INTRODUCTIONS,
    LONG_LINKS,
    LONG_REQUESTS,
    NAMES,
    NOT_AN_OFFER,
    OFFERS,
    REQUEST_STARTS,
    SHORT_FORMS,
    STIFF_OFFERS,
    STIFF_REQUESTS,
    STIFF_SENTENCES,
    STIFF_STARTS,
    TOPICS,
    WEEKEND_SECONDS,
    WRONG_GREETINGS,
    WRONG_SIGN_OFFS,
    Topic,
)
from ftlab.samples.house_style import RULES, follows_house_style

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
