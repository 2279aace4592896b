"""The verdict of a blind test: one dict that holds all figures, and the sentences that go with them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.arena.ballots import Ballot, counts, duels, in_order, judged
from ftlab.arena.checks import agreement, between_raters, guessed_sides, length_confound, position_bias
from ftlab.arena.evidence import (
    Decision,
    at_large,
    decide,
    evidence_as_dict,
    fewest_prompts,
    majorities,
    plan_level,
    sign_test,
)
from ftlab.arena.ranking import bradley_terry, pairs
from ftlab.arena.sentences import evidence_text, listing, notes, sentence, whom
from ftlab.evaluation import clusters
from ftlab.evaluation.clusters import clustered_share
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import LEVEL, holm, wilson_interval

BETTER, WORSE, NO_DIFFERENCE, NOT_ENOUGH = "better", "worse", "no_difference", "not_enough"
CHOICES = ("both_good", "both_bad", "tie", "skip")


def judge(
    ballots: Sequence[Ballot],
    titles: Mapping[str, str],
    *,
    planned: int | None = None,
    wanted: int | Mapping[str, int] = 1,
    closed_unseen: bool = False,
    opened_early: int | None = None,
    left_out: int = 0,
) -> dict[str, Any]:
    """The verdict on the votes of a test.

    `titles` names the contestants by id; the first is the one the others are measured against, the last the tuned one
    that raters guess. `planned` and `wanted` as `evidence.decide` takes them. `closed_unseen`: no more votes will come,
    and nobody saw the tally before, so that the sign test may look now, at fewer than planned. `opened_early`: after
    how many votes the tally was seen before the planned number. `left_out`: prompts that do not count because they
    trained a contestant.

    "better" and "worse" speak of the second contestant against the first. With three or more, "better" means that one
    contestant beats every other, and `winner` says which. Both speak of these raters, unless `general`: then raters and
    prompts at large prefer it too (`evidence.at_large`). A share is of 0 to 1, an interval [low, high] of 95%.
    """
    votes, names = in_order(ballots), list(titles)
    order = {name: i for i, name in enumerate(names)}
    tables = pairs(titles)
    cast = sum(map(counts, votes))
    last = min(planned, cast) if planned and closed_unseen else planned
    decided = [_pair(votes, one, other, titles, planned, last, wanted, len(tables)) for one, other in tables]
    found = _overview(votes, titles, planned, opened_early)
    if len(names) == 2:
        found |= decided[0]
    else:
        found |= _round_robin(decided, titles, found["votes"])
    found["ranking"] = bradley_terry(votes, titles) if len(names) > 2 else []
    found["pairs"] = decided if len(names) > 2 else []
    found["by_topic"] = _groups(votes, names, lambda ballot: ballot.topic or "no topic")
    found["by_rater"] = _groups(votes, names, lambda ballot: ballot.rater)
    found["by_criterion"] = _criteria(votes, names)
    found["alpha"] = agreement(votes, order)
    found["between_raters"] = between_raters(votes, names[-1], titles[names[-1]])
    found["position"] = position_bias(votes)
    found["length"] = length_confound(votes, names[0], names[-1], titles)
    found["guesses"] = guessed_sides(votes, names[-1], titles[names[-1]])
    found["notes"] = notes(found, opened_early, left_out, closed_unseen)
    return found


def decided_early(
    ballots: Sequence[Ballot],
    titles: Mapping[str, str],
    *,
    planned: int | None = None,
    wanted: int | Mapping[str, int] = 1,
) -> float | None:
    """The odds of the evidence when it has decided the test: one contestant beats every other; None when it has not."""
    votes, tables = in_order(ballots), pairs(titles)
    beaten: dict[str, list[float]] = defaultdict(list)
    for first, second in tables:
        decision = decide(votes, first, second, planned=planned, wanted=wanted, comparisons=len(tables))
        if decision.winner and decision.by == "evidence":
            beaten[first if decision.winner == "first" else second].append(max(decision.evidence))
    won = [min(odds) for odds in beaten.values() if len(odds) == len(titles) - 1]
    return math.exp(min(won[0], 700.0)) if won else None


def _overview(
    votes: Sequence[Ballot], titles: Mapping[str, str], planned: int | None, opened_early: int | None
) -> dict[str, Any]:
    choices = Counter(ballot.choice for ballot in votes if ballot.winner is None)
    wins = Counter(ballot.winner for ballot in votes if ballot.winner is not None)
    cast = sum(map(counts, votes))
    undecided = choices["both_good"] + choices["both_bad"] + choices["tie"]
    identical = len({ballot.prompt for ballot in votes if ballot.automatic})
    share = undecided / cast if cast else None
    said = "No vote is a tie" if cast else "There are no votes yet"
    if share:
        said = f"{undecided:,} of {cast:,} votes chose neither ({percent(round(share, 3))})"
    parts = [(choices["both_good"], "said both are good"), (choices["both_bad"], "said both are bad")]
    parts += [(choices["tie"], "are ties by identical answers, about which nobody was asked")]
    if share:
        said += ": " + ", ".join(f"{number:,} {words}" for number, words in parts if number)
    said += "."
    return {
        "contestants": [{"id": name, "title": title} for name, title in titles.items()],
        "counts": {"wins": {name: wins[name] for name in titles}, **{choice: choices[choice] for choice in CHOICES}},
        "votes": {
            "cast": cast,
            "planned": planned,
            "decided": wins.total(),
            "prompts": len({ballot.prompt for ballot in votes}),
            "raters": len({ballot.rater for ballot in votes if judged(ballot)}),
            "opened_early": opened_early,
        },
        "ties": {"both_good": choices["both_good"], "both_bad": choices["both_bad"], "identical_prompts": identical}
        | {"share": share, "text": said},
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
) -> dict[str, Any]:
    """The decision on two contestants by the votes up to number `last`, with the figures of its sentence."""
    decision = decide(votes, first, second, planned=last, wanted=wanted, comparisons=comparisons)
    mine = [ballot for ballot in votes if {ballot.left, ballot.right} == {first, second}]
    chosen = [ballot for ballot in mine if ballot.winner is not None]
    won, decided = sum(ballot.winner == second for ballot in chosen), len(chosen)
    large = at_large(votes, first, second, planned=last, comparisons=comparisons)
    met = duels(mine, first, second, wanted)
    wins, split = majorities(met)
    result: dict[str, Any] = {
        "first": first,
        "second": second,
        "decided_by": decision.by,
        "win_rate": won / decided if decided else None,
        "wins": won,
        "decided": decided,
        "interval": _interval(chosen, second),
        "clustered": decided > len([duel for duel in met if duel.first + duel.second]),
        "raters": _raters(mine),
        # What came first has decided, and speaks of those who had voted by then.
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
        "fewest": fewest_prompts(comparisons),
        "reached": decision.reached,
        "evidence": evidence_as_dict(decision),
    }
    result["evidence"]["text"] = evidence_text(result, decision)
    given = sum(map(counts, votes))
    result["verdict"] = _word(decision, result["fewest"])
    result["winner"] = {"first": first, "second": second, None: None}[decision.winner]
    result["text"] = sentence(result, decision, titles, given, planned)
    return result


def _raters(ballots: Sequence[Ballot], after: Sequence[Ballot] = ()) -> int:
    """How many people judged, without the ballots of `after`."""
    later = set(map(id, after))
    return len({ballot.rater for ballot in ballots if judged(ballot) and id(ballot) not in later})


def _interval(chosen: Sequence[Ballot], contestant: str) -> list[float] | None:
    """The interval of the share that a contestant won of votes that chose a side: these raters, prompts like these."""
    return clustered_share([ballot.winner == contestant for ballot in chosen], [ballot.prompt for ballot in chosen])


def _word(decision: Decision, fewest: int) -> str:
    if decision.winner:
        return BETTER if decision.winner == "second" else WORSE
    return NO_DIFFERENCE if decision.reached and sum(decision.wins) >= fewest else NOT_ENOUGH


def _round_robin(
    judged: Sequence[dict[str, Any]], titles: Mapping[str, str], votes: Mapping[str, Any]
) -> dict[str, Any]:
    """One verdict on all pairs: who beats every other, else what is clear."""
    clear = [one for one in judged if one["winner"]]
    beaten: dict[str, set[str]] = defaultdict(set)
    for one in clear:
        loser = one["first"] if one["winner"] == one["second"] else one["second"]
        beaten[one["winner"]].add(loser)
    best = next((name for name, losers in beaten.items() if len(losers) == len(titles) - 1), None)
    listed = "; ".join(
        f"{titles[winner]} over {listing([titles[one] for one in losers])}" for winner, losers in beaten.items()
    )
    together = f"each of {len(judged)} pairs tested at {percent(LEVEL)} shared between them"
    of_best = [one for one in clear if one["winner"] == best]
    general = bool(best) and all(one["general"] for one in of_best)
    then, now = (min((one[key] for one in of_best or clear), default=0) for key in ("raters_then", "raters"))
    limited = "" if general else whom(then, now)
    if best:
        verdict, text = BETTER, f"{titles[best]} is better than every other contestant{limited} ({together})."
        rest = [name for name in beaten if name != best]
        if rest:
            text += " Also clear: " + "; ".join(
                f"{titles[name]} over {listing([titles[one] for one in beaten[name]])}" for name in rest
            )
            text += "."
    elif clear:
        verdict, text = NO_DIFFERENCE, f"No contestant beats every other. Clear{limited} is: {listed} ({together})."
    elif any(one["verdict"] == NO_DIFFERENCE for one in judged):
        verdict, text = NO_DIFFERENCE, f"No difference found between any two contestants ({together})."
    else:
        of = f" of {votes['planned']:,} planned" if votes["planned"] else ""
        verdict, text = NOT_ENOUGH, f"Not enough votes: {votes['cast']:,}{of} are in."
    none = dict.fromkeys(("win_rate", "interval", "p", "evidence", "prompts"))
    told = {"winner": best, "general": general, "raters_then": then, "raters": now}
    return {"verdict": verdict, "text": text, **told, **none}


def _groups(votes: Sequence[Ballot], names: Sequence[str], key: Callable[[Ballot], str]) -> list[dict[str, Any]]:
    """The win rate of the last contestant by topic or rater, against all others, the most votes first.

    p is of the sign test over prompts, adjusted for the number of groups (Holm). Intervals are over prompts.
    """
    tested = names[-1]
    grouped: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in votes:
        if judged(ballot) and tested in (ballot.left, ballot.right):
            grouped[key(ballot)].append(ballot)
    rows = []
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


def _criteria(votes: Sequence[Ballot], names: Sequence[str]) -> list[dict[str, Any]]:
    """Who was found better by each further criterion of the rubric: wins and losses of the last contestant.

    The interval takes raters and prompts as samples: each rater reads a criterion in their own way.
    """
    tested, ratings = names[-1], defaultdict(list)
    for ballot in votes:
        if judged(ballot) and tested in (ballot.left, ballot.right):
            for criterion, side in ballot.ratings.items():
                ratings[criterion].append((ballot.of(side), ballot.prompt, ballot.rater))
    rows = []
    for criterion, given in ratings.items():
        chosen = [(better == tested, prompt, rater) for better, prompt, rater in given if better is not None]
        won, prompts, raters = zip(*chosen, strict=True) if chosen else ((), (), ())
        rows.append(
            {
                "name": criterion,
                "wins": sum(won),
                "losses": len(won) - sum(won),
                "ties": len(given) - len(won),
                "win_rate": sum(won) / len(won) if won else None,
                "interval": clustered_share(won, prompts, raters),
            }
        )
    return rows
