"""The joined products of LoRA are PEFT's, in losses and in gradients."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def _model(**settings):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kind, made = (Qwen2Config, Qwen2ForCausalLM) if settings.pop("bias", False) else (LlamaConfig, LlamaForCausalLM)
    torch.manual_seed(0)
    width = settings.pop("width", 32)
    sizes = {"hidden_size": width, "intermediate_size": width * 3 // 2, "num_hidden_layers": 2}
    base = made(kind(vocab_size=50, num_attention_heads=4, num_key_value_heads=2, **sizes))
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, **settings)
    return get_peft_model(base, lora)


def _step(model):
    import torch

    ids = torch.randint(50, (3, 11), generator=torch.Generator().manual_seed(1))
    loss = model(input_ids=ids, labels=ids).loss
    model.zero_grad()
    loss.backward()
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"bias": True}], ids=["lora", "rslora", "with bias"])
def test_joined_products_give_the_loss_and_the_gradients_of_peft(settings):
    import torch

    from ftlab.training.speed import fuse_lora, unfuse_lora

    model = _model(**settings).train()
    loss, gradients = _step(model)
    assert fuse_lora(model) == 14  # seven linear layers in each of two blocks
    joined_loss, joined = _step(model)
    torch.testing.assert_close(joined_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(joined[name], gradient, msg=name)
    unfuse_lora(model)
    assert torch.equal(_step(model)[0], loss)


def test_in_bfloat16_joined_products_are_as_near_to_float32_as_those_of_peft():
    import statistics

    import torch

    from ftlab.training.speed import fuse_lora

    model, exact = (_model(width=128).train() for _ in range(2))
    model.get_base_model().to(torch.bfloat16)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    exact.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    exact_loss, exact_gradients = _step(exact)

    def errors(loss, gradients):
        apart = [float((gradients[name] - one).norm() / one.norm()) for name, one in exact_gradients.items()]
        return abs(loss.item() - exact_loss.item()), statistics.median(apart)

    with torch.autocast("cpu", torch.bfloat16):
        theirs = errors(*_step(model))
        assert fuse_lora(model) == 14
        ours = errors(*_step(model))
    assert ours[0] < 0.02 and theirs[0] < 0.02
    assert ours[1] < 0.03 and ours[1] < 1.5 * theirs[1]


def test_joined_products_are_left_out_where_the_adapter_is_switched_off():
    import torch

    from ftlab.training.speed import fuse_lora

    model = _model().train()
    ids = torch.arange(10)[None]
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    fuse_lora(model)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, base)
    assert not torch.equal(model(input_ids=ids).logits, base)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}], ids=["dropout", "dora"])
def test_layers_that_compute_something_else_are_left_alone(settings):
    from ftlab.training.speed import fuse_lora

    assert fuse_lora(_model(**settings)) == 0


def test_gradient_checkpointing_goes_through_joined_products():
    import torch

    from ftlab.training.speed import fuse_lora

    model = _model().train()
    loss, gradients = _step(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    fuse_lora(model)
    joined_loss, joined = _step(model)
    torch.testing.assert_close(joined_loss, loss)
    torch.testing.assert_close(joined, gradients)
