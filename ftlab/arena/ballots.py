"""Votes in the form used by the statistics: the preferred contestant by prompt and rater."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["first", "second", "split", "none"]


@dataclass(frozen=True)
class Ballot:
    """One vote with the sides it was given on. `left` and `right` are ids of contestants, lengths are in characters,
    `created` is UTC seconds, `guess` is the side the rater took for the tuned one after the vote."""

    prompt: str
    rater: str
    left: str
    right: str
    choice: str  # left, right, both_good, both_bad, tie (identical answers), skip
    created: float
    number: int = 0
    topic: str = ""
    left_length: int = 0
    right_length: int = 0
    automatic: bool = False
    guess: str | None = None
    ratings: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""
    seconds: float | None = None
    trial: str = ""
    group: str = ""  # of the rater; empty: none
    control: str | None = None  # see `controls`; None for a vote that counts

    @property
    def winner(self) -> str | None:
        """The preferred contestant. None if the vote chose no side."""
        return self.of(self.choice)

    @property
    def longer(self) -> str | None:
        if self.left_length == self.right_length:
            return None
        return self.left if self.left_length > self.right_length else self.right

    def of(self, side: object) -> str | None:
        return self.left if side == "left" else self.right if side == "right" else None


@dataclass(frozen=True)
class Duel:
    """The votes of all raters on one prompt and one pair of contestants.

    `first` and `second` are the votes that chose them. `complete_at` is the number of ballots of the whole test after
    which the prompt had all its planned votes, and `settled` its outcome at that point. Both are None while votes are
    missing.
    """

    prompt: str
    first: int
    second: int
    complete_at: int | None
    settled: Outcome | None

    @property
    def outcome(self) -> Outcome:
        return majority(self.first, self.second)


def majority(first: int, second: int) -> Outcome:
    """The contestant preferred by most votes that chose a side: split if even, none without such votes."""
    if not first + second:
        return "none"
    return "split" if first == second else "first" if first > second else "second"


def in_order(ballots: Iterable[Ballot]) -> list[Ballot]:
    """The ballots in the order in which they were cast."""
    return sorted(ballots, key=lambda ballot: (ballot.created, ballot.number, ballot.trial))


def pair_of(ballot: Ballot, order: Mapping[str, int]) -> tuple[str, str]:
    """The two contestants of a vote in the order of the test, regardless of their sides."""
    first, second = sorted((ballot.left, ballot.right), key=lambda contestant: order[contestant])
    return first, second


def counts(ballot: Ballot) -> bool:
    """Whether it counts toward the planned votes: all except skips, including automatic ties of identical answers."""
    return ballot.choice != "skip"


def judged(ballot: Ballot) -> bool:
    """Whether a rater made a judgment: not a skip, and not an automatic tie."""
    return counts(ballot) and not ballot.automatic


def duels(ballots: Sequence[Ballot], first: str, second: str, wanted: int | Mapping[str, int] = 1) -> list[Duel]:
    """The prompts on which `first` met `second`, in order of completion, followed by those that lack votes.

    `ballots` are all of the test, in the order of `in_order`. `wanted` is the number of planned votes per prompt (by
    prompt id, 1 for those not listed, or one number for all).
    """
    wins: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    cast: dict[str, int] = defaultdict(int)
    complete: dict[str, tuple[int, Outcome]] = {}
    for position, ballot in enumerate(ballots, start=1):
        if {ballot.left, ballot.right} != {first, second} or not counts(ballot):
            continue
        prompt = ballot.prompt
        cast[prompt] += 1
        if ballot.winner is not None:
            wins[prompt][ballot.winner == second] += 1
        if cast[prompt] == (wanted if isinstance(wanted, int) else wanted.get(prompt, 1)):
            complete[prompt] = position, majority(*wins[prompt])
    met = []
    for prompt in cast:
        first_won, second_won = wins[prompt]
        complete_at, outcome = complete.get(prompt, (None, None))
        met.append(Duel(prompt, first_won, second_won, complete_at, outcome))
    return sorted(met, key=lambda duel: (duel.complete_at is None, duel.complete_at or 0))
