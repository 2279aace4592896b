"""The starter: a small Llama-style model that ships with the project, so that tuning can be shown without a network.

It is a toy. `families/` writes its text, `corpus` divides it, `tokenizer` and `build` make the model in `weights/`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path


def starter_path() -> Path:
    """The folder with the starter's weights, tokenizer and chat template; loads with plain transformers."""
    return Path(__file__).parent / "weights"


@functools.cache
def starter_size() -> str:
    """The number of weights in the starter, read from the header of its file."""
    try:
        with (starter_path() / "model.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError):
        return "a few million"
    weights = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            weights += size
    return f"{weights / 1e6:.1f} million"
