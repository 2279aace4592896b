"""Which weights a folder holds: equal identities, equal answers."""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_sha256(folder: Path) -> dict[str, str]:
    """The hash of every safetensors file in `folder`, by name."""
    hashes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes
