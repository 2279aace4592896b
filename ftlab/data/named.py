"""The columns and the prompt template that a person named for a data source: named once, they are known from then on.

A version carries them in its details; for any other source the workspace remembers them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.prompt_template import check_template
from ftlab.errors import InputError
from ftlab.files import locked, read_json, write_json
from ftlab.workspace import Workspace


@dataclass(frozen=True)
class Named:
    """What a person said about a data source: the column of each role, and the template of the prompt."""

    columns: dict[str, str]
    prompt_template: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"columns": self.columns, "prompt_template": self.prompt_template}

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether data with these `columns` can be read so: a file may have changed since."""
        try:
            asked = check_template(self.prompt_template, columns) if self.prompt_template else []
        except InputError:
            return False
        return set(asked) | set(self.columns.values()) <= set(columns)


def said_in(data: DataConfig) -> Named | None:
    """What `data` itself names; None when it names nothing."""
    return Named(dict(data.columns), data.prompt_template) if data.columns or data.prompt_template else None


def remember(data: DataConfig, workspace: Workspace) -> None:
    """Keep what `data` names for its source; nothing where it names nothing. A version named otherwise than it was made
    is read as said last."""
    if (said := said_in(data)) and said != recall(data, workspace):
        _rewrite(data, workspace, said)


def forget(data: DataConfig, workspace: Workspace) -> None:
    """From now on the columns of the source of `data` are detected; those of a version are its own again."""
    _rewrite(data, workspace, None)


def recall(data: DataConfig, workspace: Workspace | None) -> Named | None:
    """What was named for the source of `data` before; None when nothing was. Raises InputError for an unknown version.

    Without a `workspace` only versions say something, those of the usual workspace.
    """
    from ftlab.data.versions import PREFIX, resolve

    if workspace is not None:
        known = _kept(workspace)
        if kept := known.get(_key(data, workspace)) or known.get(_spelled(data)):
            return Named(**kept)
    if data.source.strip().startswith(PREFIX):
        details = resolve(data.source, workspace).details
        if details.get("columns") or details.get("prompt_template"):
            return Named(details.get("columns") or {}, details.get("prompt_template"))
    return None


def settled(data: DataConfig, named: Named | None) -> DataConfig:
    """`data` with what was `named` before, where it names nothing itself: new names replace all of the old ones."""
    if named is None or said_in(data) is not None:
        return data
    return data.model_copy(update=named.as_dict())


def _kept(workspace: Workspace) -> dict[str, Any]:
    return read_json(workspace.named_columns_file, {})


def _rewrite(data: DataConfig, workspace: Workspace, said: Named | None) -> None:
    file, key = workspace.named_columns_file, _key(data, workspace)
    with locked(file.with_suffix(".lock")):
        kept = {other: value for other, value in _kept(workspace).items() if other not in (key, _spelled(data))}
        write_json(file, kept | ({key: said.as_dict()} if said else {}))


def _key(data: DataConfig, workspace: Workspace) -> str:
    from ftlab.data.versions import PREFIX, pinned

    source = data.source.strip()
    if source.startswith(PREFIX):
        return pinned(source, workspace)
    path = Path(source).expanduser()
    # One file, however it is spelled: "../data/x.csv", through a link, from another folder.
    name = os.path.realpath(path) if os.path.exists(path) else source
    return f"{name} {data.subset}" if data.subset else name


def _spelled(data: DataConfig) -> str:
    """The key of older workspaces: the path as it was given."""
    name = str(Path(data.source.strip()).expanduser().absolute())
    return f"{name} {data.subset}" if data.subset else name
