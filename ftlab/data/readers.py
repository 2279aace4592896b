"""One reader per file format, including JSON, archives and pasted text; all return rows of named fields."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ftlab.core.files import write_text
from ftlab.core.words import byte_size, counted
from ftlab.core.workspace import Workspace
from ftlab.data.encodings import decode
from ftlab.data.json_rows import read_json
from ftlab.data.limits import (
    check_expanded,
    check_size,
    largest_file,
    most_expanded,
    too_large,
)
from ftlab.data.shapes import SPLITS, split_name
from ftlab.data.sheets import SHEETS, read_sheets
from ftlab.data.tabular import (
    Row,
    read_arrow,
    read_delimited,
    read_parquet,
    read_text,
)
from ftlab.errors import InputError, shorten

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
    # Next to other data, a text file is documentation.
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
                raise too_large(name, f"more than {byte_size(size)} in {entry.filename}", left, unpacked=True)
            if size > _RATIO_COUNTS_FROM and size > HIGHEST_RATIO * max(1, entry.compress_size):
                raise InputError(
                    f"{name} is compressed far more than real data; it may be a zip bomb",
                    given=f"{entry.filename} is more than {HIGHEST_RATIO} times larger unzipped",
                    try_="if you trust it, unzip it yourself and give the path of the file",
                )
            pieces.append(piece)
    return b"".join(pieces)


PLAIN_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", *SHEETS, ".parquet", ".arrow", ".feather", ".txt")
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


def read_table(path: Path, encoding: str | None = None, sheet: str | None = None) -> Table:
    """The rows of a JSONL, JSON, CSV, TSV, Parquet, Arrow, Feather or text file, of a spreadsheet, or of a zip archive
    of such files. Without an `encoding`, that of text is detected. `sheet` selects one sheet of several.

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
    table = (
        _read_archive(raw, path.name, encoding)
        if suffix == ".zip"
        else read_bytes(raw, path.name, encoding=encoding, sheet=sheet)
    )
    table.sha256 = hashlib.sha256(raw).hexdigest()
    return table


def read_bytes(
    raw: bytes, name: str, size: int | None = None, *, encoding: str | None = None, sheet: str | None = None
) -> Table:
    """The rows in the bytes of a file called `name`, whose extension gives the format. `size` is that of the archive it
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
        splits, columns = read_delimited(raw, name, notes, size, encoding)
    elif suffix in SHEETS:
        splits, columns = read_sheets(raw, name, notes, size, sheet)
    elif suffix == ".txt":
        splits, columns = read_text(raw, name, notes, size, encoding)
    else:
        lines = suffix != ".json"
        splits, columns = read_json(raw, name, lines_expected=lines, notes=notes, size=size, encoding=encoding)
    return Table(splits, columns, hashlib.sha256(raw).hexdigest(), notes)


def read_text_files(paths: Sequence[Path], encoding: str | None = None) -> Table:
    """Plain-text files as rows with the column `text`, one document each. Raises InputError like `read_table`."""
    notes: list[str] = []
    rows, whole = [], hashlib.sha256()
    for path in paths:
        raw = _bytes_of(path)
        whole.update(hashlib.sha256(raw).digest())
        rows.append({"text": decode(raw, path.name, notes, encoding), "file": path.name})
    notes.append(f"{counted(len(rows), 'plain-text file')}, one document each.")
    return Table({"train": rows}, ["text", "file"], whole.hexdigest(), notes)


def _read_archive(raw: bytes, name: str, encoding: str | None = None) -> Table:
    notes: list[str] = []
    files = read_zip(raw, name, PLAIN_SUFFIXES, notes)
    tables = {
        split: read_bytes(data, f"{name}/{inner}", len(raw), encoding=encoding)
        for split, (inner, data) in files.items()
    }
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
    if suffix in (".xlsb", ".numbers", ".gsheet"):
        return "save the sheet as XLSX or CSV"
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
