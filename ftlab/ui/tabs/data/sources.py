"""The data sources: samples, versions, uploaded and pasted rows; and the current data of the Data tab."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.config import DataConfig
from ftlab.core.files import keep_copy
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.readers import SUFFIXES
from ftlab.data.version_store import Version, history
from ftlab.errors import InputError
from ftlab.ui import run_files
from ftlab.ui.run_names import source_title, version_name

FILE_TYPES = list(SUFFIXES)


@dataclass(frozen=True)
class DataContext:
    """What the panels of the Data tab share.

    `config_json` holds the current data: a DataConfig as JSON, None if there are none. `source` is the dropdown that
    selects them. `base` and `max_length` are settings of the Train tab, used to count tokens.
    """

    workspace: Workspace
    config_json: gr.State
    source: gr.Dropdown
    base: gr.Dropdown
    max_length: gr.Textbox

    def open(self, source: str) -> dict[Any, Any]:
        """Updates that select `source` (a new version or a stored file). The panels follow automatically."""
        return {self.source: gr.update(choices=source_choices(self.workspace, source), value=source)}


def config_of(config_json: str | None) -> DataConfig:
    """The current data. Raises InputError if there are none."""
    if config_json is None:
        raise InputError("No data selected", try_="choose some above")
    return DataConfig.model_validate_json(config_json)


def source_choices(workspace: Workspace, also: str | None = None) -> list[tuple[str, str]]:
    """Samples, the newest version of each data set, then the files uploaded to this workspace, and `also`."""
    samples = [(f"{title} ({name})", name) for name, title in run_files.sample_titles().items()]
    newest = {version.name: version for version in history(workspace) if version.deleted is None}
    versions = [(version_title(version), version.source) for version in newest.values()]
    files = sorted([*workspace.uploads.glob("*.*"), *workspace.uploads.glob("*/*")], key=lambda path: path.name)
    files = [path for path in files if path.suffix.lower() in FILE_TYPES and path.is_file()]
    names = Counter(source_title(str(path)) for path in files)
    uploads = [(f"Upload: {_told_apart(path, names)}", str(path)) for path in files]
    choices = samples + versions + uploads
    if also and also not in (value for _, value in choices):
        named = next((version for version in history(workspace) if version.source == also), None)
        choices.append((version_title(named) if named else also, also))
    return choices


def _told_apart(path: Path, names: Counter[str]) -> str:
    """The name of an upload, with its upload time if several have the same name."""
    name, uploaded = source_title(str(path)), time.localtime(path.stat().st_mtime)
    return name if names[name] == 1 else f"{name} ({time.strftime('%-d %b %H:%M', uploaded)})"


def is_first_visit(workspace: Workspace) -> bool:
    """Whether the workspace holds nothing of the user's yet: no upload, no version, no run."""
    return not (any(workspace.uploads.glob("*")) or history(workspace) or workspace.runs())


def version_title(version: Version) -> str:
    return f"Version {version.number} of {version_name(version.name)} ({counted(version.total, 'row')})"


def keep_upload(path: Path, workspace: Workspace) -> Path:
    """A copy of an uploaded file inside the workspace, so that a run can be repeated. Raises InputError for an
    unsupported kind of file."""
    if path.suffix.lower() not in FILE_TYPES:
        raise InputError("This file type is not supported", given=path.name, allowed=", ".join(FILE_TYPES))
    return keep_copy(path, workspace.uploads)
