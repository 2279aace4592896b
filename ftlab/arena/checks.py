"""What may be wrong with the votes: raters who disagree, a side that is preferred, length, raters who can tell."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.arena.ballots import Ballot, pair_of
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import LEVEL, SEED, p_text, wilson_interval

# K. Krippendorff, Content Analysis (2004), chapter 11: reliable from .8, tentative conclusions from .667.
RELIABLE, TENTATIVE = 0.8, 0.667
_RESAMPLES = 1000
_WIDE = 0.6


def agreement(ballots: Sequence[Ballot], order: Mapping[str, int]) -> dict[str, Any]:
    """Krippendorff's alpha of the raters (nominal: first, second, no side) with its 95% interval, by evalica.

    Returns value, interval, prompts (judged by two raters or more), text. Skipped trials and ties that nobody was asked
    about are no judgements. value is None where nothing can be compared.
    """
    judged: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    for ballot in ballots:
        if ballot.choice == "skip" or ballot.automatic:
            continue
        pair = pair_of(ballot, order)
        judged[(ballot.prompt, *pair)][ballot.rater] = 0 if ballot.winner is None else 1 + pair.index(ballot.winner)
    shared = [judgements for judgements in judged.values() if len(judgements) > 1]
    result: dict[str, Any] = {"value": None, "interval": None, "prompts": len(shared)}
    if not shared:
        return result | {"text": "No prompt was judged by two raters, so nothing is known about their agreement."}
    if len({value for judgements in shared for value in judgements.values()}) == 1:
        text = f"All votes on the {_prompts(len(shared))} that several raters judged are the same: they agree fully."
        return result | {"text": text + " Krippendorff's alpha is not defined without any variation."}
    value, interval = krippendorff_alpha(shared)
    between = f" (95% interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    said = f"Krippendorff's alpha is {value:.2f}{between} on {_prompts(len(shared))}: {reading(value)}"
    if interval and interval[1] - interval[0] > _WIDE:
        said += " So few prompts leave this uncertain."
    return result | {"value": value, "interval": interval, "text": said}


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


def reading(alpha: float) -> str:
    """What an alpha means, in plain words and as a sentence's end."""
    if alpha >= RELIABLE:
        return "the raters mostly see the same difference."
    if alpha >= TENTATIVE:
        return "the raters agree well enough for tentative conclusions."
    if alpha >= 0.2:
        return (
            "the raters agree more than chance, and still often differ: it is partly taste, or the rubric is unclear."
        )
    if alpha > 0:
        return "the raters hardly agree more than chance: read the verdict as the mean of different tastes."
    return "the raters agree no more than chance would make them: what one prefers says nothing about the next."


def position_bias(ballots: Sequence[Ballot]) -> dict[str, Any]:
    """Whether raters prefer a side of the screen: a two-sided binomial test of the left side's wins, by scipy."""
    chosen = [ballot.choice for ballot in ballots if ballot.winner is not None]
    left, count = chosen.count("left"), len(chosen)
    result = {"left": left, "votes": count, "share": left / count if count else None}
    result |= {"interval": wilson_interval(left, count), "p": _binomial(left, count)}
    if not count:
        return result | {"text": "No vote chose a side."}
    begin = f"The left answer won {percent(left / count)} of {_votes(count)} ({p_text(result['p'])})"
    if result["p"] >= LEVEL:
        return result | {"text": f"{begin}: no sign that raters prefer a side of the screen."}
    side = "left" if 2 * left > count else "right"
    text = f"{begin}: raters lean to the {side}. Sides are balanced, so it favours nobody; it hides small differences."
    return result | {"text": text}


def length_confound(ballots: Sequence[Ballot], first: str, second: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """Whether the longer answer wins, and whether `second` also wins where it is not the longer one."""
    chosen = [b for b in ballots if {b.left, b.right} == {first, second} and b.winner is not None and b.longer]
    longer = sum(ballot.winner == ballot.longer for ballot in chosen)
    count = len(chosen)
    strata = {}
    for name, one in (("longer", second), ("shorter", first)):
        some = [ballot for ballot in chosen if ballot.longer == one]
        won = sum(ballot.winner == second for ballot in some)
        strata[name] = {
            "votes": len(some),
            "wins": won,
            "win_rate": won / len(some) if some else None,
            "interval": wilson_interval(won, len(some)),
        }
    result = {"longer_won": longer, "votes": count, "share": longer / count if count else None}
    result |= {"p": _binomial(longer, count), "second_is": strata, "confounded": False}
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
        elif (rates[0] - 0.5) * (rates[1] - 0.5) < 0:
            text += " Who wins turns with the length: part of the preference may be for length itself."
            result["confounded"] = True
        else:
            text += " It points the same way at either length."
    else:
        text += " Length does not explain the votes."
    return result | {"text": text}


def guessed_sides(ballots: Sequence[Ballot], tuned: str, title: str) -> dict[str, Any]:
    """How often raters said which side `tuned` was, asked after the vote; a two-sided binomial test against chance.

    Whoever prefers an answer tends to take it for the tuned one, so guesses that follow the vote are counted apart.
    """
    asked = [b for b in ballots if b.of(b.guess) is not None and tuned in (b.left, b.right)]
    right = sum(ballot.of(ballot.guess) == tuned for ballot in asked)
    own = [ballot for ballot in asked if ballot.winner is not None]
    followed = sum(ballot.of(ballot.guess) == ballot.winner for ballot in own)
    neutral = [ballot for ballot in asked if ballot.of(ballot.guess) != ballot.winner]
    neutral_right = sum(ballot.of(ballot.guess) == tuned for ballot in neutral)
    count = len(asked)
    result = {"right": right, "guesses": count, "share": right / count if count else None, "p": _binomial(right, count)}
    result |= {"interval": wilson_interval(right, count), "followed_vote": followed, "with_vote": len(own)}
    if not count:
        return result | {"text": "Nobody was asked, or said, which side was tuned."}
    times = "guess" if count == 1 else "guesses"
    text = f"{right} of {count} {times} which side was {title} were right ({p_text(result['p'])})"
    if result["p"] >= LEVEL:
        return result | {"text": text + ": no sign that raters could tell."}
    if 2 * right < count:
        return result | {"text": text + ": raters took the other one for it, and were not led by knowing."}
    text += ": raters could often tell."
    if own and followed / len(own) > 0.6:
        text += (
            f" {percent(followed / len(own))} of the guesses name the answer that was preferred, which explains part."
        )
    if neutral:
        text += f" Of the guesses that did not, {percent(neutral_right / len(neutral))} were right."
    return result | {"text": text}


def _binomial(count: int, total: int) -> float | None:
    from scipy.stats import binomtest

    return float(binomtest(count, total).pvalue) if total else None


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count:,} votes"


def _prompts(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"
