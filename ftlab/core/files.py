"""Files that other processes read while they are written, locks between processes, and errors that explain damage.

Reading a file that ftlab stored returns its value, or raises DamagedFile with the file and a remedy, also for a missing
key. Writing to a full disk raises the error of `disk_full`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ftlab.core.parsing import DEEPEST, check_depth, mended
from ftlab.core.parsing import whole as in_unicode
from ftlab.core.words import byte_size
from ftlab.errors import FtlabError, InputError, shorten

_AGAIN = "the weights are in a separate file: evaluate the run again (python -m ftlab evaluate RUN)"
# The remedy for a damaged file of a run, by its name.
_STILL = {
    "status.json": "the trained weights are in separate files: evaluate the run, or continue it with runs resume",
    "config.yaml": "restore it from a backup or an export (ftlab/config.yaml), or delete the run",
    "adapter_config.json": "continue the run from its last checkpoint (runs resume), or delete it",
    "judged.json": "run the judge again, or delete the file",
    "queue.json": "delete the file: the run then queues by its start time",
    "manifest.json": "the scores are intact, but training cannot continue: restore the file, or start a new run",
    "environment.json": "delete the file: only the description of the machine is lost",
    "strength.json": "choose the strength again (strength RUN --set S), or delete the file to use the run as trained",
    "verification.json": "delete the file: only the check after training is lost",
    "arena.sqlite": "restore it from a backup, or move it away: the app then starts with an empty one",
} | dict.fromkeys(
    ("comparison.json", "predictions.jsonl", "probes.jsonl", "preferences.json",
     "before_after.json", "before_after.jsonl", "rewards.json", "reward_answers.jsonl"), _AGAIN
)  # fmt: skip
_MENDED = "restore it from a backup, or delete it"


class DamagedFile(FtlabError):
    """A file that ftlab wrote can no longer be read. Attributes: `path`, and `how` it is damaged (in words)."""

    def __init__(self, path: Path, how: str):
        self.path, self.how = path, how
        super().__init__(f"{path.name} is damaged: {how}", why=str(path), try_=_STILL.get(path.name, _MENDED))


class LacksKey(DamagedFile, KeyError):
    """A stored value lacks a required key."""

    __str__ = Exception.__str__  # not that of KeyError, which quotes


class Stored(dict[str, Any]):
    """A mapping read from a file; a missing key is reported as damage to that file."""

    __slots__ = ("path",)
    path: Path

    def __missing__(self, key: str) -> Any:
        raise LacksKey(self.path, f"the key {shorten(repr(key), 60)} is missing")

    def with_values(self, values: Mapping[str, Any]) -> Stored:
        """`values` as read from the same file."""
        made = Stored(values)
        made.path = self.path
        return made


def write_text(path: Path, text: str) -> None:
    """Replace `path` atomically: a reader sees the old or the new text, never part of one."""
    write_together({path: text})


def write_together(texts: Mapping[Path, str]) -> None:
    """Replace several files, in order, once all texts are on the disk: if one does not fit, no file changes."""
    written: dict[Path, str] = {}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, written[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(in_unicode(text))  # a name may contain a lone surrogate, which cannot be encoded
                file.flush()
                os.fsync(file.fileno())
        with _uninterrupted():
            for path, temporary in written.items():
                os.replace(temporary, path)
    except BaseException:
        for temporary in written.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file to, which then replaces `path` atomically; after an error `path` is as it was."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within it a stop (jobs.ended_by) waits: files that belong together are all old or all new."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n"


def read_json(path: Path, default: Any = None, *, kind: type = dict) -> Any:
    """The value in `path`, or `default` when there is no such file.

    Raises DamagedFile when the file cannot be read, is not JSON, or its value is not of `kind`.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return default
    except OSError as error:
        raise _unreadable(path, error) from None
    value = _parsed(path, raw)
    if not isinstance(value, kind):
        raise DamagedFile(path, f"it contains {_KINDS.get(type(value), 'another value')}, not {_KINDS[kind]}")
    return value


def read_cached(path: Path) -> Any:
    """As `read_json`, for files that can be recomputed: None also when the file is damaged."""
    with contextlib.suppress(DamagedFile):
        return read_json(path)
    return None


_KINDS = {dict: "a mapping", Stored: "a mapping", list: "a list", str: "a text", int: "a number", float: "a number"}
_KINDS |= {bool: "true or false", type(None): "null"}


def _unreadable(path: Path, error: OSError) -> DamagedFile:
    return DamagedFile(path, "a folder is in its place" if path.is_dir() else f"it cannot be read ({error.strerror})")


def _parsed(path: Path, raw: bytes) -> Any:
    def keep(pairs: list[tuple[str, Any]]) -> Stored:
        value = Stored(pairs)
        value.path = path
        return value

    if not raw.strip(b"\0 \r\n\t"):
        raise DamagedFile(path, "it contains only zero bytes" if b"\0" in raw else "it is empty")
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=keep)
        if raw.count(b"[") + raw.count(b"{") > DEEPEST:
            check_depth(value)
        return mended(value, text)[0]
    except UnicodeDecodeError:
        raise DamagedFile(path, "it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip())
        how = "it is truncated" if cut else f"it is not valid JSON from line {error.lineno} on"
        raise DamagedFile(path, how) from None
    except RecursionError:
        raise DamagedFile(path, "it is nested too deeply") from None
    except ValueError as error:
        deep = "nested" in str(error)
        how = "it is nested too deeply" if deep else "it contains a number with too many digits"
        raise DamagedFile(path, how) from None


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, jsonl_text(rows))


def jsonl_text(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(in_unicode(json.dumps(row, ensure_ascii=False, default=str)) + "\n")


def file_name(name: str, otherwise: str) -> str:
    """`name` without what file systems refuse; `otherwise` if nothing is left."""
    return re.sub(r"[^\w .,()&+-]+", "-", name).strip(" .-") or otherwise


def keep_copy(path: Path, folder: Path) -> Path:
    """A copy of an uploaded file in `folder`, under its own name. Each content has its own folder, so the same file is
    stored once."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    target = folder / content / f"{file_name(path.stem, 'data')[:60]}{path.suffix.lower()}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return target


def lines_of(files: Iterable[Path], who: str, keys: Container[str]) -> Iterator[dict[str, Any]]:
    """The lines of `who` about `keys` in those of `files` (JSONL) that exist; those of the first file come last, so
    that they take precedence."""
    for file in reversed(list(files)):
        for line in read_jsonl(file):
            if line.get("who") == who and line.get("key") in keys:
                yield line


def end_last_line(file: Path) -> None:
    """A killed process may have left half a line: the next line must not be appended to it."""
    with contextlib.suppress(FileNotFoundError):
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            with file.open("ab") as end:
                end.write(b"\n")


def read_jsonl(path: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """The rows of `path`; none when it is missing.

    Unreadable lines are skipped: a killed process leaves half a line, which the next one appends to. With `whole`, for
    files that are written atomically, they raise DamagedFile.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(path, error) from None
    rows: list[dict[str, Any]] = []
    # Not splitlines, which also splits at characters that JSON does not escape (U+2028 and others).
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _parsed(path, line)
        except DamagedFile as error:
            if whole:
                raise DamagedFile(path, f"line {number} cannot be read ({error.how})") from None
            continue
        if isinstance(row, dict):
            rows.append(row)
        elif whole:
            raise DamagedFile(path, f"line {number} contains {_KINDS.get(type(row), 'another value')}, not a mapping")
    return rows


def sizes_in(folder: Path) -> dict[str, int]:
    """The sizes in bytes of all files below `folder`, by their path relative to it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def digest(value: Any, length: int = 64, **options: Any) -> str:
    """The first `length` hex digits of the SHA-256 of `value` as JSON, written with the `options` of json.dumps.
    Files on disk are found by such keys, so a caller must not change its own."""
    return hashlib.sha256(json.dumps(value, **options).encode()).hexdigest()[:length]


def tail(path: Path, size: int = 8000) -> str:
    """The last `size` bytes of a log at most; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_line(path: Path) -> str:
    """The last line of a log that is not blank, shortened; empty if there is none."""
    return shorten(next((line for line in reversed(tail(path).splitlines()) if line.strip()), ""))


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`; yields False when it is taken and `wait` is off.

    The operating system releases the lock when the process dies, so a crash leaves nothing to clean up.
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
    """Restrict the paths that a request may name to those below `folders` (`check_reach`). None changes nothing.

    Applies to the current thread, in which requests are read; paths that are stored already are not restricted.
    """
    token = _reach.set(tuple(folder.resolve() for folder in folders)) if folders is not None else None
    try:
        yield
    finally:
        if token is not None:
            _reach.reset(token)


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """Lift the restriction, for paths that were checked or stored before."""
    token = _reach.set(None)
    try:
        yield
    finally:
        _reach.reset(token)


def check_reach(asked: Any) -> None:
    """Raise InputError when `asked`, or a string in it at any depth, is a path that the request may not open."""
    folders = _reach.get()
    if folders is None:
        return
    if isinstance(asked, Mapping):
        asked = list(asked.values())
    if isinstance(asked, (list, tuple)):
        for item in asked:
            check_reach(item)
    elif isinstance(asked, (str, Path)):
        # Some settings hold several names, with commas.
        for item in {str(asked).strip(), *(part.strip() for part in str(asked).split(","))}:
            if _leads_out(item, folders):
                raise InputError(
                    "An app that others can reach opens only files in its workspace",
                    given=item[:200],
                    allowed=f"a file below {folders[0]}",
                    try_="upload the file, or copy it there",
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


def disk_full(error: BaseException | None, folder: Path) -> FtlabError | None:
    """The message when `error`, or its cause, comes from a full disk; None for any other error.

    Some libraries pass on only the system's wording, and torch not even that: then the free space is checked.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if says_disk_full(error):
            return _full(error, folder)
        if any(words in str(error) for words in TORCH_CANNOT_WRITE) and is_full(folder):
            return _full(error, folder)
        error = error.__cause__ or error.__context__
    return None


def says_disk_full(error: BaseException) -> bool:
    """Whether `error` itself reports a full disk, an exhausted quota or a file that grew too large."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error).lower() for words in _FULL_WORDS)


def is_full(folder: Path) -> bool:
    return _free(folder)[1] < _NEARLY_FULL


_FULL_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
# torch.save on a full disk ("unexpected pos 576 vs 534").
TORCH_CANNOT_WRITE = ("inline_container.cc", "PytorchStreamWriter failed writing")
_NEARLY_FULL = 1 << 20  # bytes


def _full(error: BaseException, folder: Path) -> FtlabError:
    named = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else ""
    place = Path(named) if os.path.isabs(named) else folder
    what = "The disk is full."
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        what = "A file exceeded the size limit of the system."
    return FtlabError(
        what,
        why=f"{room_left(place)}. Existing files are unchanged",
        try_="delete old runs or exports, or use a folder on a larger disk (--workspace or FTLAB_HOME)",
    )


def room_left(place: Path) -> str:
    """The free space on the disk of `place`, in words."""
    folder, free = _free(place)
    return f"{byte_size(free)} are free on the disk of {folder}"


def _free(place: Path) -> tuple[Path, int]:
    """The nearest existing folder above `place`, and the number of free bytes on its disk."""
    for folder in (place, *place.parents):
        with contextlib.suppress(OSError):
            if folder.is_dir():
                return folder, shutil.disk_usage(folder).free
    return place, _NEARLY_FULL
