"""Conversations in a blind test: scripts of the user's turns, which every contestant answers turn by turn.

A script is a prompt without answers: the system prompt, if there is one, and the user's turns. A contestant answers the
first turn, then the second with its own first answer before it, and so on. Raters see both whole conversations and vote
once. `answers.text` is all answers of a conversation together, `answers.turns` holds each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.data.shapes import Message
from ftlab.errors import InputError

_TALKS = ("system", "user", "assistant")
BETWEEN = "\n\n"  # the answers of a conversation, as one text


def script_of(messages: Sequence[Message]) -> list[Message]:
    """`messages` without their answers. Raises InputError for turns of tools, which no fixed script can hold."""
    other = next((turn["role"] for turn in messages if turn["role"] not in _TALKS), None)
    if other is not None:
        raise InputError(
            "A conversation with tools cannot be a script: what a tool returns depends on the answer before",
            given=f"a turn of {other}",
            allowed=", ".join(_TALKS),
            try_="leave these rows out",
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages if turn["role"] != "assistant"]


def user_turns(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [turn["content"] for turn in messages if turn["role"] == "user"]


def is_script(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a prompt has several turns of the user and no answers."""
    return len(user_turns(messages)) > 1 and all(turn["role"] in ("system", "user") for turn in messages)


def parts_of(script: Sequence[Message]) -> list[list[Message]]:
    """`script` in parts that each end with a turn of the user."""
    parts: list[list[Message]] = [[]]
    for turn in script:
        parts[-1].append(turn)
        if turn["role"] == "user":
            parts.append([])
    return [part for part in parts if part]


def dialogue(parts: Sequence[Sequence[Message]], texts: Sequence[str]) -> list[Message]:
    """The conversation with the answers `texts`, up to the user's next turn, if there is one."""
    turns: list[Message] = []
    for number, part in enumerate(parts[: len(texts) + 1]):
        turns += part
        turns += [{"role": "assistant", "content": text} for text in texts[number : number + 1]]
    return turns


def texts_of(text: str, turns: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The answers of a row of `answers`: one, or one for each turn of a conversation."""
    return [turn["text"] for turn in turns] if turns else [text]


def as_text(script: Sequence[Message], texts: Sequence[str]) -> str:
    """A whole conversation, for a reader who sees one text."""
    turns = dialogue(parts_of(script), texts)
    return BETWEEN.join(f"{turn['role']}: {turn['content']}" for turn in turns if turn["role"] != "system")
