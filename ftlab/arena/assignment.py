"""Which two answers a rater sees next, and which of them stands left. Pure functions of what was handed out so far.

Within a rater the sides are balanced: a contestant has stood left six times more often than right, or less often,
at most (a little more where three or more contestants meet). Between raters they are mirrored: who comes second to a
prompt sees it the other way round. Between these bounds a coin decides, as whoever could foresee the side would no
longer be blind. Coins and orders are drawn from the secret of the test: all else that decides is public.

The bound tells something to whoever knows all earlier sides: the best guess from them is right in 52% of 40 trials, in
54% of 200 (with a bound of three in 57%).
"""

from __future__ import annotations

import hmac
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

LEAN = 6
ENDING = 20

# What the draws of a test come from: its secret. A number is the public seed of a test that was made before there were
# secrets, or of a simulation.
Key = str | int


class Unit(NamedTuple):
    """What is voted on: a prompt, and the positions of the two contestants, the lower first."""

    prompt_id: str
    pair: tuple[int, int]


class Shown(NamedTuple):
    """How often a unit was handed out, and how often with the contestant of the lower position on the right."""

    times: int = 0
    swapped: int = 0


def draw(key: Key, what: str) -> random.Random:
    """The random numbers of a test for one purpose, such as "overlap". Each is seeded by an HMAC of the secret, so that
    what is seen of one tells nothing of another."""
    if isinstance(key, str):
        return random.Random(hmac.digest(key.encode(), what.encode(), "sha256"))
    return random.Random(f"{key} {what}")


def wanted_votes(prompt_ids: Sequence[str], votes_per_prompt: int, overlap: float, key: Key) -> dict[str, int]:
    """How many raters see each prompt: `votes_per_prompt` for the share `overlap`, one for the others."""
    shared = set(draw(key, "overlap").sample(list(prompt_ids), round(len(prompt_ids) * overlap)))
    return {prompt_id: votes_per_prompt if prompt_id in shared else 1 for prompt_id in prompt_ids}


def still_open(
    units: Sequence[Unit], wanted: Mapping[str, int], shown: Mapping[Unit, Shown], seen: Collection[Unit]
) -> list[Unit]:
    """What a rater who has `seen` some may still be handed."""
    return [unit for unit in units if unit not in seen and shown.get(unit, Shown()).times < wanted[unit.prompt_id]]


def choose(
    units: Sequence[Unit],
    among: Collection[Unit],
    shown: Mapping[Unit, Shown],
    own: Sequence[tuple[Unit, bool]],
    key: Key,
    rater: int,
) -> tuple[Unit, bool] | None:
    """The next of `among` for the rater with this number, and whether it is swapped; None when there is nothing.

    `units` are all of the test, in a fixed order; `own` is what the rater was asked so far. Each rater goes through the
    prompts in an order of their own; prompts that were shown to fewer pairs of raters come first.
    """
    if not among:
        return None
    order = list(range(len(units)))
    draw(key, f"{rater}").shuffle(order)
    rank = {units[position]: place for place, position in enumerate(order)}
    coin = draw(key, f"{rater} {len(own)}").random() < 0.5
    lean: Counter[int] = Counter()
    for unit, swapped in own:
        _tip(lean, unit, swapped)
    # Near the end: where the lean ends when all that can only be shown one way round has been shown. Earlier, others
    # may take that, and whoever steers all the time towards it lets the sides take turns.
    bound = lean.copy()
    for unit in among if len(among) <= ENDING else ():
        sides = _sides(shown.get(unit, Shown()))
        if len(sides) == 1:
            _tip(bound, unit, sides[0])

    def cost(option: tuple[Unit, bool]) -> tuple[int, int, int, int, bool]:
        unit, swapped = option
        low, high = unit.pair
        before = shown.get(unit, Shown())
        step = -1 if swapped else 1
        ahead = step if 2 * before.swapped == before.times else 0
        now = max(0, abs(lean[low] + step) - LEAN, abs(lean[high] - step) - LEAN)
        then = 0 if len(among) > ENDING else max(0, abs(bound[low] + ahead) - LEAN, abs(bound[high] - ahead) - LEAN)
        return now, then, before.times // 2, rank[unit], swapped is not coin

    return min(((unit, side) for unit in among for side in _sides(shown.get(unit, Shown()))), key=cost)


def _tip(lean: Counter[int], unit: Unit, swapped: bool) -> None:
    low, high = unit.pair
    lean[low] += -1 if swapped else 1
    lean[high] += 1 if swapped else -1


def _sides(shown: Shown) -> tuple[bool, ...]:
    """The ways round that mirror what others saw."""
    straight = shown.times - shown.swapped
    if straight == shown.swapped:
        return (False, True)
    return (shown.swapped < straight,)
