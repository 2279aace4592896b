"""The statistics of a blind test: sequential evidence by prompts, and checks on raters and sides."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.arena.ballots import Ballot, Duel, counts, duels, pair_of
from ftlab.arena.results import (
    AgreementJson,
    EvidenceJson,
    GuessesJson,
    LengthJson,
    PositionJson,
    RatersDifferJson,
    StratumJson,
    TestedJson,
)
from ftlab.evaluation.clusters import clustered_share, majorities, same_share, sign_flip
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import LEVEL, SEED, p_text

if TYPE_CHECKING:
    import numpy as np

EARLY_LEVEL = 0.01
PLANNED_LEVEL = LEVEL - EARLY_LEVEL
# With fewer, chance alone makes all of them lean the same way in more than 5% of tests, however strongly they lean.
FEWEST_RATERS = 6
_FORESEEN = 10_000  # prompts
_LEAST = -700.0  # scipy gives -inf for less


@dataclass(frozen=True)
class Decision:
    """The decision on two contestants. `winner` is "first", "second" or None; `by` is what decided. With a margin,
    "second" means that it is no worse by more than the margin, and "first" that the second is worse by more.

    `reached` tells whether the planned number of votes is in. `p` is of the sign test on the votes up to that number
    (all votes while it is not reached; then it decides nothing). The lists of the evidence run over the prompts that
    chose a side, in order of completion. `null` is the win rate of the second that is tested.
    """

    winner: str | None
    by: str | None  # "evidence", "plan"
    reached: bool
    wins: tuple[int, int]
    split: int
    p: float
    evidence: list[float]  # natural logarithms
    positions: list[int]  # number of ballots of the test at each point
    wins_of_second: list[int]
    threshold: float
    crossed_at: int | None  # number of ballots of the test
    null: float


def plan_level(comparisons: int) -> float:
    """The level of the sign test at the planned number, for each of `comparisons` pairs that are judged together."""
    return PLANNED_LEVEL / comparisons


def fewest_prompts(comparisons: int, margin: float = 0.0) -> int:
    """The number of decided prompts below which the test at the planned number cannot reject, even if all agree."""
    if margin:
        return math.ceil(math.log(plan_level(comparisons)) / math.log(0.5 - margin))
    return math.ceil(math.log2(2 / plan_level(comparisons)))


def decide(
    ballots: Sequence[Ballot],
    first: str,
    second: str,
    *,
    planned: int | None,
    wanted: int | Mapping[str, int] = 1,
    comparisons: int = 1,
    margin: float = 0.0,
) -> Decision:
    """Judge `second` against `first` from all `ballots` of a test, in the order of `in_order`.

    `planned` is the number of votes of the whole test, without skips; with None only the evidence can decide. `wanted`
    is as in `duels`. `comparisons` is the number of pairs that are judged together and share the 5% (Bonferroni).
    `margin` (0 to 0.4) tests "no worse than" instead: a win rate of `second` above 50% minus the margin. Being worse by
    more is tested too, at the same level; only one of the two can be false.
    """
    null = 0.5 - margin
    met = duels(ballots, first, second, wanted)
    settled = [(duel.settled, duel.complete_at) for duel in met if duel.complete_at is not None]
    chosen = [(outcome == "second", at) for outcome, at in settled if outcome in ("first", "second")]
    running = _running(won for won, _ in chosen)
    evidence = above = log_evidence(running, null, "above" if margin else None)
    below = log_evidence(running, null, "below") if margin else above
    positions = [at for _, at in chosen]
    threshold = comparisons / (LEVEL if planned is None else EARLY_LEVEL)
    # A margin for rounding: evidence exactly at the threshold counts.
    over = next((i for i, most in enumerate(map(max, above, below)) if most >= math.log(threshold) - 1e-9), None)
    early = None if over is None else ("second" if running[over] > null * (over + 1) else "first")
    if margin and early == "first":
        evidence = below

    last = plan_reached_at(ballots, planned)
    reached = last is not None
    looked_at = duels(ballots[:last], first, second, wanted) if reached else met
    wins, split = duel_majorities(looked_at)
    p, p_below = one_sided(*wins, null) if margin else (sign_test(*wins),) * 2
    by_plan = None
    if reached and min(p, p_below) <= plan_level(comparisons):
        by_plan = "second" if wins[1] > null * sum(wins) else "first"
    # The first to decide counts: later votes do not change the decision.
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
        null=null,
    )


@dataclass(frozen=True)
class AtLarge:
    """What votes say about raters and prompts in general. `winner` is "first", "second" or None. `interval` is that of
    the second's win rate, 95%, over raters and prompts. `p` is that of the raters' net votes."""

    winner: str | None
    p: float
    interval: list[float]
    raters: int


def at_large(
    ballots: Sequence[Ballot], first: str, second: str, *, planned: int | None, comparisons: int = 1
) -> AtLarge | None:
    """The contestant that raters in general prefer, treating raters and prompts as samples. None before the planned
    votes.

    A contestant wins if two tests agree: `sign_flip` of the raters' net votes, which is valid however different their
    tastes, and an interval over raters and prompts that excludes 50%. Arguments are those of `decide`.
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
    """The number of ballots after which the planned number of votes was in. None if it is not, or there is none."""
    cast = 0
    for position, ballot in enumerate(ballots, start=1):
        cast += counts(ballot)
        if cast == planned:
            return position
    return None


def duel_majorities(met: Sequence[Duel]) -> tuple[tuple[int, int], int]:
    """The numbers of prompts on which most votes prefer the first and the second, and the number of splits."""
    outcomes = [duel.outcome for duel in met]
    return (outcomes.count("first"), outcomes.count("second")), outcomes.count("split")


def sign_test(losses: int, wins: int) -> float:
    """The two-sided p of the exact sign test (J. Arbuthnott, 1710), by scipy. 1 without a decided prompt."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def one_sided(losses: int, wins: int, null: float) -> tuple[float, float]:
    """The exact binomial p of a win rate above `null`, and of one below it. 1 without a decided prompt."""
    from scipy.stats import binom

    count = wins + losses
    return (float(binom.sf(wins - 1, count, null)), float(binom.cdf(wins, count, null))) if count else (1.0, 1.0)


def log_evidence(running: Sequence[int], null: float = 0.5, side: str | None = None) -> list[float]:
    """The logarithm of the evidence against the win rate `null` after each outcome. `running` are the cumulative wins.

    A beta-binomial (1, 1) gives k wins of n the probability 1 / (n + 1), a coin C(n, k) null^k (1 - null)^(n - k). The
    ratio is a martingale under the coin. With `side` "above" or "below", the mixture holds only the rates on that side
    of `null`: the ratio is then a supermartingale under every rate on the other side too, since each of its terms is
    monotone in the rate.
    """
    import numpy as np

    counts = np.arange(1, len(running) + 1)
    return evidence_at(np.asarray(running), counts, null, side).tolist()


def evidence_at(wins: np.ndarray, counts: np.ndarray, null: float, side: str | None) -> np.ndarray:
    """`log_evidence` for any numbers of wins of `counts` outcomes."""
    import numpy as np
    from scipy.special import gammaln
    from scipy.stats import beta

    ways = gammaln(counts + 1) - gammaln(wins + 1) - gammaln(counts - wins + 1)
    evidence = -np.log1p(counts) - ways - wins * math.log(null) - (counts - wins) * math.log(1 - null)
    if side == "above":
        evidence += beta.logsf(null, wins + 1, counts - wins + 1) - math.log(1 - null)
    elif side == "below":
        evidence += beta.logcdf(null, wins + 1, counts - wins + 1) - math.log(null)
    return np.maximum(evidence, _LEAST)


def votes_to_decide(decision: Decision, cast: int, planned: int | None) -> int | None:
    """About how many more votes decide a test of a margin if prompts go on as they did. None: no realistic number.

    `cast` of `planned` votes are in. They decide by the evidence, or earlier by the test at the planned number.
    """
    import numpy as np

    count, wins = sum(decision.wins), decision.wins[1]
    if not count:
        return None
    share, side = wins / count, "above" if wins > decision.null * count else "below"
    ahead = np.arange(1, _FORESEEN + 1)
    grown = evidence_at(wins + np.round(share * ahead), count + ahead, decision.null, side)
    over = np.flatnonzero(grown >= math.log(decision.threshold))
    more = math.ceil((int(over[0]) + 1) * cast / count) if len(over) else None
    if planned and cast < planned:
        then = round(count * planned / cast)
        above, below = one_sided(then - round(share * then), round(share * then), decision.null)
        if min(above, below) <= plan_level(1):
            return min(planned - cast, more or planned)
    return more


def anytime_interval(wins: int, count: int) -> list[float] | None:
    """The win rates against which the evidence is below 20: a 95% interval that is valid at any time.

    (T. L. Lai, 1976, Ann. Stat. 4: the same mixture, inverted.) As [low, high] in 0 to 1. None without outcomes.
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


def evidence_as_dict(decision: Decision) -> EvidenceJson:
    """The evidence as JSON: its current and highest value, and its path in at most 200 points."""
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
        "text": "",
    }


def _running(outcomes: Any) -> list[int]:
    running, wins = [], 0
    for won in outcomes:
        wins += won
        running.append(wins)
    return running


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


# K. Krippendorff, Content Analysis (2004), chapter 11: reliable from .8, tentative conclusions from .667.
RELIABLE, TENTATIVE = 0.8, 0.667
_RESAMPLES, _DRAWN_PAIRS = 1000, 100_000_000
_SHUFFLES, _AT_ONCE = 999, 111
_WIDE = 0.6
_NAMED = 5
# An interval that reaches farther than this from 50% cannot exclude a relevant bias.
_MATTERS = 0.15


def agreement(ballots: Sequence[Ballot], order: Mapping[str, int]) -> AgreementJson:
    """Krippendorff's alpha of the raters (nominal: first, second, no side) with its 95% interval, by evalica.

    Returns value, interval, prompts (judged by two raters or more), p (see `agreement_p`), text. Skipped trials and
    automatic ties are not judgments. value is None if nothing can be compared.
    """
    judged: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    for ballot in ballots:
        if ballot.choice == "skip" or ballot.automatic:
            continue
        pair = pair_of(ballot, order)
        judged[(ballot.prompt, *pair)][ballot.rater] = 0 if ballot.winner is None else 1 + pair.index(ballot.winner)
    shared = {unit: judgements for unit, judgements in judged.items() if len(judgements) > 1}
    prompts = len({unit[0] for unit in shared})
    unknown: AgreementJson = {"value": None, "interval": None, "prompts": prompts, "p": None, "text": ""}
    if not shared:
        text = "No prompt was judged by two raters, so agreement is unknown."
        return {**unknown, "text": text}
    several = _prompts(prompts)
    if len({value for judgements in shared.values() for value in judgements.values()}) == 1:
        text = f"All votes on the {several} judged by several raters are the same: full agreement."
        return {**unknown, "text": text + " Krippendorff's alpha is undefined without variation."}
    value, interval = krippendorff_alpha(list(shared.values()))
    alike, of = _alike(shared)
    p = agreement_p(shared)
    between = f", 95% interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    text = f"Pairs of raters agreed {alike:,} of {_times(of)} on {several} (Krippendorff's alpha "
    text += f"{value:.2f}{between}): {reading(value, p)}"
    if p < LEVEL and interval and interval[1] - interval[0] > _WIDE:
        text += " With so few prompts, how much is uncertain."
    return {"value": value, "interval": interval, "prompts": prompts, "p": p, "text": text}


def agreement_p(units: Mapping[tuple[Any, ...], Mapping[str, int]]) -> float:
    """The two-sided p of the null hypothesis behind alpha: raters agree as often as randomly permuted judgments do.

    `units` maps (prompt, first, second) to the judgment of each rater, 0 to 2. The judgments on a pair of contestants
    are permuted 999 times, counting how often two judgments of the same answers agree.
    """
    import numpy as np

    most = max(map(len, units.values()))
    pairs: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    table = np.full((len(units), most), -1, dtype=np.int8)
    for row, (unit, judgements) in enumerate(units.items()):
        pairs[unit[1:]].append(row)
        table[row, : len(judgements)] = list(judgements.values())

    def same(tables: Any) -> Any:
        count = [(tables == value).sum(axis=-1, dtype=np.int64) for value in (0, 1, 2)]
        return sum((times * (times - 1)).sum(axis=-1) for times in count)

    of_pair = np.zeros(len(units), dtype=np.int64)
    for number, rows in enumerate(pairs.values()):
        of_pair[rows] = number
    units_at, columns = np.nonzero(table >= 0)
    blocks = [(units_at[mine], columns[mine]) for number in range(len(pairs)) for mine in [of_pair[units_at] == number]]
    rng, seen, more, less = np.random.default_rng(SEED), same(table), 1, 1
    for _ in range(_SHUFFLES // _AT_ONCE):
        drawn = np.repeat(table[None], _AT_ONCE, axis=0)
        for block in blocks:
            drawn[:, *block] = rng.permuted(drawn[:, *block], axis=1)
        by_chance = same(drawn)
        more, less = more + int((by_chance >= seen).sum()), less + int((by_chance <= seen).sum())
    return min(1.0, 2 * min(more, less) / (_SHUFFLES + 1))


def _alike(units: Mapping[tuple[Any, ...], Mapping[str, int]]) -> tuple[int, int]:
    """How often two raters of the same answers agree, and the number of such pairs."""
    pairs = [pair for choices in units.values() for pair in itertools.combinations(choices.values(), 2)]
    return sum(choice == other for choice, other in pairs), len(pairs)


def krippendorff_alpha(units: Sequence[Mapping[str, Any]]) -> tuple[float, list[float] | None]:
    """Nominal alpha of `units`, each with one value per rater, and its bootstrap interval (Krippendorff 2006), by
    evalica."""
    import evalica
    import pandas as pd

    # Each resample draws as many pairs of judgments as there are: 100,000 votes of 100 raters took two minutes.
    pairs = sum(math.comb(len(unit), 2) for unit in units)
    resamples = max(100, min(_RESAMPLES, _DRAWN_PAIRS // max(1, pairs)))
    # evalica expects raters as rows and units as columns, with missing values for units a rater did not judge.
    estimate = evalica.alpha_bootstrap(
        pd.DataFrame(list(units)).T, distance="nominal", n_resamples=resamples, random_state=SEED
    )
    ends = [float(estimate.low), float(estimate.high)]
    return float(estimate.alpha), ends if all(map(math.isfinite, ends)) else None


def reading(alpha: float, p: float) -> str:
    """The meaning of an alpha with the p value `p` (of no relation between raters), in plain words, as the end of a
    sentence."""
    if p >= LEVEL:
        return "these votes cannot show whether raters agree more or less than by chance."
    if alpha < 0:
        return "the raters disagree more than by chance: what one prefers, another tends to reject."
    if alpha >= RELIABLE:
        return "the raters mostly see the same difference."
    if alpha >= TENTATIVE:
        return "the raters agree well enough for tentative conclusions."
    if alpha >= 0.2:
        return "the raters agree more than by chance, but often differ: tastes vary, or the rubric is unclear."
    return "the raters agree little more than by chance: the verdict averages different tastes."


def between_raters(ballots: Sequence[Ballot], tested: str, title: str) -> RatersDifferJson:
    """How much raters differ in how often they choose `tested`: {"p", "low", "high": [name, win rate] or None, "text"}.

    p is for the hypothesis "all have the same win rate" (`clusters.same_share`). Raters with fewer than 5 decided votes
    are not named.
    """
    won: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for ballot in ballots:
        if ballot.winner is not None and tested in (ballot.left, ballot.right):
            decided[ballot.rater] += 1
            won[ballot.rater] += ballot.winner == tested
    rates = sorted((won[rater] / votes, rater) for rater, votes in decided.items() if votes >= _NAMED)
    if len(rates) < 2:
        return {"p": None, "low": None, "high": None, "text": ""}
    p = same_share([won[rater] for rater in decided], list(decided.values()))
    (low, least), (high, most) = rates[0], rates[-1]
    ends = f"the win rate of {title} is {percent(round(low, 2))} for {least}, {percent(round(high, 2))} for {most}"
    text = f"Raters differ: {ends} ({p_text(p)})."
    if p >= LEVEL:
        text = f"Between raters, {ends}: chance alone could explain the gap ({p_text(p)})."
    return {"p": p, "low": [least, low], "high": [most, high], "text": text}


def position_bias(ballots: Sequence[Ballot]) -> PositionJson:
    """Whether raters prefer a side of the screen: a sign test of the left side's wins over prompts."""
    chosen = [ballot for ballot in ballots if ballot.winner is not None]
    won, prompts = [ballot.choice == "left" for ballot in chosen], [ballot.prompt for ballot in chosen]
    left, count = sum(won), len(chosen)
    if not chosen:
        return {"left": 0, "votes": 0, **_UNTESTED, "text": "No vote chose a side."}
    test = _tested(won, prompts)
    begin = f"The left answer won {percent(test.share)} of {_votes(count)} ({p_text(test.p)})"
    side = "left" if 2 * left > count else "right"
    text = (
        f"{begin}: raters favor the {side}. Sides are balanced: neither side gains, but small differences are hidden."
    )
    if test.p >= LEVEL:
        text = f"{begin}: no sign that raters prefer one side of the screen{_hidden(test)}."
    return {"left": left, "votes": count, **test.as_json(), "text": text}


def length_confound(ballots: Sequence[Ballot], first: str, second: str, titles: Mapping[str, str]) -> LengthJson:
    """Whether the longer answer wins, and whether `second` also wins when it is not the longer one."""
    chosen = [b for b in ballots if {b.left, b.right} == {first, second} and b.winner is not None and b.longer]
    went = [ballot.winner == ballot.longer for ballot in chosen]
    longer, count = sum(went), len(chosen)
    strata: dict[str, StratumJson] = {}
    for name, contestant in (("longer", second), ("shorter", first)):
        some = [ballot for ballot in chosen if ballot.longer == contestant]
        won = [ballot.winner == second for ballot in some]
        strata[name] = {
            "votes": len(some),
            "wins": sum(won),
            "win_rate": sum(won) / len(some) if some else None,
            "interval": clustered_share(won, [ballot.prompt for ballot in some]),
        }
    result: LengthJson = {
        "longer_won": longer,
        "votes": count,
        "second_is": strata,
        "confounded": False,
        **_UNTESTED,
        "text": "No vote chose between answers of different length.",
    }
    if not chosen:
        return result
    test = _tested(went, [ballot.prompt for ballot in chosen])
    name = titles[second]
    text = f"The longer answer won {percent(test.share)} of {_votes(count)} ({p_text(test.p)})."
    parts = [
        f"{percent(rate)} of {_votes(stratum['votes'])} where its answer was {word}"
        for word, stratum in strata.items()
        if (rate := stratum["win_rate"]) is not None
    ]
    text += f" {name} won {' and '.join(parts)}."
    longer_rate, shorter_rate = (stratum["win_rate"] for stratum in strata.values())
    confounded = False
    if test.p >= LEVEL:
        text += f" No sign that length sways raters{_hidden(test)}."
    elif longer_rate is None or shorter_rate is None:
        text += " One contestant's answers are always longer: these votes cannot separate quality from length."
        confounded = True
    elif (longer_rate - 0.5) * (shorter_rate - 0.5) > 0:
        text += " The winner is the same at either length."
    else:
        text += " The winner changes with length: part of the preference may be for length itself."
        confounded = True
    return {**result, **test.as_json(), "confounded": confounded, "text": text}


def guessed_sides(ballots: Sequence[Ballot], tuned: str, title: str) -> GuessesJson:
    """How often raters correctly guessed the side of `tuned` after the vote; a sign test against chance over prompts.

    Raters tend to take the answer they prefer for the tuned one, so guesses that follow the vote are counted
    separately.
    """
    asked = [b for b in ballots if b.of(b.guess) is not None and tuned in (b.left, b.right)]
    knew = [ballot.of(ballot.guess) == tuned for ballot in asked]
    right = sum(knew)
    own = [ballot for ballot in asked if ballot.winner is not None]
    followed = sum(ballot.of(ballot.guess) == ballot.winner for ballot in own)
    neutral = [ballot for ballot in asked if ballot.of(ballot.guess) != ballot.winner]
    neutral_right = sum(ballot.of(ballot.guess) == tuned for ballot in neutral)
    count = len(asked)
    result: GuessesJson = {
        "right": right,
        "guesses": count,
        "followed_vote": followed,
        "with_vote": len(own),
        **_UNTESTED,
        "text": "No rater guessed which side was the newly trained one.",
    }
    if not asked:
        return result
    test = _tested(knew, [b.prompt for b in asked])
    result = {**result, **test.as_json()}
    guesses = "1 guess" if count == 1 else f"{count} guesses"
    text = f"Of {guesses} which side was {title}, {right} {'was' if right == 1 else 'were'} right ({p_text(test.p)})"
    if test.p >= LEVEL:
        return {**result, "text": f"{text}: no sign that raters could tell{_hidden(test)}."}
    if 2 * right < count:
        return {**result, "text": text + ": raters could often tell the two apart, but mixed them up."}
    text += ": raters could often tell."
    if own and followed / len(own) > 0.6:
        text += f" {percent(followed / len(own))} of the guesses match the rater's vote, which explains part of this."
    if neutral:
        text += f" Of the other guesses, {percent(neutral_right / len(neutral))} were right."
    return {**result, "text": text}


@dataclass(frozen=True)
class _Tested:
    """A share of votes, its interval over prompts, and the p of the sign test on the majority of each prompt."""

    share: float
    interval: list[float]
    p: float

    def as_json(self) -> TestedJson:
        return {"share": self.share, "interval": self.interval, "p": self.p}


_UNTESTED: TestedJson = {"share": None, "interval": None, "p": None}


def _tested(right: Sequence[bool], prompts: Sequence[str]) -> _Tested:
    """The test of `right`, one or more votes on these `prompts`."""
    interval = clustered_share(right, prompts)
    assert interval is not None  # there are votes
    return _Tested(sum(right) / len(right), interval, sign_test(*majorities(right, prompts)))


def _hidden(test: _Tested) -> str:
    """A caveat for "no sign of it" if there are too few votes to show one."""
    low, high = test.interval
    return ", though so few votes could hide it" if low < 0.5 - _MATTERS or high > 0.5 + _MATTERS else ""


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count:,} votes"


def _prompts(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count:,} times"
