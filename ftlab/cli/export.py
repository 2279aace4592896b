"""`python -m ftlab export` and `push`: hand the result of a run over."""

from __future__ import annotations

import argparse
import sys
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
    one.add_argument(
        "--strength", type=float, metavar="S", help="of what training changed (default: what was chosen, else 1)"
    )
    one.add_argument("--licence", metavar="ID", help="for the model card (default: what the base's card says)")
    one.add_argument("--check", type=Path, metavar="DIR", help="only compare an earlier export with the run")
    one = add(commands, "push", push, "upload the model to the Hugging Face Hub: private, and shown first")
    one.add_argument("run", help="id of the run, the beginning of it, or `last`")
    one.add_argument("repository", metavar="OWNER/NAME", help="the model on the Hub; made when it is not there")
    kind = one.add_mutually_exclusive_group()
    kind.add_argument("--adapter", action="store_true", help="the adapter (the default)")
    kind.add_argument("--merged", action="store_true", help="one whole model")
    one.add_argument("--dtype", metavar="FORMAT", help="of a whole model: float32, float16 or bfloat16")
    one.add_argument(
        "--strength", type=float, metavar="S", help="of what training changed (default: what was chosen, else 1)"
    )
    one.add_argument("--data", metavar="OWNER/NAME", help="also upload the data of the run, as this data set")
    one.add_argument("--report", action="store_true", help="also upload the report, which quotes held-out rows")
    one.add_argument("--public", action="store_true", help="everybody may read it (default: only you)")
    one.add_argument("--licence", metavar="ID", help="for the model card (default: what the base's card says)")
    one.add_argument("--dry-run", action="store_true", help="only show what would be uploaded")
    one.add_argument("--yes", action="store_true", help="upload without asking")


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
        strength=given.strength,
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


def push(given: argparse.Namespace) -> int:
    from ftlab.hub import check_name
    from ftlab.sharing.export import fresh_export
    from ftlab.sharing.push import push as upload
    from ftlab.sharing.verify import said

    check_name(given.repository, "model")
    if given.data:
        check_name(given.data, "data set")
    run = Workspace.open(given.workspace).run(given.run)
    progress = Progress()
    kind = "merged" if given.merged else "adapter"
    settings: dict[str, Any] = {"dtype": given.dtype, "strength": given.strength, "licence": given.licence}
    made = fresh_export(run, kind, **settings, tell=progress)
    progress.close("")
    say(said(made.verification))
    settings = {"data": given.data, "report": given.report, "private": not given.public}
    shown = upload(run, made, given.repository, dry_run=True, **settings)
    for line in _shown(shown):
        say(line)
    if given.dry_run:
        if given.json:
            print_json(shown.as_dict())
        return 0
    if not given.yes:
        if given.json or not sys.stdin.isatty():
            raise InputError("Nothing was uploaded: it needs a yes", try_="add --yes if that is what you want")
        if input("Upload it? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    sent = upload(run, made, given.repository, tell=progress, **settings)
    progress.close("")
    for note in sent.notes:
        say(note)
    if given.json:
        print_json(sent.as_dict())
    else:
        print(sent.address)
    return 0


def _shown(upload: Any) -> list[str]:
    """What would be uploaded, in lines."""
    who = "only you can read it" if upload.private else "everybody can read it"
    lines = [f"To the model {upload.repository} ({who}):"]
    lines += [f"  {size:>14,}  {name}" for name, size in upload.files.items()]
    if upload.data:
        lines += [f"To the data set {upload.data.repository} ({who}):"]
        lines += [f"  {size:>14,}  {name}" for name, size in upload.data.files.items()]
    total = sum(upload.files.values()) + (sum(upload.data.files.values()) if upload.data else 0)
    return [*lines, f"  {total:>14,}  bytes in all", *upload.notes]
