"""Answers in batches that rows leave and join: the same answers as one by one, for less work."""

from __future__ import annotations

import random

import pytest
import torch

from ftlab.evaluation.generate import generate_answers, of_like_length
from ftlab.models.adapters import Prompted
from tests.unit.test_evaluation_models import SMALL, STOP, Letters, plain_answer

STOPS = [STOP, 7, 23, 40, 51]
LIMIT = 16


def build(kind: str):
    from transformers import (
        FalconH1Config,
        FalconH1ForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    torch.manual_seed(4)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()
    if kind == "sliding window":
        return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)).eval()
    if kind == "learned positions":
        places = SMALL["max_position_embeddings"]
        config = GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=places, initializer_range=0.6)
        return GPT2LMHeadModel(config).eval()
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
    return FalconH1ForCausalLM(FalconH1Config(**SMALL, **mamba)).eval()


def passed(model, call):
    """What `call` returns, and how many rows and places went through the model at a time."""
    passes = []
    hook = model.get_input_embeddings().register_forward_pre_hook(lambda _, args: passes.append(tuple(args[0].shape)))
    try:
        return call(), passes
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["llama", "sliding window", "state space"])
def test_what_has_ended_is_let_go_and_the_others_go_on_as_if_alone(kind):
    model, draw = build(kind), random.Random(2)
    prompts = [[draw.randint(2, 60) for _ in range(draw.randint(1, 24))] for _ in range(24)]
    expected = [plain_answer(model, prompt, STOPS, LIMIT) for prompt in prompts]
    assert len({len(ids) for ids in expected}) > 3

    result, passes = passed(
        model,
        lambda: generate_answers(model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=24),
    )

    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert [a.tokens for a in result.answers] == [len(ids) for ids in expected]
    needed = sum(len(ids) - 1 for ids in expected)
    steps = [rows for rows, places in passes if places == 1]
    if kind == "state space":  # its rows cannot be told apart from outside: all stay to the end
        assert {rows for rows, _ in passes if rows > 1} == {24}  # one row alone: is padding read?
    else:
        assert steps == sorted(steps, reverse=True)
        assert needed <= sum(steps) <= needed * 8 / 7 + 24


def drawn(model, count: int, longest: int, limit: int, context: int | None = None):
    """Prompts of all lengths, and what the model answers to each alone."""
    draw = random.Random(3)
    prompts = [[draw.randint(2, 60) for _ in range(draw.randint(2, longest))] for _ in range(count)]
    rooms = [min(limit, context - len(prompt)) if context else limit for prompt in prompts]
    return prompts, [plain_answer(model, prompt, STOPS, room) for prompt, room in zip(prompts, rooms, strict=True)]


@pytest.mark.parametrize("kind", ["llama", "learned positions", "sliding window", "state space"])
def test_rows_that_wait_join_those_at_work_and_answer_as_if_alone(kind):
    model = build(kind)
    prompts, expected = drawn(model, 60, 24, LIMIT)
    finished = []
    result, rows = passed(
        model,
        lambda: generate_answers(
            model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=8, advance=finished.append
        ),
    )
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert [a.tokens for a in result.answers] == [len(ids) for ids in expected]
    assert sum(finished) == 60 and max(count for count, _ in rows) == 8
    steps = [count for count, places in rows if places == 1]
    needed = sum(len(ids) - 1 for ids in expected)
    if kind in ("llama", "learned positions"):
        assert sum(places > 1 for _, places in rows) > 60 / 8, "rows joined a batch at work"
        assert len(steps) < 1.5 * needed / 8, "few places of the batch stay empty"
    else:
        assert sum(places > 1 for count, places in rows if count > 1) == 8, "batch by batch"


@pytest.mark.parametrize("kind", ["llama", "learned positions", "sliding window", "state space"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_an_instruction_that_all_prompts_begin_with_is_read_once(kind, temperature):
    model, draw = build(kind), random.Random(6)
    instruction = [draw.randint(2, 60) for _ in range(20)]
    prompts = [instruction + [draw.randint(2, 60) for _ in range(draw.randint(1, 12))] for _ in range(40)]

    def answered(prompts, **settings):
        more = {"max_new_tokens": LIMIT, "stop_ids": STOPS, "temperature": temperature, "batch_rows": 8} | settings
        return generate_answers(model, Letters(), prompts, **more).answers

    alone = [answered([prompt], batch_rows=1)[0] for prompt in prompts]
    result, passes = passed(model, lambda: answered(prompts))
    assert result == alone
    prompt_places = sum(rows * places for rows, places in passes if places > 1)
    own = sum(len(prompt) - 20 for prompt in prompts)
    if kind in ("llama", "learned positions"):
        assert prompt_places < 20 + 2 * own
    else:
        assert prompt_places >= 40 * 20 + own


@pytest.mark.parametrize("name", ["prefix tuning", "prompt tuning"])
def test_behind_virtual_tokens_a_batch_stays_what_it_was_and_answers_as_one_by_one(name):
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    kind = PrefixTuningConfig if name == "prefix tuning" else PromptTuningConfig
    tuned = get_peft_model(build("llama"), kind(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with torch.no_grad():
        for parameter in tuned.prompt_encoder.parameters():
            parameter.normal_()
    model = Prompted(tuned).eval()
    prompts, expected = drawn(model, 30, 24, LIMIT)
    assert expected != drawn(model.base, 30, 24, LIMIT)[1], "the virtual tokens change what is answered"
    result = generate_answers(model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=8)
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]


@pytest.mark.parametrize("kind", ["llama", "state space"])
def test_what_is_drawn_depends_on_prompt_and_number_alone(kind):
    model = build(kind)
    prompts, _ = drawn(model, 16, 24, LIMIT)

    def texts(batch_rows, number, some=slice(None), temperature=0.8):
        settings = {"max_new_tokens": LIMIT, "stop_ids": STOPS, "batch_rows": batch_rows, "temperature": temperature}
        return [a.text for a in generate_answers(model, Letters(), prompts[some], sample=number, **settings).answers]

    alone = texts(1, 1)
    assert texts(4, 1) == alone and texts(16, 1, slice(8, 16)) == alone[8:]
    assert sum(one != other for one, other in zip(alone, texts(4, 2), strict=True)) > 8
    assert texts(4, 1, temperature=1e-6) == texts(4, 1, temperature=0.0), "near 0 it is greedy"


def test_tokens_are_drawn_as_often_as_the_model_finds_them_likely_at_that_temperature():
    model, draw = build("llama"), random.Random(8)
    prompts = [[draw.randint(2, 60) for _ in range(4)] for _ in range(3000)]
    with torch.no_grad():
        shares = torch.softmax(model(torch.tensor(prompts)).logits[:, -1].double() / 1.5, dim=-1)
    settings = {"max_new_tokens": 1, "stop_ids": [0, 1], "batch_rows": 500, "temperature": 1.5}
    tokens = torch.tensor([int(a.text or 0) for a in generate_answers(model, Letters(), prompts, **settings).answers])
    order = shares.argsort(dim=-1, descending=True)
    for rank in (0, 1, 5, 20):
        likely = shares.gather(1, order[:, rank : rank + 1])[:, 0]
        seen = int((tokens == order[:, rank]).sum())
        assert abs(seen - likely.sum()) < 4 * (likely * (1 - likely)).sum() ** 0.5


def test_prompts_are_read_in_groups_of_like_length():
    model, draw = build("llama"), random.Random(6)
    lengths = [60, 58, 55, *[10] * 13]
    prompts = [[draw.randint(2, 60) for _ in range(length)] for length in draw.sample(lengths, len(lengths))]
    expected = [plain_answer(model, prompt, STOPS, 4) for prompt in prompts]
    result, passes = passed(
        model, lambda: generate_answers(model, Letters(), prompts, max_new_tokens=4, stop_ids=STOPS, batch_rows=16)
    )
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert [shape for shape in passes if shape[1] > 1] == [(5, 60), (11, 10)], "410 places, not 960"


def test_a_group_has_little_padding_unless_it_is_small():
    def grouped(lengths):
        mask = torch.tensor([[0] * (max(lengths) - length) + [1] * length for length in lengths])
        return [lengths[part] for part in of_like_length(mask)]

    assert grouped([5]) == [[5]]
    assert grouped([9, 3, 1]) == [[9, 3, 1]], "too few places for a pass of their own"
    assert grouped([400, 390, 310, 300]) == [[400, 390, 310, 300]]
    assert grouped([400, 390, 40, 30]) == [[400, 390], [40, 30]]
    assert grouped([400, 390, 200, 199, 198, 20]) == [[400, 390, 200], [199, 198], [20]]


def test_no_row_is_carried_past_the_last_place_of_the_model():
    """Places are a table here: one too many is an error. A row ends early, alone, while those around it came later."""
    model, context, limit = build("learned positions"), SMALL["max_position_embeddings"], 30
    draw = random.Random(5)
    many = [[draw.randint(2, 60) for _ in range(context - limit)] for _ in range(700)]
    found = generate_answers(model, Letters(), many, max_new_tokens=limit, stop_ids=STOPS, batch_rows=100)
    lengths = [answer.tokens for answer in found.answers]
    quick = [prompt for prompt, tokens in zip(many, lengths, strict=True) if tokens == 3][:15]
    carried = [prompt for prompt, tokens in zip(many, lengths, strict=True) if 8 <= tokens <= 20][:1]
    lasting = [prompt for prompt, tokens in zip(many, lengths, strict=True) if tokens == limit][:15]
    assert (len(quick), len(carried), len(lasting)) == (15, 1, 15)
    prompts = [*carried, *quick, *lasting]
    expected = [plain_answer(model, prompt, STOPS, limit) for prompt in prompts]
    widths = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["past_key_values"].get_seq_length()), with_kwargs=True
    )
    result = generate_answers(
        model, Letters(), prompts, max_new_tokens=limit, stop_ids=STOPS, batch_rows=16, context=context
    )
    hook.remove()
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert max(widths) < context, "what no row has any more is cut"


def test_on_a_cpu_the_keys_and_values_of_a_batch_stay_in_their_room_and_the_answers_the_same(monkeypatch):
    # A token of this model takes 2 layers x 2 x 2 heads x 8 numbers of 4 bytes: 256 bytes.
    monkeypatch.setattr("ftlab.evaluation.generate._CACHE_BYTES", 160 * 256)
    model = build("llama")
    prompts, expected = drawn(model, 60, 24, LIMIT)
    held, rows = [], []

    def look(_, args, kwargs):
        count, places = kwargs["input_ids"].shape
        held.append(count * (kwargs["past_key_values"].get_seq_length() + places))
        rows.append(count)

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    result = generate_answers(model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=16)
    hook.remove()
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert max(held) <= 160
    assert max(rows) == 8, "two to sixteen tokens of prompt and sixteen of answer"


def test_rows_taken_in_when_memory_runs_out_are_answered_all_the_same(monkeypatch):
    model = build("llama")
    prompts, expected = drawn(model, 30, 24, LIMIT)
    forward, passes = type(model).forward, []

    def small_device(self, input_ids, **kwargs):
        passes.append(len(input_ids))
        if len(passes) > 20 and len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", small_device)
    finished = []
    result = generate_answers(
        model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=8, advance=finished.append
    )
    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert sum(finished) == 30 and result.halved_to is not None


def test_what_is_read_once_counts_once_in_the_time_that_is_foretold():
    from ftlab.data.rendering import Encoded
    from ftlab.evaluation.beginnings import tokens_to_read, tokens_to_score

    asked = [[5] * 9 + [n, 6] for n in range(3)]
    rows = [Encoded([*ids, 1, 2], [False] * 11 + [True] * 2) for ids in asked for _ in range(4)]
    # Of each question all but its last token, which predicts the answer.
    assert (tokens_to_score(rows, False), tokens_to_score(rows, True)) == (12 * 13, 3 * 10 + 12 * 3)
    assert (tokens_to_read(asked, False), tokens_to_read(asked, True)) == (33, 9 + 3 * 2)
    alone = [[1, 2, 3], [4, 5, 6]]
    assert tokens_to_read(alone, True) == 6 and tokens_to_read([], True) == 0 == tokens_to_score([], True)
