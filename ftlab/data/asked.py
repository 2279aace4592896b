"""How a run's prompts were made of texts, so that whoever asks its model later asks in the same way.

The frozen rows hold finished prompts. What made them (a template around a text, the instruction of a classification, a
system prompt) is written down beside them (asked.json) and read from there by chat, API, blind test and export.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftlab.config import load_config
from ftlab.data.documents import Message
from ftlab.data.prompt_template import fields, fill, frame_of
from ftlab.files import read_json
from ftlab.run_directory import RunDirectory


@dataclass(frozen=True)
class AsTrained:
    """`template` makes a prompt of a text (None: the text is the prompt). `system` is the commonest system prompt of
    the training rows (None: most have none); `system_rows` of `rows` have it."""

    template: str | None = None
    system: str | None = None
    system_rows: int = 0
    rows: int = 0

    @property
    def columns(self) -> list[str]:
        """What the template is filled with; one column is the usual case."""
        return fields(self.template) if self.template else []

    @property
    def is_plain(self) -> bool:
        """Whether a text is asked just as it is."""
        return self.template is None and self.system is None

    def wrapped(self, text: str) -> str:
        """The prompt made of `text`; a text that is such a prompt already stays as it is.

        With several columns `text` has to be a JSON object of them; anything else stays as it is.
        """
        if self.template is None or frame_of(self.template).fullmatch(text):
            return text
        if len(self.columns) == 1:
            return fill(self.template, {self.columns[0]: text})[0]
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if not isinstance(values, dict) or not set(self.columns) <= values.keys():
            return text
        return fill(self.template, values)[0]

    def takes(self, text: str) -> bool:
        """Whether `wrapped` makes a prompt of `text` as in training."""
        return self.template is None or bool(frame_of(self.template).fullmatch(self.wrapped(text)))

    def messages(self, turns: Sequence[Message], system: str | None = None) -> list[Message]:
        """`turns` as in training: what the user says is wrapped, after `system` or the system prompt of training."""
        given = [turn for turn in turns if turn["role"] == "system"]
        said = system or self.system
        head = [{"role": "system", "content": said}] if said and not given else given
        return [
            *head,
            *(
                {**turn, "content": self.wrapped(turn["content"])} if turn["role"] == "user" else dict(turn)
                for turn in turns
                if turn["role"] != "system"
            ),
        ]

    def described(self) -> list[str]:
        """Sentences for people; empty where a text is asked as it is."""
        said = []
        if self.template:
            columns = self.columns
            what = "Your text is put into" if len(columns) == 1 else f"A JSON object with {' and '.join(columns)} fills"
            said.append(f"{what} the prompt of training: {self.template!r}.")
        if self.system:
            said.append(f"The system prompt of training comes first: {self.system!r}.")
            if self.system_rows < self.rows:
                rest = "the others have another or none"
                said.append(f"{self.system_rows} of {self.rows} training rows have it; {rest}.")
        return said

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def as_trained(template: str | None, conversations: Sequence[Sequence[Message]]) -> AsTrained:
    """What `template` and the training rows (`conversations`, without replay) say."""
    systems = Counter(
        turns[0]["content"] if turns and turns[0]["role"] == "system" else None for turns in conversations
    )
    system, count = systems.most_common(1)[0] if systems else (None, 0)
    return AsTrained(template, system, count if system else 0, len(conversations))


def asked_of(run: RunDirectory) -> AsTrained:
    """How the training rows of `run` were made. Older runs say only their system prompt."""
    found = read_json(run.asked_file)
    if not isinstance(found, dict):
        return AsTrained(system=load_config(run.config_file).data.system_prompt)
    return AsTrained(**{key: found.get(key) or default for key, default in AsTrained().as_dict().items()})
