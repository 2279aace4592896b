"""What families do differently is found in the model: weights read past their layer, states, padding, experts."""

from __future__ import annotations

import functools
import random

import pytest
import torch

from ftlab.config import MethodConfig, ModelConfig
from ftlab.data.rendering import Encoded
from ftlab.errors import InputError
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.losses import score_losses
from ftlab.models.families import (
    experts_left_out,
    feed_forward_layers,
    keeps_state,
    padding_changes_answers,
    unread_layers,
)
from ftlab.models.load import load_base
from ftlab.models.methods import apply_method, remarks_on
from ftlab.training import speed as varlen
from tests.families import FAMILIES, sizes
from tests.unit.test_evaluation_models import SMALL, STOP, Letters, plain_answer

_HYBRID = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8, "mamba_expand": 2}
KINDS = {
    "Llama": {},
    "Mamba": {"state_size": 8, "time_step_rank": 4},
    "Mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "Bamba": {"attn_layer_indices": [1], "mamba_n_groups": 1, **_HYBRID},
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
    "Falcon": {},
    "Mixtral": {"num_local_experts": 4, "num_key_value_heads": 2},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "num_key_value_heads": 2},
}


def build(kind: str):
    import transformers

    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(**(SMALL | KINDS[kind]))
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def tiny(family: str):
    """A random model of a family of tests/families.py."""
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_tokenizer

    return AutoModelForCausalLM.from_config(FAMILIES[family](sizes(load_tokenizer("starter"))))


@pytest.mark.parametrize(
    "kind, unread", [("Llama", set()), ("Lfm2", set()), ("Mamba", {"x_proj", "dt_proj", "out_proj"})]
)
def test_layers_whose_weights_are_read_past_them_get_no_adapter(kind, unread):
    model = build(kind)
    assert {name.rsplit(".", 1)[-1] for name in unread_layers(model)} == unread
    tuned = apply_method(model, MethodConfig(name="lora"))
    tuned(input_ids=torch.arange(2, 12)[None], labels=torch.arange(2, 12)[None]).loss.backward()
    silent = [name for name, weight in tuned.named_parameters() if "lora_B" in name and not weight.grad.any()]
    assert not silent and any("lora_B" in name for name, _ in tuned.named_parameters())


def test_of_a_hybrid_only_the_mixers_output_is_left_out_and_not_attention_of_the_same_name():
    assert {name.rsplit(".", 2)[-2:][0] for name in unread_layers(build("Bamba"))} == {"mamba"}


def test_naming_such_a_layer_is_refused_with_those_that_would_do():
    with pytest.raises(InputError, match=r"would have no effect.*x_proj.*in_proj"):
        apply_method(build("Mamba"), MethodConfig(name="lora", targets="in_proj, x_proj"))


# By the families of ftlab/docs/bases.md; nothing where no linear layer of an MLP can be adapted alone.
_GATED, _NEOX = {"gate_proj", "up_proj", "down_proj"}, {"dense_h_to_4h", "dense_4h_to_h"}
MLP = {
    **dict.fromkeys(("Llama", "Qwen2.5", "Qwen3", "Gemma 3", "Mistral", "OLMo 2", "Granite"), _GATED),
    **dict.fromkeys(("GPT-NeoX", "Falcon", "Falcon alibi"), _NEOX),
    "Phi-3": {"gate_up_proj", "down_proj"},
    "GPT-2": {"c_fc", "mlp.c_proj"},
    "LFM2": {"w1", "w2", "w3"},
    "Qwen3-MoE": set(),
    "Mamba": set(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_mlp_names_the_feed_forward_layers_of_each_family_and_no_others(family):
    model = tiny(family)
    method = MethodConfig(name="lora", rank=2, targets="mlp")
    assert set(feed_forward_layers(model)) == MLP[family]
    if not MLP[family]:
        with pytest.raises(InputError, match=r"no MLP layers for LoRA.*all-linear"):
            apply_method(model, method)
        return
    adapted = {
        name.split(".lora_A")[0] for name, _ in apply_method(model, method).named_parameters() if ".lora_A" in name
    }
    layers = model.config.num_hidden_layers
    assert len(adapted) == layers * len(MLP[family])
    assert all(".mlp." in name or ".feed_forward." in name for name in adapted)


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
@pytest.mark.parametrize("kind", ["Mamba", "Lfm2"])
def test_virtual_tokens_are_refused_where_a_state_sums_the_text_up(kind, name):
    with pytest.raises(InputError, match="state"):
        apply_method(build(kind), MethodConfig(name=name), tokenizer=Letters())


@pytest.mark.parametrize(
    "kind, state", [("Llama", False), ("Mixtral", False), ("Mamba", True), ("Mamba2", True), ("Lfm2", True)]
)
def test_a_state_is_seen_and_never_trained_across_examples(kind, state):
    model = build(kind)
    assert keeps_state(model) == state
    assert not (state and varlen.fits(model, "lora", 8))


def test_a_model_that_reads_padding_answers_in_batches_of_one_length_as_it_does_alone():
    class UnmaskedMamba(type(build("Mamba"))):  # generate goes by the name
        @functools.wraps(type(build("Mamba")).forward)  # generate looks at what it takes
        def forward(self, *arguments, attention_mask=None, **settings):
            return super().forward(*arguments, **settings)

    model, draw = build("Mamba"), random.Random(2)
    model.__class__ = UnmaskedMamba
    prompts = [[draw.randint(2, 60) for _ in range(draw.randint(3, 9))] for _ in range(12)]
    assert padding_changes_answers(model, prompts[0], 0)
    result = generate_answers(model, Letters(), prompts, max_new_tokens=6, stop_ids=[STOP], batch_rows=8)
    expected = [plain_answer(model, prompt, [STOP], 6) for prompt in prompts]
    assert [answer.text for answer in result.answers] == [Letters().decode(ids, True) for ids in expected]


@pytest.mark.parametrize("kind", ["Mamba", "Mamba2", "Lfm2"])
def test_a_state_that_is_kept_clean_of_padding_answers_in_full_batches(kind):
    assert not padding_changes_answers(build(kind), list(range(2, 20)), 0)


def test_experts_that_get_no_adapter_are_said():
    trained = apply_method(build("Mixtral"), MethodConfig(name="lora"))
    assert experts_left_out(trained) == 0 and not remarks_on(trained, MethodConfig(name="lora"))
    left_out = apply_method(build("GptOss"), MethodConfig(name="lora"))
    share = experts_left_out(left_out)
    assert share > 0.2
    assert f"{share:.0%}" in remarks_on(left_out, MethodConfig(name="lora"))[0]


@pytest.mark.parametrize("method", [{"name": "dora"}, {"name": "lora", "dropout": 0.1}])
def test_what_experts_cannot_be_trained_with_is_refused_with_what_would_do(method):
    with pytest.raises(InputError, match=r"experts.*q_proj"):
        apply_method(build("Mixtral"), MethodConfig(**method))


def test_a_family_that_makes_logits_of_all_places_gets_the_same_losses():
    class AllLogits(type(build("Llama"))):
        def forward(self, input_ids, attention_mask=None, use_cache=None):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    model = build("Llama")
    rows = [Encoded(list(range(2, 2 + n)), [False] * 3 + [True] * (n - 3)) for n in (6, 11, 9)]
    expected = score_losses(model, rows, pad_token_id=0, batch_rows=2).nll
    model.__class__ = AllLogits
    assert score_losses(model, rows, pad_token_id=0, batch_rows=2).nll == pytest.approx(expected, rel=1e-6)


def test_where_little_is_quantised_it_is_said(tmp_path):
    """Falcon's linear layers are a kind of their own, which bitsandbytes leaves alone."""
    method = MethodConfig(name="qlora", quantisation="int8")
    for kind, remarks in (("Falcon", 1), ("Llama", 0)):
        model = build(kind)
        model.save_pretrained(tmp_path / kind)
        loaded = load_base(ModelConfig(base=str(tmp_path / kind)), device="cpu", method=method)
        found = remarks_on(apply_method(loaded, method), method)
        assert len(found) == remarks and all("0% of the weights" in one for one in found), kind


@pytest.mark.parametrize("family", FAMILIES)
def test_what_rows_begin_with_is_read_once_where_the_family_can_and_costs_no_loss(family):
    """Labels after the same question, rows with the same instruction, and rows of their own."""
    from ftlab.evaluation.beginnings import beginnings, reads_once

    torch.manual_seed(1)
    model = tiny(family).eval()
    draw = random.Random(2)
    text = lambda count: [draw.randint(10, 200) for _ in range(count)]  # noqa: E731
    of = lambda asked, answer: Encoded([*asked, *answer], [False] * len(asked) + [True] * len(answer))  # noqa: E731
    questions = [text(12), text(7)]
    labels = [of(asked, text(count)) for asked in questions for count in (1, 3, 2)]
    instruction = text(14)
    instructed = [of(instruction + text(4), text(3)) for _ in range(3)]
    alone = [of(text(5), text(4)), Encoded(text(6), [True] * 6)]
    both = [of(instruction + asked, text(count)) for asked in questions for count in (1, 3, 2)]
    for rows, shares in ((labels, 6), (instructed, 3), (labels + alone, 6), (both, 6), (alone, 0)):
        assert sum(map(bool, beginnings(rows))) == shares
        sums = []
        for row in rows:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
            at = [place for place in range(1, len(row.input_ids)) if row.trained[place]]
            sums.append(-sum(float(logits[place - 1, row.input_ids[place]]) for place in at))
        seen: list[int] = []
        count = lambda _, inputs, __, seen=seen: seen.append(inputs[0].numel())  # noqa: E731
        handle = model.get_input_embeddings().register_forward_hook(count)
        scored = score_losses(model, rows, pad_token_id=0)
        handle.remove()
        assert scored.nll == pytest.approx(sums, rel=1e-4), family
        if rows is labels or rows is both:
            assert (sum(seen) <= (rows is both) * 14 + 2 * 12 + 6 * 4) == reads_once(model)


def test_which_families_read_a_beginning_once():
    from ftlab.evaluation.beginnings import reads_once

    others = {family for family in FAMILIES if not reads_once(tiny(family))}
    assert others == {"Gemma 3", "Mistral", "Phi-3", "LFM2", "Mamba"}, "sliding windows and states"
