"""What each side says to each of its questions: as it is kept from before, or asked now and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.asking import Asked, ask, phase_of
from ftlab.evaluation.batches import trim
from ftlab.evaluation.own_answers import Written
from ftlab.evaluation.results import (
    Kept,
    Question,
    Said,
    ToExamine,
    ToFollow,
    completed,
    keep,
    key_of,
    open_part,
    recall,
)
from ftlab.evaluation.sides import Side, identity, tokenizer_of, visit

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Wanted:
    """A question to a side, whose model has the identity `who`, and the key of what it says to it."""

    side: Side
    who: list[Any]
    name: str
    question: Question
    key: str


def collect(
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    *,
    batch_rows: int,
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> dict[str, dict[str, Said]]:
    """What each of `sides` says, by its name and the name of the question; `tell` counts rows. Raises Stopped, after
    which what was said until then stays kept."""
    wanted = [
        _Wanted(side, who, name, question, key_of(who, question))
        for side in sides
        for who in [identity(side)]
        for name, question in asked[side.name].questions.items()
    ]
    held = {one.key: recall(one.side.run, one.who, one.question) for one in wanted}
    known = {key: kept.said for key, kept in held.items() if kept.said is not None}
    # Two sides may be asked the same (general questions need no prompt): the first one is.
    missing = {one.key: one for one in reversed(wanted) if one.key not in known}
    total = sum(one.question.steps for one in wanted)
    done = total - sum(map(_open_steps, missing.values(), map(held.__getitem__, missing)))

    def remember(one: _Wanted) -> None:
        about = {"created": time.time(), "side": one.side.described(), "question": one.name, "model": one.who}
        keep(one.side.run, one.who, one.question, known[one.key], about)

    def work(side: Side, model: Any) -> None:
        nonlocal done
        tokenizer = tokenizer_of(side)
        for one in [one for one in wanted if one.side is side and missing.get(one.key) is one]:
            phase = phase_of(one.name, side.spoken)
            tell(phase, done, total)

            def advance(rows: int, phase: str = phase) -> None:
                nonlocal done
                done += rows
                tell(phase, done, total)

            if isinstance(one.question, ToExamine):
                known[one.key] = examined(side, model, tokenizer)
            else:
                kept = held[one.key]
                part = open_part(one.question, kept)
                new = ask(
                    model,
                    tokenizer,
                    part,
                    batch_rows=batch_rows,
                    written=_written(one.question, part, known) if isinstance(part, ToFollow) else (),
                    advance=advance,
                    should_stop=should_stop,
                )
                known[one.key] = completed(one.question, kept, new)
            remember(one)
            trim()  # the next question has batches of other shapes

    def examined(side: Side, model: Any, tokenizer: Any) -> Said:
        from ftlab.evaluation.memorisation import measure_memorisation

        found = measure_memorisation(
            model,
            tokenizer,
            side.run,
            side.config,
            # It counts rows of its own.
            progress=lambda phase, *_: tell(phase, done, total),
            should_stop=should_stop,
        )
        return Said(found=found)

    def loading(what: str) -> None:
        tell(f"loading {what}", done, total)

    visit([side for side in sides if any(one.side is side for one in missing.values())], work, loading)
    found: dict[str, dict[str, Said]] = {side.name: {} for side in sides}
    for one in wanted:
        if not held[one.key].here and one.key not in missing:
            remember(one)  # found in another run, which may be deleted
        found[one.side.name][one.name] = known[one.key]
    return found


def _written(whole: ToFollow, part: ToFollow, known: Mapping[str, Said]) -> list[Written]:
    """What the base wrote to the prompts of `part`: it is asked before those that follow it (see `visit`)."""
    written = known[key_of(whole.base, whole.of)].written or []
    by_prompt = {tuple(prompt): one for prompt, one in zip(whole.of.prompts, written, strict=True)}
    return [by_prompt[tuple(prompt)] for prompt in part.of.prompts]


def _open_steps(one: _Wanted, kept: Kept) -> int:
    return 0 if isinstance(one.question, ToExamine) else open_part(one.question, kept).steps
