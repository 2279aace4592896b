"""A base in 4 or 8 bits, through bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftlab.config import MethodConfig

if TYPE_CHECKING:
    import torch

_ROWS = 32  # that the repacked layout takes together


def quantisation_of(method: MethodConfig, compute_dtype: torch.dtype) -> Any:
    """The BitsAndBytesConfig of `method`, or None where it leaves the base as it is.

    4 bits: nf4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314) or fp4; the arithmetic is done in
    `compute_dtype`. 8 bits: LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339).
    """
    if method.name != "qlora":
        return None
    from transformers import BitsAndBytesConfig

    if method.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quantisation,
        bnb_4bit_use_double_quant=method.double_quantisation,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def set_repacking(model: Any, on: bool) -> None:
    """Whether the 4-bit layers of `model` may be repacked for inference; before the first text goes through it.

    On CPUs with AVX512-BF16, bitsandbytes (checked with 0.50.2) repacks a Linear4bit for good at its first evaluation
    pass. The kernel for that layout is quicker (SmolLM2-135M on one core: 2.1 times in batches of 8), rounds to
    bfloat16 and has no backward: no gradient passes a repacked layer, and torch only warns. So a model that is loaded
    never repacks until whoever only asks it allows it.
    """
    try:
        from bitsandbytes.functional import has_avx512bf16
        from bitsandbytes.nn import Linear4bit
    except ImportError:
        return  # then nothing can be quantised
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # bitsandbytes asserts the rows, and cuts the columns into blocks.
            even = module.out_features % _ROWS == 0 and module.in_features % module.weight.blocksize == 0
            module.support_avx512bf16_for_cpu = on and even and bool(has_avx512bf16())
