"""A tiny random llama as a GGUF file, written by hand with the starter's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ftlab.models.starter import starter_path

_LAYERS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def plain_tokenizer() -> Tokenizer:
    """The starter's words and merges on GPT-2's pre-tokenizer, which is what the file says."""
    model = json.loads((starter_path() / "tokenizer.json").read_text())["model"]
    merges = [tuple(one if isinstance(one, list) else one.split(" ")) for one in model["merges"]]
    tokenizer = Tokenizer(BPE(vocab=model["vocab"], merges=merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


def tiny_model() -> Any:
    """The source: a random llama, 2 layers of 64 channels."""
    tokenizer = AutoTokenizer.from_pretrained(str(starter_path()))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(file: Path, model: Any, *, quantized: bool = False, architecture: str = "llama", **more: Any) -> Path:
    """`model` as `file`, with float32 weights or with matrices in Q8_0. `more` are further keys with numbers."""
    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_name("tiny")
    writer.add_license("mit")
    kind = gguf.LlamaFileType.MOSTLY_Q8_0 if quantized else gguf.LlamaFileType.ALL_F32
    writer.add_file_type(kind)
    for key, value in more.items():
        writer.add_uint16(key.replace("_", "."), value)
    _add_tokenizer(writer)
    for name, weight in model.state_dict().items() if architecture != "vocabulary" else ():
        if name != "lm_head.weight":
            _add_tensor(writer, _name(name), _arranged(name, weight.numpy(), config), quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(starter_path()))
    merges = json.loads((starter_path() / "tokenizer.json").read_text())["model"]["merges"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_chat_template(TEMPLATE)


def _name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
    _, _, number, rest = name.split(".", 3)
    return f"blk.{number}.{_LAYERS[rest.removesuffix('.weight')]}.weight"


def _arranged(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """llama.cpp keeps the rows of queries and keys in the order of its own rotary embedding."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _add_tensor(writer: Any, name: str, weight: np.ndarray, quantized: bool) -> None:
    if quantized and weight.ndim == 2:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, np.ascontiguousarray(weight))
