"""The shapes of data in this package: messages, examples, splits, and how a data set is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from ftlab.data.votes import Vote
from ftlab.errors import shorten

if TYPE_CHECKING:
    from ftlab.data.choices import Choices

# The texts `role` and `content`. An assistant's turn that is only context also has `weight`: 0; no other turn has the
# key. So rows without weights are the same as ever, and chat templates and servers never see it.
Message = dict[str, Any]
GUESSED = 0.6  # the confidence when no column name is conclusive


def is_trained(turn: Mapping[str, Any]) -> bool:
    """False for an assistant's turn with weight 0: the model reads it, but it is neither trained nor measured."""
    return turn.get("weight") != 0


def without_weights(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """`messages` as anything but training sees them."""
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages]


class UnusableRow(Exception):
    """This row cannot become an example; `reason` is a short phrase under which rows are counted."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class MissingColumn(UnusableRow):
    """The row lacks a column that its format needs."""

    def __init__(self, column: str):
        self.column = column
        super().__init__(f"no column {column!r}")


class WrongCell(UnusableRow):
    """A cell holds something other than the text or messages that its role needs."""

    def __init__(self, column: str, value: Any, wanted: str = "text"):
        self.column, self.value, self.wanted = column, value, wanted
        super().__init__(f"{column!r} holds {type(value).__name__}, not {wanted}")


class Example(TypedDict, total=False):
    """A training example. `row` is its number in `source`. Depending on the stage, it has `messages` (the last one is
    the answer or the document), `prompt` with `chosen` and `rejected`, `prompt` with `completion` and `label`, or only
    a prompt.

    For evaluation, `columns` are the other short cells of the row, and `turn` counts the assistant's turns if a row
    with tools is evaluated at each of them.
    """

    row: int
    source: str
    messages: list[Message]
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    completion: list[Message]
    label: bool
    columns: dict[str, Any]
    turn: int


@dataclass
class Detected:
    """How to read a data set: its format, the column of every role, why, and the confidence (0 to 1).

    Roles: prompt, input, history, completion, system, tools; messages; chosen, rejected; text, label; and for two
    answers with a vote: first, second and winner; choices (if each has a column, the first of them). `unused` are the
    other columns. `template` builds the prompt from columns, if one is used. `vote` determines which of two answers
    won, `scores` holds the scores of a pair. `scale` is the lowest and highest grade of a numeric label. `choices` is
    how multiple choice is read; `unseen` is an unused column with the choices that the answers number or letter.
    """

    format: str
    columns: dict[str, str]
    why: str
    confidence: float
    unused: list[str] = field(default_factory=list)
    template: str | None = None
    vote: Vote | None = None
    scores: Vote | None = None
    scale: tuple[float, float] | None = None
    choices: Choices | None = None
    unseen: str | None = None

    def notes(self, also_used: Sequence[str | None] = ()) -> list[str]:
        """How choices are read, and what is not used."""
        return [*([self.choices.note()] if self.choices else []), *self.not_used(also_used)]

    def not_used(self, also_used: Sequence[str | None] = ()) -> list[str]:
        """A line about the columns not used in training, except those in `also_used`. Empty if there are none."""
        names = [column for column in self.unused if column not in also_used]
        if not names:
            return []
        which = "1 column is" if len(names) == 1 else f"{len(names)} columns are"
        lines = [f"{which} not used: {shorten(', '.join(names), 200)}."]
        if self.unseen in names:
            lines.append(
                f"The answers only number or letter the choices in {self.unseen}, which the model does not see: set "
                f'--column choices="{self.unseen}" (Choices in the Data tab, choices in data.columns).'
            )
        return lines

    @property
    def is_guess(self) -> bool:
        """Whether the columns were chosen by `guess`, not by names that tools use or by a person."""
        return self.confidence == GUESSED


SPLITS = ("train", "validation", "test")

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(name: str) -> str | None:
    """train, validation or test for a common split name (`dev`, `train-00000-of-00001`); None for others."""
    return _NAMES.get(re.split(r"[-_.]", name.lower(), maxsplit=1)[0])
