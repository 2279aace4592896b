"""Parse untrusted JSON and YAML within limits, and make every string in it valid Unicode.

The limits are generous: JSON schemas nest about 30 levels, a sweep with long system prompts takes 100 kB, and no
configuration has more than a few hundred settings.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ftlab.errors import InputError, shorten

DEEPEST = 100  # levels of lists and objects
_LONGEST_NUMBER = 1024  # bits: the largest float
_LARGEST_YAML = 1 << 20  # characters
_MOST_NODES = 100_000  # values in a YAML file, with aliases expanded


def whole(value: Any) -> Any:
    """`value` with lone surrogates replaced by U+FFFD in its strings, lists and objects (also in keys).

    JSON and YAML can spell half an emoji (\\ud83d), which no tokenizer, file or database accepts. A value without any
    is returned unchanged.
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            # A surrogate pair becomes the character.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        entries: dict[Any, Any] = {}
        for key, item in value.items():
            key = whole(key)
            while key in entries:  # two keys that differ only in their surrogates
                key += "\ufffd"
            entries[key] = whole(item)
        return entries
    return value


def parse_json(text: str, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """The value in `text`, without lone surrogates. Raises ValueError for invalid JSON, for numbers too long for
    Python, and for more than DEEPEST levels."""
    return parse_told(text, parse_constant=parse_constant)[0]


def json_or(text: str, default: Any) -> Any:
    """The value in `text` if it is JSON, else `default`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return default


def parse_told(
    text: str,
    *,
    parse_constant: Callable[[str], Any] | None = None,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> tuple[Any, bool]:
    """As `parse_json`, and whether lone surrogates were replaced; `pairs_hook` makes the objects."""
    value = _parsed(text, parse_constant, pairs_hook)
    return mended(value, text)


def mended(value: Any, text: str) -> tuple[Any, bool]:
    """`value`, parsed from `text`, without lone surrogates, and whether it contained any."""
    if "\\ud" not in text and "\\uD" not in text:
        return value, False
    try:
        json.dumps(value, ensure_ascii=False).encode()  # the fastest check of all strings in it
    except UnicodeEncodeError:
        return whole(value), True
    return value, False


def _parsed(
    text: str,
    parse_constant: Callable[[str], Any] | None,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    try:
        value = json.loads(text, parse_constant=parse_constant, object_pairs_hook=pairs_hook)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    if len(text) > 2 * DEEPEST and text.count("[") + text.count("{") > DEEPEST:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raises ValueError when lists and objects are nested more than DEEPEST levels deep."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            item
            for container in level
            if isinstance(container, list | dict)
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, list | dict)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def read_yaml(path: Path) -> Any:
    """The value in a YAML file. Raises FileNotFoundError, and InputError for anything else that is wrong with it."""
    try:
        with path.open("rb") as file:
            raw = file.read(4 * _LARGEST_YAML + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"The file cannot be read: {error.strerror}", given=path) from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path.name} is not UTF-8 text at line {line}", try_="save it as UTF-8") from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> Any:
    """The value in `text`, which messages call `name`. Raises InputError, naming the line, for invalid YAML, values
    that Python cannot represent (2024-02-30, 5,000 digits), duplicate keys, and anything larger, deeper or more often
    repeated by aliases than settings are."""
    if len(text) > _LARGEST_YAML:
        raise InputError(
            f"{name} is too large for settings",
            given=f"{len(text):,} characters",
            allowed=f"at most {_LARGEST_YAML:,}",
        )
    if _Quick is not None and sum(map(text.count, "[{-:?")) <= _SHALLOW:
        with contextlib.suppress(yaml.YAMLError):  # the other loader says more about what is wrong
            return _loaded(_Quick, text)
    try:
        return _loaded(_Loader, text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        hint = "indent with spaces" if "\\t" in str(problem) else None
        raise InputError(f"{name} is not valid YAML{where}: {shorten(problem, 160)}", try_=hint) from None
    except RecursionError:
        raise InputError(f"{name} is nested more than {DEEPEST} levels deep", try_="flatten it") from None


def _loaded(kind: Any, text: str) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_node(node)
        return whole(loader.construct_document(node))
    finally:
        loader.dispose()


class _Constructor(yaml.constructor.SafeConstructor):
    """Reports a value that Python cannot represent as an error of the file, with its line."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:  # Python does not limit hexadecimal
                raise ValueError("too many digits")
            return value
        except yaml.YAMLError:
            raise
        except (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError) as error:
            excerpt = shorten(node.value, 40) if isinstance(node, yaml.ScalarNode) else type(node.value).__name__
            reason = "too many digits for a number" if "digits" in str(error) else shorten(error, 80)
            problem = f"{excerpt} cannot be read ({reason}); put text into quotation marks"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


class _Loader(_Constructor, yaml.SafeLoader):
    """Of Python alone."""


# libyaml reads the settings of a run in a tenth of the time, but recurses in C: for texts that cannot be nested deep.
_Quick: Any = type("_Quick", (_Constructor, yaml.CSafeLoader), {}) if yaml.__with_libyaml__ else None
_SHALLOW = 2000  # characters that could each begin a level


def _check_node(root: Any) -> None:
    """Raises YAMLError for duplicate keys, for aliases that contain themselves or expand to too many values, and for
    more than DEEPEST levels."""
    sizes: dict[int, int | None] = {}  # values in a node, aliases expanded; None: it is being counted

    def size(node: Any, depth: int) -> int:
        known = sizes.get(id(node), 0)
        if known:
            return known
        if known is None:
            raise _wrong(node, "an alias that contains itself")
        if depth > DEEPEST:
            raise _wrong(node, f"nested more than {DEEPEST} levels deep")
        sizes[id(node)] = None
        total = 1
        if isinstance(node, yaml.MappingNode):
            seen: set[tuple[str, str]] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if (key.tag, key.value) in seen:
                        raise _wrong(key, f"the key {shorten(key.value, 60)!r} appears twice")
                    seen.add((key.tag, key.value))
                total += size(key, depth + 1) + size(value, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item, depth + 1) for item in node.value)
        if total > _MOST_NODES:
            raise _wrong(node, f"more than {_MOST_NODES:,} values with aliases expanded")
        sizes[id(node)] = total
        return total

    size(root, 0)


def _wrong(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, node.start_mark)


def without_thoughts(reply: str) -> str:
    """What a model wrote, without what it thought before: a thought that was cut off goes to the end."""
    return re.sub(r"<think>.*?(</think>|$)", " ", reply, flags=re.DOTALL)
