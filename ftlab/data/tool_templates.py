"""Tool calls and thoughts through a base's chat template, and calls parsed back from a model's answer.

A template that supports tools (`tools=`), calls (`tool_calls`) and replies (role `tool`) writes them in its own form.
Any other template gets a preamble that writes them as Hermes and Qwen 2.5 do: tools in the system prompt (or the first
question, if the template rejects system prompts), a call as <tool_call>{...}</tool_call>, and a reply as a user turn,
<tool_response>...</tool_response>. It is saved with a run, so that every program that serves the result prompts it with
tools as it was trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.core.endpoint import Reply, Request
from ftlab.core.parsing import json_or
from ftlab.data.shapes import Message, is_trained, without_weights
from ftlab.data.tool_calls import (
    TOOL,
    TOOLS,
    Call,
    Said,
    call_of,
    lists_tools_itself,
    parts_of,
    tools_of,
)
from ftlab.errors import InputError

# The prefix of a template that supports thinking: the default for callers that do not set it.
SETTLED = re.compile(
    r"^\{%- if enable_thinking is not defined %\}\{%- set enable_thinking = (?:true|false) %\}\{%- endif %\}"
)
_MARK = "{#- ftlab: tools in the form of Hermes -#}"
# The Hermes tags with little text around them: these tokens are in every row.
_INSTRUCTION = (
    "You can call these tools:\n<tools>",
    '</tools>\nTo call one, write:\n<tool_call>\n{"name": <name>, "arguments": <JSON object>}\n</tool_call>',
)
_BEGINNING = """\
{%- set ftlab = namespace(turns=[], replies='', tools='') -%}
{%- if tools -%}
{%- set ftlab.tools = HEAD -%}
{%- for tool in tools -%}{%- set ftlab.tools = ftlab.tools + '\\n'
    + ((tool['function'] or tool) | tojson) -%}{%- endfor -%}
{%- set ftlab.tools = ftlab.tools + '\\n' + TAIL -%}
{%- endif -%}
{%- for message in messages -%}
{%- set said = message['content'] if message['content'] is string else '' -%}
{%- if message['role'] == 'tool' -%}
{%- set ftlab.replies = ftlab.replies + ('\\n' if ftlab.replies else '')
    + '<tool_response>\\n' + said + '\\n</tool_response>' -%}
{%- if loop.last or loop.nextitem['role'] != 'tool' -%}
{%- set ftlab.turns = ftlab.turns + [{'role': 'user', 'content': ftlab.replies}] -%}
{%- set ftlab.replies = '' -%}
{%- endif -%}
{%- elif message['role'] == 'assistant' and message['tool_calls'] -%}
{%- set calls = namespace(text=said) -%}
{%- for call in message['tool_calls'] -%}
{%- set made = call['function'] or call -%}
{%- set given = made['arguments'] if made['arguments'] is string else (made['arguments'] | tojson) -%}
{%- set calls.text = calls.text + ('\\n' if calls.text else '') + '<tool_call>\\n{"name": ' + (made['name'] | tojson)
    + ', "arguments": ' + given + '}\\n</tool_call>' -%}
{%- endfor -%}
{%- set ftlab.turns = ftlab.turns + [{'role': 'assistant', 'content': calls.text}] -%}
{%- elif message['role'] == 'ROLE' and ftlab.tools -%}
{%- set ftlab.turns = ftlab.turns + [{'role': 'ROLE', 'content': JOINED}] -%}
{%- set ftlab.tools = '' -%}
{%- else -%}
{%- set ftlab.turns = ftlab.turns + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- if ftlab.tools -%}
{%- set ftlab.turns = [{'role': 'ROLE', 'content': ftlab.tools}] + ftlab.turns -%}
{%- endif -%}
{%- set messages = ftlab.turns -%}
{%- set tools = none -%}
"""
_IN_SYSTEM = ("system", "said + '\\n\\n' + ftlab.tools")
_IN_QUESTION = ("user", "ftlab.tools + '\\n\\n' + said")


def with_tools(template: str, *, system: bool = True) -> str:
    """`template` with the preamble that writes tools, calls and replies. `system`: it accepts a system prompt."""
    if _MARK in template:
        return template
    role, joined = _IN_SYSTEM if system else _IN_QUESTION
    head, tail = (_quoted(text) for text in _INSTRUCTION)
    beginning = _BEGINNING.replace("ROLE", role).replace("JOINED", joined).replace("HEAD", head).replace("TAIL", tail)
    settled = match.group() if (match := SETTLED.match(template)) else ""
    return settled + _MARK + beginning + template[len(settled) :]


def go_tools() -> tuple[str, str]:
    """The text before and after the list of tools in the system prompt, for a template in another language."""
    return _INSTRUCTION


def writes_tools(template: str) -> bool:
    """Whether `with_tools` made this template."""
    return with_tools("") in template


def without_tools(template: str) -> str:
    """`template` without what `with_tools` added."""
    for system in (True, False):
        template = template.replace(with_tools("", system=system), "", 1)
    return template


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


@dataclass(frozen=True)
class ToolFacts:
    """How a base's template writes tools and thoughts. `own`: it writes them itself, in a form that can be parsed
    back; otherwise `template` is the one to use for them. `field`: it takes thoughts as a separate field
    (`reasoning_content`). `kept`: thoughts reach the model at all. `form`: how it writes a call (None: as ftlab
    does)."""

    own: bool
    template: str | None
    field: bool
    kept: bool
    form: CallForm | None = None


Rendering = Callable[..., str]  # (messages, tools=..., chat_template=..., add_generation_prompt=...) -> text
_NAME, _WORD, _REPLY, _THOUGHT = "look_up", "heron", "a grey bird", "birds with long legs"
_PARAMETERS = {
    "type": "object",
    "properties": {"word": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["word"],
}
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "Looks up a word.", "parameters": _PARAMETERS},
}
_ASKED = {"role": "user", "content": "seven"}


def examine(template: str, render: Rendering, plain: Callable[[str], str], *, system: bool) -> ToolFacts:
    """The facts about `template`. `render` raises InputError if it refuses. `plain` gives a text as a model's answer is
    read, without special tokens. `system`: it accepts a system prompt."""
    calling = turns_for([*_call_turns(1), {"role": TOOL, "content": _REPLY}], field=False)
    own = _holds(render, calling, [_NAME, _WORD, _REPLY]) and _holds(render, [_ASKED], [_NAME], tools=[_TOOL])
    field = _holds(render, [_ASKED, _thoughtful(field=True)], [_THOUGHT])
    kept = field or _holds(render, [_ASKED, _thoughtful(field=False)], [_THOUGHT])
    form, readable = _form_of(render, plain) if own else (None, False)
    if not readable:
        return ToolFacts(False, with_tools(template, system=system), field, kept)
    return ToolFacts(True, None, field, kept, form)


def _thoughtful(*, field: bool) -> dict[str, Any]:
    return _turn({"role": "assistant", "content": f"<think>\n{_THOUGHT}\n</think>\n\nfourteen"}, field=field)


def _call_turns(calls: int) -> list[dict[str, str]]:
    made = tuple(Call(_NAME, {"word": _WORD, "count": 70 + number}) for number in range(calls))
    return [_ASKED, {"role": "assistant", "content": Said("", "", made).whole}]


def _holds(render: Rendering, turns: list[dict[str, Any]], texts: Sequence[str], **settings: Any) -> bool:
    try:
        text = render(turns, **settings)
    except InputError:
        return False
    return all(wanted in text for wanted in texts)


def turns_for(messages: Sequence[dict[str, str]], *, field: bool) -> list[dict[str, Any]]:
    """`messages` as a chat template expects them: calls and thoughts as fields, without the `tools` turn. Call ids are
    counted and nine characters long, as Mistral requires."""
    turns: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    number = 0
    for message in messages:
        if message["role"] == TOOLS:
            continue
        turn = _turn(message, field=field)
        if "tool_calls" in turn:
            waiting = []
            for call in turn["tool_calls"]:
                number += 1
                call["id"] = f"call{number:05}"
                waiting.append((call["id"], call["function"]["name"]))
        elif turn["role"] == TOOL and waiting:
            turn["tool_call_id"], turn["name"] = waiting.pop(0)
        turns.append(turn)
    return turns


def openai_form(messages: Sequence[Message], *, weights: bool = False) -> dict[str, Any]:
    """`messages` for OpenAI and compatible servers: {"messages": [...]}, and "tools" if there are any. Arguments are
    JSON text there, and the content next to calls may be empty. Thoughts have no place. `weights` belong in a training
    file; servers refuse them."""
    turns = turns_for(without_weights(messages), field=True)
    if weights:
        rest = (message for message in messages if message["role"] != TOOLS)
        turns = [turn if is_trained(own) else turn | {"weight": 0} for turn, own in zip(turns, rest, strict=True)]
    for turn in turns:
        for key in ("reasoning_content", "reasoning", "thinking"):
            turn.pop(key, None)
        for call in turn.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        if "tool_calls" in turn and not turn["content"]:
            turn["content"] = None
        if turn["role"] == TOOL:
            turn.pop("name", None)
    tools = tools_of([message for message in messages if message["role"] == TOOLS])
    return {"messages": turns} | ({"tools": tools} if tools else {})


def _turn(message: dict[str, str], *, field: bool) -> dict[str, Any]:
    """One message with its calls, and with `field` its thoughts, as fields. Unparsable calls stay text."""
    if message["role"] != "assistant":
        return dict(message)
    parts = parts_of(message["content"])
    if parts.broken or not (parts.calls or parts.thought):
        return dict(message)
    text = parts.text if field or not parts.thought else Said(parts.thought, parts.text).whole
    turn: dict[str, Any] = {"role": "assistant", "content": text}
    if field and parts.thought:
        turn |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), parts.thought)
    if parts.calls:
        turn["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in parts.calls
        ]
    return turn


def template_input(messages: Sequence[dict[str, str]], facts: ToolFacts) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """`messages` as a chat template expects them, and its other arguments (tools, chat_template)."""
    if lists_tools_itself(messages):
        return _as_text(messages, facts), {}
    more: dict[str, Any] = {"tools": tools} if (tools := tools_of(messages)) else {}
    if facts.template is not None:
        more["chat_template"] = facts.template
    return turns_for(messages, field=facts.field), more


def _as_text(messages: Sequence[dict[str, str]], facts: ToolFacts) -> list[dict[str, Any]]:
    """Calls stay in the form of the row's own system prompt, and replies become user turns."""
    turns: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        role, text = message["role"], message["content"]
        if role == TOOL:
            text = f"<tool_response>\n{text}\n</tool_response>"
            if before == TOOL:
                turns[-1]["content"] += f"\n{text}"
            else:
                turns.append({"role": "user", "content": text})
        elif role == "assistant" and facts.field and (parts := parts_of(text)).thought:
            calls = Said("", parts.text, parts.calls, parts.broken).whole
            fields = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), parts.thought)
            turns.append({"role": role, "content": calls, **fields})
        else:
            turns.append(dict(message))
        before = role
    return turns


# By a marker in a rendered call, in this order. Hermes, which has only the tag, comes last.
_PARSERS = {
    "<function=": "qwen3_coder",
    "<arg_key>": "glm45",
    "[TOOL_CALLS]": "mistral",
    '"parameters": ': "llama3_json",
    "<tool_call>": "hermes",
}


def vllm_parser(rendered: str) -> str | None:
    """vLLM's --tool-call-parser for the call form in `rendered`, a conversation with one call. None if unknown."""
    return next((name for mark, name in _PARSERS.items() if mark in rendered), None)


@dataclass(frozen=True)
class CallForm:
    """How a template writes calls: `before` the first name, `between` name and arguments, and from the arguments to the
    `next` name. Arguments are a JSON object, or, with `middle`, keys and values one by one: `between` is before the
    first key, `middle` between key and value, `after` between a value and the next key, `end` after the last value."""

    before: str
    between: str
    next: str | None = None
    middle: str | None = None
    after: str = ""
    end: str = ""

    def read(self, text: str) -> str:
        """A model's answer with its calls as ftlab writes them. Unchanged if it has none."""
        match = re.search(_loosely(self.before), text)
        if match is None:
            return text
        calls: list[Call] = []
        place, end = match.end(), 0
        while (read := self._call(text, place)) is not None:
            call, end = read
            calls.append(call)
            following = re.compile(_loosely(self.next)).match(text, end) if self.next else None
            if following is None:
                break
            place = following.end()
        if not calls:
            return text
        thought = parts_of(text[: match.start()])
        return Said(thought.thought, thought.text.strip(), tuple(calls)).whole

    def _call(self, text: str, place: int) -> tuple[Call, int] | None:
        named = re.compile(r"([\w.\-]+)" + _loosely(self.between)).match(text, place)
        if named is None:
            return None
        if self.middle is None:
            try:
                arguments, end = json.JSONDecoder().raw_decode(text, named.end())
            except ValueError:
                return None
            return (Call(named[1], arguments), end) if isinstance(arguments, dict) else None
        pair = re.compile(
            rf"([\w.\-]+){_loosely(self.middle)}(.*?)(?:(?P<more>{_loosely(self.after)})|{_loosely(self.end)}|\Z)", re.S
        )
        arguments, end, more = {}, named.end(), True
        while more and (match := pair.match(text, end)):
            arguments[match[1]] = json_or(match[2].strip(), match[2].strip().strip("\"'"))
            end, more = match.end(), match["more"] is not None
        return (Call(named[1], arguments), end) if arguments else None


def _loosely(literal: str | None) -> str:
    return r"\s*".join(re.escape(part) for part in re.split(r"\s+", literal or ""))


def _form_of(render: Rendering, plain: Callable[[str], str]) -> tuple[CallForm | None, bool]:
    """The form of calls, inferred from two that the template renders, and whether calls can be parsed back. None: as
    ftlab writes them."""
    single = _answer_in(render, plain, 1)
    wanted = parts_of(_call_turns(1)[-1]["content"]).calls
    if single is None:
        return None, False
    if parts_of(single).calls == wanted:
        return None, True
    form = _learned(single, _answer_in(render, plain, 2))
    read = parts_of(form.read(single)).calls if form else ()
    return form, [(c.name, c.arguments) for c in read] == [(c.name, c.arguments) for c in wanted]


def _answer_in(render: Rendering, plain: Callable[[str], str], calls: int) -> str | None:
    """The rendered calls only."""
    turns = turns_for(_call_turns(calls), field=False)
    try:
        asked = render(turns[:1], tools=[_TOOL], add_generation_prompt=True)
        whole = render(turns, tools=[_TOOL])
    except InputError:
        return None
    if not whole.startswith(asked):
        asked = render(turns[:1], tools=[_TOOL])
    return plain(whole[len(asked) :]) if whole.startswith(asked) else None


def _learned(single: str, double: str | None) -> CallForm | None:
    before, named, rest = single.partition(_NAME)
    if not named:
        return None
    before = before[-40:].lstrip()
    following = None
    if match := re.search(r"\{\s*\"word\"\s*:\s*\"heron\"\s*,\s*\"count\"\s*:\s*70\s*\}", rest):
        if double and (second := re.search(r"\"count\"\s*:\s*70\s*\}(.*?)" + _NAME, double, re.S)):
            following = second[1]
        return CallForm(before, rest[: match.start()], following)
    match = re.search(r"(.*?)word(.*?)\"?heron\"?(.*?)count(.*?)70(.*)", rest, re.S)
    if match is None or match[2].strip() != match[4].strip():
        return None
    if double and (second := re.search(r"count.*?70(.*?)" + _NAME, double, re.S)):
        following = second[1]
    # The end is what two calls share after the last value, or the first word of it.
    end = match[5].strip().split("\n")[0]
    if following and following.strip().startswith(end):
        following = following.strip()[len(end) :]
    return CallForm(before, match[1], following, match[2], match[3], end)


def request_of(key: str, messages: Sequence[Message]) -> Request:
    """The request for `messages` to a model behind an address."""
    form = openai_form(messages)
    return Request(key, form["messages"], form.get("tools"))


def text_of_reply(reply: Reply) -> str:
    """The reply of a model behind an address, with its calls as ftlab writes them."""
    calls = tuple(call for made in reply.calls if (call := call_of(made)))
    return Said("", reply.text, calls).whole if calls else reply.text
