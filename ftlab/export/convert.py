"""`python -P convert.py TOOL ARGUMENTS`: llama.cpp's converter in the folder TOOL, without code from model folders.

The converter asks transformers to trust such code; here it finds none. Its own package `gguf` comes before the
installed one. It imports sentencepiece before it looks whether the model has a tokenizer of that kind.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
import types
from pathlib import Path
from typing import Any


def _no_code(*_: Any, **__: Any) -> bool:
    """In the place of the question whether to run a model's own code."""
    return False


class _Missing:
    """In the place of SentencePieceProcessor."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise SystemExit("this model has a SentencePiece tokenizer: pip install sentencepiece")


def main(tool: str, arguments: list[str]) -> None:
    sys.path.insert(0, tool)
    from transformers import dynamic_module_utils

    # Before the modules that take it from there. Checked with transformers 5.23.
    dynamic_module_utils.resolve_trust_remote_code = _no_code
    if importlib.util.find_spec("sentencepiece") is None:
        stand_in: Any = types.ModuleType("sentencepiece")
        stand_in.SentencePieceProcessor = _Missing
        sys.modules["sentencepiece"] = stand_in
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    runpy.run_path(str(Path(tool) / "convert_hf_to_gguf.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
