"""The names of splits."""

from __future__ import annotations

import re

SPLITS = ("train", "validation", "test")

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(name: str) -> str | None:
    """train, validation or test for a common split name (`dev`, `train-00000-of-00001`); None for others."""
    return _NAMES.get(re.split(r"[-_.]", name.lower(), maxsplit=1)[0])
