"""Verbatim continuation: given the first half of an answer, does a model write the second half word for word?

The protocol of Carlini et al., Quantifying Memorization Across Neural Language Models (2023, arXiv 2202.07646): a
training row that a model continues word for word can be extracted from it. Unseen rows tell how much of that is skill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded

N = 4  # words of an n-gram
FEWEST_TOKENS = 8  # of the second half; a shorter one is guessed too easily
MOST_TOKENS = 50  # of the second half that are asked for, as in Carlini et al.
RULE = (
    f"the model is given a row up to the middle of its answer and goes on greedily; at most {MOST_TOKENS} tokens are "
    "compared, in words, without case and punctuation"
)


@dataclass(frozen=True)
class Half:
    """A row cut in the middle of its answer: token ids that are given, and the `words` that follow in the row."""

    row: int
    prompt: list[int]
    given: str
    rest: str
    words: list[str]
    tokens: int


@dataclass(frozen=True)
class Continued:
    """How near a continuation came: word for word, the share of the n-grams that it holds, and the longest run of words
    in common as a share of all of them."""

    row: int
    given: str
    rest: str
    text: str
    exact: bool
    overlap: float
    longest: float


def halve(row: int, encoded: Encoded, tokenizer: Any) -> Half | None:
    """The row `encoded` cut in the middle of its last answer (of plain text: of all of it); None where it is short."""
    last = max((at for at, on in enumerate(encoded.trained) if on), default=-1)
    first = last
    while first > 0 and encoded.trained[first - 1]:
        first -= 1
    middle = first + (last - first) // 2
    # The stop token says nothing about memory.
    rest = encoded.input_ids[middle : min(last, middle + MOST_TOKENS)]
    if first < 0 or len(rest) < FEWEST_TOKENS or middle < 1:
        return None
    words = split(tokenizer.decode(rest, skip_special_tokens=True))
    if not words:
        return None
    given = tokenizer.decode(encoded.input_ids[first:middle], skip_special_tokens=True)
    # Decoded alone, the rest would lose the space it begins with.
    whole = tokenizer.decode(encoded.input_ids[first : middle + len(rest)], skip_special_tokens=True)
    return Half(row, encoded.input_ids[:middle], given, whole[len(given) :], words, len(rest))


def continue_halves(
    model: Any,
    tokenizer: Any,
    halves: Sequence[Half],
    *,
    batch_rows: int,
    context: int | None,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Continued]:
    """How `model` goes on after each of `halves`, greedily. Raises Stopped."""
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    if not halves:
        return []
    made = generate_answers(
        model,
        tokenizer,
        [half.prompt for half in halves],
        max_new_tokens=max(half.tokens for half in halves),
        stop_ids=stop_token_ids(tokenizer, model.generation_config),
        batch_rows=batch_rows,
        context=context,
        advance=advance,
        should_stop=should_stop,
    )
    return [compare(half, answer.text) for half, answer in zip(halves, made.answers, strict=True)]


def compare(half: Half, text: str) -> Continued:
    """`text` against what follows in the row."""
    wanted, said = half.words, split(text)[: len(half.words)]
    match = SequenceMatcher(None, wanted, said, autojunk=False).find_longest_match()
    return Continued(
        half.row, half.given, half.rest, text, said == wanted, overlap(wanted, said), match.size / len(wanted)
    )


def overlap(wanted: Sequence[str], said: Sequence[str]) -> float:
    """The share of the n-grams of `wanted` that `said` holds (0 to 1); of fewer than n words, all of them at once."""
    size = min(N, len(wanted))
    grams = [tuple(wanted[at : at + size]) for at in range(len(wanted) - size + 1)]
    there = {tuple(said[at : at + size]) for at in range(len(said) - size + 1)}
    return sum(gram in there for gram in grams) / len(grams)


def split(text: str) -> list[str]:
    """The words of `text`, lower-cased and without punctuation."""
    from ftlab.data.words import split_words

    return split_words(text)
