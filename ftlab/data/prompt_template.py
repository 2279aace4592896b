"""Prompts built from columns: "Question: {question}\\nContext: {context}". Names only; nothing is evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.data.limits import check_row
from ftlab.errors import InputError, nearest

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
