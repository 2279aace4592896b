"""How many votes a test needs: the power of the exact sign test at the planned number, by scipy.

The test is the one of `evidence.decide`: two-sided at 4%, because 1% is kept for stopping early. That the evidence may
decide earlier only adds to the power, so what is promised here is the least.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

from ftlab.arena.evidence import PLANNED_LEVEL
from ftlab.errors import InputError
from ftlab.evaluation.figures import percent

POWER = 0.8
# How alike raters judge the same two answers (intraclass correlation): a guess until there are votes.
AGREEMENT = 0.3
# The sign test rejects nothing below this many decided prompts.
FEWEST_PROMPTS = 6
_MOST_PROMPTS = 20_000


@dataclass(frozen=True)
class Chances:
    """What is assumed of the votes: `rate` is how often the better contestant wins a vote that chooses a side, `ties`
    the share of votes that choose none, `agreement` the correlation of the votes on one prompt (0 to 1). The share
    `overlap` of the prompts gets `votes_per_prompt` votes, the others get one."""

    rate: float
    ties: float = 0.0
    votes_per_prompt: int = 1
    agreement: float = AGREEMENT
    overlap: float = 1.0

    def __post_init__(self) -> None:
        _within("The win rate", self.rate, 0.5, 1.0)
        _within("The share of ties", self.ties, 0.0, 0.99)
        _within("The agreement", self.agreement, 0.0, 1.0)
        _within("The overlap", self.overlap, 0.0, 1.0)
        if self.votes_per_prompt < 1:
            raise InputError("A prompt needs a vote", given=self.votes_per_prompt, allowed="1 or more votes per prompt")


@functools.lru_cache(maxsize=1024)
def outcome_of_prompt(chances: Chances) -> tuple[float, float]:
    """The probabilities that the majority of a prompt prefers the better and the worse contestant.

    The votes of a prompt that choose a side follow scipy's beta-binomial with mean `rate`; the rest are split or ties.
    """
    from scipy.stats import betabinom, binom

    if 0 < chances.overlap < 1 and chances.votes_per_prompt > 1:
        shared = outcome_of_prompt(replace(chances, overlap=1.0))
        single = outcome_of_prompt(replace(chances, votes_per_prompt=1))
        mixed = [chances.overlap * many + (1 - chances.overlap) * one for many, one in zip(shared, single, strict=True)]
        return mixed[0], mixed[1]
    better = worse = 0.0
    agreement = min(max(chances.agreement, 1e-9), 1 - 1e-9)
    scale = (1 - agreement) / agreement
    votes_each = chances.votes_per_prompt if chances.overlap else 1
    for decided in range(1, votes_each + 1):
        weight = float(binom.pmf(decided, votes_each, 1 - chances.ties))
        half = decided / 2
        if chances.rate == 1.0:
            won, lost = 1.0, 0.0
        else:
            votes = betabinom(decided, chances.rate * scale, (1 - chances.rate) * scale)
            won, lost = float(votes.sf(math.floor(half))), float(votes.cdf(math.ceil(half) - 1))
        better, worse = better + weight * won, worse + weight * lost
    return better, worse


def power(prompts: int, chances: Chances) -> float:
    """The probability that the test finds the better contestant better with the votes on `prompts` prompts."""
    import numpy as np
    from scipy.stats import binom

    better, worse = outcome_of_prompt(chances)
    decided = min(1.0, better + worse)
    if prompts < 1 or decided <= 0:
        return 0.0
    counts = np.arange(prompts + 1) if decided < 1 else np.array([prompts])
    losses = _most_losses(counts)
    found = np.where(losses < 0, 0.0, binom.sf(counts - losses - 1, counts, better / decided))
    return float(np.sum(binom.pmf(counts, prompts, decided) * found))


def prompts_needed(chances: Chances, wanted: float = POWER) -> int:
    """The number of prompts from which on the power is at least `wanted`.

    Raises InputError when no difference is to be found, or more than 20,000 prompts would be needed.
    """
    _within("The power", wanted, 0.05, 0.99)
    if chances.rate <= 0.5:
        raise InputError("A win rate of 50% is no difference that votes could find", given=percent(chances.rate))
    low, high = 0, FEWEST_PROMPTS
    while power(high, chances) < wanted:
        low, high = high, 2 * high
        if high > 2 * _MOST_PROMPTS:
            raise InputError(
                "No number of votes that people could give would find this difference",
                given=f"a win rate of {percent(chances.rate)}, {percent(chances.ties)} ties",
                allowed=f"what {_MOST_PROMPTS:,} prompts can show",
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(middle, chances) < wanted else (low, middle)
    # The power of an exact test has teeth: the number after which it falls below no more.
    beyond = high + max(12, high // 20)
    return max((n + 1 for n in range(high, beyond) if power(n, chances) < wanted), default=high)


def smallest_rate(prompts: int, chances: Chances, wanted: float = POWER) -> float | None:
    """The smallest win rate (to .005) that the votes on `prompts` prompts find with power `wanted`; None: not any."""
    rates = [0.5 + step / 200 for step in range(1, 101)]
    low, high = -1, len(rates)
    while high - low > 1:
        middle = (low + high) // 2
        found = power(prompts, replace(chances, rate=rates[middle]))
        low, high = (low, middle) if found >= wanted else (middle, high)
    return rates[high] if high < len(rates) else None


def plan_in_words(planned_votes: int, votes_per_prompt: int = 1, ties: float = 0.2, overlap: float = 1.0) -> str:
    """What `planned_votes` can show, in sentences for whoever plans the test. The rest as `Chances` has it."""
    chances = Chances(0.6, ties, votes_per_prompt, overlap=overlap)
    prompts = round(planned_votes / (overlap * votes_per_prompt + 1 - overlap))
    rate = smallest_rate(prompts, chances)
    each = "one vote each" if votes_per_prompt == 1 or not overlap else f"{votes_per_prompt} votes each"
    if votes_per_prompt > 1 and 0 < overlap < 1:
        each = f"{votes_per_prompt} votes on {percent(overlap)} of them, one on the others"
    begin = f"{planned_votes:,} votes on {prompts:,} prompts ({each})"
    assumed = f"if {percent(ties)} of the votes choose no side" if ties else "if every vote chooses a side"
    if votes_per_prompt > 1:
        assumed += " and raters agree moderately"
    if rate is None:
        return f"{begin} are too few to show any difference, {assumed}."
    weaker = f"A preference of 60 to 40 would be found in {percent(round(power(prompts, chances), 2))} of tests."
    return (
        f"{begin} find a preference of {percent(rate)} to {percent(1 - rate)} or stronger in at least "
        f"{percent(POWER)} of tests, {assumed}. {weaker}"
    )


def _most_losses(counts: object) -> object:
    """The most losses with which the sign test still rejects, for each number of decided prompts; -1: with none."""
    import numpy as np
    from scipy.stats import binom

    counts = np.asarray(counts)
    edge = binom.ppf(PLANNED_LEVEL / 2, counts, 0.5)
    return np.where(2 * binom.cdf(edge, counts, 0.5) <= PLANNED_LEVEL, edge, edge - 1)


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{what} cannot be this", given=value, allowed=f"{low:g} to {high:g}")
