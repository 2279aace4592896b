"""The starter: a small Llama-style model that ships with the project, so that tuning can be shown without a network.

It is a toy. `families/` writes its text, `corpus` divides it, `tokenizer` and `build` make the model in `weights/`.
"""

from __future__ import annotations

from pathlib import Path


def starter_path() -> Path:
    """The folder with the starter's weights, tokenizer and chat template; loads with plain transformers."""
    return Path(__file__).parent / "weights"
