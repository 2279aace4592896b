"""OpenAI's chat format for fine-tuning, checked as its own data preparation guide does.

Source: OpenAI Cookbook, "Data preparation and analysis for chat model fine-tuning", and the guide to supervised
fine-tuning (at least 10 examples; messages with role and content; the last one by the assistant).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ftlab.errors import shorten

FEWEST_ROWS = 10
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}
_ROW_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}


def problems_of(rows: Iterable[Any], *, whole_file: bool = True) -> list[str]:
    """What is wrong, one sentence per row (counted from 1); with `whole_file` also when there are too few rows."""
    found, count = [], 0
    for number, row in enumerate(rows, start=1):
        count = number
        problem = _problem_of_row(row)
        if problem:
            found.append(f"row {number}: {problem}")
    if whole_file and count < FEWEST_ROWS:
        found.append(f"{count} rows, and OpenAI asks for at least {FEWEST_ROWS}")
    return found


def _problem_of_row(row: Any) -> str | None:
    if not isinstance(row, Mapping):
        return "not an object"
    unknown = row.keys() - _ROW_KEYS
    if unknown:
        return f"the key {shorten(sorted(unknown)[0], 40)!r} is not known to OpenAI"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "no list of messages"
    for place, message in enumerate(messages, start=1):
        problem = _problem_of_message(message)
        if problem:
            return f"message {place} {problem}"
    if messages[-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    if all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        return "no answer is trained: every one has weight 0"
    return None


def _problem_of_message(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return "is not an object"
    unknown = message.keys() - _KEYS
    if unknown:
        return f"has the key {shorten(sorted(unknown)[0], 40)!r}, which OpenAI does not know"
    role = message.get("role")
    if role not in _ROLES:
        return f"has the role {shorten(role, 40)!r}"
    content = message.get("content")
    calls = role == "assistant" and ("tool_calls" in message or "function_call" in message)
    if not calls and not (isinstance(content, str) and content.strip()) and not _is_parts(content):
        return "has no content"
    if "weight" in message and (role != "assistant" or message["weight"] not in (0, 1)):
        return "has a weight that is not 0 or 1 on an answer"
    return None


def _is_parts(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in content)
    )
