"""The number format on a CPU is the one that this CPU computes faster in, and both give the same answers."""

from __future__ import annotations

import time

import pytest
import torch

from ftlab.config import ModelConfig, build_config
from ftlab.models import load as precision
from ftlab.models.load import pick_dtype, shape_of


@pytest.fixture
def wide(tmp_path):
    """A folder with the description of a base that is wide enough for short formats."""
    from transformers import LlamaConfig

    LlamaConfig(hidden_size=576, intermediate_size=1536, vocab_size=100).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    return ModelConfig(base=str(tmp_path))


def timed(dtype):
    states, weight = torch.ones(512, 1024, dtype=dtype), torch.ones(3072, 1024, dtype=dtype)
    torch.nn.functional.linear(states, weight)
    found = []
    for _ in range(3):
        began = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        found.append(time.perf_counter() - began)
    return min(found)


def test_a_cpu_computes_in_bfloat16_only_where_its_products_are_faster_in_it(wide):
    gain = timed(torch.float32) / timed(torch.bfloat16)
    if 1 < gain < 2:
        pytest.skip(f"this CPU gains {gain:.2g} in bfloat16: either format is right")
    assert pick_dtype(wide, "cpu") == (torch.bfloat16 if gain >= 2 else torch.float32)


def test_the_starter_keeps_float32_and_a_person_is_obeyed(wide):
    assert pick_dtype(ModelConfig(), "cpu") == torch.float32
    for name in ("float32", "bfloat16"):
        assert pick_dtype(wide.model_copy(update={"dtype": name}), "cpu") == getattr(torch, name)


def test_the_gain_is_measured_once_in_a_process():
    precision.bfloat16_gain()
    began = time.perf_counter()
    precision.bfloat16_gain()
    assert time.perf_counter() - began < 0.005


def test_the_shape_of_a_base_comes_from_its_description_also_where_the_text_is_one_part_of_it(tmp_path):
    from transformers import GPT2Config

    assert shape_of(ModelConfig()).family == "llama"
    GPT2Config(n_embd=48, n_head=4).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert shape_of(ModelConfig(base=str(tmp_path))) == shape_of(ModelConfig(base=str(tmp_path)))
    assert shape_of(ModelConfig(base=str(tmp_path))).width == 48
    (tmp_path / "config.json").write_text('{"model_type": "gemma3", "text_config": {"hidden_size": 640}}')
    found = shape_of(ModelConfig(base=str(tmp_path)))
    assert (found.family, found.width) == ("gemma3", 640)
    assert shape_of(ModelConfig(base="nobody/never-downloaded")) is None


def test_a_run_on_a_real_base_takes_the_rate_of_the_published_rule_for_its_width(wide):
    config = build_config({"model": {"base": wide.base}})
    # 5e-4 * (2000 / 576) ** 0.781, by hand: 1.32e-3
    assert config.resolved(shape_of(config.model)).optimisation.learning_rate == pytest.approx(1.3e-3)


def test_the_shape_of_a_gguf_file_is_in_its_header_before_it_is_converted(tmp_path, monkeypatch):
    from tests.tiny_gguf import tiny_model, write_gguf

    monkeypatch.setenv("FTLAB_BASES", str(tmp_path / "bases"))
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    found = shape_of(ModelConfig(base=str(file)))
    assert (found.family, found.width) == ("llama", 64)


def test_a_frozen_head_is_not_copied_for_each_row_of_a_batch(tmp_path):
    """In a process of its own: torch takes the memory for the copies where no profiler sees it."""
    import subprocess
    import sys

    program = f"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from ftlab.config import ModelConfig
from ftlab.models.load import load_base
from ftlab.training.sizes import peak_memory
sizes = dict(vocab_size=30000, hidden_size=512, intermediate_size=64, num_hidden_layers=1, num_attention_heads=8)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained({str(tmp_path)!r})
model = load_base(ModelConfig(base={str(tmp_path)!r}, dtype="bfloat16"), device="cpu").requires_grad_(False)
ids = torch.randint(10, 900, (32, 4))
before = peak_memory('cpu')
with torch.inference_mode():
    last, whole = model(input_ids=ids, logits_to_keep=1).logits, model(input_ids=ids).logits[:, -1:]
assert torch.allclose(last, whole, atol=1e-2)
print(peak_memory('cpu') - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # The head has 31 MB, and there are 32 rows.
    assert int(done.stdout.split()[-1]) < 300e6
