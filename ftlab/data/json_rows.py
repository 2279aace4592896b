"""JSON and JSON Lines as rows: lists, consecutive objects, and the layouts that tools write."""

from __future__ import annotations

import io
import json
import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftlab.core.parsing import DEEPEST, check_depth, json_or, mended, parse_told
from ftlab.data.encodings import find_encoding, tell_encoding
from ftlab.data.limits import check_columns, check_row, check_rows, most_expanded, too_large
from ftlab.data.shapes import split_name
from ftlab.data.tabular import JsonLines, Row, header_of, layout_of
from ftlab.errors import InputError, shorten

_VALUE_BYTES = 64  # memory of a list, object or number and of the reference to it
_LOOKED_AFTER = 10_000  # rows
_LARGEST_ROW = 256 << 20  # bytes of the values of one row
_WHITE = re.compile(r"[ \t\n\r\ufeff\x1e]*")


def _behind_white(text: str, place: int) -> int:
    """The position of the first non-white-space character from `place` on."""
    match = _WHITE.match(text, place)
    return match.end() if match else place


class NotJson(InputError):
    """The text is not JSON, or only part of it is."""


def read_json(
    raw: bytes, name: str, *, lines_expected: bool, notes: list[str], size: int, encoding: str | None = None
) -> tuple[dict, list[str]]:
    """The rows of JSON or JSON Lines; `size` is the size of the original file. Raises InputError, also beyond
    `limits`."""
    raw = _as_utf8(raw, name, notes, encoding)
    starts_list = raw.lstrip()[:1] == b"["
    if lines_expected and not starts_list:
        return _read_lines_or_objects(raw, name, notes, size)
    if lines_expected:
        notes.append(f"{name} holds a JSON array, not one object per line; it was read as an array.")
    elif _has_one_object_per_line(raw):
        notes.append(f"{name} holds one object per line; it was read as JSON Lines.")
        return _read_lines_or_objects(raw, name, notes, size)
    if starts_list:
        return _read_objects(raw, name, notes, size)
    try:
        value = _parse_whole(raw, name, notes, size)
    except NotJson as broken:
        # Consecutive objects are not one JSON value.
        return _read_after(broken, raw, name, notes, size)
    return _rows_of_value(value, name, notes, size)


def _as_utf8(raw: bytes, name: str, notes: list[str], wanted: str | None) -> bytes:
    encoding = find_encoding(lambda: io.BytesIO(raw), name, wanted)
    tell_encoding(encoding, name, notes, wanted)
    if encoding not in ("utf-8", "utf-8-sig"):
        raw = raw.decode(encoding).encode("utf-8", "replace")
    # Concatenated files have a byte order mark at each joint; records may begin with RS (RFC 7464).
    return re.sub(rb"(?m)^(?:\xef\xbb\xbf|\x1e)+", b"", raw) if b"\xef\xbb\xbf" in raw or b"\x1e" in raw else raw


def _read_lines_or_objects(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    try:
        return _read_lines(raw, name, notes, size)
    except NotJson as broken:
        return _read_after(broken, raw, name, notes, size)


def _read_after(broken: InputError, raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The objects of a file that is neither one value nor one per line: objects that span lines, share a line, or are
    separated by commas. Raises `broken` if there are none, or the error in one of many lines."""
    _check_cost(raw, name, most_expanded(size))
    told: list[str] = []
    try:
        splits, columns = _read_objects(raw, name, told, size)
    except InputError as wrong:
        first = raw.lstrip().split(b"\n", 1)[0].strip()
        raise (wrong if first == b"{" else broken) from None
    if len(splits["train"]) == 1:
        value = _parse_whole(raw, name, notes, size)
        notes.append(f"{name} holds one JSON value, not one object per line; it was read as JSON.")
        return _rows_of_value(value, name, notes, size)
    notes += [*told, f"{name} has several JSON objects on a line, or objects over several lines."]
    return splits, columns


def _has_one_object_per_line(raw: bytes) -> bool:
    """Whether a .json file is JSON Lines: each of its first two lines is an object."""
    lines = [line for line in raw[:2_000_000].split(b"\n", 20)[:20] if line.strip()][:2]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


class DoubledRows(JsonLines):
    """Rows of a JSON file, some of which have a duplicate key: `doubled` holds the key by row."""

    doubled: Mapping[int, str]


class _Keys:
    """Notes the last duplicate key in an object. JSON allows duplicates, and every reader keeps only the last value."""

    def __init__(self) -> None:
        self.twice: str | None = None

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            self.twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return entries

    def taken(self) -> str | None:
        twice, self.twice = self.twice, None
        return twice


def _json_rows(raw: bytes, starts: Any, ends: Any, doubled: dict[int, str]) -> JsonLines:
    if not doubled:
        return JsonLines(raw, starts, ends)
    rows = DoubledRows(raw, starts, ends)
    rows.doubled = doubled
    return rows


def _read_lines(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    starts, columns, position, halves = array("q"), {}, 0, 0
    keys, doubled = _Keys(), {}
    for number, line in enumerate(io.BytesIO(raw), start=1):  # a copy of one line at a time, not of the file
        if line.strip():
            row, had_halves = _parse_line(line.removesuffix(b"\n"), name, number, keys)
            columns.update(dict.fromkeys(row))
            halves += had_halves
            if (key := keys.taken()) is not None:
                doubled[len(starts)] = key
            starts.append(position)
            check_columns(name, len(columns))
            if len(starts) % _LOOKED_AFTER == 0:
                check_rows(name, len(starts), size)
        position += len(line)
    _tell_halves(halves, name, notes)
    return {"train": _json_rows(raw, starts, None, doubled)}, list(columns)


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


def _parse_line(line: bytes, name: str, number: int, keys: _Keys) -> tuple[Row, bool]:
    """The row in a line, and whether lone surrogates were replaced in it."""
    where, rule = f"{name}, line {number}", "one JSON object per line"
    check_row(where, len(line))
    _check_cost(line, where, _LARGEST_ROW)
    text = line.decode("utf-8")
    try:
        value, had_halves = parse_told(text, pairs_hook=keys)
    except json.JSONDecodeError as error:
        raise NotJson(
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


def _read_objects(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of a list of objects, of consecutive lists, or of objects without a list around them. They are parsed
    one by one: only their offsets are kept."""
    text = raw.decode("utf-8")
    keys = _Keys()
    decode = json.JSONDecoder(object_pairs_hook=keys).raw_decode
    bytes_of = len if text.isascii() else lambda part: len(part.encode())
    starts, ends, columns, halves, doubled = array("q"), array("q"), {}, 0, {}
    wrong: tuple[int, Any] | None = None
    count, strange, position, here = 0, 0, 0, 0
    inside = comma_due = False

    def skip(place: int) -> int:
        """Skip white space, and the marks that concatenated files and records begin with."""
        nonlocal here
        end = _behind_white(text, place)
        here += len(text[place:end].encode())
        return end

    try:
        while (position := skip(position)) < len(text):
            sign = text[position]
            if sign == "[" and not inside and not (count and _is_turn(text, position)):
                inside, comma_due = True, False
            elif sign == "]" and inside:
                inside = comma_due = False
            elif sign == "," and (comma_due or not inside):
                comma_due = False
            elif comma_due:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            elif not inside and count and sign != "{":
                raise json.JSONDecodeError("Extra data", text, position)
            else:
                try:
                    value, end = decode(text, position)
                except RecursionError:
                    raise ValueError(f"nested more than {DEEPEST} levels deep") from None
                part = text[position:end]
                length = bytes_of(part)
                check_row(f"Row {count + 1} of {name}", length)
                count += 1
                twice = keys.taken()
                if isinstance(value, dict):
                    if part.count("[") + part.count("{") > DEEPEST:
                        check_depth(value)
                    value, had_halves = mended(value, part)
                    halves += had_halves
                    columns.update(dict.fromkeys(value))
                    if twice is not None:
                        doubled[len(starts)] = twice
                    starts.append(here)
                    ends.append(here + length)
                    check_columns(name, len(columns))
                else:
                    strange, wrong = strange + 1, wrong or (count, value)
                if count % _LOOKED_AFTER == 0:
                    check_rows(name, count, size)
                here += length
                position, comma_due = end, inside
                continue
            position, here = position + 1, here + 1
        if inside:
            raise json.JSONDecodeError("Expecting ',' delimiter" if comma_due else "Expecting value", text, position)
    except ValueError as error:
        raise _no_json(error, text, name) from None
    if wrong and strange == count:
        rows = _rows_of_lists(json_or(text, None), name, notes)
        if rows is not None:
            return rows
    if wrong:
        raise _no_rows(name, strange, count, *wrong)
    if not count:
        raise InputError(f"{name} holds no rows", given="an empty list", allowed="at least 10 rows")
    _tell_halves(halves, name, notes)
    return {"train": _json_rows(raw, starts, ends, doubled)}, list(columns)


def _is_turn(text: str, position: int) -> bool:
    """Whether a list begins with a turn of a conversation: then it is a row, not a list of rows."""
    return re.match(r'\[\s*\{\s*"(role|from|speaker|content|value|parts)"', text[position : position + 200]) is not None


def _rows_of_lists(value: Any, name: str, notes: list[str]) -> tuple[dict, list[str]] | None:
    """The rows of a list of lists of cells, with or without a header as the first list."""
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(row, list) and row for row in value):
        return None
    if {len(row) for row in value} != {len(value[0])} or any(isinstance(cell, dict | list) for cell in value[0]):
        return None
    layout = layout_of(value[:50])
    names_all = layout.has_header and all(isinstance(cell, str) for cell in value[0])
    replace(layout, skipped=0, titles=(), has_header=names_all).tell(name, notes)
    columns = header_of(value[0] if names_all else [""] * len(value[0]), name)
    rows = value[1:] if names_all else value
    return {"train": [dict(zip(columns, row, strict=True)) for row in rows]}, columns


def _parse_whole(raw: bytes, name: str, notes: list[str], size: int) -> Any:
    _check_cost(raw, name, most_expanded(size))
    text = raw.decode("utf-8")
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
    return NotJson(
        f"{name}, line {error.lineno}: not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno})",
        given=excerpt_at(text, error.pos),
        allowed="a list of objects",
        try_="correct this place; if the file is cut off, download it again",
    )


def excerpt_at(text: str, position: int) -> str:
    """The part of one line of `text` around `position`, at most 80 characters, with … where it is cut."""
    start = max(text.rfind("\n", 0, position) + 1, position - 40)
    end = text.find("\n", position)
    end = min(len(text) if end < 0 else end, position + 40)
    cut_before, cut_after = start > 0 and text[start - 1] != "\n", end < len(text) and text[end] != "\n"
    return ("…" if cut_before else "") + text[start:end].strip() + ("…" if cut_after else "") or "the end of the file"


def _rows_of_value(value: Any, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """Rows from a parsed JSON value: a list of objects, an object of columns or of splits, or an object that wraps one
    list."""
    if isinstance(value, list):
        return _checked_list(value, name)
    if not isinstance(value, dict):
        raise InputError(f"{name} holds {kind_of(value)}, not rows", given=value, allowed="a list of objects")
    if (table := _of_pandas(value, name, notes)) is not None:
        return table
    lists = {key: item for key, item in value.items() if isinstance(item, list) and item}
    of_rows = {key: item for key, item in lists.items() if all(isinstance(row, dict) for row in item)}
    splits = {split_name(key): item for key, item in of_rows.items() if split_name(key)}
    if "train" in splits:
        return splits, list(dict.fromkeys(column for rows in splits.values() for row in rows for column in row))
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
        if questions := _of_squad(rows):
            notes.append(f"{name} holds articles of SQuAD; each question is a row, with its context.")
            check_rows(name, len(questions), size)
            return _checked_list(questions, name)
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


def _of_squad(articles: list[dict[str, Any]]) -> list[Row]:
    """The questions of SQuAD's own nested JSON (articles, paragraphs, qas) as rows. Empty for anything else."""
    rows: list[Row] = []
    for article in articles:
        for paragraph in paragraphs if isinstance(paragraphs := article.get("paragraphs"), list) else [None]:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                return []
            for asked in paragraph["qas"]:
                answers = asked.get("answers") if isinstance(asked, dict) else None
                if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
                    return []
                spans = {key: [answer.get(key) for answer in answers] for key in ("text", "answer_start")}
                row = {"id": asked.get("id"), "title": article.get("title"), "context": paragraph.get("context")}
                rows.append(row | {"question": asked.get("question"), "answers": spans})
    return rows


def _of_pandas(value: dict[str, Any], name: str, notes: list[str]) -> tuple[dict, list[str]] | None:
    """The rows of the output of `DataFrame.to_json` with orient="split", "table", "index" or "columns"; else None."""
    data, columns = value.get("data"), value.get("columns")
    if isinstance(data, list) and isinstance(columns, list) and value.keys() <= {"columns", "index", "data"}:
        if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
            return None
        names = header_of(columns, name)
        notes.append(f'{name} was read as a table that pandas wrote (orient="split").')
        return {"train": [dict(zip(names, row, strict=True)) for row in data]}, names
    schema = value.get("schema")
    if isinstance(schema, dict) and "pandas_version" in schema and isinstance(data, list):
        notes.append(f'{name} was read as a table that pandas wrote (orient="table").')
        return _checked_list([_without_index(row, schema) if isinstance(row, dict) else row for row in data], name)
    parts = list(value.values())
    if not parts or not all(isinstance(part, dict) and part for part in parts):
        return None
    inner = dict.fromkeys(key for part in parts for key in part)
    same = all(len(part) == len(inner) for part in parts)
    # {column: {index: cell}} has few columns and many rows; {index: {column: cell}} the reverse.
    if same and (all(key.isdigit() for key in inner) or len(inner) > len(parts)):
        if any(isinstance(cell, dict) for part in parts for cell in part.values()):
            return None
        notes.append(f'{name} was read as a table that pandas wrote (orient="columns").')
        check_columns(name, len(value))
        return {"train": [{column: value[column][key] for column in value} for key in inner]}, list(value)
    if len(parts) >= 10 and len(inner) < len(parts):
        notes.append(f'{name} holds an object of rows, as pandas writes it with orient="index".')
        return _checked_list(parts, name)
    return None


def _without_index(row: Row, schema: Mapping[str, Any]) -> Row:
    index = schema.get("primaryKey")
    names = index if isinstance(index, list) else []
    return {key: cell for key, cell in row.items() if not (key in names and key in ("index", "level_0"))}


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
