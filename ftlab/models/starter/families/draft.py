"""What all families of the starter's text share: a draft is a conversation with the key of its content."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
Message = dict[str, str]
Split = Literal["train", "held-out"]
HELD_OUT_PERCENT = 10


@dataclass(frozen=True)
class Draft:
    """One conversation before it is assigned to a split.

    `key` identifies the content (the filled slots), not the phrasing; drafts with equal keys are always in the same
    split. For closed facts the key is the pair of fact and phrasing, so that every fact is trained.
    """

    key: str
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return self.messages[-2]["content"]

    @property
    def answer(self) -> str:
        """The last assistant turn."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Family:
    """A kind of text: how to draw an example, how often it is trained on, and how it is scored.

    `scored` is "exact" if each prompt has one correct answer, "perplexity" if many continuations are correct. `facts`
    is true for a closed set, whose held-out part consists of unseen pairs of fact and phrasing.
    """

    name: str
    draw: Callable[[random.Random], Draft]
    about: str
    share: float = 1.0
    scored: Literal["exact", "perplexity"] = "exact"
    facts: bool = False


def split_of(family: str, key: str) -> Split:
    """The split of a combination, the same on every machine and in every Python process."""
    digest = hashlib.sha256(f"{family}\n{key}".encode()).digest()
    return "held-out" if int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT else "train"


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def one_turn(key: str, prompt: str, answer: str, system: str | None = None) -> Draft:
    """A draft of one question and one answer, after an optional system turn."""
    head = (message("system", system),) if system else ()
    return Draft(key, (*head, message("user", prompt), message("assistant", answer)))


def several_turns(key: str, *contents: str, system: str | None = None) -> Draft:
    """A draft whose `contents` alternate between user and assistant; their number must be even."""
    if len(contents) % 2:
        raise ValueError(
            f"A conversation ends with an answer, so an even number of turns is needed, got {len(contents)}"
        )
    head = (message("system", system),) if system else ()
    turns = (message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(contents))
    return Draft(key, (*head, *turns))


OPENINGS = (
    "Please answer: ",
    "Quick question: ",
    "Question: ",
    "Hi! ",
    "Hello. ",
    "Can you help me? ",
    "Tell me, please. ",
    "I have a question. ",
    "One more thing: ",
    "Task: ",
    "Hey, ",
    "Please help: ",
)
CLOSINGS = (" Thanks!", " Thank you.", " Please.", " Keep it short.", " Just the answer.", " I am curious.")


def vary(rng: random.Random, text: str) -> str:
    """`text` with occasional small talk around it, so that the answer does not depend on the exact wording."""
    roll = rng.random()
    if roll < 0.12:
        return rng.choice(OPENINGS) + text
    if roll < 0.20 and text[-1] in ".?!":
        return text + rng.choice(CLOSINGS)
    if roll < 0.23:
        return text.rstrip(".?!")
    return text


def fact_draft(
    rng: random.Random,
    topic: str,
    table: Sequence[tuple[str, str]],
    phrasings: Sequence[str],
    answers: Sequence[str] = ("{y}",),
) -> Draft:
    """A draft from a closed table of (x, y): the phrasing contains {x}, the answer is {y} or its pattern.

    `answers` has one pattern for all phrasings, or one per phrasing.
    """
    x, y = rng.choice(table)
    i = rng.randrange(len(phrasings))
    pattern = answers[i] if len(answers) > 1 else answers[0]
    return one_turn(f"{topic}|{x}|{i}", vary(rng, phrasings[i].format(x=x)), pattern.format(x=x, y=y))


def sample(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """`count` different items in random order."""
    return rng.sample(list(items), count)


def an(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def capital(text: str) -> str:
    """The text with its first letter in upper case, the rest unchanged."""
    return text[:1].upper() + text[1:]
