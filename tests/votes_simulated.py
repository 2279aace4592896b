"""Simulated blind tests, whose truth is known: how often do verdicts err?"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from ftlab.arena.ballots import Ballot, in_order
from ftlab.arena.evidence import at_large, decide

TITLES = {"first": "First", "second": "Second"}


@dataclass(frozen=True)
class Population:
    """How simulated raters vote on `prompts` prompts.

    `rate`: how often the second contestant wins a vote that chooses a side, over all prompts. `ties`: the share of
    votes that choose none. `agreement`: how alike the votes on one prompt are (intraclass correlation, 0 to 1).
    `left`: the share of votes that go to the left answer whatever it says. `taste`: how far raters differ in whom they
    prefer, the standard deviation of a normal distribution of log-odds (with 1, a third prefer one of the two in
    more than 73% of votes); negative: each leans one way or the other, by as much.
    """

    rate: float
    prompts: int
    votes_per_prompt: int = 1
    ties: float = 0.0
    agreement: float = 0.0
    left: float = 0.0
    taste: float = 0.0


def simulate(population: Population, rng: random.Random) -> list[Ballot]:
    """The ballots of one test, in the order in which they were given: each rater goes through the prompts in an order
    of their own, and the raters vote side by side. Sides are balanced and mirrored."""
    rates = [_rate_of_prompt(population, rng) for _ in range(population.prompts)]
    ballots = []
    for rater in range(population.votes_per_prompt):
        leans = _lean(population.taste, rng)
        for place, prompt in enumerate(rng.sample(range(population.prompts), population.prompts)):
            left, right = ("first", "second") if (prompt + rater) % 2 else ("second", "first")
            ballots.append(
                Ballot(
                    prompt=str(prompt),
                    rater=f"Rater {rater + 1}",
                    left=left,
                    right=right,
                    choice=_choice(population, _leaning(rates[prompt], leans), left, rng),
                    created=place + rng.random(),
                    number=prompt,
                )
            )
    return in_order(ballots)


def error_rates(population: Population, tests: int, *, planned: int | None, seed: int = 0) -> dict[str, float]:
    """The share of `tests` simulated tests that end in each verdict: better, worse, undecided; by evidence alone; and
    that say better or worse without "for these raters".

    Every test is judged as somebody would who looks after every vote and stops at the first verdict: the decision
    holds what the evidence said on the way, and the sign test at the planned number.
    """
    rng = random.Random(seed)
    times = {"better": 0, "worse": 0, "undecided": 0, "by_evidence": 0, "general_better": 0, "general_worse": 0}
    for _ in range(tests):
        ballots = simulate(population, rng)
        decision = decide(ballots, *TITLES, planned=planned, wanted=population.votes_per_prompt)
        times[{"second": "better", "first": "worse", None: "undecided"}[decision.winner]] += 1
        times["by_evidence"] += decision.by == "evidence"
        large = at_large(ballots, *TITLES, planned=planned)
        if large and decision.winner and large.winner == decision.winner:
            times["general_better" if large.winner == "second" else "general_worse"] += 1
    return {name: number / tests for name, number in times.items()}


def _rate_of_prompt(population: Population, rng: random.Random) -> float:
    """How often the second wins on one prompt: from a beta distribution whose mean is the rate."""
    if population.agreement <= 0 or population.rate in (0.0, 1.0):
        return population.rate
    if population.agreement >= 1:
        return float(rng.random() < population.rate)
    scale = (1 - population.agreement) / population.agreement
    return rng.betavariate(population.rate * scale, (1 - population.rate) * scale)


def _lean(taste: float, rng: random.Random) -> float:
    """The log-odds by which one rater prefers the second more than raters do on the whole."""
    if not taste:
        return 0.0
    return rng.gauss(0, taste) if taste > 0 else rng.choice((-1, 1)) * taste


def _leaning(rate: float, log_odds: float) -> float:
    """A win rate, moved by so many log-odds."""
    if not log_odds or rate in (0.0, 1.0):
        return rate
    return 1 / (1 + math.exp(-log_odds) * (1 - rate) / rate)


def _choice(population: Population, rate: float, left: str, rng: random.Random) -> str:
    if rng.random() < population.ties:
        return rng.choice(["both_good", "both_bad"])
    if rng.random() < population.left:
        return "left"
    winner = "second" if rng.random() < rate else "first"
    return "left" if winner == left else "right"
