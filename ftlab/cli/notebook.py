"""`python -m ftlab notebook`: a notebook that repeats a run exactly."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.cli.output import print_json
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `add(group, name, command, help)` is the one of `cli`."""
    one = add(commands, "notebook", notebook, "write a notebook that repeats a run exactly and compares its figures")
    one.add_argument("run", help="id of the run, the beginning of it, or `last`")
    one.add_argument("--to", type=Path, metavar="FILE", help="write it there (default: the run's own folder)")


def notebook(given: argparse.Namespace) -> int:
    from ftlab.sharing.notebook import write_notebook

    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run)
    path = write_notebook(run, workspace, given.to)
    if given.json:
        print_json({"run": run.id, "notebook": str(path)})
    else:
        print(path)
    return 0
