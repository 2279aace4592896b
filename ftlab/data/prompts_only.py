"""Prompts without answers: enough for the stages in which the model answers itself and is rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.data.conversion import NO_ANSWER, Message, UnusableRow, convert, turns_of_row
from ftlab.data.formats import Detected, detect
from ftlab.errors import InputError

REWARD_STAGES = ("rloo", "grpo")
FORMAT = "prompts"

_NAMES = ("prompt", "prompts", "instruction", "question", "query", "problem", "request", "user", "human", "input")
_OPEN = {"role": "assistant", "content": ""}


def detect_prompts(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    mapping: Mapping[str, str],
    name: str,
    template: str | None,
) -> Detected:
    """As `detect`, and where no column holds answers, the column of prompts is enough. Raises InputError as it does."""
    try:
        found = detect(columns, rows, mapping, name, template)
        if found.format != "text" or "text" in mapping:
            return found
        refusal: InputError | None = None
    except InputError as error:
        refusal = error
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    column = mapping.get("prompt") or next((by_name[one] for one in _NAMES if one in by_name), None)
    if column not in columns or mapping.keys() - {"prompt", "system"} or template:
        if refusal is None:
            return found
        raise refusal
    roles = {"prompt": column}
    if system := mapping.get("system") or by_name.get("system"):
        roles["system"] = system
    unused = [one for one in columns if one not in roles.values()]
    return Detected(FORMAT, roles, f"column {column} holds prompts, and no column holds answers", 0.8, unused)


def example_of(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None
) -> tuple[list[Message], list[str]]:
    """The turns of `row` as `convert` gives them, and remarks; without an answer in it, the last turn is left empty.

    Raises UnusableRow as `convert` does.
    """
    if detected.format == FORMAT:
        # An answer that stands in for the missing one while the row is checked as every other is.
        filled = replace(detected, format="prompt_completion", columns=detected.columns | {"completion": "\0answer"})
        messages, remarks = convert({**row, "\0answer": "-"}, filled, system_prompt)
        return [*messages[:-1], dict(_OPEN)], remarks
    try:
        return convert(row, detected, system_prompt)
    except UnusableRow as problem:
        if problem.reason != NO_ANSWER:
            raise
    turns = [*turns_of_row(row, detected), {"role": "assistant", "content": "-"}]
    filled = Detected("messages", {"messages": "\0turns"}, detected.why, detected.confidence)
    messages, remarks = convert({"\0turns": turns}, filled, system_prompt)
    return [*messages[:-1], dict(_OPEN)], remarks
