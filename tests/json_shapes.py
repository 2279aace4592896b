"""What `--json` prints, against the schema that ftlab/docs holds."""

from __future__ import annotations

import functools
import json
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
