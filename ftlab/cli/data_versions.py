"""`python -m ftlab data split | export | push | versions ...`: make, compare, save and share versions of data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ftlab.cli.output import print_result
from ftlab.cli.parser import add_command, add_group
from ftlab.cli.settings import add_columns, keeping, overrides
from ftlab.config import DataConfig, build_config
from ftlab.core.workspace import Workspace


def add_versions(group: Any) -> None:
    """Add the commands to the group `data`."""
    splitting = "Split rows into train, validation and test: a new version that runs can name"
    command = add_command(group, "split", split, splitting, "data split my.csv --group-by customer")
    add_source(command)
    command.add_argument("--validation", type=float, metavar="SHARE", help="share of validation rows (default: 0.1)")
    command.add_argument("--test", type=float, metavar="SHARE", help="share of test rows (default: 0.1)")
    command.add_argument("--seed", type=int, help="the same seed gives the same split")
    command.add_argument("--group-by", metavar="COLUMN", help="rows with the same value stay in one split")
    command.add_argument("--stratify-by", metavar="COLUMN", help="every split gets the same share of each label")
    command.add_argument(
        "--near-duplicates", choices=["auto", "together", "apart"], help="keep near-duplicate prompts in one split"
    )
    add_who(command)

    saving = "Save rows as JSONL, Parquet, CSV or OpenAI chat JSONL"
    command = add_command(group, "export", export, saving, "data export version:my openai.jsonl --format openai")
    add_source(command)
    command.add_argument("target", type=Path, help="file or folder to write; several splits become several files")
    command.add_argument(
        "--format", choices=["jsonl", "parquet", "csv", "openai"], help="file format (default: by the file extension)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace existing files")

    sending = "Upload rows with a card to the Hugging Face Hub, private by default"
    command = add_command(group, "push", push, sending, "data push my.csv me/tickets --dry-run")
    add_source(command)
    command.add_argument("repository", metavar="OWNER/NAME", help="data set on the Hub")
    command.add_argument("--public", action="store_true", help="make it public (default: private)")
    command.add_argument("--licence", metavar="ID", help="license for the card, such as cc-by-4.0")
    command.add_argument("--dry-run", action="store_true", help="show what would be uploaded, and upload nothing")

    help = "List, create, compare or delete versions of data"
    versions = add_group(group.add_parser("versions", help=help, description=f"{help}."))
    listing = "List all versions: what was done, by whom, and why"
    add_command(versions, "list", versions_list, listing, "data versions list")
    creating = "Create the first version of a data source"
    command = add_command(versions, "create", versions_create, creating, "data versions create my.csv --why original")
    add_source(command)
    add_who(command)
    showing = "Show a version and the runs that used it"
    command = add_command(versions, "show", versions_show, showing, "data versions show my-20261129")
    _add_version(command, "version")
    comparing = "Compare two versions: rows added, removed and changed"
    example = "data versions diff my-20261129 my-20261130"
    command = add_command(versions, "diff", versions_diff, comparing, example)
    _add_version(command, "before")
    _add_version(command, "after")
    deleting = "Delete the rows of a version; who deleted it and why stays on record"
    example = "data versions delete my-20261129 --why superseded"
    command = add_command(versions, "delete", versions_delete, deleting, example)
    _add_version(command, "version")
    command.add_argument("--force", action="store_true", help="delete it even if runs used it")
    add_who(command)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the data, `--set` and `--column`; a command that succeeds remembers its columns."""
    parser.add_argument("source", help="a sample, a file, a Hub id or version:<id>")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a setting of the data, such as split=train (repeatable)",
    )
    add_columns(parser)
    parser.set_defaults(command=keeping(parser.get_default("command"), read_data))


def add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--who", help="who makes the change (default: your login name)")
    parser.add_argument("--why", default="", help="reason for the change, kept in the history")


def _add_version(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(name, help="id of the version, as `data versions list` shows it")


def split(args: argparse.Namespace) -> int:
    from ftlab.data.splits import split_version

    workspace = Workspace.open(args.workspace)
    settings = {
        "validation_fraction": args.validation,
        "test_fraction": args.test,
        "seed": args.seed,
        "group_by": args.group_by,
        "stratify_by": args.stratify_by,
        "near_duplicates": args.near_duplicates,
    }
    data = read_data(args, **{name: value for name, value in settings.items() if value is not None})
    version, notes = split_version(data, workspace, who=args.who, why=args.why)
    return print_result(
        args, version.as_dict() | {"source": version.source, "notes": notes}, version_line(version), *notes
    )


def export(args: argparse.Namespace) -> int:
    from ftlab.data.export import export as write

    workspace = Workspace.open(args.workspace)
    done = write(read_data(args), args.target, args.format, workspace, overwrite=args.overwrite)
    lines = [f"{path}: {count} rows" for path, count in done.files.items()]
    lines += [f"left out: {reason} ({count} rows)" for reason, count in done.left_out.items()]
    return print_result(args, done.as_dict(), *lines, *done.notes)


def push(args: argparse.Namespace) -> int:
    from ftlab.data.export import push as send

    workspace = Workspace.open(args.workspace)
    done = send(
        read_data(args),
        args.repository,
        workspace,
        private=not args.public,
        dry_run=args.dry_run,
        licence=args.licence,
    )
    where = f"{'private' if done.private else 'public'} data set {done.repository}"
    lines = [f"Would be uploaded to the {where}:" if done.dry_run else f"Uploaded to the {where}: {done.address}"]
    lines += [f"  {size:>10,} bytes  {name}" for name, size in done.files.items()]
    return print_result(args, done.as_dict(), *lines, *(["", done.card] if done.dry_run else []))


def versions_list(args: argparse.Namespace) -> int:
    from ftlab.data.versions import history

    workspace = Workspace.open(args.workspace)
    versions = history(workspace)
    lines = [version_line(version) for version in versions] or [f"No versions yet in {workspace.versions_folder}."]
    return print_result(args, {"versions": [version.as_dict() for version in versions]}, *lines)


def versions_create(args: argparse.Namespace) -> int:
    from ftlab.data.versions import create

    workspace = Workspace.open(args.workspace)
    version = create(read_data(args), workspace, who=args.who, why=args.why)
    return print_result(args, version.as_dict() | {"source": version.source}, version_line(version))


def versions_show(args: argparse.Namespace) -> int:
    from ftlab.data.versions import find, train_command, used_by

    workspace = Workspace.open(args.workspace)
    version = find(args.version, workspace)
    runs = used_by(version, workspace)
    lines = [
        version_line(version),
        f"parent     {version.parent or 'none: read from the source'}",
        f"content    {version.content}",
        *[f"source     {entry['name']} ({entry['sha256'] or entry.get('revision')})" for entry in version.origin],
        f"use it     {train_command(version.source, workspace)}",
        f"runs       {', '.join(runs) or 'none yet'}",
    ]
    return print_result(args, version.as_dict() | {"source": version.source, "runs": runs}, *lines)


def versions_diff(args: argparse.Namespace) -> int:
    from ftlab.data.curation import changed_cells, diff
    from ftlab.data.versions import find

    workspace = Workspace.open(args.workspace)
    before, after = find(args.before, workspace), find(args.after, workspace)
    changes = diff(before, after)
    lines = [str(changes)]
    for row, cells in changed_cells(before, after, changes.changed[:5]).items():
        for column, (old, new) in cells.items():
            lines.append(f"  row {row}, {column}: {_short(old)} -> {_short(new)}")
    return print_result(args, changes.as_dict(), *lines)


def versions_delete(args: argparse.Namespace) -> int:
    from ftlab.data.versions import delete

    workspace = Workspace.open(args.workspace)
    deleted = delete(args.version, workspace, force=args.force, who=args.who, why=args.why)
    return print_result(args, dict(deleted.as_dict()), f"Deleted the rows of {deleted.id}; its record stays.")


def read_data(args: argparse.Namespace, **settings: Any) -> DataConfig:
    """The data that the command line names, with further `settings`. Raises InputError as `build_config` does."""
    changes = [text if text.startswith("data.") else f"data.{text}" for text in overrides(args)]
    return build_config({"data": {"source": args.source, **settings}}, changes).data


def version_line(version: Any) -> str:
    """A version on one line: id, time, rows, and what was done by whom."""
    rows = ", ".join(f"{count} {name}" for name, count in version.rows.items())
    if version.excluded:
        rows += f", {version.excluded} excluded"
    deleted = " DELETED" if version.deleted else ""
    why = f" ({version.why})" if version.why else ""
    return f"{version.id:<40} {version.when[:16]}  {rows}  {version.action} by {version.who}{why}{deleted}"


def _short(value: Any) -> str:
    from ftlab.errors import shorten

    return shorten(value, 60)
