"""How large a file may be, packed and unpacked. What somebody uploads is not trusted."""

from __future__ import annotations

import os
import re

from ftlab.errors import InputError

_ENVIRONMENT_VARIABLE = "FTLAB_MAX_UPLOAD"
DEFAULT_BYTES = 2 << 30
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def largest_file() -> int:
    """Bytes that a file may have, also after unpacking: `$FTLAB_MAX_UPLOAD` (500M, 4G), else 2 GiB."""
    given = os.environ.get(_ENVIRONMENT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_BYTES
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]?)I?B?", given.upper())
    if match is None or int(match[1]) == 0:
        raise InputError(f"{_ENVIRONMENT_VARIABLE} is not a size", given=given, allowed="a number of bytes, 500M or 4G")
    return int(match[1]) * _UNITS[match[2]]


def check_size(name: str, size: int, *, unpacked: bool = False) -> None:
    """Raises InputError when `size` bytes are more than may be read."""
    limit = largest_file()
    if size > limit:
        raise too_large(name, f"{readable(size)}", limit, unpacked=unpacked)


def too_large(name: str, size: str, limit: int, *, unpacked: bool = False) -> InputError:
    return InputError(
        f"{name} is too large{' when it is unpacked' if unpacked else ''}",
        given=size,
        allowed=f"at most {readable(limit)}",
        try_=f"take a part of the data, or raise the limit with {_ENVIRONMENT_VARIABLE}=8G when you trust the file",
    )


def readable(size: int) -> str:
    """`size` bytes for people: 1.5 GB."""
    for unit, power in (("GB", 30), ("MB", 20), ("kB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit}"
    return f"{size} bytes"
