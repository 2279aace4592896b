"""Versions on disk: their rows as Parquet, and how they are found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict

from ftlab.core.files import read_cached, read_json
from ftlab.core.parsing import parse_json, whole
from ftlab.core.run_directory import SourceJson
from ftlab.core.workspace import Workspace
from ftlab.data.tabular import LazyRows, Row
from ftlab.errors import InputError, nearest

_PIECE_ROWS = 5000
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class VersionRow:
    """One row of a version. Its `id` is the same in all versions of one source."""

    id: int
    cells: Row
    split: str = "train"
    excluded: str | None = None  # the reason it is excluded from training; None: not excluded
    mark: str | None = None  # "good" or "bad", set by a person
    notes: tuple[str, ...] = field(default=())

    def digest(self) -> bytes:
        """16 bytes that are equal for equal cells."""
        return hashlib.sha256(_json(self.cells).encode()).digest()[:16]

    def with_(self, **changes: Any) -> VersionRow:
        return replace(self, **changes)


def write_rows(path: Path, rows: Sequence[VersionRow] | Any, columns: Sequence[str]) -> None:
    """Write `rows` (an iterable that can be iterated repeatedly) as Parquet. A data column is called `data:<name>`;
    ftlab's own columns begin with `ftlab_`.

    A column of text only is stored as text, any other as JSON text, so that values survive the round trip (a missing
    cell stays missing, null stays null).
    """
    as_json: set[str] = set()
    while True:
        mixed = _try_to_write(path, rows, list(columns), as_json)
        if not mixed:
            return
        as_json |= mixed


def _try_to_write(path: Path, rows: Iterable[VersionRow], columns: list[str], as_json: set[str]) -> set[str]:
    """Write with the columns `as_json` as JSON; returns other columns with non-text cells, which void the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = [("ftlab_id", pa.int64()), ("ftlab_split", pa.string()), ("ftlab_excluded", pa.string())]
    own += [("ftlab_mark", pa.string()), ("ftlab_notes", pa.list_(pa.string()))]
    schema = pa.schema(
        [
            pa.field(f"data:{column}", pa.large_string(), metadata={"kind": "json" if column in as_json else "text"})
            for column in columns
        ]
        + [pa.field(name, kind) for name, kind in own]
    )
    wrong: set[str] = set()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in _pieces(rows):
            cells: dict[str, list[Any]] = {}
            for column in columns:
                values = [row.cells.get(column, _MISSING) for row in piece]
                if column not in as_json and not all(value is _MISSING or _is_text(value) for value in values):
                    wrong.add(column)
                encode = _json if column in as_json or column in wrong else str
                cells[f"data:{column}"] = [None if value is _MISSING else encode(value) for value in values]
            if wrong:
                continue  # from here on only to collect other non-text columns
            cells |= {
                "ftlab_id": [row.id for row in piece],
                "ftlab_split": [row.split for row in piece],
                "ftlab_excluded": [whole(row.excluded) for row in piece],
                "ftlab_mark": [row.mark for row in piece],
                "ftlab_notes": [whole(list(row.notes)) for row in piece],
            }
            writer.write_table(pa.table(cells, schema=schema))
    return wrong


def read_rows(path: Path) -> Iterator[VersionRow]:
    """The rows in the order they were written, a few thousand in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = _kinds(file.schema_arrow)
        for batch in file.iter_batches(batch_size=_PIECE_ROWS):
            yield from _decoded(batch.to_pydict(), kinds)


def rows_in_group(path: Path, group: int) -> list[VersionRow]:
    """One of the row groups, of a few thousand rows each."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = _kinds(file.schema_arrow)
        return list(_decoded(file.read_row_group(group).to_pydict(), kinds))


def row_ids(path: Path, split: str | None = None) -> list[int]:
    """The ids of all rows, or of those of one split that are not excluded, without reading the rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["ftlab_id", "ftlab_split", "ftlab_excluded"])
    return table.filter(_used(table, split))["ftlab_id"].to_pylist() if split else table["ftlab_id"].to_pylist()


def _used(table: Any, split: str) -> Any:
    import pyarrow.compute as pc

    return pc.and_(pc.equal(table["ftlab_split"], split), pc.is_null(table["ftlab_excluded"]))


def _kinds(schema: Any) -> dict[str, bytes | None]:
    """How the cells of each data column are stored: b"text" or b"json"."""
    return {column.name: (column.metadata or {}).get(b"kind") for column in schema if column.name.startswith("data:")}


def _decoded(table: Mapping[str, list[Any]], kinds: Mapping[str, bytes | None]) -> Iterator[VersionRow]:
    for index, row_id in enumerate(table["ftlab_id"]):
        cells = {}
        for name, kind in kinds.items():
            value = table[name][index]
            if value is not None:
                cells[name.removeprefix("data:")] = parse_json(value) if kind == b"json" else value
        yield VersionRow(
            row_id,
            cells,
            table["ftlab_split"][index],
            table["ftlab_excluded"][index],
            table["ftlab_mark"][index],
            tuple(table["ftlab_notes"][index] or ()),
        )


class StoredRows(LazyRows):
    """The cells of the rows of one split that are not excluded, decoded on access."""

    def __init__(self, path: Path, split: str):
        import pyarrow.parquet as pq

        # Our own file, never rewritten, so it can be memory-mapped.
        table = pq.read_table(path, memory_map=True)
        self._table = table.filter(_used(table, split)).combine_chunks()
        self._kinds = _kinds(table.schema)

    def __len__(self) -> int:
        return self._table.num_rows

    def row(self, index: int) -> Row:
        return next(_decoded(self._table.slice(index, 1).to_pydict(), self._kinds)).cells

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches(max_chunksize=1000):
            for row in _decoded(batch.to_pydict(), self._kinds):
                yield row.cells


_MISSING = object()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _HALF_CHARACTERS.search(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _pieces(rows: Iterable[VersionRow]) -> Iterator[list[VersionRow]]:
    piece: list[VersionRow] = []
    for row in rows:
        piece.append(row)
        if len(piece) == _PIECE_ROWS:
            yield piece
            piece = []
    if piece:
        yield piece


PREFIX = "version:"


class LostJson(TypedDict):
    """Text that a remedy cut from a row."""

    split: str
    row: int
    text: str


class MadeJson(TypedDict):
    """Which model wrote rows of a version, whether about documents or from example rows, and how many were kept."""

    by: str
    kind: str
    rows: int


class DetailsJson(TypedDict, total=False):
    """How a version was made; which keys it has depends on the action."""

    # The columns and template set for it; versions from before they were stored have none.
    columns: dict[str, str]
    prompt_template: str | None
    # Taken from a source:
    split: str | None
    subset: str | None
    source: str
    notes: list[str]
    # Edited by a person: the ids of the rows (the first 1,000), and what was done to each.
    row_ids: list[int]
    by_row: dict[str, str]
    # Fixed findings:
    remedies: list[str]
    lost: list[LostJson]
    # Split: seed, group_by, near_duplicates, stratify_by and the fractions.
    settings: dict[str, Any]
    # Rows written by a model, here or in an earlier version.
    made: MadeJson


class DeletedJson(TypedDict):
    """Who deleted the rows of a version, when and why."""

    who: str
    when: str
    why: str


class VersionJson(TypedDict):
    """The content of `version.json`; see `Version`."""

    id: str
    name: str
    number: int
    content: str
    parent: str | None
    action: str
    who: str
    why: str
    when: str
    rows: dict[str, int]
    excluded: int
    columns: list[str]
    origin: list[SourceJson]
    details: NotRequired[DetailsJson]
    deleted: NotRequired[DeletedJson | None]


@dataclass(frozen=True)
class Version:
    """One version, as in `version.json`. `rows` counts the rows that are not excluded, by split."""

    id: str
    name: str
    number: int
    content: str  # sha256 over all cells, splits and exclusions
    parent: str | None
    action: str
    who: str
    why: str
    when: str  # ISO 8601, UTC
    rows: dict[str, int]
    excluded: int
    columns: list[str]
    origin: list[SourceJson]  # the files or Hub data sets of the first version
    details: DetailsJson = field(default_factory=DetailsJson)
    deleted: DeletedJson | None = None
    folder: Path = field(default=Path(), compare=False)

    @property
    def source(self) -> str:
        """The value of `data.source` to train on this version."""
        return PREFIX + self.id

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def rows_file(self) -> Path:
        return self.folder / "rows.parquet"

    def as_dict(self) -> VersionJson:
        values = asdict(self)
        del values["folder"]
        return cast(VersionJson, values)


def rows_of(version: Version | str, workspace: Workspace | None = None) -> Iterator[VersionRow]:
    """All rows of a version, including excluded ones, a few thousand in memory at a time."""
    return read_rows(resolve(version, workspace).rows_file)


def find(version: Version | str, workspace: Workspace | None = None) -> Version:
    """The version `version:<id>` or `<id>`; an unambiguous prefix of an id is enough, and the name of a data set means
    its newest version. Raises InputError naming the nearest one."""
    if isinstance(version, Version):
        return version
    workspace = workspace or Workspace.open()
    wanted = version.removeprefix(PREFIX).strip()
    known = {stored.id: stored for stored in history(workspace)}
    if wanted in known:
        return known[wanted]
    of_name = [stored for stored in known.values() if stored.name == wanted and stored.deleted is None]
    if of_name:
        return max(of_name, key=lambda stored: stored.number)
    matches = [stored for key, stored in known.items() if wanted and key.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    close = nearest(wanted, known)
    listed = ", ".join(stored.id for stored in matches[:5]) if matches else ", ".join(list(known)[-5:])
    raise InputError(
        f"More than one version begins with {wanted!r}" if matches else "There is no such version of data",
        given=wanted or version,
        allowed=listed or f"no version exists yet in {workspace.versions_folder}",
        try_=f"did you mean {PREFIX}{close}?" if close else "see them with: python -m ftlab data versions list",
    )


def resolve(version: Version | str, workspace: Workspace | None = None) -> Version:
    """The version that `data.source` names. Raises InputError if there is none, or its rows were deleted."""
    version = find(version, workspace)
    _refuse_deleted(version)
    return version


def pinned(source: str, workspace: Workspace | None = None) -> str:
    """`source` with the full version id if it names a version by its data set or a prefix, whose meaning changes with
    the next version. Other sources are unchanged."""
    return resolve(source, workspace).source if source.startswith(PREFIX) else source


def ids_of(version: Version | str, split: str = "train") -> list[int]:
    """The ids of the rows of `split` that are not excluded: row i of a page of the version is `ids_of(...)[i]`."""
    return row_ids(resolve(version).rows_file, split)


def history(workspace: Workspace | None = None, name: str | None = None) -> list[Version]:
    """All versions (of the data set `name`), the oldest first."""
    folder = (workspace or Workspace.open()).versions_folder
    files = folder.glob(f"{name or '*'}/*/version.json") if folder.is_dir() else []
    versions = []
    for file in files:
        values = read_cached(file)
        if values and not file.parent.name.startswith("."):
            versions.append(Version(**values, folder=file.parent))
    return sorted(versions, key=lambda version: (version.name, version.number))


def _refuse_deleted(version: Version) -> None:
    if version.rows_file.exists():
        return
    gone = (read_json(version.folder / "version.json", {}) or {}).get("deleted")
    what = f" were deleted by {gone['who']} on {gone['when'][:10]}" if gone else " are gone"
    raise InputError(
        f"The rows of the version {version.id}{what}",
        given=version.source,
        try_="choose another version: python -m ftlab data versions list",
    )
