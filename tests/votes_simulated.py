"""Simulated blind tests, whose truth is known: how often do verdicts err?"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from scipy.optimize import brentq

from ftlab.arena.ballots import Ballot, in_order
from ftlab.arena.evidence import at_large, decide
from ftlab.arena.power import Chances, outcome_of_prompt

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


def simulate_with_careless(
    population: Population, careless: int, rng: random.Random
) -> tuple[list[Ballot], list[Ballot], dict[str, str]]:
    """The ballots of a test in which the last raters are `careless`, the votes on control items, and who is right in
    attention items. A careless rater presses left in 7 of 10 votes, else anything. The others see 19 of 20 attention
    items; on repeated ones, they vote anew."""
    rates = [_rate_of_prompt(population, rng) for _ in range(population.prompts)]
    ballots, items = [], []
    for rater in range(population.votes_per_prompt):
        name, lazy = f"Rater {rater + 1}", rater >= population.votes_per_prompt - careless
        mine = replace(population, left=0.7) if lazy else population
        sees = 0.5 if lazy else 0.95

        def ballot(
            prompt: int,
            swap: bool,
            at: float,
            control: str | None = None,
            name: str = name,
            mine: Population = mine,
            lazy: bool = lazy,
            rater: int = rater,
        ) -> Ballot:
            left, right = ("first", "second") if (prompt + rater) % 2 != swap else ("second", "first")
            choice = _choice(mine, 0.5 if lazy else rates[prompt], left, rng)
            return Ballot(str(prompt), name, left, right, choice, at, prompt, control=control)

        for place, prompt in enumerate(rng.sample(range(population.prompts), population.prompts)):
            ballots.append(ballot(prompt, False, place + rng.random()))
            if prompt % 5 == 0:
                items.append(ballot(prompt, True, place + 8.0, "repeat"))
        for item in range(5):
            left, right = rng.choice([("first", "second"), ("second", "first")])
            choice = "left" if (left == "first") == (rng.random() < sees) else "right"
            items.append(Ballot(f"set aside {item}", name, left, right, choice, 0.0, control="attention"))
    return in_order(ballots), items, {f"set aside {item}": "first" for item in range(5)}


def worse_by(margin: float, population: Population) -> Population:
    """`population` with the rate at which the second wins 50% minus `margin` of the prompts that choose a side: the
    majority of several votes lies farther from 50% than the votes."""

    def of_prompts(rate: float) -> float:
        each = population.votes_per_prompt
        chances = Chances(rate, population.ties, each, population.agreement if each > 1 else 0.0)
        more, less = outcome_of_prompt(chances)
        return more / (more + less) - 0.5 - margin

    return replace(population, rate=1 - brentq(of_prompts, 0.5, 1.0))


def error_rates(
    population: Population, tests: int, *, planned: int | None, seed: int = 0, margin: float = 0.0
) -> dict[str, float]:
    """The share of `tests` simulated tests that end in each verdict: better (with a margin: no worse), worse,
    undecided; by evidence alone; and that say better or worse without "for these raters".

    Every test is judged as somebody would who looks after every vote and stops at the first verdict: the decision
    holds what the evidence said on the way, and the sign test at the planned number.
    """
    rng = random.Random(seed)
    times = {"better": 0, "worse": 0, "undecided": 0, "by_evidence": 0, "general_better": 0, "general_worse": 0}
    for _ in range(tests):
        ballots = simulate(population, rng)
        decision = decide(ballots, *TITLES, planned=planned, wanted=population.votes_per_prompt, margin=margin)
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
