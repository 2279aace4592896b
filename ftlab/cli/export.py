"""`python -m ftlab export` and `push`: hand the result of a run over."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.cli.output import Progress, print_json, say
from ftlab.errors import InputError
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]


def register(commands: Any, add: Add) -> None:
    """Add the commands; `add(group, name, command, help)` is the one of `main`."""
    one = add(commands, "export", export, "hand the model over: a folder that loads without ftlab, verified")
    one.add_argument("run", help="id of the run, the beginning of it, or `last`")
    one.add_argument("--to", type=Path, metavar="DIR", help="write it there (a new folder, or an earlier export)")
    one.add_argument("--merge", action="store_true", help="one whole model instead of an adapter for its base")
    one.add_argument("--dtype", metavar="FORMAT", help="of a whole model: float32, float16 or bfloat16")
    one.add_argument("--licence", metavar="ID", help="for the model card (default: what the base's card says)")
    one.add_argument("--check", type=Path, metavar="DIR", help="only compare an earlier export with the run")


def export(given: argparse.Namespace) -> int:
    from ftlab.sharing.export import export_run, read_shape
    from ftlab.sharing.verify import lines, verify

    run = Workspace.open(given.workspace).run(given.run)
    progress = Progress()
    if given.check is not None:
        folder = given.check.expanduser().absolute()
        finding = verify(run, folder, read_shape(folder), tell=progress)
        progress.close("")
        for line in lines(finding):
            say(line)
        if given.json:
            print_json({"run": run.id, "folder": str(folder), "verification": finding})
        return 0
    if given.to is None:
        raise InputError("Where to export to is not said", allowed="--to DIR")
    done = export_run(
        run,
        given.to,
        kind="merged" if given.merge else "adapter",
        dtype=given.dtype,
        licence=given.licence,
        tell=progress,
    )
    progress.close("")
    for line in [*lines(done.verification), *done.notes]:
        say(line)
    say(f"{len(done.files)} files, {done.size / 1e6:,.1f} MB; README.md is the model card and says how to load it.")
    if given.json:
        print_json(done.as_dict())
    else:
        print(done.folder)
    return 0
