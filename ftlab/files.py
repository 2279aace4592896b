"""Files that other processes read while they are written, and locks between processes."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ftlab.errors import InputError
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


_reach: ContextVar[tuple[Path, ...] | None] = ContextVar("ftlab_reach", default=None)


@contextlib.contextmanager
def limited_to(folders: Sequence[Path] | None) -> Iterator[None]:
    """Within this, whoever asks may name paths below `folders` only (`check_reach`). None changes nothing.

    It holds for the thread it is entered in, where what was asked is read; what is stored already is not asked for.
    """
    token = _reach.set(tuple(folder.resolve() for folder in folders)) if folders is not None else None
    try:
        yield
    finally:
        if token is not None:
            _reach.reset(token)


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """Within this, nothing is limited: for what was checked, or stored, before."""
    token = _reach.set(None)
    try:
        yield
    finally:
        _reach.reset(token)


def check_reach(asked: Any) -> None:
    """Raise InputError when `asked`, or a text in it at any depth, is a path that whoever asks may not open."""
    folders = _reach.get()
    if folders is None:
        return
    if isinstance(asked, Mapping):
        asked = list(asked.values())
    if isinstance(asked, (list, tuple)):
        for one in asked:
            check_reach(one)
    elif isinstance(asked, (str, Path)):
        # Some settings hold several names, with commas.
        for one in {str(asked).strip(), *(part.strip() for part in str(asked).split(","))}:
            if _leads_out(one, folders):
                raise InputError(
                    "An app that others can reach opens files of its workspace only",
                    given=one[:200],
                    allowed=f"a file below {folders[0]}",
                    try_="upload the file, or put it there",
                )


def _leads_out(text: str, folders: tuple[Path, ...]) -> bool:
    try:
        path = Path(text).expanduser()
        named = path.is_absolute() or text.startswith(("~", "./", "..")) or ".." in path.parts
        if not text or "\n" in text or not (named or path.exists()):
            return False
        return not any(path.resolve().is_relative_to(folder) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # too long for a path, no such user
        return text.startswith(("/", "~"))
