"""JSON and JSON Lines in all common layouts, with line numbers for errors."""

from __future__ import annotations

import io
import json
import re
from array import array
from typing import Any

from ftlab.core.parsing import DEEPEST, check_depth, mended, parse_told
from ftlab.data.limits import check_columns, check_row, check_rows, most_expanded, too_large
from ftlab.data.split_names import split_name
from ftlab.data.tabular import JsonLines
from ftlab.errors import InputError, shorten

_VALUE_BYTES = 64  # memory of a list, object or number and of the reference to it
_LOOKED_AFTER = 10_000  # rows
_LARGEST_ROW = 256 << 20  # bytes of the values of one row
_WHITE = re.compile(r"[ \t\n\r]*")


def _behind_white(text: str, place: int) -> int:
    """The place of the first character from `place` on that is not white space."""
    match = _WHITE.match(text, place)
    return match.end() if match else place


def read_json(raw: bytes, name: str, *, lines_expected: bool, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of JSON or JSON Lines; `size` is the size of the original file. Raises InputError, also beyond
    `limits`."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            raw = raw.decode("utf-16").encode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not valid UTF-16 text: {error.reason}", try_="save it as UTF-8") from None
        notes.append(f"{name} is UTF-16 text.")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    starts_list = raw.lstrip()[:1] == b"["
    if lines_expected and not starts_list:
        return _read_lines_or_whole(raw, name, notes, size)
    if lines_expected:
        notes.append(f"{name} holds a JSON array, not one object per line; it was read as an array.")
    elif _has_one_object_per_line(raw):
        notes.append(f"{name} holds one object per line; it was read as JSON Lines.")
        return _read_lines(raw, name, notes, size)
    if starts_list:
        return _read_array(raw, name, notes, size)
    return _rows_of_value(_parse_whole(raw, name, notes, size), name, notes, size)


def _read_lines_or_whole(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    try:
        return _read_lines(raw, name, notes, size)
    except InputError as broken:
        # An object spread over several lines fails on its first line; then the file may be plain JSON.
        if raw.lstrip().split(b"\n", 1)[0].strip() != b"{":
            raise
        try:
            value = _parse_whole(raw, name, notes, size)
        except InputError:
            raise broken from None
    notes.append(f"{name} holds one JSON value, not one object per line; it was read as JSON.")
    return _rows_of_value(value, name, notes, size)


def _has_one_object_per_line(raw: bytes) -> bool:
    """Whether a .json file is JSON Lines: each of its first two lines is an object."""
    lines = [line for line in raw[:2_000_000].split(b"\n", 20)[:20] if line.strip()][:2]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def _read_lines(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    starts, columns, position, halves = array("q"), {}, 0, 0
    for number, line in enumerate(io.BytesIO(raw), start=1):  # a copy of one line at a time, not of the file
        if line.strip():
            row, had_halves = _parse_line(line.removesuffix(b"\n"), name, number)
            columns.update(dict.fromkeys(row))
            halves += had_halves
            starts.append(position)
            check_columns(name, len(columns))
            if len(starts) % _LOOKED_AFTER == 0:
                check_rows(name, len(starts), size)
        position += len(line)
    _tell_halves(halves, name, notes)
    return {"train": JsonLines(raw, starts)}, list(columns)


def _tell_halves(rows: int, name: str, notes: list[str]) -> None:
    if rows:
        which = "1 row" if rows == 1 else f"{rows:,} rows"
        notes.append(f"In {which} of {name}, lone surrogates (such as \\ud83d) were replaced with U+FFFD.")


def _check_cost(text: bytes, where: str, limit: int) -> None:
    """Raises InputError if the values in `text` would take more than `limit` bytes of memory: an empty list is two
    characters and 64 bytes."""
    if len(text) * _VALUE_BYTES < limit:
        return
    values = sum(text.count(mark) for mark in (b"[", b"{", b",", b":"))
    if len(text) + values * _VALUE_BYTES > limit:
        raise too_large(where, f"about {values:,} values", limit, unpacked=True)


def _parse_line(line: bytes, name: str, number: int) -> tuple[dict[str, Any], bool]:
    """The row in a line, and whether lone surrogates were replaced in it."""
    where, rule = f"{name}, line {number}", "one JSON object per line, in UTF-8"
    check_row(where, len(line))
    _check_cost(line, where, _LARGEST_ROW)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        excerpt = line[max(0, error.start - 30) : error.start + 30].decode("utf-8", "replace")
        raise InputError(f"{where}: not UTF-8 text", given=excerpt, allowed=rule, try_="save it as UTF-8") from None
    try:
        value, had_halves = parse_told(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno})",
            given=excerpt_at(text, error.pos),
            allowed=rule,
            try_="correct or remove this line",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be read ({shorten(error, 80)})", given=excerpt_at(text, 0)) from None
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: holds {kind_of(value)}, not an object with columns", given=excerpt_at(text, 0), allowed=rule
        )
    return value, had_halves


def _read_array(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of a list of objects, parsed one by one: only their offsets are kept."""
    text = _decoded(raw, name)
    decode, bytes_of = json.JSONDecoder().raw_decode, len if text.isascii() else lambda part: len(part.encode())
    starts, ends, columns, halves = array("q"), array("q"), {}, 0
    wrong: tuple[int, Any] | None = None
    count, strange, position, here = 0, 0, text.index("[") + 1, bytes_of(text[: text.index("[") + 1])

    def skip(place: int) -> int:
        """Skip white space, which is one byte per character."""
        nonlocal here
        end = _behind_white(text, place)
        here += end - place
        return end

    try:
        position = skip(position)
        closed = text.startswith("]", position)
        while not closed:
            try:
                value, end = decode(text, position)
            except RecursionError:
                raise ValueError(f"nested more than {DEEPEST} levels deep") from None
            part = text[position:end]
            length = bytes_of(part)
            check_row(f"Row {count + 1} of {name}", length)
            count += 1
            if isinstance(value, dict):
                if part.count("[") + part.count("{") > DEEPEST:
                    check_depth(value)
                value, had_halves = mended(value, part)
                halves += had_halves
                columns.update(dict.fromkeys(value))
                starts.append(here)
                ends.append(here + length)
                check_columns(name, len(columns))
            else:
                strange, wrong = strange + 1, wrong or (count, value)
            if count % _LOOKED_AFTER == 0:
                check_rows(name, count, size)
            here += length
            position = skip(end)
            closed = text.startswith("]", position)
            if not closed and not text.startswith(",", position):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            if not closed:
                here += 1
                position = skip(position + 1)
        rest = _behind_white(text, position + 1)
        if rest < len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
    except ValueError as error:
        raise _no_json(error, text, name) from None
    if wrong:
        raise _no_rows(name, strange, count, *wrong)
    if not count:
        raise InputError(f"{name} holds no rows", given="an empty list", allowed="at least 10 rows")
    _tell_halves(halves, name, notes)
    return {"train": JsonLines(raw, starts, ends)}, list(columns)


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        excerpt = raw[max(0, error.start - 30) : error.start + 30].decode("utf-8", "replace")
        raise InputError(f"{name}, line {line}: not UTF-8 text", given=excerpt, try_="save it as UTF-8") from None


def _parse_whole(raw: bytes, name: str, notes: list[str], size: int) -> Any:
    _check_cost(raw, name, most_expanded(size))
    text = _decoded(raw, name)
    try:
        value, had_halves = parse_told(text)
    except ValueError as error:
        raise _no_json(error, text, name) from None
    if had_halves:
        notes.append(f"In {name}, lone surrogates (such as \\ud83d) were replaced with U+FFFD.")
    return value


def _no_json(error: ValueError, text: str, name: str) -> InputError:
    if not isinstance(error, json.JSONDecodeError):
        return InputError(f"{name} cannot be read as JSON ({shorten(error, 80)})", given=excerpt_at(text, 0))
    return InputError(
        f"{name}, line {error.lineno}: not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno})",
        given=excerpt_at(text, error.pos),
        allowed="a list of objects",
        try_="correct this place; if the file is cut off, download it again",
    )


def excerpt_at(text: str, position: int, width: int = 40) -> str:
    """The part of one line of `text` around `position`, at most 2 * `width` characters, with … where it is cut."""
    start = max(text.rfind("\n", 0, position) + 1, position - width)
    end = text.find("\n", position)
    end = min(len(text) if end < 0 else end, position + width)
    cut_before, cut_after = start > 0 and text[start - 1] != "\n", end < len(text) and text[end] != "\n"
    return ("…" if cut_before else "") + text[start:end].strip() + ("…" if cut_after else "") or "the end of the file"


def _rows_of_value(value: Any, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """Rows from a parsed JSON value: a list of objects, an object of columns, of splits, or around one list."""
    if isinstance(value, list):
        return _checked_list(value, name)
    if not isinstance(value, dict):
        raise InputError(f"{name} holds {kind_of(value)}, not rows", given=value, allowed="a list of objects")
    lists = {key: item for key, item in value.items() if isinstance(item, list) and item}
    of_rows = {key: item for key, item in lists.items() if all(isinstance(row, dict) for row in item)}
    splits = {split_name(key): item for key, item in of_rows.items() if split_name(key)}
    if "train" in splits:
        return splits, list(dict.fromkeys(column for rows in splits.values() for row in rows for column in row))
    # The layout that pandas writes: {column: {index: cell}}.
    if value and all(isinstance(item, dict) and item for item in value.values()):
        indexes = [list(item) for item in value.values()]
        if all(index == indexes[0] for index in indexes) and indexes[0][0].isdigit():
            lists = {key: list(item.values()) for key, item in value.items()}
            of_rows = {}
    check_columns(name, len(lists))
    check_rows(name, max((len(item) for item in lists.values()), default=0), size)
    sizes = {len(item) for item in lists.values()}
    if len(lists) > 1 and len(lists) == len(value) and len(sizes) == 1:
        columns = list(lists)
        return {
            "train": [dict(zip(columns, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
        }, columns
    if len(of_rows) == 1:
        key, rows = next(iter(of_rows.items()))
        notes.append(f"The rows are from {key!r} in {name}.")
        return _checked_list(rows, name)
    if len(lists) > 1 and len(lists) == len(value):
        lengths = ", ".join(f"{key}: {len(item)}" for key, item in list(lists.items())[:5])
        raise InputError(f"The columns in {name} differ in length", given=lengths, allowed="columns of the same length")
    raise InputError(
        f"{name} holds one object, not rows",
        given=f"an object with {', '.join(list(value)[:8]) or 'nothing in it'}",
        allowed="a list of objects, an object of equally long columns, or an object that holds one list of objects",
    )


def _checked_list(value: list, name: str) -> tuple[dict, list[str]]:
    wrong = [index for index, row in enumerate(value) if not isinstance(row, dict)]
    if not value:
        raise InputError(f"{name} holds no rows", given="an empty list", allowed="at least 10 rows")
    if wrong:
        raise _no_rows(name, len(wrong), len(value), wrong[0] + 1, value[wrong[0]])
    return {"train": value}, list({column: None for row in value for column in row})


def _no_rows(name: str, wrong: int, count: int, number: int, item: Any) -> InputError:
    return InputError(
        f"{name} is a list, but {wrong} of its {count} items are not rows",
        given=f"item {number} is {kind_of(item)}: {shorten(item, 80)}",
        allowed='objects such as {"prompt": "...", "completion": "..."}',
    )


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
