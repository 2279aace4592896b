"""Sides are balanced within a rater and mirrored between raters; every prompt gets the votes that were asked for."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict

import pytest

from ftlab.arena.assignment import Shown, Unit, choose, still_open, wanted_votes

Handed = dict[int, list[tuple[Unit, bool]]]


def play(prompts: int, contestants: int, raters: int, votes_per_prompt: int, overlap: float, seed: int) -> Handed:
    """What each of `raters` is handed when they come in any order until nothing is left."""
    prompt_ids = [f"prompt {n}" for n in range(prompts)]
    units = [Unit(one, pair) for one in prompt_ids for pair in itertools.combinations(range(contestants), 2)]
    wanted = wanted_votes(prompt_ids, votes_per_prompt, overlap, seed)
    shown: dict[Unit, Shown] = {}
    handed: Handed = {rater: [] for rater in range(1, raters + 1)}
    coming, here = random.Random(seed), list(handed)
    while here:
        rater = coming.choice(here)
        among = still_open(units, wanted, shown, {unit for unit, _ in handed[rater]})
        chosen = choose(units, among, shown, handed[rater], seed, rater)
        if chosen is None:
            here.remove(rater)
            continue
        unit, swapped = chosen
        before = shown.get(unit, Shown())
        shown[unit] = Shown(before.times + 1, before.swapped + swapped)
        handed[rater].append(chosen)
    return handed


@pytest.mark.parametrize("contestants", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_sides_are_balanced_within_a_rater_and_mirrored_between_raters(contestants: int, seed: int) -> None:
    handed = play(prompts=30, contestants=contestants, raters=4, votes_per_prompt=4, overlap=1.0, seed=seed)
    by_unit = defaultdict(list)
    for trials in handed.values():
        assert len(trials) == 30 * contestants * (contestants - 1) // 2
        for end in range(1, len(trials) + 1):  # at any time, not only in the end
            lean: Counter[int] = Counter()
            for unit, swapped in trials[:end]:
                lean[unit.pair[swapped]] += 1
                lean[unit.pair[not swapped]] -= 1
            assert max(map(abs, lean.values())) <= 2 * contestants
        for unit, swapped in trials:
            by_unit[unit].append(swapped)
    assert all(sum(sides) == 2 for sides in by_unit.values())


def test_a_rater_cannot_foresee_the_side() -> None:
    """Bound to be balanced, sides change a little more often than not; whoever bets on it must not win much."""
    handed = play(prompts=200, contestants=2, raters=5, votes_per_prompt=2, overlap=1.0, seed=1)
    flips = [one[1] != two[1] for trials in handed.values() for one, two in itertools.pairwise(trials)]
    assert 0.4 < sum(flips) / len(flips) < 0.65


@pytest.mark.parametrize(("raters", "votes_per_prompt", "overlap"), [(3, 2, 1.0), (5, 3, 0.2), (1, 1, 1.0)])
def test_every_prompt_gets_the_votes_that_were_asked_for(raters: int, votes_per_prompt: int, overlap: float) -> None:
    handed = play(prompts=40, contestants=2, raters=raters, votes_per_prompt=votes_per_prompt, overlap=overlap, seed=3)
    seen = Counter(unit.prompt_id for trials in handed.values() for unit, _ in trials)
    shared = round(40 * overlap)
    assert Counter(seen.values()) == Counter([votes_per_prompt] * shared + [1] * (40 - shared))
    assert all(len({unit for unit, _ in trials}) == len(trials) for trials in handed.values())


def test_raters_meet_the_prompts_in_orders_of_their_own() -> None:
    handed = play(prompts=30, contestants=2, raters=2, votes_per_prompt=2, overlap=1.0, seed=0)
    first, second = ([unit for unit, _ in handed[rater]] for rater in (1, 2))
    assert first != second and set(first) == set(second)
