"""Recomputes the verdict of a blind test from the files in this folder, with only Python and scipy.

    python recompute.py

votes.csv: the votes in the order in which they were cast; `wanted` is the planned number for the prompt. plan.json:
what was registered when the test opened. controls.csv: the votes on repeated and attention items, which count only for
the rule on raters. raters.csv, verdict.json: what ftlab computed. Exits with 1 if anything differs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from scipy.special import gammaln
from scipy.stats import beta, binom, binomtest

HERE = Path(__file__).parent


def majority(votes: Counter[str], first: str, second: str) -> str | None:
    if votes[first] == votes[second]:
        return None
    return first if votes[first] > votes[second] else second


def judge(
    votes: list[dict[str, str]], first: str, second: str, planned: int | None, pairs: int, plan: dict[str, Any]
) -> dict[str, Any]:
    """The verdict on `second` against `first` by the registered `plan`, with the figures behind it."""
    rule, margin = plan["rule"], plan["settings"].get("margin", 0.0)
    null = 0.5 - margin / 100
    at_plan_level, early_level = rule["level_planned"], rule["level_early"]
    end, cast = len(votes), 0
    reached = False
    for place, vote in enumerate(votes, start=1):
        cast += vote["choice"] != "skip"
        if cast == planned and not reached:
            end, reached = place, True
    by_prompt: dict[str, Counter[str]] = defaultdict(Counter)
    received: Counter[str] = Counter()
    at_plan: dict[str, Counter[str]] = {}
    completed: list[tuple[int, str]] = []  # (after how many votes, who won), for prompts that chose a side
    for place, vote in enumerate(votes, start=1):
        if {vote["left"], vote["right"]} == {first, second} and vote["choice"] != "skip":
            prompt = vote["prompt"]
            received[prompt] += 1
            if vote["choice"] in ("left", "right"):
                by_prompt[prompt][vote[vote["choice"]]] += 1
            if received[prompt] == int(vote["wanted"]) and (won := majority(by_prompt[prompt], first, second)):
                completed.append((place, won))
        if place == end:
            at_plan = {prompt: counter.copy() for prompt, counter in by_prompt.items()}
    winners = Counter(majority(counter, first, second) for counter in at_plan.values())
    wins, losses = winners[second], winners[first]
    count, good = wins + losses, "no_worse" if margin else "better"
    p = p_worse = float(binomtest(wins, count).pvalue) if count else 1.0
    if margin and count:
        p, p_worse = float(binom.sf(wins - 1, count, null)), float(binom.cdf(wins, count, null))

    evidence, against, of_second, over = [], [], 0, None
    for n, (place, won) in enumerate(completed, start=1):
        of_second += won == second
        lost = n - of_second
        ways = gammaln(n + 1) - gammaln(of_second + 1) - gammaln(lost + 1)
        odds = float(-math.log1p(n) - ways - of_second * math.log(null) - lost * math.log(1 - null))
        above = below = odds
        if margin:  # the mixture holds the win rates on one side of the null only
            above = max(odds + beta.logsf(null, of_second + 1, lost + 1) - math.log(1 - null), -700.0)
            below = max(odds + beta.logcdf(null, of_second + 1, lost + 1) - math.log(null), -700.0)
        evidence.append(above)
        against.append(below)
        threshold = pairs / (at_plan_level + early_level if planned is None else early_level)
        if over is None and max(above, below) >= math.log(threshold) - 1e-9:
            over = place, good if of_second > null * n else "worse"
    if over and over[1] == "worse":
        evidence = against
    by_plan = None
    if reached and min(p, p_worse) <= at_plan_level / pairs:
        by_plan = good if wins > null * count else "worse"
    if over and (not reached or not by_plan or over[0] <= end):
        verdict = over[1]
    elif by_plan:
        verdict = by_plan
    else:
        fewest = math.ceil(math.log2(2 / (at_plan_level / pairs)))
        verdict = "no_difference" if reached and count >= fewest and not margin else "not_enough"
    return {
        "first": first,
        "second": second,
        "wins": wins,
        "losses": losses,
        "p": p,
        "highest_evidence": math.exp(min(max(evidence, default=0.0), 700.0)),
        "verdict": verdict,
    }


def excluded(votes: list[dict[str, str]], controls: list[dict[str, str]], settings: dict[str, Any]) -> set[str]:
    """The raters whom the registered rule excludes."""

    def unit(vote: dict[str, str]) -> tuple[str, ...]:
        return vote["rater"], vote["prompt"], *sorted((vote["left"], vote["right"]))

    def won(vote: dict[str, str]) -> str | None:
        return vote.get(vote["choice"])

    first = {unit(vote): vote for vote in votes}
    times: dict[str, Counter[str]] = defaultdict(Counter)
    for vote in controls:
        mine, before = times[vote["rater"]], first.get(unit(vote))
        if vote["kind"] == "attention" and vote["choice"] not in ("both_bad", "skip"):
            mine["attention"] += 1
            mine["correct"] += won(vote) == vote["correct"]
        if vote["kind"] == "repeat" and before and "skip" not in (vote["choice"], before["choice"]):
            mine["repeated"] += 1
            mine["same"] += won(vote) == won(before)
    attention, consistency = (settings.get(f"min_{name}", 0.0) for name in ("attention", "consistency"))
    return {
        rater
        for rater, mine in times.items()
        if (mine["attention"] and mine["correct"] < attention * mine["attention"])
        or (mine["repeated"] >= 3 and mine["same"] < consistency * mine["repeated"])
    }


def without(votes: list[dict[str, str]], out: set[str]) -> tuple[list[dict[str, str]], int]:
    """The other raters' votes, with fewer wanted on a prompt, and how many votes are gone."""
    gone = Counter(vote["prompt"] for vote in votes if vote["rater"] in out and vote["choice"] != "skip")
    kept = [
        {**vote, "wanted": str(int(vote["wanted"]) - gone[vote["prompt"]])}
        for vote in votes
        if vote["rater"] not in out
    ]
    return kept, gone.total()


def read(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    votes = read("votes.csv")
    known = json.loads((HERE / "verdict.json").read_text(encoding="utf-8"))
    plan = (HERE / "plan.json").read_bytes()
    same, registered = True, json.loads(plan)
    if known["registered"]:
        kept = hashlib.sha256(plan).hexdigest() == known["registered"]["sha256"]
        print("plan.json:", "as registered" if kept else "NOT as registered")
        same = kept
    out = excluded(votes, read("controls.csv"), registered["settings"])
    if out or known["excluded"]:
        agrees = out == set(known["excluded"]) == {row["rater"] for row in read("raters.csv") if row["excluded"] == "1"}
        same = same and agrees
        print(f"Excluded raters: {', '.join(sorted(out)) or 'none'}. {'As' if agrees else 'NOT as'} ftlab says.")
    planned = known["planned"]
    if out and known["everyone"]:
        of_all = judge(votes, "A", "B", planned, 1, registered)["verdict"]
        agrees = of_all == known["everyone"]["verdict"]
        same = same and agrees
        print(f"With all raters: {of_all}. {'As' if agrees else 'NOT as'} ftlab says.")
    votes, gone = without(votes, out)
    planned = planned if planned is None else max(1, planned - gone)
    for pair in known["pairs"]:
        mine = judge(votes, pair["first"], pair["second"], planned, len(known["pairs"]), registered)
        agrees = all(
            math.isclose(pair[name], value, rel_tol=1e-6) if isinstance(value, float) else pair[name] == value
            for name, value in mine.items()
        )
        same = same and agrees
        print(
            f"{mine['second']} against {mine['first']}: {mine['verdict']}; {mine['wins']} of "
            f"{mine['wins'] + mine['losses']} prompts, p = {mine['p']:.4g}, highest evidence "
            f"{mine['highest_evidence']:.4g}. {'As ftlab says.' if agrees else f'ftlab says {pair}.'}"
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
