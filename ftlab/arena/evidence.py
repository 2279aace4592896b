"""Is one contestant preferred? Tests that count prompts, and that hold however often somebody looks.

What is counted is the prompt, not the vote: several raters see the same two answers, so their votes are not
independent, and counting them one by one finds differences where there are none. The votes of a prompt that chose a
side are one outcome, the majority. With one vote per prompt both are the same.

"No difference" means: on a new prompt either contestant is as likely to win. Two tests share the 5% of false alarms:

- 4% for the exact sign test (two-sided binomial test of scipy), once, on the votes of the planned number;
- 1% for evidence that holds whenever one looks: the ratio of how well a win rate spread evenly over 0 to 1 and a fair
  coin predict the outcomes (H. Robbins, 1970, Ann. Math. Stat. 41). Were there no difference, it would ever reach 100
  in at most 1 of 100 tests (J. Ville, 1939). Without a planned number it has the whole 5% (20 to 1).

A prompt enters the evidence when all its votes are in: a count that could be stopped between two votes on the same
prompt would be no fair bet.

Both speak of these raters: others may have another taste, and with three raters of different taste and no preference on
the whole they find one in up to 40% of tests. `at_large` asks what may be said of raters in general.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.arena.ballots import Ballot, Duel, counts, duels
from ftlab.evaluation.clusters import clustered_share, sign_flip
from ftlab.evaluation.significance import LEVEL

EARLY_LEVEL = 0.01
PLANNED_LEVEL = LEVEL - EARLY_LEVEL
# With fewer, chance alone makes all of them lean the same way in more than 5% of tests, however strongly they lean.
FEWEST_RATERS = 6


@dataclass(frozen=True)
class Decision:
    """What the votes on two contestants allow to say. `winner` is "first", "second" or None; `by` is what decided.

    `reached` tells whether the planned number of votes is in. `p` is of the sign test on the votes up to that number
    (all of them, as long as it is not reached, and then it decides nothing). The lists of the evidence run over the
    prompts that chose a side, in the order in which they were completed.
    """

    winner: str | None
    by: str | None  # "evidence", "plan"
    reached: bool
    wins: tuple[int, int]
    split: int
    p: float
    evidence: list[float]  # natural logarithms
    positions: list[int]  # after how many ballots of the test
    wins_of_second: list[int]
    threshold: float
    crossed_at: int | None  # ballots of the test


def plan_level(comparisons: int) -> float:
    """The level of the sign test at the planned number, for each of so many pairs that are judged together."""
    return PLANNED_LEVEL / comparisons


def fewest_prompts(comparisons: int) -> int:
    """Below so many decided prompts the sign test finds nothing, even where all say the same."""
    return math.ceil(math.log2(2 / plan_level(comparisons)))


def decide(
    ballots: Sequence[Ballot],
    first: str,
    second: str,
    *,
    planned: int | None,
    wanted: int | Mapping[str, int] = 1,
    comparisons: int = 1,
) -> Decision:
    """Judge `second` against `first` by all `ballots` of a test, as `in_order` gives them.

    `planned` is the number of votes of the whole test, without skips; None leaves the decision to the
    evidence alone. `wanted` as `duels` takes it. `comparisons` is the number of pairs that are judged together and
    share the 5% (Bonferroni).
    """
    found = duels(ballots, first, second, wanted)
    settled = [(duel.settled, duel.complete_at) for duel in found if duel.complete_at is not None]
    chosen = [(outcome == "second", at) for outcome, at in settled if outcome in ("first", "second")]
    running = _running(won for won, _ in chosen)
    evidence = log_evidence(running)
    positions = [at for _, at in chosen]
    threshold = comparisons / (LEVEL if planned is None else EARLY_LEVEL)
    # A margin for rounding: evidence of exactly the threshold counts.
    over = next((i for i, value in enumerate(evidence) if value >= math.log(threshold) - 1e-9), None)
    early = None if over is None else ("second" if 2 * running[over] > over + 1 else "first")

    last = plan_reached_at(ballots, planned)
    reached = last is not None
    looked_at = duels(ballots[:last], first, second, wanted) if reached else found
    wins, split = majorities(looked_at)
    p = sign_test(*wins)
    by_plan = None
    if reached and p <= plan_level(comparisons):
        by_plan = "second" if wins[1] > wins[0] else "first"
    # Who came first has decided: what the evidence said stays said.
    early_first = over is not None and (last is None or not by_plan or positions[over] <= last)
    winner, by = (early, "evidence") if early_first else (by_plan, "plan" if by_plan else None)
    return Decision(
        winner=winner,
        by=by,
        reached=reached,
        wins=wins,
        split=split,
        p=p,
        evidence=evidence,
        positions=positions,
        wins_of_second=running,
        threshold=threshold,
        crossed_at=None if over is None else positions[over],
    )


@dataclass(frozen=True)
class AtLarge:
    """What votes say of raters and prompts like these. `winner` is "first", "second" or None; `interval` that of the
    second's win rate, 95%, over raters and prompts; `p` the one of the raters' net votes."""

    winner: str | None
    p: float
    interval: list[float]
    raters: int


def at_large(
    ballots: Sequence[Ballot], first: str, second: str, *, planned: int | None, comparisons: int = 1
) -> AtLarge | None:
    """Whom raters in general prefer, who and the prompts being samples; None before the planned number of votes is in.

    A contestant wins when two tests agree: `sign_flip` of the raters' net votes, which holds however far apart their
    tastes are, and an interval over raters and prompts that leaves out 50%. Arguments as those of `decide`.
    """
    last = plan_reached_at(ballots, planned)
    chosen = [b for b in ballots[:last] if {b.left, b.right} == {first, second} and b.winner is not None]
    if last is None or not chosen:
        return None
    level = LEVEL / comparisons
    net: dict[str, int] = {}
    for ballot in chosen:
        net[ballot.rater] = net.get(ballot.rater, 0) + (1 if ballot.winner == second else -1)
    won, prompts, raters = zip(*((b.winner == second, b.prompt, b.rater) for b in chosen), strict=True)
    low, high = clustered_share(won, prompts, raters, level=level) or (0.0, 1.0)
    p = sign_flip(list(net.values()))
    sure = len(net) >= FEWEST_RATERS and p <= level
    winner = "second" if sure and low > 0.5 else "first" if sure and high < 0.5 else None
    return AtLarge(winner, p, clustered_share(won, prompts, raters) or [0.0, 1.0], len(net))


def plan_reached_at(ballots: Sequence[Ballot], planned: int | None) -> int | None:
    """After how many ballots the planned number of votes was in; None when it is not, or there is none."""
    given = 0
    for position, ballot in enumerate(ballots, start=1):
        given += counts(ballot)
        if given == planned:
            return position
    return None


def majorities(found: Sequence[Duel]) -> tuple[tuple[int, int], int]:
    """On how many prompts the majority preferred the first and the second, and how many are split."""
    outcomes = [duel.outcome for duel in found]
    return (outcomes.count("first"), outcomes.count("second")), outcomes.count("split")


def sign_test(losses: int, wins: int) -> float:
    """The two-sided p of the exact sign test (J. Arbuthnott, 1710), 1 without a decided prompt; by scipy."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def log_evidence(running: Sequence[int]) -> list[float]:
    """The logarithm of the evidence against a fair coin after each outcome; `running` are the wins so far.

    A beta-binomial (1, 1) gives k wins of n the probability 1 / (n + 1), a fair coin C(n, k) / 2^n; the ratio is a
    martingale under the fair coin.
    """
    import numpy as np
    from scipy.special import gammaln

    wins, counts = np.asarray(running, dtype=float), np.arange(1.0, len(running) + 1)
    ways = gammaln(counts + 1) - gammaln(wins + 1) - gammaln(counts - wins + 1)
    return (counts * math.log(2) - ways - np.log1p(counts)).tolist()


def anytime_interval(wins: int, count: int) -> list[float] | None:
    """The win rates against which the evidence is below 20: a 95% interval that holds whenever one looks.

    (T. L. Lai, 1976, Ann. Stat. 4: the same mixture, turned round.) As [low, high] in 0 to 1; None without outcomes.
    """
    from scipy.optimize import brentq
    from scipy.stats import betabinom, binom

    if not count:
        return None

    def over(rate: float) -> float:
        return float(betabinom.logpmf(wins, count, 1, 1) - binom.logpmf(wins, count, rate) - math.log(1 / LEVEL))

    share, tiny = wins / count, 1e-12
    low = brentq(over, tiny, share) if wins and over(share) < 0 else 0.0
    high = brentq(over, share, 1 - tiny) if wins < count and over(share) < 0 else 1.0
    return [float(low), float(high)]


def evidence_as_dict(decision: Decision) -> dict[str, Any]:
    """The evidence as it is kept and drawn: now, at most, and its way in at most 200 points."""
    count = len(decision.evidence)
    wins = decision.wins_of_second[-1] if count else 0
    step = max(1, math.ceil(count / 200))
    kept = sorted({*range(step - 1, count, step), *([count - 1] if count else [])})
    return {
        "now": _exp(decision.evidence[-1]) if count else 1.0,
        "highest": _exp(max(decision.evidence, default=0.0)),
        "threshold": decision.threshold,
        "crossed_at": decision.crossed_at,
        "prompts": count,
        "wins": wins,
        "interval": anytime_interval(wins, count),
        "path": [
            {
                "votes": decision.positions[i],
                "prompts": i + 1,
                "wins": decision.wins_of_second[i],
                "log10": decision.evidence[i] / math.log(10),
            }
            for i in kept
        ],
    }


def _running(outcomes: Any) -> list[int]:
    running, wins = [], 0
    for won in outcomes:
        wins += won
        running.append(wins)
    return running


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
