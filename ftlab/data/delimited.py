"""CSV and TSV: the separator and the encoding are found out, a broken row is named by its line."""

from __future__ import annotations

import csv
import io

from ftlab.data.tables import ArrowRows
from ftlab.errors import InputError, shorten

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_LONGEST_CELL = 2**31 - 1  # characters; the module's own limit of 131072 is shorter than a long document


def read_delimited(raw: bytes, name: str, notes: list[str]) -> tuple[dict, list[str]]:
    """Rows of a CSV or TSV file, every cell as text; what was found out about it is added to `notes`.

    Raises InputError for what is not text, a row with more or fewer cells than the header, or a quotation mark that
    is never closed.
    """
    import pyarrow as pa

    csv.field_size_limit(_LONGEST_CELL)
    text, encoding = _decode(raw, name)
    separator = "\t" if name.lower().endswith(".tsv") else _find_separator(text)
    if encoding != "utf-8":
        notes.append(f"{name} is {encoding} text.")
    if separator != "," and not name.lower().endswith(".tsv"):
        notes.append(f"{name} is separated by {_SEPARATORS[separator]}.")
    columns, cells = _read_cells(text, separator, name)
    # Arrow keeps a million short cells as text in one buffer, not as a million objects.
    table = pa.table(
        {column: pa.array(values, pa.large_string()) for column, values in zip(columns, cells, strict=True)}
    )
    return {"train": ArrowRows(table)}, columns


def _decode(raw: bytes, name: str) -> tuple[str, str]:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if raw.startswith(mark):
            tried = [encoding]
            break
    else:
        tried = ["utf-8", "cp1252"]
    for encoding in tried:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text, "utf-8" if encoding == "utf-8-sig" else encoding
    raise InputError(
        f"{name} is not text",
        given=f"{len(raw)} bytes beginning with {raw[:8]!r}",
        allowed="UTF-8, UTF-16 with a byte order mark, or Windows-1252 text",
        try_="save the sheet as CSV (UTF-8)",
    )


def _find_separator(text: str) -> str:
    """The separator that gives the most columns in the header and the same number in the rows after it."""

    def score(separator: str) -> tuple[float, int]:
        rows = []
        try:
            for row in csv.reader(io.StringIO(text[:200_000], newline=""), delimiter=separator):
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


def _read_cells(text: str, separator: str, name: str) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] | None = None
    cells: list[list[str]] = []
    begins = 1
    try:
        for row in reader:
            line, begins = begins, reader.line_num + 1
            if not row:
                continue
            if columns is None:
                columns = _header(row, name)
                cells = [[] for _ in columns]
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"{name}, line {line}: {len(row)} cells, but the header has {len(columns)} columns",
                    given=separator.join(row),
                    allowed=f"{len(columns)} cells ({', '.join(columns)}) separated by {_SEPARATORS[separator]}",
                    try_=f"put cells that contain a {_SEPARATORS[separator]} into quotation marks",
                )
            for column, cell in zip(cells, row, strict=True):
                column.append(cell)
    except csv.Error as error:
        problem = "a quotation mark is opened and never closed" if "end of data" in str(error) else str(error)
        line = text.split("\n")[begins - 1] if begins <= text.count("\n") + 1 else ""
        raise InputError(
            f"{name}, line {begins}: {problem}",
            given=shorten(line, 80),
            try_='write a quotation mark inside a cell twice ("")',
        ) from None
    if columns is None or not cells[0]:
        raise InputError(
            f"{name} holds a header and no rows", given=", ".join(columns or []), allowed="at least 10 rows"
        )
    return columns, cells


def _header(row: list[str], name: str) -> list[str]:
    # Sheets written with a row number have no name over it.
    columns = [cell.strip() or f"column {number}" for number, cell in enumerate(row, start=1)]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise InputError(f"{name} has more than one column of the same name", given=", ".join(twice))
    return columns
