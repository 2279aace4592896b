"""Curation: edits to rows, drafts that survive a reload, and the versions made from them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import TypedDict

from ftlab.config import DataConfig
from ftlab.core.files import digest, locked, read_cached, read_json, write_text
from ftlab.core.parsing import json_or, parse_json, whole
from ftlab.core.workspace import Workspace
from ftlab.data.version_store import PREFIX, Version, VersionRow, find, history, resolve, row_ids, rows_of
from ftlab.data.versions import MADE_BY, derive, person, taken
from ftlab.errors import InputError, did_you_mean

_KINDS = {dict: "an object {…}", list: "a list […]", bool: "true or false", float: "a number", int: "a number"}


def editable(value: Any) -> str:
    """A cell as editable text: text unchanged, None as empty, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str, indent=2 if isinstance(value, dict | list) else None)


def read_edited(column: str, text: str, before: Any) -> Any:
    """The cell value of the edited `text`, with the type of the previous cell `before`.

    Raises InputError if the cell was JSON and `text` is not, or has a different type.
    """
    text = whole(text)
    if before is None:
        return text or None
    if isinstance(before, str):
        return text
    kind = bool if isinstance(before, bool) else float if isinstance(before, int | float) else type(before)
    allowed = f"{_KINDS.get(kind, 'JSON')}, as before"
    try:
        value = parse_json(text, parse_constant=_no_number)
    except ValueError as error:
        where = f" (line {error.lineno}, {error.msg.lower()})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"The column {column} is no longer valid JSON{where}",
            given=text or "nothing",
            allowed=allowed,
            try_="fix it, or press Cancel; your text is not lost",
        ) from None
    now = bool if isinstance(value, bool) else float if isinstance(value, int | float) else type(value)
    if now is not kind:
        raise InputError(f"The column {column} changed its type", given=text, allowed=allowed)
    return value


def was_json(before: Any, after: Any) -> bool:
    """Whether a text cell was a JSON object or list and no longer is: a warning, since it may be intended."""
    return _holds_json(before) and not _holds_json(after)


def _holds_json(value: Any) -> bool:
    return isinstance(value, str) and value.strip()[:1] in ("{", "[") and json_or(value, None) is not None


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


MARKS = ("good", "bad")


@dataclass(frozen=True)
class Change:
    """Edits to one row; fields left at their default change nothing."""

    cells: Mapping[str, Any] = field(default_factory=dict)  # column: new value
    mark: str | None = None  # "good", "bad", or "none" to remove the mark
    excluded: str | None = None  # the reason to exclude it from training; "" restores it
    notes: tuple[str, ...] = ()  # notes to add

    def to(self, row: VersionRow, who: str) -> VersionRow:
        """`row` with this change, its notes signed by `who`."""
        return row.with_(
            cells=row.cells | dict(self.cells),
            mark=row.mark if self.mark is None else (None if self.mark == "none" else self.mark),
            excluded=row.excluded if self.excluded is None else (self.excluded or None),
            notes=(*row.notes, *(f"{who}: {note}" for note in self.notes)),
        )

    def parts(self) -> list[str]:
        """The actions, as templates for `in_words`."""
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
    phrases: list[str] = []
    for part in sorted(counted, key=lambda part: next(i for i, start in enumerate(_PARTS) if part.startswith(start))):
        rows = "" if phrases else (" row" if counted[part] == 1 else " rows")
        phrases.append(part.format(f"{counted[part]:,}{rows}"))
    return ", ".join(phrases)


def fingerprint(cells: Mapping[str, Any]) -> str:
    """32 hex digits that are equal for equal cells, regardless of their order and file."""
    return digest(cells, 32, sort_keys=True, default=str)


def apply(
    version: Version | str,
    changes: Mapping[int, Change],
    *,
    who: str,
    why: str = "",
    judged: Mapping[int, str] | None = None,
    workspace: Workspace | None = None,
) -> Version:
    """One new version with all `changes` (by row id), described in its action.

    `judged` holds the `fingerprint` of the cells that the person saw: if a row has changed since, nothing is saved.
    Raises InputError for that, for an unknown row, column or mark, and if the rows of `version` were deleted.
    """
    version = resolve(version, workspace)
    for change in changes.values():
        _check_columns(version, change.cells)
        if change.mark not in (None, "none", *MARKS):
            raise InputError("There is no such mark", given=change.mark, allowed=", ".join((*MARKS, "none")))
    changes = {row: change for row, change in changes.items() if change.parts()}
    judged = judged or {}

    def changed(row: VersionRow) -> VersionRow:
        if row.id in judged and judged[row.id] != fingerprint(row.cells):
            raise InputError(
                f"Row {row.id} of {version.id} has changed since you judged it",
                given=next(iter(changes[row.id].parts()), "").format("it"),
                try_=f"read row {row.id} again and judge it again, or undo the change",
            )
        return changes[row.id].to(row, who)

    numbers = sorted(changes)
    if not numbers:
        raise InputError("No row is given", allowed="the ids of rows")
    missing = changes.keys() - set(row_ids(version.rows_file))
    if missing:
        raise InputError(
            f"The version {version.id} has no such row",
            given=", ".join(map(str, sorted(missing)[:5])),
            allowed="ids of its rows",
        )
    by_row = {str(row): ", ".join(changes[row].parts()).replace(" {}", "") for row in numbers[:1000]}
    return derive(
        version,
        lambda: (changed(row) if row.id in changes else row for row in rows_of(version)),
        in_words(changes.values()),
        who=who,
        why=why,
        details={"row_ids": numbers[:1000], "by_row": by_row},
        columns=version.columns,
    )


ACCEPTED = "accepted unread"  # the note on a row written by a model and accepted without reading


def unread(version: Version, *, accepted: bool = False) -> list[int]:
    """The ids of model-written rows that nobody has read: neither marked, annotated nor edited. Excluded rows do not
    count; rows accepted unread count only with `accepted`."""
    if "made" not in version.details:
        return []
    edited: set[str] = set()
    known = {stored.id: stored for stored in history(_workspace(version), version.name)}
    step: Version | None = version
    while step is not None:
        edited |= step.details.get("by_row", {}).keys()
        step = known.get(step.parent or "")
    rows = []
    for row in rows_of(version):
        if row.cells.get(MADE_BY) and row.excluded is None and row.mark is None and str(row.id) not in edited:
            notes = [note for note in row.notes if not (accepted and note.endswith(f": {ACCEPTED}"))]
            if not notes:
                rows.append(row.id)
    return rows


def accept_unread(version: Version, workspace: Workspace, *, who: str | None = None, why: str = "") -> Version:
    """A new version in which the `unread` rows carry a note that this person accepted them. Raises InputError if there
    are none."""
    open_ = set(unread(version))
    if not open_:
        raise InputError(
            f"{version.id} has no unreviewed row that a model wrote", given=version.source, try_="train on it"
        )
    name = who or person()
    return derive(
        version,
        lambda: (
            row.with_(notes=(*row.notes, f"{name}: {ACCEPTED}")) if row.id in open_ else row for row in rows_of(version)
        ),
        f"accepted {len(open_):,} {'row' if len(open_) == 1 else 'rows'} unread",
        who=name,
        why=why,
        workspace=workspace,
        columns=version.columns,
    )


def check_read(version: Version) -> None:
    """Raise InputError if `version` has model-written rows that nobody has read."""
    if open_ := unread(version):
        rows = f"{len(open_):,} of its {version.total:,} rows were" if len(open_) > 1 else "one of its rows was"
        raise InputError(
            f"{version.id} is not ready to train on: {rows} written by {version.details['made']['by']}, and nobody has "
            "read them",
            given=version.source,
            try_=f"read them in Data, under Curate, and mark them; or accept them unread: "
            f"python -m ftlab data accept {version.source}",
        )


def _workspace(version: Version) -> Workspace:
    return Workspace(version.folder.parents[2])


def _check_columns(version: Version, columns: Collection[str]) -> None:
    for column in columns:
        if column not in version.columns:
            raise InputError(
                f"The data has no column {column!r}",
                allowed=", ".join(version.columns),
                try_=did_you_mean(column, version.columns),
            )


@dataclass(frozen=True)
class Diff:
    """The differences between two versions, by row id. Excluded rows count as absent."""

    before: str
    after: str
    added: list[int]
    removed: list[int]
    changed: list[int]
    moved: list[int]  # to another split
    remarked: list[int]  # different mark or notes

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
    """{row: {column: (before, after)}} of changed rows, for display side by side."""
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


LONGEST_NAME = 80


class ChangeJson(TypedDict):
    """A `Change` in the file of a draft."""

    cells: dict[str, Any]
    mark: str | None
    excluded: str | None
    notes: list[str]


class DraftJson(TypedDict, total=False):
    """The file of a draft; `changes` and `judged` are by row id."""

    who: str
    source: str
    at: int | None
    when: str
    changes: dict[str, ChangeJson]
    judged: dict[str, str]


@dataclass(frozen=True)
class Draft:
    """One person's unsaved changes to one source (or version), by row id, and the person's current row."""

    who: str
    source: str
    file: Path
    changes: dict[int, Change] = field(default_factory=dict)
    judged: dict[int, str] = field(default_factory=dict)  # fingerprints of the cells that were judged
    at: int | None = None
    when: str = ""

    @property
    def count(self) -> int:
        """The number of changes: a row that is edited and marked counts twice."""
        return sum(len(change.parts()) for change in self.changes.values())

    @property
    def words(self) -> str:
        return in_words(self.changes.values())


def person_named(name: str | None) -> str:
    """A person's name, normalized. Raises InputError if it is empty or too long."""
    name = " ".join((name or "").split())
    if not name:
        raise InputError("Your name is missing", try_="enter it in Your name; this browser remembers it")
    if len(name) > LONGEST_NAME:
        raise InputError("This name is too long", given=name, allowed=f"at most {LONGEST_NAME} characters")
    return name.encode("utf-8", "replace").decode()


def load(data: DataConfig, workspace: Workspace, who: str) -> Draft:
    """The draft of `who` for this data; empty if there is none."""
    return _read(workspace.drafts / _key(data, workspace) / _file_of(who), who, data.source)


def change(draft: Draft, row: VersionRow, now: Change | None, *, at: int | None = None) -> Draft:
    """The draft with `now` as the change to `row` (relative to the row without the draft); None undoes the change.

    Keeps changes that the same person made in another window in the meantime.
    """

    def put(kept: Draft) -> Draft:
        changes = {number: old for number, old in kept.changes.items() if number != row.id}
        judged = {number: old for number, old in kept.judged.items() if number != row.id}
        if now is not None and now.parts():
            changes[row.id], judged[row.id] = now, fingerprint(row.cells)
        return replace(kept, changes=changes, judged=judged, at=row.id if at is None else at)

    return _rewrite(draft, put)


def discard(draft: Draft, only: dict[int, Change] | None = None) -> Draft:
    """Discard the changes. With `only`, discard just these, and only for rows not changed again since."""
    gone = draft.changes if only is None else only
    return _rewrite(
        draft,
        lambda kept: replace(
            kept, changes={} if only is None else {n: c for n, c in kept.changes.items() if gone.get(n) != c}
        ),
    )


def save(
    draft: Draft, data: DataConfig, workspace: Workspace, *, why: str = "", onto: Version | None = None
) -> Version:
    """Save the draft as one new version and empty it. Data without a version gets version 1 first. `onto` is a later
    version to apply the changes to, instead of the one that was judged.

    Raises InputError like `curation.apply`; the draft is then kept.
    """
    if not draft.changes:
        raise InputError("There is nothing to save", try_="judge a row first")
    with contextlib.nullcontext(onto) if onto else taken(data, workspace, who=draft.who) as base:
        made = apply(base, draft.changes, who=draft.who, why=why.strip(), judged=draft.judged, workspace=workspace)
    discard(draft, only=draft.changes)
    return made


def later(data: DataConfig, workspace: Workspace) -> Version | None:
    """The newest version derived from the version `data`, if any."""
    if not data.source.startswith(PREFIX):
        return None
    start = find(data.source, workspace)
    line, newest = {start.id}, None
    for version in history(workspace, start.name):
        if version.parent in line:
            line.add(version.id)
            newest = version if version.deleted is None else newest
    return newest


def unsaved(workspace: Workspace, who: str | None = None) -> list[Draft]:
    """All drafts with changes (of one person), the newest first."""
    drafts = []
    for file in workspace.drafts.glob("*/*.json") if workspace.drafts.is_dir() else []:
        values = read_cached(file)
        if values is None:
            continue
        draft = _read(file, values.get("who", ""), values.get("source", ""))
        if draft.changes and (who is None or file.name == _file_of(who)):
            drafts.append(draft)
    return sorted(drafts, key=lambda draft: draft.when, reverse=True)


def _rewrite(draft: Draft, put: Callable[[Draft], Draft]) -> Draft:
    with locked(draft.file.with_suffix(".lock")):
        now = put(_read(draft.file, draft.who, draft.source))
        now = replace(now, when=datetime.now(UTC).isoformat(timespec="seconds"))
        values = {
            "who": now.who,
            "source": now.source,
            "at": now.at,
            "when": now.when,
            "changes": {str(number): asdict(entry) for number, entry in now.changes.items()},
            "judged": {str(number): now.judged[number] for number in now.changes},
        }
        # ASCII escapes, so that a lone surrogate typed into JSON can be written.
        write_text(draft.file, json.dumps(values, default=str))
    return now


def _read(file: Path, who: str, source: str) -> Draft:
    values: DraftJson = read_json(file, None) or DraftJson()
    changes = {
        int(number): Change(stored["cells"], stored["mark"], stored["excluded"], tuple(stored["notes"]))
        for number, stored in values.get("changes", {}).items()
    }
    judged = {int(number): print_ for number, print_ in values.get("judged", {}).items()}
    return Draft(who, source, file, changes, judged, values.get("at"), values.get("when", ""))


def _key(data: DataConfig, workspace: Workspace) -> str:
    """The version's id; for any other source, its name and a hash of its identity."""
    if data.source.startswith(PREFIX):
        return find(data.source, workspace).id
    identity = "\x1f".join([data.source, data.subset or "", data.split or ""])
    return f"{_slug(Path(data.source).stem)}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _file_of(who: str) -> str:
    """The draft file of a person: `ada` and `Ada` are one person; a hash separates names with equal slugs."""
    name = " ".join(who.split()).casefold()
    return f"{_slug(name)}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"
