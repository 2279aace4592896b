"""What makes a run quick on this machine: chosen here, undone when training ends, and said in words.

On a CPU every choice was measured (tests/benchmarks/train.py). On a GPU the well-kept kernels are taken where they are
installed: flash attention reads batches without padding, Liger joins the small operations.
"""

from __future__ import annotations

from typing import Any

from ftlab.config import RunConfig
from ftlab.models import fused_lora
from ftlab.training import varlen
from ftlab.training.launching import together

_SHORT_FORMATS = ("float16", "bfloat16")


def speed_up(model: Any, arguments: Any, config: RunConfig, longest: int) -> list[str]:
    """Set `model` and TRL's `arguments` for speed; returns what was chosen, in words. The `longest` example in tokens.

    The losses stay those of padded batches (tests/unit/test_varlen.py, test_fused_lora.py).
    """
    chosen = []
    if varlen.fits(model, config.method.name, longest):
        arguments.padding_free = True
        if model.device.type == "cuda" and _has_flash_attention(model):
            varlen.base_of(model).set_attn_implementation("flash_attention_2")
            chosen.append("batches without padding (flash attention)")
        else:
            varlen.use(model)
            chosen.append("batches without padding")
    if model.device.type == "cuda" and "use_liger_kernel" not in config.trainer and _has_liger():
        arguments.use_liger_kernel = True
        chosen.append("Liger kernels")
    # With FSDP and DeepSpeed the weights are on the CPU only until training starts.
    if not together.is_sharded() and fused_lora.use(model):
        chosen.append(fused_lora.IN_WORDS)
    return chosen


def slow_down(model: Any) -> None:
    """Undo `speed_up`, for generation and for saving."""
    if varlen.base_of(model).config._attn_implementation in (varlen.NAME, "flash_attention_2"):
        varlen.leave(model)
    fused_lora.leave(model)


def _has_flash_attention(model: Any) -> bool:
    from transformers.utils import is_flash_attn_2_available

    weights = str(varlen.base_of(model).dtype).removeprefix("torch.")
    return weights in _SHORT_FORMATS and is_flash_attn_2_available()


def _has_liger() -> bool:
    from transformers.utils import is_liger_kernel_available

    return is_liger_kernel_available()
