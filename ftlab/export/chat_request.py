"""Requests in OpenAI's form (`POST /v1/chat/completions`): what they may hold, and what becomes of them here.

What this server cannot do is refused, never ignored: a program that asks for JSON by a schema must not take free text
for it. Source: OpenAI's API reference, "Create chat completion" (2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from ftlab.core.parsing import parse_json
from ftlab.data.prompt_template import AsTrained
from ftlab.data.rendering import encode_prompt
from ftlab.data.shapes import Message, UnusableRow
from ftlab.data.tool_calls import tools_text
from ftlab.data.turns import read_turns
from ftlab.errors import InputError, shorten

MOST_BYTES = 4 << 20
_MOST_STOPS = 4
# Fields that change no answer here.
_IGNORED = {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"}
_NEUTRAL: dict[str, Sequence[Any]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class Rejected(Exception):
    """A request that is not answered: the HTTP `status`, and what stands in OpenAI's error object."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        self.status, self.param, self.code = status, param, code
        super().__init__(message)

    def as_dict(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: StrictBool = False
    include_obfuscation: StrictBool = False


Number = StrictInt | StrictFloat
# What a field of several types takes: pydantic names the first type alone.
_TAKES = {"temperature": "a number", "top_p": "a number", "stop": "a text, or a list of texts"}


class ChatRequest(BaseModel):
    """The fields that are obeyed. `max_tokens` and `max_completion_tokens` are the same."""

    model_config = ConfigDict(extra="forbid")
    model: StrictStr
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: StrictInt | None = Field(None, ge=1)
    max_completion_tokens: StrictInt | None = Field(None, ge=1)
    temperature: Number | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: Number | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: StrictInt | None = Field(None, ge=-(2**63), lt=2**63)
    stop: StrictStr | list[StrictStr] | None = None
    stream: StrictBool | None = None
    stream_options: _Options | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None

    @property
    def limit(self) -> int | None:
        """The longest answer in tokens that was asked for."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in stops if text)

    @property
    def counts_in_stream(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def read_request(body: bytes) -> ChatRequest:
    """The request in `body`. Raises Rejected for anything else, naming the field."""
    try:
        value = parse_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"The body is not valid JSON: {shorten(error, 120)}.") from None
    if not isinstance(value, dict):
        raise Rejected(400, "The body is not a JSON object. Send one with the fields model and messages.")
    for name, allowed in _NEUTRAL.items():
        if value.get(name) is not None and value[name] not in allowed:
            raise Rejected(
                400, f"This server does not support {name}={shorten(value[name], 60)}. Leave it out.", param=name
            )
    known = {key: item for key, item in value.items() if key not in _IGNORED and key not in _NEUTRAL}
    try:
        request = ChatRequest.model_validate(known)
    except ValidationError as error:
        raise _explained(error) from None
    if len(request.stops) > _MOST_STOPS:
        raise Rejected(400, f"stop has {len(request.stops)} texts. Allowed: at most {_MOST_STOPS}.", param="stop")
    return request


def _explained(error: ValidationError) -> Rejected:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else "body"
    if problem["type"] == "missing":
        return Rejected(400, f"The field {name} is missing.", param=name)
    if problem["type"] == "extra_forbidden":
        what = f"This server does not support the field {shorten(name, 60)}"
        return Rejected(400, f"{what}. It takes {', '.join(ChatRequest.model_fields)}.", param=name)
    if name == "tool_choice":
        return Rejected(400, "This server cannot force a call. Allowed for tool_choice: auto or none.", param=name)
    value = f" Given: {shorten(problem['input'], 60)}." if not isinstance(problem["input"], dict | list) else ""
    what = problem["msg"]
    if name in _TAKES and problem["type"].endswith("_type"):
        what = f"Input should be {_TAKES[name]}"
    return Rejected(400, f"The field {name} cannot be used: {what}.{value}", param=name)


@dataclass(frozen=True)
class Prompt:
    """The tokens of a request, and the tools (JSON text) that its answer may call."""

    ids: list[int]
    tools: str | None


def prompt_of(request: ChatRequest, asked: AsTrained, tokenizer: Any) -> Prompt:
    """The prompt for `request`: with the system prompt, tools and prompt template of training (`asked`), where the
    request brings none. An empty list of tools, or `tool_choice` none, offers none. Raises Rejected."""
    try:
        turns = read_turns(request.messages, "messages")
    except UnusableRow as error:
        raise Rejected(400, f"The messages cannot be used: {error}.", param="messages") from None
    if not turns or turns[-1]["role"] == "assistant":
        raise Rejected(400, "The last message is the assistant's: there is nothing to answer.", param="messages")
    if request.tool_choice == "none" or request.tools is not None:
        text = "" if request.tool_choice == "none" else tools_text(request.tools)
        if text is None:
            raise Rejected(400, 'tools holds something else than {"type": "function", ...}.', param="tools")
        asked = replace(asked, tools=text or None)
    answer: Message = {"role": "assistant", "content": ""}
    try:
        # encode_prompt renders everything before the last assistant turn.
        ids = encode_prompt([*asked.messages(turns), answer], tokenizer)
    except InputError as error:
        raise Rejected(400, str(error), param="messages") from None
    return Prompt(ids, asked.tools)


def room_for(prompt: Prompt, limit: int | None, context: int | None, usual: int) -> int:
    """How many tokens the answer may have: `limit` of the request, else `usual`, within `context`.

    Raises Rejected for a prompt that leaves no room.
    """
    wanted = limit or usual
    if context is None:
        return wanted
    left = context - len(prompt.ids)
    if left < 1:
        raise Rejected(
            400,
            f"The messages have {len(prompt.ids):,} tokens with the chat template; this model reads {context:,}, "
            "answer included. Send fewer or shorter messages.",
            param="messages",
            code="context_length_exceeded",
        )
    return min(wanted, left)
