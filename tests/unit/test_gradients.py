"""Evaluating changes no gradient, and where a library says that one is wrong, training ends."""

from __future__ import annotations

import os

import pytest
import torch

from ftlab.config import MethodConfig, ModelConfig
from ftlab.errors import FtlabError
from ftlab.models.load import load_base, load_tokenizer, set_repacking
from ftlab.models.methods import apply_method
from ftlab.training.failures import LogWatch, no_wrong_gradients

METHODS = {
    "lora": {"name": "lora"},
    "dora": {"name": "dora"},
    "qlora nf4": {"name": "qlora"},
    "qlora nf4, single": {"name": "qlora", "double_quantisation": False},
    "qlora fp4": {"name": "qlora", "quantisation": "fp4"},
    "qlora int8": {"name": "qlora", "quantisation": "int8"},
    "ia3": {"name": "ia3"},
    "bottleneck": {"name": "bottleneck"},
    "prefix tuning": {"name": "prefix_tuning"},
    "prompt tuning": {"name": "prompt_tuning"},
    "full": {"name": "full"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Four tiny layers whose shapes the repacked layout of bitsandbytes can hold."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("base"), load_tokenizer("starter")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelConfig(base=str(folder))


def prepared(base, method):
    model = load_base(base, device="cpu", method=method)
    torch.manual_seed(1)
    return apply_method(model, method, tokenizer=load_tokenizer(base.base)).train()


def gradient(model):
    ids = torch.randint(300, (2, 24), generator=torch.Generator().manual_seed(2))
    model.zero_grad()
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss.backward()
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.requires_grad])


def evaluate(model):
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(5, 25)[None])
    model.train()


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_changes_no_gradient(base, method):
    model = prepared(base, MethodConfig(**METHODS[method]))
    before = gradient(model)
    evaluate(model)
    after = gradient(model)
    assert before.norm() > 0
    assert torch.nn.functional.cosine_similarity(before, after, dim=0) > 0.999
    torch.testing.assert_close(after.norm(), before.norm(), rtol=1e-3, atol=0)


def test_a_model_that_is_only_asked_may_be_repacked_where_its_shapes_allow(base):
    from bitsandbytes.functional import has_avx512bf16

    model = load_base(base, device="cpu", method=MethodConfig(name="qlora"))
    layers = [one for one in model.modules() if hasattr(one, "support_avx512bf16_for_cpu")]
    assert layers and not any(one.support_avx512bf16_for_cpu for one in layers)
    layers[0].out_features += 1  # the rows of the repacked layout come in groups of 32
    set_repacking(model, True)
    assert [one.support_avx512bf16_for_cpu for one in layers] == [False] + [bool(has_avx512bf16())] * (len(layers) - 1)


def test_the_backward_pass_of_a_repacked_base_is_refused(base):
    """As bitsandbytes leaves a 4-bit base after an evaluation."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this processor has no AVX512-BF16")
    model = prepared(base, MethodConfig(name="qlora"))
    set_repacking(model, True)
    evaluate(model)
    with no_wrong_gradients(), pytest.raises(Warning, match="silently incorrect"):
        gradient(model)
    with pytest.raises(FtlabError, match="gradients would be wrong") as ended, no_wrong_gradients():
        gradient(model)
    assert "autograd kernel was not registered" in ended.value.why


@pytest.fixture(scope="module")
def without_gradient():
    """An operation of a library that brings no backward."""
    library = torch.library.Library("ftlab_tests", "DEF")
    library.define("doubled(Tensor x) -> Tensor")
    library.impl("doubled", lambda x: 2 * x.detach(), "CPU")
    yield torch.ops.ftlab_tests.doubled
    library._destroy()


def test_an_operation_without_a_backward_ends_training_before_the_weights_change(without_gradient):
    weight = torch.ones(3, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    with pytest.raises(FtlabError, match="gradients would be wrong"), no_wrong_gradients():
        (weight + without_gradient(weight)).sum().backward()
        optimiser.step()
    assert torch.equal(weight.detach(), torch.ones(3))


def test_other_warnings_are_left_alone():
    import warnings

    with no_wrong_gradients(), pytest.warns(UserWarning, match="gradient norm is large"):
        warnings.warn("the gradient norm is large", UserWarning, stacklevel=1)


def test_what_a_library_prints_past_python_is_read_in_the_log(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("an older attempt: silently incorrect behavior\n")
    watch = LogWatch(log)
    with log.open("a") as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            os.write(2, b"[W1129 fallback.cpp:62] Warning: This may lead to silently ")
            watch.check()  # half a line
            os.write(2, b"incorrect behavior.\n")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    with pytest.raises(FtlabError, match="gradients would be wrong"):
        watch.check()
    watch.check()  # said once
