"""The identity of weights (equal identities, equal answers), and whether files are still as they were written."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftlab.core.files import read_json, write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import listed
from ftlab.errors import FtlabError


def weights_sha256(folder: Path) -> dict[str, str]:
    """The hash of every safetensors file in `folder`, by name."""
    hashes = {}
    for file in sorted(folder.glob("*.safetensors")):
        stat = file.stat()
        hashes[file.name] = _sha256(file, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return hashes


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int, inode: int) -> str:
    """Cached: one evaluation asks for the same hash several times, and a whole model takes minutes to read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_made_of(result: Mapping[str, Any], folder: Path) -> bool:
    """Whether a stored `result` was measured on the weights now in `folder`, by its `weights_sha256`. The strength is
    in the result itself (`strength`).

    Results of earlier versions have no hash: they are compared by file times, which copying may have changed.
    """
    if (kept := result.get("weights_sha256")) is not None:
        return kept == weights_sha256(folder)
    newest = max((file.stat().st_mtime for file in folder.glob("*.safetensors")), default=0.0)
    return float(result.get("created") or 0) >= newest - 1


def keep_checksums(record: Path, files: Iterable[Path]) -> None:
    """Write the sizes and 128-bit XXH3 hashes of `files` (in the folder of `record` or below) to `record`.

    XXH3 detects damage, not forgery, at 18 GB/s against 0.6 for SHA-256 (measured on one core).
    """
    root = record.parent
    kept = {file.relative_to(root).as_posix(): {"bytes": file.stat().st_size, "xxh3": _xxh3(file)} for file in files}
    write_json(record, {"files": dict(sorted(kept.items()))})


def damaged_files(record: Path, folder: Path | None = None) -> list[str] | None:
    """The files in `record` (only those in `folder`) that are missing or have changed; sorted by name.

    None if there is no record, as in runs of earlier versions. Each process reads a file once, until its size or time
    changes.
    """
    try:
        kept = read_json(record, {})["files"]
        wanted = {record.parent / name: entry for name, entry in kept.items()}
        return sorted(
            file.relative_to(record.parent).as_posix()
            for file, entry in wanted.items()
            if (folder is None or folder in file.parents) and not _is_as_written(file, entry)
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # no record, or damaged itself
        return None


def _is_as_written(file: Path, kept: Mapping[str, Any]) -> bool:
    try:
        return file.stat().st_size == kept["bytes"] and _xxh3(file) == kept["xxh3"]
    except OSError:
        return False


def _xxh3(file: Path) -> str:
    stat = file.stat()
    return _xxh3_of(file, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=256)
def _xxh3_of(file: Path, size: int, changed: int, inode: int) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def is_readable(file: Path) -> bool:
    """Whether a file of weights or of optimizer state is complete by its own header; True for other files.

    A safetensors header gives the length; torch saves a zip archive with a checksum per entry, which torch itself does
    not check.
    """
    if file.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        return True
    stat = file.stat()
    return _is_readable(file, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=256)
def _is_readable(file: Path, size: int, changed: int, inode: int) -> bool:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy"):
                return True
        except SafetensorError:
            return False
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError):
        return False


def damaged_result(run: RunDirectory) -> list[str]:
    """The files of the result of `run` that differ from what training saved."""
    changed = damaged_files(run.checksums_file, run.result) or []
    broken = [file for file in run.result.glob("*.safetensors") if not is_readable(file)]
    return sorted({*changed, *(file.relative_to(run.path).as_posix() for file in broken)})


def check_result(run: RunDirectory) -> None:
    """Raise FtlabError if the result of `run` is damaged: its answers would be those of another model."""
    if damaged := damaged_result(run):
        differ = "differs" if len(damaged) == 1 else "differ"
        raise FtlabError(
            f"The result of the run {run.id} is damaged: {listed(damaged)} {differ} from what training saved",
            why="The disk failed, or a copy was not completed.",
            try_=f"copy the run again, or rebuild it from its last checkpoint: python -m ftlab runs resume {run.id}",
        )
    if not any(run.result.glob("*.safetensors")):
        raise FtlabError(
            f"The result of the run {run.id} was not saved completely: there are no weights in {run.result.name}/",
            try_=f"rebuild it from its last checkpoint: python -m ftlab runs resume {run.id}",
        )
