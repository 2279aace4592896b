"""Read one local file of any kind we know into rows. Nothing in here executes what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.data.delimited import read_delimited
from ftlab.data.json_files import read_json
from ftlab.data.tables import ArrowRows
from ftlab.errors import InputError, shorten

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass
class Table:
    """What one file holds: rows by split (most files hold one, called train), columns, and what to say of it."""

    splits: dict[str, Sequence[dict[str, Any]]]
    columns: list[str]
    sha256: str
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


def read_table(path: Path) -> Table:
    """The rows of a JSONL, JSON, CSV, TSV or Parquet file.

    Raises InputError naming the file, the line where there are lines, and what is wrong.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"Files ending in {suffix or 'nothing'} cannot be read",
            given=path.name,
            allowed=", ".join(SUFFIXES),
            try_=_unpacking(suffix),
        )
    raw = _bytes_of(path)
    sha256 = hashlib.sha256(raw).hexdigest()
    notes: list[str] = []
    if suffix == ".parquet":
        splits, columns = _read_parquet(raw, path.name)
    elif suffix in (".csv", ".tsv"):
        splits, columns = read_delimited(raw, path.name, notes)
    else:
        splits, columns = read_json(raw, path.name, lines_expected=suffix != ".json", notes=notes)
    return Table(splits, columns, sha256, notes)


def _bytes_of(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"The file cannot be read: {error.strerror}", given=path) from None
    if not raw.strip():
        raise InputError(f"The file {path.name} is empty", given=f"{len(raw)} bytes", allowed="at least 10 rows")
    if raw.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path.name} is only a pointer of Git LFS, not the data itself",
            given=shorten(raw[:60].decode("ascii", "replace")),
            try_="run `git lfs pull`, or download the file again",
        )
    if raw[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise InputError(
            f"{path.name} is a web page, not data",
            given=shorten(raw[:60].decode("utf-8", "replace")),
            try_="download the raw file instead of the page that shows it",
        )
    return raw


def _unpacking(suffix: str) -> str:
    if suffix in (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar"):
        return "unpack the file first"
    if suffix in (".xlsx", ".xls", ".ods"):
        return "save the sheet as CSV"
    if suffix in (".pkl", ".pickle", ".pt"):
        return "save the data as JSONL: a pickle can run any program, so it is never opened"
    return "save the data as JSONL or CSV"


def _read_parquet(raw: bytes, name: str) -> tuple[dict, list[str]]:
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
        table = pq.read_table(pa.BufferReader(raw))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name} cannot be read as Parquet: {shorten(error, 120)}", try_="download or write it again"
        ) from None
    return {"train": ArrowRows(table)}, list(table.column_names)
