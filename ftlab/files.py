"""Files that other processes read while they are written, and locks between processes."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftlab.parsing import parse_json, whole


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step: a reader sees the old or the new text, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(whole(text))  # a name or a remark may hold half a character, which no file takes
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The value in `path`, or `default` when there is no such file."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(whole(json.dumps(row, ensure_ascii=False, default=str)) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of `path`; none when it is missing. A last line still being written is left out."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        # Not splitlines, which also ends a line at rare characters that JSON leaves in a text.
        for line in path.read_bytes().split(b"\n"):
            # UnicodeDecodeError is one: a cut may go through a character.
            with contextlib.suppress(ValueError):
                rows.append(parse_json(line.decode("utf-8")))
    return rows


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`; yields False when it is taken and `wait` is off.

    The operating system lets go of the lock when its process dies, so a crash leaves nothing to clean up.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
