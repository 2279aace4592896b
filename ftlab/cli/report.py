"""`python -m ftlab report`: one page on a run, for the person who decides."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from ftlab.cli.output import print_json
from ftlab.cli.parser import Parser, add_price, add_run, define
from ftlab.core.files import disk_full
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError


def add_report(parser: Parser) -> None:
    define(parser, report, "report last --to report.html")
    add_run(parser)
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a model card")
    parser.add_argument("--to", type=Path, metavar="FILE", help="file to write (default: in the folder of the run)")
    add_price(parser)


def report(args: argparse.Namespace) -> int:
    from ftlab.report.markdown import write_markdown
    from ftlab.report.report import write_report

    run = Workspace.open(args.workspace).run(args.run)
    write = write_markdown if args.markdown else write_report
    path = write(run, price_per_hour=args.price)
    if args.to is not None:
        path = _copied(path, args.to.expanduser())
    if args.json:
        comparison = run.comparison()
        assert comparison is not None  # the report was written of it
        print_json({"run": run.id, "report": str(path), "verdict": comparison["verdict"]["text"]})
    else:
        print(path)
    return 0


def _copied(path: Path, target: Path) -> Path:
    """Copy `path` to `target`, or into `target` if that is a folder; returns the copy."""
    target = target / path.name if target.is_dir() else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copyfile(path, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise disk_full(error, target.absolute()) or FtlabError(
            f"The report cannot be written: {error.strerror}", why=str(target)
        ) from error
    return target
