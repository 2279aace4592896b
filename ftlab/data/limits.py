"""Size limits of data files, compressed and expanded. Uploads are not trusted.

All limits on data are here. They are set above the largest realistic data: two million stories (TinyStories, 1.9 GB), a
million labeled sentences (20 MB as Parquet), 200,000 rows that share a system prompt of 2 kB (400 MB of text in a few
megabytes), a book in one row (5 MB), a sheet with all 16,384 columns of Excel.
"""

from __future__ import annotations

import os
import re
from collections import Counter

from ftlab.core.words import byte_size
from ftlab.errors import InputError

_ENVIRONMENT_VARIABLE = "FTLAB_MAX_UPLOAD"
DEFAULT_BYTES = 2 << 30
HIGHEST_GROWTH = 20  # expanded to compressed size; Parquet and zip compress text about 3 to 10 times
GROWTH_COUNTS_FROM = 512 << 20  # bytes; any file may expand up to here
LONGEST_ROW = 32 << 20  # bytes of a row or line
MOST_COLUMNS = 20_000
ROWS_COUNT_FROM = 1_000_000  # rows that any file may have; beyond that, 16 bytes per row are required
_ROW_BYTES = 16
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def largest_file() -> int:
    """The size limit of a file in bytes, also after expansion: `$FTLAB_MAX_UPLOAD` (500M, 4G), else 2 GiB."""
    setting = os.environ.get(_ENVIRONMENT_VARIABLE, "").strip()
    if not setting:
        return DEFAULT_BYTES
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]?)I?B?", setting.upper())
    if match is None or int(match[1]) == 0:
        raise InputError(
            f"{_ENVIRONMENT_VARIABLE} is not a size", given=setting, allowed="a number of bytes, 500M or 4G"
        )
    return int(match[1]) * _UNITS[match[2]]


def check_size(name: str, size: int) -> None:
    """Raises InputError if `size` bytes exceed the limit."""
    limit = largest_file()
    if size > limit:
        raise too_large(name, byte_size(size), limit)


def most_expanded(size: int) -> int:
    """The bytes that a file of `size` bytes may expand to: 20 times its size, or half a GB. If `$FTLAB_MAX_UPLOAD` is
    set, the file is trusted and only that limit applies."""
    limit = largest_file()
    return limit if _is_set() else min(limit, max(GROWTH_COUNTS_FROM, HIGHEST_GROWTH * size))


def check_expanded(name: str, expanded: int, size: int) -> None:
    """Raises InputError if a file of `size` bytes must not expand to `expanded` bytes."""
    limit = most_expanded(size)
    if expanded > limit:
        raise too_large(name, f"{byte_size(expanded)} or more", limit, unpacked=True)


def check_rows(name: str, rows: int, size: int) -> None:
    """Raises InputError if a file of `size` bytes has more than a million rows and more than one per 16 bytes."""
    most = max(ROWS_COUNT_FROM, (largest_file() if _is_set() else size) // _ROW_BYTES)
    if rows > most:
        raise InputError(
            f"{name} has too many rows for its size",
            given=f"{rows:,} rows or more in {byte_size(size)}",
            allowed=f"at most {most:,}",
            try_=f"take a part of the rows, or raise the limit with {_ENVIRONMENT_VARIABLE}=8G if you trust the file",
        )


def check_columns(name: str, count: int) -> None:
    """Raises InputError if there are more columns than any spreadsheet has."""
    if count > MOST_COLUMNS:
        raise InputError(
            f"{name} has too many columns",
            given=f"{count:,} or more",
            allowed=f"at most {MOST_COLUMNS:,}",
            try_="keep the text columns; values that differ by row belong in cells, not in column names",
        )


def check_row(where: str, size: int) -> None:
    """Raises InputError if one row (or line) is longer than any book."""
    if size > LONGEST_ROW:
        raise InputError(
            f"{where} is too long",
            given=byte_size(size),
            allowed=f"at most {byte_size(LONGEST_ROW)} in a row",
            try_="write one row per line, and split long documents",
        )


def no_name_twice(name: str, columns: list[str]) -> None:
    """Raises InputError for duplicate column names."""
    twice = sorted(column for column, times in Counter(columns).items() if times > 1)
    if twice:
        raise InputError(f"{name} has duplicate column names", given=", ".join(twice[:20]))


def _is_set() -> bool:
    return bool(os.environ.get(_ENVIRONMENT_VARIABLE, "").strip())


def too_large(name: str, size: str, limit: int, *, unpacked: bool = False) -> InputError:
    return InputError(
        f"{name} is too large{' when unpacked' if unpacked else ''}",
        given=size,
        allowed=f"at most {byte_size(limit)}",
        try_=f"take a part of the data, or raise the limit with {_ENVIRONMENT_VARIABLE}=8G if you trust the file",
    )
