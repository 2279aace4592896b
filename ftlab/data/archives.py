"""Zip archives: only data files are read out of them, in memory, within limits. Nothing is unpacked to the disk."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath

from ftlab.data.limits import check_expanded, most_expanded, readable, too_large
from ftlab.data.split_names import SPLITS, split_name
from ftlab.errors import InputError

MOST_ENTRIES = 200
HIGHEST_RATIO = 200  # unpacked to packed; text packs about 3 to 10 times, tables of equal rows perhaps 100 times
_RATIO_COUNTS_FROM = 16 << 20  # bytes; a small file of equal rows may pack as well as it likes
_ARCHIVES = (".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar")
_KINDS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read_zip(raw: bytes, name: str, suffixes: tuple[str, ...], notes: list[str]) -> dict[str, tuple[str, bytes]]:
    """The data files (ending in `suffixes`) in a zip archive by split: {"train": (name, bytes), ...}.

    Raises InputError for what is no archive, is encrypted, holds another archive or no data file, leads out of the
    archive, or is larger than `most_expanded` when unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = _checked(archive, name)
            found = _chosen(entries, name, suffixes, notes)
            check_expanded(name, sum(entry.file_size for entry in found.values()), len(raw))
            left = most_expanded(len(raw))
            files = {}
            for split, entry in found.items():
                data = _unpacked(archive, entry, name, left)
                left -= len(data)
                files[split] = (PurePosixPath(entry.filename).name, data)
            return files
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError) as error:
        raise InputError(f"{name} is not a complete zip archive: {error}", try_="download or pack it again") from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile's words for other packing and for passwords
        raise InputError(f"{name} cannot be unpacked: {error}", try_="pack it again as a plain zip") from None


def _checked(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    if len(entries) > MOST_ENTRIES:
        raise InputError(
            f"{name} holds too many files", given=len(entries), allowed=f"at most {MOST_ENTRIES}", try_="pack fewer"
        )
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise InputError(
                f"{name} holds a path that leads out of the archive",
                given=entry.filename,
                allowed="file names without .. and not beginning with /",
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{name} holds a link instead of a file", given=entry.filename)
        if entry.flag_bits & 0x1:
            raise InputError(f"{name} is encrypted", given=entry.filename, try_="pack it without a password")
        if path.suffix.lower() in _ARCHIVES:
            raise InputError(
                f"{name} holds another archive", given=entry.filename, try_="pack the data files themselves"
            )
    return entries


def _chosen(
    entries: list[zipfile.ZipInfo], name: str, suffixes: tuple[str, ...], notes: list[str]
) -> dict[str, zipfile.ZipInfo]:
    """The one data file, or those called train, validation and test."""
    # What macOS adds beside every file has the same name with ._ before it.
    real = [e for e in entries if not e.filename.startswith("__MACOSX/") and "/." not in f"/{e.filename}"]
    data = [entry for entry in real if PurePosixPath(entry.filename).suffix.lower() in suffixes]
    if not data:
        raise InputError(
            f"{name} holds no data file",
            given=", ".join(entry.filename for entry in entries[:8]) or "nothing",
            allowed=", ".join(suffixes),
        )
    # Beside other data a text file is a note about them.
    data = [entry for entry in data if not entry.filename.lower().endswith(".txt")] or data
    ignored = [entry.filename for entry in real if entry not in data]
    if ignored:
        notes.append(f"Not read in {name}: {', '.join(ignored[:8])}{' …' if len(ignored) > 8 else ''}.")
    if len(data) == 1:
        return {"train": data[0]}
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in data:
        split = split_name(PurePosixPath(entry.filename).stem)
        if split in found or split is None:
            raise InputError(
                f"{name} holds several data files, and it is not clear which is which",
                given=", ".join(entry.filename for entry in data[:8]),
                allowed="one data file, or one each for train, validation and test",
                try_="name the files train, validation and test",
            )
        found[split] = entry
    return {split: found[split] for split in SPLITS if split in found}


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, left: int) -> bytes:
    if entry.compress_type not in _KINDS:
        raise InputError(f"{name} is packed in an unusual way", given=entry.filename, allowed="stored or deflated")
    size, pieces = 0, []
    with archive.open(entry) as file:
        # The sizes in the directory are claims: what counts is what comes out.
        while piece := file.read(1 << 20):
            size += len(piece)
            if size > left:
                raise too_large(name, f"more than {readable(size)} in {entry.filename}", left, unpacked=True)
            if size > _RATIO_COUNTS_FROM and size > HIGHEST_RATIO * max(1, entry.compress_size):
                raise InputError(
                    f"{name} is packed far more tightly than data are; it may be a zip bomb",
                    given=f"{entry.filename} is more than {HIGHEST_RATIO} times larger unpacked",
                    try_="unpack it yourself and give the path of the file, when you trust it",
                )
            pieces.append(piece)
    return b"".join(pieces)
