"""Losses and answers of a tiny random Llama, checked against plain loops that share no code with ftlab."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest
import torch

from ftlab.core.jobs import Stopped
from ftlab.errors import FtlabError
from ftlab.evaluation.batches import by_length, pad, run_batches
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.losses import score_losses
from ftlab.evaluation.metrics.measures import corpus_perplexity

PAD, STOP = 0, 1
SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.6,
}


class Letters:
    """The smallest tokenizer: one token per letter; tokens 0 and 1 are special."""

    pad_token_id = PAD

    def decode(self, ids, skip_special_tokens):
        return " ".join(str(i) for i in ids if i > STOP or not skip_special_tokens)


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()


@pytest.fixture(scope="module")
def rows():
    draw = random.Random(1)
    made = []
    for _ in range(17):
        question, answer = draw.randint(1, 30), draw.randint(1, 12)
        ids = [draw.randint(2, 60) for _ in range(question + answer)]
        made.append(SimpleNamespace(input_ids=ids, trained=[False] * question + [True] * answer))
    # Two answers in one text: labels need not be at the end.
    made[3].trained[:] = [i % 3 == 1 for i in range(len(made[3].trained))]
    return made


def plain_losses(model, rows):
    """One row at a time, all logits, log-softmax in float64, a Python loop over the tokens."""
    sums, counts = [], []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.input_ids])).logits[0].double()
        total = count = 0
        for position in range(1, len(row.input_ids)):
            if row.trained[position]:
                total -= torch.log_softmax(logits[position - 1], dim=0)[row.input_ids[position]].item()
                count += 1
        sums.append(total)
        counts.append(count)
    return sums, counts


@pytest.mark.parametrize(("batch_rows", "batch_tokens"), [(1, 4096), (4, 4096), (64, 4096), (64, 50)])
def test_losses_are_those_of_a_plain_loop_whatever_the_batch(model, rows, batch_rows, batch_tokens):
    sums, counts = plain_losses(model, rows)
    losses = score_losses(model, rows, pad_token_id=PAD, batch_rows=batch_rows, batch_tokens=batch_tokens)
    assert losses.tokens == counts
    assert losses.nll == pytest.approx(sums, rel=1e-5)
    assert losses.perplexity == pytest.approx(math.exp(sum(sums) / sum(counts)), rel=1e-6)


def test_losses_do_not_depend_on_the_order_of_the_rows(model, rows):
    forward = score_losses(model, rows, pad_token_id=PAD)
    backward = score_losses(model, rows[::-1], pad_token_id=PAD)
    assert backward.nll[::-1] == pytest.approx(forward.nll, rel=1e-6)


def test_a_model_that_caps_its_logits_is_scored_with_the_cap(rows):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    gemma = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.5)).eval()
    sums, counts = plain_losses(gemma, rows)
    # No logit is beyond 0.5, so no token can cost more than log(60 e + 1) nats or less than log(60 / e + 1).
    assert all(
        n * math.log(60 / math.e + 1) <= s <= n * math.log(60 * math.e + 1) for s, n in zip(sums, counts, strict=True)
    )
    assert score_losses(gemma, rows, pad_token_id=PAD).nll == pytest.approx(sums, rel=1e-5)


def test_an_adapter_is_scored_and_its_base_too(model, rows):
    import copy

    from peft import LoraConfig, get_peft_model

    from ftlab.models.adapters import adapter_disabled

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config).eval()
    assert score_losses(adapted, rows, pad_token_id=PAD).nll == pytest.approx(plain_losses(adapted, rows)[0], rel=1e-5)
    with adapter_disabled(adapted) as base:
        scored = score_losses(base, rows, pad_token_id=PAD).nll
    assert scored == pytest.approx(plain_losses(model, rows)[0], rel=1e-5)


def test_perplexity_weighs_every_token_the_same():
    # Token probabilities 1/2 (three times) and 1/16 (once): the geometric mean is (2 * 2 * 2 * 16) ** (1/4).
    assert corpus_perplexity([3 * math.log(2), math.log(16)], [3, 1]) == pytest.approx(128**0.25)


def test_a_diverged_model_is_named_and_not_scored():
    with pytest.raises(FtlabError, match="not a number"):
        corpus_perplexity([1.0, float("nan")], [1, 1])


def plain_answer(model, prompt, stops, limit):
    ids = list(prompt)
    for _ in range(limit):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch_rows", [1, 3, 32])
def test_answers_in_batches_are_the_answers_one_by_one(model, rows, batch_rows):
    prompts = [row.input_ids for row in rows]
    stops = [STOP, 7, 23, 40]
    expected = [plain_answer(model, prompt, stops, 12) for prompt in prompts]
    result = generate_answers(model, Letters(), prompts, max_new_tokens=12, stop_ids=stops, batch_rows=batch_rows)
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert [a.tokens for a in result.answers] == [len(ids) for ids in expected]
    assert [a.cut for a in result.answers] == [ids[-1] not in stops for ids in expected]
    assert {a.cut for a in result.answers} == {True, False}


def test_an_answer_does_not_run_past_the_context(model, rows):
    prompts = [row.input_ids for row in rows]
    result = generate_answers(model, Letters(), prompts, max_new_tokens=40, stop_ids=[STOP], context=40)
    assert all(a.tokens <= 40 - len(p) for a, p in zip(result.answers, prompts, strict=True))
    full = [plain_answer(model, p, [STOP], 40 - len(p)) for p in prompts]
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in full]


def test_sampling_settings_of_the_base_do_not_reach_the_answers(model, rows, recwarn, caplog):
    from transformers import GenerationConfig

    prompts = [row.input_ids for row in rows[:4]]
    plain = generate_answers(model, Letters(), prompts, max_new_tokens=12, stop_ids=[STOP])
    kept = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, top_p=0.3, top_k=2, min_p=0.1, repetition_penalty=9.0, max_length=5
    )
    try:
        loud = generate_answers(model, Letters(), prompts, max_new_tokens=12, stop_ids=[STOP])
        assert model.generation_config.temperature == 5.0
    finally:
        model.generation_config = kept
    assert loud.answers == plain.answers
    assert not recwarn.list
    assert not caplog.records


def test_out_of_memory_halves_the_batch_and_loses_no_row(model, rows, monkeypatch):
    expected = score_losses(model, rows, pad_token_id=PAD).nll
    forward = type(model).forward

    def small_device(self, input_ids, **kwargs):
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", small_device)
    seen = []
    losses = score_losses(model, rows, pad_token_id=PAD, advance=seen.append)
    assert losses.nll == pytest.approx(expected, rel=1e-6)
    assert losses.halved_to == 2
    assert sum(seen) == len(rows)


def test_when_not_even_one_row_fits_the_message_says_so():
    def work(batch):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes")

    with pytest.raises(FtlabError, match="Not enough memory for even one row"):
        run_batches([[0, 1, 2]], work)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def work(batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_batches([[0, 1]], work)


def test_stopping_is_noticed_in_the_middle_of_a_batch(model, rows):
    calls = iter(range(100))

    with pytest.raises(Stopped):
        generate_answers(
            model,
            Letters(),
            [row.input_ids for row in rows],
            max_new_tokens=30,
            stop_ids=[STOP],
            should_stop=lambda: next(calls) >= 3,
        )
    assert next(calls) < 10


def test_batches_hold_every_row_once_and_keep_to_the_budget():
    lengths = [5, 90, 12, 40, 41, 7, 300, 8]
    batches = by_length(lengths, rows=3, tokens=100)
    assert sorted(i for batch in batches for i in batch) == list(range(8))
    assert batches[0] == [6]
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 100 for b in batches)
    assert max(map(len, batches)) <= 3


def test_padding_goes_where_it_is_asked_for():
    assert pad([[1], [2, 3]], 0) == [[1, 0], [2, 3]]
    assert pad([[1], [2, 3]], 0, left=True) == [[0, 1], [2, 3]]
