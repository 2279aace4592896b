"""What the methods are, and what each refuses."""

from __future__ import annotations

import typing

import pytest

from ftlab.config import MethodConfig, build_config
from ftlab.config.methods import METHODS, BaseShape, fields_of, rate_range, real_rate
from ftlab.config.presets import PRESETS, preset_of, with_preset
from ftlab.config.sections import summary, unused, virtual_tokens
from ftlab.errors import InputError
from ftlab.models.methods import check_method, size_of


def test_every_method_of_the_form_is_in_the_table_and_every_setting_belongs_to_one():
    assert set(METHODS) == set(typing.get_args(MethodConfig.model_fields["name"].annotation))
    used = {field for name in METHODS for field in fields_of(name)}
    assert used == set(MethodConfig.model_fields) - {"name"}


def test_a_stale_setting_of_another_method_is_remarked_on_and_does_no_harm():
    config = build_config({"method": {"name": "ia3", "rank": 64}})
    assert check_method(config) == ["method.rank is set, but IA3 does not use it."]
    assert unused(build_config({"method": {"name": "lora", "rank": 64}}).method) == []


def test_a_stale_initialisation_does_not_stop_another_method():
    config = build_config({"method": {"name": "prompt_tuning", "initialisation": "pissa"}})
    assert check_method(config) == ["method.initialisation is set, but prompt tuning does not use it."]


@pytest.mark.parametrize(
    "values, words",
    [
        (
            {"method": {"name": "prefix_tuning"}, "optimisation": {"gradient_checkpointing": True}},
            ["Prefix tuning", "gradient checkpointing", "cache"],
        ),
        ({"method": {"name": "prompt_tuning"}, "trainer": {"packing": True}}, ["Prompt tuning", "trainer.packing"]),
        ({"method": {"name": "prefix_tuning"}, "trainer": {"padding_free": True}}, ["trainer.padding_free"]),
        ({"method": {"name": "qlora", "initialisation": "pissa"}}, ["lora only", "pissa", "gaussian"]),
        ({"method": {"name": "dora", "initialisation": "olora"}}, ["lora only", "olora"]),
        ({"method": {"name": "lora", "initialisation": "orthogonal", "rank": 5}}, ["even", "Given: 5", "6"]),
    ],
)
def test_what_a_method_cannot_do_is_refused_in_words(values, words):
    with pytest.raises(InputError) as caught:
        check_method(build_config(values))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "family, width, lora",
    [
        # 5e-4 * (2000 / width) ** slope: the rule of tinker-cookbook, worked out by hand.
        ("llama", 576, 1.3e-3),
        ("llama", 2048, 4.9e-4),
        ("llama", 4096, 2.9e-4),
        ("qwen3", 1024, 5.3e-4),
        ("qwen3", 4096, 4.7e-4),
        # Of other families no slope is published: the lower of both.
        ("gemma3_text", 640, 5.5e-4),
        ("mistral", 4096, 2.9e-4),
    ],
)
def test_the_rate_of_lora_follows_family_and_width_and_full_tuning_takes_a_tenth(family, width, lora):
    shape = BaseShape(family, width)
    assert real_rate("lora", shape) == real_rate("qlora", shape) == lora
    assert real_rate("full", shape) == pytest.approx(lora / 10, rel=0.03)
    for name in METHODS:
        low, high = rate_range(name, shape)
        assert low <= real_rate(name, shape) <= high


def test_a_base_of_unknown_shape_gets_the_rate_of_the_reference_width():
    assert real_rate("lora", None) == 5e-4 and real_rate("full", None) == 5e-5


@pytest.mark.parametrize("method", ["prefix_tuning", "prompt_tuning"])
def test_virtual_tokens_on_a_base_with_a_sliding_window_are_refused(method, tmp_path):
    from transformers import MistralConfig

    from ftlab.config import ModelConfig

    config = MistralConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, sliding_window=8)
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"does not work with this base.*leave the window"):
        size_of(MethodConfig(name=method), ModelConfig(base=str(tmp_path)))


def test_virtual_tokens_take_room_in_the_context():
    assert virtual_tokens(MethodConfig(name="prefix_tuning", virtual_tokens=30)) == 30
    assert virtual_tokens(MethodConfig(name="lora", virtual_tokens=30)) == 0


def test_a_method_is_named_with_the_setting_that_says_most():
    said = [
        summary(MethodConfig(name="lora")),
        summary(MethodConfig(name="qlora", quantisation="int8")),
        summary(MethodConfig(name="bottleneck", placement="pfeiffer")),
        summary(MethodConfig(name="prompt_tuning")),
        summary(MethodConfig(name="full")),
    ]
    assert said == ["lora r=16", "qlora r=16 int8", "bottleneck pfeiffer /8", "prompt_tuning 20 tokens", "full"]


@pytest.mark.parametrize(
    "method, rate",
    # The papers named in method_table.py.
    [("ia3", 3e-3), ("bottleneck", 3e-4), ("prefix_tuning", 5e-3), ("prompt_tuning", 3e-2)],
)
def test_a_real_base_gets_the_rate_of_the_methods_paper(method, rate):
    config = build_config({"model": {"base": "Qwen/Qwen3-0.6B"}, "method": {"name": method}}).resolved()
    assert config.optimisation.learning_rate == rate


def test_sizes_of_a_large_base_are_known_without_its_weights(tmp_path):
    """Llama 3.1 8B: the published 8.03 billion weights; LoRA of rank 16 on all linear layers is 41.9 million."""
    from transformers import LlamaConfig

    from ftlab.config import ModelConfig

    LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    base = ModelConfig(base=str(tmp_path))
    assert size_of(MethodConfig(name="full"), base).total == 8_030_261_248
    lora = size_of(MethodConfig(name="lora"), base)
    assert lora.trained == 41_943_040
    # Four bytes a weight and a header; AdamW adds eight.
    assert 4 * lora.trained < lora.weights_bytes < 4.01 * lora.trained
    assert lora.checkpoint_bytes - lora.weights_bytes == 8 * lora.trained
    assert 0.02 < size_of(MethodConfig(name="bottleneck"), base).share < 0.04


def test_presets_set_epochs_rate_rank_and_evaluation_and_are_found_again():
    small_llama = BaseShape("llama", 576)
    for base, quick, thorough in (("smollm2", (1, 1.5), (5, None)), ("starter", (3, 1.5), (10, None))):
        config = build_config({"model": {"base": base}})
        usual = config.resolved(small_llama).optimisation
        fast, deep = (with_preset(config, name, small_llama) for name in ("quick", "thorough"))
        assert with_preset(config, "balanced", small_llama) == config
        assert fast.optimisation.epochs == quick[0] < usual.epochs < thorough[0] == deep.optimisation.epochs
        assert fast.optimisation.learning_rate == pytest.approx(quick[1] * usual.learning_rate, rel=0.05)
        assert deep.optimisation.learning_rate is None
        assert (fast.method.rank, deep.method.rank) == (8, 32)
        assert fast.evaluation.max_rows < config.evaluation.max_rows < deep.evaluation.max_rows
        for name in PRESETS:
            assert preset_of(with_preset(config, name, small_llama), small_llama) == name


def test_a_preset_changes_no_setting_of_ones_own_and_names_what_it_cannot_do():
    own = build_config({"optimisation": {"epochs": 4}, "method": {"rank": 64}})
    config = with_preset(own, "quick")
    assert (config.optimisation.epochs, config.method.rank, config.evaluation.max_rows) == (4, 64, 50)
    assert preset_of(config) is None
    # A method without ranks is left without one.
    assert unused(with_preset(build_config({"method": {"name": "ia3"}}), "quick").method) == []
    with pytest.raises(InputError, match="quick, balanced, thorough"):
        with_preset(own, "slow")
    with pytest.raises(InputError, match="the stage dpo"):
        with_preset(build_config({"stage": "dpo"}), "quick")
