"""Inspection of a data source: its format, its rows page by page, and why rows cannot be used."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig, build_config
from ftlab.core.workspace import Workspace, default_root
from ftlab.data.conversion import to_messages
from ftlab.data.formats import ColumnsUnknown, detect
from ftlab.data.load import Named, encoding_of, find_source, load_rows, recall, settled, split_files
from ftlab.data.pages import Hits, Pages, open_pages
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.readers import SUFFIXES
from ftlab.data.shapes import Detected, Message, UnusableRow
from ftlab.data.sheets import SHEETS
from ftlab.data.splits import detect_format, prepare
from ftlab.data.tabular import Row
from ftlab.data.version_store import PREFIX, Version, VersionRow, resolve, rows_in_group
from ftlab.errors import InputError, shorten

WHOLE = 50_000  # rows up to which `look` converts everything
SAMPLED = 400  # rows that it samples from a larger source
CELL = 200  # characters of a cell shown on a page


@dataclass
class Inspection:
    """The facts about a data source. `splits` are the examples used in training (with replay).

    For plain text, the answer characters are those of the text. `problem` (from `look`) is the reason the data cannot
    be trained on; rows are then available and other facts may be empty.
    """

    name: str
    kind: str
    rows: int
    columns: list[str]
    format: str
    why: str
    confidence: float
    splits: dict[str, int]
    dropped: dict[str, int]
    examples: int
    mean_prompt_characters: float
    mean_answer_characters: float
    notes: list[str]
    source_splits: dict[str, int]
    problem: str | None
    detected: Detected | None = field(repr=False)
    _rows_by_split: Mapping[str, Any] = field(repr=False)
    _data: DataConfig = field(repr=False)
    _refused: InputError | None = field(default=None, repr=False)  # why no format was recognized
    _searched: dict[str, Pages] = field(default_factory=dict, repr=False)

    @property
    def needs_columns(self) -> bool:
        """Whether the only thing missing is the roles of the columns."""
        return isinstance(self._refused, ColumnsUnknown)

    def page(self, offset: int = 0, size: int = 20, split: str | None = None) -> list[dict[str, str]]:
        """At most `size` source rows from `offset` on (of the training split), cells as text of up to 200
        characters."""
        rows = self.source_rows(split)
        start, stop = max(0, offset), min(len(rows), max(0, offset) + max(0, size))
        page = rows.page(start, stop - start) if isinstance(rows, Pages) else [rows[i] for i in range(start, stop)]
        return [self._as_text(row) for row in page]

    def search(
        self,
        text: str,
        offset: int = 0,
        size: int = 20,
        split: str | None = None,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> Hits:
        """`size` rows of a split that contain `text`, after the first `offset` matches; cells as in `page`."""
        rows = self.source_rows(split)
        if not isinstance(rows, Pages):
            rows = self._searched.setdefault(split or "", Pages(len(rows), self.columns, rows))
        hits = rows.search(text, offset, size, should_stop=should_stop)
        hits.rows = [self._as_text(row) for row in hits.rows]
        return hits

    def row(self, i: int, split: str | None = None) -> Row:
        """The full cells of source row `i` (from 0). Raises InputError if there is no such row."""
        rows = self.source_rows(split)
        if not 0 <= i < len(rows):
            raise InputError("There is no such row", given=i, allowed=f"0 to {len(rows) - 1}")
        return dict(rows.page(i, 1)[0] if isinstance(rows, Pages) else rows[i])

    def _as_text(self, row: Mapping[str, Any]) -> dict[str, str]:
        if "(broken)" in row and self.columns:
            return dict.fromkeys(self.columns, "") | {self.columns[0]: row["(broken)"]}
        return {column: shorten(cell_as_text(row.get(column)), CELL) for column in self.columns}

    def messages(self, i: int, split: str | None = None) -> list[Message]:
        """The canonical messages of source row `i` (from 0) of the training split.

        Raises InputError if there is no such row, or with the reason if it cannot be used.
        """
        row = self.row(i, split)
        if self.detected is None:
            raise self._refused or InputError("The format of this data is unknown", try_="set the columns")
        try:
            return to_messages(row, self.detected, self._data.system_prompt)
        except UnusableRow as problem:
            raise InputError(f"This row cannot be used: {problem.reason}") from None

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "detected" and key[0] != "_"} | {
            "roles": dict(self.detected.columns) if self.detected else {}
        }

    def source_rows(self, split: str | None = None) -> Any:
        """The rows of a split with full cells: a sequence, or `Pages` for a large source."""
        names = self._rows_by_split or {"train": []}
        split = split or ("train" if "train" in names else next(iter(names), ""))
        if split not in names:
            raise InputError("There is no such split", given=split, allowed=", ".join(names) or None)
        return names[split]


def inspect(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """The facts about a data source that need no model; `settings` are fields of DataConfig.

    Results are cached while the file is unchanged. Raises InputError like `splits.prepare`.
    """
    data = _data_of(source, settings)
    root = str(workspace.root) if workspace else ""
    return _inspect(data.model_dump_json(), _places(data, workspace), root)


def look(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """Like `inspect`, for data that is still being prepared: errors go to `problem`, and rows and columns are available
    as soon as the file can be read. Large sources are not converted completely; facts about their examples come from a
    few hundred rows.

    Raises InputError only for settings that no data could satisfy, and if there is no such source.
    """
    data = _data_of(source, settings)
    workspace = workspace or Workspace(default_root())
    root = str(workspace.root)
    places = _places(data, workspace)
    pages = _pages(data, places, root)
    if pages is None or sum(part.rows for part in pages.values()) <= WHOLE:
        try:
            return _inspect(data.model_dump_json(), places, root)
        except InputError as error:
            return _preview(data, pages or {}, error, recall(data, workspace))
    return _preview(data, pages, None, recall(data, workspace))


def glance(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """Like `look`, but from a sample of the rows: immediate at any size and after any change of the settings."""
    data = _data_of(source, settings)
    workspace = workspace or Workspace(default_root())
    pages = _pages(data, _places(data, workspace), str(workspace.root))
    if pages is None:
        return look(data, workspace)
    return _preview(data, pages, None, recall(data, workspace))


def _data_of(source: str | DataConfig, settings: dict[str, Any]) -> DataConfig:
    values = source.model_dump() if isinstance(source, DataConfig) else {"source": source}
    return build_config({"data": values | settings}).data


def _places(data: DataConfig, workspace: Workspace | None) -> tuple[tuple[str, int, int], ...]:
    files = [place for name in (data.source, *data.replayed) if name for place in files_of(name, workspace)]
    # Columns assigned in the meantime change how the same file is read.
    return (*files, (json.dumps(named.as_dict()) if (named := recall(data, workspace)) else "", 0, 0))


def _pages(data: DataConfig, places: tuple[Any, ...], root: str) -> dict[str, Pages] | None:
    """The pages of every split; None if the source cannot be read."""
    try:
        encoding = encoding_of(data, Workspace(Path(root)))
        return _open_pages(data.source, data.split, data.subset, encoding, places, root)
    except InputError:
        return None


@lru_cache(maxsize=4)
def _open_pages(
    source: str, split: str | None, subset: str | None, encoding: str | None, _files: tuple[Any, ...], root: str
) -> dict[str, Pages]:
    workspace = Workspace(Path(root))
    kind, place = find_source(source.strip(), workspace)
    if kind == "hub" or (kind != "version" and Path(place).suffix.lower() in (".zip", ".json", *SHEETS)):
        loaded = load_rows(DataConfig(source=source, split=split, subset=subset, encoding=encoding), workspace)
        return {name: Pages(len(rows), loaded.columns, rows) for name, rows in loaded.splits.items()}
    names: list[str | None] = [split]
    if not split and kind != "version" and Path(place).is_dir():
        names = list(split_files(Path(place)))
    elif not split and kind == "version":
        names = list(resolve(source, workspace).rows)
    return {name or "train": open_pages(source, workspace.page_cache, name, workspace, encoding) for name in names}


def _preview(data: DataConfig, pages: dict[str, Pages], error: InputError | None, named: Named | None) -> Inspection:
    """The facts from the pages and a sample of their rows."""
    main = pages.get("train") or next(iter(pages.values()), None)
    columns = list(dict.fromkeys(column for part in pages.values() for column in part.columns))
    sample = main.sample(SAMPLED) if main else []
    problem = error.message() if error else None
    unread = error
    detected = None
    try:
        read = settled(data, named if named and named.fits(columns) else None)
        detected = detect(columns, sample, read.columns, data.source, read.prompt_template) if sample else None
    except InputError as refused:
        problem, unread = problem or refused.message(), refused
    examples = []
    if detected:
        for row in sample:
            with contextlib.suppress(UnusableRow):
                examples.append(to_messages(row, detected, data.system_prompt))
    rows = {split: part.rows for split, part in pages.items()}
    total = sum(rows.values())
    notes = []
    if problem is None:
        share = 0 if not sample else 1 - len(examples) / len(sample)
        notes.append(
            f"This is a large source: the facts about its examples come from {len(sample)} of {total:,} rows"
            + (f", of which {share:.0%} cannot be used." if share else ".")
        )
    return Inspection(
        name=Path(data.source).name if data.source.endswith(SUFFIXES) else data.source,
        kind=find_source(data.source)[0] if not data.source.startswith("version:") else "version",
        rows=total,
        columns=columns,
        format=detected.format if detected else "",
        why=detected.why if detected else "",
        confidence=detected.confidence if detected else 0.0,
        splits=rows if problem is None else {},
        dropped={},
        examples=0 if problem else total,
        mean_prompt_characters=_mean(sum(len(turn["content"]) for turn in turns[:-1]) for turns in examples),
        mean_answer_characters=_mean(len(turns[-1]["content"]) for turns in examples),
        notes=notes,
        source_splits=rows,
        problem=problem,
        detected=detected,
        _rows_by_split=pages,
        _data=data,
        _refused=unread,
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0


@lru_cache(maxsize=4)
def _inspect(settings: str, _files: tuple[tuple[str, int, int], ...], root: str) -> Inspection:
    data = DataConfig.model_validate_json(settings)
    workspace = Workspace(Path(root)) if root else None
    loaded = load_rows(data, workspace)
    prepared = prepare(data, loaded, workspace)
    own = [row["messages"] for rows in prepared.splits.values() for row in rows if row["source"] != "replay"]
    detected = detect_format(loaded, data)
    manifest = prepared.manifest
    return Inspection(
        name=loaded.name,
        kind=loaded.kind,
        rows=loaded.rows,
        columns=loaded.columns,
        format=detected.format,
        why=detected.why,
        confidence=detected.confidence,
        splits=manifest["splits"],
        dropped=manifest["dropped"],
        examples=len(own),
        mean_prompt_characters=sum(len(turn["content"]) for turns in own for turn in turns[:-1]) / len(own),
        mean_answer_characters=sum(len(turns[-1]["content"]) for turns in own) / len(own),
        notes=manifest["notes"],
        source_splits={split: len(rows) for split, rows in loaded.splits.items()},
        problem=None,
        detected=detected,
        _rows_by_split=loaded.splits,
        _data=data,
    )


def files_of(source: str, workspace: Workspace | None = None) -> list[tuple[str, int, int]]:
    """(path, modification time, bytes) of every file behind a source, so that a changed file is read again."""
    kind, place = find_source(source.strip(), workspace)
    if kind == "hub":
        return []
    path = Path(place)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(str(file.absolute()), os.stat(file)) for file in files if file.is_file()]
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


MOST_HITS = 1000  # hits of a search in a large source without a version
_SAMPLED = 200


@dataclass
class EveryRow:
    """All rows of one source. `ids` and the `flags` are arrays with one entry per row, in source order."""

    ids: Any  # int64
    flags: dict[str, Any]  # good, bad, excluded, noted: bool arrays
    columns: list[str]
    version: Version | None  # None: the source has no version yet
    _fetch: Callable[[int], VersionRow] = field(repr=False)
    _search: Callable[[str], Any] = field(repr=False)
    _masks: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> VersionRow:
        return self._fetch(position)

    def position(self, row: int) -> int | None:
        """The position of the row with the id `row`; None if there is none."""
        import numpy as np

        if 0 <= row < len(self.ids) and self.ids[row] == row:
            return row
        places = np.flatnonzero(self.ids == row)
        return int(places[0]) if len(places) else None

    def holding(self, text: str) -> Any:
        """A bool array of the rows with a cell that contains `text`, ignoring case."""
        wanted = text.strip().casefold()
        if wanted not in self._masks:
            while len(self._masks) >= 8:
                self._masks.pop(next(iter(self._masks)))
            self._masks[wanted] = self._search(wanted)
        return self._masks[wanted]

    def text_bytes(self) -> float:
        """The approximate size of all cells in bytes, from a sample of the rows."""
        places = range(0, len(self), max(1, len(self) // _SAMPLED))
        sizes = [len(json.dumps(self[place].cells, default=str)) for place in places]
        return sum(sizes) / max(1, len(sizes)) * len(self)


def holds(cells: Mapping[str, Any], wanted: str) -> bool:
    """Whether a cell contains `wanted`, which is case-folded."""
    return any(wanted in cell_as_text(cell).casefold() for cell in cells.values())


def every_row(data: DataConfig, workspace: Workspace) -> EveryRow:
    """All rows of `data`, cached while the source is unchanged. Data without a version has the row ids that version 1
    would assign.

    Raises InputError if the source cannot be read, or has rows that cannot become a version.
    """
    if data.source.startswith(PREFIX):
        version = resolve(data.source, workspace)
        return _of_version(str(version.folder), version.rows_file.stat().st_mtime_ns)
    return _not_yet_a_version(data.model_dump_json(), tuple(files_of(data.source, workspace)), workspace.root)


@lru_cache(maxsize=4)
def _not_yet_a_version(settings: str, _files: tuple[tuple[str, int, int], ...], root: Path) -> EveryRow:
    data, workspace = DataConfig.model_validate_json(settings), Workspace(root)
    inspected = look(data, workspace)
    if inspected.rows <= WHOLE and inspected.problem:
        load_rows(data, workspace)  # raises the reason if not all rows can be read
    return _of_source(inspected.source_splits, inspected.source_rows, inspected.columns)


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
                places = rows.search(wanted, 0, MOST_HITS).indices
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
            raise InputError(f"The rows of {version.id} have just been deleted") from None

    def search(wanted: str) -> Any:
        masks = [_matches(path, index, wanted) for index in range(len(sizes))]
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    return EveryRow(about["ftlab_id"].to_numpy(), flags, list(version.columns), version, fetch, search)


def _matches(path: Path, group: int, wanted: str) -> Any:
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not wanted.isascii() or json.dumps(wanted) != f'"{wanted}"':
        # In cells stored as JSON the text may be escaped, so decode every row.
        return np.array([holds(row.cells, wanted) for row in rows_in_group(path, group)], bool)
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name.startswith("data:")]
        table = file.read_row_group(group, columns=names)
    mask = np.zeros(table.num_rows, bool)
    for name in names:
        matches = pc.match_substring(table[name], wanted, ignore_case=True)
        mask |= matches.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return mask
