"""Rows of any known layout as conversations (including labels, roles and templates), and plain text as documents.

A document takes the place of a conversation: a list with one message whose role is `document`. The loss covers all of
its tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.core.parsing import json_or
from ftlab.data.prompt_template import cell_as_text, escaped, fill
from ftlab.data.shapes import Detected, Message
from ftlab.data.tool_calls import (
    THINKING_KEYS,
    TOOL,
    TOOLS,
    Call,
    Said,
    call_of,
    parts_of,
    spoken,
    tools_text,
    without_blank_arguments,
)
from ftlab.data.votes import FIRST, SECOND
from ftlab.errors import shorten

DOCUMENT = "document"


def document(text: str) -> list[Message]:
    """`text` as the messages of an example."""
    return [{"role": DOCUMENT, "content": text}]


def is_document(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == DOCUMENT


TEXTS = ("text", "sentence", "review", "tweet", "message", "utterance", "content", "document", "ticket", "body")
LABELS = ("labeltext", "labelname", "label", "class", "category", "intent", "sentiment", "topic")
PLAIN_TEXTS = ("text", "document", "content", "rawcontent")
MOST_LABELS_IN_A_PROMPT = 20
_ID_WORDS = {"id", "ids", "nr", "no", "num", "number", "nummer", "uuid", "guid", "key", "index", "idx", "hash", "sku"}
# What people and tools write for a good answer, and for a bad one.
_GOOD = (
    "true 1 good yes y up thumbsup thumbup like liked upvote upvoted positive accept accepted approve approved correct "
    "right desirable desired chosen preferred helpful pass passed win ok 👍 ✓ ✔ ✅"
).split()
_BAD = (
    "false 0 -1 bad no n down thumbsdown thumbdown dislike disliked downvote downvoted negative reject rejected "
    "disapproved incorrect wrong undesirable undesired unhelpful fail failed loss lose notok 👎 ✗ ✘ ❌"
).split()
_TRUTH = dict.fromkeys(_GOOD, True) | dict.fromkeys(_BAD, False)
_UNDECIDED = ("neutral", "unsure", "mixed", "tie", "none", "unknown", "n/a", "skip", "ok?", "-")
_SCALE_TOP = 10


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: null, empty text, or the NaN that pandas writes for a missing value."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def is_judgement(values: Sequence[Any]) -> bool:
    """Whether the cells rate answers as good or bad: true and false, 1 and 0, thumbs, or words."""
    known = [value for value in values if not (is_missing(value) or is_placeholder(value))]
    judged = [judgement(value) for value in known]
    undecided = sum(
        verdict is None and _spelled(value) in _UNDECIDED for verdict, value in zip(judged, known, strict=True)
    )
    return any(verdict is not None for verdict in judged) and judged.count(None) == undecided <= len(known) / 2


def scale_of(values: Sequence[Any]) -> tuple[float, float] | None:
    """The lowest and highest grade if the cells are grades on a common scale: whole numbers between -10 and 10 with
    several distinct values (-1 to 1, 0 to 4, 1 to 5, 1 to 10). None for anything else."""
    known = [_as_number(value) for value in values if not (is_missing(value) or is_placeholder(value))]
    numbers = [number for number in known if number is not None and number.is_integer()]
    if not known or len(numbers) < len(known) or len(set(numbers)) < 2:
        return None
    low, high = min(numbers), max(numbers)
    if low < 0:
        most = max(-low, high)
        return (-most, most) if most <= _SCALE_TOP else None
    if high > _SCALE_TOP:
        return None
    top = next(top for top in (1, 5, _SCALE_TOP) if high <= top) if low >= 1 else high
    return (min(low, 1.0), float(top))


def judgement(value: Any, scale: tuple[float, float] | None = None) -> bool | None:
    """True for an answer marked good, False for one marked bad, None for anything else. On a `scale` of grades, good is
    above the middle and bad below."""
    if isinstance(value, bool):
        return value
    number = _as_number(value)
    if scale is not None and number is not None:
        middle = sum(scale) / 2
        return None if number == middle else number > middle
    if number is not None:
        return {1.0: True, 0.0: False, -1.0: False}.get(number)
    return _TRUTH.get(_spelled(value))


def _is_undecided(value: Any) -> bool:
    return _spelled(value) in _UNDECIDED


def _spelled(value: Any) -> str:
    return re.sub(r"[\s_:]+|(?<=\w)-", "", str(value).strip().lower())


def _as_number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and value == value else None


def are_classes(values: Sequence[Any]) -> bool:
    """Whether the cells of a column are labels: short and recurring. Integers with missing values are floats in a
    table."""
    known = [label_text(value) if isinstance(value, float) else value for value in values if not is_missing(value)]
    if not known or not all(isinstance(value, (str, int)) and len(str(value)) <= 60 for value in known):
        return False
    if any(isinstance(value, float) and not value.is_integer() for value in values if not is_missing(value)):
        return False
    different = len({str(value) for value in known})
    return different <= 2 or different <= len(known) / 2 or len(known) < 10


def is_id(column: str, values: Sequence[Any]) -> bool:
    """Whether a column is only an identifier: by its name, or because it holds short codes without repeats."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower()) or [""]
    if words[-1] in _ID_WORDS or words[0] in ("id", "nr", "uuid"):
        return True
    known = [str(value).strip() for value in values if value is not None and value != ""]
    codes = all(len(text) <= 40 and " " not in text and any(map(str.isdigit, text)) for text in known)
    return len(known) > 1 and codes and len(set(known)) == len(known)


def likely_texts(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text columns that could be a prompt or an answer; columns of sentences come before columns of labels."""
    cells = {column: [value for value in column_values(rows, column) if value not in (None, "")] for column in columns}
    texts = [
        column
        for column, values in cells.items()
        if any(isinstance(value, str) for value in values) and not is_id(column, values)
    ]
    return sorted(texts, key=lambda column: not any(" " in str(value).strip() for value in cells[column]))


def label_text(value: Any) -> str:
    """A label as text: 1.0, which pandas makes of 1 in a column with missing values, becomes 1; a missing value becomes
    empty."""
    if is_missing(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def instruction(labels: Iterable[Any], text_column: str) -> str:
    """The prompt template for a classification. Lists the labels unless there are too many."""
    names = sorted({label_text(label) for label in labels if not is_missing(label)})
    asked = "Which label fits the text?"
    if 1 < len(names) <= MOST_LABELS_IN_A_PROMPT:
        asked = f"Which label fits the text: {', '.join(names[:-1])} or {names[-1]}?"
    return f"{escaped(asked)} Answer with the label only.\n\n{{{text_column}}}"


def column_values(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """The cells of a column, with None for missing values and NaN."""
    return [None if is_missing(value := row.get(column)) else value for row in rows]


ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "customer", "question"),
    "assistant": ("assistant", "gpt", "bot", "chatbot", "model", "ai", "chatgpt", "agent"),
    TOOL: (TOOL, "observation", "function", "function_response", "tool_response", "tool_result", "ipython"),
}
_CALL_ROLES = ("function_call", "tool_call", "tool_calls")  # ShareGPT: an assistant's call as a separate turn
_ROLE = {name: role for role, names in ROLES.items() for name in names} | {TOOLS: TOOLS}
ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text")

CUT_TURNS = "turns after the last answer were left out"
NO_ANSWER = "no assistant turn"
EMPTY_ANSWER = "empty answer"
ONLY_THOUGHT = "a thought without an answer"
MARKED_BAD = "an answer marked as bad"
NOT_JUDGED = "an answer marked neither good nor bad"
NO_WINNER = "a tie, or no vote, between two answers"
# Reasons that are not mistakes in the data.
CHOICES = (MARKED_BAD, NOT_JUDGED, NO_WINNER)
WRITTEN_OUT = "an answer or a prompt that was not text was written out as text"
LEFT_OVER = "a left-over None or nan was not added to the prompt"
# What programs write for a missing value.
PLACEHOLDERS: tuple[str, ...] = (
    "none",
    "nan",
    "null",
    "nil",
    "undefined",
    "<na>",
    "#n/a",
    "n/a",
    "<noinput>",
    "noinput",
    "no input",
)
PLACEHOLDERS += ("[object object]", "#value!", "#ref!", "#name?")
NO_WEIGHT = "an answer with weight 0 is trained on like the others"
UNREADABLE_CALL = "a tool call that cannot be read"
UNREADABLE_TOOLS = "tools that cannot be read"
REPLACED_CHARACTERS = "characters that are not valid Unicode were replaced"


class UnusableRow(Exception):
    """This row cannot become an example; `reason` is a short phrase under which rows are counted."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class MissingColumn(UnusableRow):
    """The row lacks a column that its format needs."""

    def __init__(self, column: str):
        self.column = column
        super().__init__(f"no column {column!r}")


class WrongCell(UnusableRow):
    """A cell holds something other than the text or messages that its role needs."""

    def __init__(self, column: str, value: Any, wanted: str = "text"):
        self.column, self.value, self.wanted = column, value, wanted
        super().__init__(f"{column!r} holds {type(value).__name__}, not {wanted}")


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
    if _has_weight_0(row.get(detected.columns.get("messages", ""))):
        remarks.append(NO_WEIGHT)
    messages = [_checked(turn, remarks) for turn in turns]
    if is_document(messages):
        if not messages[0]["content"].strip():
            raise UnusableRow("empty text")
        return messages, remarks
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise UnusableRow(NO_ANSWER)
    if last < len(messages) - 1:
        remarks.append(CUT_TURNS)
        messages = messages[: last + 1]
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
    turns = _turns_of_row(row, detected)
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
    return {"role": "assistant", "content": Said(parts.thought, parts.text, calls, parts.broken).whole}


def _turns_of_row(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    detected = decided(row, detected)
    columns = detected.columns
    if detected.format == "text":
        return document(_text(row, columns["text"]))
    system = _optional_text(row, columns.get("system"))
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
        prompt = _parsed(prompt)
    if prompt is None or isinstance(prompt, str):
        text = prompt or ""
        extra = _optional_text(row, columns.get("input"))
        joined = f"{text}\n\n{extra}" if text.strip() and extra.strip() else text if text.strip() else extra
        return [*turns, {"role": "user", "content": joined}, *answers]
    asked = read_turns(prompt, columns["prompt"])
    return (asked if asked and asked[0]["role"] == "system" else turns + asked) + answers


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
    cells = [row.get(columns[role]) for role in ("prompt", "completion", "input", "chosen") if role in columns]
    if "tools" in columns:
        cells = [cell for cell in cells if not _calls(cell)]
    if any(not is_missing(cell) and not isinstance(cell, str) and not _are_turns(cell) for cell in cells):
        remarks.append(WRITTEN_OUT)
    if is_placeholder(row.get(columns.get("input", ""))):
        remarks.append(LEFT_OVER)
    return remarks


def remarks_of(counts: Mapping[str, int]) -> list[str]:
    """Remarks on rows as notes, each with its number of rows."""
    return [f"In {count:,} {'row' if count == 1 else 'rows'}, {remark}." for remark, count in counts.items()]


def is_placeholder(cell: Any) -> bool:
    """Whether a cell only holds what a program wrote for a missing value."""
    if not isinstance(cell, str) or len(cell) >= 20:
        return False
    return cell.strip().lower() in PLACEHOLDERS or cell.strip() == "NaT"  # missing dates; nat is also a word


def _are_turns(cell: Any) -> bool:
    """Whether a cell holds messages rather than an object or list that is an answer."""
    if isinstance(cell, dict):
        return any(key in cell for key in ROLE_KEYS) or isinstance(cell.get("messages"), list)
    if isinstance(cell, list | tuple):
        return not cell or any(isinstance(turn, dict) and any(key in turn for key in ROLE_KEYS) for turn in cell)
    return False


def _answer_turns(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    columns = detected.columns
    if detected.format == "classification":
        label = row.get(columns["label"])
        if isinstance(label, (list, tuple, dict)):
            raise WrongCell(columns["label"], label, "one label")
        return [{"role": "assistant", "content": label_text(label)}]
    column = columns["chosen"] if "chosen" in columns else columns["completion"]
    answer = _cell(row, column)
    if "tools" in columns and (calls := _calls(answer)):
        return [{"role": "assistant", "content": Said("", "", calls).whole}]
    if isinstance(answer, str) and "prompt" not in columns and is_dialogue(answer):
        return _dialogue(answer)
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


# The format of Anthropic's HH-RLHF: a whole conversation as one text.
_SPEAKER = re.compile(r"(?:^|\n\n)\s*(Human|Assistant): ?")


def is_dialogue(text: Any) -> bool:
    """Whether `text` is a conversation written as Human: ... Assistant: ..."""
    return isinstance(text, str) and text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def _dialogue(text: str) -> list[Message]:
    parts = _SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": words.strip()}
        for speaker, words in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _has_weight_0(value: Any) -> bool:
    return isinstance(value, list) and any(
        isinstance(turn, dict) and turn.get("weight") == 0 and turn.get("role") == "assistant" for turn in value
    )


_TURNS_AS_TEXT = re.compile(r'\s*\[\s*\{\s*"(role|from|speaker|content|value|text)"\s*:')


def _parsed(text: str) -> Any:
    """The turns in a cell of JSON text (a conversational prompt in a CSV), else `text` unchanged."""
    turns = json_or(text, ())
    for turn in turns:
        role = next((turn[key] for key in ROLE_KEYS if key in turn), None) if isinstance(turn, dict) else None
        if not isinstance(role, str) or role.strip().lower() not in _ROLE or not any(key in turn for key in TEXT_KEYS):
            return text  # JSON as the subject of a prompt
    return turns or text


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise MissingColumn(column)
    value = row[column]
    if value is None or isinstance(value, str):
        return value
    return value if _are_turns(value) else written_out(value)


def written_out(value: Any) -> str:
    """A cell as text: numbers as written, objects and lists as JSON, a missing value as empty text."""
    if isinstance(value, float):
        return label_text(value)
    return cell_as_text(list(value) if isinstance(value, tuple) else value)


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
            turns[-1] = {"role": "assistant", "content": f"{turns[-1]['content']}\n{message['content']}".lstrip()}
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


def _calls(value: Any) -> tuple[Call, ...]:
    """The calls in a cell or field: one call or a list, possibly as JSON text. Empty if it holds anything else."""
    if isinstance(value, str):
        value = json_or(value, None)
    calls = [call_of(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return tuple(call for call in calls if call) if all(calls) else ()


def _turn(turn: dict[str, Any], column: str) -> Message:
    role = next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)
    content = next((turn[key] for key in TEXT_KEYS if turn.get(key) is not None), "")
    if not isinstance(role, str):
        raise WrongCell(column, turn, "messages with a role (role or from) and a text (content or value)")
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        # The format of multimodal chat data: text parts are joined, images are refused.
        if any(not isinstance(part.get("text"), str) for part in content):
            raise UnusableRow("a message that is not text")
        content = "".join(part["text"] for part in content)
    if role.strip().lower() in _CALL_ROLES:
        if not (calls := _calls(content)):
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
    calls = _calls(made) if made else ()
    if made and not calls:
        raise UnusableRow(UNREADABLE_CALL)
    if not thought and not calls:
        return content
    parts = parts_of(content)
    return Said(thought.strip() or parts.thought, parts.text, parts.calls + calls, parts.broken).whole


_SURROGATES = re.compile("[\ud800-\udfff]")


def _checked(turn: Message, remarks: list[str]) -> Message:
    if _SURROGATES.search(turn["content"]):
        # JSON can hold half a surrogate pair (\\ud83d), which no tokenizer or file accepts.
        remarks.append(REPLACED_CHARACTERS)
        joined = turn["content"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return {"role": turn["role"], "content": joined}
    return turn
