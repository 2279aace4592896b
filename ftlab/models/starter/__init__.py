"""The starter: a small Llama-style model that ships with ftlab, to demonstrate tuning without a network.

It is a toy. `families/` generates its text, `corpus` splits it, `tokenizer` and `build` make the model in `weights/`.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path


def starter_path() -> Path:
    """The folder with the starter's weights, tokenizer and chat template, which plain transformers can load."""
    return Path(__file__).parent / "weights"


@functools.cache
def starter_size() -> str:
    """The number of weights in the starter, read from the header of its file."""
    try:
        with (starter_path() / "model.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError):
        return "a few million"
    weights = sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return f"{weights / 1e6:.1f} million"
