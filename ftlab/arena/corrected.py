"""A judge model on all prompts, people on some: one win rate, in which the votes correct the judge.

Prediction-powered inference (Angelopoulos, Duchi and Zrnic, PPI++, arXiv 2311.01453): the judge's mean over the prompts
without votes, plus the mean error that people find on the prompts with votes. The weight of the judge is estimated, so
that a bad one only costs its requests. `tests/benchmarks/corrected_judge.py` measures how often the interval holds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab.arena.ballots import Ballot, counts
from ftlab.arena.results import CorrectedJson
from ftlab.core.files import read_jsonl
from ftlab.core.words import counted
from ftlab.evaluation.figures import from_to, percent
from ftlab.evaluation.significance import LEVEL

if TYPE_CHECKING:
    import numpy as np

FEWEST_PROMPTS = 20  # with votes
_AIM = 0.05
# In addition to the observed errors, one prompt in each direction on which the judge is entirely wrong: a judge that
# agreed with people on 20 prompts may still err on a seventh of the others.
_UNSEEN = 2


@dataclass(frozen=True)
class Estimate:
    """The second contestant's win rate (a tie is half), its 95% interval, the judge's weight of 0 to 1, and the
    variance of one prompt's correction."""

    win_rate: float
    interval: list[float]
    weight: float
    spread: float


def corrected(people: np.ndarray, judge: np.ndarray, others: np.ndarray) -> Estimate:
    """The win rate from `people` on some prompts, `judge` on the same prompts, and the judge alone on `others`; all 0
    to 1."""
    import numpy as np
    from scipy.stats import t

    n, rest = len(people), len(others)
    variance = float(np.concatenate([judge, others]).var())

    def weight_of(some: np.ndarray, judged: np.ndarray) -> float:
        if variance < 1e-12 or not rest or len(some) < 2:
            return 0.0
        covariance = float(np.cov(some, judged)[0, 1])
        return min(max(covariance / ((1 + len(some) / rest) * variance), 0.0), 1.0)

    def estimate(some: np.ndarray, judged: np.ndarray) -> float:
        weight = weight_of(some, judged)
        return float((some - weight * judged).mean()) + (weight * float(others.mean()) if rest else 0.0)

    weight, point = weight_of(people, judge), estimate(people, judge)
    kept = ~np.eye(n, dtype=bool)
    without = np.asarray([estimate(people[row], judge[row]) for row in kept])
    of_people = (n - 1) / n * float(((without - without.mean()) ** 2).sum()) + _UNSEEN / ((n + 1) * (n + 2))
    of_judge = weight**2 * float(others.var(ddof=1)) / rest if rest > 1 else 0.0
    half = float(t.ppf(1 - LEVEL / 2, n - 1)) * math.sqrt(of_people + of_judge)
    low, middle, high = (min(max(value, 0.0), 1.0) for value in (point - half, point, point + half))
    return Estimate(middle, [low, high], weight, n * of_people)


def corrected_by_votes(
    file: Path, ballots: Sequence[Ballot], asked: Mapping[str, int], first: str, second: str, titles: Mapping[str, str]
) -> CorrectedJson | None:
    """The win rate of `second` against `first` from the votes and the newest judge in `file` (see `judging`). None
    without one. `asked` are the prompts that count: their numbers by id."""
    import numpy as np

    judged, model = read_scores(file, first, second)
    by_number = {number: judged[number] for number in asked.values() if number in judged}
    if not by_number:
        return None
    cast: dict[int, list[float]] = defaultdict(list)
    for ballot in ballots:
        if counts(ballot) and {ballot.left, ballot.right} == {first, second} and asked.get(ballot.prompt) in by_number:
            cast[asked[ballot.prompt]].append(0.5 if ballot.winner is None else float(ballot.winner == second))
    both = sorted(cast)
    others = sorted(by_number.keys() - cast.keys())
    empty: CorrectedJson = {
        "judge": model,
        "prompts": len(both),
        "judged": len(by_number),
        "win_rate": None,
        "interval": None,
        "votes_alone": None,
        "weight": None,
        "agree": None,
        "kappa": None,
        "text": "",
    }
    if len(both) < FEWEST_PROMPTS:
        few = f"It takes votes on {FEWEST_PROMPTS} prompts that {model} has judged; there are {len(both)}."
        return {**empty, "text": few}
    people = np.asarray([float(np.mean(cast[number])) for number in both])
    judge = np.asarray([by_number[number] for number in both])
    result = corrected(people, judge, np.asarray([by_number[number] for number in others]))
    alone = corrected(people, np.zeros(len(people)), np.zeros(0)).interval
    alike = np.sign(people - 0.5) == np.sign(judge - 0.5)
    text = (
        f"{titles[second]} wins {percent(round(result.win_rate, 3))} (95% interval "
        f"{from_to(result.interval)}; a tie is half), by votes on {counted(len(both), 'prompt')} and {model} on "
        f"{len(by_number):,}. Votes alone: {from_to(alone)}. {model} agrees with people on {int(alike.sum())} of "
        f"{len(both)}"
    )
    kappa = _kappa(people, judge)
    text += f" (kappa {kappa:.2f})." if kappa is not None else "."
    more = math.ceil(result.spread * (1.96 / _AIM) ** 2) - len(both)
    if not others:
        text += " Every prompt has votes, so the judge adds nothing."
    elif result.interval[1] - result.interval[0] > 2 * _AIM and more > 0:
        text += f" ±{100 * _AIM:.0f} points needs votes on about {more:,} more prompts."
    return {
        **empty,
        "win_rate": result.win_rate,
        "interval": result.interval,
        "votes_alone": alone,
        "weight": result.weight,
        "agree": int(alike.sum()),
        "kappa": kappa,
        "text": text,
    }


def read_scores(file: Path, first: str, second: str) -> tuple[dict[int, float], str]:
    """The newest judge's scores in `file` by prompt number, and the judge's name: 1 if `second` is better in both
    orders of the answers, 0 if `first` is, half for a tie or a changed verdict."""
    lines = read_jsonl(file)
    newest = next((line["judgement"] for line in reversed(lines)), None)
    worth = {first: 0.0, second: 1.0, "tie": 0.5}
    orders: dict[int, dict[str, float]] = defaultdict(dict)
    model = ""
    for line in lines:
        if line["judgement"] == newest and line.get("choice") in worth:
            orders[line["row"]][line["order"][0]] = worth[line["choice"]]
            model = line["model"]
    return {row: sum(values.values()) / 2 for row, values in orders.items() if len(values) == 2}, model


def _kappa(people: np.ndarray, judge: np.ndarray) -> float | None:
    """Cohen's kappa of better, worse and neither (J. Cohen, 1960). None if one of the two always says the same."""
    import numpy as np

    mine, other = np.sign(people - 0.5), np.sign(judge - 0.5)
    chance = sum(float((mine == value).mean()) * float((other == value).mean()) for value in (-1, 0, 1))
    return None if chance > 1 - 1e-9 else (float((mine == other).mean()) - chance) / (1 - chance)
