"""The examples that the checks look at: every row of the source, converted once, as parallel lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from ftlab.data.conversion import Message, UnusableRow, convert, turns_of_row
from ftlab.data.documents import is_document
from ftlab.data.formats import Detected
from ftlab.data.load import Loaded
from ftlab.data.watch import CHUNK, Progress, Stopped, Watch

__all__ = ["CHUNK", "Examples", "Progress", "Stopped", "Watch", "gather", "role_problem"]


@dataclass
class Examples:
    """Usable rows as parallel lists: `split`, `row` (index in that split of the source), `turns`.

    `refused` are (split, row, reason) of rows that cannot become an example; `disordered` are (split, row, problem) of
    rows whose roles are out of order, usable or not. `looked_at` counts all rows that were read.
    """

    split: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    turns: list[list[Message]] = field(default_factory=list)
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    disordered: list[tuple[str, int, str]] = field(default_factory=list)
    rows: int = 0
    looked_at: int = 0

    def __len__(self) -> int:
        return len(self.row)

    def place(self, position: int) -> tuple[str, int]:
        return self.split[position], self.row[position]

    @cached_property
    def prompts(self) -> list[str]:
        """What the user said before the last answer (with earlier answers), without the system prompt; plain text."""
        return [
            turns[0]["content"]
            if len(turns) == 2 or is_document(turns)
            else "\n".join(turn["content"] for turn in turns[:-1] if turn["role"] != "system")
            for turns in self.turns
        ]

    @cached_property
    def answers(self) -> list[str]:
        """The last answers; of plain text, which has none, empty texts."""
        return ["" if is_document(turns) else turns[-1]["content"] for turns in self.turns]

    @cached_property
    def are_documents(self) -> bool:
        """Whether this is plain text, without prompts and answers."""
        return bool(self.turns) and is_document(self.turns[0])

    def positions(self, split: str) -> list[int]:
        return [position for position, name in enumerate(self.split) if name == split]


def gather(
    loaded: Loaded, detected: Detected, system_prompt: str | None, most_rows: int | None, watch: Watch
) -> tuple[Examples, list[str]]:
    """The examples of all splits, and notes. Of more than `most_rows` rows every n-th is taken."""
    examples, notes = Examples(rows=loaded.rows), []
    step = 1 if not most_rows else max(1, -(-loaded.rows // most_rows))
    if step > 1:
        notes.append(f"One row in {step} was checked, as there are {loaded.rows:,}.")
    done = 0
    for name, rows in loaded.splits.items():
        split = "train" if name == loaded.main else name
        numbered = enumerate(rows) if step == 1 else ((index, rows[index]) for index in range(0, len(rows), step))
        for index, row in numbered:
            if done % CHUNK == 0:
                watch.at(done, loaded.rows // step)
            done += 1
            examples.looked_at += 1
            _take(examples, split, index, row, detected, system_prompt)
    watch.at(done, done)
    return examples, notes


def _take(examples: Examples, split: str, index: int, row: Any, detected: Detected, system_prompt: str | None) -> None:
    try:
        turns = turns_of_row(row, detected)
    except UnusableRow as problem:
        examples.refused.append((split, index, problem.reason))
        return
    problem = role_problem(turns)
    if problem:
        examples.disordered.append((split, index, problem))
    try:
        messages, _ = convert(row, detected, system_prompt)
    except UnusableRow as refused:
        if not (problem and refused.reason in ("no assistant turn", "empty prompt")):
            examples.refused.append((split, index, refused.reason))
        return
    examples.split.append(split)
    examples.row.append(index)
    examples.turns.append(messages)


def role_problem(turns: Sequence[Message]) -> str | None:
    """What is wrong with the order of the roles, in words; None when nothing is."""
    if is_document(turns):
        return None
    roles = [turn["role"] for turn in turns]
    if len(roles) == 2 and roles == ["user", "assistant"]:
        return None
    if "user" not in roles:
        return "no user turn"
    if "assistant" not in roles:
        return "no assistant turn"
    if "system" in roles[1:]:
        return (
            "two system turns" if roles[0] == "system" and roles.count("system") > 1 else "a system turn in the middle"
        )
    spoken = [role for role in roles if role != "system"]
    if spoken[0] == "assistant":
        return "the assistant speaks first"
    for one, other in pairwise(spoken):
        if one == other:
            return f"two {one} turns in a row"
    if spoken[-1] == "user":
        return "the last turn has no answer"
    return None
