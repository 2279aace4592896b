"""Training without padding: attention by sequence, and the other choices made for speed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.methods import fields_of
from ftlab.models import fused_lora
from ftlab.training.launching import together

NAME = "ftlab_varlen"


def fits(model: Any, method: str, longest: int) -> bool:
    """Whether examples of up to `longest` tokens can be trained without padding: plain causal attention in every layer,
    through transformers' own interface, with no virtual tokens before the text and no state that runs through it."""
    from ftlab.models.families import keeps_state

    base = base_of(model)
    config = base.config
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        "virtual_tokens" not in fields_of(method)
        and config._attn_implementation == "sdpa"
        and base._supports_attention_backend
        and not keeps_state(base)
        and kinds <= {"full_attention", "sliding_attention"}
        and (longest <= window if window is not None else "sliding_attention" not in kinds)
        and not getattr(config, "attn_logit_softcapping", None)
        and not getattr(config, "alibi", False)
    )


def use(model: Any) -> None:
    """Make `model` read batches without padding, until `leave`."""
    from transformers import AttentionInterface

    # No mask function is registered for this name: no mask is built, which is the point.
    AttentionInterface.register(NAME, attend)
    base_of(model).set_attn_implementation(NAME)


def leave(model: Any) -> None:
    """Back to attention over padded batches, for generation and evaluation."""
    base_of(model).set_attn_implementation("sdpa")


@contextlib.contextmanager
def padded(model: Any) -> Iterator[None]:
    """Within it `model` reads padded batches and generates, however it trains."""
    config = base_of(model).config
    chosen = config._attn_implementation
    if chosen in (NAME, "flash_attention_2"):
        leave(model)
    try:
        yield
    finally:
        if config._attn_implementation != chosen:
            base_of(model).set_attn_implementation(chosen)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within each of the sequences that `cu_seq_lens_q` ([sequences + 1], token offsets) marks off.

    `query` [1, heads, tokens, size]; `key` and `value` may have fewer heads. Returns [1, tokens, heads, size].
    Raises ValueError for a padded batch.
    """
    import torch

    if cu_seq_lens_q is None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise ValueError("this attention reads batches without padding only")
    lengths, kind = cu_seq_lens_q.diff().tolist(), query.dtype
    states = [query, key, value]
    if query.device.type == "cpu":
        # The backward pass of torch's attention takes three times as long in bfloat16 as in float32 (82 tokens).
        states = [one.float() for one in states]
    with torch.autocast(query.device.type, enabled=False):
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=query.shape[1] != key.shape[1]
            )
            for q, k, v in zip(*(one.split(lengths, dim=2) for one in states), strict=True)
        ]
    return torch.cat(parts, dim=2).to(kind).transpose(1, 2).contiguous(), None


def base_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_SHORT_FORMATS = ("float16", "bfloat16")


def speed_up(model: Any, arguments: Any, config: RunConfig, longest: int) -> list[str]:
    """Set `model` and TRL's `arguments` for speed; returns what was chosen, in words. The `longest` example in tokens.

    The losses stay those of padded batches (tests/unit/test_varlen.py, test_fused_lora.py).
    """
    chosen = []
    if fits(model, config.method.name, longest):
        arguments.padding_free = True
        if model.device.type == "cuda" and _has_flash_attention(model):
            base_of(model).set_attn_implementation("flash_attention_2")
            chosen.append("batches without padding (flash attention)")
        else:
            use(model)
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
    if base_of(model).config._attn_implementation in (NAME, "flash_attention_2"):
        leave(model)
    fused_lora.leave(model)


def _has_flash_attention(model: Any) -> bool:
    from transformers.utils import is_flash_attn_2_available

    weights = str(base_of(model).dtype).removeprefix("torch.")
    return weights in _SHORT_FORMATS and is_flash_attn_2_available()


def _has_liger() -> bool:
    from transformers.utils import is_liger_kernel_available

    return is_liger_kernel_available()
