"""How many questions a run is asked by default to measure forgetting: about a fifth of its cost.

Counted in tokens that are read once (a training step reads each token and goes back through it, at twice the price),
so that the same run is always asked the same, on whatever machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.config import RunConfig

# Of neutral_prompts. The fewest hold the thirty of kinds that self replay does not hold, judged by themselves:
# with fifteen of them SmolLM2 held at 0.022 nats could not be told from one that is not.
MOST_PROMPTS, FEWEST_PROMPTS = 100, 50
MOST_PASSAGES, FEWEST_PASSAGES = 120, 35  # of general_reading, which does not decide beside the prompts
UNSEEN_KINDS = ("refusal", "languages", "code")  # of neutral_prompts and not of replay_prompts
# Of SmolLM2 on two cores a neutral prompt takes 0.84 s and a passage 0.93 s, both sides together, where a token that
# is read takes 4 ms (docs/forgetting.md).
_TOKENS_EACH = 225
_PART = 4  # of the rest of the run that goes to it: a fifth of the whole
_TRAINED = 3
_CHARACTERS, _TOKENS_OF_TURN = 4, 8
_OWN_ANSWER = 80  # tokens of a replayed prompt with the base's answer to it


def affordable(
    config: RunConfig, splits: Mapping[str, Sequence[Mapping[str, Any]]], own_answers: int = 0
) -> tuple[int, int]:
    """Neutral prompts and passages of general text that suit the run of the resolved `config` on the rows `splits`,
    `own_answers` of the base beside them."""
    settings = config.optimisation
    train = splits["train"]
    rows = len(train) + own_answers
    tokens = sum(map(_tokens, train)) + own_answers * _OWN_ANSWER
    epochs = settings.epochs or 1
    if settings.max_steps:
        drawn = settings.max_steps * (settings.batch_size or 1) * (settings.gradient_accumulation or 1)
        epochs = drawn * config.launcher.processes / max(1, rows)
    held_out = splits.get("test") or splits.get("validation") or []
    asked = sum(map(_tokens, held_out)) * min(1.0, config.evaluation.max_rows / max(1, len(held_out)))
    rest = _TRAINED * tokens * epochs + 4 * asked  # both sides answer each row, and are scored on it
    whole = int(rest / _PART / _TOKENS_EACH)
    prompts = min(MOST_PROMPTS, max(FEWEST_PROMPTS, whole - FEWEST_PASSAGES))
    return prompts, min(MOST_PASSAGES, max(FEWEST_PASSAGES, whole - prompts))


def _tokens(row: Mapping[str, Any]) -> int:
    """About as many as the turns of a frozen `row` have: its messages, or a prompt with the answers to it."""
    turns = [turn for value in row.values() if isinstance(value, list) for turn in value]
    return sum(len(turn.get("content") or "") // _CHARACTERS + _TOKENS_OF_TURN for turn in turns)


def drawn_prompts(kinds: Sequence[str], most: int | None) -> list[int]:
    """The places of at most `most` neutral prompts of these `kinds`: three fifths, as far as there are so many, of
    kinds that self replay does not hold; else evenly, and fewer are a part of more."""
    unseen = [place for place, kind in enumerate(kinds) if kind in UNSEEN_KINDS]
    others = [place for place, kind in enumerate(kinds) if kind not in UNSEEN_KINDS]
    if most is None or most >= len(kinds):
        return list(range(len(kinds)))
    first = min(len(unseen), round(0.6 * most))
    parts = ((unseen, first), (others, most - first))
    return sorted(place for of, count in parts for place in evenly(of, [kinds[one] for one in of], count))


def evenly(rows: Sequence[Any], kinds: Sequence[Any], most: int | None) -> list[Any]:
    """At most `most` of `rows`, drawn evenly over their `kinds` with a fixed seed: fewer are a part of more."""
    if most is None or most >= len(rows):
        return list(rows)
    by_kind: dict[Any, list[int]] = {}
    for place, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(place)
    for number, places in enumerate(by_kind.values()):
        random.Random(number).shuffle(places)
    turns = [place for turn in range(len(rows)) for places in by_kind.values() for place in places[turn : turn + 1]]
    return [rows[place] for place in sorted(turns[:most])]
