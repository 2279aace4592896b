"""Read one local file of any kind we know into rows. Nothing in here executes what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.data.archives import read_zip
from ftlab.data.columnar import read_arrow, read_parquet
from ftlab.data.delimited import decode, read_delimited
from ftlab.data.documents import read_text
from ftlab.data.json_files import read_json
from ftlab.data.limits import check_size, largest_file
from ftlab.errors import InputError, shorten

PLAIN_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt")
SUFFIXES = (*PLAIN_SUFFIXES, ".zip")


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
    """The rows of a JSONL, JSON, CSV, TSV, Parquet, Arrow, Feather or text file, or of a zip archive of such files.

    Raises InputError naming the file, the line where there are lines, and what is wrong; also when it is larger than
    `limits.largest_file`.
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
    table = _read_archive(raw, path.name) if suffix == ".zip" else read_bytes(raw, path.name)
    table.sha256 = hashlib.sha256(raw).hexdigest()
    return table


def read_bytes(raw: bytes, name: str, size: int | None = None) -> Table:
    """The rows in the bytes of a file called `name`, whose ending says what it is; `size` is that of the archive they
    came in. Raises InputError."""
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
    """Files of plain text as rows of the column `text`, one document each. Raises InputError as `read_table` does."""
    notes: list[str] = []
    rows, whole = [], hashlib.sha256()
    for path in paths:
        raw = _bytes_of(path)
        refuse_what_is_no_data(raw, path.name)
        whole.update(hashlib.sha256(raw).digest())
        rows.append({"text": decode(raw, path.name, notes), "file": path.name})
    notes.append(f"{len(rows):,} files of plain text, one document each.")
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
    if not raw.strip():
        raise InputError(f"The file {path.name} is empty", given=f"{len(raw)} bytes", allowed="at least 10 rows")
    return raw


def refuse_what_is_no_data(raw: bytes, name: str) -> None:
    """Raises InputError for the commonest files that look like data from outside: web pages, pointers of Git LFS."""
    if not raw.strip():
        raise InputError(f"The file {name} is empty", given=f"{len(raw)} bytes", allowed="at least 10 rows")
    if raw.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{name} is only a pointer of Git LFS, not the data itself",
            given=shorten(raw[:60].decode("ascii", "replace")),
            try_="run `git lfs pull`, or download the file again",
        )
    if raw[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise InputError(
            f"{name} is a web page, not data",
            given=shorten(raw[:60].decode("utf-8", "replace")),
            try_="download the raw file instead of the page that shows it",
        )


def _unpacking(suffix: str) -> str:
    if suffix in (".gz", ".bz2", ".xz", ".zst", ".7z", ".tar"):
        return "unpack the file first"
    if suffix in (".xlsx", ".xls", ".ods"):
        return "save the sheet as CSV"
    if suffix in (".pkl", ".pickle", ".pt"):
        return "save the data as JSONL: a pickle can run any program, so it is never opened"
    return "save the data as JSONL or CSV"
