"""All the rows of a source as somebody who judges them pages through: the excluded ones too, read when they are shown.

Of a version only ids, splits, marks and remarks are in memory; cells are read a few thousand rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.inspection import WHOLE, look
from ftlab.data.load import find_source, load_rows
from ftlab.data.pages import Pages
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.version_rows import VersionRow, rows_in_group
from ftlab.data.versions import PREFIX, Version, resolve
from ftlab.errors import InputError
from ftlab.workspace import Workspace

MOST_FOUND = 1000  # rows that a search of a large source that is no version finds at most
_SAMPLED = 200


@dataclass
class EveryRow:
    """The rows of one source. `ids`, `judged`... are arrays with one entry a row, in the order of the source."""

    ids: Any  # int64
    flags: dict[str, Any]  # good, bad, excluded, noted: bool arrays
    columns: list[str]
    version: Version | None  # None: the source is no version yet
    _fetch: Callable[[int], VersionRow] = field(repr=False)
    _search: Callable[[str], Any] = field(repr=False)
    _found: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> VersionRow:
        return self._fetch(position)

    def position(self, row: int) -> int | None:
        """Where the row with the id `row` stands, None when there is none."""
        import numpy as np

        if 0 <= row < len(self.ids) and self.ids[row] == row:
            return row
        places = np.flatnonzero(self.ids == row)
        return int(places[0]) if len(places) else None

    def holding(self, text: str) -> Any:
        """A bool array: the rows in which a cell holds `text`, whatever its case."""
        wanted = text.strip().casefold()
        if wanted not in self._found:
            while len(self._found) >= 8:
                self._found.pop(next(iter(self._found)))
            self._found[wanted] = self._search(wanted)
        return self._found[wanted]

    def megabytes(self) -> float:
        """About how much text the cells hold, from a sample of the rows."""
        places = range(0, len(self), max(1, len(self) // _SAMPLED))
        sizes = [len(json.dumps(self[place].cells, default=str)) for place in places]
        return sum(sizes) / max(1, len(sizes)) * len(self) / 1e6


def holds(cells: Mapping[str, Any], wanted: str) -> bool:
    """Whether a cell holds `wanted`, which is case-folded."""
    return any(wanted in cell_as_text(cell).casefold() for cell in cells.values())


def every_row(data: DataConfig, workspace: Workspace) -> EveryRow:
    """The rows of `data`; asking again for an unchanged source costs nothing. The ids of data that are no version yet
    are those that version 1 gives them.

    Raises InputError when the source cannot be read, or has rows that cannot become a version.
    """
    if data.source.startswith(PREFIX):
        version = resolve(data.source, workspace)
        return _of_version(str(version.folder), version.rows_file.stat().st_mtime_ns)
    kind, place = find_source(data.source.strip(), workspace)
    return _not_yet_a_version(data.model_dump_json(), () if kind == "hub" else _changes(Path(place)), workspace.root)


@lru_cache(maxsize=4)
def _not_yet_a_version(settings: str, _files: tuple[tuple[str, int, int], ...], root: Path) -> EveryRow:
    data, workspace = DataConfig.model_validate_json(settings), Workspace(root)
    found = look(data, workspace)
    if found.rows <= WHOLE and found.problem:
        load_rows(data, workspace)  # says what is wrong where the rows cannot be read as a whole
    return _of_source(found.source_splits, found.source_rows, found.columns)


def _changes(path: Path) -> tuple[tuple[str, int, int], ...]:
    """(name, time of change, bytes) of the files behind a source, so that a changed file is read again."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


def _of_source(sizes: Mapping[str, int], rows_of: Callable[[str], Any], columns: list[str]) -> EveryRow:
    import numpy as np

    splits = list(sizes)
    main = "train" if "train" in sizes else (splits[0] if splits else "train")
    starts = np.cumsum([0, *sizes.values()])
    total = int(starts[-1])

    def fetch(position: int) -> VersionRow:
        if not 0 <= position < total:
            raise IndexError(position)
        index = int(np.searchsorted(starts, position, side="right")) - 1
        split, place = splits[index], position - int(starts[index])
        rows = rows_of(split)
        cells = rows.page(place, 1)[0] if isinstance(rows, Pages) else rows[place]
        return VersionRow(position, dict(cells), "train" if split == main else split)

    def search(wanted: str) -> Any:
        mask = np.zeros(total, bool)
        for start, split in zip(starts, splits, strict=False):
            rows = rows_of(split)
            if isinstance(rows, Pages):
                places = rows.search(wanted, 0, MOST_FOUND).indices
            else:
                places = [place for place, cells in enumerate(rows) if holds(cells, wanted)]
            mask[[int(start) + place for place in places]] = True
        return mask

    nothing = np.zeros(total, bool)
    flags = dict.fromkeys(("good", "bad", "excluded", "noted"), nothing)
    return EveryRow(np.arange(total), flags, list(columns), None, fetch, search)


@lru_cache(maxsize=4)
def _of_version(folder: str, _changed: int) -> EveryRow:
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    values = json.loads((Path(folder) / "version.json").read_text(encoding="utf-8"))
    version = Version(**values, folder=Path(folder))
    path = version.rows_file
    about = pq.read_table(path, columns=["ftlab_id", "ftlab_excluded", "ftlab_mark", "ftlab_notes"])
    marks = about["ftlab_mark"]

    def array(column: Any) -> Any:
        return column.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)

    flags = {
        "good": array(pc.equal(marks, "good")),
        "bad": array(pc.equal(marks, "bad")),
        "excluded": array(pc.is_valid(about["ftlab_excluded"])),
        "noted": array(pc.greater(pc.list_value_length(about["ftlab_notes"]), 0)),
    }
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    starts = np.cumsum([0, *sizes])
    group = lru_cache(maxsize=4)(lambda index: rows_in_group(path, index))

    def fetch(position: int) -> VersionRow:
        if not 0 <= position < len(about):
            raise IndexError(position)
        index = int(np.searchsorted(starts, position, side="right")) - 1
        try:
            return group(index)[position - int(starts[index])]
        except FileNotFoundError:
            raise InputError(f"The rows of {version.id} were deleted while they were shown") from None

    def search(wanted: str) -> Any:
        masks = [_matches(path, index, wanted) for index in range(len(sizes))]
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    return EveryRow(about["ftlab_id"].to_numpy(), flags, list(version.columns), version, fetch, search)


def _matches(path: Path, group: int, wanted: str) -> Any:
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not wanted.isascii() or json.dumps(wanted) != f'"{wanted}"':
        # Spelled with escapes, the text looks different in a cell that is kept as JSON: decode every row.
        return np.array([holds(row.cells, wanted) for row in rows_in_group(path, group)], bool)
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name.startswith("data:")]
        table = file.read_row_group(group, columns=names)
    mask = np.zeros(table.num_rows, bool)
    for name in names:
        found = pc.match_substring(table[name], wanted, ignore_case=True)
        mask |= found.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return mask
