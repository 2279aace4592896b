"""What may be wrong with the votes: raters who disagree, a side that is preferred, length, raters who can tell."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.arena.ballots import Ballot, pair_of
from ftlab.arena.evidence import sign_test
from ftlab.evaluation.clusters import clustered_share, majorities, same_share
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import LEVEL, SEED, p_text

# K. Krippendorff, Content Analysis (2004), chapter 11: reliable from .8, tentative conclusions from .667.
RELIABLE, TENTATIVE = 0.8, 0.667
_RESAMPLES = 1000
_SHUFFLES, _AT_ONCE = 999, 111
_WIDE = 0.6
_NAMED = 5
# An interval that reaches beyond this from 50% leaves room for a lean that would matter.
_MATTERS = 0.15


def agreement(ballots: Sequence[Ballot], order: Mapping[str, int]) -> dict[str, Any]:
    """Krippendorff's alpha of the raters (nominal: first, second, no side) with its 95% interval, by evalica.

    Returns value, interval, prompts (judged by two raters or more), p (see `agreement_p`), text. Skipped trials and
    ties that nobody was asked about are no judgements. value is None where nothing can be compared.
    """
    judged: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    for ballot in ballots:
        if ballot.choice == "skip" or ballot.automatic:
            continue
        pair = pair_of(ballot, order)
        judged[(ballot.prompt, *pair)][ballot.rater] = 0 if ballot.winner is None else 1 + pair.index(ballot.winner)
    shared = {unit: judgements for unit, judgements in judged.items() if len(judgements) > 1}
    result: dict[str, Any] = {"value": None, "interval": None, "prompts": len({unit[0] for unit in shared}), "p": None}
    if not shared:
        return result | {"text": "No prompt was judged by two raters, so nothing is known about their agreement."}
    several = _prompts(result["prompts"])
    if len({value for judgements in shared.values() for value in judgements.values()}) == 1:
        text = f"All votes on the {several} that several raters judged are the same: they agree fully."
        return result | {"text": text + " Krippendorff's alpha is not defined without any variation."}
    value, interval = krippendorff_alpha(list(shared.values()))
    alike, of = _alike(shared)
    p = agreement_p(shared)
    between = f", 95% interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    said = f"Two raters of the same answers said the same {alike:,} of {_times(of)} on {several} (Krippendorff's alpha "
    said += f"{value:.2f}{between}): {reading(value, p)}"
    if p < LEVEL and interval and interval[1] - interval[0] > _WIDE:
        said += " So few prompts leave open how much."
    return result | {"value": value, "interval": interval, "p": p, "text": said}


def agreement_p(units: Mapping[tuple[Any, ...], Mapping[str, int]]) -> float:
    """The two-sided p of "raters agree as often as they would if their judgements were dealt out at random", which is
    what alpha is measured against.

    `units`: (prompt, first, second) to the judgement of each rater, 0 to 2. The judgements on a pair of contestants are
    dealt out anew 999 times; what is counted is how often two of the same answers are the same.
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
        return sum((one * (one - 1)).sum(axis=-1) for one in count)

    of_pair = np.zeros(len(units), dtype=np.int64)
    for number, rows in enumerate(pairs.values()):
        of_pair[rows] = number
    rows, columns = np.nonzero(table >= 0)
    blocks = [(rows[mine], columns[mine]) for number in range(len(pairs)) for mine in [of_pair[rows] == number]]
    rng, seen, more, less = np.random.default_rng(SEED), same(table), 1, 1
    for _ in range(_SHUFFLES // _AT_ONCE):
        drawn = np.repeat(table[None], _AT_ONCE, axis=0)
        for block in blocks:
            drawn[:, *block] = rng.permuted(drawn[:, *block], axis=1)
        found = same(drawn)
        more, less = more + int((found >= seen).sum()), less + int((found <= seen).sum())
    return min(1.0, 2 * min(more, less) / (_SHUFFLES + 1))


def _alike(units: Mapping[tuple[Any, ...], Mapping[str, int]]) -> tuple[int, int]:
    """How often two raters said the same of the same answers, and how often two judged them."""
    pairs = [pair for one in units.values() for pair in itertools.combinations(one.values(), 2)]
    return sum(one == other for one, other in pairs), len(pairs)


def krippendorff_alpha(units: Sequence[Mapping[str, Any]]) -> tuple[float, list[float] | None]:
    """Nominal alpha of `units`, each a value per rater, and its bootstrap interval (Krippendorff 2006), by evalica."""
    import evalica
    import pandas as pd

    # evalica reads raters as rows and units as columns; who did not judge a unit is missing there.
    found = evalica.alpha_bootstrap(
        pd.DataFrame(list(units)).T, distance="nominal", n_resamples=_RESAMPLES, random_state=SEED
    )
    ends = [float(found.low), float(found.high)]
    return float(found.alpha), ends if all(map(math.isfinite, ends)) else None


def reading(alpha: float, p: float) -> str:
    """What an alpha means whose p (of no relation between raters) is `p`, in plain words and as a sentence's end."""
    if p >= LEVEL:
        return "these votes cannot tell whether raters agree more or less than chance would make them."
    if alpha < 0:
        return "the raters disagree more than chance would make them: what one prefers the other tends to reject."
    if alpha >= RELIABLE:
        return "the raters mostly see the same difference."
    if alpha >= TENTATIVE:
        return "the raters agree well enough for tentative conclusions."
    if alpha >= 0.2:
        return (
            "the raters agree more than chance, and still often differ: it is partly taste, or the rubric is unclear."
        )
    return "the raters agree little more than chance: read the verdict as the mean of different tastes."


def between_raters(ballots: Sequence[Ballot], tested: str, title: str) -> dict[str, Any]:
    """How much raters differ in how often they choose `tested`: {"p", "low", "high": [name, win rate] or None, "text"}.

    p is of "all have the same win rate" (`clusters.same_share`). Who chose in fewer than 5 votes is not named.
    """
    won: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for ballot in ballots:
        if ballot.winner is not None and tested in (ballot.left, ballot.right):
            decided[ballot.rater] += 1
            won[ballot.rater] += ballot.winner == tested
    rates = sorted((won[one] / votes, one) for one, votes in decided.items() if votes >= _NAMED)
    result: dict[str, Any] = {"p": None, "low": None, "high": None, "text": ""}
    if len(rates) < 2:
        return result
    p = same_share([won[one] for one in decided], list(decided.values()))
    (low, least), (high, most) = rates[0], rates[-1]
    ends = f"the win rate of {title} is {percent(round(low, 2))} with {least}, {percent(round(high, 2))} with {most}"
    text = f"Raters differ: {ends} ({p_text(p)})."
    if p >= LEVEL:
        text = f"Between raters {ends}: chance alone can put them so far apart ({p_text(p)})."
    return {"p": p, "low": [least, low], "high": [most, high], "text": text}


def position_bias(ballots: Sequence[Ballot]) -> dict[str, Any]:
    """Whether raters prefer a side of the screen: a sign test of the left side's wins over prompts."""
    chosen = [ballot for ballot in ballots if ballot.winner is not None]
    won, prompts = [ballot.choice == "left" for ballot in chosen], [ballot.prompt for ballot in chosen]
    left, count = sum(won), len(chosen)
    result = {"left": left, "votes": count, "share": left / count if count else None}
    result |= _tested(won, prompts)
    if not count:
        return result | {"text": "No vote chose a side."}
    begin = f"The left answer won {percent(left / count)} of {_votes(count)} ({p_text(result['p'])})"
    if result["p"] >= LEVEL:
        return result | {"text": f"{begin}: no sign that raters prefer a side of the screen{_hidden(result)}."}
    side = "left" if 2 * left > count else "right"
    text = f"{begin}: raters lean to the {side}. Sides are balanced, so it favours nobody; it hides small differences."
    return result | {"text": text}


def length_confound(ballots: Sequence[Ballot], first: str, second: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """Whether the longer answer wins, and whether `second` also wins where it is not the longer one."""
    chosen = [b for b in ballots if {b.left, b.right} == {first, second} and b.winner is not None and b.longer]
    went = [ballot.winner == ballot.longer for ballot in chosen]
    longer, count = sum(went), len(chosen)
    strata = {}
    for name, one in (("longer", second), ("shorter", first)):
        some = [ballot for ballot in chosen if ballot.longer == one]
        won = [ballot.winner == second for ballot in some]
        strata[name] = {
            "votes": len(some),
            "wins": sum(won),
            "win_rate": sum(won) / len(some) if some else None,
            "interval": clustered_share(won, [ballot.prompt for ballot in some]),
        }
    result = {"longer_won": longer, "votes": count, "share": longer / count if count else None}
    result |= _tested(went, [ballot.prompt for ballot in chosen]) | {"second_is": strata, "confounded": False}
    if not count:
        return result | {"text": "No vote chose between answers of different length."}
    name = titles[second]
    text = f"The longer answer won {percent(longer / count)} of {_votes(count)} ({p_text(result['p'])})."
    parts = [
        f"{percent(one['win_rate'])} of {_votes(one['votes'])} where its answer was {word}"
        for word, one in strata.items()
        if one["votes"]
    ]
    text += f" {name} won {' and '.join(parts)}."
    rates = [one["win_rate"] for one in strata.values()]
    if result["p"] < LEVEL:
        if None in rates:
            text += " One of the two is always the longer: these votes cannot tell quality from length."
            result["confounded"] = True
        elif (rates[0] - 0.5) * (rates[1] - 0.5) > 0:
            text += " It points the same way at either length."
        else:
            text += " Who wins turns with the length: part of the preference may be for length itself."
            result["confounded"] = True
    else:
        text += f" No sign that raters go by length{_hidden(result)}."
    return result | {"text": text}


def guessed_sides(ballots: Sequence[Ballot], tuned: str, title: str) -> dict[str, Any]:
    """How often raters said which side `tuned` was, asked after the vote; a sign test against chance over prompts.

    Whoever prefers an answer tends to take it for the tuned one, so guesses that follow the vote are counted apart.
    """
    asked = [b for b in ballots if b.of(b.guess) is not None and tuned in (b.left, b.right)]
    knew = [ballot.of(ballot.guess) == tuned for ballot in asked]
    right = sum(knew)
    own = [ballot for ballot in asked if ballot.winner is not None]
    followed = sum(ballot.of(ballot.guess) == ballot.winner for ballot in own)
    neutral = [ballot for ballot in asked if ballot.of(ballot.guess) != ballot.winner]
    neutral_right = sum(ballot.of(ballot.guess) == tuned for ballot in neutral)
    count = len(asked)
    result = {"right": right, "guesses": count, "share": right / count if count else None}
    result |= _tested(knew, [b.prompt for b in asked]) | {"followed_vote": followed, "with_vote": len(own)}
    if not count:
        return result | {"text": "Nobody was asked, or said, which side was tuned."}
    times = "guess" if count == 1 else "guesses"
    text = f"{right} of {count} {times} which side was {title} were right ({p_text(result['p'])})"
    if result["p"] >= LEVEL:
        return result | {"text": f"{text}: no sign that raters could tell{_hidden(result)}."}
    if 2 * right < count:
        return result | {"text": text + ": raters could often tell the two apart, and took the other one for it."}
    text += ": raters could often tell."
    if own and followed / len(own) > 0.6:
        text += (
            f" {percent(followed / len(own))} of the guesses name the answer that was preferred, which explains part."
        )
    if neutral:
        text += f" Of the guesses that did not, {percent(neutral_right / len(neutral))} were right."
    return result | {"text": text}


def _tested(right: Sequence[bool], prompts: Sequence[str]) -> dict[str, Any]:
    """The interval of a share over prompts, and the p of the sign test on what most votes of each prompt say."""
    return {"interval": clustered_share(right, prompts), "p": sign_test(*majorities(right, prompts)) if right else None}


def _hidden(result: Mapping[str, Any]) -> str:
    """What to add to "no sign of it" where there are too few votes to see one."""
    low, high = result["interval"]
    return ", though so few votes could hide one" if low < 0.5 - _MATTERS or high > 0.5 + _MATTERS else ""


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count:,} votes"


def _prompts(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count:,} times"
