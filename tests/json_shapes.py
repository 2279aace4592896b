"""The shapes of `--json` as ftlab/docs/json.md documents them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "ftlab" / "docs" / "json.md"


@functools.cache
def documented() -> dict[str, list[tuple[set[str], set[str], bool]]]:
    """For each command its shapes: keys that are there, keys that may be, and whether there are others."""
    text = PAGE.read_text(encoding="utf-8")
    version = set(re.findall(r"`(\w+)`", text[text.index("A version has") :]))
    shapes: dict[str, list[tuple[set[str], set[str], bool]]] = {}
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        command, keys = (cell.strip() for cell in line.strip("|").split(" | ", 1))
        keys = re.sub(r"\(.*?\)", "", re.split(r"[;:] ", keys)[0])
        optional = set(re.findall(r"`(\w+)`\?", keys))
        there = set(re.findall(r"`(\w+)`", keys)) - optional | (version if "of a version" in keys else set())
        name = re.split(r" --|`", command.strip("`"))[0]
        shapes.setdefault(name, []).append((there, optional, "…" in keys))
    return shapes


def check_shape(command: str, value: dict[str, Any]) -> None:
    """Raises AssertionError unless `value` has one of the documented shapes of `command`."""
    keys, shapes = set(value), documented()[command]
    fits = any(there <= keys and (more or keys <= there | optional) for there, optional, more in shapes)
    assert fits, f"{command}: {sorted(keys)} is not as in {PAGE.name}: {shapes}"
