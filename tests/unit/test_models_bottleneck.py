"""Bottleneck adapters on small random decoders of several families."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from ftlab.config import MethodConfig
from ftlab.errors import InputError
from ftlab.models.adapters import adapter_disabled
from ftlab.models.bottleneck import (
    add_bottlenecks,
    load_bottlenecks,
    save_bottlenecks,
)

WIDTH, LAYERS = 32, 2
COMMON = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": transformers.LlamaConfig(**COMMON, num_key_value_heads=2),
    "qwen3": transformers.Qwen3Config(**COMMON, num_key_value_heads=2, head_dim=8),
    "gemma3": transformers.Gemma3TextConfig(**COMMON, num_key_value_heads=2, head_dim=8),
    "gpt2": transformers.GPT2Config(
        vocab_size=64, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": transformers.GPTNeoXConfig(**COMMON),
    "mixtral": transformers.MixtralConfig(**COMMON, num_key_value_heads=2, num_local_experts=2),
}
IDS = torch.tensor([[5, 9, 33, 12, 60, 7, 21, 40]])


def fresh_model(family: str):
    torch.manual_seed(3)
    return transformers.AutoModelForCausalLM.from_config(FAMILIES[family]).eval()


def taught(model, steps: int = 4):
    """`model` after a few steps on one text."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids).logits


@pytest.mark.parametrize("placement, per_layer", [("houlsby", 2), ("pfeiffer", 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_before_training_the_model_is_its_base_exactly_and_only_the_adapters_are_trained(family, placement, per_layer):
    before = logits(fresh_model(family))
    model = add_bottlenecks(fresh_model(family), MethodConfig(name="bottleneck", placement=placement))
    assert torch.equal(logits(model), before)
    size = WIDTH // 8
    expected = LAYERS * per_layer * (WIDTH * size + size + size * WIDTH + WIDTH)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_adapters_are_switched_off_and_loaded_on_a_new_base(family, tmp_path):
    model = taught(add_bottlenecks(fresh_model(family), MethodConfig(name="bottleneck", activation="silu")))
    base = logits(fresh_model(family))
    assert not torch.allclose(logits(model), base, atol=1e-3)
    with adapter_disabled(model):
        assert torch.equal(logits(model), base)
    save_bottlenecks(model, tmp_path)
    assert torch.equal(logits(load_bottlenecks(fresh_model(family), tmp_path)), logits(model))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_learns_the_same(family):
    method = MethodConfig(name="bottleneck")
    losses = []
    for checkpointing in (False, True):
        torch.manual_seed(4)
        # Dropout would draw other numbers in the second pass over a layer.
        model = add_bottlenecks(fresh_model(family), method)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        model = taught(model)
        assert (
            any(layer.gradient_checkpointing for layer in model.modules() if hasattr(layer, "gradient_checkpointing"))
            == checkpointing
        )
        losses.append(model(input_ids=IDS, labels=IDS).loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_an_error_inside_leaves_the_adapters_on():
    model = taught(add_bottlenecks(fresh_model("llama"), MethodConfig(name="bottleneck")))
    before = logits(model)
    with pytest.raises(RuntimeError, match="interrupted"), adapter_disabled(model):
        raise RuntimeError("interrupted")
    assert torch.equal(logits(model), before)


def test_the_adapter_is_float32_on_a_base_in_a_short_format():
    model = add_bottlenecks(fresh_model("llama").to(torch.bfloat16), MethodConfig(name="bottleneck"))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "config",
    [
        transformers.MambaConfig(vocab_size=64, hidden_size=WIDTH, num_hidden_layers=LAYERS),
        transformers.OPTConfig(
            vocab_size=64,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            ffn_dim=64,
            word_embed_proj_dim=WIDTH,
        ),
    ],
    ids=["mamba", "opt"],
)
def test_a_base_without_the_two_sublayers_is_refused_in_words_and_left_as_it_was(config):
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError, match="do not work with this base"):
        add_bottlenecks(model, MethodConfig(name="bottleneck"))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_adapter_of_another_base_is_refused(tmp_path):
    save_bottlenecks(add_bottlenecks(fresh_model("llama"), MethodConfig(name="bottleneck")), tmp_path)
    other = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**COMMON | {"hidden_size": 64}))
    with pytest.raises(InputError, match="does not fit the base"):
        load_bottlenecks(other, tmp_path)


def test_the_files_say_what_they_are_and_hold_no_weight_of_the_base(tmp_path):
    from safetensors import safe_open

    save_bottlenecks(add_bottlenecks(fresh_model("llama"), MethodConfig(name="bottleneck")), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "FTLAB_BOTTLENECK"
    assert (config["placement"], config["reduction_factor"], config["activation"]) == ("houlsby", 8, "relu")
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    # Two matrices and two biases, twice per layer.
    assert len(names) == 4 * 2 * LAYERS
    assert "model.layers.0.self_attn.bottleneck.down.weight" in names
