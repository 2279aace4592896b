"""A base that is not on this machine: what its configuration, or only its name, says, and that it is called a guess."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset

from ftlab.config import ModelConfig, build_config
from ftlab.data.rendering import facts_of
from ftlab.errors import InputError
from ftlab.models.estimate import estimate, is_here, longest_by_text
from ftlab.models.load import load_tokenizer
from ftlab.training.preflight.finding import as_lines
from ftlab.training.preflight.measure import run_preflight
from ftlab.training.sizes import about_template

# The shape of Llama 3.2 1B (its config.json on the Hub): 1,235,814,400 weights, with input and output tied.
LLAMA_1B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}
# The seven linear layers of a block: 4 for attention (keys and values are 8 x 64 wide), 3 for the feed-forward part.
BLOCK = 2048 * 2048 * 2 + 2048 * 512 * 2 + 2048 * 8192 * 3


@pytest.fixture
def cached_config(tmp_path, monkeypatch):
    """A Hub cache that holds config.json of org/llama-1b, and no weights; the network is forbidden."""
    import huggingface_hub.constants

    folder = tmp_path / "hub" / "models--org--llama-1b"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text(json.dumps(LLAMA_1B))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return "org/llama-1b"


def config(base, method="lora", **settings):
    settings = {"batch_size": 4, "max_length": 1024} | settings
    return build_config({"model": {"base": base}, "method": {"name": method}, "optimisation": settings}).resolved()


def test_a_base_is_here_once_its_weights_are(cached_config):
    assert is_here(ModelConfig(base="starter"))
    assert not is_here(ModelConfig(base=cached_config))
    with pytest.raises(InputError, match="no such model folder"):
        is_here(ModelConfig(base="./nowhere"))


def test_the_configuration_tells_the_weights_and_what_lora_trains(cached_config):
    found = estimate(config(cached_config), torch.bfloat16)
    # Rank 16 on seven linear layers a block: 16 x (in + out) each.
    lora = 16 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192))
    assert found.trained_parameters == lora
    assert found.total_parameters == 1_235_814_400 + lora
    assert found.source == "the configuration of the base"
    assert any("estimate" in note for note in found.notes)


def test_memory_is_the_sum_of_weights_optimiser_and_a_full_batch(cached_config):
    gigabyte = 1 << 30
    need = estimate(config(cached_config), torch.bfloat16).need
    lora = 16 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192))
    # bfloat16 weights; the adapter in float32 with its gradient and two moments; the libraries.
    assert need.fixed == 2 * 1_235_814_400 + (4 + 4 + 8) * lora + gigabyte
    # 34 bytes a channel and layer, and three float32 copies of the logits, for each of 4 x 1,024 tokens.
    assert need.activations == 4096 * (34 * 2048 * 16 + 12 * 128256)


def test_full_tuning_needs_sixteen_bytes_a_weight(cached_config):
    need = estimate(config(cached_config, "full"), torch.bfloat16).need
    # Weight, gradient, two moments: 4 + 4 + 8 bytes (Rajbhandari et al. 2020 count the same 16 for mixed precision).
    assert need.fixed - (1 << 30) == 16 * 1_235_814_400


def test_qlora_keeps_the_linear_layers_in_four_bits(cached_config):
    need = estimate(config(cached_config, "qlora"), torch.bfloat16).need
    lora = 16 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192))
    linear = 16 * BLOCK
    weights = 2 * (1_235_814_400 - linear) + 0.52 * linear
    assert need.fixed == pytest.approx(weights + 16 * lora + (1 << 30), abs=2)


def test_without_a_configuration_the_name_is_all_there_is_and_it_says_so(cached_config, workspace):
    found = run_preflight(config("someone/else-7B"), workspace)
    assert found.kind == "estimate"
    assert found.total_parameters == 7_000_000_000
    assert found.trained_parameters is None and found.total_seconds is None
    assert found.estimated_from == "the name of the base"
    assert "HF_HUB_OFFLINE" in " ".join(found.notes)
    nothing = run_preflight(config("someone/else"), workspace)
    assert nothing.fits is None and nothing.peak_bytes is None
    assert "Cannot tell whether it fits" in "\n".join(as_lines(nothing))


def test_an_estimate_goes_by_the_rows_that_there_are_and_not_by_the_longest_that_are_allowed(cached_config, tmp_path):
    text = "word " * 60  # 300 bytes, and with the answer 306
    short = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "An end"}]}]
    pair = {"prompt": short[0]["messages"][:1], "chosen": [{"role": "assistant", "content": "x" * 900}], "rejected": []}
    roles = len("user") + len("assistant")
    # A token for three bytes, rounded up, and 48 for the template.
    assert longest_by_text(short) == -(-(306 + roles) // 3) + 48
    assert longest_by_text([*short, pair]) == -(-(1200 + roles) // 3) + 48
    asked = config(cached_config)
    by_rows, by_limit = (estimate(asked, torch.bfloat16, longest) for longest in (256, None))
    assert by_rows.need.activations == by_limit.need.activations / 4  # of 1,024 tokens
    assert "has 256 tokens (the longest row" in " ".join(by_rows.notes)
    assert estimate(asked, torch.bfloat16, 5000).need == by_limit.need, "what is longer is left out or cut"


def test_an_estimate_is_called_one_and_brings_the_warnings_that_need_no_model(cached_config, workspace):
    found = run_preflight(config(cached_config, learning_rate=0.05), workspace, price_per_hour=2)
    text = "\n".join(as_lines(found))
    assert "This is an estimate from the configuration of the base, not a measurement." in text
    assert "rate_high" in [advice.code for advice in found.warnings]
    # 600 rows and 210 of the base's own answers in batches of 4, three times.
    assert found.steps == 609 and "210 of the base's own answers are mixed in" in text
    assert found.cost is None
    assert workspace.runs() == []


def test_a_pair_is_two_texts_and_its_logits_are_never_held(cached_config):
    values = {"model": {"base": cached_config}, "optimisation": {"batch_size": 4, "max_length": 1024}}
    needs = {
        stage: estimate(build_config(values | {"stage": stage}).resolved(), torch.bfloat16).need
        for stage in ("sft", "dpo", "kto")
    }
    # 34 bytes a token, layer and channel (Korthikanti et al. 2022); logits, softmax and gradient in float32 for sft.
    kept = 4 * 1024 * 34 * 2048 * 16
    assert needs["sft"].activations == kept + 4 * 1024 * 3 * 4 * 128256
    assert (needs["dpo"].activations, needs["kto"].activations) == (2 * kept, kept)
    assert needs["dpo"].head_share == 0


def test_a_line_feed_that_the_template_writes_after_the_stop_token_is_no_missing_stop_token():
    """SmolLM2's template ends a turn so; pairs keep its ids beside a mask."""
    tokenizer = load_tokenizer("starter")
    (stop, *_), text = facts_of(tokenizer).stop_ids, tokenizer("Hello\n", add_special_tokens=False).input_ids
    turn, mask = [*text, stop, text[-1]], [True] * (len(text) + 1) + [False]

    def found(**columns):
        return about_template(tokenizer, Dataset.from_dict(columns))["stop_trained"]

    assert found(chosen_ids=[turn], chosen_trained=[mask], rejected_ids=[text], rejected_trained=[mask[:-2]]) is True
    assert found(completion_ids=[text, turn], completion_trained=[mask[:-2], mask]) is True
    assert found(chosen_ids=[turn[:-2]], chosen_trained=[mask[:-2]]) is False
    assert found(labels=[[-100, *text, stop, -100]]) is True
    assert found(chosen_ids=[turn], rejected_ids=[text]) is None, "a reward model learns no text"
