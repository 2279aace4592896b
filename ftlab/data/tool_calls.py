"""Tool calls and thoughts as text: how a row's tools, calls, replies and reasoning become messages, and back.

Everywhere in ftlab a message is a role and a text. Tools are a turn with the role `tools` whose text is their JSON
list. A call is part of an assistant's text, in the form of Hermes and Qwen, after the thoughts and the visible text:

    <think>
    The person wants to fly on Friday.
    </think>

    One moment.
    <tool_call>
    {"name": "find_flight", "arguments": {"day": "Friday"}}
    </tool_call>

So a frozen row holds its arguments exactly, whatever their types, and every base is compared on the same text. The chat
template of a base writes them in its own form (`ftlab.data.tool_templates`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ftlab.core.parsing import json_or

TOOLS = "tools"  # the role of the turn that lists the tools
TOOL = "tool"  # the role of a tool's reply
THINKING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>(.*?)(?:</think>|\Z)", re.DOTALL)
_THOUGHT_ENDS = re.compile(r"\A(.*?)</think>", re.DOTALL)
# What other models write around their thoughts, at the beginning of an answer. Not before <answer>: that is a form of
# answers that rewards ask for, and is trained as it stands.
_SPELLED = re.compile(
    r"\A\s*(?:<(?P<tag>think|thinking|thoughts?|reasoning|seed:think)>(?P<a>.*?)</(?P=tag)>"
    r"|<\|begin_of_thought\|>(?P<b>.*?)<\|end_of_thought\|>"
    r"|\[THINK\](?P<c>.*?)\[/THINK\]"
    r"|◁think▷(?P<d>.*?)◁/think▷"
    # gpt-oss (harmony): the template opens the first channel after <|start|>assistant.
    r"|(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>(?P<e>.*?)(?:<\|end\|>)?"
    r"(?=<\|start\|>|<\|channel\|>))(?!\s*<answer\b)\s*",
    re.DOTALL | re.IGNORECASE,
)
_FINAL = re.compile(
    r"\A\s*(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>(.*?)(?:<\|return\|>|<\|end\|>)?\s*\Z", re.DOTALL
)
_SOLUTION = re.compile(r"\A<\|begin_of_solution\|>\s*(.*?)\s*(?:<\|end_of_solution\|>)?\s*\Z", re.DOTALL)
_LISTED = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """One call: the `name` of the tool and its `arguments`, an object."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        value = {"name": self.name, "arguments": self.arguments}
        return f"<tool_call>\n{json.dumps(value, ensure_ascii=False)}\n</tool_call>"


@dataclass(frozen=True)
class Said:
    """The parts of an assistant's text: its thoughts, the visible text, its calls, and calls that cannot be parsed."""

    thought: str
    text: str
    calls: tuple[Call, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """All parts as one text. Broken calls are left as written."""
        calls = [call.text for call in self.calls] + [f"<tool_call>\n{text}\n</tool_call>" for text in self.broken]
        thought = f"<think>\n{self.thought}\n</think>\n\n" if self.thought else ""
        return thought + "\n".join(filter(None, [self.text, *calls]))


def parts_of(text: str) -> Said:
    """The parts of an assistant's `text`. Thoughts that the template opened before the answer end at </think>.
    Truncated thoughts and calls extend to the end."""
    thought, rest = "", text
    if match := _THOUGHT.match(text) or _THOUGHT_ENDS.match(text):
        thought, rest = match[1].strip(), text[match.end() :]
    if "<tool_call>" not in rest:
        return Said(thought, rest.strip() if match else rest)
    calls: list[Call] = []
    broken: list[str] = []
    for match in _CALL.finditer(rest):
        many = _calls_in(match[1])
        calls += many
        broken += [] if many else [match[1]]
    return Said(thought, _CALL.sub("", rest).strip(), tuple(calls), tuple(broken))


def with_known_thought(text: str) -> str:
    """`text` with the thoughts at its beginning between <think> tags, however their model spelled them."""
    if _THOUGHT.match(text):
        return text  # spelled as here
    if final := _FINAL.match(text):
        return final[1]  # gpt-oss without a thought
    match = _SPELLED.match(text)
    if match is None:
        return text
    rest = text[match.end() :]
    if solution := _SOLUTION.match(rest) or _FINAL.match(rest):
        rest = solution[1]
    elif match["e"] is not None:
        return text  # a call in a channel of its own
    thought = next(filter(None, (match[name] for name in "abcde")), "")
    return f"<think>\n{thought.strip()}\n</think>\n\n{rest}"


def spoken(text: str) -> str:
    """`text` without thoughts: what is scored, judged and shown as the answer."""
    text = with_known_thought(text)
    if "<think>" not in text and "</think>" not in text:
        return text
    parts = parts_of(text)
    return Said("", parts.text, parts.calls, parts.broken).whole


def _calls_in(text: str) -> list[Call]:
    value = json_or(text, None)
    calls = [call_of(item) for item in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call] if all(calls) else []


def call_of(value: Any) -> Call | None:
    """The call in a JSON `value`: {"name", "arguments"}, or the same inside "function", with arguments as an object or
    JSON text. None for anything else."""
    if isinstance(value, str):
        value = json_or(value, None)
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    arguments: Any = next(
        (value[key] for key in ("arguments", "parameters", "input") if value.get(key) is not None), {}
    )
    if isinstance(arguments, str):
        arguments = json_or(arguments, None) if arguments.strip() else {}
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
        return None
    return Call(name, arguments)


def tools_text(value: Any) -> str | None:
    """The text of a `tools` turn: a JSON list of {"type": "function", "function": {...}}; "" without tools. `value` is
    such a list, or one of bare functions, possibly as JSON text. None if it is anything else."""
    if value is None or value in ("", "[]", "null"):
        return ""
    if isinstance(value, str):
        value = json_or(value, None)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    tools = []
    for item in value:
        if isinstance(item, str):
            item = json_or(item, None)
        function = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None
        # Parquet gives every tool the keys of all others, with null values.
        tools.append({"type": "function", "function": _without_blanks(function)})
    return json.dumps(tools, ensure_ascii=False) if tools else ""


def _without_blanks(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_blanks(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None or key in ("default", "const")}
    return [_without_blanks(item) for item in value] if isinstance(value, list | tuple) else value


def tools_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tools of a conversation, from its `tools` turn or the <tools> tag in its system prompt (Hermes)."""
    for message in messages:
        if message["role"] == TOOLS:
            return json.loads(message["content"])
        if message["role"] == "system":
            # The Hermes prompt mentions the tag, "within <tools></tools> XML tags", before it lists the tools in it.
            for listed in _LISTED.findall(message["content"]):
                lines = json_or(listed, None) or [json_or(line, None) for line in listed.splitlines()]
                if text := tools_text(lines):
                    return json.loads(text)
    return []


def lists_tools_itself(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the row's own system prompt names the tools and the form of calls. It is then left unchanged."""
    return any(m["role"] == "system" and "<tools>" in m["content"] for m in messages) and not any(
        m["role"] == TOOLS for m in messages
    )


def uses_tools(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the conversation lists tools, calls one or holds a tool reply."""
    return any(
        message["role"] in (TOOLS, TOOL) or (message["role"] == "assistant" and "<tool_call>" in message["content"])
        for message in messages
    )


def tools_by_row(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[str, ...] | None:
    """The tools of each conversation as JSON text ("" if it has none). None if no conversation lists or calls tools."""
    if not any(map(uses_tools, conversations)):
        return None
    listed = [tools_of(messages) for messages in conversations]
    return tuple(json.dumps(tools) if tools else "" for tools in listed)


def thinks(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an answer of the conversation holds thoughts."""
    return any(m["role"] == "assistant" and m["content"].lstrip().startswith("<think>") for m in messages)


def most_think(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    """Whether most of the conversations hold thoughts. If so, a base with a thinking mode trains and answers in it."""
    return bool(conversations) and 2 * sum(map(thinks, conversations)) > len(conversations)


def next_turn(history: Sequence[Mapping[str, Any]], text: str) -> dict[str, str]:
    """What a person types after `history`: a tool reply if the last answer called a tool, else a question."""
    called = bool(history) and history[-1]["role"] == "assistant" and bool(parts_of(history[-1]["content"]).calls)
    return {"role": TOOL if called else "user", "content": text}


def without_blank_arguments(call: Call, tools: Sequence[Mapping[str, Any]]) -> Call:
    """`call` without the arguments that Parquet added for other calls: null values that its tool does not define, or
    does not allow."""
    if None not in call.arguments.values() or (schema := schema_of(call.name, tools)) is None:
        return call
    known = schema.get("properties") or {}
    kept = {
        key: value
        for key, value in call.arguments.items()
        if value is not None or (key in known and is_valid_argument(value, known[key]))
    }
    return Call(call.name, kept)


def schema_of(name: str, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The JSON schema of the arguments of the tool `name` (an empty one allows anything). None if it is not listed."""
    for tool in tools:
        function = tool.get("function", tool)
        if function.get("name") == name:
            return function.get("parameters") or {}
    return None


def is_valid_argument(value: Any, schema: Any) -> bool:
    return isinstance(schema, dict) and not _errors(json.dumps(schema), value)


def fault_of(call: Call, tools: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with `call` given the listed `tools`: "unlisted", or the first schema violation in words. None if
    it is valid, or if the schema itself cannot be read."""
    schema = schema_of(call.name, tools)
    if schema is None:
        return UNLISTED
    errors = _errors(json.dumps(schema), call.arguments)
    return errors[0] if errors else None


UNLISTED = "unlisted"


def _errors(schema: str, value: Any) -> list[str]:
    validator = _validator(schema)
    if validator is None:
        return []
    try:
        return [
            f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {error.message}"
            for error in validator.iter_errors(value)
        ]
    except Exception as error:
        from referencing.exceptions import Unresolvable

        if isinstance(error, Unresolvable | RecursionError):
            return []
        raise


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    """A validator that fetches nothing. None if the schema itself is invalid."""
    from jsonschema import SchemaError, validators
    from referencing import Registry

    value = json.loads(schema)
    kind = validators.validator_for(value, default=validators.Draft202012Validator)
    try:
        kind.check_schema(value)
    except SchemaError:
        return None
    return kind(value, registry=Registry())
