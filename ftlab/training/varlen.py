"""Batches without padding: the examples of a batch stand one after another, and each attends to itself alone.

Half of the tokens of a padded batch are padding on usual data, and the time goes with them. Flash attention does so
on GPUs; here it is plain scaled dot product attention, once per example, so that it works everywhere. The loss is
that of the padded batch (tests/unit/test_varlen.py).
"""

from __future__ import annotations

from typing import Any

from ftlab.method_table import fields_of

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
