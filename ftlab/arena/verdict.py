"""The verdict of a blind test, its ranking, and its sentences."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ftlab.arena.ballots import Ballot, counts, duels, in_order, judged
from ftlab.arena.evidence import (
    FEWEST_RATERS,
    Decision,
    agreement,
    at_large,
    between_raters,
    decide,
    duel_majorities,
    evidence_as_dict,
    fewest_prompts,
    guessed_sides,
    length_confound,
    plan_level,
    position_bias,
    sign_test,
    votes_to_decide,
)
from ftlab.arena.results import (
    EvidenceJson,
    GroupJson,
    JudgedJson,
    OutcomeJson,
    OverviewJson,
    PairJson,
    StrengthJson,
    Word,
)
from ftlab.arena.style import Style, equal_style
from ftlab.core.words import counted
from ftlab.evaluation import clusters
from ftlab.evaluation.clusters import clustered_share
from ftlab.evaluation.figures import from_to, percent
from ftlab.evaluation.significance import LEVEL, SEED, holm, p_text, wilson_interval

_RESAMPLES = 400


def bradley_terry(ballots: Sequence[Ballot], titles: Mapping[str, str]) -> list[StrengthJson]:
    """The contestants from strongest to weakest: id, title, strength, interval, wins, losses, ties.

    Strength is the mean probability of winning a vote against each of the others under the model of R. A. Bradley and
    M. E. Terry (1952, Biometrika 39), fitted by evalica; a vote for neither counts as half a win for both. The 95%
    interval is a percentile bootstrap over prompts, because votes cluster by prompt, widened by Student's t for few
    prompts (T. Hesterberg, The American Statistician 69, 2015, section 5). Empty without votes.
    """
    import numpy as np
    from scipy.stats import norm, t

    votes = [ballot for ballot in ballots if ballot.choice != "skip"]
    if not votes:
        return []
    names = list(titles)
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(ballot.prompt for ballot in votes))}
    of_vote = np.asarray([prompts[ballot.prompt] for ballot in votes])
    point = _strengths(votes, names, np.ones(len(votes)))
    drawn = np.random.default_rng(SEED).multinomial(len(prompts), [1 / len(prompts)] * len(prompts), size=_RESAMPLES)
    resampled = np.asarray([_strengths(votes, names, counts[of_vote].astype(float)) for counts in drawn])
    few, low, high = len(prompts), np.zeros(len(names)), np.ones(len(names))
    if few > 1:  # a single prompt shows no spread
        tail = 100 * norm.cdf(-math.sqrt(few / (few - 1)) * t.ppf(0.975, few - 1))
        low, high = np.percentile(resampled, [tail, 100 - tail], axis=0)
    tally: Counter[tuple[str, str]] = Counter()
    for ballot in votes:
        for contestant in (ballot.left, ballot.right):
            tally[
                contestant, "ties" if ballot.winner is None else "wins" if ballot.winner == contestant else "losses"
            ] += 1
    rows: list[StrengthJson] = [
        {
            "id": name,
            "title": titles[name],
            "strength": float(point[i]),
            "interval": [float(low[i]), float(high[i])],
            "wins": tally[name, "wins"],
            "losses": tally[name, "losses"],
            "ties": tally[name, "ties"],
        }
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -row["strength"])


def pairs(titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every pair of contestants, in the order of the test."""
    return list(itertools.combinations(titles, 2))


def _strengths(votes: Sequence[Ballot], names: Sequence[str], weights: Any) -> Any:
    import evalica
    import numpy as np
    import pandas as pd

    met = weights > 0
    some = [vote for vote, kept in zip(votes, met, strict=True) if kept]
    winners = [
        evalica.Winner.Draw
        if vote.winner is None
        else evalica.Winner.X
        if vote.winner == vote.left
        else evalica.Winner.Y
        for vote in some
    ]
    fitted = evalica.bradley_terry(
        [vote.left for vote in some],
        [vote.right for vote in some],
        winners,
        index=pd.Index(names),
        weights=weights[met],
        limit=1000,
    )
    scores = np.maximum(fitted.scores.reindex(names).to_numpy(dtype=float), 1e-12)
    beats = scores[:, None] / (scores[:, None] + scores[None, :])
    return (beats.sum(axis=1) - 0.5) / (len(names) - 1)


def sentence(result: PairJson, decision: Decision, titles: Mapping[str, str], cast: int, planned: int | None) -> str:
    """The verdict on two contestants in one or two sentences. `cast` of `planned` votes are in."""
    tuned, other = titles[result["second"]], titles[result["first"]]
    if result["win_rate"] is None or result["interval"] is None:
        return f"Not enough votes: none chose between {tuned} and {other} yet."
    rate = f"won {percent(result['win_rate'])} of the {result['decided']:,} votes that chose a side"
    between = f"95% interval {from_to(result['interval'])}"
    chosen, counts_text = sum(decision.wins), f"won {result['wins']:,} and lost {result['decided'] - result['wins']:,}"
    test = f"sign test over {chosen:,} prompts, {p_text(decision.p)}" if result["clustered"] else p_text(decision.p)
    margin, points = result["margin"], f"by more than {points_text(result['margin'])}"
    prompts = result["prompts"]
    if margin and prompts and result["clustered"]:  # it is about prompts: majorities lie farther from 50% than votes
        rate = f"won {prompts['wins']:,} of the {prompts['wins'] + prompts['losses']:,} prompts that chose a side"
        between = f"95% interval {from_to(prompts['interval'] or [0.0, 1.0])}"
    if margin and decision.by == "plan":
        test = f"exact test over {chosen:,} prompts at the planned number"
    if decision.winner:
        word = "better" if decision.winner == "second" else "worse"
        if margin:
            word = "no worse" if decision.winner == "second" else "worse"
            other = f"{other} {points}"
        limited = whom(result["raters_then"], result["raters"])
        evidence = result["evidence"] if decision.by == "evidence" else None
        if result["general"] and result["general_interval"]:
            limited, between = (
                "",
                f"95% interval over raters and prompts {from_to(result['general_interval'])}",
            )
        elif evidence:
            of = ""
            if result["clustered"]:
                of = " of prompts"
                rate += "" if margin else f", and {evidence['wins']:,} of {evidence['prompts']:,} prompts"
            between = f"95% interval{of} {from_to(evidence['interval'] or [0.0, 1.0])}, valid at any time"
        if evidence:
            test = f"evidence {odds(evidence['highest'])}"
        if limited and result["raters_then"] < result["raters"]:
            return f"{tuned} is {word} than {other}{limited} ({test}). It has now {rate}."
        return f"{tuned} is {word} than {other}{limited}: it {rate} ({between}; {test})."
    if margin:
        return _undecided(result, decision, f"{tuned} is no worse than {other} {points}", rate, between, cast, planned)
    if not decision.reached:
        of = f" of {planned:,} planned" if planned else ""
        begin = f"Not enough votes: {cast:,}{of} {'is' if cast == 1 else 'are'} in."
        if too_few(result):
            further = f"no test can detect a difference in fewer than {result['fewest']} prompts"
            return f"{begin} So far {tuned} {counts_text}: {further}."
        return f"{begin} So far {tuned} {rate} ({between}), which is not conclusive."
    if chosen < result["fewest"]:
        return (
            f"Not enough votes that chose a side: {tuned} {counts_text}. The raters preferred one of the two on "
            f"{counted(chosen, 'prompt')}, and no test can detect a difference in fewer than {result['fewest']}."
        )
    return f"No difference found between {tuned} and {other}: {tuned} {rate} ({between}; {test})."


def too_few(result: PairJson | JudgedJson) -> bool:
    """Whether the raters chose a side on too few prompts for any test. Then votes are counted: a rate or p of so few
    would look like a result."""
    prompts = result["prompts"]
    return prompts is not None and prompts["wins"] + prompts["losses"] < result.get("fewest", 0)


def points_text(points: float) -> str:
    """A margin in words: 1 point, 7.5 points."""
    return "1 point" if points == 1 else f"{points:g} points"


def _undecided(
    result: PairJson, decision: Decision, claim: str, rate: str, between: str, cast: int, planned: int | None
) -> str:
    """A test of a margin that cannot tell, and how many more votes it would take."""
    of = f" of {planned:,} planned" if planned else ""
    begin = "Cannot tell" if decision.reached else f"Cannot tell yet ({cast:,}{of} votes)"
    more = result["more"]
    further = "No realistic number of votes would tell if they go on like this."
    if more is not None and not decision.reached:
        further = f"About {more:,} more votes decide if they go on like this."
    elif more is not None:
        further = f"About {more:,} more votes would if they go on like this: repeat the test on fresh prompts."
    return f"{begin} whether {claim}: it {rate} ({between}). {further}"


def whom(raters: int, of: int) -> str:
    """The raters that a limited verdict applies to, as the end of its sentence. `raters` had voted when it was decided,
    `of` have voted by now."""
    if raters < of:
        who = "rater" if raters == 1 else f"{raters:,} raters"
        return f" for the {who} who had voted when it was decided"
    return " for this rater" if raters == 1 else f" for these {raters:,} raters"


def evidence_text(evidence: EvidenceJson, decision: Decision) -> str:
    """The evidence and the threshold at which it decides, in one or two sentences."""
    now, highest = evidence["now"], evidence["highest"]
    if not decision.evidence:
        return "No prompt has all its votes yet, so there is no evidence."
    prompts = "1 prompt" if len(decision.evidence) == 1 else f"{len(decision.evidence):,} prompts"
    for_what = "a difference" if decision.null == 0.5 else "it" if decision.winner == "first" else "“no worse”"
    text = f"After {prompts} the evidence for {for_what} is {odds(now)}"
    if highest > 1.5 * now:
        text += f" (highest {odds(highest)})"
    if decision.crossed_at is not None:
        return f"{text}. It passed {decision.threshold:g} to 1 after {decision.crossed_at:,} votes."
    return f"{text}; from {decision.threshold:g} to 1 on it decides, however often you check."


def odds(value: float) -> str:
    """A ratio as odds: 24 to 1, 1 to 3.2, more than 10,000 to 1."""
    if value >= 1e4:
        return "more than 10,000 to 1"
    if value >= 1:
        return f"{value:,.0f} to 1" if value >= 9.95 else f"{value:.1f} to 1"
    return f"1 to {1 / value:.1f}" if value > 0.01 else "1 to more than 100"


_SAME = "two answers were the same: a tie, which no rater saw"


def notes(result: JudgedJson, opened_early: int | None, left_out: int, closed_unseen: bool = False) -> list[str]:
    """Caveats for reading the verdict."""
    sentences = []
    votes = result["votes"]
    cast, planned, raters = votes["cast"], votes["planned"], votes["raters"]
    if opened_early is not None:
        of = f" of {planned:,} planned" if planned else ""
        sentences.append(
            f"The tally was opened early, after {opened_early:,}{of} votes. The verdict allows for that: before the "
            "planned number, only the evidence decides. The win rate of a test that ended early tends to be too "
            "extreme."
        )
    if closed_unseen and planned and cast < planned:
        sentences.append(
            "Closed before the planned number of votes, and before anyone saw the tally: the test is valid, but can "
            "miss what it was planned to detect."
        )
    if left_out:
        prompts = "1 prompt was" if left_out == 1 else f"{left_out:,} prompts were"
        sentences.append(
            f"{prompts} left out: a contestant was trained on it or a near copy, so votes would reward memory."
        )
    busiest = max(result["by_rater"], key=lambda row: row["votes"], default=None)
    if raters == 1:
        sentences.append("Only one rater voted: the votes are this person's preference.")
    else:
        sentences += _general(result)
        if result["between_raters"]["text"]:
            sentences.append(result["between_raters"]["text"])
    if raters > 1 and busiest and cast > 6 and busiest["votes"] > 0.6 * cast:
        share = percent(round(busiest["votes"] / cast, 2))
        sentences.append(f"{busiest['name']} gave {share} of the votes: the verdict is mostly this rater's preference.")
    if planned and cast > planned:
        came = "1 vote came" if cast - planned == 1 else f"{cast - planned:,} votes came"
        sentences.append(f"{came} after the planned number: counted in the win rate, not in the test.")
    if alike := result["ties"]["identical_prompts"]:
        of = counted(votes["prompts"], "prompt")
        sentences.append(f"On {alike:,} of {of} {_SAME}.")
    neither = result["ties"]["both_good"] + result["ties"]["both_bad"]
    if neither > votes["decided"] > 0:
        sentences.append("More than half of the votes chose neither answer: the verdict rests on the others.")
    if result["length"]["confounded"]:
        sentences.append("Length may explain part of the preference: see Details.")
    return sentences


def listing(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _general(result: JudgedJson) -> list[str]:
    """Why a verdict applies only to these raters."""
    if result["verdict"] not in (BETTER, WORSE, NO_WORSE) or result["general"]:
        return []
    if result.get("margin"):
        return ["A margin is tested for the raters who voted, not for raters in general."]
    raters, interval = result["votes"]["raters"], result.get("general_interval")
    if raters < FEWEST_RATERS:
        return [f"{raters:,} raters are too few to speak for raters in general: that takes {FEWEST_RATERS} or more."]
    if not result["pairs"] and interval is None:
        return ["It was decided before the planned number of votes, so it applies to these raters only."]
    over = f" (95% interval over raters and prompts {from_to(interval)})" if interval else ""
    return [f"These votes cannot show whether raters in general would prefer it{over}."]


BETTER: Final = "better"
WORSE: Final = "worse"
NO_WORSE: Final = "no_worse"
NO_DIFFERENCE: Final = "no_difference"
NOT_ENOUGH: Final = "not_enough"


def judge(
    ballots: Sequence[Ballot],
    titles: Mapping[str, str],
    *,
    planned: int | None = None,
    wanted: int | Mapping[str, int] = 1,
    closed_unseen: bool = False,
    opened_early: int | None = None,
    left_out: int = 0,
    styles: Mapping[tuple[str, str], Style] | None = None,
    margin: float = 0.0,
) -> JudgedJson:
    """The verdict on the votes of a test.

    `titles` names the contestants by id; the first is the one the others are measured against, the last the tuned one
    that raters guess. `planned` and `wanted` are as in `evidence.decide`. `closed_unseen`: no more votes will come, and
    nobody saw the tally before, so the sign test may run now, with fewer than planned. `opened_early`: after how many
    votes the tally was seen before the planned number. `left_out`: prompts that do not count because they trained a
    contestant. `styles`: of the answers, by prompt and contestant. `margin`: in points, for a test of "no worse
    than" on two contestants.

    "better" and "worse" refer to the second contestant against the first. With three or more, "better" means that one
    contestant beats every other, and `winner` says which. Both apply to these raters, unless `general`: then raters and
    prompts at large prefer it too (`evidence.at_large`). Shares are 0 to 1, intervals are [low, high] at 95%.
    """
    votes, names = in_order(ballots), list(titles)
    order = {name: i for i, name in enumerate(names)}
    tables = pairs(titles)
    cast = sum(map(counts, votes))
    last = min(planned, cast) if planned and closed_unseen else planned
    decided = [
        _pair(votes, first, second, titles, planned, last, wanted, len(tables), margin) for first, second in tables
    ]
    overview = _overview(votes, titles, planned, opened_early)
    several = len(names) > 2
    outcome: OutcomeJson = _round_robin(decided, titles) if several else decided[0]
    tested, title = names[-1], titles[names[-1]]
    result: JudgedJson = {
        **overview,
        **outcome,
        "ranking": bradley_terry(votes, titles) if several else [],
        "pairs": decided if several else [],
        "by_topic": _groups(votes, names, lambda ballot: ballot.topic or "no topic"),
        "by_rater": _groups(votes, names, lambda ballot: ballot.rater),
        "by_group": _groups_of_raters(votes, names) if any(ballot.group for ballot in votes) else [],
        "by_criterion": _criteria(votes, names),
        "alpha": agreement(votes, order),
        "between_raters": between_raters(votes, tested, title),
        "position": position_bias(votes),
        "length": length_confound(votes, names[0], tested, titles),
        "style": equal_style(votes, styles or {}, names[0], tested, titles),
        "guesses": guessed_sides(votes, tested, title),
        "notes": [],
    }
    result["notes"] = notes(result, opened_early, left_out, closed_unseen)
    return result


def decided_early(
    ballots: Sequence[Ballot],
    titles: Mapping[str, str],
    *,
    planned: int | None = None,
    wanted: int | Mapping[str, int] = 1,
    margin: float = 0.0,
) -> float | None:
    """The odds of the evidence if it has decided the test: one contestant beats every other. None if it has not."""
    votes, tables = in_order(ballots), pairs(titles)
    beaten: dict[str, list[float]] = defaultdict(list)
    for first, second in tables:
        decision = decide(
            votes, first, second, planned=planned, wanted=wanted, comparisons=len(tables), margin=margin / 100
        )
        if decision.winner and decision.by == "evidence":
            beaten[first if decision.winner == "first" else second].append(max(decision.evidence))
    won = [min(odds) for odds in beaten.values() if len(odds) == len(titles) - 1]
    return math.exp(min(won[0], 700.0)) if won else None


def _overview(
    votes: Sequence[Ballot], titles: Mapping[str, str], planned: int | None, opened_early: int | None
) -> OverviewJson:
    choices = Counter(ballot.choice for ballot in votes if ballot.winner is None)
    wins = Counter(ballot.winner for ballot in votes if ballot.winner is not None)
    cast = sum(map(counts, votes))
    neither = choices["both_good"] + choices["both_bad"]
    identical = len({ballot.prompt for ballot in votes if ballot.automatic})
    share = (neither + choices["tie"]) / cast if cast else None
    people = cast - choices["tie"]
    text = "No vote is a tie" if people else "There are no votes yet"
    if neither:
        text = f"{neither:,} of {counted(people, 'vote')} chose neither ({percent(round(neither / people, 3))}): "
        parts = [(choices["both_good"], "said both are good"), (choices["both_bad"], "said both are bad")]
        text += ", ".join(f"{number:,} {words}" for number, words in parts if number)
    text += "."
    if identical:
        text += f" On {counted(identical, 'prompt')} {_SAME}."
    return {
        "contestants": [{"id": name, "title": title} for name, title in titles.items()],
        "counts": {
            "wins": {name: wins[name] for name in titles},
            "both_good": choices["both_good"],
            "both_bad": choices["both_bad"],
            "tie": choices["tie"],
            "skip": choices["skip"],
        },
        "votes": {
            "cast": cast,
            "planned": planned,
            "decided": wins.total(),
            "prompts": len({ballot.prompt for ballot in votes}),
            "raters": len({ballot.rater for ballot in votes if judged(ballot)}),
            "opened_early": opened_early,
        },
        "ties": {
            "both_good": choices["both_good"],
            "both_bad": choices["both_bad"],
            "identical_prompts": identical,
            "share": share,
            "text": text,
        },
    }


def _pair(
    votes: Sequence[Ballot],
    first: str,
    second: str,
    titles: Mapping[str, str],
    planned: int | None,
    last: int | None,
    wanted: int | Mapping[str, int],
    comparisons: int,
    margin: float,
) -> PairJson:
    """The decision on two contestants from the votes up to number `last`, with the figures of its sentence."""
    decision = decide(votes, first, second, planned=last, wanted=wanted, comparisons=comparisons, margin=margin / 100)
    cast = sum(map(counts, votes))
    mine = [ballot for ballot in votes if {ballot.left, ballot.right} == {first, second}]
    chosen = [ballot for ballot in mine if ballot.winner is not None]
    won, decided = sum(ballot.winner == second for ballot in chosen), len(chosen)
    # Its test is that of a preference, and says nothing of a margin.
    large = None if margin else at_large(votes, first, second, planned=last, comparisons=comparisons)
    met = duels(mine, first, second, wanted)
    wins, split = duel_majorities(met)
    evidence = evidence_as_dict(decision)
    evidence["text"] = evidence_text(evidence, decision)
    fewest = fewest_prompts(comparisons, margin / 100)
    no_worse = bool(margin) and decision.winner == "second"
    result: PairJson = {
        "verdict": NO_WORSE if no_worse else _word(decision, fewest),
        "text": "",
        "winner": None if no_worse else {"first": first, "second": second, None: None}[decision.winner],
        "first": first,
        "second": second,
        "decided_by": decision.by,
        "win_rate": won / decided if decided else None,
        "wins": won,
        "decided": decided,
        "interval": _interval(chosen, second),
        "clustered": decided > len([duel for duel in met if duel.first + duel.second]),
        "raters": _raters(mine),
        # The first to decide counts, and applies to those who had voted by then.
        "raters_then": _raters(mine, votes[decision.crossed_at or 0 :] if decision.by == "evidence" else ()),
        "general": decision.winner is not None and large is not None and large.winner == decision.winner,
        "general_interval": large.interval if large else None,
        "prompts": {
            "wins": wins[1],
            "losses": wins[0],
            "split": split,
            "interval": wilson_interval(wins[1], sum(wins)),
        },
        "p": decision.p,
        "level": plan_level(comparisons),
        "fewest": fewest,
        "reached": decision.reached,
        "margin": margin,
        "more": votes_to_decide(decision, cast, planned) if margin and not decision.winner else None,
        "evidence": evidence,
    }
    alike = sum(ballot.automatic for ballot in votes if counts(ballot))  # no votes, to a reader
    result["text"] = sentence(result, decision, titles, cast - alike, None if alike else planned)
    return result


def _raters(ballots: Sequence[Ballot], after: Sequence[Ballot] = ()) -> int:
    """How many people judged, excluding the ballots of `after`."""
    later = set(map(id, after))
    return len({ballot.rater for ballot in ballots if judged(ballot) and id(ballot) not in later})


def _interval(chosen: Sequence[Ballot], contestant: str) -> list[float] | None:
    """The interval of a contestant's share of the votes that chose a side: these raters, prompts like these."""
    return clustered_share([ballot.winner == contestant for ballot in chosen], [ballot.prompt for ballot in chosen])


def _word(decision: Decision, fewest: int) -> Word:
    if decision.winner:
        return BETTER if decision.winner == "second" else WORSE
    tested = decision.reached and sum(decision.wins) >= fewest and decision.null == 0.5
    return NO_DIFFERENCE if tested else NOT_ENOUGH


def _round_robin(judged: Sequence[PairJson], titles: Mapping[str, str]) -> OutcomeJson:
    """One verdict on all pairs: the contestant that beats every other, else the clear pairs."""
    clear = [(pair, winner) for pair in judged if (winner := pair["winner"])]
    beaten: dict[str, set[str]] = defaultdict(set)
    for pair, winner in clear:
        beaten[winner].add(pair["first"] if winner == pair["second"] else pair["second"])
    best = next((name for name, losers in beaten.items() if len(losers) == len(titles) - 1), None)
    listed = "; ".join(
        f"{titles[winner]} over {listing([titles[loser] for loser in losers])}" for winner, losers in beaten.items()
    )
    together = f"{len(judged)} pairs, tested at a shared level of {percent(LEVEL)}"
    of_best = [pair for pair, winner in clear if winner == best]
    general = bool(best) and all(pair["general"] for pair in of_best)
    speaks = of_best or [pair for pair, _ in clear]
    then, now = (min((pair[key] for pair in speaks), default=0) for key in ("raters_then", "raters"))
    limited = "" if general else whom(then, now)
    verdict: Word
    if best:
        verdict, text = BETTER, f"{titles[best]} is better than every other contestant{limited} ({together})."
        rest = [name for name in beaten if name != best]
        if rest:
            text += " Also clear: " + "; ".join(
                f"{titles[name]} over {listing([titles[loser] for loser in beaten[name]])}" for name in rest
            )
            text += "."
    elif clear:
        verdict, text = NO_DIFFERENCE, f"No contestant beats every other. Clear{limited}: {listed} ({together})."
    elif any(pair["verdict"] == NO_DIFFERENCE for pair in judged):
        verdict, text = NO_DIFFERENCE, f"No difference found between any two contestants ({together})."
    else:
        verdict, text = NOT_ENOUGH, "Not enough votes are in."
    return {
        "verdict": verdict,
        "text": text,
        "winner": best,
        "general": general,
        "raters_then": then,
        "raters": now,
        "win_rate": None,
        "interval": None,
        "p": None,
        "evidence": None,
        "prompts": None,
    }


def _groups(votes: Sequence[Ballot], names: Sequence[str], key: Callable[[Ballot], str]) -> list[GroupJson]:
    """The win rate of the last contestant by topic or rater, against all others, the most votes first.

    p is of the sign test over prompts, adjusted for the number of groups (Holm). Intervals are over prompts.
    """
    tested = names[-1]
    grouped: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in votes:
        if judged(ballot) and tested in (ballot.left, ballot.right):
            grouped[key(ballot)].append(ballot)
    rows: list[GroupJson] = []
    for name, mine in grouped.items():
        chosen = [ballot for ballot in mine if ballot.winner is not None]
        won, decided = sum(ballot.winner == tested for ballot in chosen), len(chosen)
        met = clusters.majorities([b.winner == tested for b in chosen], [b.prompt for b in chosen])
        rows.append(
            {
                "name": name,
                "votes": len(mine),
                "wins": won,
                "losses": decided - won,
                "ties": len(mine) - decided,
                "win_rate": won / decided if decided else None,
                "interval": _interval(chosen, tested),
                "p": sign_test(*met),
            }
        )
    rows.sort(key=lambda row: (-row["votes"], row["name"]))
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_adjusted"] = p
    return rows


def _criteria(votes: Sequence[Ballot], names: Sequence[str]) -> list[GroupJson]:
    """Which contestant is better by each further criterion of the rubric: wins and losses of the last contestant.

    The interval treats raters and prompts as samples: each rater interprets a criterion in their own way.
    """
    tested, ratings = names[-1], defaultdict(list)
    for ballot in votes:
        if judged(ballot) and tested in (ballot.left, ballot.right):
            for criterion, side in ballot.ratings.items():
                ratings[criterion].append((ballot.of(side), ballot.prompt, ballot.rater))
    return [_by_raters(criterion, judgements, tested) for criterion, judgements in ratings.items()]


def _groups_of_raters(votes: Sequence[Ballot], names: Sequence[str]) -> list[GroupJson]:
    """The win rate of the last contestant by group of raters, the most votes first. Like `_criteria`: few raters of a
    kind say little of the others of their kind, however many prompts they see."""
    tested, grouped = names[-1], defaultdict(list)
    for ballot in votes:
        if judged(ballot) and tested in (ballot.left, ballot.right):
            grouped[ballot.group].append((ballot.winner, ballot.prompt, ballot.rater))
    ordered = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [_by_raters(group or "(no group)", judgements, tested) for group, judgements in ordered]
    for row, (_, judgements) in zip(rows, ordered, strict=True):
        if len({rater for _, _, rater in judgements}) == 1:
            row["interval"] = None  # of one rater it would be over prompts alone
    return rows


def _by_raters(name: str, judgements: Sequence[tuple[str | None, str, str]], tested: str) -> GroupJson:
    """The share of (better contestant, prompt, rater) that `tested` won, with raters and prompts as samples."""
    chosen = [(better == tested, prompt, rater) for better, prompt, rater in judgements if better is not None]
    won, prompts, raters = zip(*chosen, strict=True) if chosen else ((), (), ())
    return {
        "name": name,
        "votes": len(judgements),
        "wins": sum(won),
        "losses": len(won) - sum(won),
        "ties": len(judgements) - len(won),
        "win_rate": sum(won) / len(won) if won else None,
        "interval": clustered_share(won, prompts, raters),
    }
