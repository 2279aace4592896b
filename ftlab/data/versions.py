"""Versions of a data set: rows stored once, details, lineage, and the base of the next training."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ftlab.config import STARTER, DataConfig, load_config
from ftlab.core.files import read_cached, read_json, write_json
from ftlab.core.parsing import parse_json, whole
from ftlab.core.workspace import Workspace
from ftlab.data.load import load_rows, recall, settled
from ftlab.data.split_names import SPLITS
from ftlab.errors import InputError, nearest

_PIECE_ROWS = 5000
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
# The columns of ftlab's own; a column of the data with such a name is kept as `data:<name>`.
_OWN = ("ftlab_id", "ftlab_split", "ftlab_excluded", "ftlab_mark", "ftlab_notes")


@dataclass(frozen=True)
class VersionRow:
    """One row of a version. `id` stays the same through all versions that come from one source."""

    id: int
    cells: dict[str, Any]
    split: str = "train"
    excluded: str | None = None  # why it is left out of training; None: it is not
    mark: str | None = None  # "good" or "bad", by a person
    notes: tuple[str, ...] = field(default=())

    def digest(self) -> bytes:
        """16 bytes that are equal for equal cells."""
        return hashlib.sha256(_json(self.cells).encode()).digest()[:16]

    def with_(self, **changes: Any) -> VersionRow:
        return replace(self, **changes)


def write_rows(path: Path, rows: Sequence[VersionRow] | Any, columns: Sequence[str]) -> None:
    """Write `rows` (an iterable that can be gone through more than once) as Parquet.

    A column of nothing but text is stored as text, any other as JSON text, so that what comes back is what went in
    (a missing cell stays missing, null stays null).
    """
    as_json: set[str] = set()
    while True:
        found = _try_to_write(path, rows, list(columns), as_json)
        if not found:
            return
        as_json |= found


def _try_to_write(path: Path, rows: Iterable[VersionRow], columns: list[str], as_json: set[str]) -> set[str]:
    """Write with `as_json` columns as JSON; the other columns that turn out not to be text (then nothing is kept)."""
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
            cells = {}
            for column in columns:
                values = [row.cells.get(column, _MISSING) for row in piece]
                if column not in as_json and not all(value is _MISSING or _is_text(value) for value in values):
                    wrong.add(column)
                encode = _json if column in as_json or column in wrong else str
                cells[f"data:{column}"] = [None if value is _MISSING else encode(value) for value in values]
            if wrong:
                continue  # only looking which other columns are not text
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
    """The rows in the order in which they were written, a few thousand in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = {f.name: (f.metadata or {}).get(b"kind") for f in file.schema_arrow if f.name.startswith("data:")}
        for batch in file.iter_batches(batch_size=_PIECE_ROWS):
            yield from _decoded(batch.to_pydict(), kinds)


def rows_in_group(path: Path, group: int) -> list[VersionRow]:
    """One of the pieces, of a few thousand rows, in which the rows were written."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = {f.name: (f.metadata or {}).get(b"kind") for f in file.schema_arrow if f.name.startswith("data:")}
        return list(_decoded(file.read_row_group(group).to_pydict(), kinds))


def row_ids(path: Path, split: str | None = None) -> list[int]:
    """The ids of all rows, or of those of one split that are not excluded, without reading the rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["ftlab_id", "ftlab_split", "ftlab_excluded"])
    return table.filter(_used(table, split))["ftlab_id"].to_pylist() if split else table["ftlab_id"].to_pylist()


def _used(table: Any, split: str) -> Any:
    import pyarrow.compute as pc

    return pc.and_(pc.equal(table["ftlab_split"], split), pc.is_null(table["ftlab_excluded"]))


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


class StoredRows(Sequence):
    """The cells of the rows of one split that are not excluded, decoded when they are asked for."""

    def __init__(self, path: Path, split: str):
        import pyarrow.parquet as pq

        # Our own file, written once and never again: it may be mapped.
        table = pq.read_table(path, memory_map=True)
        self._table = table.filter(_used(table, split)).combine_chunks()
        self._kinds = {f.name: (f.metadata or {}).get(b"kind") for f in table.schema if f.name.startswith("data:")}

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(_decoded(self._table.slice(index % len(self), 1).to_pydict(), self._kinds)).cells

    def __iter__(self) -> Iterator[dict[str, Any]]:
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


@dataclass(frozen=True)
class Version:
    """One version, as `version.json` describes it. `rows` counts those that are not excluded, by split."""

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
    origin: list[dict[str, Any]]  # the files or Hub data sets that the first version was made from, with sha256
    details: dict[str, Any] = field(default_factory=dict)
    deleted: dict[str, str] | None = None
    folder: Path = field(default=Path(), compare=False)

    @property
    def source(self) -> str:
        """What `data.source` of a run says to train on this version."""
        return PREFIX + self.id

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def rows_file(self) -> Path:
        return self.folder / "rows.parquet"

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["folder"]
        return values


def create(
    source: str | DataConfig,
    workspace: Workspace | None = None,
    *,
    name: str | None = None,
    who: str | None = None,
    why: str = "",
) -> Version:
    """The first version of a data source: its rows as they are, and the columns that were named for it. Made again
    from an unchanged source, it is the same.

    Raises InputError as `load_rows` does. For the source of a version, that version is given back.
    """
    workspace = workspace or Workspace.open()
    data = source if isinstance(source, DataConfig) else DataConfig(source=str(source))
    if data.source.startswith(PREFIX):
        return find(data.source, workspace)
    loaded = load_rows(data, workspace)
    read = settled(data, loaded.named)
    name = _slug(name or (Path(loaded.name).stem if loaded.kind == "file" else loaded.name))

    def rows() -> Iterator[VersionRow]:
        number = 0
        for split, cells in loaded.splits.items():
            for row in cells:
                yield VersionRow(number, row, "train" if split == loaded.main else split)
                number += 1

    origin = [file.as_dict() for file in loaded.files]
    shas = [entry["sha256"] or entry.get("revision") for entry in origin]
    details: dict[str, Any] = {"split": data.split, "subset": data.subset}
    details |= {"columns": read.columns, "prompt_template": read.prompt_template}
    for old in history(workspace, name):
        if old.parent is None and old.deleted is None and all(shas):
            same = [entry["sha256"] or entry.get("revision") for entry in old.origin] == shas
            # Versions made before columns were kept say nothing of them.
            if same and all((old.details.get(key) or None) == (value or None) for key, value in details.items()):
                return old
    details |= {"source": data.source if loaded.kind != "file" else loaded.name, "notes": loaded.notes}
    return _write(
        workspace, name, rows, loaded.columns, None, "taken from the source", who, why, origin=origin, details=details
    )


@contextlib.contextmanager
def taken(
    source: str | DataConfig, workspace: Workspace, *, who: str | None = None, why: str = ""
) -> Iterator[Version]:
    """`create` for a step that makes another version of it: where the step fails, none is left that only it needed."""
    before = {one.id for one in history(workspace)}
    version = create(source, workspace, who=who, why=why)
    try:
        yield version
    except BaseException:
        if version.id not in before:
            shutil.rmtree(version.folder, ignore_errors=True)
        raise


def derive(
    parent: Version | str,
    rows: list[VersionRow] | Callable[[], Iterable[VersionRow]],
    action: str,
    *,
    who: str | None = None,
    why: str = "",
    workspace: Workspace | None = None,
    details: dict[str, Any] | None = None,
    columns: list[str] | None = None,
) -> Version:
    """A new version with these `rows`, made from `parent` by `action` (in words).

    `rows` is a list, or a function that gives the rows each time it is called (for data that should not be in
    memory). `columns` are those of the rows where that is known. Rows keep the `id` they had in the parent; new ones
    get an id that is free (`new_ids`).
    Raises InputError when two rows have the same id or no row is left.
    """
    workspace = workspace or _workspace_of(parent)
    parent = find(parent, workspace)
    give = rows if callable(rows) else lambda: rows
    if columns is None:
        found = dict.fromkeys(parent.columns)
        for row in give():
            found.update(dict.fromkeys(row.cells))
        columns = list(found)
    named = recall(DataConfig(source=parent.source), workspace) if parent.deleted is None else None
    details = (named.as_dict() if named else {}) | (details or {})
    return _write(
        workspace, parent.name, give, columns, parent, action, who, why, origin=parent.origin, details=details
    )


def rows_of(version: Version | str, workspace: Workspace | None = None) -> Iterator[VersionRow]:
    """All rows of a version, the excluded ones too, a few thousand in memory at a time."""
    version = find(version, workspace)
    _refuse_deleted(version)
    return read_rows(version.rows_file)


def new_ids(version: Version | str, count: int, workspace: Workspace | None = None) -> range:
    """`count` row ids that no version of this data set has used yet."""
    version = find(version, workspace)
    workspace = workspace or _workspace_of(version)
    known = [old for old in history(workspace, version.name) if old.deleted is None]
    highest = max((max(row_ids(old.rows_file)) for old in known), default=-1)
    return range(highest + 1, highest + 1 + count)


def find(version: Version | str, workspace: Workspace | None = None) -> Version:
    """The version called `version:<id>` or `<id>`; the unambiguous beginning of an id is enough, and the name of a
    data set means its newest version. Raises InputError naming the nearest one."""
    if isinstance(version, Version):
        return version
    workspace = workspace or Workspace.open()
    wanted = version.removeprefix(PREFIX).strip()
    known = {one.id: one for one in history(workspace)}
    if wanted in known:
        return known[wanted]
    of_name = [one for one in known.values() if one.name == wanted and one.deleted is None]
    if of_name:
        return max(of_name, key=lambda one: one.number)
    matches = [one for key, one in known.items() if wanted and key.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    close = nearest(wanted, known)
    listed = ", ".join(one.id for one in matches[:5]) if matches else ", ".join(list(known)[-5:])
    raise InputError(
        f"More than one version begins with {wanted!r}" if matches else "There is no version of data of this name",
        given=wanted or version,
        allowed=listed or f"no version exists yet in {workspace.versions_folder}",
        try_=f"did you mean {PREFIX}{close}?" if close else "see them with: python -m ftlab data versions list",
    )


def resolve(source: str, workspace: Workspace | None = None) -> Version:
    """The version that `data.source` names. Raises InputError when there is none, or its rows were deleted."""
    version = find(source, workspace)
    _refuse_deleted(version)
    return version


def pinned(source: str, workspace: Workspace | None = None) -> str:
    """`source` with the full id where it names a version by its data set or the beginning of its id: what that means
    changes with the next version. Other sources stay as they are."""
    return resolve(source, workspace).source if source.startswith(PREFIX) else source


def ids_of(version: Version | str, split: str = "train", workspace: Workspace | None = None) -> list[int]:
    """The ids of the rows of `split` that are not excluded: row i on a page of the version is `ids_of(...)[i]`."""
    version = resolve(version, workspace) if isinstance(version, str) else version
    _refuse_deleted(version)
    return row_ids(version.rows_file, split)


def history(workspace: Workspace | None = None, name: str | None = None) -> list[Version]:
    """All versions (of the data set `name`), the oldest first."""
    folder = (workspace or Workspace.open()).versions_folder
    files = folder.glob(f"{name or '*'}/*/version.json") if folder.is_dir() else []
    found = []
    for file in files:
        values = read_cached(file)
        if values and not file.parent.name.startswith("."):
            found.append(Version(**values, folder=file.parent))
    return sorted(found, key=lambda one: (one.name, one.number))


def used_by(version: Version, workspace: Workspace) -> list[str]:
    """The ids of the runs whose data name this version."""
    used = []
    for run in workspace.runs():
        if any(
            entry.get("version") == version.id for entry in (read_cached(run.manifest_file) or {}).get("sources", [])
        ):
            used.append(run.id)
    return used


def delete(
    version: Version | str, workspace: Workspace, *, force: bool = False, who: str | None = None, why: str = ""
) -> Version:
    """Delete the rows of a version; who, when and why stay written down.

    Raises InputError naming the runs that used it, unless `force`.
    """
    version = find(version, workspace)
    runs = used_by(version, workspace)
    if runs and not force:
        raise InputError(
            f"The version {version.id} was used by {len(runs)} {'run' if len(runs) == 1 else 'runs'}, "
            "which could not be repeated without it",
            given=", ".join(runs[:5]),
            try_="delete the runs first, or add --force when they need not be repeated",
        )
    values = version.as_dict() | {"deleted": {"who": who or person(), "when": _now(), "why": why}}
    write_json(version.folder / "version.json", values)
    version.rows_file.unlink(missing_ok=True)
    return Version(**values, folder=version.folder)


def person() -> str:
    """Who changes data when nobody says so: the login name."""
    try:
        return os.environ.get("FTLAB_WHO") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _write(
    workspace: Workspace,
    name: str,
    rows: Callable[[], Iterable[VersionRow]],
    columns: list[str],
    parent: Version | None,
    action: str,
    who: str | None,
    why: str,
    *,
    origin: list[dict[str, Any]],
    details: dict[str, Any],
) -> Version:
    folder = workspace.versions_folder / name
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
    try:
        content, counts, excluded = _summed(rows())
        if not counts:
            raise InputError("No row is left", given=action, allowed="at least one row")
        write_rows(temporary / "rows.parquet", _Again(rows), columns)
        values: dict[str, Any] = {
            "name": name,
            "content": content,
            "parent": parent.id if parent else None,
            "action": action,
            "who": who or person(),
            "why": why,
            "when": _now(),
            "rows": {
                split: counts[split] for split in (*SPLITS, *sorted(counts.keys() - set(SPLITS))) if counts[split]
            },
            "excluded": excluded,
            "columns": columns,
            "origin": origin,
            "details": details,
        }
        while True:
            number = max((old.number for old in history(workspace, name)), default=0) + 1
            version_id = f"{name}-{number}-{content[:6]}"
            target = workspace.version_folder(name, version_id)
            write_json(temporary / "version.json", {"id": version_id, "number": number} | values)
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.exists():
                    raise
                continue  # somebody else was quicker: the next number
            return Version(id=version_id, number=number, **values, folder=target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # of a data set without another version
        raise


@dataclass
class _Again:
    """Rows that can be gone through more than once."""

    give: Callable[[], Iterable[VersionRow]]

    def __iter__(self) -> Iterator[VersionRow]:
        return iter(self.give())


def _summed(rows: Iterable[VersionRow]) -> tuple[str, Counter[str], int]:
    """The content hash, the rows of each split that are not excluded, and how many are."""
    digest, counts, excluded, seen = hashlib.sha256(), Counter(), 0, set()
    for row in rows:
        if row.id in seen:
            raise InputError("Two rows have the same id", given=row.id, allowed="a free id for each new row")
        seen.add(row.id)
        digest.update(row.digest() + f"\x1f{row.split}\x1f{row.excluded is not None}".encode())
        if row.excluded is None:
            counts[row.split] += 1
        else:
            excluded += 1
    return digest.hexdigest(), counts, excluded


def _refuse_deleted(version: Version) -> None:
    if version.rows_file.exists():
        return
    gone = (read_json(version.folder / "version.json", {}) or {}).get("deleted")
    said = f" were deleted by {gone['who']} on {gone['when'][:10]}" if gone else " are gone"
    raise InputError(
        f"The rows of the version {version.id}{said}",
        given=version.source,
        try_="choose another version: python -m ftlab data versions list",
    )


def _workspace_of(version: Version | str) -> Workspace:
    if isinstance(version, Version) and version.folder != Path():
        return Workspace(version.folder.parents[2])
    return Workspace.open()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def latest_choice(workspace: Workspace) -> tuple[str, int, str] | None:
    """(base, max_length in tokens, id of the run) of the newest run; None when there is no run."""
    for run in workspace.runs():
        try:
            config = load_config(run.config_file)
        except InputError:  # a run of another version of ftlab, or one whose file was broken by hand
            continue
        return config.model.base, config.optimisation.max_length, run.id
    return None


def train_command(source: str, workspace: Workspace, base: str | None = None, *, max_length: int | None = None) -> str:
    """The line that trains on `source` in `workspace`, with `base`, else with the base of the latest run."""
    if base is None:
        base = (latest_choice(workspace) or (STARTER,))[0]
    line = f"python -m ftlab train --set data.source={shlex.quote(source)}"
    line += f" --set model.base={shlex.quote(base)}" if base != STARTER else ""
    line += f" --set optimisation.max_length={max_length}" if max_length else ""
    return line + workspace.flag
