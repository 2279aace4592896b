"""The shape of an export: its kind, its dtypes, and how it loads without ftlab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["adapter", "merged", "gguf"]
BASE_FOLDER = "base"


@dataclass(frozen=True)
class Shape:
    """`dtype` is what the weights are in, `load_dtype` what they are loaded in to be verified; `own_dtype` is that of
    the run's own model here, and `evaluated_dtype` that of the evaluation, which may have been on another machine.
    `base` is the folder within the export or the Hub id of what an adapter stands on, None for a whole model.
    `quantisation`: the base of an adapter in 4 or 8 bits, as transformers describes it. `strength`: how much of what
    training changed is in it (1: as trained). `gguf`: the type of a GGUF file, which holds a whole model; `dtype` is
    then what its weights were in before.
    """

    kind: Kind
    dtype: str
    load_dtype: str
    own_dtype: str
    evaluated_dtype: str
    device: str
    base: str | None = None
    base_on_hub: bool = False
    revision: str | None = None
    quantisation: dict[str, Any] | None = None
    merged_from_quantised: bool = False
    needs_ftlab: bool = False
    scores: bool = False
    strength: float = 1.0
    gguf: str | None = None

    @property
    def gguf_file(self) -> str:
        return f"model-{self.gguf}.gguf"

    @property
    def proven_file(self) -> str:
        """The GGUF file with the same weights in 16 bits or more, whose logits can be compared with the run's."""
        return f"model-{ {'float32': 'f32', 'float16': 'f16', 'bfloat16': 'bf16'}[self.dtype] }.gguf"

    @property
    def is_adapter(self) -> bool:
        return self.kind == "adapter"

    def job(self, folder: Path) -> dict[str, Any]:
        """The information that `outside.py` needs to load the export from `folder`."""
        return {
            "folder": str(folder),
            "dtype": self.load_dtype,
            "device": self.device,
            "base": self.base,
            "base_on_hub": self.base_on_hub,
            "revision": self.revision if self.base_on_hub else None,
            "quantisation": self.quantisation,
            "needs_ftlab": self.needs_ftlab,
            "scores": self.scores,
            "gguf": self.gguf_file if self.gguf else None,
        }
