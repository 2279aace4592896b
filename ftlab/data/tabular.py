"""Tables and plain text: CSV and TSV, Parquet, Arrow and .txt, read in chunks and within limits."""

from __future__ import annotations

import codecs
import csv
import io
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, overload

from ftlab.core.parsing import parse_json
from ftlab.data.limits import LONGEST_ROW, check_columns, check_expanded, check_row, check_rows, no_name_twice
from ftlab.errors import InputError, shorten

Row = dict[str, Any]  # the cells of a row, by column


class LazyRows(Sequence[Row]):
    """Rows that are decoded on access; a slice is a list of them. Subclasses define `__len__` and `row`."""

    def row(self, index: int) -> Row:
        """The row at `index`, from 0 up to below the length."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self.row(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.row(index % len(self))


class JsonLines(LazyRows):
    """The rows of a JSON file: its bytes and the offset of each row, so that memory stays at the size of the file. A
    row ends at the end of its line, or at its entry in `ends`."""

    def __init__(self, data: bytes, starts: array[int], ends: array[int] | None = None):
        self._data, self._starts, self._ends = data, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    def row(self, index: int) -> Row:
        start = self._starts[index]
        end = self._ends[index] if self._ends is not None else self._data.find(b"\n", start)
        return parse_json(self._data[start : end if end >= 0 else None].decode("utf-8"))


class ArrowRows(LazyRows):
    """The rows of an Arrow table."""

    def __init__(self, table: Any):
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def row(self, index: int) -> Row:
        return self.table.slice(index, 1).to_pylist()[0]

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()


_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_PIECE_ROWS = 20_000  # so many rows are Python text at a time


def read_delimited(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of a CSV or TSV file, all cells as text; remarks go to `notes`.

    `size` is the size of the original file (see `limits.check_rows`). Raises InputError for a binary file, a row with
    more or fewer cells than the header, an unclosed quotation mark, and beyond `limits`.
    """
    import pyarrow as pa

    columns, rows = iterate_delimited(lambda: io.BytesIO(raw), name, notes, size)
    pieces: list[list[Any]] = [[] for _ in columns]
    # Arrow stores a million short cells in one buffer, not as a million objects.
    while piece := list(islice(rows, _PIECE_ROWS)):
        for column, cells in zip(pieces, zip(*piece, strict=True), strict=True):
            column.append(pa.array(cells, pa.large_string()))
    table = pa.table({column: pa.chunked_array(cells) for column, cells in zip(columns, pieces, strict=True)})
    return {"train": ArrowRows(table.combine_chunks())}, columns


def iterate_delimited(
    source: Callable[[], BinaryIO], name: str, notes: list[str], size: int
) -> tuple[list[str], Iterator[list[str]]]:
    """The columns, and an iterator over the cells of each row; `source` opens the file each time it is called."""
    csv.field_size_limit(LONGEST_ROW)  # the default, 131072, is too short for long documents
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
        raise InputError(f"{name} has a header but no rows", given=", ".join(columns), allowed="at least 10 rows")
    return columns, chain([first], rows)


def decode(raw: bytes, name: str, notes: list[str]) -> str:
    """The text in `raw`, with its encoding detected. Raises InputError if it is not text."""
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
    """The separator that gives the most columns in the header and the same number in the rows."""

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
    """Raises InputError for a line beyond the row limit, before it is parsed."""
    run = 0
    with source() as file:
        while piece := file.read(1 << 20):
            ends = [place for mark in (b"\n", b"\r") if (place := piece.find(mark)) >= 0]
            run += min(ends, default=len(piece))
            check_row(f"A line of {name}", run)
            if ends:
                run = len(piece) - 1 - max(piece.rfind(b"\n"), piece.rfind(b"\r"))


def _rows(source: Callable[[], BinaryIO], encoding: str, separator: str, name: str, size: int) -> Iterator[list[str]]:
    """The header, then every row of the same length; blank lines are skipped."""
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
        problem = "a quotation mark is never closed" if "end of data" in str(error) else str(error)
        line_text = next(islice(_open(source, encoding), begins - 1, None), "")
        raise InputError(
            f"{name}, line {begins}: {problem}",
            given=shorten(line_text, 80),
            try_='double quotation marks inside cells ("")',
        ) from None


def _header(row: list[str], name: str) -> list[str]:
    # Sheets exported with row numbers have no name for that column.
    check_columns(name, len(row))
    columns = [cell.strip() or f"column {number}" for number, cell in enumerate(row, start=1)]
    no_name_twice(name, columns)
    return columns


# How plain-text files separate documents; TinyStories and others write GPT-2's end-of-text token.
_END_OF_TEXT = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)
_LINE_END = re.compile("\n")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def read_text(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The documents of a plain-text file, as rows with the column `text`.

    They are separated by lines with <|endoftext|>, else by blank lines; else every line is one. Raises InputError if
    the file is not text or exceeds `limits.check_rows`, which takes the `size` of the original file.
    """
    text = decode(raw, name, notes).replace("\r\n", "\n").replace("\r", "\n")
    if _END_OF_TEXT.search(text):
        between, parted = _END_OF_TEXT, "lines with <|endoftext|>"
    elif _BLANK_LINES.search(text.strip()):
        between, parted = _BLANK_LINES, "blank lines"
    else:
        between, parted = _LINE_END, "line breaks"
    documents: list[str] = []
    for part in _parts(text, between):
        if part.strip():
            documents.append(part.strip("\n"))
            if len(documents) % 10_000 == 0:
                check_rows(name, len(documents), size)
    notes.append(
        f"{name} is plain text: {len(documents):,} documents, separated by {parted}. For longer documents, put a line "
        "<|endoftext|> between them, or write JSON Lines with a column `text`."
    )
    return {"train": [{"text": part} for part in documents]}, ["text"]


def _parts(text: str, between: re.Pattern[str]) -> Iterator[str]:
    """`between.split(text)` as an iterator."""
    position = 0
    for match in between.finditer(text):
        yield text[position : match.start()]
        position = match.end()
    yield text[position:]


_BATCH_ROWS = 4096


def read_parquet(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of a Parquet file; `size` is the size of the original file. Raises InputError, also beyond `limits`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if raw[:4] != b"PAR1" or raw[-4:] != b"PAR1":
        raise InputError(
            f"{name} is not a complete Parquet file",
            given=f"{len(raw)} bytes beginning with {raw[:8]!r}",
            allowed="a file that begins and ends with PAR1",
            try_="download or write it again; text belongs in .jsonl or .csv",
        )
    try:
        # From memory, not memory-mapped: overwriting a mapped file kills the process.
        file = pq.ParquetFile(pa.BufferReader(raw))
        about = file.metadata
        groups = [about.row_group(index) for index in range(about.num_row_groups)]
        check_expanded(name, sum(group.total_byte_size for group in groups), size)
        check_columns(name, about.num_columns)
        check_rows(name, about.num_rows, size)
        schema = _readable(file.schema_arrow, name, notes)
        # Texts stay dictionary-encoded as in the file: decoded, a batch that repeats one text could be any size.
        kept = {field.name for field in schema if _is_text(field.type) or pa.types.is_nested(field.type)}
        leaves = [about.schema.column(index) for index in range(about.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and _top(leaf.path, kept)]
        file = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=texts)
        # Group by group: each has its own dictionary, and Arrow cannot merge nested ones into one batch.
        batches = (
            batch
            for group in range(file.num_row_groups)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=schema.names)
        )
        return _rows_of(_collected(batches, schema, name, size), name, notes)
    except (pa.ArrowException, OSError, ValueError, MemoryError, RecursionError, TypeError) as error:
        raise InputError(
            f"{name} cannot be read as Parquet: {shorten(error, 120)}", try_="download or write it again"
        ) from None


def _top(path: str, names: set[str]) -> bool:
    """Whether the leaf at `path` is, or is inside, a column in `names`, whose names may contain dots."""
    parts = path.split(".")
    return any(".".join(parts[:end]) in names for end in range(1, len(parts) + 1))


def _readable(schema: Any, name: str, notes: list[str]) -> Any:
    """The columns to read: images and maps never become rows."""
    import pyarrow as pa

    no_name_twice(name, schema.names)
    fields = [field for field in schema if _is_plain(field.type) or not pa.types.is_nested(field.type)]
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    _tell_left_out([field.name for field in schema if field not in fields], name, notes)
    return pa.schema([pa.field(field.name, views.get(field.type, field.type)) for field in fields])


def _tell_left_out(columns: list[str], name: str, notes: list[str]) -> None:
    if columns:
        notes.append(f"Non-text columns of {name} were left out: {', '.join(columns)}.")


def read_arrow(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """Arrow's own format: a file (.arrow, Feather 2), or the stream that `datasets` writes. Like `read_parquet`."""
    import pyarrow as pa

    if raw.startswith(b"FEA1"):
        raise InputError(f"{name} is Feather version 1", allowed="Feather 2 or Arrow", try_="write it again")
    check_expanded(name, max(len(raw), _unpacked_size(raw)), size)
    try:
        source = pa.BufferReader(raw)
        if raw.startswith(b"ARROW1"):
            file = pa.ipc.open_file(source)
            batches: Iterable[Any] = (file.get_batch(index) for index in range(file.num_record_batches))
            schema = file.schema
        else:
            batches = stream = pa.ipc.open_stream(source)
            schema = stream.schema
        return _rows_of(_collected(batches, schema, name, size), name, notes)
    except (pa.ArrowException, OSError, ValueError, MemoryError, RecursionError, TypeError) as error:
        raise InputError(
            f"{name} cannot be read as Arrow: {shorten(error, 120)}",
            given=f"{len(raw)} bytes beginning with {raw[:8]!r}",
            try_="download or write it again",
        ) from None


# The magic numbers of LZ4 and Zstandard frames, the only compressions of Arrow buffers.
_FRAMES = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")


def _unpacked_size(raw: bytes) -> int:
    """The decompressed size that the buffers of an Arrow file declare; Arrow allocates that much in advance.

    Every compressed buffer is preceded by its length as int64 (Arrow columnar format, "Compression").
    """
    total = 0
    for mark in _FRAMES:
        place = raw.find(mark, 8)
        while place >= 0:
            length = int.from_bytes(raw[place - 8 : place], "little", signed=True)
            if 0 < length < 1 << 40:  # anything else is a coincidence, or more than any machine has
                total += length
            place = raw.find(mark, place + 4)
    return total


def _collected(batches: Iterable[Any], schema: Any, name: str, size: int) -> Any:
    """A table of all `batches` with this `schema`; raises as soon as their cells exceed the limits."""
    import pyarrow as pa

    check_columns(name, len(schema))
    expanded, rows, kept = 0, 0, []
    for batch in batches:
        rows += batch.num_rows
        check_rows(name, rows, size)
        # Offsets and lengths in the file are untrusted: unchecked, they make Arrow read arbitrary memory.
        batch.validate(full=True)
        expanded += sum(_written_out(column) for column in batch.columns)
        check_expanded(name, expanded, size)
        kept.append(batch if batch.schema.equals(schema) else batch.cast(schema))
    return pa.Table.from_batches(kept, schema).combine_chunks()


def _written_out(array: Any) -> int:
    """The bytes of the cells of an Arrow array when expanded: a repeated text counts each time.

    Cells without bytes in the file (a list of a billion nulls) count 8 each, as in a Python list.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind, cells = array.type, 8 * len(array)
    if isinstance(array, pa.ExtensionArray):
        return _written_out(array.storage)
    if types.is_dictionary(kind):
        values = array.dictionary
        if not _is_text(values.type):
            return cells + _written_out(values)
        lengths = pc.binary_length(values).take(array.indices)
        return cells + (pc.sum(lengths).as_py() or 0)
    if _is_text(kind):
        return cells + (pc.sum(pc.binary_length(array)).as_py() or 0)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        # Each view has 16 bytes and starts with the length of its text.
        views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, 4)
        lengths = views[array.offset : array.offset + len(array), 0]
        return cells + int(lengths[array.is_valid().to_numpy(zero_copy_only=False)].sum(dtype=np.int64))
    if types.is_struct(kind):
        return cells + sum(_written_out(part) for part in array.flatten())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return cells + _written_out(array.flatten())
    return max(cells, array.nbytes)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(fits(kind) for fits in kinds)


def _rows_of(table: Any, name: str, notes: list[str]) -> tuple[dict, list[str]]:
    """The rows of a table; cells other than text, numbers, and lists and structs of them become text."""
    import pyarrow as pa
    from pyarrow import types

    names = list(table.column_names)
    no_name_twice(name, names)
    left_out: list[str] = []
    for index in reversed(range(len(names))):
        if _is_plain(table.schema.field(index).type):
            continue
        try:
            if types.is_run_end_encoded(table.schema.field(index).type):
                raise pa.ArrowNotImplementedError("written out, it can be any size")
            table = table.set_column(index, names[index], table.column(index).cast(pa.string()))
        except pa.ArrowException:
            left_out.insert(0, names[index])
            table = table.remove_column(index)
    _tell_left_out(left_out, name, notes)
    return {"train": ArrowRows(table)}, list(table.column_names)


def _is_plain(kind: Any) -> bool:
    """Whether every cell of this Arrow type is a plain Python value: text, number, list, dict or None."""
    from pyarrow import types

    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return len(set(names)) == len(names) and all(
            _is_plain(kind.field(index).type) for index in range(kind.num_fields)
        )
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if types.is_dictionary(kind):
        return not types.is_nested(kind.value_type) and _is_plain(kind.value_type)
    simple = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_floating)
    return types.is_null(kind) or any(fits(kind) for fits in simple)
