"""The shapes of data in this package: messages, examples, and how a data set is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypedDict

from ftlab.data.votes import Vote
from ftlab.errors import shorten

Message = dict[str, str]  # role and content
GUESSED = 0.6  # the confidence when no column name is conclusive


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
    answers with a vote: first, second and winner. `unused` are the other columns. `template` builds the prompt from
    columns, if one is used. `vote` determines which of two answers won, `scores` holds the scores of a pair. `scale` is
    the lowest and highest grade of a numeric label.
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

    def not_used(self, also_used: Sequence[str | None] = ()) -> list[str]:
        """A line about the columns not used in training, except those in `also_used`. Empty if there are none."""
        names = [column for column in self.unused if column not in also_used]
        if not names:
            return []
        which = "1 column is" if len(names) == 1 else f"{len(names)} columns are"
        return [f"{which} not used: {shorten(', '.join(names), 200)}."]

    @property
    def is_guess(self) -> bool:
        """Whether the columns were chosen by `guess`, not by names that tools use or by a person."""
        return self.confidence == GUESSED
