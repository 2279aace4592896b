"""GGUF files: finding the one meant, reading its header, and converting its weights to safetensors."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.core.files import locked, read_cached, write_json
from ftlab.errors import InputError, shorten
from ftlab.models.bases.known import Progress, home

# transformers' list also contains parts of a file and models that are not causal language models.
_NOT_FAMILIES = ("general", "tokenizer", "t5", "umt5")
# Above this many weights, the disk and memory that float32 takes outweigh the precision that 16 bits lose.
_MOST_IN_FLOAT32 = 1_500_000_000
_TELL_SECONDS = 0.25
_PART = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class GgufFacts:
    """The header of a GGUF file. `dtype` is the format of the dequantized weights."""

    architecture: str
    precision: str
    weights: int
    license: str | None
    width: int | None  # channels

    @property
    def dtype(self) -> str:
        if self.weights <= _MOST_IN_FLOAT32:
            return "float32"
        return "float16" if self.precision == "F16" else "bfloat16"

    @property
    def bytes(self) -> int:
        """The size of the dequantized base, with some room for its tokenizer."""
        return self.weights * (4 if self.dtype == "float32" else 2) + 20_000_000


def gguf_of(base: str) -> Path | None:
    """The GGUF file that `base` refers to: the file itself, or the only one in a folder without safetensors.

    A file that is gone is still returned if it was converted before. None when `base` is not a GGUF file. Raises
    InputError when a folder contains several.
    """
    path = Path(base).expanduser().absolute()
    # os.path, as the methods of Path raise for a name that is too long for a file.
    if os.path.isfile(path):
        return path if path.suffix.lower() == ".gguf" else None
    if os.path.isdir(path):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".gguf" and file.is_file())
        if not files or list(path.glob("*.safetensors")):
            return None
        if len(files) > 1:
            raise InputError(
                "This folder contains several GGUF files",
                given=base,
                allowed="one: " + ", ".join(file.name for file in files[:6]) + (" …" if len(files) > 6 else ""),
                try_=f"name one of them: {files[0]}",
            )
        return files[0]
    gone = [file for file in map(Path, _hashes()) if path in (file, file.parent)]
    return gone[0] if len(gone) == 1 else None


def sha256_of_gguf(file: Path) -> str:
    """The sha256 of `file`, cached by path, size and modification time; the last known one if the file is gone."""
    known = _hashes().get(str(file))
    if not file.exists() and known:
        return known["sha256"]
    stat = file.stat()
    if known and [known["size"], known["mtime_ns"]] == [stat.st_size, stat.st_mtime_ns]:
        return known["sha256"]
    sha256 = sha256_of(file)
    entry = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    # Where the cache cannot be written, the file is read again the next time.
    with contextlib.suppress(OSError), locked(home() / ".locks" / "hashes.lock"):
        write_json(_hashes_file(), _hashes() | {str(file): entry})
    return sha256


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_facts(file: Path) -> GgufFacts:
    """The header of `file`. Raises InputError for a file that cannot become a base: broken or truncated, one part of
    several, a vocabulary only, or a model family that transformers cannot read from GGUF."""
    from gguf import GGUFReader

    if _PART.search(file.stem):
        raise _is_part(file)
    try:
        reader = GGUFReader(file)
        text = {name: _text(reader, f"general.{name}") for name in ("architecture", "license")}
        parts, kind = _number(reader, "split.count"), _number(reader, "general.file_type")
        end = max((int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors), default=0)
    except Exception as error:  # the reader trusts the file: a broken one can raise anything
        raise _is_broken(file) from error
    if parts is not None and parts > 1:
        raise _is_part(file)
    if not reader.tensors:
        raise InputError(
            "This GGUF file has no weights, only a vocabulary or metadata", given=file, try_="name the model itself"
        )
    if end > file.stat().st_size:
        raise _is_broken(file)
    architecture = text["architecture"] or "unnamed"
    if architecture not in (families := readable_families()):
        raise InputError(
            f"transformers cannot read {architecture} models from GGUF",
            given=file,
            allowed=", ".join(families),
            try_="the same model as safetensors: its folder, or its id on the Hub",
        )
    weights = sum(int(tensor.n_elements) for tensor in reader.tensors)
    width = _number(reader, f"{architecture}.embedding_length")
    return GgufFacts(architecture, _precision(kind, reader.tensors), weights, text["license"], width)


def readable_families() -> list[str]:
    """The values of general.architecture that transformers can read, as GGUF files spell them."""
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    spelled = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} - set(_NOT_FAMILIES)
    return sorted(spelled.get(name, name) for name in known)


def dequantize(file: Path, facts: GgufFacts, folder: Path, name: str, progress: Progress) -> None:
    """Convert `file` into `folder`: config.json, safetensors, tokenizer and chat template.

    Raises InputError when transformers cannot load it. No code from the file is run.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with _alone(), _quiet(lambda done, total: progress(f"dequantizing {name}", done, total)):
        progress(f"reading the tokenizer of {name}", 0, 0)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                str(file.parent),
                gguf_file=file.name,
                dtype=getattr(torch, facts.dtype),
                quantization_config=GgufConfig(dequantize=True),
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            raise InputError(
                f"transformers cannot load this GGUF file: {shorten(error, 300)}",
                given=file,
                try_="the same model as safetensors: its folder, or its id on the Hub",
            ) from error
        progress(f"writing {name}", 0, 0)
        # transformers considers it quantized and would refuse to save it.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer = None  # type: ignore[assignment]  # transformers declares no such attribute
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _quiet(step: Any) -> Iterator[None]:
    """Silence the progress bars and warnings of transformers; `step(done, total)` counts dequantized tensors."""
    from transformers.utils import logging

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        total, reported = len(tensors), 0.0  # type: ignore[arg-type]
        for done, tensor in enumerate(tensors):
            if time.monotonic() - reported > _TELL_SECONDS:
                reported = time.monotonic()
                step(done, total)
            yield tensor

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with _replaced("transformers.modeling_gguf_pytorch_utils", "tqdm", counted):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _alone() -> contextlib.AbstractContextManager[None]:
    """Keep transformers from loading kernels (code) from the Hub for a model that it reads from GGUF."""
    return _replaced("transformers.integrations.gguf.kernels", "kernelize_ggml_layers", lambda model: None)


@contextlib.contextmanager
def _replaced(module: str, name: str, value: Any) -> Iterator[None]:
    """Temporarily replace `name` in a module of transformers, where it offers no setting (checked with 5.23)."""
    import importlib

    loaded = importlib.import_module(module)
    before = getattr(loaded, name)
    setattr(loaded, name, value)
    try:
        yield
    finally:
        setattr(loaded, name, before)


def _precision(kind: int | None, tensors: Any) -> str:
    """The format of most weights: as llama.cpp names the file type (Q4_K_M), else by tensor type (Q4_K)."""
    from gguf import LlamaFileType

    with contextlib.suppress(ValueError):
        if kind is not None:
            return LlamaFileType(kind).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    return max(sizes, key=lambda name: sizes[name])


def _text(reader: Any, key: str) -> str | None:
    field = reader.get_field(key)
    return bytes(field.parts[field.data[0]]).decode("utf-8") if field else None


def _number(reader: Any, key: str) -> int | None:
    field = reader.get_field(key)
    return int(field.parts[field.data[0]][0]) if field else None


def _hashes_file() -> Path:
    return home() / "gguf_hashes.json"


def _hashes() -> dict[str, dict[str, Any]]:
    return read_cached(_hashes_file()) or {}


def _is_broken(file: Path) -> InputError:
    return InputError(
        "This is not a complete GGUF file: it is corrupt, or its download or copy was cut off",
        given=file,
        try_="download or copy it again and compare its size with the source",
    )


def _is_part(file: Path) -> InputError:
    return InputError(
        "This GGUF file is one part of a split model",
        given=file,
        allowed="a single file",
        try_="merge the parts first: llama-gguf-split --merge FIRST_PART merged.gguf",
    )
