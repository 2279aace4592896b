"""A base in 4 or 8 bits, through bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftlab.config import MethodConfig

if TYPE_CHECKING:
    import torch


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
