"""A cell as text that a person can edit, and back: a cell that was no text stays of its kind."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ftlab.errors import InputError
from ftlab.parsing import parse_json, whole

_KINDS = {dict: "an object {…}", list: "a list […]", bool: "true or false", float: "a number", int: "a number"}


def editable(value: Any) -> str:
    """A cell as the text of a box: text as it is, nothing as nothing, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str, indent=2 if isinstance(value, dict | list) else None)


def read_edited(column: str, text: str, before: Any) -> Any:
    """The cell that `text` stands for, of the kind that the cell `before` has.

    Raises InputError when the cell was JSON and `text` is not, or is of another kind.
    """
    text = whole(text)
    if before is None:
        return text or None
    if isinstance(before, str):
        return text
    kind = bool if isinstance(before, bool) else float if isinstance(before, int | float) else type(before)
    allowed = f"{_KINDS.get(kind, 'JSON')}, as before"
    try:
        value = parse_json(text, parse_constant=_no_number)
    except ValueError as error:
        where = f" (line {error.lineno}, {error.msg.lower()})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"The column {column} is no longer valid JSON{where}",
            given=text or "nothing",
            allowed=allowed,
            try_="mend it, or press Cancel; nothing of what you wrote is lost",
        ) from None
    now = bool if isinstance(value, bool) else float if isinstance(value, int | float) else type(value)
    if now is not kind:
        raise InputError(f"The column {column} is no longer of its kind", given=text, allowed=allowed)
    return value


def was_json(before: Any, after: Any) -> bool:
    """Whether a cell of text was a JSON object or list and no longer is one: worth a warning, as it may be meant."""
    return _holds_json(before) and not _holds_json(after)


def _holds_json(value: Any) -> bool:
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
