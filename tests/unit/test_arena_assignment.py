"""Sides are balanced within a rater and over those of a prompt, and not to be foreseen; prompts get their votes."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from scipy.stats import binomtest

from ftlab.arena import backup, blind_tests, handing_out, links, store, trials
from ftlab.arena.handing_out import LEAN, Key, Shown, Unit, choose, still_open, wanted_votes
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from tests.arena import answered, draft, everything, opened

Handed = dict[int, list[tuple[Unit, bool]]]


def play(
    prompts: int,
    contestants: int,
    raters: int,
    votes_per_prompt: int,
    overlap: float,
    seed: int,
    stop: int | None = None,
) -> Handed:
    """What each of `raters` is handed when they come in any order until nothing is left, or after `stop` trials."""
    prompt_ids = [f"prompt {n}" for n in range(prompts)]
    units = [Unit(one, pair) for one in prompt_ids for pair in itertools.combinations(range(contestants), 2)]
    wanted = wanted_votes(prompt_ids, votes_per_prompt, overlap, seed)
    shown: dict[Unit, Shown] = {}
    handed: Handed = {rater: [] for rater in range(1, raters + 1)}
    coming, here = random.Random(seed), list(handed)
    while here and sum(map(len, handed.values())) != stop:
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
def test_sides_are_balanced_within_a_rater_at_any_time_and_over_the_raters_of_a_prompt(
    contestants: int, seed: int
) -> None:
    handed = play(prompts=30, contestants=contestants, raters=4, votes_per_prompt=4, overlap=1.0, seed=seed)
    by_unit = defaultdict(list)
    for trials_of_rater in handed.values():
        assert len(trials_of_rater) == 30 * contestants * (contestants - 1) // 2
        for end in range(1, len(trials_of_rater) + 1):  # at any time, not only in the end
            lean: Counter[int] = Counter()
            for unit, swapped in trials_of_rater[:end]:
                lean[unit.pair[swapped]] += 1
                lean[unit.pair[not swapped]] -= 1
            assert max(map(abs, lean.values())) <= LEAN + 2 * (contestants - 2)
        for unit, swapped in trials_of_rater:
            by_unit[unit].append(swapped)
    assert all(sum(sides) == 2 for sides in by_unit.values())


def test_who_knows_all_earlier_sides_foresees_the_next_hardly_better_than_a_coin() -> None:
    """Bound to be balanced, a side that was seen less is a little likelier; whoever bets on it must not win much."""
    hits: list[float] = []
    for seed in range(20):
        for trials_of_rater in play(40, 2, raters=2, votes_per_prompt=2, overlap=1.0, seed=seed).values():
            lean = 0
            for _, swapped in trials_of_rater:
                hits.append(0.5 if lean == 0 else swapped == (lean > 0))
                lean += -1 if swapped else 1
    assert len(hits) == 1600 and sum(hits) / len(hits) < 0.55


def sides_of(place: Store, test_id: str, rater_id: str) -> list[bool]:
    """Vote on all that the rater is handed; the sides, in the order in which they came."""
    while (trial := trials.next_trial(place, rater_id)) is not None:
        trials.vote(place, rater_id, trial.id, "left")
    with place.reading() as connection:
        rows = connection.execute(store.trials.select().where(store.trials.c.rater_id == rater_id)).all()
    return [row.swapped for row in sorted(rows, key=lambda row: row.place)]


def foreseen(prompts: int, sides: list[bool], key: Key, rater: int) -> int:
    """How many sides the server's own code foretells with `key`, told all earlier sides of the rater."""
    units = [Unit(str(n), (0, 1)) for n in range(prompts)]
    own: list[tuple[Unit, bool]] = []
    hits = 0
    for side in sides:
        among = still_open(units, dict.fromkeys(map(str, range(prompts)), 1), {}, {unit for unit, _ in own})
        chosen = choose(units, among, {}, own, key, rater)
        assert chosen is not None
        hits += chosen[1] == side
        own.append((chosen[0], side))
    return hits


def test_who_knows_the_source_the_public_numbers_and_the_earlier_sides_of_the_one_rater_is_at_chance(
    tmp_path: Path,
) -> None:
    place, prompts, number = open_store(Workspace.open(tmp_path)), 40, 4
    public = {"the seed": 0, "its text": "0", "none": "None", "nothing": "", "the id": "", "the time": ""}
    hits, earlier, alike = Counter(), [], 0
    for n in range(number):
        test_id, (rater_id,) = opened(place, names=["Ana"], prompts=prompts)
        secret = f"not to be known {n}"  # the same at each run of this test
        with place.writing() as connection:
            connection.execute(store.blind_tests.update().values(secret=secret))
        sides = sides_of(place, test_id, rater_id)
        assert len(sides) == prompts
        assert foreseen(prompts, sides, secret, 1) == prompts  # who had the secret would foresee all of them
        public |= {"the id": test_id, "the time": str(blind_tests.get_test(place, test_id).created)}
        for name, key in public.items():
            hits[name] += foreseen(prompts, sides, key, 1)
        alike += sum(a == b for other in earlier for a, b in zip(other, sides, strict=True))
        earlier.append(sides)
    for name, right in hits.items():
        assert binomtest(right, number * prompts).pvalue > 1e-6, (name, right)
    assert binomtest(alike, 6 * prompts).pvalue > 1e-6  # nor does one test tell of another


def test_every_test_has_a_secret_of_its_own_and_it_stays_in_the_database(tmp_path: Path) -> None:
    place = open_store(Workspace.open(tmp_path))
    for _ in range(2):
        opened(place)
    with place.reading() as connection:
        secrets = list(connection.execute(store.blind_tests.select().with_only_columns(store.blind_tests.c.secret)))
    secrets = [secret for (secret,) in secrets]
    assert len(set(secrets)) == 2 and all(len(secret) == 64 for secret in secrets)
    test = blind_tests.list_tests(place)[0]
    backup.dump(place, tmp_path / "tables")
    sent = "".join(file.read_text() for file in (tmp_path / "tables").iterdir())
    with place.reading() as connection:
        known = handing_out.standing(connection, test, "nobody")
    for secret in secrets:
        told = f"{test}{blind_tests.get_test(place, test.id)}{blind_tests.history(place, test.id)}"
        assert secret not in f"{told}{known}{sent}"
    # What comes back draws its further sides from a secret of its own.
    there = open_store(Workspace.open(tmp_path / "there"))
    backup.load(there, tmp_path / "tables")
    with there.reading() as connection:
        fresh = list(connection.execute(store.blind_tests.select().with_only_columns(store.blind_tests.c.secret)))
    assert len(set(fresh)) == 2 and not {secret for (secret,) in fresh} & set(secrets)


def test_a_database_of_an_older_ftlab_opens_and_its_tests_go_on_as_they_began(tmp_path: Path) -> None:
    place = open_store(Workspace.open(tmp_path))
    test_id, (ana, _) = opened(place)
    waiting = answered(place)
    first = trials.next_trial(place, ana)
    assert first is not None
    trials.vote(place, ana, first.id, "left")
    before = everything(place)
    place.engine.dispose()
    with sqlite3.connect(place.workspace.arena_database) as old:  # as it was before secrets and conversations
        old.execute("ALTER TABLE blind_tests DROP COLUMN secret")
        old.execute("ALTER TABLE answers DROP COLUMN turns")
        old.execute("UPDATE blind_tests SET settings = json_set(settings, '$.seed', 7)")
    store._engine.cache_clear()
    place = open_store(Workspace.open(tmp_path))
    seeded = {name: rows for name, rows in everything(place).items() if name != "blind_tests"}
    assert seeded == {name: rows for name, rows in before.items() if name != "blind_tests"}
    assert blind_tests.settings_of(blind_tests.get_test(place, test_id)).votes_per_prompt == 1

    with place.reading() as connection:
        at = handing_out.standing(connection, blind_tests.get_test(place, test_id), ana)
    assert at.key == 7
    chosen = choose(
        at.units, [one for one in at.units if one != at.own[0].unit], {}, [(at.own[0].unit, at.own[0].swapped)], 7, 1
    )
    trials.next_trial(place, ana)
    with place.reading() as connection:
        later = handing_out.standing(connection, blind_tests.get_test(place, test_id), ana).own
    assert [(one.unit, one.swapped) for one in later if one.place == 2] == [chosen]

    blind_tests.open_test(place, waiting)  # nobody has voted on this one: it gets a secret
    with place.reading() as connection:
        assert isinstance(handing_out.standing(connection, blind_tests.get_test(place, waiting), "nobody").key, str)


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


def test_in_a_live_test_a_lot_says_which_contestants_answer_and_each_pair_has_its_turn(tmp_path: Path) -> None:
    place = open_store(Workspace.open(tmp_path))
    test_id = draft(place, prompts=0, contestants=3, planned=90, live=True)
    with place.writing() as connection:
        connection.execute(store.blind_tests.update().values(secret="not to be known"))
    blind_tests.open_test(place, test_id)
    raters = links.create_raters(place, test_id, [f"R{n}" for n in range(8)])
    first = set()
    for link in raters:
        met = []
        for n in range(3):
            pair = trials.live_contestants(place, link.rater_id)
            asked = [{"role": "user", "content": f"{link.rater_id} {n}"}]
            trial = trials.record_live(place, link.rater_id, asked, {one: {"text": one} for one in pair})
            trials.vote(place, link.rater_id, trial.id, "left")
            met.append(pair)
        assert len(set(met)) == 3
        first.add(met[0])
    assert len(first) > 1
