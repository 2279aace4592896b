"""How large a file may be, packed and unpacked. What somebody uploads is not trusted.

All limits of data stand here. They were set above the largest real data that came to mind: two million stories
(TinyStories, 1.9 GB), a million labelled sentences (20 MB as Parquet), 200,000 rows that share a system prompt of 2 kB
(400 MB of text in some megabytes), a book in one row (5 MB), a sheet with all columns that Excel has (16,384).
"""

from __future__ import annotations

import os
import re
from collections import Counter

from ftlab.errors import InputError

_ENVIRONMENT_VARIABLE = "FTLAB_MAX_UPLOAD"
DEFAULT_BYTES = 2 << 30
HIGHEST_GROWTH = 20  # text read to bytes of the file; Parquet and zip pack text about 3 to 10 times
GROWTH_COUNTS_FROM = 512 << 20  # bytes; a small file may grow as it likes up to here
LONGEST_ROW = 32 << 20  # bytes of a row, or of a line
MOST_COLUMNS = 20_000
ROWS_COUNT_FROM = 1_000_000  # rows that any file may have; above, it has 16 bytes for each
_ROW_BYTES = 16
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def largest_file() -> int:
    """Bytes that a file may have, also after unpacking: `$FTLAB_MAX_UPLOAD` (500M, 4G), else 2 GiB."""
    setting = os.environ.get(_ENVIRONMENT_VARIABLE, "").strip()
    if not setting:
        return DEFAULT_BYTES
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]?)I?B?", setting.upper())
    if match is None or int(match[1]) == 0:
        raise InputError(
            f"{_ENVIRONMENT_VARIABLE} is not a size", given=setting, allowed="a number of bytes, 500M or 4G"
        )
    return int(match[1]) * _UNITS[match[2]]


def check_size(name: str, size: int, *, unpacked: bool = False) -> None:
    """Raises InputError when `size` bytes are more than may be read."""
    limit = largest_file()
    if size > limit:
        raise too_large(name, f"{readable(size)}", limit, unpacked=unpacked)


def most_expanded(size: int) -> int:
    """Bytes of text that may be read out of a file of `size` bytes: 20 times as much, or half a GB; whoever sets
    `$FTLAB_MAX_UPLOAD` trusts the file, and only that counts."""
    limit = largest_file()
    return limit if _is_set() else min(limit, max(GROWTH_COUNTS_FROM, HIGHEST_GROWTH * size))


def check_expanded(name: str, expanded: int, size: int) -> None:
    """Raises InputError when `expanded` bytes are more than may be read out of a file of `size` bytes."""
    limit = most_expanded(size)
    if expanded > limit:
        raise too_large(name, f"{readable(expanded)} or more", limit, unpacked=True)


def check_rows(name: str, rows: int, size: int) -> None:
    """Raises InputError when a file of `size` bytes has more than a million rows and more than one for 16 bytes."""
    most = max(ROWS_COUNT_FROM, (largest_file() if _is_set() else size) // _ROW_BYTES)
    if rows > most:
        raise InputError(
            f"{name} has too many rows for its size",
            given=f"{rows:,} rows or more in {readable(size)}",
            allowed=f"at most {most:,}",
            try_=f"take a part of the rows, or raise the limit with {_ENVIRONMENT_VARIABLE}=8G when you trust the file",
        )


def check_columns(name: str, count: int) -> None:
    """Raises InputError when there are more columns than any sheet has."""
    if count > MOST_COLUMNS:
        raise InputError(
            f"{name} has too many columns",
            given=f"{count:,} or more",
            allowed=f"at most {MOST_COLUMNS:,}",
            try_="keep the columns with text; what differs from row to row belongs into cells, not into names",
        )


def check_row(where: str, size: int) -> None:
    """Raises InputError when one row (or line) is longer than any book."""
    if size > LONGEST_ROW:
        raise InputError(
            f"{where} is too long",
            given=readable(size),
            allowed=f"at most {readable(LONGEST_ROW)} in a row",
            try_="write one row per line, and part long documents",
        )


def no_name_twice(name: str, columns: list[str]) -> None:
    """Raises InputError for columns that share a name."""
    twice = sorted(column for column, times in Counter(columns).items() if times > 1)
    if twice:
        raise InputError(f"{name} has more than one column of the same name", given=", ".join(twice[:20]))


def _is_set() -> bool:
    return bool(os.environ.get(_ENVIRONMENT_VARIABLE, "").strip())


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
