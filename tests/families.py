"""Tiny random bases of the families that people use, with the quirks of each, and the starter's tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

WINDOW = 16  # tokens; shorter than every prompt, so that what slides does slide
_MOST = 512


def sizes(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": _MOST,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _gpt2(sizes: dict[str, Any]) -> Any:
    from transformers import GPT2Config

    kept = {name: sizes[name] for name in sizes if name.endswith("token_id") or name.startswith(("vocab", "init"))}
    return GPT2Config(**kept, n_embd=32, n_layer=2, n_head=4, n_positions=_MOST)


def _mamba(sizes: dict[str, Any]) -> Any:
    from transformers import MambaConfig

    other = ("intermediate_size", "max_position_embeddings", "num_attention_heads")
    kept = {name: value for name, value in sizes.items() if name not in other}
    return MambaConfig(**kept, state_size=8, conv_kernel=4, expand=2, time_step_rank=4)


def _of(name: str, **quirks: Any) -> Callable[[dict[str, Any]], Any]:
    def config(sizes: dict[str, Any]) -> Any:
        import transformers

        return getattr(transformers, f"{name}Config")(**(sizes | quirks))

    return config


_GROUPED = {"num_key_value_heads": 2}
FAMILIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Llama": _of("Llama", **_GROUPED),
    "Qwen2.5": _of("Qwen2", **_GROUPED, tie_word_embeddings=True),
    "Qwen3": _of("Qwen3", **_GROUPED, head_dim=16, tie_word_embeddings=True),
    "Gemma 3": _of(
        "Gemma3Text",
        **_GROUPED,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
    ),
    "Mistral": _of("Mistral", **_GROUPED, sliding_window=WINDOW),
    "Phi-3": _of("Phi3", partial_rotary_factor=0.5, sliding_window=WINDOW),  # fused qkv_proj and gate_up_proj
    "GPT-2": _gpt2,  # Conv1D layers, learned positions, tied head
    "GPT-NeoX": _of("GPTNeoX", partial_rotary_factor=0.25),  # fused query_key_value, parallel residual
    "OLMo 2": _of("Olmo2", **_GROUPED),
    "Granite": _of(
        "Granite",
        **_GROUPED,
        embedding_multiplier=12.0,
        attention_multiplier=0.0625,
        residual_multiplier=0.22,
        logits_scaling=2.0,
        tie_word_embeddings=True,
    ),
    "Falcon": _of("Falcon", multi_query=True, parallel_attn=True, bias=False, alibi=False),
    "Falcon alibi": _of("Falcon", multi_query=False, parallel_attn=False, bias=True, alibi=True),
    "LFM2": _of("Lfm2", **_GROUPED, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "Qwen3-MoE": _of(
        "Qwen3Moe", **_GROUPED, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "Mamba": _mamba,  # no attention, no longest text
}
# As their bases are published: without a chat template.
WITHOUT_TEMPLATE = ("GPT-2", "GPT-NeoX", "Falcon", "Falcon alibi", "Mamba")


def make_family(name: str, folder: Path) -> Path:
    """A random base of the family `name`, saved in `folder` as one from the Hub would be."""
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer("starter")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[name](sizes(tokenizer)))
    model.save_pretrained(folder)
    if name in WITHOUT_TEMPLATE:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder
