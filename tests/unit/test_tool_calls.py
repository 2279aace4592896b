"""Tools, calls and thoughts: read from every format, rendered as the base does it, frozen, checked, measured."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from trl.chat_template_utils import _CHAT_TEMPLATES_DIR

from ftlab.config import build_config
from ftlab.core.run_directory import RunDirectory
from ftlab.data.checks import check
from ftlab.data.conversion import OTHER_THOUGHTS, convert, to_messages
from ftlab.data.export import problems_of
from ftlab.data.formats import detect
from ftlab.data.prompt_template import as_trained
from ftlab.data.rendering import (
    encode,
    encode_prompt,
    ensure_chat_template,
    pieces,
    read_calls,
    render,
    tool_facts_of,
    vllm_parser_of,
)
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.data.tool_calls import Call, Said, fault_of, parts_of, spoken, tools_of, tools_text
from ftlab.data.tool_templates import openai_form
from ftlab.errors import InputError
from ftlab.evaluation.material import each_turn
from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers, suggest
from ftlab.export.serving import take_apart
from ftlab.models.starter import starter_path

FLIGHT = {
    "name": "find_flight",
    "description": "Finds a flight.",
    "parameters": {
        "type": "object",
        "properties": {"day": {"type": "string"}, "seats": {"type": "integer"}},
        "required": ["day"],
    },
}
HOTEL = {"name": "find_hotel", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}
ARGUMENTS = {"day": 'Fri "day" ü', "seats": 2}
ASK, SAY = {"role": "user", "content": "A flight?"}, {"role": "assistant", "content": "Booked."}
CALL = {"role": "assistant", "content": Said("", "", (Call("find_flight", ARGUMENTS),)).whole}
REPLY = {"role": "tool", "content": '{"ok": true}'}
LISTED = {"role": "tools", "content": tools_text([FLIGHT, HOTEL]) or ""}
TALK = [LISTED, ASK, CALL, REPLY, SAY]
OPENAI_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "find_flight", "arguments": json.dumps(ARGUMENTS)}}
    ],
}
WAYS: dict[str, dict[str, Any]] = {
    "openai": {
        "messages": [ASK, OPENAI_CALL, {**REPLY, "tool_call_id": "1"}, SAY],
        "tools": [{"type": "function", "function": FLIGHT}, {"type": "function", "function": HOTEL}],
    },
    "openai, older": {
        "messages": [
            ASK,
            {"role": "assistant", "function_call": {"name": "find_flight", "arguments": json.dumps(ARGUMENTS)}},
            {"role": "function", "name": "find_flight", "content": REPLY["content"]},
            SAY,
        ],
        "functions": [FLIGHT, HOTEL],
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "A flight?"},
            {"from": "function_call", "value": json.dumps({"name": "find_flight", "arguments": ARGUMENTS})},
            {"from": "observation", "value": REPLY["content"]},
            {"from": "gpt", "value": "Booked."},
        ],
        "tools": json.dumps([FLIGHT, HOTEL]),
    },
    "text tags": {"messages": [ASK, CALL, REPLY, SAY], "tools": [FLIGHT, HOTEL]},
}


def read(row: dict[str, Any]) -> list[dict[str, str]]:
    return to_messages(row, detect(list(row), [row]))


@pytest.mark.parametrize("row", WAYS.values(), ids=WAYS)
def test_every_format_of_calls_gives_the_same_conversation(row: dict[str, Any]) -> None:
    assert read(row) == TALK


def test_a_prompt_with_a_list_of_calls_as_its_answer_is_read_as_calls() -> None:
    row = {
        "id": 0,
        "query": "A flight?",
        "answers": json.dumps([{"name": "find_flight", "arguments": ARGUMENTS}]),
        "tools": json.dumps([FLIGHT]),
    }
    assert read(row)[1:] == [ASK, CALL]


def test_calls_are_exported_as_openai_takes_them_and_read_back_the_same() -> None:
    row = openai_form(TALK)
    assert problems_of([row], whole_file=False) == []
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == json.dumps(ARGUMENTS, ensure_ascii=False)
    assert row["messages"][2]["tool_call_id"] == row["messages"][1]["tool_calls"][0]["id"]
    assert read(row) == TALK


def test_text_before_a_call_and_several_calls_stay_one_turn_with_replies_in_the_order_of_the_calls() -> None:
    calls = [
        {"id": name, "function": {"name": "find_hotel", "arguments": {"town": town}}}
        for name, town in (("a", "Rome"), ("b", "Oslo"))
    ]
    messages = read(
        {
            "messages": [
                ASK,
                {"role": "assistant", "content": "One moment.", "tool_calls": calls},
                {"role": "tool", "tool_call_id": "b", "content": "in Oslo"},
                {"role": "tool", "tool_call_id": "a", "content": "in Rome"},
                SAY,
            ]
        }
    )
    said = parts_of(messages[1]["content"])
    assert said.text == "One moment." and [call.arguments["town"] for call in said.calls] == ["Rome", "Oslo"]
    assert [turn["content"] for turn in messages[2:4]] == ["in Rome", "in Oslo"]


def test_arguments_that_parquet_filled_up_with_nulls_are_taken_away_again() -> None:
    merged = {"day": "Friday", "seats": None, "town": None}
    tool = {**FLIGHT, "strict": None, "parameters": {**FLIGHT["parameters"], "$defs": None}}
    row = {
        "messages": [ASK, {**OPENAI_CALL, "tool_calls": [{"function": {"name": "find_flight", "arguments": merged}}]}]
    }
    messages = read(row | {"tools": [tool, HOTEL]})
    assert parts_of(messages[-1]["content"]).calls == (Call("find_flight", {"day": "Friday"}),)
    assert tools_of(messages)[0]["function"] == FLIGHT


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "thoughts"])
def test_thoughts_are_kept_and_are_no_part_of_the_answer(key: str) -> None:
    messages = read({"messages": [ASK, {**SAY, key: "It is Friday."}]})
    assert messages[-1]["content"] == "<think>\nIt is Friday.\n</think>\n\nBooked."
    assert spoken(messages[-1]["content"]) == "Booked."
    assert spoken("opened by the template</think>\n\nBooked.") == "Booked."
    assert spoken("<think>cut off") == "" and spoken("no thoughts") == "no thoughts"


def test_frozen_rows_give_arguments_back_with_their_types(tmp_path: Path) -> None:
    arguments = [{"a": 1}, {"a": 1.5, "b": None}, {"c": [{"d": True}]}, {}] * 5
    rows = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"Question {number} about the {'parcel lamp coat rug'.split()[number % 4]}",
                },
                {"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": json.dumps(value)}}]},
            ]
        }
        for number, value in enumerate(arguments)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run = RunDirectory(tmp_path / "run")
    freeze(prepare(build_config({"data": {"source": str(file)}}).data), run)
    every = [row for split in ("train", "validation", "test") for row in read_split(run, split)]
    frozen = {row["row"]: parts_of(row["messages"][-1]["content"]).calls[0].arguments for row in every}
    assert [frozen[number] for number in range(len(rows))] == arguments


@pytest.fixture(scope="module")
def starter() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter_path())


def with_template(starter: Any, name: str) -> Any:
    tokenizer = copy.deepcopy(starter)
    tokenizer.chat_template = (_CHAT_TEMPLATES_DIR / f"{name}.jinja").read_text(encoding="utf-8")
    ensure_chat_template(tokenizer)
    return tokenizer


def taught(tokenizer: Any, messages: list[dict[str, str]]) -> list[str]:
    return [text.strip() for text, on in pieces(encode(messages, tokenizer), tokenizer) if on]


# The parser is the one that vLLM's documentation names for the family.
OWN = {
    "qwen2_5": ("<tool_call>", "hermes"),
    "qwen3_training": ("<tool_call>", "hermes"),
    "llama3_1": ('"parameters": ', "llama3_json"),
    "qwen3_5_nothink_training": ("<function=find_flight>", "qwen3_coder"),
    "glm4moe_training": ("<arg_key>day</arg_key>", "glm45"),
}


@pytest.mark.parametrize(("name", "mark", "parser"), [(name, *facts) for name, facts in OWN.items()], ids=OWN)
def test_a_base_that_knows_tools_writes_them_in_its_own_form(starter: Any, name: str, mark: str, parser: str) -> None:
    tokenizer = with_template(starter, name)
    assert tool_facts_of(tokenizer).own and vllm_parser_of(tokenizer) == parser
    call, answer = taught(tokenizer, TALK)
    assert mark in call and "Booked." in answer and '{"ok": true}' not in call + answer
    # What a model writes in this form is read as the call that it is.
    assert parts_of(read_calls(call, tokenizer)).calls == (Call("find_flight", ARGUMENTS),)
    assert read_calls("A lamp.", tokenizer) == "A lamp."


@pytest.mark.parametrize("name", ["starter", "llama3_training", "phi3", "gemma3", "lfm2_v2", "qwen2_5_vl"])
def test_any_other_base_gets_tools_in_the_form_of_hermes_and_keeps_all_else(starter: Any, name: str) -> None:
    tokenizer = copy.deepcopy(starter) if name == "starter" else with_template(starter, name)
    plain = [ASK, SAY]
    before, facts = render(plain, tokenizer), tool_facts_of(tokenizer)
    assert not facts.own and facts.template
    call, answer = taught(tokenizer, TALK)
    assert call.startswith(CALL["content"]) and answer.startswith("Booked.")
    text = render(TALK, tokenizer)
    assert json.dumps(FLIGHT) in text and '<tool_response>\n{"ok": true}\n</tool_response>' in text
    assert "Be kind.\n\nYou can call" in render([{"role": "system", "content": "Be kind."}, *TALK], tokenizer)
    # Saved with the result, it does the same for programs that pass `tools=`, and for ftlab.
    tokenizer.chat_template = facts.template
    assert tool_facts_of(tokenizer).own and render(TALK, tokenizer) == text and render(plain, tokenizer) == before
    assert encode(TALK, tokenizer).input_ids[: len(encode_prompt(TALK, tokenizer))] == encode_prompt(TALK, tokenizer)


def test_tools_go_into_the_first_question_where_a_template_takes_no_system_prompt(starter: Any) -> None:
    tokenizer = with_template(starter, "gemma_training")
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    text = render(TALK, tokenizer)
    assert text.index("find_hotel") < text.index("A flight?") and "system" not in text


def test_thoughts_are_rendered_and_trained_where_the_template_takes_them(starter: Any) -> None:
    tokenizer = copy.deepcopy(starter)
    tokenizer.chat_template = (_CHAT_TEMPLATES_DIR / "qwen3_training.jinja").read_text(encoding="utf-8")
    ensure_chat_template(tokenizer, thinking=True)
    thought = {"role": "assistant", "content": "<think>\nIt is Friday.\n</think>\n\nBooked."}
    (answer,) = taught(tokenizer, [ASK, thought])
    assert answer.startswith("<think>\nIt is Friday.\n</think>\n\nBooked.")


def rows_of_calls(calls: list[str]) -> list[dict[str, Any]]:
    things = "parcel invoice keyboard refund window printer holiday lamp letter bridge coat rug".split()
    return [
        {
            "messages": [
                {"role": "user", "content": f"What about the {things[number % 12]} of customer {number}?"},
                {"role": "assistant", "content": text},
            ],
            "tools": [FLIGHT],
        }
        for number, text in enumerate(calls)
    ]


def test_calls_that_no_program_can_run_are_found_with_their_rows(tmp_path: Path, starter: Any) -> None:
    good = [Call("find_flight", {"day": f"day {number}"}).text for number in range(20)]
    bad = {
        "call_unlisted": Call("find_hotel", {"town": "Rome"}).text,
        "call_schema": Call("find_flight", {"day": "Friday", "seats": "two"}).text,
        "call_broken": "<tool_call>\n{'name': find_flight}\n</tool_call>",
    }
    file = tmp_path / "calls.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of_calls([*good, *bad.values()]))))
    found = {finding.kind: finding for finding in check(str(file), tokenizer=starter).findings}
    assert [found[kind].rows for kind in bad] == [[20], [21], [22]]
    assert "seats: 'two' is not of type 'integer'" in found["call_schema"].excerpts[0]
    assert found["tools_added"].remedy == "none"


@pytest.mark.parametrize(
    "answer",
    [
        "<thinking>It is Friday.</thinking>\n\nBooked.",
        "  <thought>\nIt is Friday.\n</thought> Booked.",
        "<reasoning>It is Friday.</reasoning>Booked.",
        "<|begin_of_thought|>It is Friday.<|end_of_thought|>\n<|begin_of_solution|>\nBooked.\n<|end_of_solution|>",
        "[THINK]It is Friday.[/THINK]Booked.",
        "<THINK>It is Friday.</THINK>\nBooked.",
        "◁think▷It is Friday.◁/think▷Booked.",
        "<|channel|>analysis<|message|>It is Friday.<|end|><|start|>assistant<|channel|>final<|message|>Booked.",
        "<|start|>assistant<|channel|>analysis<|message|>It is Friday.<|channel|>final<|message|>Booked.",
    ],
)
def test_thoughts_in_another_spelling_are_read_as_thoughts(answer: str) -> None:
    row = {"prompt": "Fly?", "completion": answer}
    messages, remarks = convert(row, detect(list(row), [row]))
    assert messages[-1]["content"] == "<think>\nIt is Friday.\n</think>\n\nBooked."
    assert remarks == [OTHER_THOUGHTS] and spoken(answer) == "Booked."


def test_an_answer_in_the_final_channel_alone_has_no_thoughts() -> None:
    row = {"prompt": "Fly?", "completion": "<|channel|>final<|message|>Booked.<|return|>"}
    messages, remarks = convert(row, detect(list(row), [row]))
    assert messages[-1]["content"] == "Booked." and remarks == [OTHER_THOUGHTS]


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "It is Friday.", "thought": True}, {"text": "Booked."}],  # Gemini
        [{"type": "thinking", "thinking": "It is Friday.", "signature": "x"}, {"type": "text", "text": "Booked."}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "It is Friday."}]},
            {"type": "text", "text": "Booked."},
        ],
        [{"reasoningContent": {"reasoningText": {"text": "It is Friday."}}}, {"text": "Booked."}],  # Bedrock
    ],
)
def test_thoughts_in_content_parts_are_thoughts(parts: list[dict[str, Any]]) -> None:
    messages = read({"messages": [ASK, {"role": "assistant", "content": parts}]})
    assert messages[-1]["content"] == "<think>\nIt is Friday.\n</think>\n\nBooked."


@pytest.mark.parametrize(
    "answer",
    [
        "Booked. <thinking>It is Friday.</thinking>",  # about thoughts, not with them
        "<thinking>cut off",
        "<reasoning>It is Friday.</reasoning>\n<answer>Booked.</answer>",  # a form that rewards ask for
        "<thinker>Rodin</thinker> is a statue.",
        "<reflection>It is Friday.</reflection>Booked.",
        "<|channel|>analysis<|message|>It is Friday.<|end|><|channel|>commentary to=functions.fly<|message|>{}<|call|>",
    ],
)
def test_what_only_looks_like_thoughts_stays(answer: str) -> None:
    row = {"prompt": "Fly?", "completion": answer}
    messages, remarks = convert(row, detect(list(row), [row]))
    assert messages[-1]["content"] == answer == spoken(answer) and remarks == []


def test_a_base_that_thinks_is_told_apart_from_rows_that_do_not(tmp_path: Path, starter: Any) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of_calls([f"Answer number {n}." for n in range(20)]))))
    kinds = {finding.kind for finding in check(str(file), tokenizer=with_template(starter, "qwen3")).findings}
    assert "no_thoughts" in kinds
    assert "no_thoughts" not in {finding.kind for finding in check(str(file), tokenizer=starter).findings}


def call(name: str, **arguments: Any) -> str:
    return Call(name, arguments).text


def test_each_measure_of_calls_counts_what_it_says() -> None:
    tools = json.dumps([{"type": "function", "function": FLIGHT}])
    due = call("find_flight", day="Friday", seats=2)
    cases = [  # answer, reference; decision, name, arguments, valid, spared
        (call("find_flight", seats=2.0, day="Friday"), due, (1, 1, 1, 1, None)),
        (f"One moment.\n{due}", due, (1, 1, 1, 1, None)),
        (call("find_flight", day="Monday", seats=2), due, (0, 1, 0.5, 1, None)),
        (call("find_flight", day="Friday", seats="two"), due, (0, 1, 0.5, 0, None)),
        (call("find_hotel", day="Friday", seats=2), due, (0, 0, 0, 0, None)),
        (f"{due}\n{due}", due, (0, 0, 1, 1, None)),
        ("Which day?", due, (0, 0, 0, 0, None)),
        ("<tool_call>\n{broken", due, (0, 0, 0, 0, None)),
        ("Booked.", "Done.", (1, None, None, None, 1)),
        (due, "Done.", (0, None, None, None, 0)),
    ]
    names = suggest([due, "Done."], tools=True)[:5]
    answers, references = [case[0] for case in cases], [case[1] for case in cases]
    options = MeasureOptions(tools=(tools,) * len(cases))
    measures, rows = measure_answers(names, {"base": answers, "adapted": answers}, references, options=options)
    measured = list(zip(*(rows[name]["base"] for name in names), strict=True))
    assert measured == [case[2] for case in cases]
    assert measures[0]["values"]["base"] == 0.3
    [exact], _ = measure_answers(["exact_match"], {"base": answers, "adapted": answers}, references)
    assert exact["values"]["base"] == 0.2


def test_a_conversation_with_tools_is_asked_at_every_turn_of_the_assistant() -> None:
    rows = each_turn([{"row": 4, "messages": TALK}, {"row": 5, "messages": [ASK, SAY, ASK, SAY]}])
    assert [row["messages"][-1] for row in rows] == [CALL, SAY, SAY]
    assert [(row["row"], row.get("turn")) for row in rows] == [(4, 1), (4, 2), (5, None)]


def test_a_chat_offers_the_tools_that_most_rows_list_and_reads_the_next_message_as_a_reply() -> None:
    from ftlab.data.tool_calls import next_turn

    asked = as_trained(None, [TALK, TALK, [ASK, SAY]])
    assert asked.messages([ASK]) == [LISTED, ASK] and "find_flight, find_hotel" in asked.described()[0]
    assert as_trained(None, [TALK, [ASK, SAY], [ASK, SAY]]).tools is None
    assert next_turn([ASK, CALL], "ok") == {"role": "tool", "content": "ok"}
    assert next_turn([ASK, SAY], "ok") == next_turn([], "ok") == {"role": "user", "content": "ok"}


def test_a_schema_that_is_none_or_refers_elsewhere_finds_no_fault() -> None:
    for parameters in ({"type": "no such type"}, {"$ref": "https://example.com/schema.json"}, None):
        assert fault_of(Call("x", {"a": 1}), [{"function": {"name": "x", "parameters": parameters}}]) is None
    assert fault_of(Call("y", {}), [{"function": {"name": "x"}}]) == "unlisted"


def test_the_template_for_ollama_writes_tools_as_the_chat_template_does(starter: Any) -> None:
    tokenizer = copy.deepcopy(starter)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    tokenizer.chat_template = tool_facts_of(tokenizer).template
    turns = take_apart(tokenizer)
    assert turns is not None
    go = turns.go_template(tools=True)
    assert (
        "{{- range .Tools }}" in go
        and '<tool_call>\n{"name": "{{ $call.Function.Name }}"' in go
        and 'eq .Role "tool"' in go
    )
    assert len(re.findall(r"\{\{-? (?:if|range) ", go)) == len(re.findall(r"\{\{-? end \}\}", go))


def test_tools_of_ones_own_take_the_place_of_those_of_training_and_anything_else_is_refused() -> None:
    different = as_trained(
        None, [[{**LISTED, "content": tools_text([{"name": name}]) or ""}, ASK, SAY] for name in "abc"]
    )
    assert different.tools is None and "list different tools" in different.described()[0]
    offered = different.offering(json.dumps([HOTEL]))
    assert tools_of(offered.messages([ASK])) == [{"type": "function", "function": HOTEL}]
    assert different.offering(" ") is different
    with pytest.raises(InputError, match=r"These are no tools.*JSON list"):
        different.offering("find a hotel")


def test_tools_are_read_where_the_prompt_names_their_tag_before_it_lists_them() -> None:
    """As the system prompt of Hermes does."""
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    for listed in (json.dumps([tool]), json.dumps(tool), f"{json.dumps(tool)}\n{json.dumps(tool)}"):
        text = f"You have function signatures within <tools></tools> XML tags. The tools: <tools> {listed} </tools>"
        names = [item["function"]["name"] for item in tools_of([{"role": "system", "content": text}])]
        assert set(names) == {"find"}
