"""One reader per file format, including JSON, archives and pasted text; all return rows of named fields."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import stat
import struct
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ftlab.core.files import write_text
from ftlab.core.parsing import DEEPEST, check_depth, mended, parse_told
from ftlab.core.workspace import Workspace
from ftlab.data.limits import (
    check_columns,
    check_expanded,
    check_row,
    check_rows,
    check_size,
    largest_file,
    most_expanded,
    readable,
    too_large,
)
from ftlab.data.tabular import JsonLines, Row, decode, read_arrow, read_delimited, read_parquet, read_text
from ftlab.errors import InputError, shorten

SPLITS = ("train", "validation", "test")

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(name: str) -> str | None:
    """train, validation or test for a common name of a split (`dev`, `train-00000-of-00001`); None for others."""
    return _NAMES.get(re.split(r"[-_.]", name.lower(), maxsplit=1)[0])


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


def _parse_line(line: bytes, name: str, number: int) -> tuple[Row, bool]:
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


MOST_ENTRIES = 200
HIGHEST_RATIO = 200  # expanded to compressed; text reaches about 3 to 10, tables of equal rows perhaps 100
_RATIO_COUNTS_FROM = 16 << 20  # bytes; small files may have any ratio
_ARCHIVES = (".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar")
_KINDS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read_zip(raw: bytes, name: str, suffixes: tuple[str, ...], notes: list[str]) -> dict[str, tuple[str, bytes]]:
    """The data files (with one of `suffixes`) in a zip archive by split: {"train": (name, bytes), ...}.

    Raises InputError if it is not an archive, is encrypted, holds another archive, no data file or a path that leads
    out of it, or expands beyond `most_expanded`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = _checked(archive, name)
            chosen = _chosen(entries, name, suffixes, notes)
            check_expanded(name, sum(entry.file_size for entry in chosen.values()), len(raw))
            left = most_expanded(len(raw))
            files = {}
            for split, entry in chosen.items():
                data = _unpacked(archive, entry, name, left)
                left -= len(data)
                files[split] = (PurePosixPath(entry.filename).name, data)
            return files
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError) as error:
        raise InputError(f"{name} is not a complete zip archive: {error}", try_="download it or zip it again") from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile's errors for other compression methods and passwords
        raise InputError(f"{name} cannot be unzipped: {error}", try_="zip it again without options") from None


def _checked(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    if len(entries) > MOST_ENTRIES:
        raise InputError(
            f"{name} holds too many files", given=len(entries), allowed=f"at most {MOST_ENTRIES}", try_="zip fewer"
        )
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise InputError(
                f"{name} holds a path that leads out of the archive",
                given=entry.filename,
                allowed="file names without .. and not beginning with /",
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{name} holds a link instead of a file", given=entry.filename)
        if entry.flag_bits & 0x1:
            raise InputError(f"{name} is encrypted", given=entry.filename, try_="zip it without a password")
        if path.suffix.lower() in _ARCHIVES:
            raise InputError(
                f"{name} holds another archive", given=entry.filename, try_="zip the data files themselves"
            )
    return entries


def _chosen(
    entries: list[zipfile.ZipInfo], name: str, suffixes: tuple[str, ...], notes: list[str]
) -> dict[str, zipfile.ZipInfo]:
    """The one data file, or those called train, validation and test."""
    # macOS adds a ._NAME beside every file.
    real = [e for e in entries if not e.filename.startswith("__MACOSX/") and "/." not in f"/{e.filename}"]
    data = [entry for entry in real if PurePosixPath(entry.filename).suffix.lower() in suffixes]
    if not data:
        raise InputError(
            f"{name} holds no data file",
            given=", ".join(entry.filename for entry in entries[:8]) or "nothing",
            allowed=", ".join(suffixes),
        )
    # Beside other data, a text file is documentation.
    data = [entry for entry in data if not entry.filename.lower().endswith(".txt")] or data
    ignored = [entry.filename for entry in real if entry not in data]
    if ignored:
        notes.append(f"Not read in {name}: {', '.join(ignored[:8])}{' …' if len(ignored) > 8 else ''}.")
    if len(data) == 1:
        return {"train": data[0]}
    entry_of: dict[str, zipfile.ZipInfo] = {}
    for entry in data:
        split = split_name(PurePosixPath(entry.filename).stem)
        if split in entry_of or split is None:
            raise InputError(
                f"{name} holds several data files with unclear splits",
                given=", ".join(entry.filename for entry in data[:8]),
                allowed="one data file, or one each for train, validation and test",
                try_="name the files train, validation and test",
            )
        entry_of[split] = entry
    return {split: entry_of[split] for split in SPLITS if split in entry_of}


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, left: int) -> bytes:
    if entry.compress_type not in _KINDS:
        raise InputError(
            f"{name} uses an unusual compression method", given=entry.filename, allowed="stored or deflated"
        )
    size, pieces = 0, []
    with archive.open(entry) as file:
        # The sizes in the directory are claims; only the output counts.
        while piece := file.read(1 << 20):
            size += len(piece)
            if size > left:
                raise too_large(name, f"more than {readable(size)} in {entry.filename}", left, unpacked=True)
            if size > _RATIO_COUNTS_FROM and size > HIGHEST_RATIO * max(1, entry.compress_size):
                raise InputError(
                    f"{name} is compressed far more than real data; it may be a zip bomb",
                    given=f"{entry.filename} is more than {HIGHEST_RATIO} times larger unzipped",
                    try_="if you trust it, unzip it yourself and give the path of the file",
                )
            pieces.append(piece)
    return b"".join(pieces)


PLAIN_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt")
SUFFIXES = (*PLAIN_SUFFIXES, ".zip")


@dataclass
class Table:
    """The content of one file: rows by split (most files hold only train), columns, and notes."""

    splits: dict[str, Sequence[Row]]
    columns: list[str]
    sha256: str
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


def read_table(path: Path) -> Table:
    """The rows of a JSONL, JSON, CSV, TSV, Parquet, Arrow, Feather or text file, or of a zip archive of such files.

    Raises InputError naming the file, the line if there are lines, and what is wrong; also if it exceeds
    `limits.largest_file`.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"Files {f'with the extension {suffix}' if suffix else 'without an extension'} cannot be read",
            given=path.name,
            allowed=", ".join(SUFFIXES),
            try_=_unpacking(suffix),
        )
    raw = _bytes_of(path)
    table = _read_archive(raw, path.name) if suffix == ".zip" else read_bytes(raw, path.name)
    table.sha256 = hashlib.sha256(raw).hexdigest()
    return table


def read_bytes(raw: bytes, name: str, size: int | None = None) -> Table:
    """The rows in the bytes of a file called `name`, whose extension gives the format; `size` is that of the archive
    they came in. Raises InputError."""
    refuse_what_is_no_data(raw, name)
    size = len(raw) if size is None else size
    suffix = Path(name).suffix.lower()
    notes: list[str] = []
    if suffix == ".parquet":
        splits, columns = read_parquet(raw, name, notes, size)
    elif suffix in (".arrow", ".feather"):
        splits, columns = read_arrow(raw, name, notes, size)
    elif suffix in (".csv", ".tsv"):
        splits, columns = read_delimited(raw, name, notes, size)
    elif suffix == ".txt":
        splits, columns = read_text(raw, name, notes, size)
    else:
        splits, columns = read_json(raw, name, lines_expected=suffix != ".json", notes=notes, size=size)
    return Table(splits, columns, hashlib.sha256(raw).hexdigest(), notes)


def read_text_files(paths: Sequence[Path]) -> Table:
    """Plain-text files as rows with the column `text`, one document each. Raises InputError like `read_table`."""
    notes: list[str] = []
    rows, whole = [], hashlib.sha256()
    for path in paths:
        raw = _bytes_of(path)
        whole.update(hashlib.sha256(raw).digest())
        rows.append({"text": decode(raw, path.name, notes), "file": path.name})
    notes.append(f"{len(rows):,} plain-text files, one document each.")
    return Table({"train": rows}, ["text", "file"], whole.hexdigest(), notes)


def _read_archive(raw: bytes, name: str) -> Table:
    notes: list[str] = []
    files = read_zip(raw, name, PLAIN_SUFFIXES, notes)
    tables = {split: read_bytes(data, f"{name}/{inner}", len(raw)) for split, (inner, data) in files.items()}
    columns = list(dict.fromkeys(column for table in tables.values() for column in table.columns))
    notes += [note for table in tables.values() for note in table.notes]
    if len(tables) == 1:
        return Table(next(iter(tables.values())).splits, columns, "", notes)
    return Table({split: table.splits["train"] for split, table in tables.items()}, columns, "", notes)


def _bytes_of(path: Path) -> bytes:
    try:
        check_size(path.name, path.stat().st_size)
        with path.open("rb") as file:
            raw = file.read(largest_file() + 1)
    except OSError as error:
        raise InputError(f"The file cannot be read: {error.strerror}", given=path) from None
    except MemoryError:
        raise InputError(f"There is not enough memory to read {path.name}", given=path) from None
    check_size(path.name, len(raw))
    refuse_what_is_no_data(raw, path.name)
    return raw


def refuse_what_is_no_data(raw: bytes, name: str) -> None:
    """Raises InputError for common files that only look like data: web pages, Git LFS pointers."""
    if not raw.strip():
        raise InputError(f"The file {name} is empty", given=f"{len(raw)} bytes", allowed="at least 10 rows")
    if raw.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{name} is a Git LFS pointer, not the data itself",
            given=shorten(raw[:60].decode("ascii", "replace")),
            try_="run `git lfs pull`, or download the file again",
        )
    if raw[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise InputError(
            f"{name} is a web page, not data",
            given=shorten(raw[:60].decode("utf-8", "replace")),
            try_="download the raw file instead of its web page",
        )


def _unpacking(suffix: str) -> str:
    if suffix in (".gz", ".bz2", ".xz", ".zst", ".7z", ".tar"):
        return "decompress the file first"
    if suffix in (".xlsx", ".xls", ".ods"):
        return "save the sheet as CSV"
    if suffix in (".pkl", ".pickle", ".pt"):
        return "save the data as JSONL: a pickle can run arbitrary code, so it is never opened"
    return "save the data as JSONL or CSV"


def read_pasted(text: str) -> Table:
    """The rows of pasted text, whose format is detected. Raises InputError naming the line that is wrong."""
    raw = text.strip("\ufeff\r\n").encode("utf-8", "replace")
    check_size("The pasted text", len(raw))
    if not raw.strip():
        raise InputError("Nothing was pasted", allowed="JSON Lines, or the cells of a sheet with its header")
    first = raw.lstrip()[:1]
    if first == b"{":
        return read_bytes(raw, "pasted rows.jsonl")
    if first == b"[":
        return read_bytes(raw, "pasted rows.json")
    header = raw.split(b"\n", 1)[0]
    return read_bytes(raw, "pasted rows.tsv" if b"\t" in header else "pasted rows.csv")


def keep_pasted(text: str, workspace: Workspace) -> Path:
    """Check pasted text and store its rows as a JSONL file among the uploads; equal rows share a file."""
    rows = list(read_pasted(text).splits["train"])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    lines = lines.encode("utf-8", "replace").decode()
    path = workspace.uploads / f"pasted-{hashlib.sha256(lines.encode()).hexdigest()[:8]}.jsonl"
    if not path.exists():
        write_text(path, lines)
    return path
