"""How many votes a test needs: the power of the exact sign test at the planned number, by scipy.

The test is the one of `evidence.decide`, at its level: 4% (1% is reserved for stopping early), shared by all pairs with
three or more contestants. An early decision by the evidence only adds power, so this is a lower bound. It is the power
of a verdict on these raters.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ftlab.arena.evidence import fewest_prompts, plan_level
from ftlab.core.words import counted
from ftlab.errors import InputError
from ftlab.evaluation.figures import percent

if TYPE_CHECKING:
    import numpy as np

POWER = 0.8
# How alike raters judge the same two answers (intraclass correlation): an assumption until there are votes.
AGREEMENT = 0.3
_MOST_PROMPTS = 20_000


@dataclass(frozen=True)
class Chances:
    """The assumptions about the votes. `rate` is how often the better contestant wins a vote that chooses a side,
    `ties` the share of votes that choose none, `agreement` the correlation of the votes on one prompt (0 to 1). The
    share `overlap` of the prompts gets `votes_per_prompt` votes, the others get one: for each pair of `contestants`.
    With a `margin` (0 to 0.4), the test is one of "no worse than" for the contestant with this rate."""

    rate: float
    ties: float = 0.0
    votes_per_prompt: int = 1
    agreement: float = AGREEMENT
    overlap: float = 1.0
    contestants: int = 2
    margin: float = 0.0

    @property
    def pairs(self) -> int:
        return self.contestants * (self.contestants - 1) // 2

    def __post_init__(self) -> None:
        _within("The win rate", self.rate, 0.5, 1.0)
        _within("The share of ties", self.ties, 0.0, 0.99)
        _within("The agreement", self.agreement, 0.0, 1.0)
        _within("The overlap", self.overlap, 0.0, 1.0)
        if self.votes_per_prompt < 1:
            raise InputError(
                "A prompt needs at least one vote", given=self.votes_per_prompt, allowed="1 or more votes per prompt"
            )


def outcome_of_prompt(chances: Chances, votes: int | None = None) -> tuple[float, float]:
    """The probabilities that the majority of `votes` on a prompt prefers the better and the worse contestant of a pair.
    None: all its planned votes."""
    if votes is not None:
        return _majority(chances.rate, chances.ties, chances.agreement, votes)
    return _expected(chances, votes_each(1, chances, None))


@functools.lru_cache(maxsize=4096)
def _majority(rate: float, ties: float, agreement: float, cast: int) -> tuple[float, float]:
    """Votes that choose a side follow scipy's beta-binomial with mean `rate`; the rest are split or ties."""
    from scipy.stats import betabinom, binom

    better = worse = 0.0
    agreement = min(max(agreement, 1e-9), 1 - 1e-9)
    scale = (1 - agreement) / agreement
    for decided in range(1, cast + 1):
        weight = float(binom.pmf(decided, cast, 1 - ties))
        half = decided / 2
        if rate == 1.0:
            won, lost = 1.0, 0.0
        else:
            votes = betabinom(decided, rate * scale, (1 - rate) * scale)
            won, lost = float(votes.sf(math.floor(half))), float(votes.cdf(math.ceil(half) - 1))
        better, worse = better + weight * won, worse + weight * lost
    return better, worse


def votes_each(prompts: int, chances: Chances, planned: int | None) -> dict[int, float]:
    """The number of votes that a pair gets on a prompt, and for which share of the prompts.

    If fewer are planned than the prompts could take, they are distributed as by `handing_out.choose`: no prompt is
    shown to a third rater before all were shown to two. In an incomplete round, chance decides.
    """
    shared = chances.overlap if chances.votes_per_prompt > 1 else 0.0
    rounds = [2] * (chances.votes_per_prompt // 2) + [1] * (chances.votes_per_prompt % 2)
    left = math.inf if planned is None else planned / (chances.pairs * prompts)  # votes for a prompt of one pair
    shares: dict[int, float] = defaultdict(float)
    sure = 0
    for number, votes in enumerate(rounds):
        alone = 1 - shared if number == 0 else 0.0
        filled = min(1.0, left / (shared * votes + alone)) if shared or alone else 1.0
        left -= filled * (shared * votes + alone)
        if number == 0:
            shares[0] += alone * (1 - filled)
            shares[1] += alone * filled
        if filled < 1 or number == len(rounds) - 1:
            for more in range(votes + 1):
                shares[sure + more] += shared * math.comb(votes, more) * filled**more * (1 - filled) ** (votes - more)
            break
        sure += votes
    return {votes: share for votes, share in shares.items() if share > 0}


def _expected(chances: Chances, shares: dict[int, float]) -> tuple[float, float]:
    outcomes = [(share, outcome_of_prompt(chances, votes)) for votes, share in shares.items()]
    return sum(share * better for share, (better, _) in outcomes), sum(share * worse for share, (_, worse) in outcomes)


@functools.lru_cache(maxsize=4096)
def power(prompts: int, chances: Chances, planned: int | None = None) -> float:
    """The probability that the test finds the better contestant of a pair better, on `prompts` prompts.

    `planned` are the votes of the whole test; None: all that the prompts take.
    """
    import numpy as np
    from scipy.stats import binom

    if prompts < 1:
        return 0.0
    if planned is not None and chances.contestants == 2 and chances.votes_per_prompt == 1:
        prompts, planned = min(prompts, planned), None
    better, worse = _expected(chances, votes_each(prompts, chances, planned))
    decided = min(1.0, better + worse)
    if prompts < 1 or decided <= 0:
        return 0.0
    counts = np.arange(prompts + 1) if decided < 1 else np.array([prompts])
    losses = _most_losses(counts, plan_level(chances.pairs), chances.margin)
    chance_of_win = np.where(losses < 0, 0.0, binom.sf(counts - losses - 1, counts, better / decided))
    return float(np.sum(binom.pmf(counts, prompts, decided) * chance_of_win))


def prompts_needed(chances: Chances) -> int:
    """The smallest number of prompts with a power of at least POWER.

    Raises InputError if there is no difference to find, or more than 20,000 prompts would be needed.
    """
    if chances.rate <= 0.5 - chances.margin:
        raise InputError("A win rate of 50% means no difference to detect", given=percent(chances.rate))
    low, high = 0, fewest_prompts(chances.pairs, chances.margin)
    while power(high, chances) < POWER:
        low, high = high, 2 * high
        if high > 2 * _MOST_PROMPTS:
            raise InputError(
                "No realistic number of votes would detect this difference",
                given=f"a win rate of {percent(chances.rate)}, {percent(chances.ties)} ties",
                allowed=f"what {_MOST_PROMPTS:,} prompts can show",
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(middle, chances) < POWER else (low, middle)
    # The power of an exact test is a sawtooth: take the number from which it stays above.
    beyond = high + max(12, high // 20)
    return max((n + 1 for n in range(high, beyond) if power(n, chances) < POWER), default=high)


def smallest_rate(prompts: int, chances: Chances, planned: int | None = None) -> float | None:
    """The smallest win rate (to .005) that the votes on `prompts` prompts detect with power POWER. None: not any."""
    rates = [0.5 + step / 200 for step in range(1, 101)]
    low, high = -1, len(rates)
    while high - low > 1:
        middle = (low + high) // 2
        reached = power(prompts, replace(chances, rate=rates[middle]), planned)
        low, high = (low, middle) if reached >= POWER else (middle, high)
    return rates[high] if high < len(rates) else None


@functools.lru_cache(maxsize=256)
def plan_in_short(planned_votes: int, prompts: int | None, chances: Chances) -> str:
    """What `planned_votes` on `prompts` prompts show in 80% of tests, in one sentence."""
    begin = f"{counted(planned_votes, 'vote')}" + (f" on {counted(prompts, 'prompt')}" if prompts is not None else "")
    prompts = planned_votes // chances.pairs if prompts is None else prompts
    if chances.margin:
        return _of_margin(begin, prompts, replace(chances, rate=0.5), planned_votes)
    rate = smallest_rate(prompts, chances, planned=planned_votes)
    if rate is None:
        return f"{begin} are too few to show any difference."
    sided = " that choose a side" if chances.ties else ""
    return f"{begin} usually show which is better if people prefer it in at least {percent(rate)} of the votes{sided}."


@functools.lru_cache(maxsize=256)
def plan_in_words(
    planned_votes: int,
    prompts: int | None,
    votes_per_prompt: int = 1,
    ties: float = 0.2,
    overlap: float = 1.0,
    contestants: int = 2,
    margin: float = 0.0,
) -> str:
    """What `planned_votes` on `prompts` prompts can show, in sentences for the test's planner. None: raters write a
    prompt for each vote. `margin`, in points, is that of a test of "no worse than"."""
    chances = Chances(0.6, ties, votes_per_prompt, overlap=overlap, contestants=contestants, margin=margin / 100)
    begin = f"{counted(planned_votes, 'vote')}" + (f" on {counted(prompts, 'prompt')}" if prompts is not None else "")
    prompts = planned_votes // chances.pairs if prompts is None else prompts
    if margin:
        return _of_margin(begin, prompts, replace(chances, rate=0.5), planned_votes)
    rate = smallest_rate(prompts, chances, planned=planned_votes)
    if chances.pairs > 1:
        begin += f", about {planned_votes / chances.pairs:,.0f} for each of {chances.pairs} pairs,"
    assumed = f"if {percent(ties)} of the votes choose no side" if ties else "if every vote chooses a side"
    if votes_per_prompt > 1 and overlap > 0:
        assumed += " and raters agree moderately"
    if rate is None:
        return f"{begin} are too few to show any difference, {assumed}."
    over = " for one contestant over another" if chances.pairs > 1 else ""
    text = (
        f"{begin} detect a preference{over} of {percent(rate)} to {percent(1 - rate)} or stronger in at least "
        f"{percent(POWER)} of tests, {assumed}."
    )
    if chances.pairs > 1:
        # Pairs share prompts, so finding one makes finding another more likely, if anything.
        best = power(prompts, replace(chances, rate=rate), planned_votes) ** (contestants - 1)
        text += f" A contestant preferred that much over all others is found best in at least {_share(best)} of tests."
    weak = _share(power(prompts, chances, planned_votes))
    return f"{text} A preference of 60 to 40 would be detected in {weak} of tests{_more(chances)}."


def _of_margin(begin: str, prompts: int, chances: Chances, planned: int) -> str:
    """What votes can show of "no worse than", if raters prefer neither contestant."""
    points = f"{round(100 * chances.margin, 2):g} points"
    share = _share(power(prompts, chances, planned))
    ties = f", and {percent(chances.ties)} of the votes choose no side" if chances.ties else ""
    text = f"If raters prefer neither{ties}, {begin} show “no worse by more than {points}” in {share} of tests"
    return f"{text}{_more(chances)}."


def _more(chances: Chances) -> str:
    """How many prompts it takes to detect a weak preference, or to show "no worse than"."""
    try:
        return f"; {percent(POWER)} takes {prompts_needed(chances):,} prompts"
    except InputError:
        return ""


def _share(value: float) -> str:
    return "less than 1%" if value < 0.005 else percent(round(value, 2))


def _most_losses(counts: np.ndarray, level: float, margin: float) -> np.ndarray:
    """The most losses with which the test at the planned number still rejects, for each number of decided prompts; -1
    if it never rejects."""
    import numpy as np
    from scipy.stats import binom

    if margin:
        edge = binom.ppf(level, counts, 0.5 + margin)  # losses have at least this rate if it is worse
        return np.where(binom.cdf(edge, counts, 0.5 + margin) <= level, edge, edge - 1)
    edge = binom.ppf(level / 2, counts, 0.5)
    return np.where(2 * binom.cdf(edge, counts, 0.5) <= level, edge, edge - 1)


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{what} cannot be this", given=value, allowed=f"{low:g} to {high:g}")
