"""`python -m ftlab report`: one page on a run, for whoever decides."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.cli.output import print_json
from ftlab.errors import FtlabError, InputError
from ftlab.files import disk_full
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]


def register(commands: Any, add: Add) -> None:
    """Add the command; `add(group, name, command, help)` is the one of `cli`."""
    one = add(commands, "report", report, "write the report on a run: one page of HTML, or Markdown")
    one.add_argument("run", help="id of the run, the beginning of it, or `last`")
    one.add_argument("--markdown", action="store_true", help="Markdown, for a model card")
    one.add_argument("--to", type=Path, metavar="FILE", help="write it there (default: the run's own folder)")
    one.add_argument("--price", type=float, metavar="PER_HOUR", help="price of the machine per hour, to say the cost")


def report(given: argparse.Namespace) -> int:
    from ftlab.sharing.report import write_report
    from ftlab.sharing.report_markdown import write_markdown

    if given.price is not None and given.price < 0:
        raise InputError("The price per hour is negative", given=given.price, allowed="0 or more")
    run = Workspace.open(given.workspace).run(given.run)
    write = write_markdown if given.markdown else write_report
    path = write(run, price_per_hour=given.price)
    if given.to is not None:
        path = _copied(path, given.to.expanduser())
    if given.json:
        comparison = run.comparison() or {}
        print_json({"run": run.id, "report": str(path), "verdict": comparison["verdict"]["text"]})
    else:
        print(path)
    return 0


def _copied(path: Path, target: Path) -> Path:
    """A copy of `path` at `target`, or in it where that is a folder."""
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
