"""Pages of a large file, through an index of lines: every page costs the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig
from ftlab.core.parsing import parse_json
from ftlab.core.words import byte_size
from ftlab.core.workspace import Workspace
from ftlab.data.limits import LONGEST_ROW, check_columns, check_rows, check_size
from ftlab.data.load import find_source, load_rows, split_files
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.readers import read_table, refuse_what_is_no_data
from ftlab.data.shapes import split_name
from ftlab.data.sheets import SHEETS
from ftlab.data.tabular import LazyRows, Row, iterate_delimited
from ftlab.errors import InputError, shorten

_PIECE = 8 << 20  # bytes read at a time
_SEARCHED_ROWS = 20_000
_WHITE = (9, 10, 11, 12, 13, 32)


def _index_lines(path: Path, target: Path) -> int:
    """Write the offsets of all non-blank lines and of the end of the file to `target` (.npy, int64).

    Returns the number of rows. Memory: 8 bytes per row and one chunk of the file.
    """
    import numpy as np

    pieces, doubtful = [], []
    position, fresh = 0, True
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            data = np.frombuffer(piece, np.uint8)
            ends = np.flatnonzero(data == 10) + 1
            starts = np.concatenate([[0], ends]) if fresh else ends
            fresh = bool(len(ends)) and ends[-1] == len(data)
            if fresh:
                starts = starts[:-1]
            doubtful.append(
                np.isin(data[starts], _WHITE) if position else np.isin(data[starts], _WHITE) | (starts == 0)
            )
            pieces.append(starts.astype(np.int64) + position)
            position += len(piece)
    starts = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    blank = _blank(path, starts, position, np.flatnonzero(np.concatenate(doubtful)) if doubtful else [])
    if len(blank):
        starts = np.delete(starts, blank)
    with path.open("rb") as file:
        marked = file.read(3) == b"\xef\xbb\xbf"
    if marked and len(starts) and starts[0] == 0:
        starts[0] = 3
    np.save(target, np.append(starts, position))
    return len(starts)


def _blank(path: Path, starts: Any, size: int, doubtful: Any) -> list[int]:
    """The blank lines among the `doubtful` ones, which start with white space."""
    blank = []
    with path.open("rb") as file:
        for index in map(int, doubtful):
            begin, end = int(starts[index]), int(starts[index + 1]) if index + 1 < len(starts) else size
            file.seek(begin)
            # Longer lines of white space do not occur in data; one would be shown as broken.
            if end - begin <= _PIECE and not file.read(end - begin).removeprefix(b"\xef\xbb\xbf").strip():
                blank.append(index)
    return blank


class IndexedLines(LazyRows):
    """The rows of a file of JSON lines, read from disk on access.

    The file is opened for each read and not mapped: overwriting a mapped file kills the process.
    """

    def __init__(self, path: Path, starts: Path):
        import numpy as np

        self.path = path
        self._starts = np.load(starts, mmap_mode="r")
        self._changed = path.stat().st_mtime_ns

    def __len__(self) -> int:
        return len(self._starts) - 1

    def row(self, index: int) -> Row:
        return self.read(index, index + 1)[0]

    def read(self, start: int, stop: int) -> list[Row]:
        """Rows `start` to `stop` in one read. Raises InputError if the file has changed since it was indexed."""
        if start >= stop:
            return []
        data, offsets = self._bytes(start, stop)
        return [_parsed(data[begin:end], start + number) for number, (begin, end) in enumerate(pairwise(offsets))]

    def candidates(self, wanted: str, start: int) -> tuple[list[int], int]:
        """Rows of the next chunk after `start` whose line may contain `wanted` (case-folded), and the chunk's end."""
        import numpy as np

        stop = min(len(self), start + _SEARCHED_ROWS)
        # Very long rows shrink the chunk.
        limit = int(self._starts[start]) + _PIECE
        stop = max(start + 1, min(stop, int(np.searchsorted(self._starts, limit))))
        data, offsets = self._bytes(start, stop)
        places: list[int] = []
        if wanted.isascii() and json.dumps(wanted) == f'"{wanted}"' and "/" not in wanted:
            lowered, pattern = data.lower(), wanted.encode()
            place = lowered.find(pattern)
            while place >= 0:
                index = int(np.searchsorted(offsets, place, side="right")) - 1
                places.append(start + index)
                place = lowered.find(pattern, int(offsets[index + 1]))
            # Letters that only become ASCII by case folding (the Kelvin sign) are not worth a second pass.
            return places, stop
        # The text may be escaped in the file (\u00e9, \n, \"), so parse every row.
        return list(range(start, stop)), stop

    def _bytes(self, start: int, stop: int) -> tuple[bytes, list[int]]:
        begin, end = int(self._starts[start]), int(self._starts[stop])
        offsets = [int(place) - begin for place in self._starts[start : stop + 1]]
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime_ns != self._changed:
                    raise InputError(f"{self.path.name} has changed since it was opened", try_="open it again")
                file.seek(begin)
                return file.read(end - begin), offsets
        except OSError as error:
            raise InputError(f"{self.path.name} can no longer be read: {error.strerror}", given=self.path) from None


def _parsed(line: bytes, index: int) -> Row:
    if len(line) > LONGEST_ROW:
        return {"(broken)": f"row {index}: longer than {byte_size(LONGEST_ROW)}"}
    try:
        row = parse_json(line.decode("utf-8").lstrip("\ufeff\x1e"))
    except ValueError as error:
        return {"(broken)": f"row {index}: not valid JSON ({shorten(error, 80)}): {shorten(line[:100], 100)}"}
    return row if isinstance(row, dict) else {"(broken)": f"row {index}: not an object: {shorten(row, 100)}"}


_KEPT = 24  # files whose index stays in the cache
_LOOKED_AT = 200  # rows whose keys are the columns


@dataclass
class Hits:
    """The rows that match a search: `indices` in the source, their `rows`, and whether there are `more`.

    `total` is known once the whole source has been searched.
    """

    indices: list[int]
    rows: list[Row]
    more: bool
    total: int | None


@dataclass
class Pages:
    """The rows of one split of a data source, unconverted."""

    rows: int
    columns: list[str]
    _source: Sequence[Row] = field(repr=False)
    # text: (matching rows, row to continue from)
    _matches: dict[str, tuple[list[int], int]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.rows

    def sample(self, count: int) -> list[Row]:
        """About `count` readable rows, evenly spaced."""
        step = max(1, self.rows // count)
        rows = (self.page(index, 1)[0] for index in range(0, self.rows, step)[:count])
        return [row for row in rows if "(broken)" not in row]

    def page(self, offset: int = 0, size: int = 20) -> list[Row]:
        """At most `size` rows from `offset` on. A broken JSON line becomes the row {"(broken)": the reason}."""
        start = max(0, offset)
        stop = min(self.rows, start + max(0, size))
        if isinstance(self._source, IndexedLines):
            return self._source.read(start, stop)
        return [self._source[index] for index in range(start, stop)]

    def search(
        self, text: str, offset: int = 0, size: int = 20, *, should_stop: Callable[[], bool] | None = None
    ) -> Hits:
        """`size` rows with cells that contain `text` (ignoring case), after the first `offset` matches.

        Continues where the last search for the same text ended; `should_stop` is called every few thousand rows.
        Raises InputError for an empty text.
        """
        wanted = text.casefold()
        if not wanted.strip():
            raise InputError("Nothing to search for", given=text, allowed="some text")
        hits, place = self._matches.pop(wanted, ([], 0))
        enough = offset + size + 1
        while place < self.rows and len(hits) < enough and not (should_stop and should_stop()):
            new, place = self._search_some(wanted, place, enough - len(hits))
            hits += new
        self._matches[wanted] = (hits, place)
        while len(self._matches) > 8:
            self._matches.pop(next(iter(self._matches)))
        indices = hits[offset : offset + size]
        rows = [self.page(index, 1)[0] for index in indices]
        ended = place >= self.rows
        return Hits(indices, rows, len(hits) > offset + size or not ended, len(hits) if ended else None)

    def _search_some(self, wanted: str, start: int, most: int) -> tuple[list[int], int]:
        """The matches for `wanted` in the next chunk, and the start of the chunk after it."""
        candidates: Sequence[int]
        if isinstance(self._source, IndexedLines):
            candidates, after = self._source.candidates(wanted, start)
        else:
            after = min(self.rows, start + 2000)
            candidates = range(start, after)
        hits = []
        for index in candidates:
            row = self.page(index, 1)[0]
            if any(wanted in cell_as_text(cell).casefold() for cell in row.values()):
                hits.append(index)
                if len(hits) >= most:
                    return hits, index + 1
        return hits, after


def open_pages(
    source: str | Path,
    cache_dir: Path,
    split: str | None = None,
    workspace: Workspace | None = None,
    encoding: str | None = None,
) -> Pages:
    """The pages of a sample, file, folder, version or Hub data set; `split` (default: train) selects among its splits.

    Rows are not converted and need no known format. Raises InputError if the source cannot be read.
    """
    kind, place = find_source(str(source).strip(), workspace)
    path = Path(place)
    if kind in ("sample", "file") and path.is_dir():
        path, split = _split_of(split_files(path), split), None
    if kind in ("hub", "version") or not path.is_file():
        loaded = load_rows(DataConfig(source=str(source)), workspace)
        rows = _split_of(loaded.splits, split)
        return Pages(len(rows), list(loaded.columns), rows)
    check_size(path.name, path.stat().st_size)
    folder = cache_dir / _key(path, split, encoding)
    if not (folder / "columns.json").exists():
        _fill_cache(path, folder, split, encoding)
    else:
        os.utime(folder)
    return _open_cache(path, folder)


def _split_of(splits: dict[str, Any], split: str | None) -> Any:
    name = split or ("train" if "train" in splits else next(iter(splits)))
    if name not in splits:
        raise InputError("There is no such split", given=name, allowed=", ".join(splits))
    return splits[name]


def _key(path: Path, split: str | None, encoding: str | None) -> str:
    status = path.stat()
    identity = (
        f"3\x1f{path.absolute()}\x1f{status.st_size}\x1f{status.st_mtime_ns}\x1f{split or ''}\x1f{encoding or ''}"
    )
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _fill_cache(path: Path, folder: Path, split: str | None, encoding: str | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}-{os.urandom(3).hex()}")
    temporary.mkdir()
    try:
        lines, columns = path, None
        if encoding or not _is_json_lines(path):
            lines = temporary / "rows.jsonl"
            columns = _write_lines(path, lines, split, encoding)
        check_rows(path.name, _index_lines(lines, temporary / "starts.npy"), path.stat().st_size)
        rows = IndexedLines(lines, temporary / "starts.npy")
        names = columns if columns is not None else _columns_of(rows)
        del rows
        (temporary / "columns.json").write_text(json.dumps(names), encoding="utf-8")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.exists():
                raise  # otherwise another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = sorted(
        (entry for entry in folder.parent.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime
    )
    for old in kept[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _open_cache(path: Path, folder: Path) -> Pages:
    copy = folder / "rows.jsonl"
    rows = IndexedLines(copy if copy.exists() else path, folder / "starts.npy")
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    return Pages(len(rows), columns, rows)


def _is_json_lines(path: Path) -> bool:
    """Whether the file can be read in place: UTF-8, with an object on its first line."""
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        return False
    with path.open("rb") as file:
        start = file.read(4 << 20).removeprefix(b"\xef\xbb\xbf")
    lines = [line for line in start.split(b"\n", 50) if line.strip()]
    try:
        first = [json.loads(line.decode("utf-8")) for line in lines[: 2 if path.suffix.lower() == ".json" else 1]]
    except (ValueError, RecursionError):
        return False
    least = 2 if path.suffix.lower() == ".json" else 1
    return len(first) >= least and all(isinstance(row, dict) for row in first)


def _write_lines(path: Path, target: Path, split: str | None, encoding: str | None) -> list[str]:
    if path.suffix.lower() in (".csv", ".tsv"):  # row by row, without loading the whole file
        with path.open("rb") as file:
            refuse_what_is_no_data(file.read(4096), path.name)
        columns, rows = iterate_delimited(lambda: path.open("rb"), path.name, [], path.stat().st_size, encoding)
        with target.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        return columns
    sheet = split if path.suffix.lower() in SHEETS and split and split_name(split) is None else None
    table = read_table(path, encoding, sheet)
    with target.open("w", encoding="utf-8") as file:
        for row in _split_of(table.splits, None if sheet else split):
            file.write(json.dumps(row, default=str) + "\n")
    return table.columns


def _columns_of(rows: IndexedLines) -> list[str]:
    step = max(1, len(rows) // _LOOKED_AT)
    columns: dict[str, None] = {}
    for row in [*rows.read(0, min(len(rows), _LOOKED_AT)), *(rows[index] for index in range(0, len(rows), step))]:
        columns.update(dict.fromkeys(row))
        check_columns(rows.path.name, len(columns))
    columns.pop("(broken)", None)
    return list(columns)
