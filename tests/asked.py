"""Do evaluation, chat, blind test, the exported card and Ollama ask with the tokens that training began with?"""

from __future__ import annotations

import json
from typing import Any

from ftlab.arena.asking import Writer, encoded
from ftlab.data.prompt_template import AsTrained
from ftlab.data.rendering import encode, encode_prompt
from ftlab.evaluation.duet import Duet
from ftlab.export.serving import _ask, take_apart


def assert_all_ask_alike(
    messages: list[dict[str, str]], tokenizer: Any, asked: AsTrained, typed: str, system: str | None = None
) -> None:
    """`messages` is a row as it was trained, `typed` its question as a person types it, `system` the row's own."""
    duet = Duet(None, None, tokenizer, None, asked)
    spec = {"kind": "run"} | {
        key: value for key, value in (("template", asked.template), ("system_prompt", asked.system)) if value
    }
    trained, evaluated = encode(messages, tokenizer), encode_prompt(messages, tokenizer)
    assert trained.input_ids[: len(evaluated)] == evaluated
    assert not any(trained.trained[: len(evaluated)][-1:]), "the heading of an answer is given, not learned"
    turns = [turn for turn in messages[:-1] if turn["role"] != "system"]
    said = [*turns[:-1], {"role": "user", "content": typed}]
    chatted, _ = duet._prompt(said, asked, system if system != asked.system else None, 16)
    assert chatted == evaluated
    if system != asked.system:
        return  # what follows asks with the commonest system prompt
    assert encoded(Writer(None, tokenizer, None), spec, said, 16)[0] == evaluated  # typed into a blind test
    assert encoded(Writer(None, tokenizer, None), spec, messages[:-1], 16)[0] == evaluated  # held-out row
    if len(said) == 1:
        assert as_the_card_asks(asked, typed, tokenizer) == evaluated
        if turns_of := take_apart(tokenizer):
            assert tokenizer.encode(as_ollama_asks(turns_of, asked, typed), add_special_tokens=False) == evaluated


def as_the_card_asks(asked, typed, tokenizer):
    """What the lines of the exported README make of `typed`."""
    lines = "\n".join(_ask(asked, 16))
    code = lines[: lines.index("asked = ")].replace('"Your question"', json.dumps(typed))
    for column in asked.columns:
        code = code.replace(json.dumps(f"Your {column}"), json.dumps(typed))
    values = {}
    exec(code, values)
    found = tokenizer.apply_chat_template(values["messages"], add_generation_prompt=True, return_dict=True)
    return found["input_ids"]


def as_ollama_asks(turns, asked, typed):
    """What the template of the Modelfile makes of `typed` after its SYSTEM."""
    if asked.template:
        turns = turns.around_questions(asked.wrapped("\ue000"))
    system = asked.system or turns.default_system
    messages = [{"role": "system", "content": system}] if system else []
    return turns.render([*messages, {"role": "user", "content": typed}], ask=True)
