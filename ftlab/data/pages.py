"""Page through a data source and search it, however large: rows are read when they are shown.

A JSONL file is indexed once (where each row begins, 8 bytes a row) and read in place; other files are written once as
JSON lines into the cache. Both are kept by path, size and time of change, so the second look costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.data.limits import check_columns, check_rows, check_size
from ftlab.data.line_index import IndexedLines, index_lines
from ftlab.data.prompt_template import cell_as_text
from ftlab.errors import InputError
from ftlab.workspace import Workspace

_KEPT = 24  # files whose index stays in the cache
_LOOKED_AT = 200  # rows whose keys are the columns


@dataclass
class Hits:
    """Rows in which a text was found: `indices` in the source, their `rows`, and whether there are `more`.

    `total` is known once the whole source was searched.
    """

    indices: list[int]
    rows: list[dict[str, Any]]
    more: bool
    total: int | None


@dataclass
class Pages:
    """The rows of one split of a data source, as they are."""

    rows: int
    columns: list[str]
    _source: Sequence[dict[str, Any]] = field(repr=False)
    # text: (rows found, row to go on from)
    _found: dict[str, tuple[list[int], int]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.rows

    def sample(self, count: int) -> list[dict[str, Any]]:
        """About `count` readable rows from the whole length."""
        step = max(1, self.rows // count)
        rows = (self.page(index, 1)[0] for index in range(0, self.rows, step)[:count])
        return [row for row in rows if "(broken)" not in row]

    def page(self, offset: int = 0, size: int = 20) -> list[dict[str, Any]]:
        """At most `size` rows from `offset` on. A broken JSON line is a row {"(broken)": what is wrong}."""
        start = max(0, offset)
        stop = min(self.rows, start + max(0, size))
        if isinstance(self._source, IndexedLines):
            return self._source.read(start, stop)
        return [self._source[index] for index in range(start, stop)]

    def search(
        self, text: str, offset: int = 0, size: int = 20, *, should_stop: Callable[[], bool] | None = None
    ) -> Hits:
        """`size` rows whose cells hold `text` (case does not count), after the first `offset` of them.

        Goes on where the last search for the same text ended; `should_stop` is asked every few thousand rows.
        Raises InputError for an empty text.
        """
        wanted = text.casefold()
        if not wanted.strip():
            raise InputError("Nothing to search for", given=text, allowed="some text")
        found, place = self._found.pop(wanted, ([], 0))
        enough = offset + size + 1
        while place < self.rows and len(found) < enough and not (should_stop and should_stop()):
            new, place = self._search_some(wanted, place, enough - len(found))
            found += new
        self._found[wanted] = (found, place)
        while len(self._found) > 8:
            self._found.pop(next(iter(self._found)))
        indices = found[offset : offset + size]
        rows = [self.page(index, 1)[0] for index in indices]
        ended = place >= self.rows
        return Hits(indices, rows, len(found) > offset + size or not ended, len(found) if ended else None)

    def _search_some(self, wanted: str, start: int, most: int) -> tuple[list[int], int]:
        """Rows that hold `wanted` in the next piece, and where the piece after it begins."""
        if isinstance(self._source, IndexedLines):
            candidates, after = self._source.candidates(wanted, start)
        else:
            after = min(self.rows, start + 2000)
            candidates = range(start, after)
        found = []
        for index in candidates:
            row = self.page(index, 1)[0]
            if any(wanted in cell_as_text(cell).casefold() for cell in row.values()):
                found.append(index)
                if len(found) >= most:
                    return found, index + 1
        return found, after


def open_pages(
    source: str | Path, cache_dir: Path, split: str | None = None, workspace: Workspace | None = None
) -> Pages:
    """The pages of a sample, file, folder, version or Hub data set; of a source with splits those of `split` (train).

    Nothing is converted, and a format need not be known. Raises InputError when the source cannot be read at all.
    """
    from ftlab.data.load import find_source

    kind, place = find_source(str(source).strip(), workspace)
    path = Path(place)
    if kind in ("sample", "file") and path.is_dir():
        path = _file_of(path, split)
        split = None
    if kind in ("hub", "version") or not path.is_file():
        return pages_of_loaded(str(source), split, workspace)
    check_size(path.name, path.stat().st_size)
    folder = cache_dir / _key(path, split)
    if not (folder / "columns.json").exists():
        _fill_cache(path, folder, split)
    else:
        os.utime(folder)
    return _open_cache(path, folder)


def pages_of_loaded(source: str, split: str | None = None, workspace: Workspace | None = None) -> Pages:
    """The pages of a source that is mapped by the library that loads it: a version, or a data set of the Hub."""
    from ftlab.config import DataConfig
    from ftlab.data.load import load_rows

    loaded = load_rows(DataConfig(source=source), workspace)
    rows = _split_of(loaded.splits, split)
    return Pages(len(rows), list(loaded.columns), rows)


def _split_of(splits: dict[str, Any], split: str | None) -> Any:
    name = split or ("train" if "train" in splits else next(iter(splits)))
    if name not in splits:
        raise InputError("There is no such split", given=name, allowed=", ".join(splits))
    return splits[name]


def _file_of(folder: Path, split: str | None) -> Path:
    from ftlab.data.load import split_files

    return _split_of(split_files(folder), split)


def _key(path: Path, split: str | None) -> str:
    status = path.stat()
    said = f"2\x1f{path.absolute()}\x1f{status.st_size}\x1f{status.st_mtime_ns}\x1f{split or ''}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _fill_cache(path: Path, folder: Path, split: str | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}-{os.urandom(3).hex()}")
    temporary.mkdir()
    try:
        lines, columns = path, None
        if not _is_json_lines(path):
            lines = temporary / "rows.jsonl"
            columns = _write_lines(path, lines, split)
        check_rows(path.name, index_lines(lines, temporary / "starts.npy"), path.stat().st_size)
        rows = IndexedLines(lines, temporary / "starts.npy")
        found = columns if columns is not None else _columns_of(rows)
        del rows
        (temporary / "columns.json").write_text(json.dumps(found), encoding="utf-8")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.exists():
                raise  # else somebody else was quicker
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = sorted((one for one in folder.parent.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
    for old in kept[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _open_cache(path: Path, folder: Path) -> Pages:
    copy = folder / "rows.jsonl"
    rows = IndexedLines(copy if copy.exists() else path, folder / "starts.npy")
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    return Pages(len(rows), columns, rows)


def _is_json_lines(path: Path) -> bool:
    """Whether the file can be read in place: UTF-8, and its first line is an object of its own."""
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


def _write_lines(path: Path, target: Path, split: str | None) -> list[str]:
    from ftlab.data.delimited import iterate_delimited
    from ftlab.data.readers import read_table, refuse_what_is_no_data

    if path.suffix.lower() in (".csv", ".tsv"):  # row by row, without the whole file in memory
        with path.open("rb") as file:
            refuse_what_is_no_data(file.read(4096), path.name)
        columns, rows = iterate_delimited(lambda: path.open("rb"), path.name, [], path.stat().st_size)
        with target.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        return columns
    table = read_table(path)
    with target.open("w", encoding="utf-8") as file:
        for row in _split_of(table.splits, split):
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
