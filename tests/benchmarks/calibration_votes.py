"""How often what is said of blind votes is wrong, and how often it finds what is there.

    python -m tests.benchmarks.calibration_votes --tests 400

Raters of known taste vote. "Before" is what was said until intervals and tests knew which votes belong together: votes
one by one, and no difference made between these raters and raters in general. A false alarm of a verdict without "for
these raters" is one where raters on the whole have no preference; of one with it, where these raters have none.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ftlab.arena.ballots import Ballot
from ftlab.arena.controls import quality
from ftlab.arena.evidence import agreement, at_large, decide, length_confound
from ftlab.arena.handing_out import Unit, choose, still_open
from ftlab.arena.power import Chances, power
from ftlab.evaluation.clusters import clustered_share
from ftlab.evaluation.significance import LEVEL, wilson_interval
from tests.votes_simulated import TITLES, Population, error_rates, simulate, simulate_with_careless, worse_by

Row = dict[str, Any]
COLUMNS = ("verdict", "design", "false alarms", "before", "power", "coverage", "coverage before")
ORDER = {"first": 0, "second": 1}
# Raters x prompts, and the spread of their tastes in log-odds; negative: each leans one way or the other, by as much.
TASTES = [(1, 40, 0.0), (3, 60, 0.0), (3, 60, 0.5), (3, 60, 1.0), (3, 60, -1.0), (5, 40, 1.0), (6, 30, -1.0)]
TASTES += [(7, 30, -2.0), (8, 25, 0.7), (10, 60, 1.0)]

# Points, raters, prompts, the share of ties and how alike raters are.
MARGINS = [(5, 1, 200, 0.0, 0.0), (5, 3, 200, 0.2, 0.2), (10, 1, 40, 0.2, 0.0), (10, 2, 150, 0.2, 0.3)]
MARGINS += [(15, 3, 60, 0.2, 0.2), (20, 1, 40, 0.0, 0.0)]

PLANS = [(Chances(0.7, 0.2), 50), (Chances(0.72, 0.2, 3), 40), (Chances(0.795, 0.2, contestants=3), 40)]
PLANS += [(Chances(0.655, 0.2, contestants=3), 40), (Chances(0.75, 0.2, contestants=4), 60)]


def table(tests: int = 400) -> str:
    """What `measured` gives, in Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for row in measured(tests):
        known = [row[name] for name in COLUMNS]
        lines.append(tuple(one if isinstance(one, str) else "" if one is None else f"{one:.1%}" for one in known))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured(tests: int = 400, seed: int = 0) -> list[Row]:
    """One row for each verdict and design, with the keys COLUMNS; shares of 0 to 1, None where it has no meaning."""
    rows = [*_verdicts(tests, seed), *_margins(tests, seed), *_excluded(tests, seed), *_uneven(tests, seed)]
    rows += [*_intervals(tests, seed), *_checks(tests, seed)]
    return [*rows, *_promises(tests, seed), *_sides(seed)]


def _row(verdict: str, design: str, **cells: float | None) -> Row:
    return (
        dict.fromkeys(COLUMNS)
        | {"verdict": verdict, "design": design}
        | {k.replace("_", " "): v for k, v in cells.items()}
    )


def _design(raters: int, prompts: int, taste: float) -> str:
    spread = "one taste" if not taste else f"taste {taste:g}" if taste > 0 else f"two camps {-taste:g}"
    return f"{raters} x {prompts}, {spread}"


def _verdicts(tests: int, seed: int) -> list[Row]:
    rows = []
    for raters, prompts, taste in TASTES:
        at = Population(0.5, prompts, raters, agreement=0.2 if raters > 1 else 0.0, taste=taste)
        none = error_rates(at, tests, planned=raters * prompts, seed=seed)
        some = error_rates(replace(at, rate=0.7), tests, planned=raters * prompts, seed=seed)
        wrong, general = none["better"] + none["worse"], none["general_better"] + none["general_worse"]
        design = _design(raters, prompts, taste)
        rows.append(_row("better or worse", design, false_alarms=general, before=wrong, power=some["general_better"]))
        if not taste:
            rows.append(_row("... for these raters", design, false_alarms=wrong, before=wrong, power=some["better"]))
    return rows


def _margins(tests: int, seed: int) -> list[Row]:
    """A contestant that is worse by exactly the margin: "no worse" is a false alarm. Power: raters prefer neither."""
    rows = []
    for points, raters, prompts, ties, alike in MARGINS:
        at = worse_by(points / 100, Population(0.5, prompts, raters, ties, alike))
        shape: dict[str, Any] = {"seed": seed, "margin": points / 100}
        for planned, words in ((raters * prompts, ""), (None, ", evidence alone")):
            wrong = error_rates(at, tests, planned=planned, **shape)
            equal = error_rates(replace(at, rate=0.5), tests, planned=planned, **shape)
            design = f"{points} points, {raters} x {prompts}, ties {ties:.0%}{words}"
            rows.append(_row("no worse", design, false_alarms=wrong["better"], power=equal["better"]))
            rows.append(_row("worse by more", design, false_alarms=wrong["worse"]))
    return rows


def _excluded(tests: int, seed: int) -> list[Row]:
    """Verdicts after the rule on raters excluded some; "before": without the rule."""
    rows = []
    for raters, careless, prompts, margin in ((3, 1, 60, 0.0), (4, 2, 40, 0.0), (3, 1, 80, 0.15)):
        at, said = Population(0.5, prompts, raters, 0.1, 0.3), Counter()
        null = worse_by(margin, at) if margin else at
        for rate, true in ((null.rate, "null"), (0.5 if margin else 0.7, "power")):
            rng = random.Random(f"{seed} {raters} {prompts} {true}")
            for _ in range(tests):
                votes, items, right = simulate_with_careless(replace(at, rate=rate), careless, rng)
                out = {
                    row["rater"]
                    for row in quality(votes, items, right, min_attention=0.75, min_consistency=0.4)
                    if row["excluded"]
                }
                kept = [vote for vote in votes if vote.rater not in out]
                for name, some, each in (("kept", kept, raters - len(out)), ("all", votes, raters)):
                    decision = decide(some, *TITLES, planned=len(some), wanted=each, margin=margin)
                    said[true, name] += decision.winner == "second" or (not margin and decision.winner is not None)
                said[true, "out"] += len(out)
        design = f"{raters} x {prompts}, {careless} careless"
        rows.append(
            _row(
                f"no worse by {100 * margin:.0f}, raters excluded" if margin else "better or worse, raters excluded",
                f"{design}; {said['null', 'out'] / tests:.1f} excluded",
                false_alarms=said["null", "kept"] / tests,
                power=said["power", "kept"] / tests,
            )
        )
        rows.append(
            _row(
                "... with all raters",
                design,
                false_alarms=said["null", "all"] / tests,
                power=said["power", "all"] / tests,
            )
        )
    return rows


def _uneven(tests: int, seed: int) -> list[Row]:
    """Ten raters by an open link, each prompt seen by one, and one rater gave half of the votes."""
    rng, wrong, general = random.Random(seed), 0, 0
    for _ in range(tests):
        leans = [rng.gauss(0, 1.0) for _ in range(10)]
        votes = []
        for n in range(120):
            rater = 0 if n % 2 else rng.randrange(1, 10)
            left = n // 2 % 2
            second = rng.random() < 1 / (1 + np.exp(-leans[rater]))
            sides = ("first", "second") if left else ("second", "first")
            choice = "left" if (sides[0] == "second") == second else "right"
            votes.append(Ballot(str(n), str(rater), *sides, choice, float(n), n))
        decision = decide(votes, *TITLES, planned=120)
        large = at_large(votes, *TITLES, planned=120)
        wrong += decision.winner is not None
        general += decision.winner is not None and large is not None and large.winner == decision.winner
    rates = {"false_alarms": general / tests, "before": wrong / tests}
    return [_row("better or worse", "10 x 120, one vote a prompt, half by one rater, taste 1", **rates)]


def _intervals(tests: int, seed: int) -> list[Row]:
    rng, rows = np.random.default_rng(seed), []
    for raters, prompts, spread in ((1, 10, 1.5), (3, 8, 1.5), (3, 20, 1.5), (5, 12, 50.0)):
        held = _coverage(rng, tests, (raters, prompts, 0.0, spread), both=False)
        rows.append(_row("win rate by topic", f"{raters} x {prompts}, prompts differ by {spread:g}", **held))
    for raters, prompts, taste in ((2, 30, 0.7), (3, 20, 0.7), (3, 60, 1.0), (5, 40, 0.7), (5, 40, -1.0), (8, 25, 1.0)):
        held = _coverage(rng, tests, (raters, prompts, taste, 1.0), both=True)
        rows.append(_row("win rate by criterion", _design(raters, prompts, taste), **held))
    return rows


def _votes(rng: np.random.Generator, raters: int, prompts: int, taste: float, spread: float) -> np.ndarray:
    """Who won, shape (raters, prompts), where half of all votes win."""
    leans = rng.standard_normal((raters, 1)) if taste >= 0 else rng.choice([-1.0, 1.0], (raters, 1))
    odds = abs(taste) * leans + spread * rng.standard_normal(prompts)
    return rng.random((raters, prompts)) < 1 / (1 + np.exp(-odds))


def _coverage(
    rng: np.random.Generator, tests: int, design: tuple[int, int, float, float], *, both: bool
) -> dict[str, float]:
    now = before = 0
    raters, prompts, *_ = design
    for _ in range(tests):
        won = _votes(rng, *design)
        keys = np.tile(np.arange(prompts), raters).tolist(), np.repeat(np.arange(raters), prompts).tolist()
        low, high = clustered_share(won.ravel().tolist(), *keys[: 1 + both]) or (0.0, 1.0)
        now += low <= 0.5 <= high
        low, high = wilson_interval(int(won.sum()), won.size) or (0.0, 1.0)
        before += low <= 0.5 <= high
    return {"coverage": now / tests, "coverage_before": before / tests}


def _checks(tests: int, seed: int) -> list[Row]:
    return [_length(tests, seed), *_agreements(min(tests, 200), seed)]


def _length(tests: int, seed: int) -> Row:
    """Five raters who are alike vote on 30 prompts; the length has nothing to do with it, or decides half the time."""
    rng, found = random.Random(seed), Counter()
    for effect in (0.0, 0.5):
        for _ in range(tests):
            votes = simulate(Population(0.5, 30, 5, agreement=0.5), rng)
            longer = {ballot.prompt: rng.choice(list(TITLES)) for ballot in votes}
            follows = {prompt: rng.random() < effect for prompt in longer}
            sized = []
            for ballot in votes:
                left = longer[ballot.prompt] == ballot.left
                choice = ("left" if left else "right") if follows[ballot.prompt] else ballot.choice
                sized.append(
                    replace(ballot, choice=choice, left_length=2 if left else 1, right_length=1 if left else 2)
                )
            checked = length_confound(sized, *TITLES, TITLES)
            found[effect, "now"] += checked["p"] < LEVEL
            found[effect, "before"] += binomtest(checked["longer_won"], checked["votes"]).pvalue < LEVEL
    share = {key: number / tests for key, number in found.items()}
    cells = {"false_alarms": share.get((0.0, "now"), 0.0), "before": share.get((0.0, "before"), 0.0)}
    return _row("length decides", "5 x 30, raters alike", **cells, power=share.get((0.5, "now"), 0.0))


def _agreements(tests: int, seed: int) -> list[Row]:
    rows = []
    for prompts in (6, 12, 40):
        said = {}
        for name, opposite in (("none", 0.5), ("against", 0.9)):
            rng, words = random.Random(seed), Counter()
            for _ in range(tests):
                votes = []
                for n in range(prompts):
                    first = rng.choice(("left", "right"))
                    other = {"left": "right", "right": "left"}[first] if rng.random() < opposite else first
                    votes += [Ballot(str(n), rater, "first", "second", choice, float(n))
                              for rater, choice in (("Ann", first), ("Ben", other))]  # fmt: skip
                told = agreement(votes, ORDER)
                words["says"] += told["p"] is not None and told["p"] < LEVEL
                words["against"] += told["p"] is not None and told["p"] < LEVEL and told["value"] < 0
            said[name] = words
        cells = {"false_alarms": said["none"]["says"] / tests, "power": said["against"]["against"] / tests}
        rows.append(_row("raters agree, or disagree", f"2 x {prompts}; power: 9 of 10 opposite", **cells))
    return rows


def _promises(tests: int, seed: int) -> list[Row]:
    """Power as promised ("before": by the text that did not know of pairs) and as found by `decide`."""
    rows = []
    for chances, prompts in PLANS:
        rng, found, each = random.Random(f"{seed} {chances}"), 0, chances.votes_per_prompt
        alike = chances.agreement if each > 1 else 0.0
        for _ in range(tests):
            votes = simulate(Population(chances.rate, prompts, each, chances.ties, alike), rng)
            decision = decide(votes, *TITLES, planned=len(votes), wanted=each, comparisons=chances.pairs)
            found += decision.winner == "second"
        # The text of the command line divided no votes by pairs, nor the level.
        old = power(prompts * chances.pairs, replace(chances, contestants=2))
        design = f"{chances.contestants} contestants, {prompts} prompts, {each} a prompt, {chances.rate:.1%}: promised "
        rows.append(_row("power", f"{design}{power(prompts, chances):.0%}", before=old, power=found / tests))
    return rows


def _sides(seed: int) -> list[Row]:
    """How often the side is foretold: by the source and public numbers, and by who knows all earlier sides."""
    prompts, hits, count = 40, Counter(), 0
    units = [Unit(str(n), (0, 1)) for n in range(prompts)]
    wanted = {unit.prompt_id: 1 for unit in units}
    for test in range(40):
        own: list[tuple[Unit, bool]] = []
        for _ in range(prompts):
            among = still_open(units, wanted, {}, {unit for unit, _ in own})
            shown, foretold = (choose(units, among, {}, own, key, 1) for key in (f"secret {seed} {test}", 0))
            assert shown is not None and foretold is not None
            lean = sum(-1 if swapped else 1 for _, swapped in own)
            hits["public"] += shown[1] == foretold[1]
            hits["earlier"] += 0.5 if not lean else shown[1] == (lean > 0)
            own.append(shown)
            count += 1
    names = {"public": "side foretold by public numbers", "earlier": "side foretold by all earlier sides"}
    before = {"public": 1.0, "earlier": 0.573}  # as measured with the bound of three
    return [
        _row(name, f"1 x {prompts}, 40 tests; chance 50%", false_alarms=hits[key] / count, before=before[key])
        for key, name in names.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=400)
    print(table(parser.parse_args().tests))


if __name__ == "__main__":
    main()
