"""Push a data source to the Hugging Face Hub as a data set with a card. A dry run shows everything that would go."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ftlab.config import DataConfig
from ftlab.data.export import write_parquet
from ftlab.data.load import Loaded, load_rows
from ftlab.data.splits import detect_format
from ftlab.data.versions import Version, find, history
from ftlab.errors import InputError, shorten
from ftlab.files import sizes_in
from ftlab.hub import OFFLINE_TRY, check_name, make, writing
from ftlab.workspace import Workspace


@dataclass
class Pushed:
    """What goes, or went, to the Hub: bytes by file, the card, and the address once it is there."""

    repository: str
    private: bool
    files: dict[str, int]
    card: str
    address: str | None
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def push(
    data: DataConfig,
    repository: str,
    workspace: Workspace | None = None,
    *,
    private: bool = True,
    dry_run: bool = False,
    licence: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Make or update the data set `repository` (owner/name) on the Hub, one Parquet file per split and a card.

    Without a `token` it is the one of `hf auth login` or HF_TOKEN. With `dry_run` nothing is sent and no network used.
    Raises InputError for a wrong name or missing rights, FtlabError when the Hub cannot be reached.
    """
    check_name(repository, "data set")
    loaded = load_rows(data, workspace)
    card = card_of(loaded, data, repository, workspace, licence)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for split, rows in loaded.splits.items():
            path = root / "data" / f"{split}.parquet"
            path.parent.mkdir(exist_ok=True)
            write_parquet(path, rows, loaded.columns)
        (root / "README.md").write_text(card, encoding="utf-8")
        files = sizes_in(root)
        address = None if dry_run else _upload(root, repository, private, token)
    return Pushed(repository, private, files, card, address, dry_run)


def _upload(folder: Path, repository: str, private: bool, token: str | None) -> str:
    with writing("dataset", repository, token=token, offline_try=OFFLINE_TRY) as api:
        address = make(api, repository, "dataset", private=private)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Data set saved with ftlab",
        )
        return address


def card_of(
    loaded: Loaded, data: DataConfig, repository: str, workspace: Workspace | None, licence: str | None = None
) -> str:
    """The card (README.md): the splits for the Hub's viewer, where the rows come from, and what was done to them."""
    head: dict[str, Any] = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in loaded.splits],
            }
        ],
        "tags": ["ftlab"],
    }
    if licence:
        head["license"] = licence
    total = loaded.rows
    head["size_categories"] = ["n<1K" if total < 1000 else "1K<n<10K" if total < 10_000 else "10K<n<100K"]
    if total >= 100_000:
        head["size_categories"] = ["100K<n<1M" if total < 1_000_000 else "1M<n<10M"]
    lines = [f"---\n{yaml.safe_dump(head, sort_keys=False)}---", f"# {repository.split('/')[1]}", ""]
    try:
        detected = detect_format(loaded, data)
        lines += [f"Format: {detected.format.replace('_', ' ')} ({_plain(detected.why)}).", ""]
    except InputError:
        pass  # data in no format that ftlab trains on can be shared all the same
    lines += ["| split | rows |", "|---|---|"]
    lines += [f"| {split} | {len(rows)} |" for split, rows in loaded.splits.items()]
    lines += ["", "| column |", "|---|", *[f"| `{_code(column)}` |" for column in loaded.columns]]
    lines += ["", "## Where it comes from", ""]
    version = find(data.source, workspace) if data.source.startswith("version:") else None
    files = version.origin if version else [file.as_dict() for file in loaded.files]
    lines += [f"- {_plain(file['name'])}, sha256 `{file['sha256'] or file.get('revision')}`" for file in files]
    if version:
        lines += ["", "## What was done to it", "", *_steps(version, workspace)]
        lines += ["", f"Content of this version, sha256 `{version.content}`"]
    lines += ["", "Personal data and licences were not checked by this card. Saved with ftlab."]
    return "\n".join(lines) + "\n"


def _steps(version: Version, workspace: Workspace | None) -> list[str]:
    """One line for each version from the first to this one."""
    known = {one.id: one for one in history(workspace, version.name)}
    chain: list[Version] = []
    current: Version | None = version
    while current is not None:
        chain.insert(0, current)
        current = known.get(current.parent) if current.parent else None
    return [
        f"1. {one.when[:10]}, {_plain(one.action)}: {one.total} rows{f'. {_plain(one.why)}' if one.why else ''}"
        for one in chain
    ]


def _plain(text: Any) -> str:
    """Text of others on one line of Markdown, without markup."""
    signs: Sequence[str] = "\\`*_[]<>|#!"
    return "".join(f"\\{sign}" if sign in signs and sign != "`" else sign for sign in shorten(text)).replace("`", "'")


def _code(text: Any) -> str:
    return shorten(text, 80).replace("`", "'").replace("|", "\\|")
