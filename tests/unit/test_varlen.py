"""Batches without padding give the losses and gradients of padded ones."""

from __future__ import annotations

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ftlab.models.starter import starter_path
from ftlab.training import speed as varlen


def a_batch(padding_free):
    """Five examples of 3 to 60 tokens, the first half of each not trained."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for length in (3, 17, 60, 8, 31):
        ids = torch.randint(10, 900, (length,), generator=generator).tolist()
        examples.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free)(examples)


def a_model(kind):
    from transformers import AutoModelForCausalLM as Auto
    from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config

    torch.manual_seed(0)
    if kind == "starter":
        return Auto.from_pretrained(starter_path(), attn_implementation="sdpa")
    sizes = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {
        "llama": lambda: LlamaConfig(**sizes, intermediate_size=96, num_key_value_heads=2),
        "qwen3": lambda: Qwen3Config(**sizes, intermediate_size=96, num_key_value_heads=2, head_dim=16),
        "gpt_neox": lambda: GPTNeoXConfig(**sizes, intermediate_size=96),
        "gpt2": lambda: GPT2Config(
            vocab_size=1000, n_embd=64, n_layer=2, n_head=4, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0
        ),
    }[kind]()
    return Auto.from_config(config, attn_implementation="sdpa")


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["starter", "llama", "qwen3", "gpt_neox", "gpt2"])
def test_the_loss_and_its_gradients_are_those_of_the_padded_batch(kind):
    model = a_model(kind)
    assert varlen.fits(model, "lora", 60)
    padded, gradients = loss_and_gradients(model, a_batch(False))
    varlen.use(model)
    flat, others = loss_and_gradients(model, a_batch(True))
    varlen.leave(model)
    assert flat == pytest.approx(padded, abs=1e-4)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], atol=1e-4), name
    again, _ = loss_and_gradients(model, a_batch(False))
    assert again == padded


def test_a_padded_batch_is_refused_rather_than_read_across_examples():
    model = a_model("llama")
    varlen.use(model)
    with pytest.raises(ValueError, match="without padding"):
        model(**a_batch(False))


def test_virtual_tokens_and_short_windows_keep_the_padding():
    assert not varlen.fits(a_model("llama"), "prefix_tuning", 60)
    model = a_model("llama")
    model.config.sliding_window = 32
    assert varlen.fits(model, "lora", 32) and not varlen.fits(model, "lora", 60)
