"""What `--json` prints, against the schema that ftlab/docs holds."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PAGE = Path(__file__).parents[1] / "ftlab" / "docs" / "json.schema.json"


@functools.cache
def documented() -> dict[str, Any]:
    """The schema of each command."""
    return json.loads(PAGE.read_text(encoding="utf-8"))["properties"]


@functools.cache
def _validator(command: str) -> Draft202012Validator:
    whole = json.loads(PAGE.read_text(encoding="utf-8"))
    return Draft202012Validator({"$defs": whole["$defs"], **whole["properties"][command]})


def check_shape(command: str, value: dict[str, Any]) -> None:
    """Raises jsonschema's ValidationError unless `value` has the form of `command`, or one of its forms."""
    _validator(command).validate(value)


def check_output(arguments: Sequence[str], printed: str) -> dict[str, Any]:
    """The object in the last line that the command in `arguments` printed, once it has one of its forms."""
    command = next(words for size in (3, 2, 1) if (words := " ".join(arguments[:size])) in documented())
    value = json.loads(printed.strip().splitlines()[-1])
    check_shape(command, value)
    return value
