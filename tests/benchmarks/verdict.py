"""How often the verdict of a blind test is wrong, and how often it finds a difference that is there.

    python -m tests.benchmarks.verdict --tests 2000

Raters of known preference vote, and each test is judged as by somebody who looks after every vote. "Votes one by one"
is what counting all votes as if they were independent would find at the planned number (two-sided binomial test at 5%);
"peeking" is that test after every vote from the tenth on.
"""

from __future__ import annotations

import argparse
import random

from scipy.stats import binomtest

from ftlab.arena.power import Chances, prompts_needed
from tests.votes_simulated import Population, error_rates, simulate

NULL = {
    "no difference, one vote per prompt": Population(0.5, 100),
    "no difference, 300 prompts": Population(0.5, 300),
    "no difference, three votes, alike, ties": Population(0.5, 60, 3, ties=0.2, agreement=0.5),
    "no difference, three votes, left is preferred": Population(0.5, 60, 3, agreement=0.9, left=0.3),
    "no difference, five votes, alike": Population(0.5, 100, 5, agreement=0.3),
}
TRUE = [Chances(0.6), Chances(0.7), Chances(0.7, 0.2), Chances(0.65, 0.2, 3), Chances(0.8)]


def naive(population: Population, tests: int, every: int) -> float:
    """The share of tests in which counting votes one by one finds a difference, looking after `every` votes."""
    rng, found = random.Random(0), 0
    for _ in range(tests):
        won = [ballot.winner == "second" for ballot in simulate(population, rng) if ballot.winner]
        looks = {len(won), *range(10, len(won), every)}
        found += any(binomtest(sum(won[:look]), look).pvalue <= 0.05 for look in looks)
    return found / tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=2000)
    count = parser.parse_args().tests
    print("| raters | better | worse | by evidence alone | votes one by one | peeking |\n|---|---|---|---|---|---|")
    for name, population in NULL.items():
        rates = error_rates(population, count, planned=population.prompts * population.votes_per_prompt)
        once, often = naive(population, count // 5, 10**9), naive(population, count // 20, 1)
        cells = [rates["better"], rates["worse"], rates["by_evidence"], once, often]
        print(f"| {name} | " + " | ".join(f"{100 * cell:.1f}%" for cell in cells) + " |", flush=True)
    print("\n| true win rate, ties, votes per prompt | prompts | found | promised |\n|---|---|---|---|")
    for chances in TRUE:
        prompts = prompts_needed(chances)
        alike = chances.agreement if chances.votes_per_prompt > 1 else 0.0
        population = Population(chances.rate, prompts, chances.votes_per_prompt, chances.ties, alike)
        rates = error_rates(population, count, planned=prompts * chances.votes_per_prompt)
        what = f"{chances.rate:.0%}, {chances.ties:.0%}, {chances.votes_per_prompt}"
        print(f"| {what} | {prompts} | {100 * rates['better']:.1f}% | 80% |", flush=True)


if __name__ == "__main__":
    main()
