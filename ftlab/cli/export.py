"""`python -m ftlab export`, `push` and `notebook`: hand over the result of a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import Progress, print_json, say
from ftlab.cli.parser import Parser, add_run, add_strength, define
from ftlab.core.words import byte_size, counted
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError

if TYPE_CHECKING:
    from ftlab.cli.json_forms import CheckedForm, NotebookForm


def add_export(parser: Parser) -> None:
    define(parser, export, "export last --to tickets-model --merge")
    add_run(parser)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder to write (a new one, or an earlier export)")
    parser.add_argument("--merge", action="store_true", help="write one whole model instead of an adapter for its base")
    parser.add_argument(
        "--to-gguf",
        metavar="TYPE",
        help="write a GGUF file for llama.cpp and Ollama: f16, q8_0, q4_k_m ...",
    )
    _add_model(parser)
    parser.add_argument("--check", type=Path, metavar="DIR", help="only compare an earlier export with the run")


def add_push(parser: Parser) -> None:
    define(parser, push, "push last me/tickets --merged --dry-run")
    add_run(parser)
    parser.add_argument("repository", metavar="OWNER/NAME", help="model repository on the Hub; created if missing")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--adapter", action="store_true", help="upload the adapter (the default)")
    kind.add_argument("--merged", action="store_true", help="upload one whole model")
    _add_model(parser)
    parser.add_argument("--data", metavar="OWNER/NAME", help="also upload the data of the run, as this data set")
    parser.add_argument("--report", action="store_true", help="also upload the report, which quotes held-out rows")
    parser.add_argument("--public", action="store_true", help="make it public (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be uploaded, and upload nothing")
    parser.add_argument("--yes", action="store_true", help="upload without asking")


def _add_model(parser: Parser) -> None:
    parser.add_argument(
        "--dtype", metavar="FORMAT", help="number format of a whole model: float32, float16 or bfloat16"
    )
    add_strength(parser)
    parser.add_argument("--licence", metavar="ID", help="license for the model card (default: that of the base)")


def add_notebook(parser: Parser) -> None:
    define(parser, notebook, "notebook last --to repeat.ipynb")
    add_run(parser)
    parser.add_argument("--to", type=Path, metavar="FILE", help="file to write (default: in the folder of the run)")


def export(args: argparse.Namespace) -> int:
    from ftlab.export.export import export_run, read_shape
    from ftlab.export.verify import lines, verify

    run = Workspace.open(args.workspace).run(args.run)
    progress = Progress()
    if args.check is not None:
        folder = args.check.expanduser().absolute()
        verification = verify(run, folder, read_shape(folder), tell=progress)
        progress.close("")
        for line in lines(verification):
            say(line)
        if args.json:
            value: CheckedForm = {"run": run.id, "folder": str(folder), "verification": verification}
            print_json(value)
        return 0
    if args.to is None:
        raise InputError("No folder to export to", try_="--to DIR")
    done = export_run(
        run,
        args.to,
        kind="gguf" if args.to_gguf else "merged" if args.merge else "adapter",
        gguf=args.to_gguf and args.to_gguf.lower(),
        dtype=args.dtype,
        strength=args.strength,
        licence=args.licence,
        tell=progress,
    )
    progress.close("")
    for line in [*lines(done.verification), *done.notes]:
        say(line)
    size = f"{counted(len(done.files), 'file')}, {byte_size(done.size)}"
    say(f"{size}. README.md is the model card and shows how to load it.")
    if args.json:
        print_json(done)
    else:
        print(done.folder)
    return 0


def push(args: argparse.Namespace) -> int:
    """Export, show what would be uploaded, ask, and upload."""
    from ftlab.core.hub import check_name
    from ftlab.export.export import Kind, fresh_export
    from ftlab.export.push import push as upload
    from ftlab.export.verify import summary

    check_name(args.repository, "model")
    if args.data:
        check_name(args.data, "data set")
    run = Workspace.open(args.workspace).run(args.run)
    progress = Progress()
    kind: Kind = "merged" if args.merged else "adapter"
    settings: dict[str, Any] = {"dtype": args.dtype, "strength": args.strength, "licence": args.licence}
    exported = fresh_export(run, kind, **settings, tell=progress)
    progress.close("")
    say(summary(exported.verification))
    settings = {"data": args.data, "report": args.report, "private": not args.public}
    planned = upload(run, exported, args.repository, dry_run=True, **settings)
    for line in _upload_lines(planned):
        say(line)
    if args.dry_run:
        if args.json:
            print_json(planned)
        return 0
    if not args.yes:
        if args.json or not sys.stdin.isatty():
            raise InputError("Nothing was uploaded: the upload needs your confirmation", try_="add --yes")
        if input("Upload it? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    done = upload(run, exported, args.repository, tell=progress, **settings)
    progress.close("")
    for note in done.notes:
        say(note)
    if args.json:
        print_json(done)
    else:
        print(done.address)
    return 0


def _upload_lines(upload: Any) -> list[str]:
    """What an upload sends, a line for each file with its size in bytes."""
    access = "private" if upload.private else "public"
    lines = [f"To the {access} model {upload.repository}:"]
    lines += [f"  {size:>14,}  {name}" for name, size in upload.files.items()]
    if upload.data:
        lines += [f"To the {access} data set {upload.data.repository}:"]
        lines += [f"  {size:>14,}  {name}" for name, size in upload.data.files.items()]
    total = sum(upload.files.values()) + (sum(upload.data.files.values()) if upload.data else 0)
    return [*lines, f"  {total:>14,}  bytes in total", *upload.notes]


def notebook(args: argparse.Namespace) -> int:
    from ftlab.report.notebook import write_notebook

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run)
    path = write_notebook(run, workspace, args.to)
    if args.json:
        value: NotebookForm = {"run": run.id, "notebook": str(path)}
        print_json(value)
    else:
        print(path)
    return 0
