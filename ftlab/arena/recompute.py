"""Recomputes the verdict of a blind test from the files in this folder, with only Python and scipy.

    python recompute.py

votes.csv: the votes in the order in which they were cast; `wanted` is the planned number for the prompt. plan.json:
what was registered when the test opened. verdict.json: what ftlab computed. Exits with 1 if the two differ.
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
from scipy.stats import binomtest

HERE = Path(__file__).parent


def majority(votes: Counter[str], first: str, second: str) -> str | None:
    if votes[first] == votes[second]:
        return None
    return first if votes[first] > votes[second] else second


def judge(
    votes: list[dict[str, str]], first: str, second: str, planned: int | None, pairs: int, rule: dict[str, Any]
) -> dict[str, Any]:
    """The verdict on `second` against `first` by the registered `rule`, with the figures behind it."""
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
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0

    evidence, of_second, over = [], 0, None
    for n, (place, won) in enumerate(completed, start=1):
        of_second += won == second
        ways = gammaln(n + 1) - gammaln(of_second + 1) - gammaln(n - of_second + 1)
        evidence.append(float(n * math.log(2) - ways - math.log1p(n)))
        threshold = pairs / (at_plan_level + early_level if planned is None else early_level)
        if over is None and evidence[-1] >= math.log(threshold) - 1e-9:
            over = place, "better" if 2 * of_second > n else "worse"
    by_plan = ("better" if wins > losses else "worse") if reached and p <= at_plan_level / pairs else None
    if over and (not reached or not by_plan or over[0] <= end):
        verdict = over[1]
    elif by_plan:
        verdict = by_plan
    else:
        fewest = math.ceil(math.log2(2 / (at_plan_level / pairs)))
        verdict = "no_difference" if reached and wins + losses >= fewest else "not_enough"
    return {
        "first": first,
        "second": second,
        "wins": wins,
        "losses": losses,
        "p": p,
        "highest_evidence": math.exp(min(max(evidence, default=0.0), 700.0)),
        "verdict": verdict,
    }


def main() -> int:
    with (HERE / "votes.csv").open(encoding="utf-8", newline="") as file:
        votes = list(csv.DictReader(file))
    known = json.loads((HERE / "verdict.json").read_text(encoding="utf-8"))
    plan = (HERE / "plan.json").read_bytes()
    rule, same = json.loads(plan)["rule"], True
    if known["registered"]:
        kept = hashlib.sha256(plan).hexdigest() == known["registered"]["sha256"]
        print("plan.json:", "as registered" if kept else "NOT as registered")
        same = kept
    for pair in known["pairs"]:
        mine = judge(votes, pair["first"], pair["second"], known["planned"], len(known["pairs"]), rule)
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
