"""The turns of a conversation in a cell, as any tool writes them: roles, content parts, thoughts, calls and weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.core.parsing import json_or
from ftlab.data.cells import as_number, is_missing, judgement
from ftlab.data.shapes import Message, UnusableRow, WrongCell
from ftlab.data.tool_calls import THINKING_KEYS, TOOL, TOOLS, Call, Said, call_of, parts_of
from ftlab.errors import shorten

ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "customer", "question"),
    "assistant": ("assistant", "gpt", "bot", "chatbot", "model", "ai", "chatgpt", "agent"),
    TOOL: (TOOL, "observation", "function", "function_response", "tool_response", "tool_result", "ipython"),
}


_CALL_ROLES = ("function_call", "tool_call", "tool_calls")  # ShareGPT: an assistant's call as a separate turn


_ROLE = {name: role for role, names in ROLES.items() for name in names} | {TOOLS: TOOLS}


ROLE_KEYS = ("role", "from", "speaker")


TEXT_KEYS = ("content", "value", "text", "parts")


UNREADABLE_CALL = "a tool call that cannot be read"


def are_turns(cell: Any) -> bool:
    """Whether a cell holds messages rather than an object or list that is an answer."""
    if isinstance(cell, dict):
        return any(key in cell for key in ROLE_KEYS) or isinstance(cell.get("messages"), list)
    if isinstance(cell, list | tuple):
        return not cell or any(isinstance(turn, dict) and any(key in turn for key in ROLE_KEYS) for turn in cell)
    return False


# The format of Anthropic's HH-RLHF: a whole conversation as one text.
_SPEAKER = re.compile(r"(?:^|\n\n)\s*(Human|Assistant): ?")


def is_dialogue(text: Any) -> bool:
    """Whether `text` is a conversation written as Human: ... Assistant: ..."""
    return isinstance(text, str) and text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def dialogue(text: str) -> list[Message]:
    parts = _SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": words.strip()}
        for speaker, words in zip(parts[1::2], parts[2::2], strict=True)
    ]


def has_other_weight(cell: Any) -> bool:
    """Whether an answer among the turns in `cell` has a weight that is neither 0 nor 1."""
    if isinstance(cell, str) and '"weight"' in cell:
        cell = json_or(cell, None)
    if isinstance(cell, dict):
        cell = cell["messages"] if isinstance(cell.get("messages"), list) else [cell]
    return isinstance(cell, list | tuple) and any(
        isinstance(turn, dict) and role_of(turn) == "assistant" and _is_other_weight(turn.get("weight"))
        for turn in cell
    )


def _is_other_weight(weight: Any) -> bool:
    return not (is_missing(weight) or (isinstance(weight, int | float) and weight in (0, 1)))


def is_context(turn: Mapping[str, Any]) -> bool:
    """Whether a turn as a row holds it is an assistant's with weight 0: OpenAI's JSONL marks answers that are read but
    not trained so. A text that means no, and a number below 0, count as 0."""
    weight = turn.get("weight")
    if is_missing(weight) or not (role_of(turn) == "assistant" or _role_of(turn) in _CALL_ROLES):
        return False
    number = as_number(weight)
    return number <= 0 if number is not None else judgement(weight) is False


_TURNS_AS_TEXT = re.compile(r'\s*\[\s*\{\s*"(role|from|speaker|content|value|text|parts)"\s*:')


def parsed_turns(text: str) -> Any:
    """The turns in a cell of JSON text (a conversational prompt in a CSV), else `text` unchanged."""
    turns = json_or(text, ())
    for turn in turns:
        role = next((turn[key] for key in ROLE_KEYS if key in turn), None) if isinstance(turn, dict) else None
        if not isinstance(role, str) or role.strip().lower() not in _ROLE or not any(key in turn for key in TEXT_KEYS):
            return text  # JSON as the subject of a prompt
    return turns or text


def are_typed_parts(value: Any) -> bool:
    """Whether a cell holds content parts rather than a list that is an answer."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(part, dict) and part.get("type") in _PART_TYPES for part in value)
    )


# OpenAI's content parts, of chats and of responses.
_PART_TYPES = ("text", "input_text", "output_text")


def text_of_parts(parts: Any) -> str:
    """The text of content parts, with their thoughts before it. Images and files are refused (UnusableRow)."""
    thoughts, texts = [], []
    for part in [parts] if isinstance(parts, dict) else parts:
        if isinstance(part, str):
            texts.append(part)
        elif (thought := _thought_of_part(part)) is not None:
            thoughts.append(thought)
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif not part.keys() <= {"cachePoint", "thoughtSignature"}:
            raise UnusableRow("a message that is not text")
    return Said("".join(thoughts).strip(), "".join(texts)).whole if thoughts else "".join(texts)


def _thought_of_part(part: Mapping[str, Any]) -> str | None:
    """The thought in a content part of Gemini, Anthropic, Mistral or Bedrock; None if it holds none."""
    if part.get("thought") is True:
        return str(part.get("text") or "")
    thought: Any = part.get("thinking") if part.get("type") == "thinking" else part.get("reasoningContent")
    if isinstance(thought, dict):
        thought = thought.get("reasoningText", thought)
        thought = thought.get("text") if isinstance(thought, dict) else thought
    return text_of_parts(thought) if isinstance(thought, list) else thought if isinstance(thought, str) else None


def read_turns(value: Any, column: str) -> list[Message]:
    """The turns in a cell: a list of messages, one message, or either as JSON text (as in a CSV).

    Raises UnusableRow.
    """
    if value is None:
        return []
    if isinstance(value, str):
        parsed = json_or(value, None)
        if parsed is None:
            raise WrongCell(column, value, "a list of messages")
        value = parsed
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(turn, dict) for turn in value):
        raise WrongCell(column, value, "text or a list of messages")
    turns: list[Message] = []
    for turn in _in_order_of_calls(value):
        message = _turn(turn, column)
        if _role_of(turn) in _CALL_ROLES and turns and turns[-1]["role"] == "assistant":
            turns[-1] |= message | {"content": f"{turns[-1]['content']}\n{message['content']}".lstrip()}
        else:
            turns.append(message)
    return turns


def _role_of(turn: Mapping[str, Any]) -> Any:
    role = next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)
    return role.strip().lower() if isinstance(role, str) else role


def role_of(turn: Mapping[str, Any]) -> str | None:
    """The role of a turn, whatever its tool calls it: system, user, assistant, tool or tools. None if unknown."""
    role = _role_of(turn)
    return _ROLE.get(role) if isinstance(role, str) else None


def text_key_of(turn: Mapping[str, Any]) -> str:
    """The key that holds the text of a turn."""
    return next((key for key in TEXT_KEYS if key in turn), TEXT_KEYS[0])


def _in_order_of_calls(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The replies to several calls of one turn, in the order of the calls, by their ids."""
    ordered: list[dict[str, Any]] = []
    ids: list[Any] = []
    for turn in turns:
        if isinstance(calls := turn.get("tool_calls"), list):
            ids = [call.get("id") for call in calls if isinstance(call, dict)]
        elif (own := turn.get("tool_call_id")) in ids and ordered:
            place = len(ordered)
            while (before := ordered[place - 1].get("tool_call_id")) in ids and ids.index(before) > ids.index(own):
                place -= 1
            ordered.insert(place, turn)
            continue
        ordered.append(turn)
    return ordered


def calls_in(value: Any) -> tuple[Call, ...]:
    """The calls in a cell or field: one call or a list, possibly as JSON text. Empty if it holds anything else."""
    if isinstance(value, str):
        value = json_or(value, None)
    calls = [call_of(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return tuple(call for call in calls if call) if all(calls) else ()


def _turn(turn: dict[str, Any], column: str) -> Message:
    message = _text_turn(turn, column)
    return message | {"weight": 0} if is_context(turn) else message


def _text_turn(turn: dict[str, Any], column: str) -> Message:
    role = next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)
    content = next((turn[key] for key in TEXT_KEYS if turn.get(key) is not None), "")
    if not isinstance(role, str):
        raise WrongCell(column, turn, "messages with a role (role or from) and a text (content or value)")
    if (isinstance(content, list) and all(isinstance(part, dict | str) for part in content)) or (
        isinstance(content, dict) and "parts" in turn
    ):
        content = text_of_parts(content)
    if role.strip().lower() in _CALL_ROLES:
        if not (calls := calls_in(content)):
            raise UnusableRow(UNREADABLE_CALL)
        return {"role": "assistant", "content": Said("", "", calls).whole}
    known = _ROLE.get(role.strip().lower())
    if known == TOOL and not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False, default=str)
    if not isinstance(content, str):
        raise WrongCell(column, content)
    if known is None:
        raise UnusableRow(f"unknown role {shorten(role, 40)!r}")
    return {"role": known, "content": _whole_answer(turn, content) if known == "assistant" else content}


def _whole_answer(turn: dict[str, Any], content: str) -> str:
    """What an assistant's turn says, with its thoughts and calls."""
    thought = next((turn[key] for key in THINKING_KEYS if isinstance(turn.get(key), str) and turn[key].strip()), "")
    made = turn.get("tool_calls") or turn.get("function_call")
    calls = calls_in(made) if made else ()
    if made and not calls:
        raise UnusableRow(UNREADABLE_CALL)
    if not thought and not calls:
        return content
    parts = parts_of(content)
    return Said(thought.strip() or parts.thought, parts.text, parts.calls + calls, parts.broken).whole
