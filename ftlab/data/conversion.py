"""Rows of any known layout as conversations (including labels, roles and templates), and plain text as documents.

A document takes the place of a conversation: a list with one message whose role is `document`. The loss covers all of
its tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.core.parsing import json_or
from ftlab.data.cells import is_missing, is_placeholder, judgement, label_text
from ftlab.data.choices import EMPTY_ANSWER, is_listed
from ftlab.data.prompt_template import cell_as_text, fields, fill
from ftlab.data.shapes import Detected, Message, MissingColumn, UnusableRow, WrongCell, is_trained
from ftlab.data.tool_calls import (
    TOOL,
    TOOLS,
    Said,
    parts_of,
    spoken,
    tools_text,
    with_known_thought,
    without_blank_arguments,
)
from ftlab.data.turns import (
    _TURNS_AS_TEXT,
    TEXT_KEYS,
    are_turns,
    are_typed_parts,
    calls_in,
    dialogue,
    has_other_weight,
    is_dialogue,
    parsed_turns,
    read_turns,
    text_of_parts,
)
from ftlab.data.votes import FIRST, SECOND

DOCUMENT = "document"


def document(text: str) -> list[Message]:
    """`text` as the messages of an example."""
    return [{"role": DOCUMENT, "content": text}]


def is_document(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == DOCUMENT


CUT_TURNS = "turns after the last answer were left out"
CUT_CONTEXT = "turns after the last answer with weight 1 were left out"
NO_ANSWER = "no assistant turn"
ALL_WEIGHTS_0 = "no answer to train on: all have weight 0"
ONLY_THOUGHT = "a thought without an answer"
MARKED_BAD = "an answer marked as bad"
NOT_JUDGED = "an answer marked neither good nor bad"
NO_WINNER = "a tie, or no vote, between two answers"
# Reasons that are not mistakes in the data.
NO_MISTAKES = (MARKED_BAD, NOT_JUDGED, NO_WINNER)
WRITTEN_OUT = "an answer or a prompt that was not text was written out as text"
FIRST_SPAN = "an answer of SQuAD's layout is the first of its texts"
LEFT_OVER = "a left-over None or nan was not added to the prompt"
ONLY_CONTEXT = "an answer with weight 0 is read as context, neither trained nor measured"
OTHER_WEIGHT = "a weight that is neither 0 nor 1 is read as 1 if it is above 0, else as 0"
UNREADABLE_TOOLS = "tools that cannot be read"
OTHER_THOUGHTS = (
    "thoughts in another spelling than <think>, or the channels of gpt-oss, are read as thoughts and answers"
)
REPLACED_CHARACTERS = "characters that are not valid Unicode were replaced"


def to_messages(row: Mapping[str, Any], detected: Detected, system_prompt: str | None = None) -> list[Message]:
    """The canonical messages of `row`, after `system_prompt` unless the row has its own system turn.

    Raises UnusableRow (MissingColumn, WrongCell) with the reason if the row cannot become an example.
    """
    return convert(row, detected, system_prompt)[0]


def convert(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None = None
) -> tuple[list[Message], list[str]]:
    """Like `to_messages`, with remarks on what was changed in the row."""
    if detected.format == "kto":
        verdict = judgement(row.get(detected.columns["label"]), detected.scale)
        if verdict is not True:
            turns_of_row(row, detected)  # report an unusable row first
            raise UnusableRow(MARKED_BAD if verdict is False else NOT_JUDGED)
    messages, remarks = usable_turns(row, detected, system_prompt)
    if not is_document(messages) and not spoken(messages[-1]["content"]).strip():
        raise UnusableRow(ONLY_THOUGHT)
    return messages, remarks


def usable_turns(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None = None
) -> tuple[list[Message], list[str]]:
    """Like `convert`, plus whether the answer is marked good or bad. Raises UnusableRow."""
    remarks: list[str] = []
    turns = turns_of_row(row, detected)
    remarks += _about_cells(row, detected)
    messages = [_checked(turn, remarks) for turn in turns]
    if is_document(messages):
        if not messages[0]["content"].strip():
            raise UnusableRow("empty text")
        return messages, remarks
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise UnusableRow(NO_ANSWER)
    last = max((i for i in answers if is_trained(messages[i])), default=None)
    if last is None:
        raise UnusableRow(ALL_WEIGHTS_0)
    if last < len(messages) - 1:
        remarks.append(CUT_TURNS if last == answers[-1] else CUT_CONTEXT)
        messages = messages[: last + 1]
    if not all(map(is_trained, messages)):
        remarks.append(ONLY_CONTEXT)
    if not messages[-1]["content"].strip():
        raise UnusableRow(EMPTY_ANSWER)
    users = [message for message in messages if message["role"] == "user"]
    if not any(message["content"].strip() for message in users):
        raise UnusableRow("empty prompt")
    if not all(message["content"].strip() for message in messages if message["role"] not in ("system", TOOL)):
        raise UnusableRow("empty turn")
    if messages[0]["role"] == "system" and not messages[0]["content"].strip():
        messages = messages[1:]
    if system_prompt and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system_prompt}, *messages]
    return messages, remarks


def turns_of_row(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    """The turns of `row` as they are, before checks, with its tools after the system prompt. Raises UnusableRow."""
    if detected.choices is None:
        turns = _turns_of_row(row, detected)
    else:
        row, lines = detected.choices.written(row)
        turns = _offering(_turns_of_row(row, detected), lines, detected)
    if "tools" not in detected.columns:
        return turns
    listed = tools_text(row.get(detected.columns["tools"]))
    if listed is None:
        raise UnusableRow(UNREADABLE_TOOLS)
    if not listed:
        return turns
    turns = [_without_blanks(turn, json.loads(listed)) for turn in turns]
    place = 1 if turns and turns[0]["role"] == "system" else 0
    return [*turns[:place], {"role": TOOLS, "content": listed}, *turns[place:]]


def _without_blanks(turn: Message, tools: list[dict[str, Any]]) -> Message:
    if turn["role"] != "assistant" or "<tool_call>" not in turn["content"] or ": null" not in turn["content"]:
        return turn
    parts = parts_of(turn["content"])
    calls = tuple(without_blank_arguments(call, tools) for call in parts.calls)
    return turn | {"content": Said(parts.thought, parts.text, calls, parts.broken).whole}


def _turns_of_row(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    detected = decided(row, detected)
    columns = detected.columns
    if detected.format == "text":
        return document(_text(row, columns["text"]))
    system = _system_text(row, columns.get("system"))
    turns = [{"role": "system", "content": system}] if system.strip() else []
    if "messages" in columns:
        own = read_turns(_cell(row, columns["messages"]), columns["messages"])
        return own if own and own[0]["role"] == "system" else turns + own
    if (conversation := _by_turns(row, detected)) is not None:
        return turns + conversation
    answers = _answer_turns(row, detected)
    if any(turn["role"] == "user" for turn in answers) and answers[0]["role"] != "assistant":
        return turns + answers  # the answer column holds the whole conversation
    if detected.template:
        return [*turns, {"role": "user", "content": _filled(detected.template, row)}, *answers]
    if "prompt" not in columns:
        raise UnusableRow("empty prompt")
    turns += _history(row, columns.get("history"))
    prompt = _cell(row, columns["prompt"])
    if isinstance(prompt, str) and _TURNS_AS_TEXT.match(prompt):
        prompt = parsed_turns(prompt)
    if prompt is None or isinstance(prompt, str):
        text = prompt or ""
        extra = _optional_text(row, columns.get("input"))
        joined = f"{text}\n\n{extra}" if text.strip() and extra.strip() else text if text.strip() else extra
        return [*turns, {"role": "user", "content": joined}, *answers]
    asked = read_turns(prompt, columns["prompt"])
    return (asked if asked and asked[0]["role"] == "system" else turns + asked) + answers


def _offering(turns: list[Message], lines: str, detected: Detected) -> list[Message]:
    """`turns` with the lettered `lines` of the choices at the end of the last question, unless the template of the
    prompt or the question itself lists them."""
    choices = detected.choices
    if choices is None or (detected.template and set(fields(detected.template)) & set(choices.columns)):
        return turns
    place = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if place is None or not turns[place]["content"].strip() or is_listed(lines, turns[place]["content"]):
        return turns
    asked = turns[place] | {"content": f"{turns[place]['content'].rstrip()}\n{lines}"}
    return [*turns[:place], asked, *turns[place + 1 :]]


def _by_turns(row: Mapping[str, Any], detected: Detected) -> list[Message] | None:
    """The turns of a preference whose prompts and answers are lists of texts, stored as JSON as in the Chatbot Arena
    data (`["first question", "second"]`, `["first answer", "second"]`). None for any other row.

    Only preferences are read this way: elsewhere a list may be the subject of the prompt.
    """
    if not {"prompt", "chosen", "rejected"} <= detected.columns.keys():
        return None
    lists = [_texts(row.get(detected.columns[role])) for role in ("prompt", "chosen", "rejected")]
    asked, answered, _ = lists
    if asked is None or answered is None or any(texts is None or len(texts) != len(asked) for texts in lists):
        return None
    return [
        turn
        for question, answer in zip(asked, answered, strict=True)
        for turn in (Message(role="user", content=question), Message(role="assistant", content=answer))
    ]


def _texts(cell: Any) -> list[str] | None:
    """The texts in a cell that holds a list of texts, possibly as JSON. A missing text is empty."""
    value = json_or(cell, None) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
    if not isinstance(value, list) or not value or not all(text is None or isinstance(text, str) for text in value):
        return None
    return [text or "" for text in value]


_BESIDE_ANSWERS = ("prompt", "system", "history", "tools")


def decided(row: Mapping[str, Any], detected: Detected) -> Detected:
    """`detected` with the winning answer as the chosen one, if the row holds two answers and a vote. Raises UnusableRow
    for a tie."""
    if detected.format != "comparison" or detected.vote is None:
        return detected
    winner = detected.vote.winner(row)
    if winner not in (FIRST, SECOND):
        raise UnusableRow(NO_WINNER)
    sides = [detected.columns["first"], detected.columns["second"]]
    chosen, rejected = sides if winner == FIRST else reversed(sides)
    others = {role: column for role, column in detected.columns.items() if role in _BESIDE_ANSWERS}
    return replace(detected, format="preference", columns=others | {"chosen": chosen, "rejected": rejected}, vote=None)


def _about_cells(row: Mapping[str, Any], detected: Detected) -> list[str]:
    """Remarks on cells that are changed for training."""
    remarks = []
    columns = detected.columns
    roles = ("prompt", "completion", "input", "chosen") if detected.choices is None else ("input",)
    cells = [row.get(columns[role]) for role in roles if role in columns]
    if "tools" in columns:
        cells = [cell for cell in cells if not calls_in(cell)]
    spans = [cell for cell in cells if span_of(cell) is not None]
    if spans:
        remarks.append(FIRST_SPAN)
    others = [cell for cell in cells if cell not in spans and not are_typed_parts(cell)]
    if any(not is_missing(cell) and not isinstance(cell, str) and not are_turns(cell) for cell in others):
        remarks.append(WRITTEN_OUT)
    if is_placeholder(row.get(columns.get("input", ""))):
        remarks.append(LEFT_OVER)
    if any(has_other_weight(row.get(column)) for role, column in columns.items() if role in _TURNS):
        remarks.append(OTHER_WEIGHT)
    return remarks


def remarks_of(counts: Mapping[str, int]) -> list[str]:
    """Remarks on rows as notes, each with its number of rows."""
    return [f"In {count:,} {'row' if count == 1 else 'rows'}, {remark}." for remark, count in counts.items()]


def _answer_turns(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    columns = detected.columns
    if detected.format == "classification":
        label = row.get(columns["label"])
        if isinstance(label, (list, tuple, dict)):
            raise WrongCell(columns["label"], label, "one label")
        return [{"role": "assistant", "content": label_text(label)}]
    column = columns["chosen"] if "chosen" in columns else columns["completion"]
    answer = _cell(row, column)
    if "tools" in columns and (calls := calls_in(answer)):
        return [{"role": "assistant", "content": Said("", "", calls).whole}]
    if isinstance(answer, str) and "prompt" not in columns and is_dialogue(answer):
        return dialogue(answer)
    if isinstance(answer, str) or answer is None:
        return [{"role": "assistant", "content": answer or ""}]
    return read_turns(answer, column)


def _filled(template: str, row: Mapping[str, Any]) -> str:
    try:
        text, held = fill(template, row)
    except KeyError as missing:
        raise MissingColumn(missing.args[0]) from None
    if not held:
        raise UnusableRow("empty prompt")
    return text


def _history(row: Mapping[str, Any], column: str | None) -> list[Message]:
    """Earlier turns in Alpaca's format: a list of [prompt, answer]."""
    value = row.get(column) if column else None
    if isinstance(value, str) and value.strip():
        value = json_or(value, [value])
    turns: list[Message] = []
    for pair in value or []:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise WrongCell(column or "", value, "a list of [prompt, answer]")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


_TURNS = ("messages", "prompt", "completion", "chosen")  # roles of columns that may hold turns


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise MissingColumn(column)
    value = row[column]
    if (span := span_of(value)) is not None:
        return span
    if value is None or isinstance(value, str):
        return value
    if are_typed_parts(value):
        return text_of_parts(value)
    return value if are_turns(value) else written_out(value)


def written_out(value: Any) -> str:
    """A cell as text: numbers as written, the first text of SQuAD's layout, other objects and lists as JSON, a missing
    value as empty text."""
    if (span := span_of(value)) is not None:
        return span
    if isinstance(value, float):
        return label_text(value)
    return cell_as_text(list(value) if isinstance(value, tuple) else value)


def span_of(value: Any) -> str | None:
    """The first text of an answer in SQuAD's layout, {"text": [...], "answer_start": [...]}; "" for a question that has
    none. None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("{") and "answer_start" in value:
        value = json_or(value, None)  # from a CSV
    if not isinstance(value, Mapping) or value.keys() != {"text", "answer_start"}:
        return None
    texts = [value["text"]] if isinstance(value["text"], str) else value["text"]
    return next((text for text in texts if isinstance(text, str)), "") if isinstance(texts, Sequence) else None


def _text(row: Mapping[str, Any], column: str) -> str:
    value = _cell(row, column)
    if value is not None and not isinstance(value, str):
        raise WrongCell(column, value)
    return value or ""


def _optional_text(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    if is_placeholder(value):
        return ""
    return value if isinstance(value, str) else written_out(value)


_PARTS_OF_A_SYSTEM_PROMPT = {"type", "text", "role", "parts", "content", "cachePoint", "cache_control"}


def _system_text(row: Mapping[str, Any], column: str | None) -> str:
    """The system prompt of a row: text, content parts (Bedrock, Anthropic) or a message (Gemini), possibly as JSON.

    Raises UnusableRow for parts that are not text."""
    value = row.get(column) if column else None
    held = json_or(value, None) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value
    items = [held] if isinstance(held, dict) else held
    if not isinstance(items, list | tuple) or not items:
        return _optional_text(row, column)
    if not all(isinstance(item, dict) and item and item.keys() <= _PARTS_OF_A_SYSTEM_PROMPT for item in items):
        return _optional_text(row, column)
    texts = (next((item[key] for key in TEXT_KEYS if item.get(key) is not None), "") for item in items)
    return "".join(text if isinstance(text, str) else text_of_parts(text) for text in texts)


_SURROGATES = re.compile("[\ud800-\udfff]")


def _checked(turn: Message, remarks: list[str]) -> Message:
    if _SURROGATES.search(turn["content"]):
        # JSON can hold half a surrogate pair (\\ud83d), which no tokenizer or file accepts.
        remarks.append(REPLACED_CHARACTERS)
        joined = turn["content"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        turn = turn | {"content": joined}
    if turn["role"] == "assistant" and (known := with_known_thought(turn["content"])) != turn["content"]:
        remarks.append(OTHER_THOUGHTS)
        return turn | {"content": known}
    return turn
