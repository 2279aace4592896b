"""What an expert does to rows: edit, exclude, bring back, annotate, mark good or bad. Each makes a new version;
`apply` makes one out of many changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ftlab.data.version_rows import VersionRow, row_ids
from ftlab.data.versions import Version, derive, find, resolve, rows_of
from ftlab.errors import InputError, nearest
from ftlab.workspace import Workspace

MARKS = ("good", "bad")


def edit(version: Version, row: int, cells: Mapping[str, Any], *, who: str, why: str = "") -> Version:
    """Row `row` (its id) with other `cells` (column: new value). Raises InputError for an unknown row or column."""
    _check_columns(version, cells)
    return _changed(
        version, [row], lambda old: old.with_(cells=old.cells | dict(cells)), f"edited {', '.join(cells)}", who, why
    )


def exclude(version: Version, rows: Collection[int], *, who: str, why: str = "") -> Version:
    """Leave `rows` out of training; they stay in the version and can be brought back."""
    return _changed(version, rows, lambda old: old.with_(excluded=why or "by hand"), "excluded", who, why)


def bring_back(version: Version, rows: Collection[int], *, who: str, why: str = "") -> Version:
    return _changed(version, rows, lambda old: old.with_(excluded=None), "brought back", who, why)


def annotate(version: Version, row: int, note: str, *, who: str) -> Version:
    """Add a remark to a row. Nothing that is trained on changes."""
    if not note.strip():
        raise InputError("The note is empty", given=note, allowed="some text")
    return _changed(
        version, [row], lambda old: old.with_(notes=(*old.notes, f"{who}: {note.strip()}")), "annotated", who, note
    )


def mark(version: Version, rows: Collection[int], as_: str | None, *, who: str, why: str = "") -> Version:
    """Mark rows as good or bad by an expert's judgement; None takes the mark away."""
    if as_ is not None and as_ not in MARKS:
        raise InputError("A row cannot be marked like this", given=as_, allowed=", ".join(MARKS))
    return _changed(version, rows, lambda old: old.with_(mark=as_), f"marked {as_ or 'as nothing'}", who, why)


def assign_split(version: Version, rows: Mapping[int, str], *, who: str, why: str = "", action: str = "") -> Version:
    """Put rows (id: train, validation or test) into other splits."""
    wrong = next((split for split in rows.values() if split not in ("train", "validation", "test")), None)
    if wrong is not None:
        raise InputError("There is no such split", given=wrong, allowed="train, validation, test")
    return _changed(
        version, rows.keys(), lambda old: old.with_(split=rows[old.id]), action or "moved to another split", who, why
    )


@dataclass(frozen=True)
class Change:
    """What a person wants of one row; what is not named stays as it is."""

    cells: Mapping[str, Any] = field(default_factory=dict)  # column: new value
    mark: str | None = None  # "good", "bad", or "none" to take the mark away
    excluded: str | None = None  # why it is left out of training; "" brings it back
    notes: tuple[str, ...] = ()  # remarks to add

    def to(self, row: VersionRow, who: str) -> VersionRow:
        """`row` with this change, its remarks signed by `who`."""
        return row.with_(
            cells=row.cells | dict(self.cells),
            mark=row.mark if self.mark is None else (None if self.mark == "none" else self.mark),
            excluded=row.excluded if self.excluded is None else (self.excluded or None),
            notes=(*row.notes, *(f"{who}: {note}" for note in self.notes)),
        )

    def parts(self) -> list[str]:
        """What is done, as the templates of `in_words`."""
        marked = {"good": "marked {} good", "bad": "marked {} bad", "none": "took the mark off {}"}
        return [
            *(["edited {}"] if self.cells else []),
            *([marked[self.mark]] if self.mark else []),
            *([] if self.excluded is None else ["excluded {}" if self.excluded else "brought back {}"]),
            *(["annotated {}"] if self.notes else []),
        ]


_PARTS = ("edited", "marked {} good", "marked {} bad", "took", "excluded", "brought", "annotated")


def in_words(changes: Collection[Change]) -> str:
    """`edited 2 rows, marked 5 good, excluded 1`."""
    counted: dict[str, int] = {}
    for change in changes:
        for part in change.parts():
            counted[part] = counted.get(part, 0) + 1
    said = []
    for part in sorted(counted, key=lambda part: next(i for i, start in enumerate(_PARTS) if part.startswith(start))):
        rows = "" if said else (" row" if counted[part] == 1 else " rows")
        said.append(part.format(f"{counted[part]:,}{rows}"))
    return ", ".join(said)


def fingerprint(cells: Mapping[str, Any]) -> str:
    """32 hex digits that are equal for equal cells, in whatever order and from whatever file they come."""
    return hashlib.sha256(json.dumps(cells, sort_keys=True, default=str).encode()).hexdigest()[:32]


def apply(
    version: Version | str,
    changes: Mapping[int, Change],
    *,
    who: str,
    why: str = "",
    judged: Mapping[int, str] | None = None,
    workspace: Workspace | None = None,
) -> Version:
    """One new version with all `changes` (by row id), said in words in its action.

    `judged` holds the `fingerprint` of the cells that a person had before the eyes: where a row reads otherwise by
    now, nothing is saved. Raises InputError for that, for an unknown row, column or mark, and when the rows of
    `version` were deleted.
    """
    version = resolve(version, workspace) if isinstance(version, str) else version
    for change in changes.values():
        _check_columns(version, change.cells)
        if change.mark not in (None, "none", *MARKS):
            raise InputError("A row cannot be marked like this", given=change.mark, allowed=", ".join((*MARKS, "none")))
    changes = {row: change for row, change in changes.items() if change.parts()}
    judged = judged or {}

    def changed(row: VersionRow) -> VersionRow:
        if row.id in judged and judged[row.id] != fingerprint(row.cells):
            raise InputError(
                f"Row {row.id} of {version.id} reads otherwise than the row that was judged",
                given=next(iter(changes[row.id].parts()), "").format("it"),
                try_=f"look at row {row.id} once more and judge it again, or take the change back",
            )
        return changes[row.id].to(row, who)

    numbers = sorted(changes)
    by_row = {str(row): ", ".join(changes[row].parts()).replace(" {}", "") for row in numbers[:1000]}
    return _changed(version, changes, changed, in_words(changes.values()), who, why, {"by_row": by_row})


def _check_columns(version: Version, columns: Collection[str]) -> None:
    for column in columns:
        if column not in version.columns:
            close = nearest(column, version.columns)
            raise InputError(
                f"The data has no column {column!r}",
                allowed=", ".join(version.columns),
                try_=f"did you mean {close}?" if close else None,
            )


def _changed(
    version: Version,
    rows: Collection[int],
    change: Callable[[VersionRow], VersionRow],
    action: str,
    who: str,
    why: str,
    details: dict[str, Any] | None = None,
) -> Version:
    wanted = set(rows)
    version = resolve(version)
    if not wanted:
        raise InputError("No row was named", allowed="the ids of rows")
    missing = wanted.difference(row_ids(version.rows_file))
    if missing:
        raise InputError(
            f"The version {version.id} has no such row",
            given=", ".join(map(str, sorted(missing)[:5])),
            allowed="ids of its rows",
        )

    def give() -> Iterator[VersionRow]:
        return (change(row) if row.id in wanted else row for row in rows_of(version))

    numbers = sorted(wanted)
    said = f"row {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} rows"
    return derive(
        version,
        give,
        action if details else (f"{action} {said}" if len(action) < 60 else action),
        who=who,
        why=why,
        details={"row_ids": numbers[:1000]} | (details or {}),
        columns=version.columns,
    )


@dataclass(frozen=True)
class Diff:
    """What differs between two versions, by row id. Excluded rows count as not being there."""

    before: str
    after: str
    added: list[int]
    removed: list[int]
    changed: list[int]
    moved: list[int]  # to another split
    remarked: list[int]  # other mark or notes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{len(rows)} {name}" for name, rows in asdict(self).items() if isinstance(rows, list) and rows]
        return f"{self.before} -> {self.after}: {', '.join(parts) or 'no difference'}"


def diff(before: Version | str, after: Version | str, workspace: Workspace | None = None) -> Diff:
    """Rows added, removed and changed from one version to another.

    Versions of one data set are compared by row id, others by the content of their rows.
    """
    first, second = find(before, workspace), find(after, workspace)
    if first.name != second.name:
        return _diff_by_content(first, second)
    old = {row.id: _facts(row) for row in rows_of(first) if row.excluded is None}
    new = {row.id: _facts(row) for row in rows_of(second) if row.excluded is None}
    both = sorted(old.keys() & new.keys())
    return Diff(
        first.id,
        second.id,
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        changed=[row for row in both if old[row][0] != new[row][0]],
        moved=[row for row in both if old[row][1] != new[row][1]],
        remarked=[row for row in both if old[row][2] != new[row][2]],
    )


def changed_cells(before: Version, after: Version, rows: Collection[int]) -> dict[int, dict[str, tuple[Any, Any]]]:
    """{row: {column: (before, after)}} for some changed rows, to be shown side by side."""
    wanted = set(rows)
    old = {row.id: row.cells for row in rows_of(before) if row.id in wanted}
    new = {row.id: row.cells for row in rows_of(after) if row.id in wanted}
    return {
        row: {
            column: (old[row].get(column), new[row].get(column))
            for column in dict.fromkeys([*old[row], *new[row]])
            if old[row].get(column) != new[row].get(column)
        }
        for row in sorted(old.keys() & new.keys())
    }


def _facts(row: VersionRow) -> tuple[bytes, str, tuple[Any, ...]]:
    return row.digest(), row.split, (row.mark, row.notes)


def _diff_by_content(first: Version, second: Version) -> Diff:
    old: dict[bytes, list[int]] = {}
    for row in rows_of(first):
        if row.excluded is None:
            old.setdefault(row.digest(), []).append(row.id)
    added = []
    for row in rows_of(second):
        if row.excluded is None:
            same = old.get(row.digest())
            if same:
                same.pop()
            else:
                added.append(row.id)
    removed = sorted(row for rows in old.values() for row in rows)
    return Diff(first.id, second.id, added, removed, [], [], [])
