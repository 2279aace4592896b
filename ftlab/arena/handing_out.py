"""The next trial of a rater, and the side of each answer."""

from __future__ import annotations

import hmac
import itertools
import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Integer, Row, bindparam, cast, func, select

from ftlab.arena.controls import ATTENTION, REPEAT, SHORTEST_GAP, attention_due, repeat_due, set_aside
from ftlab.arena.conversations import texts_of, user_turns
from ftlab.arena.store import answers, blind_tests, contestants, draw_key, new_id, now, prompts, raters, trials, votes
from ftlab.core.words import composed

LEAN = 6
ENDING = 20

# The source of a test's draws: its secret. A number is the public seed of a test created before there were secrets, or
# of a simulation.
Key = str | int


class Unit(NamedTuple):
    """One comparison: a prompt, and the positions of the two contestants, the lower first."""

    prompt_id: str
    pair: tuple[int, int]


class Shown(NamedTuple):
    """How often a unit was handed out, and how often with the lower-position contestant on the right."""

    times: int = 0
    swapped: int = 0


def draw(key: Key, what: str) -> random.Random:
    """The random numbers of a test for one purpose, such as "overlap". Each stream is seeded by an HMAC of the secret,
    so that it reveals nothing about another."""
    if isinstance(key, str):
        return random.Random(hmac.digest(key.encode(), what.encode(), "sha256"))
    return random.Random(f"{key} {what}")


def wanted_votes(prompt_ids: Sequence[str], votes_per_prompt: int, overlap: float, key: Key) -> dict[str, int]:
    """The number of raters who see each prompt: `votes_per_prompt` for the share `overlap`, one for the others."""
    shared = set(draw(key, "overlap").sample(list(prompt_ids), round(len(prompt_ids) * overlap)))
    return {prompt_id: votes_per_prompt if prompt_id in shared else 1 for prompt_id in prompt_ids}


def still_open(
    units: Sequence[Unit], wanted: Mapping[str, int], showings: Mapping[Unit, Shown], seen: Collection[Unit]
) -> list[Unit]:
    """The units that a rater can still get after those in `seen`."""
    return [unit for unit in units if unit not in seen and showings.get(unit, Shown()).times < wanted[unit.prompt_id]]


def choose(
    units: Sequence[Unit],
    among: Collection[Unit],
    showings: Mapping[Unit, Shown],
    own: Sequence[tuple[Unit, bool]],
    key: Key,
    rater: int,
) -> tuple[Unit, bool] | None:
    """The next of `among` for the rater with this number, and whether it is swapped. None if there is nothing left.

    `units` are all of the test, in a fixed order; `own` are the rater's previous trials. Each rater sees the prompts in
    their own order. Prompts shown to fewer pairs of raters come first.
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
    # Near the end: the balance after showing every unit that has only one possible order. Earlier, other raters may
    # take those units, and always steering toward that balance would make the sides alternate.
    bound = lean.copy()
    for unit in among if len(among) <= ENDING else ():
        sides = _sides(showings.get(unit, Shown()))
        if len(sides) == 1:
            _tip(bound, unit, sides[0])

    def cost(option: tuple[Unit, bool]) -> tuple[int, int, int, int, bool]:
        unit, swapped = option
        low, high = unit.pair
        before = showings.get(unit, Shown())
        step = -1 if swapped else 1
        ahead = step if 2 * before.swapped == before.times else 0
        now = max(0, abs(lean[low] + step) - LEAN, abs(lean[high] - step) - LEAN)
        then = 0 if len(among) > ENDING else max(0, abs(bound[low] + ahead) - LEAN, abs(bound[high] - ahead) - LEAN)
        return now, then, before.times // 2, rank[unit], swapped is not coin

    return min(((unit, side) for unit in among for side in _sides(showings.get(unit, Shown()))), key=cost)


def _tip(lean: Counter[int], unit: Unit, swapped: bool) -> None:
    low, high = unit.pair
    lean[low] += -1 if swapped else 1
    lean[high] += 1 if swapped else -1


def _sides(showing: Shown) -> tuple[bool, ...]:
    """The orders that mirror those of other raters."""
    straight = showing.times - showing.swapped
    if straight == showing.swapped:
        return (False, True)
    return (showing.swapped < straight,)


# A rater who leaves a trial open this long is gone, and another rater may get the prompt.
STALE_SECONDS = 30 * 60


# Run for every vote: building these statements takes longer than running them.
_HANDED_OUT = (
    select(
        trials.c.prompt_id,
        trials.c.pair,
        func.count(),
        func.sum(cast(trials.c.swapped, Integer)),
        func.count(votes.c.id),
    )
    .join(raters, raters.c.id == trials.c.rater_id)
    .outerjoin(votes, votes.c.trial_id == trials.c.id)
    .where(
        trials.c.test_id == bindparam("test"),
        trials.c.control.is_(None),
        # Waiting or voted on. A skip leaves the prompt to the next rater.
        (votes.c.id.is_(None) & (trials.c.created > bindparam("since")) & raters.c.revoked_at.is_(None))
        | ((votes.c.choice != "skip") & raters.c.voided_at.is_(None)),
    )
    .group_by(trials.c.prompt_id, trials.c.pair)
)
_PLAN = select(blind_tests.c.plan, blind_tests.c.secret, blind_tests.c.settings).where(
    blind_tests.c.id == bindparam("test")
)
_OWN = (
    select(trials.c.prompt_id, trials.c.pair, trials.c.swapped, trials.c.place, trials.c.control, votes.c.choice)
    .outerjoin(votes, votes.c.trial_id == trials.c.id)
    .where(trials.c.rater_id == bindparam("rater"))
    .order_by(trials.c.place)
)
_WAITING = (
    select(trials)
    .outerjoin(votes, votes.c.trial_id == trials.c.id)
    .where(trials.c.rater_id == bindparam("rater"), votes.c.id.is_(None))
    .order_by(trials.c.place)
    .limit(1)
)
_TRIAL = select(trials).where(trials.c.id == bindparam("trial"))
_MESSAGES = select(prompts.c.messages).where(prompts.c.id == bindparam("prompt"))
_ANSWERED = select(answers.c.contestant_id, answers.c.id).where(answers.c.prompt_id == bindparam("prompt"))
_TEXTS = select(answers.c.id, answers.c.text, answers.c.turns).where(
    answers.c.id.in_([bindparam("left"), bindparam("right")])
)
_RATERS = select(func.count()).where(raters.c.test_id == bindparam("test"), raters.c.revoked_at.is_(None))
_CONTESTANTS = (
    select(contestants.c.id).where(contestants.c.test_id == bindparam("test")).order_by(contestants.c.position)
)
_HAND_OUT = trials.insert()


@dataclass(frozen=True)
class Trial:
    """Everything that a rater may see of a trial. `number` of about `total` for this rater. `turns`: the answers of
    both conversations, left and right; None if the prompt is answered once. `written`: what came with the vote that was
    undone: comment, ratings."""

    id: str
    number: int
    total: int
    messages: list[dict[str, str]]
    left: str
    right: str
    options: tuple[str, ...]
    rubric: tuple[str, ...]
    turns: tuple[list[str], list[str]] | None = None
    written: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Own:
    """A trial that was handed to a rater. `place` 0: an automatic tie."""

    unit: Unit
    swapped: bool
    place: int
    control: str | None = None
    choice: str | None = None


@dataclass(frozen=True)
class Standing:
    """The state of a test for one rater. `wanted`: votes by prompt. `identical`: units whose answers are the same text.
    `votes`: all except skips. `key`: what `choose` draws from. `attention` items are (prompt id, id of the answer to
    it, id of the other answer, pair of positions); `repeated` prompts come twice."""

    units: list[Unit]
    wanted: dict[str, int]
    identical: frozenset[Unit]
    showings: dict[Unit, Shown]
    own: list[Own]  # in the order of their places
    votes: int
    key: Key = field(repr=False)
    attention: list[tuple[str, str, str, tuple[int, int]]] = field(default_factory=list)
    repeated: frozenset[str] = frozenset()

    @property
    def made(self) -> list[Own]:
        """The comparisons of the rater that count."""
        return [own for own in self.own if own.place and not own.control]

    def controls(self, kind: str) -> list[Unit]:
        return [own.unit for own in self.own if own.control == kind]


def make_plan(connection: Connection, test: Row[Any]) -> dict[str, Any]:
    """What does not change once a test is open, for its column `plan`: {"prompts": [[id, wanted votes]], "contestants":
    count, "identical": [[prompt id, position, position]], "attention", "repeated"}, the last two as in `Standing`.

    Raises InputError if attention items cannot be made."""
    asked = select(prompts.c.id).where(prompts.c.test_id == test.id).order_by(prompts.c.number)
    prompt_ids = list(connection.execute(asked).scalars())
    settings = test.settings
    opened = connection.execute(_PLAN, {"test": test.id}).one()
    key = draw_key(opened.secret, opened.settings)
    attention = _attention(connection, test.id, settings, key)
    gone = {item[0] for item in attention}
    prompt_ids = [prompt_id for prompt_id in prompt_ids if prompt_id not in gone]
    again = math.ceil(len(prompt_ids) * settings.get("repeats", 0.0))
    wanted = wanted_votes(prompt_ids, settings["votes_per_prompt"], settings["overlap"], key)
    return {
        "prompts": list(wanted.items()),
        "contestants": len(contestant_ids(connection, test.id)),
        "identical": _identical(connection, test.id),
        "attention": attention,
        "repeated": sorted(draw(key, "repeated").sample(prompt_ids, again)),
    }


def _identical(connection: Connection, test_id: str) -> list[list[Any]]:
    """[prompt id, position, position] of every two answers of a test that read the same."""
    left, right, first, second = answers.alias(), answers.alias(), contestants.alias(), contestants.alias()
    query = (
        select(left.c.prompt_id, first.c.position, second.c.position)
        .add_columns(left.c.text, left.c.turns, right.c.text.label("beside"), right.c.turns.label("turns_beside"))
        .join(right, right.c.prompt_id == left.c.prompt_id)
        .join(first, first.c.id == left.c.contestant_id)
        .join(second, second.c.id == right.c.contestant_id)
        .where(first.c.test_id == test_id, first.c.position < second.c.position)
    )
    return [
        [prompt_id, low, high]
        for prompt_id, low, high, *sides in connection.execute(query)
        if _as_read(*sides[:2]) == _as_read(*sides[2:])
    ]


def left_to_people(connection: Connection, test: Row[Any]) -> tuple[int, int | None]:
    """(comparisons whose answers read the same, planned votes without those on them): nobody is asked about them. (0,
    None) before the test opens, and for a live test."""
    plan = connection.execute(_PLAN, {"test": test.id}).one().plan
    if not plan or test.settings["live"]:
        return 0, None
    wanted = dict(plan["prompts"])
    pairs = math.comb(plan["contestants"], 2)
    alike = sum(wanted.get(prompt_id, 0) for prompt_id, _, _ in plan["identical"])
    return len(plan["identical"]), min(test.planned_votes, pairs * sum(wanted.values()) - alike)


def _as_read(text: str, turns: Sequence[Mapping[str, Any]] | None) -> list[str]:
    return [composed(part) for part in texts_of(text, turns)]


def _attention(
    connection: Connection, test_id: str, settings: Mapping[str, Any], key: Key
) -> list[tuple[str, str, str, list[int]]]:
    number = settings.get("attention", 0)
    if not number:
        return []
    asked = connection.execute(select(prompts).where(prompts.c.test_id == test_id).order_by(prompts.c.number)).all()
    query = select(answers.c.id, answers.c.prompt_id, answers.c.text, contestants.c.position).where(
        contestants.c.id == answers.c.contestant_id, contestants.c.test_id == test_id
    )
    rows = {(row.prompt_id, row.position): row for row in connection.execute(query)}
    questions = {prompt.id: " ".join(str(turn["content"]) for turn in prompt.messages) for prompt in asked}
    texts = {place: row.text for place, row in rows.items()}
    # The answers of one conversation stand under the turns of another, which has as many.
    turns = {prompt.id: len(user_turns(prompt.messages)) for prompt in asked} if settings.get("conversations") else {}
    return [
        (prompt, rows[prompt, right].id, rows[other, wrong].id, sorted((right, wrong)))
        for prompt, right, other, wrong in set_aside(questions, texts, number, draw(key, "attention"), turns)
    ]


def standing(connection: Connection, test: Row[Any], rater_id: str) -> Standing:
    """The state of an open test for a rater."""
    kept = connection.execute(_PLAN, {"test": test.id}).one()
    plan = kept.plan
    pairs = list(itertools.combinations(range(plan["contestants"]), 2))
    rows = connection.execute(_HANDED_OUT, {"test": test.id, "since": now() - STALE_SECONDS}).all()
    return Standing(
        units=[Unit(prompt_id, pair) for prompt_id, _ in plan["prompts"] for pair in pairs],
        wanted=dict(plan["prompts"]),
        identical=frozenset(Unit(prompt_id, (low, high)) for prompt_id, low, high in plan["identical"]),
        showings={
            Unit(prompt_id, positions(pair)): Shown(times, swapped) for prompt_id, pair, times, swapped, _ in rows
        },
        own=[
            Own(Unit(prompt_id, positions(pair)), bool(swapped), place, control, choice)
            for prompt_id, pair, swapped, place, control, choice in connection.execute(_OWN, {"rater": rater_id})
        ],
        votes=sum(row[-1] for row in rows),
        key=draw_key(kept.secret, kept.settings),
        attention=[(*item, (low, high)) for *item, (low, high) in plan.get("attention", ())],
        repeated=frozenset(plan.get("repeated", ())),
    )


def assign(connection: Connection, test: Row[Any], rater: Row[Any]) -> Trial | None:
    """Create the next trial of a rater. Identical answers become ties automatically."""
    at = standing(connection, test, rater.id)
    while at.votes < test.planned_votes:
        among = still_open(at.units, at.wanted, at.showings, {own.unit for own in at.own})
        asked = [(own.unit, own.swapped) for own in at.made]
        place = 1 + sum(own.place > 0 for own in at.own)
        chosen = choose(at.units, among, at.showings, asked, at.key, rater.number)
        control = _control(connection, test, rater, at, place, min(len(among), test.planned_votes - at.votes))
        if control is not None:
            own = Own(Unit(control.prompt_id, positions(control.pair)), control.swapped, place, control.control)
            return trial_of(connection, test, control, replace(at, own=[*at.own, own]))
        if chosen is None:
            return None
        unit, swapped = chosen
        same = unit in at.identical
        row = hand_out(connection, test, rater, unit, swapped, place=0 if same else place)
        before = at.showings.get(unit, Shown())
        at = replace(
            at,
            showings=at.showings | {unit: Shown(before.times + 1, before.swapped + swapped)},
            own=[*at.own, Own(unit, swapped, row.place)],
            votes=at.votes + same,
        )
        if not same:
            return trial_of(connection, test, row, at)
        record_tie(connection, row)
    return None


def _control(
    connection: Connection, test: Row[Any], rater: Row[Any], at: Standing, place: int, left: int
) -> Row[Any] | None:
    """The trial of a control item, if one is due for the rater, who may get `left` more votes: all items come before
    the last of them."""
    made, again, answered = at.made, set(at.controls(REPEAT)), len(at.controls(ATTENTION))
    waiting = [
        (own, len(made) - number)
        for number, own in enumerate(made, start=1)
        if own.unit.prompt_id in at.repeated and own.unit not in again and own.choice not in (None, "skip")
    ]
    hurry = left <= len(at.attention) - answered + sum(since >= SHORTEST_GAP for _, since in waiting)
    for own, since in waiting:
        rng = draw(at.key, f"{rater.number} repeat {own.unit.prompt_id} {pair_text(own.unit.pair)}")
        if repeat_due(since, rng, hurry=hurry):
            return hand_out(connection, test, rater, own.unit, not own.swapped, place, REPEAT)
    if answered >= len(at.attention):
        return None
    rng = draw(at.key, f"{rater.number} attention")
    order = rng.sample(at.attention, len(at.attention))
    if (hurry and made) or attention_due(len(order), answered, len(made), _share(connection, test, at), rng):
        prompt_id, right, wrong, pair = order[answered]
        sides = (
            (wrong, right) if draw(at.key, f"{rater.number} attention {answered}").random() < 0.5 else (right, wrong)
        )
        return hand_out(connection, test, rater, Unit(prompt_id, pair), False, place, ATTENTION, sides)
    return None


def hand_out(
    connection: Connection,
    test: Row[Any],
    rater: Row[Any],
    unit: Unit,
    swapped: bool,
    place: int,
    control: str | None = None,
    sides: tuple[str, str] | None = None,
) -> Row[Any]:
    """Store a trial. Returns its row. `sides`: the ids of the answers left and right, if not those of `unit`."""
    if sides is None:
        among = contestant_ids(connection, test.id)
        left, right = reversed(unit.pair) if swapped else unit.pair
        by_contestant = dict(connection.execute(_ANSWERED, {"prompt": unit.prompt_id}).all())
        sides = by_contestant[among[left]], by_contestant[among[right]]
    trial_id = new_id()
    row = {
        "id": trial_id,
        "test_id": test.id,
        "rater_id": rater.id,
        "prompt_id": unit.prompt_id,
        "pair": " ".join(filter(None, (pair_text(unit.pair), control))),
        "left_answer_id": sides[0],
        "right_answer_id": sides[1],
        "swapped": swapped,
        "place": place,
        "created": now(),
        "control": control,
    }
    connection.execute(_HAND_OUT, row)
    return connection.execute(_TRIAL, {"trial": trial_id}).one()


def record_tie(connection: Connection, trial: Row[Any]) -> None:
    """Record the automatic vote on identical answers."""
    connection.execute(
        votes.insert().values(
            id=new_id(),
            trial_id=trial.id,
            rater_id=trial.rater_id,
            choice="tie",
            ratings={},
            comment="",
            created=now(),
            automatic=True,
        )
    )


def waiting(connection: Connection, rater_id: str) -> Row[Any] | None:
    """The first trial of a rater that has no vote."""
    return connection.execute(_WAITING, {"rater": rater_id}).first()


def trial_of(connection: Connection, test: Row[Any], trial: Row[Any], at: Standing | None = None) -> Trial:
    """A row of `trials` as its rater may see it."""
    asked = connection.execute(_MESSAGES, {"prompt": trial.prompt_id}).scalar_one()
    sides = {"left": trial.left_answer_id, "right": trial.right_answer_id}
    rows = {row.id: row for row in connection.execute(_TEXTS, sides)}
    left, right = rows[trial.left_answer_id], rows[trial.right_answer_id]
    return Trial(
        trial.id,
        trial.place,
        _total(connection, test, at or standing(connection, test, trial.rater_id)),
        asked,
        left.text,
        right.text,
        tuple(test.settings["options"]),
        tuple(test.settings["rubric"]),
        (texts_of(left.text, left.turns), texts_of(right.text, right.turns)) if left.turns and right.turns else None,
    )


def _total(connection: Connection, test: Row[Any], at: Standing) -> int:
    """The expected number of trials of a rater if all raters do an equal share, with control items."""
    last, share = len(at.made), _share(connection, test, at)
    if test.settings["live"]:
        return max(last, share)
    asked = [unit for unit in at.units if unit not in at.identical]
    more = len(still_open(asked, at.wanted, at.showings, {own.unit for own in at.own}))
    counting = min(max(share, last), last + more)
    again = sum(own.unit.prompt_id in at.repeated and own.choice != "skip" for own in at.made)
    coming = round((counting - last) * len(at.repeated) / max(1, len(at.wanted)))
    return counting + len(at.attention) + again + coming


def _share(connection: Connection, test: Row[Any], at: Standing) -> int:
    """An equal share of the votes for one rater."""
    among = connection.execute(_RATERS, {"test": test.id}).scalar_one()
    if test.settings["live"]:
        return math.ceil(test.planned_votes / among)
    wanted = sum(at.wanted[unit.prompt_id] for unit in at.units if unit not in at.identical)
    return math.ceil(min(wanted, test.planned_votes) / among)


def live_pair(connection: Connection, test: Row[Any], rater: Row[Any]) -> tuple[int, int]:
    """The positions of the two contestants that answer a rater's next prompt in a live test: a random pair among the
    least seen."""
    among = contestant_ids(connection, test.id)
    counted = select(trials.c.pair, func.count()).where(trials.c.rater_id == rater.id).group_by(trials.c.pair)
    seen = {positions(pair): times for pair, times in connection.execute(counted)}
    pairs = list(itertools.combinations(range(len(among)), 2))
    opened = connection.execute(_PLAN, {"test": test.id}).one()
    key = draw_key(opened.secret, opened.settings)
    draw(key, f"{rater.number} pair {sum(seen.values())}").shuffle(pairs)
    return min(pairs, key=lambda pair: seen.get(pair, 0))


def contestant_ids(connection: Connection, test_id: str) -> list[str]:
    """The ids of the contestants, by position."""
    return list(connection.execute(_CONTESTANTS, {"test": test_id}).scalars())


def pair_text(pair: Sequence[int]) -> str:
    return f"{pair[0]}-{pair[1]}"


def positions(pair: str) -> tuple[int, int]:
    low, high = pair.partition(" ")[0].split("-")
    return int(low), int(high)
