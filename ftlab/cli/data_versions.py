"""`python -m ftlab data split | export | push | versions ...`: make, compare, save and share versions of data."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.cli.columns import add_columns, keeping, overrides
from ftlab.cli.output import without_controls
from ftlab.config import DataConfig, build_config
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]


def register(data: Any, add: Add) -> None:
    """Add the commands to the group `data`; `add(group, name, command, help)` is the one of `cli`."""
    one = add(data, "split", split, "divide rows into train, validation and test: a new version that runs can name")
    _source(one)
    one.add_argument("--validation", type=float, metavar="SHARE", help="share for validation (default 0.1)")
    one.add_argument("--test", type=float, metavar="SHARE", help="share for the test (default 0.1)")
    one.add_argument("--seed", type=int, help="the same seed gives the same split")
    one.add_argument("--group-by", metavar="COLUMN", help="rows with the same value stay on one side")
    one.add_argument("--stratify-by", metavar="COLUMN", help="every split gets the same share of each label")
    one.add_argument("--near-duplicates", choices=["auto", "together", "apart"], help="near-equal prompts on one side")
    _person(one)

    one = add(data, "export", export, "save rows as JSONL, Parquet, CSV or OpenAI chat JSONL")
    _source(one)
    one.add_argument("target", type=Path, help="file to write, or a folder; several splits become several files")
    one.add_argument("--format", choices=["jsonl", "parquet", "csv", "openai"], help="default: by the file's ending")
    one.add_argument("--overwrite", action="store_true", help="replace files that are there")

    one = add(data, "push", push, "send rows with a card to the Hugging Face Hub; private unless --public")
    _source(one)
    one.add_argument("repository", help="owner/name")
    one.add_argument("--public", action="store_true")
    one.add_argument("--licence", help="for the card, e.g. cc-by-4.0")
    one.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")

    versions = data.add_parser("versions", help="list, make, compare or delete versions of data").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add(versions, "list", versions_list, "all versions: what was done, by whom, why")
    one = add(versions, "create", versions_create, "the first version of a data source")
    _source(one)
    _person(one)
    add(versions, "show", versions_show, "one version, and the runs that used it").add_argument("version")
    one = add(versions, "diff", versions_diff, "rows added, removed and changed between two versions")
    one.add_argument("before")
    one.add_argument("after")
    one = add(versions, "delete", versions_delete, "delete the rows of a version; who and why stay written down")
    one.add_argument("version")
    one.add_argument("--force", action="store_true", help="also when runs used it")
    _person(one)


def split(given: argparse.Namespace) -> int:
    from ftlab.data.version_splits import split_version

    workspace = Workspace.open(given.workspace)
    settings = {
        "validation_fraction": given.validation,
        "test_fraction": given.test,
        "seed": given.seed,
        "group_by": given.group_by,
        "stratify_by": given.stratify_by,
        "near_duplicates": given.near_duplicates,
    }
    data = _data(given, **{name: value for name, value in settings.items() if value is not None})
    version, notes = split_version(data, workspace, who=given.who, why=given.why)
    return _told(given, version.as_dict() | {"source": version.source, "notes": notes}, _line(version), *notes)


def export(given: argparse.Namespace) -> int:
    from ftlab.data.export import export as write

    workspace = Workspace.open(given.workspace)
    done = write(_data(given), given.target, given.format, workspace, overwrite=given.overwrite)
    lines = [f"{path}: {count} rows" for path, count in done.files.items()]
    lines += [f"left out: {reason} ({count} rows)" for reason, count in done.left_out.items()]
    return _told(given, done.as_dict(), *lines, *done.notes)


def push(given: argparse.Namespace) -> int:
    from ftlab.data.publish import push as send

    workspace = Workspace.open(given.workspace)
    done = send(
        _data(given),
        given.repository,
        workspace,
        private=not given.public,
        dry_run=given.dry_run,
        licence=given.licence,
    )
    where = f"{'private' if done.private else 'public'} data set {done.repository}"
    lines = [f"This would go to the {where}:" if done.dry_run else f"Sent to the {where}: {done.address}"]
    lines += [f"  {size:>10,} bytes  {name}" for name, size in done.files.items()]
    return _told(given, done.as_dict(), *lines, *(["", done.card] if done.dry_run else []))


def versions_list(given: argparse.Namespace) -> int:
    from ftlab.data.versions import history

    workspace = Workspace.open(given.workspace)
    found = history(workspace)
    lines = [_line(one) for one in found] or [f"No versions yet in {workspace.versions_folder}."]
    return _told(given, {"versions": [one.as_dict() for one in found]}, *lines)


def versions_create(given: argparse.Namespace) -> int:
    from ftlab.data.versions import create

    workspace = Workspace.open(given.workspace)
    version = create(_data(given), workspace, who=given.who, why=given.why)
    return _told(given, version.as_dict() | {"source": version.source}, _line(version))


def versions_show(given: argparse.Namespace) -> int:
    from ftlab.data.latest import train_command
    from ftlab.data.versions import find, used_by

    workspace = Workspace.open(given.workspace)
    version = find(given.version, workspace)
    runs = used_by(version, workspace)
    lines = [
        _line(version),
        f"parent     {version.parent or 'none: taken from the source'}",
        f"content    {version.content}",
        *[f"source     {entry['name']} ({entry['sha256'] or entry.get('revision')})" for entry in version.origin],
        f"use it     {train_command(version.source, workspace)}",
        f"runs       {', '.join(runs) or 'none yet'}",
    ]
    return _told(given, version.as_dict() | {"source": version.source, "runs": runs}, *lines)


def versions_diff(given: argparse.Namespace) -> int:
    from ftlab.data.curation import changed_cells, diff
    from ftlab.data.versions import find

    workspace = Workspace.open(given.workspace)
    before, after = find(given.before, workspace), find(given.after, workspace)
    found = diff(before, after)
    lines = [str(found)]
    for row, cells in changed_cells(before, after, found.changed[:5]).items():
        for column, (old, new) in cells.items():
            lines.append(f"  row {row}, {column}: {_short(old)} -> {_short(new)}")
    return _told(given, found.as_dict(), *lines)


def versions_delete(given: argparse.Namespace) -> int:
    from ftlab.data.versions import delete

    workspace = Workspace.open(given.workspace)
    gone = delete(given.version, workspace, force=given.force, who=given.who, why=given.why)
    return _told(given, gone.as_dict(), f"Deleted the rows of {gone.id}; what it was stays written down.")


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a sample, a file, a Hub id or version:<id>")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the data, e.g. split=train"
    )
    add_columns(parser)
    parser.set_defaults(command=keeping(parser.get_default("command"), _data))


def _person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--who", help="who does this (default: your login name)")
    parser.add_argument("--why", default="", help="why, for those who come later")


def _data(given: argparse.Namespace, **settings: Any) -> DataConfig:
    said = [text if text.startswith("data.") else f"data.{text}" for text in overrides(given)]
    return build_config({"data": {"source": given.source, **settings}}, said).data


def _line(version: Any) -> str:
    rows = ", ".join(f"{count} {name}" for name, count in version.rows.items())
    if version.excluded:
        rows += f", {version.excluded} excluded"
    gone = " DELETED" if version.deleted else ""
    why = f" ({version.why})" if version.why else ""
    return f"{version.id:<40} {version.when[:16]}  {rows}  {version.action} by {version.who}{why}{gone}"


def _short(value: Any) -> str:
    from ftlab.errors import shorten

    return shorten(value, 60)


def _told(given: argparse.Namespace, value: dict[str, Any], *lines: str) -> int:
    if given.json:
        print(json.dumps(value, ensure_ascii=False, default=str), flush=True)
    else:
        for line in lines:  # cells are somebody's text: it must not steer the terminal
            sys.stdout.write(without_controls(line) + "\n")
    return 0
