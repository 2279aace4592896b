"""What data look like on their way through this package: messages, examples, and how a data set is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypedDict

Message = dict[str, str]  # role and content
GUESSED = 0.6  # the confidence in what no name says


class Example(TypedDict, total=False):
    """A row to learn from. `row` is its number in `source`. By the stage it has `messages` (the last one is the answer
    or the document), `prompt` with `chosen` and `rejected`, `prompt` with `completion` and `label`, or a prompt alone.

    For evaluation: `columns` are the short cells of the row beside these; `turn` counts the assistant's turns where
    a row with tools is asked at each of them.
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

    Roles: prompt, input, history, completion, system, tools; messages; chosen, rejected; text, label. `unused` are the
    other columns. `template` builds the prompt from columns, if one is used.
    """

    format: str
    columns: dict[str, str]
    why: str
    confidence: float
    unused: list[str] = field(default_factory=list)
    template: str | None = None

    @property
    def is_guess(self) -> bool:
        """Whether the columns were chosen by `guess`, not by names that tools use or a person set."""
        return self.confidence == GUESSED
