"""Prompts built from columns: "Question: {question}\\nContext: {context}". Names only; nothing is evaluated.

A run records how its prompts were built, so that later prompts are built the same way, along with the columns kept with
each held-out row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ftlab.config import load_config
from ftlab.core.files import read_json, read_jsonl, write_jsonl
from ftlab.core.parsing import json_or
from ftlab.core.run_directory import RunDirectory
from ftlab.data.limits import check_row
from ftlab.data.tabular import Row
from ftlab.data.tool_calls import TOOLS, tools_text
from ftlab.errors import InputError, nearest

if TYPE_CHECKING:
    from ftlab.data.shapes import Message

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def check_template(template: str, columns: Sequence[str]) -> list[str]:
    """The columns in `template`. Raises InputError for a column that the data does not have, or an unmatched brace."""
    for match in _FIELD.finditer(template):
        if match.group() in ("{{", "}}"):
            continue
        name = match.group(1)
        if name is None:
            raise InputError(
                "The prompt template has an unmatched brace",
                given=template,
                allowed="{column}; for a literal brace, write {{ or }}",
            )
        if name not in columns:
            close = nearest(name, columns)
            raise InputError(
                f"The prompt template uses {name!r}, which is not a column of the data",
                given=template,
                allowed=", ".join(columns),
                try_=f"did you mean {{{close}}}?" if close else None,
            )
    named = fields(template)
    if not named:
        raise InputError(
            "The prompt template uses no column, so every prompt would be the same",
            given=template,
            allowed=f"text with {{column}} in it; columns: {', '.join(columns)}",
        )
    return named


def fill(template: str, row: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of `template` for `row`, and whether any of its cells is non-empty.

    Raises KeyError(column) for a column missing from the row, InputError if the text exceeds the row limit.
    """
    held, size = False, 0

    def put(match: re.Match[str]) -> str:
        nonlocal held, size
        if match.group(1) is None:
            return match.group()[0]
        text = cell_as_text(row[match.group(1)])
        held = held or bool(text.strip())
        size += len(text)
        check_row("The prompt from the template", size)
        return text

    return _FIELD.sub(put, template), held


def fields(template: str) -> list[str]:
    """The columns that a checked `template` names, in order."""
    named = [match.group(1) for match in _FIELD.finditer(template) if match.group(1) is not None]
    return list(dict.fromkeys(named))


def renamed(template: str, names: Mapping[str, str]) -> str:
    """`template` with other names for its columns."""
    return _FIELD.sub(
        lambda match: match.group() if match.group(1) is None else f"{{{names[match.group(1)]}}}", template
    )


def frame_of(template: str) -> re.Pattern[str]:
    """A pattern that matches every text that `fill` can make from `template`."""
    written, position = "", 0
    for match in _FIELD.finditer(template):
        written += re.escape(template[position : match.start()])
        written += re.escape(match.group()[0]) if match.group(1) is None else ".*"
        position = match.end()
    return re.compile(written + re.escape(template[position:]), re.DOTALL)


def escaped(text: str) -> str:
    """`text` for use inside a template."""
    return text.replace("{", "{{").replace("}", "}}")


def cell_as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


_MOST_COLUMNS = 20
_LONGEST_TEXT = 100

Columns = dict[tuple[str, int], Row]


def small_columns(row: Mapping[str, Any], without: Iterable[str] = ()) -> Row:
    """The cells of `row` that hold one short value, except in the columns `without`."""
    cells = {}
    for name, value in row.items():
        if name in without or (isinstance(value, float) and value != value):
            continue
        if isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT):
            cells[name] = value
    return dict(list(cells.items())[:_MOST_COLUMNS])


def columns_of(
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    examples: Iterable[Mapping[str, Any]],
    without: Iterable[str],
    group_by: str | None = None,
) -> Columns:
    """The small columns of the source row of each example, by its (source, row); `splits` are the source rows.

    They always include `group_by`: rows of one group are counted together.
    """
    wanted: dict[str, set[int]] = {}
    for example in examples:
        wanted.setdefault(example["source"], set()).add(example["row"])
    left_out = set(without)
    columns: Columns = {}
    for source, numbers in wanted.items():
        rows = splits[source]
        # Iterating over all rows reads Arrow and Hub data in batches, which single rows cannot.
        through = len(numbers) * 20 > len(rows)
        picked = enumerate(rows) if through else ((number, rows[number]) for number in sorted(numbers))
        for number, row in picked:
            if number not in numbers:
                continue
            cells = small_columns(row, left_out)
            if group_by and group_by not in cells and (text := cell_as_text(row.get(group_by))):
                cells[group_by] = text if len(text) <= _LONGEST_TEXT else f"{text[:60]}… {_digest(text)}"
            if cells:
                columns[source, number] = cells
    return columns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def freeze_columns(run: RunDirectory, columns: Mapping[str, Columns]) -> None:
    """Write the columns of each held-out split into `run`."""
    lines = [
        {"split": split, "source": source, "row": number, "columns": cells}
        for split, of_split in columns.items()
        for (source, number), cells in of_split.items()
    ]
    if lines:
        write_jsonl(run.columns_file, lines)


def read_columns(run: RunDirectory, split: str) -> Columns:
    """What `freeze_columns` wrote for `split`; empty if the run has no such columns."""
    return {
        (line["source"], line["row"]): line["columns"]
        for line in read_jsonl(run.columns_file)
        if line["split"] == split
    }


@dataclass(frozen=True)
class AsTrained:
    """`template` turns a text into a prompt (None: the text is the prompt). `system` is the most common system prompt
    of the training rows (None: most have none); `system_rows` of `rows` have it. `tools` are those listed by most
    training rows, as the text of their turn (None: most list none, or different ones); `tool_rows` list some."""

    template: str | None = None
    system: str | None = None
    system_rows: int = 0
    rows: int = 0
    tools: str | None = None
    tool_rows: int = 0

    def offering(self, tools: str | None) -> AsTrained:
        """A copy with these `tools` (JSON) instead of those of training; empty keeps those of training. Raises
        InputError if it is not a list of tools."""
        if not (tools or "").strip():
            return self
        text = tools_text(tools)
        if not text:
            raise InputError(
                "These are no tools",
                given=tools,
                allowed="a JSON list of tools as OpenAI writes them",
                try_='[{"name": "track_order", "parameters": {"type": "object", "properties": {...}}}]',
            )
        return replace(self, tools=text)

    @property
    def columns(self) -> list[str]:
        """The columns that fill the template; usually one."""
        return fields(self.template) if self.template else []

    @property
    def is_plain(self) -> bool:
        """Whether a text is sent unchanged."""
        return self.template is None and self.system is None and self.tools is None

    def wrapped(self, text: str) -> str:
        """The prompt made from `text`; a text that is such a prompt already is returned unchanged.

        With several columns, `text` must be a JSON object of them; anything else is returned unchanged.
        """
        if self.template is None or frame_of(self.template).fullmatch(text):
            return text
        if len(self.columns) == 1:
            return fill(self.template, {self.columns[0]: text})[0]
        values = json_or(text, None)
        if not isinstance(values, dict) or not set(self.columns) <= values.keys():
            return text
        return fill(self.template, values)[0]

    def takes(self, text: str) -> bool:
        """Whether `wrapped` turns `text` into a prompt as in training."""
        return self.template is None or bool(frame_of(self.template).fullmatch(self.wrapped(text)))

    def messages(self, turns: Sequence[Message], system: str | None = None) -> list[Message]:
        """`turns` as in training: user turns wrapped in the prompt, after `system` or the system prompt of training,
        and its tools."""
        own = [turn for turn in turns if turn["role"] == "system"]
        prompt = system or self.system
        head = [{"role": "system", "content": prompt}] if prompt and not own else own
        if self.tools and not any(turn["role"] == TOOLS for turn in turns):
            head = [*head, {"role": TOOLS, "content": self.tools}]
        return [
            *head,
            *(
                {**turn, "content": self.wrapped(turn["content"])} if turn["role"] == "user" else dict(turn)
                for turn in turns
                if turn["role"] != "system"
            ),
        ]

    def described(self) -> list[str]:
        """The same in sentences. Empty if a text is sent unchanged."""
        sentences = []
        if self.template:
            columns = self.columns
            what = "Your text fills" if len(columns) == 1 else f"A JSON object with {' and '.join(columns)} fills"
            sentences.append(f"{what} the prompt of training: {self.template!r}.")
        if self.system:
            sentences.append(f"The system prompt of training comes first: {self.system!r}.")
            if self.system_rows < self.rows:
                rest = "the others have a different one or none"
                sentences.append(f"{self.system_rows} of {self.rows} training rows have it; {rest}.")
        if self.tools:
            names = ", ".join(tool["function"]["name"] for tool in json.loads(self.tools))
            sentences.append(f"The models may call the tools of training: {names}. You type what they reply.")
        elif self.tool_rows:
            sentences.append("The training rows list different tools, so none is offered unless you name some.")
        return sentences

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def as_trained(template: str | None, conversations: Sequence[Sequence[Message]]) -> AsTrained:
    """How `template` and the training rows (`conversations`, without replay) build a prompt."""
    systems = Counter(
        turns[0]["content"] if turns and turns[0]["role"] == "system" else None for turns in conversations
    )
    system, count = systems.most_common(1)[0] if systems else (None, 0)
    listed = Counter(turn["content"] for turns in conversations for turn in turns[:2] if turn["role"] == TOOLS)
    tools, with_them = listed.most_common(1)[0] if listed else (None, 0)
    tools = tools if 2 * with_them > len(conversations) else None
    return AsTrained(template, system, count if system else 0, len(conversations), tools, sum(listed.values()))


def asked_of(run: RunDirectory) -> AsTrained:
    """How the training rows of `run` were built. Older runs record only their system prompt."""
    stored = read_json(run.asked_file)
    if not isinstance(stored, dict):
        return AsTrained(system=load_config(run.config_file).data.system_prompt)
    return AsTrained(**{key: stored.get(key) or default for key, default in AsTrained().as_dict().items()})
