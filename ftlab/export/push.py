"""Push an export to the Hugging Face Hub, optionally with its data and its report: private, after a preview.

The token is that of `hf auth login` or HF_TOKEN, or the one given; it is sent only to the Hub.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import load_config
from ftlab.core.files import read_json, sizes_in
from ftlab.core.hub import check_name
from ftlab.core.hub_sync import OFFLINE_TRY, make, upload, writing
from ftlab.core.run_directory import EXPORT_RECORD, RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data import export as publish
from ftlab.errors import InputError
from ftlab.evaluation.batches import Progress
from ftlab.export.card import write_card
from ftlab.export.export import Exported, read_shape

REPORT = "report.html"
# Files of an earlier ftlab export in the same repository, deleted unless uploaded again.
_REPLACED = ["*.safetensors", "*.gguf", "*.safetensors.index.json", "*config.json", "Modelfile", ".eval_results/*"]
_REPLACED += ["base/*", "ftlab/*", REPORT]


@dataclass(frozen=True)
class Upload:
    """A planned or completed upload: bytes by file of the model and of the data, the card, and the address."""

    repository: str
    private: bool
    files: dict[str, int]
    card: str
    data: publish.Pushed | None
    notes: list[str]
    address: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"data": self.data.as_dict() if self.data else None}


def push(
    run: RunDirectory,
    export: Exported,
    repository: str,
    *,
    data: str | None = None,
    report: bool = False,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    tell: Progress = lambda *_: None,
) -> Upload:
    """Upload `export` (see `export.fresh_export`) of `run` to the model `repository` (owner/name) on the Hub.

    `data`: the Hub id for the data of the run; `report`: include the report of its comparison. With `dry_run` nothing
    is sent and the network is not used. Raises InputError for an invalid name or missing rights, FtlabError when the
    Hub does not answer.
    """
    check_name(repository, "model")
    workspace = Workspace(run.path.parent.parent)
    with staged(run, export, repository, data=data, report=report) as folder:
        notes = [_ABOUT_REPORT] if report else []
        planned = _push_data(run, data, workspace, private, token, dry_run=True) if data else None
        plan = Upload(
            repository, private, sizes_in(folder), (folder / "README.md").read_text(encoding="utf-8"), planned, notes
        )
        if dry_run:
            return plan
        # The repository first, as it may be rejected: then no data is uploaded either.
        address = _make(repository, private, token)
        sent = None
        if data:
            tell("uploading the data", 0, 0)
            sent = _push_data(run, data, workspace, private, token, dry_run=False)
        tell("uploading the model", 0, 0)
        more = _upload(folder, repository, private, token)
    return Upload(repository, private, plan.files, plan.card, sent, notes + more, address)


_ABOUT_REPORT = "The report quotes some held-out rows and their answers."


@contextmanager
def staged(run: RunDirectory, export: Exported, repository: str, *, data: str | None, report: bool) -> Iterator[Path]:
    """A folder with exactly the files to upload: the export, with a card that names its repository on the Hub."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in export.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(export.folder / name, target)
        if report:
            from ftlab.report.report import write_report

            shutil.copyfile(write_report(run), folder / REPORT)
        (folder / "README.md").unlink(missing_ok=True)  # a link: writing through it would change the export
        record = read_json(folder / EXPORT_RECORD)
        config = load_config(run.config_file).resolved()
        write_card(
            run,
            config,
            read_shape(folder),
            folder,
            record["verification"],
            record.get("licence"),
            repository=repository,
            data=data,
        )
        yield folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _push_data(
    run: RunDirectory, name: str, workspace: Workspace, private: bool, token: str | None, *, dry_run: bool
) -> publish.Pushed:
    config = load_config(run.config_file)
    if any(source.get("kind") == "hub" for source in run.manifest().get("sources", [])):
        raise InputError(
            "The data of this run is already on the Hub",
            given=f"{config.data.source}, to be uploaded as {name}",
            try_="leave the data out; the model card links to it",
        )
    return publish.push(config.data, name, workspace, private=private, dry_run=dry_run, token=token)


def _make(repository: str, private: bool, token: str | None) -> str:
    """The address of the model on the Hub; creates the repository if missing."""
    with writing("model", repository, token=token, offline_try=OFFLINE_TRY) as api:
        return make(api, repository, "model", private=private)


def _upload(folder: Path, repository: str, private: bool, token: str | None) -> list[str]:
    """Upload the files in `folder`; returns notes for the user."""
    with writing("model", repository, token=token, offline_try=OFFLINE_TRY) as api:
        there = api.list_repo_files(repository)
        ours = EXPORT_RECORD.as_posix() in there
        notes = (
            [] if ours or set(there) <= {".gitattributes"} else ["Files that were already in the repository were kept."]
        )
        upload(api, repository, "model", folder, "Model exported with ftlab", replaced=_REPLACED if ours else None)
        if not private and api.model_info(repository).private:
            notes.append(f"{repository} was private and remains so; change that in its settings on the Hub.")
        return notes
