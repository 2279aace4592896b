"""The base with a prompt instead of training: a system prompt, and training examples as earlier turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.data.conversion import Message
from ftlab.errors import InputError
from ftlab.run_directory import RunDirectory


@dataclass(frozen=True)
class Prompting:
    """A system prompt (None: the one of the data stays) and whole examples that stand before each question."""

    system: str | None
    examples: tuple[tuple[Message, ...], ...]

    def described(self) -> str:
        count = len(self.examples)
        parts = ["system prompt"] if self.system else []
        parts += [f"{count} {'example' if count == 1 else 'examples'}"] if count else []
        return " and ".join(parts)

    def before(self, messages: Sequence[Message], count: int) -> list[Message]:
        """`messages` with the system prompt and the first `count` examples before them."""
        given = [turn for turn in messages if turn["role"] == "system"]
        system = [{"role": "system", "content": self.system}] if self.system else given
        shown = [turn for example in self.examples[:count] for turn in example]
        return [*system, *shown, *(turn for turn in messages if turn["role"] != "system")]

    def fitted(self, messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> tuple[list[Message], int]:
        """`messages` with as many examples as fit, and their number."""
        for count in range(len(self.examples), 0, -1):
            prompted = self.before(messages, count)
            if fits(prompted):
                return prompted, count
        return self.before(messages, 0), 0


def prompting_of(run: RunDirectory, config: RunConfig) -> Prompting:
    """The prompt that `config.evaluation` describes, with examples from the training split of `run`.

    Examples are drawn with seed 0, and such that different answers come first: of a classification one of each label
    before a second of any. Raises InputError when there is neither a system prompt nor an example.
    """
    from ftlab.data.splits import read_split

    settings = config.evaluation
    rows = [row for row in read_split(run, "train") if row.get("source") != "replay" and row.get("label") is not False]
    if settings.system_prompt is None and not (settings.examples and rows):
        raise nothing_to_prompt_with()
    random.Random(0).shuffle(rows)
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, Any]] = []
    for place, row in enumerate(rows):
        answer = row["messages"][-1]["content"]
        ranked.append((seen.get(answer, 0), place, row))
        seen[answer] = seen.get(answer, 0) + 1
    chosen = [row for *_, row in sorted(ranked, key=lambda one: one[:2])[: settings.examples]]
    turns = tuple(
        tuple({"role": t["role"], "content": t["content"]} for t in row["messages"] if t["role"] != "system")
        for row in chosen
    )
    return Prompting(settings.system_prompt, turns)


def nothing_to_prompt_with() -> InputError:
    return InputError(
        "There is nothing to prompt the base with",
        given="no evaluation.system_prompt and evaluation.examples=0",
        try_="give a system prompt, or 1 example or more",
    )
