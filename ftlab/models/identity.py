"""Which weights a folder holds: equal identities, equal answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any


def weights_sha256(folder: Path) -> dict[str, str]:
    """The hash of every safetensors file in `folder`, by name."""
    hashes = {}
    for file in sorted(folder.glob("*.safetensors")):
        found = file.stat()
        hashes[file.name] = _sha256(file, found.st_size, found.st_mtime_ns, found.st_ino)
    return hashes


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int, inode: int) -> str:
    """One evaluation asks for the same hash several times, and a whole model takes minutes to read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_made_of(result: Mapping[str, Any], folder: Path) -> bool:
    """Whether a stored `result` is of the weights that lie in `folder` now, by the `weights_sha256` that it kept; at
    which strength it says itself (`strength`).

    Results of earlier versions kept none: then by their times, which a copy of the folder may have changed.
    """
    if (kept := result.get("weights_sha256")) is not None:
        return kept == weights_sha256(folder)
    newest = max((file.stat().st_mtime for file in folder.glob("*.safetensors")), default=0.0)
    return float(result.get("created") or 0) >= newest - 1
