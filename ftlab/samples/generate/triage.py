"""Writes `support_triage`: customer messages to an invented shop, each with queue, priority and hours.

A message is put together from a problem (which decides the queue, and with it the hours for one case), a cue for the
urgency (which decides the priority), sometimes a sentence that says how many orders, items or people are concerned
(which doubles the hours), and things that decide nothing: opening, product, background, sign-off, a typing slip. The
card states the same rules.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import pairwise

from ftlab.samples.generate.overlap import Trigrams, is_near_copy, word_trigrams
from ftlab.samples.generate.triage_wording import (
    BACKGROUND,
    CLOSINGS,
    CUES,
    DAYS,
    HOURS,
    LINKABLE,
    LOOKS,
    NAMES,
    NUMBERS,
    OPENINGS,
    PRIORITIES,
    PROBLEMS,
    RELATIVES,
    SLIPS,
    STREETS,
    Cue,
    Problem,
)

SIZES = {"train": 600, "validation": 100, "test": 100}
SEED = "support_triage 1"
WORDS = (15, 45)  # shortest and longest message, in words

# Between splits the bound is stricter than within one: a held-out score is worth what its distance to training is.
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
    for i, (one, two) in enumerate(pairwise(sentences)):
        plain = one.endswith(".") and "," not in one and " and " not in one and not one.startswith("Please")
        if plain and background not in (one, two) and two.startswith(LINKABLE):
            return [*sentences[:i], f"{one[:-1]}, and {_small(two)}", *sentences[i + 2 :]]
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
