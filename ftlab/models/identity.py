"""Which weights a folder holds: equal identities, equal answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def weights_sha256(folder: Path) -> dict[str, str]:
    """The hash of every safetensors file in `folder`, by name."""
    hashes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def is_made_of(result: Mapping[str, Any], folder: Path) -> bool:
    """Whether a stored `result` is of the weights that lie in `folder` now, by the `weights_sha256` that it kept.

    Results of earlier versions kept none: then by their times, which a copy of the folder may have changed.
    """
    if (kept := result.get("weights_sha256")) is not None:
        return kept == weights_sha256(folder)
    newest = max((file.stat().st_mtime for file in folder.glob("*.safetensors")), default=0.0)
    return float(result.get("created") or 0) >= newest - 1
