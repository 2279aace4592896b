"""What a person sees of data to judge: the current row, the rows that match a filter, and unsaved changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.words import byte_size
from ftlab.core.workspace import Workspace
from ftlab.data import curation as drafts
from ftlab.data.curation import Change, Draft
from ftlab.data.inspection import MOST_HITS, EveryRow, every_row, holds
from ftlab.data.version_store import PREFIX, Version, VersionRow, history
from ftlab.errors import InputError
from ftlab.ui.kit.html import count, join, notice
from ftlab.ui.kit.row_card import Seen
from ftlab.ui.tabs.data.sources import config_of, version_title
from ftlab.ui.tabs.data.versions_view import name_of

SUSPICIOUS = "Most suspicious"
FILTERS = ["All rows", "Not yet judged", "Good", "Bad", "Excluded", "With notes", SUSPICIOUS, "Not saved yet"]
LARGE = 50_000  # rows above which the size of a version is shown before saving


@dataclass(frozen=True)
class Desk:
    """The current data with one person's draft, under a filter and a search."""

    data: DataConfig
    rows: EveryRow
    draft: Draft
    kind: str
    text: str
    # Positions of the rows that the checks rank first, worst first, with the reason.
    suspects: Mapping[int, str] = field(default_factory=dict)

    def row(self, row_id: int) -> VersionRow | None:
        position = self.rows.position(row_id)
        return None if position is None else self.rows[position]

    def change_of(self, row_id: int) -> Change:
        return self.draft.changes.get(row_id, Change())


def desk(config_json: str | None, who: str | None, kind: str | None, text: str | None, workspace: Workspace) -> Desk:
    """Raises InputError if no data are selected, or they cannot be read."""
    data = config_of(config_json)
    rows = every_row(data, workspace)
    name = " ".join((who or "").split())[: drafts.LONGEST_NAME]
    suspects = _suspects(data, rows, workspace) if kind == SUSPICIOUS else {}
    return Desk(data, rows, drafts.load(data, workspace, name), kind or FILTERS[0], (text or "").strip(), suspects)


def _suspects(data: DataConfig, rows: EveryRow, workspace: Workspace) -> dict[int, str]:
    """The positions of the rows to read first according to the newest check of `data`, worst first, with the reason.
    Raises InputError if there is no such check."""
    from ftlab.data.checks import job as checks

    known = checks.find(checks.Request(data), workspace)
    report = known.report() if known is not None else None
    if report is None:
        raise InputError("The checks are still running", try_="wait for them to finish, or start them under Checks")
    wanted = {(row["split"], row["row"]): row["why"] for row in report.get("suspicious", [])}
    # A report counts the rows of each split that are not excluded.
    counts: Counter[str] = Counter()
    positions = {}
    for position in range(len(rows)) if wanted else ():
        row = rows[position]
        if row.excluded is None:
            place = (row.split, counts[row.split])
            if place in wanted:
                positions[place] = position
            counts[row.split] += 1
    return {positions[place]: why for place, why in wanted.items() if place in positions}


def view(desk: Desk) -> Any:
    """The positions of the rows that match filter and search, including unsaved changes. In order; suspicious rows
    worst first."""
    import numpy as np

    flags, rows = desk.rows.flags, desk.rows
    masks = {
        "Good": flags["good"],
        "Bad": flags["bad"],
        "Excluded": flags["excluded"],
        "With notes": flags["noted"],
        "Not saved yet": np.zeros(len(rows), bool),
    }
    if desk.kind == "Not yet judged":
        mask = ~(flags["good"] | flags["bad"] | flags["excluded"])
    else:
        mask = masks.get(desk.kind, np.ones(len(rows), bool)).copy()
    matches = rows.holding(desk.text) if desk.text else None
    if matches is not None:
        mask &= matches
    for row_id, change in desk.draft.changes.items():
        position = rows.position(row_id)
        if position is not None:
            now = change.to(rows[position], desk.draft.who)
            mask[position] = _belongs(now, desk.kind) and (
                matches is None or (holds(now.cells, desk.text.casefold()) if change.cells else bool(matches[position]))
            )
    if desk.kind == SUSPICIOUS:
        return np.array([position for position in desk.suspects if mask[position]], int)
    return np.flatnonzero(mask)


def step(positions: Any, position: int | None, by: int) -> int | None:
    """The next (`by` 1) or previous (-1) of `positions`, None at the end."""
    import numpy as np

    if not len(positions):
        return None
    if position is None:
        return int(positions[0])
    there = np.flatnonzero(positions == position)
    # A row that does not match lies between two that do.
    index = int(there[0]) + by if len(there) else int(np.searchsorted(positions, position)) - (by < 0)
    return int(positions[index]) if 0 <= index < len(positions) else None


def place_of(positions: Any, position: int, kind: str, text: str) -> str:
    """`3 of 60`, in words."""
    import numpy as np

    there = np.flatnonzero(positions == position)
    narrowed = kind != FILTERS[0] or bool(text)
    what = "rows that match" if narrowed else "rows"
    if len(there):
        return f"{there[0] + 1:,} of {len(positions):,} {what}"
    return f"no longer among the {len(positions):,} {what}"


def judged(desk: Desk, row: VersionRow, **wanted: Any) -> Change | None:
    """The change to `row`: its unsaved change plus `wanted`. Values equal to the saved ones are no change."""
    change = replace(desk.change_of(row.id), **wanted)
    if change.mark is not None and (change.mark if change.mark != "none" else None) == row.mark:
        change = replace(change, mark=None)
    if change.excluded is not None and (change.excluded or None) == row.excluded:
        change = replace(change, excluded=None)
    cells = {name: value for name, value in change.cells.items() if name not in row.cells or row.cells[name] != value}
    # A missing cell that stays empty is not an edit; 1 and True are equal but differ in type.
    cells = {name: value for name, value in cells.items() if value is not None or row.cells.get(name) is not None}
    change = replace(change, cells=cells)
    return change if change.parts() else None


def seen(desk: Desk, row: VersionRow, workspace: Workspace) -> Seen:
    return Seen(row, desk.draft.changes.get(row.id), desk.draft.who, tuple(_said(desk.rows.version, row.id, workspace)))


def status(desk: Desk, workspace: Workspace) -> Markup:
    """Unsaved changes: by this person here, by others here, and by this person in other data."""
    draft, parts = desk.draft, []
    if draft.count:
        changes = "1 change" if draft.count == 1 else f"{draft.count:,} changes"
        parts.append(
            notice(
                f"{changes} not saved yet: {draft.words}. They are kept on disk until you save or discard them.",
                kind="warn",
            )
        )
    newest = None if desk.rows.version else _newest(desk.data, workspace)
    if newest is not None:
        words = f"This data has versions already. The newest is {version_title(newest)}, by {newest.who}."
        parts.append(
            Markup('<div class="ft-box ft-info">{} {}</div>').format(words, _open_button(newest.source, "Show it"))
        )
    elif desk.rows.version is None and not draft.count:
        parts.append(notice("Not saved as a version yet. Your first save makes version 1, then adds your changes."))
    for other in drafts.unsaved(workspace):
        if other.file.parent == draft.file.parent and other.file != draft.file and draft.who:
            parts.append(notice(f"{other.who} has {other.count:,} not saved yet on the same data: {other.words}."))
    if desk.rows.version is None and len(desk.rows) > LARGE:
        parts.append(
            notice(
                f"These are {count(len(desk.rows))} rows, about {byte_size(desk.rows.text_bytes())} of text. "
                "Each version is a compressed copy, so saving takes a while. Searches return the first "
                f"{MOST_HITS:,}.",
                kind="warn",
            )
        )
    newer = drafts.later(desk.data, workspace)
    if newer is not None:
        parts.append(notice(f"A later version was made from this one: {version_title(newer)}, by {newer.who}."))
    return join([*parts, elsewhere(draft, workspace)])


def _newest(data: DataConfig, workspace: Workspace) -> Version | None:
    name = name_of(data, workspace)
    return (
        next((version for version in reversed(history(workspace, name)) if version.deleted is None), None)
        if name
        else None
    )


def _open_button(source: str, text: str) -> Markup:
    return Markup('<button type="button" class="ft-pick" data-do="open:{}">{}</button>').format(source, text)


def elsewhere(draft: Draft, workspace: Workspace) -> Markup:
    """The same person's changes to other data, with a link to them."""
    lines = []
    for other in drafts.unsaved(workspace, draft.who) if draft.who else []:
        if other.file == draft.file:
            continue
        title, there = _title(other.source, workspace)
        button = _open_button(other.source, "Go on there")
        if not there:
            button = Markup('<button type="button" class="ft-pick" data-do="discard:{}">Discard them</button>').format(
                _handle(other)
            )
        gone = "" if there else ", whose rows were deleted"
        lines.append(
            Markup('<div class="ft-box ft-info">{} not saved yet in {}{}. {}</div>').format(
                "1 change" if other.count == 1 else f"{other.count:,} changes", title, gone, button
            )
        )
    return join(lines)


def orphan(handle: str, who: str, workspace: Workspace) -> Draft:
    """The draft that a button of `elsewhere` refers to. Raises InputError if it is gone."""
    draft = next((unsaved for unsaved in drafts.unsaved(workspace, who) if _handle(unsaved) == handle), None)
    if draft is None:
        raise InputError("These changes are already gone", try_="reload the page")
    return draft


def _handle(draft: Draft) -> str:
    return draft.file.parent.name


def _title(source: str, workspace: Workspace) -> tuple[str, bool]:
    """The title of a source, and whether its rows exist."""
    if not source.startswith(PREFIX):
        return source.rsplit("/", 1)[-1], True
    version = next((candidate for candidate in history(workspace) if candidate.source == source), None)
    return (source, False) if version is None else (version_title(version), version.deleted is None)


def _belongs(row: VersionRow, kind: str) -> bool:
    return {
        "Not yet judged": row.mark is None and row.excluded is None,
        "Good": row.mark == "good",
        "Bad": row.mark == "bad",
        "Excluded": row.excluded is not None,
        "With notes": bool(row.notes),
    }.get(kind, True)


def _said(version: Version | None, row: int, workspace: Workspace) -> list[str]:
    """What the versions up to this one changed in a row, oldest first."""
    if version is None:
        return []
    known = {earlier.id: earlier for earlier in history(workspace, version.name)}
    lines: list[str] = []
    current: Version | None = version
    while current is not None:
        by_row = current.details.get("by_row", {})
        if str(row) in by_row or row in current.details.get("row_ids", ()):
            why = f" ({current.why})" if current.why else ""
            done = by_row.get(str(row), current.action)
            lines.insert(0, f"Version {current.number}, {current.when[:10]}: {done} by {current.who}{why}")
        current = known.get(current.parent) if current.parent else None
    return lines
