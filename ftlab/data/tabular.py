"""Tables and plain text: CSV and TSV, Parquet, Arrow and .txt, read in chunks and within limits."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, overload

from ftlab.core.parsing import parse_json
from ftlab.data.encodings import Source, decode, find_encoding, tell_encoding, without_marks
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
_PIECE_ROWS = 20_000  # rows that are Python text at a time


def read_delimited(
    raw: bytes, name: str, notes: list[str], size: int, encoding: str | None = None
) -> tuple[dict, list[str]]:
    """The rows of a CSV or TSV file, all cells as text. Remarks go to `notes`.

    `size` is the size of the original file (see `limits.check_rows`). Without an `encoding`, it is detected. Raises
    InputError for a binary file, a row with more or fewer cells than the header, an unclosed quotation mark, or a file
    that exceeds `limits`.
    """
    import pyarrow as pa

    columns, rows = iterate_delimited(lambda: io.BytesIO(raw), name, notes, size, encoding)
    pieces: list[list[Any]] = [[] for _ in columns]
    # Arrow stores a million short cells in one buffer, not as a million objects.
    while piece := list(islice(rows, _PIECE_ROWS)):
        for column, cells in zip(pieces, zip(*piece, strict=True), strict=True):
            column.append(pa.array(cells, pa.large_string()))
    table = pa.table({column: pa.chunked_array(cells) for column, cells in zip(columns, pieces, strict=True)})
    return {"train": ArrowRows(table.combine_chunks())}, columns


def iterate_delimited(
    source: Source, name: str, notes: list[str], size: int, encoding: str | None = None
) -> tuple[list[str], Iterator[list[str]]]:
    """The columns, and an iterator over the cells of each row; `source` opens the file each time it is called."""
    csv.field_size_limit(LONGEST_ROW)  # the default, 131072, is too short for long documents
    _check_lines(source, name)
    read_as = find_encoding(source, name, encoding)
    tell_encoding(read_as, name, notes, encoding)
    with _open(source, read_as) as file:
        start = without_marks(file.read(200_000))
    named = _SEP_LINE.match(start)
    tabs = name.lower().endswith(".tsv")
    separator = named[1] if named else "\t" if tabs else _find_separator(start)
    if separator != "," and not tabs:
        notes.append(f"{name} is separated by {_called(separator)}.")
    first = _first_rows(start, separator)
    layout = layout_of(first[1:] if named else first)
    layout.tell(name, notes)
    rows = _rows(source, read_as, separator, name, size, layout, skipped=int(named is not None))
    columns = next(rows, None) or []
    held = next(rows, None)
    if held is None:
        raise InputError(f"{name} has a header but no rows", given=", ".join(columns), allowed="at least 10 rows")
    return columns, chain([held], rows)


def _open(source: Source, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(source(), encoding, newline="")


def _called(separator: str) -> str:
    return _SEPARATORS.get(separator, repr(separator))


# The line that Excel writes at the top for itself, to declare the separator.
_SEP_LINE = re.compile(r'"?sep=([^\r\n"])"?[,;\t ]*(?=[\r\n])', re.IGNORECASE)
_LOOKED_AT = 50  # rows


def _first_rows(text: str, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            rows.append(row)
            if sum(map(bool, rows)) == _LOOKED_AT:
                break
    return rows


def _find_separator(text: str) -> str:
    """The separator that gives most rows the same number of columns. Title lines above the header may have others."""

    def score(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in _first_rows(text, separator) if row]
        if not widths or max(widths) < 2:
            return 0.0, 0
        width, count = Counter(width for width in widths if width > 1).most_common(1)[0]
        # Commas in prose give varying widths; a header of one cell has no other columns under it.
        return (count / len(widths), width) if widths[0] > 1 or count >= 0.8 * len(widths) else (0.0, 0)

    scores = {separator: score(separator) for separator in _SEPARATORS}
    best = max(scores, key=lambda separator: scores[separator])
    return best if scores[best][1] else ","


@dataclass(frozen=True)
class Layout:
    """Where the rows of a table begin: `skipped` lines above the header, and whether there is a header."""

    skipped: int = 0
    has_header: bool = True
    titles: tuple[str, ...] = ()

    def tell(self, name: str, notes: list[str]) -> None:
        if self.titles:
            which = "1 line" if len(self.titles) == 1 else f"{len(self.titles)} lines"
            notes.append(f"{which} above the header of {name} were skipped: {shorten(' / '.join(self.titles), 100)}.")
        if not self.has_header:
            notes.append(
                f"{name} has no header: every line was read as a row, and the columns are called column 1, column 2 "
                "and so on. If the first line is a header, give it short names without full stops."
            )


def layout_of(rows: Sequence[Sequence[Any]]) -> Layout:
    """Where the header is among the first rows of a table. It may be below title lines, or missing."""
    filled = [[cell for cell in row if _text_of(cell)] for row in rows]
    widths = Counter(len(row) for row in rows if len(row) > 1)
    width = widths.most_common(1)[0][0] if widths else 1
    first = 0
    while first < len(rows) and not filled[first]:
        first += 1
    titles: list[str] = []
    place = first
    while width > 1 and place < len(rows) and (not filled[place] or len(filled[place]) == 1):
        titles += [_text_of(filled[place][0])] if filled[place] else []
        place += 1
    # Lines such as "Export date,2026-01-01" form a separate block that ends with a blank line.
    blank = next((index for index in range(first, min(len(rows), 20)) if not filled[index]), None)
    if blank is not None and blank > first and all(len(filled[index]) < width for index in range(first, blank)):
        after = blank
        while after < len(rows) and not filled[after]:
            after += 1
        if after > place:
            titles = [", ".join(map(_text_of, filled[index])) for index in range(first, blank)]
            place = after
    if not titles or place >= len(rows) - 1 or not _may_be_header(rows[place], width):
        place, titles = first, []
    elif len(titles) == 1 and place == first + 1 and not re.search(r"[\s:]", titles[0]):
        place, titles = first, []  # a header with fewer cells than its rows: reported as such
    below = [row for row, cells in zip(rows[place + 1 :], filled[place + 1 :], strict=True) if cells]
    header = rows[place] if place < len(rows) else []
    return Layout(place, _is_header(header, below), tuple(titles))


def _text_of(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _may_be_header(cells: Sequence[Any], width: int) -> bool:
    """Whether these cells could be the header below title lines: short, distinct names."""
    names = [text for cell in cells if (text := _text_of(cell))]
    return (
        len(cells) == width
        and len(names) >= max(2, width - 1)
        and len(set(names)) == len(names)
        and all(len(text) <= 60 and not _DATUM.fullmatch(text) for text in names)
    )


_DATUM = re.compile(r"[-+]?[\d.,:/ -]*\d[\d.,:/ %€$-]*(T[\d:.Z+-]+)?")  # a number, a date, a time
_SENTENCE = re.compile(r"\S+(\s+\S+){3,}.*|[^\x00-\u2fff]{8,}.*", re.DOTALL)
_ENDS = re.compile(r"[.!…。！]['\")\]]*$")
_FEWEST_BELOW = 5  # rows below the first one needed to compare it with them
_RECUR = 0.5  # the largest share of distinct cells in a column of classes
# Common column names; a row that holds one of them is a header.
_USUAL_NAMES = frozenset(
    "prompt completion instruction input output question answer response text label id messages chosen rejected "
    "category class intent title context query reply".split()
)


def _is_header(cells: Sequence[Any], below: Sequence[Sequence[Any]]) -> bool:
    """Whether the first row names the columns. False only if it is like every row below it."""
    names = [_text_of(cell) for cell in cells]
    rows = [[_text_of(cell) for cell in row] for row in below if len(row) == len(names)]
    if len(rows) < _FEWEST_BELOW or len(names) < 2 or any(name.lower() in _USUAL_NAMES for name in names):
        return True
    if any(not name for name in names[1:]) or len(set(names)) < len(names):
        return not all(names)
    like, unlike = 0, 0
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        known = [cell for cell in column if cell]
        if not known:
            continue
        data = sum(_DATUM.fullmatch(cell) is not None for cell in known) >= 0.9 * len(known)
        sentences = sum(_SENTENCE.fullmatch(cell) is not None for cell in known) >= 0.8 * len(known)
        classes = len(set(known)) <= _RECUR * len(known)
        if data:
            like, unlike = (like + 1, unlike) if _DATUM.fullmatch(name) else (like, unlike + 1)
        elif classes:
            like, unlike = (like + 1, unlike) if name in known else (like, unlike + (not sentences))
        elif sentences:
            # Forms have questions as headers, so a question alone is no evidence.
            is_row = _SENTENCE.fullmatch(name) is not None and (_ENDS.search(name) is not None or len(name) > 60)
            like, unlike = (like + is_row, unlike + (_SENTENCE.fullmatch(name) is None))
    return not (like and not unlike)


def _check_lines(source: Source, name: str) -> None:
    """Raises InputError for a line beyond the row limit, before it is parsed."""
    run = 0
    with source() as file:
        while piece := file.read(1 << 20):
            ends = [place for mark in (b"\n", b"\r") if (place := piece.find(mark)) >= 0]
            run += min(ends, default=len(piece))
            check_row(f"A line of {name}", run)
            if ends:
                run = len(piece) - 1 - max(piece.rfind(b"\n"), piece.rfind(b"\r"))


def _rows(
    source: Source, encoding: str, separator: str, name: str, size: int, layout: Layout, skipped: int
) -> Iterator[list[str]]:
    """The header, then every row of the same length. Blank lines and headers repeated by concatenation are skipped."""
    # Concatenated files may have a byte order mark at each joint.
    lines = (line.lstrip("\ufeff") for line in _open(source, encoding))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    columns: list[str] | None = None
    header: list[str] | None = None
    begins, count, left = 1, 0, skipped + layout.skipped
    try:
        for row in reader:
            line, begins = begins, reader.line_num + 1
            if left:
                left -= 1
                continue
            if not row or row == header:
                continue
            if columns is None:
                header = row if layout.has_header else None
                columns = header_of(row if layout.has_header else [""] * len(row), name)
                yield columns
                if layout.has_header:
                    continue
            if len(row) != len(columns):
                raise InputError(
                    f"{name}, line {line}: {len(row)} cells, but the header has {len(columns)} columns",
                    given=separator.join(row),
                    allowed=f"{len(columns)} cells ({shorten(', '.join(columns))}) separated by {_called(separator)}",
                    try_=f"put cells that contain a {_called(separator)} into quotation marks",
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


def header_of(row: Sequence[Any], name: str) -> list[str]:
    """The column names. Raises InputError for too many columns or a duplicate name."""
    # Sheets exported with row numbers have no name for that column.
    check_columns(name, len(row))
    columns = [_text_of(cell) or f"column {number}" for number, cell in enumerate(row, start=1)]
    no_name_twice(name, columns)
    return columns


# How plain-text files separate documents; TinyStories and others use GPT-2's end-of-text token.
_END_OF_TEXT = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)
_LINE_END = re.compile("\n")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def read_text(
    raw: bytes, name: str, notes: list[str], size: int, encoding: str | None = None
) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The documents of a plain-text file, as rows with the column `text`.

    They are separated by lines with <|endoftext|>, else by blank lines, else each line is one. Raises InputError if the
    file is not text or exceeds `limits.check_rows`, which takes the `size` of the original file.
    """
    text = decode(raw, name, notes, encoding).replace("\r\n", "\n").replace("\r", "\n")
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
