"""What each side says to each of its questions: as it is kept from before, or asked now and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftlab.evaluation.asking import Asked, ask, phase_of
from ftlab.evaluation.results import (
    Question,
    Said,
    ToAnswer,
    ToExamine,
    ToScore,
    answered_before,
    keep,
    key_of,
    recall,
    remember_limit,
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
    known = {one.key: found for one in wanted if (found := recall(one.side.run, one.key) or _before(one)) is not None}
    # Two sides may be asked the same (general questions need no prompt): the first one is.
    missing = {one.key: one for one in reversed(wanted) if one.key not in known}
    total = sum(one.question.steps for one in wanted)
    done = total - sum(one.question.steps for one in missing.values())

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
                said = examined(side, model, tokenizer)
            else:
                said = asked_anew(one, model, tokenizer, advance)
            about = {"created": time.time(), "side": side.described(), "question": one.name, "model": one.who}
            keep(side.run, one.key, said, about)
            if isinstance(one.question, ToAnswer):
                remember_limit(side.run, one.who, one.question, one.key)
            known[one.key] = said

    def asked_anew(one: _Wanted, model: Any, tokenizer: Any, advance: Callable[[int], None]) -> Said:
        """What the model says, where it is not known from a comparison with another longest answer."""
        more: dict[str, Any] = {"batch_rows": batch_rows, "advance": advance, "should_stop": should_stop}
        if isinstance(one.question, ToScore):
            return ask(model, tokenizer, one.question, **more)
        before = answered_before(one.side.run, one.who, one.question)
        open_ = [ids for ids, answer in zip(one.question.prompts, before, strict=True) if answer is None]
        advance(len(before) - len(open_))
        said = ask(model, tokenizer, replace(one.question, prompts=open_), **more)
        new = iter(said.answers or [])
        return replace(said, answers=[next(new) if answer is None else answer for answer in before])

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
        found[one.side.name][one.name] = known[one.key]
    return found


def _before(one: _Wanted) -> Said | None:
    """The answers to `one` where all of them are known from a comparison with another longest answer."""
    if not isinstance(one.question, ToAnswer):
        return None
    answers = answered_before(one.side.run, one.who, one.question)
    return Said(answers=answers) if all(answers) else None
