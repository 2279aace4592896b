"""What ftlab does around PEFT: initialisations that change the base, virtual tokens that start as words."""

from __future__ import annotations

import pytest
import torch
import transformers

from ftlab.config import MethodConfig, ModelConfig
from ftlab.config.methods import CHANGES_BASE
from ftlab.errors import InputError
from ftlab.models.adapters import Prompted, adapter_disabled, attach_adapter
from ftlab.models.load import load_base, load_tokenizer
from ftlab.models.methods import apply_method, keep_start, save_adapter

IDS = torch.tensor([[5, 9, 33, 12, 60, 7, 21, 40]])
TEXT = "Answer with the code of the item."


def fresh_model():
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
        )
    ).eval()


def taught(model):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(4):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids).logits


@pytest.mark.parametrize("initialisation", ["default", "gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"])
@pytest.mark.parametrize("stabilised", [False, True], ids=["lora", "rslora"])
def test_every_initialisation_starts_at_the_base_and_its_result_loads_on_the_untouched_base(
    initialisation, stabilised, tmp_path
):
    method = MethodConfig(initialisation=initialisation, rank=4, alpha=8, rank_stabilised=stabilised)
    base = logits(fresh_model())
    model = apply_method(fresh_model(), method)
    assert torch.allclose(logits(model), base, atol=1e-5)
    start = keep_start(model, method, tmp_path / "start")
    assert (start is not None) == (initialisation in CHANGES_BASE)
    taught(model)
    save_adapter(model, tmp_path / "saved", start)
    loaded = attach_adapter(fresh_model(), tmp_path / "saved")
    assert not torch.allclose(logits(loaded), base, atol=1e-2)
    assert torch.allclose(logits(loaded), logits(model), atol=1e-4)
    with adapter_disabled(loaded):
        assert torch.equal(logits(loaded), base)


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_virtual_tokens_from_a_text_are_at_first_that_text(name):
    """Before training, the model answers as its base does that has read the text before."""
    tokenizer, base = load_tokenizer("starter"), load_base(ModelConfig(), device="cpu")
    text = tokenizer(TEXT, add_special_tokens=False, return_tensors="pt")["input_ids"]
    ids = tokenizer("Code of item 3?", add_special_tokens=False, return_tensors="pt")["input_ids"]
    expected = logits(base, torch.cat([text, ids], dim=1))[:, text.shape[1] :]
    method = MethodConfig(name=name, initial_text=TEXT, virtual_tokens=text.shape[1])
    model = Prompted(apply_method(base, method, tokenizer=tokenizer)).eval()
    assert torch.allclose(logits(model, ids), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_padding_on_either_side_changes_no_answer(name):
    tokenizer = load_tokenizer("starter")
    method = MethodConfig(name=name, initial_text=TEXT)
    model = Prompted(apply_method(load_base(ModelConfig(), device="cpu"), method, tokenizer=tokenizer)).eval()
    ids = tokenizer("Code of item 3?", add_special_tokens=False, return_tensors="pt")["input_ids"]
    alone = logits(model, ids)
    pads, ones = torch.full((1, 6), tokenizer.pad_token_id), torch.ones_like(ids)
    with torch.no_grad():
        left = model(torch.cat([pads, ids], 1), torch.cat([0 * pads, ones], 1)).logits[:, 6:]
        right = model(torch.cat([ids, pads], 1), torch.cat([ones, 0 * pads], 1)).logits[:, :-6]
    assert torch.allclose(left, alone, atol=1e-4)
    assert torch.allclose(right, alone, atol=1e-4)


def test_a_layer_that_is_not_there_is_refused_with_the_names_that_are():
    with pytest.raises(InputError) as caught:
        apply_method(fresh_model(), MethodConfig(targets="query, value"))
    assert "Given: query, value" in str(caught.value)
    assert "q_proj" in str(caught.value) and "base_layer" not in str(caught.value)


def test_ia3_takes_keys_values_and_the_feed_forward_part():
    model = apply_method(fresh_model(), MethodConfig(name="ia3"))
    names = {name.split(".ia3_l")[0].rsplit(".", 1)[-1] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"k_proj", "v_proj", "down_proj"}
