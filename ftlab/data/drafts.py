"""What a person has judged and not saved yet: one file by person and data set, so that a reload or a restart loses
nothing, and one version comes out of many judgements.

draft = load(data, workspace, "Ada")
draft = change(draft, row, Change(mark="good"))
version = save(draft, data, workspace, why="first look")
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.curation import Change, apply, fingerprint, in_words
from ftlab.data.version_rows import VersionRow
from ftlab.data.versions import PREFIX, Version, find, history, taken
from ftlab.errors import InputError
from ftlab.files import locked, read_cached, read_json, write_text
from ftlab.workspace import Workspace

LONGEST_NAME = 80


@dataclass(frozen=True)
class Draft:
    """The changes of one person to one source (or version), by row id, and where the person is."""

    who: str
    source: str
    file: Path
    changes: dict[int, Change] = field(default_factory=dict)
    judged: dict[int, str] = field(default_factory=dict)  # fingerprints of the cells that were judged
    at: int | None = None
    when: str = ""

    @property
    def count(self) -> int:
        """How many changes there are: a row that is edited and marked has two."""
        return sum(len(change.parts()) for change in self.changes.values())

    @property
    def words(self) -> str:
        return in_words(self.changes.values())


def person_named(name: str | None) -> str:
    """A name as it is written down. Raises InputError when there is none, or it is no name."""
    name = " ".join((name or "").split())
    if not name:
        raise InputError("Who judges is not known", try_="write your name into its box; this browser keeps it")
    if len(name) > LONGEST_NAME:
        raise InputError("This name is too long", given=name, allowed=f"at most {LONGEST_NAME} characters")
    return name.encode("utf-8", "replace").decode()


def load(data: DataConfig, workspace: Workspace, who: str) -> Draft:
    """The draft of `who` for these data; an empty one where there is none."""
    return _read(workspace.drafts / _key(data, workspace) / _file_of(who), who, data.source)


def change(draft: Draft, row: VersionRow, now: Change | None, *, at: int | None = None) -> Draft:
    """The draft with `now` as the change to `row` (the row as it is without the draft; None takes the change back).

    Whatever was written to the file meanwhile, in another window of the same person, stays.
    """

    def put(kept: Draft) -> Draft:
        changes = {number: old for number, old in kept.changes.items() if number != row.id}
        judged = {number: old for number, old in kept.judged.items() if number != row.id}
        if now is not None and now.parts():
            changes[row.id], judged[row.id] = now, fingerprint(row.cells)
        return replace(kept, changes=changes, judged=judged, at=row.id if at is None else at)

    return _rewrite(draft, put)


def discard(draft: Draft, only: dict[int, Change] | None = None) -> Draft:
    """Forget the changes (`only` these, where a row was not changed again)."""
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
    """One new version out of the draft, which is empty afterwards. Of data that are no version yet, version 1 is made
    first. `onto` is a later version that shall hold the changes instead of the one that was judged.

    Raises InputError as `curation.apply` does; the draft is kept then.
    """
    if not draft.changes:
        raise InputError("There is nothing to save", try_="judge a row first")
    with contextlib.nullcontext(onto) if onto else taken(data, workspace, who=draft.who) as base:
        made = apply(base, draft.changes, who=draft.who, why=why.strip(), judged=draft.judged, workspace=workspace)
    discard(draft, only=draft.changes)
    return made


def later(data: DataConfig, workspace: Workspace) -> Version | None:
    """The newest version made out of the version `data`, when there is one."""
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
    """All drafts that hold changes (of one person), the newest first."""
    found = []
    for file in workspace.drafts.glob("*/*.json") if workspace.drafts.is_dir() else []:
        values = read_cached(file)
        if values is None:
            continue
        draft = _read(file, values.get("who", ""), values.get("source", ""))
        if draft.changes and (who is None or file.name == _file_of(who)):
            found.append(draft)
    return sorted(found, key=lambda draft: draft.when, reverse=True)


def _rewrite(draft: Draft, put: Callable[[Draft], Draft]) -> Draft:
    with locked(draft.file.with_suffix(".lock")):
        now = put(_read(draft.file, draft.who, draft.source))
        now = replace(now, when=datetime.now(UTC).isoformat(timespec="seconds"))
        values = {
            "who": now.who,
            "source": now.source,
            "at": now.at,
            "when": now.when,
            "changes": {str(number): asdict(one) for number, one in now.changes.items()},
            "judged": {str(number): now.judged[number] for number in now.changes},
        }
        # Escapes, so that half a character that somebody typed into JSON can be written.
        write_text(draft.file, json.dumps(values, default=str))
    return now


def _read(file: Path, who: str, source: str) -> Draft:
    values: dict[str, Any] = read_json(file, None) or {}
    changes = {
        int(number): Change(one["cells"], one["mark"], one["excluded"], tuple(one["notes"]))
        for number, one in values.get("changes", {}).items()
    }
    judged = {int(number): print_ for number, print_ in values.get("judged", {}).items()}
    return Draft(who, source, file, changes, judged, values.get("at"), values.get("when", ""))


def _key(data: DataConfig, workspace: Workspace) -> str:
    """The version's id; for any other source its name and a hash of what makes it that source."""
    if data.source.startswith(PREFIX):
        return find(data.source, workspace).id
    said = "\x1f".join([data.source, data.subset or "", data.split or ""])
    return f"{_slug(Path(data.source).stem)}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _file_of(who: str) -> str:
    """`ada` and `Ada` are one person; two people whose names give the same letters are two."""
    name = " ".join(who.split()).casefold()
    return f"{_slug(name)}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"
