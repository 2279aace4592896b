"""CSV and TSV: the separator and the encoding are found out, a broken row is named by its line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from ftlab.data.limits import LONGEST_ROW, check_columns, check_row, check_rows, no_name_twice
from ftlab.data.tables import ArrowRows
from ftlab.errors import InputError, shorten

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_PIECE_ROWS = 20_000  # so many rows are Python text at a time


def read_delimited(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """Rows of a CSV or TSV file, every cell as text; what was found out about it is added to `notes`.

    `size` is that of the file it came in (see `limits.check_rows`). Raises InputError for what is not text, a row with
    more or fewer cells than the header, a quotation mark that is never closed, and what is beyond `limits`.
    """
    import pyarrow as pa

    columns, rows = iterate_delimited(lambda: io.BytesIO(raw), name, notes, size)
    pieces: list[list[Any]] = [[] for _ in columns]
    # Arrow keeps a million short cells as text in one buffer, not as a million objects.
    while piece := list(islice(rows, _PIECE_ROWS)):
        for column, cells in zip(pieces, zip(*piece, strict=True), strict=True):
            column.append(pa.array(cells, pa.large_string()))
    table = pa.table({column: pa.chunked_array(cells) for column, cells in zip(columns, pieces, strict=True)})
    return {"train": ArrowRows(table.combine_chunks())}, columns


def iterate_delimited(
    source: Callable[[], BinaryIO], name: str, notes: list[str], size: int
) -> tuple[list[str], Iterator[list[str]]]:
    """The columns, and the cells of one row after the other; `source` opens the file each time it is called."""
    csv.field_size_limit(LONGEST_ROW)  # the module's own limit, 131072, is shorter than a long document
    _check_lines(source, name)
    encoding = _find_encoding(source, name)
    with _open(source, encoding) as file:
        separator = "\t" if name.lower().endswith(".tsv") else _find_separator(file.read(200_000))
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"{name} is {encoding} text.")
    if separator != "," and not name.lower().endswith(".tsv"):
        notes.append(f"{name} is separated by {_SEPARATORS[separator]}.")
    rows = _rows(source, encoding, separator, name, size)
    columns = next(rows, None) or []
    first = next(rows, None)
    if first is None:
        raise InputError(f"{name} holds a header and no rows", given=", ".join(columns), allowed="at least 10 rows")
    return columns, chain([first], rows)


def decode(raw: bytes, name: str, notes: list[str]) -> str:
    """The text in `raw`, whose encoding is found out. Raises InputError for what is not text."""
    encoding = _find_encoding(lambda: io.BytesIO(raw), name)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"{name} is {encoding} text.")
    return raw.decode(encoding)


def _open(source: Callable[[], BinaryIO], encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(source(), encoding, newline="")


def _find_encoding(source: Callable[[], BinaryIO], name: str) -> str:
    with source() as file:
        start = file.read(8)
        size = file.seek(0, io.SEEK_END)
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if start.startswith(mark):
            tried = [encoding]
            break
    else:
        tried = ["utf-8", "cp1252"]
    for encoding in tried:
        if _decodes(source, encoding):
            return encoding
    raise InputError(
        f"{name} is not text",
        given=f"{size} bytes beginning with {start!r}",
        allowed="UTF-8, UTF-16 with a byte order mark, or Windows-1252 text",
        try_="save the sheet as CSV (UTF-8)",
    )


def _decodes(source: Callable[[], BinaryIO], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with source() as file:
            while piece := file.read(1 << 20):
                if "\x00" in decoder.decode(piece):
                    return False
        decoder.decode(b"", final=True)
        return True
    except UnicodeDecodeError:
        return False


def _find_separator(text: str) -> str:
    """The separator that gives the most columns in the header and the same number in the rows after it."""

    def score(separator: str) -> tuple[float, int]:
        rows = []
        try:
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
                if row:
                    rows.append(len(row))
                if len(rows) == 50:
                    break
        except csv.Error:
            return 0.0, 0
        if not rows or rows[0] < 2:
            return 0.0, 0
        return sum(size == rows[0] for size in rows) / len(rows), rows[0]

    scores = {separator: score(separator) for separator in _SEPARATORS}
    best = max(scores, key=lambda separator: scores[separator])
    return best if scores[best][1] else ","


def _check_lines(source: Callable[[], BinaryIO], name: str) -> None:
    """Raises InputError for a line that is longer than a row may be, before it is read as one."""
    run = 0
    with source() as file:
        while piece := file.read(1 << 20):
            ends = [place for mark in (b"\n", b"\r") if (place := piece.find(mark)) >= 0]
            run += min(ends, default=len(piece))
            check_row(f"A line of {name}", run)
            if ends:
                run = len(piece) - 1 - max(piece.rfind(b"\n"), piece.rfind(b"\r"))


def _rows(source: Callable[[], BinaryIO], encoding: str, separator: str, name: str, size: int) -> Iterator[list[str]]:
    """The header, then every row as long as it; blank lines are passed over."""
    reader = csv.reader(_open(source, encoding), delimiter=separator, strict=True)
    columns: list[str] | None = None
    begins, count = 1, 0
    try:
        for row in reader:
            line, begins = begins, reader.line_num + 1
            if not row:
                continue
            if columns is None:
                columns = _header(row, name)
                yield columns
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"{name}, line {line}: {len(row)} cells, but the header has {len(columns)} columns",
                    given=separator.join(row),
                    allowed=f"{len(columns)} cells ({shorten(', '.join(columns))}) separated by "
                    f"{_SEPARATORS[separator]}",
                    try_=f"put cells that contain a {_SEPARATORS[separator]} into quotation marks",
                )
            count += 1
            if count % _PIECE_ROWS == 0:
                check_rows(name, count, size)
            yield row
    except csv.Error as error:
        problem = "a quotation mark is opened and never closed" if "end of data" in str(error) else str(error)
        line_text = next(islice(_open(source, encoding), begins - 1, None), "")
        raise InputError(
            f"{name}, line {begins}: {problem}",
            given=shorten(line_text, 80),
            try_='write a quotation mark inside a cell twice ("")',
        ) from None


def _header(row: list[str], name: str) -> list[str]:
    # Sheets written with a row number have no name over it.
    check_columns(name, len(row))
    columns = [cell.strip() or f"column {number}" for number, cell in enumerate(row, start=1)]
    no_name_twice(name, columns)
    return columns
