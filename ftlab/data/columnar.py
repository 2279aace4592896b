"""Parquet, Arrow and Feather files: read in pieces up to the size limit, checked before a cell is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ftlab.data.limits import check_columns, check_expanded, check_rows, no_name_twice
from ftlab.data.tables import ArrowRows
from ftlab.errors import InputError, shorten

_BATCH_ROWS = 4096


def read_parquet(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """The rows of a Parquet file; `size` is that of the file it came in. Raises InputError, also beyond `limits`."""
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
        # From memory and not from a memory map: a file that is overwritten under a map kills the process.
        file = pq.ParquetFile(pa.BufferReader(raw))
        about = file.metadata
        groups = [about.row_group(index) for index in range(about.num_row_groups)]
        check_expanded(name, sum(group.total_byte_size for group in groups), size)
        check_columns(name, about.num_columns)
        check_rows(name, about.num_rows, size)
        schema = _readable(file.schema_arrow, name, notes)
        # Texts are read as Parquet keeps them, each once: written out, a batch of one text could be any size.
        kept = {field.name for field in schema if _is_text(field.type) or pa.types.is_nested(field.type)}
        leaves = [about.schema.column(index) for index in range(about.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and _top(leaf.path, kept)]
        file = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=texts)
        # Group by group: each has words of its own, and Arrow cannot put nested ones of two groups into one batch.
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
    """Whether the leaf at `path` is, or lies in, a column of `names`, which may hold dots."""
    parts = path.split(".")
    return any(".".join(parts[:end]) in names for end in range(1, len(parts) + 1))


def _readable(schema: Any, name: str, notes: list[str]) -> Any:
    """The columns that are read: pictures and maps never become rows."""
    import pyarrow as pa

    no_name_twice(name, schema.names)
    fields = [field for field in schema if _is_plain(field.type) or not pa.types.is_nested(field.type)]
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    _tell_left_out([field.name for field in schema if field not in fields], name, notes)
    return pa.schema([pa.field(field.name, views.get(field.type, field.type)) for field in fields])


def _tell_left_out(columns: list[str], name: str, notes: list[str]) -> None:
    if columns:
        notes.append(f"Columns of {name} that are not text were left out: {', '.join(columns)}.")


def read_arrow(raw: bytes, name: str, notes: list[str], size: int) -> tuple[dict, list[str]]:
    """Arrow's own format: a file (.arrow, Feather 2), or the stream that `datasets` writes. As `read_parquet`."""
    import pyarrow as pa

    if raw.startswith(b"FEA1"):
        raise InputError(f"{name} is Feather of version 1", allowed="Feather 2 or Arrow", try_="write it again")
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


# The beginnings of an LZ4 and a Zstandard frame: the only two ways in which Arrow packs a buffer.
_FRAMES = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")


def _unpacked_size(raw: bytes) -> int:
    """Bytes that the packed buffers of an Arrow file say they unpack to; Arrow allocates that much before it unpacks.

    In front of every packed buffer stands its length as int64 (Arrow columnar format, "Compression").
    """
    total = 0
    for mark in _FRAMES:
        place = raw.find(mark, 8)
        while place >= 0:
            length = int.from_bytes(raw[place - 8 : place], "little", signed=True)
            if 0 < length < 1 << 40:  # anything else is chance, or more than any machine gives
                total += length
            place = raw.find(mark, place + 4)
    return total


def _collected(batches: Iterable[Any], schema: Any, name: str, size: int) -> Any:
    """A table of all `batches` with this `schema`; stopped as soon as their cells are larger than may be read."""
    import pyarrow as pa

    check_columns(name, len(schema))
    expanded, rows, kept = 0, 0, []
    for batch in batches:
        rows += batch.num_rows
        check_rows(name, rows, size)
        # Offsets and lengths in a file are what somebody wrote: unchecked, they make Arrow read anywhere in memory.
        batch.validate(full=True)
        expanded += sum(_written_out(column) for column in batch.columns)
        check_expanded(name, expanded, size)
        kept.append(batch if batch.schema.equals(schema) else batch.cast(schema))
    return pa.Table.from_batches(kept, schema).combine_chunks()


def _written_out(array: Any) -> int:
    """Bytes that the cells of an Arrow array take when each is written out: a text counts as often as it is there.

    Whatever has no bytes in the file (a list of a billion nulls) counts 8, as in a list of Python.
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
        # Each view is 16 bytes and begins with the length of its text.
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

    found = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(fits(kind) for fits in found)


def _rows_of(table: Any, name: str, notes: list[str]) -> tuple[dict, list[str]]:
    """Rows of a table whose cells are text, numbers, and lists and structs of them; other cells become text."""
    import pyarrow as pa
    from pyarrow import types

    names = list(table.column_names)
    no_name_twice(name, names)
    left_out = []
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
