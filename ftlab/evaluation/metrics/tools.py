"""Row-by-row scoring of tool calls. An answer without a required call is wrong, never left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.data.tool_calls import fault_of, parts_of
from ftlab.evaluation.metrics.text import same_calls, same_value

DECISION_RULE = (
    "where a call is due, the same calls with the same arguments by value (numbers as numbers, 4 is 4.0), in any "
    "order; where none is due, no call"
)
NAME_RULE = "the names of the calls in any order; only rows in which a call is due"
ARGUMENTS_RULE = (
    "share of the arguments of the reference that a call of the same tool has with the same value; only rows in which "
    "a call with arguments is due"
)
VALID_RULE = (
    "every call is of a listed tool, and its arguments are valid under the JSON schema of that tool; only rows in "
    "which a call is due and tools are listed"
)
SPARED_RULE = "the answer holds no call; only rows with tools in which none is due"

Tools = Sequence[Mapping[str, Any]]


def decision(answer: str, reference: str, tools: Tools) -> float:
    answered, due = parts_of(answer), parts_of(reference)
    return float(not answered.broken and same_calls(answered.calls, due.calls))


def tool_name(answer: str, reference: str, tools: Tools) -> float | None:
    due = parts_of(reference).calls
    if not due:
        return None
    return float(sorted(call.name for call in parts_of(answer).calls) == sorted(call.name for call in due))


def arguments(answer: str, reference: str, tools: Tools) -> float | None:
    """Calls of the same tool are paired in order."""
    due = parts_of(reference).calls
    total = sum(len(call.arguments) for call in due)
    if not total:
        return None
    made = list(parts_of(answer).calls)
    right = 0
    for call in due:
        match = next((other for other in made if other.name == call.name), None)
        if match is not None:
            made.remove(match)
            arguments = match.arguments
            right += sum(
                key in arguments and same_value(arguments[key], value) for key, value in call.arguments.items()
            )
    return right / total


def valid(answer: str, reference: str, tools: Tools) -> float | None:
    if not parts_of(reference).calls or not tools:
        return None
    parts = parts_of(answer)
    return float(bool(parts.calls) and not parts.broken and not any(fault_of(call, tools) for call in parts.calls))


def spared(answer: str, reference: str, tools: Tools) -> float | None:
    if parts_of(reference).calls or not tools:
        return None
    parts = parts_of(answer)
    return float(not parts.calls and not parts.broken)


TOOL_MEASURES: dict[str, Callable[[str, str, Tools], float | None]] = {
    "tool_decision": decision,
    "tool_name": tool_name,
    "tool_arguments": arguments,
    "tool_valid": valid,
    "tool_spared": spared,
}
