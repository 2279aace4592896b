"""Versions of a data set: creating them from a source or from each other, their lineage, and deletion."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ftlab.config import STARTER, DataConfig, load_config
from ftlab.core.files import read_cached, write_json
from ftlab.core.workspace import Workspace
from ftlab.data.load import as_read, load_rows, recall
from ftlab.data.shapes import SPLITS
from ftlab.data.version_store import (
    PREFIX,
    DetailsJson,
    SourceJson,
    Version,
    VersionRow,
    find,
    history,
    write_rows,
)
from ftlab.errors import InputError

# The column that says which model wrote a row, in versions with `details["made"]`. Empty for rows written by people.
MADE_BY = "made_by"


def create(
    source: str | DataConfig,
    workspace: Workspace | None = None,
    *,
    name: str | None = None,
    who: str | None = None,
    why: str = "",
) -> Version:
    """The first version of a data source: its rows unchanged, and the columns set for it. An unchanged source returns
    the existing version.

    Raises InputError like `load_rows`. If the source is a version, returns that version.
    """
    workspace = workspace or Workspace.open()
    data = source if isinstance(source, DataConfig) else DataConfig(source=str(source))
    if data.source.startswith(PREFIX):
        return find(data.source, workspace)
    loaded = load_rows(data, workspace)
    read = as_read(data, loaded)
    name = _slug(name or (Path(loaded.name).stem if loaded.kind == "file" else loaded.name))

    def rows() -> Iterator[VersionRow]:
        number = 0
        for split, cells in loaded.splits.items():
            for row in cells:
                yield VersionRow(number, row, "train" if split == loaded.main else split)
                number += 1

    origin = [file.as_dict() for file in loaded.files]
    shas = [entry["sha256"] or entry.get("revision") for entry in origin]
    details: DetailsJson = {
        "split": data.split,
        "subset": data.subset,
        "columns": read.columns,
        "prompt_template": read.prompt_template,
    }
    for old in history(workspace, name):
        if old.parent is None and old.deleted is None and all(shas):
            same = [entry["sha256"] or entry.get("revision") for entry in old.origin] == shas
            # Versions from before columns were stored have none.
            if same and all((old.details.get(key) or None) == (value or None) for key, value in details.items()):
                return old
    details |= {"source": data.source if loaded.kind != "file" else loaded.name, "notes": loaded.notes}
    return _write(
        workspace, name, rows, loaded.columns, None, "taken from the source", who, why, origin=origin, details=details
    )


def originate(
    workspace: Workspace,
    name: str,
    rows: list[VersionRow],
    columns: list[str],
    action: str,
    origin: list[SourceJson],
    details: DetailsJson,
    *,
    who: str | None = None,
) -> Version:
    """A first version of `rows` that come from `origin` rather than a data source. Raises InputError if all are
    excluded."""
    return _write(workspace, _slug(name), lambda: rows, columns, None, action, who, "", origin=origin, details=details)


@contextlib.contextmanager
def taken(
    source: str | DataConfig, workspace: Workspace, *, who: str | None = None, why: str = ""
) -> Iterator[Version]:
    """`create` for a step that derives another version: if the step fails, a version created only for it is removed."""
    before = {known.id for known in history(workspace)}
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
    details: DetailsJson | None = None,
    columns: list[str] | None = None,
) -> Version:
    """A new version with these `rows`, made from `parent` by `action` (in words).

    `rows` is a list, or a function that returns the rows on each call (to keep them out of memory). `columns` are the
    columns of the rows, if known. Rows keep the `id` they had in the parent; new ones need a free id.
    Raises InputError if two rows have the same id or no row is left.
    """
    workspace = workspace or _workspace_of(parent)
    parent = find(parent, workspace)
    give = rows if callable(rows) else lambda: rows
    if columns is None:
        names = dict.fromkeys(parent.columns)
        for row in give():
            names.update(dict.fromkeys(row.cells))
        columns = list(names)
    named = recall(DataConfig(source=parent.source), workspace) if parent.deleted is None else None
    # Rows of a version are text already: no encoding is kept.
    kept: DetailsJson = {"columns": named.columns, "prompt_template": named.prompt_template} if named else {}
    if "made" in parent.details:
        kept["made"] = parent.details["made"]
    return _write(
        workspace,
        parent.name,
        give,
        columns,
        parent,
        action,
        who,
        why,
        origin=parent.origin,
        details={**kept, **(details or {})},
    )


def used_by(version: Version, workspace: Workspace) -> list[str]:
    """The ids of the runs trained on this version."""
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
    """Delete the rows of a version; who, when and why stay on record.

    Raises InputError naming the runs that used it, unless `force`.
    """
    version = find(version, workspace)
    runs = used_by(version, workspace)
    if runs and not force:
        raise InputError(
            f"The version {version.id} was used by {len(runs)} {'run' if len(runs) == 1 else 'runs'}, "
            "which could not be repeated without it",
            given=", ".join(runs[:5]),
            try_="delete the runs first, or add --force if they need not be repeatable",
        )
    values = version.as_dict() | {"deleted": {"who": who or person(), "when": _now(), "why": why}}
    write_json(version.folder / "version.json", values)
    version.rows_file.unlink(missing_ok=True)
    return Version(**values, folder=version.folder)


def person() -> str:
    """The default name of whoever changes data: the login name."""
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
    origin: list[SourceJson],
    details: DetailsJson,
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
                continue  # another process was faster: take the next number
            return Version(id=version_id, number=number, **values, folder=target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if the data set has no other version
        raise


@dataclass
class _Again:
    """Rows that can be iterated repeatedly."""

    give: Callable[[], Iterable[VersionRow]]

    def __iter__(self) -> Iterator[VersionRow]:
        return iter(self.give())


def _summed(rows: Iterable[VersionRow]) -> tuple[str, Counter[str], int]:
    """The content hash, the number of rows by split that are not excluded, and the number of excluded rows."""
    digest, excluded = hashlib.sha256(), 0
    counts: Counter[str] = Counter()
    seen: set[int] = set()
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


def _workspace_of(version: Version | str) -> Workspace:
    if isinstance(version, Version) and version.folder != Path():
        return Workspace(version.folder.parents[2])
    return Workspace.open()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def latest_choice(workspace: Workspace) -> tuple[str, int, str] | None:
    """(base, max_length in tokens, id of the run) of the newest run; None if there is no run."""
    for run in workspace.runs():
        try:
            config = load_config(run.config_file)
        except InputError:  # a run of another ftlab version, or with a broken configuration
            continue
        return config.model.base, config.optimisation.max_length, run.id
    return None


def train_command(source: str, workspace: Workspace, base: str | None = None, *, max_length: int | None = None) -> str:
    """The command that trains on `source` in `workspace`, with `base` (default: that of the latest run)."""
    if base is None:
        base = (latest_choice(workspace) or (STARTER,))[0]
    line = f"python -m ftlab train --set data.source={shlex.quote(source)}"
    line += f" --set model.base={shlex.quote(base)}" if base != STARTER else ""
    line += f" --set optimisation.max_length={max_length}" if max_length else ""
    return line + workspace.flag
