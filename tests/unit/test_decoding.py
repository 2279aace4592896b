"""Answers in batches that shrink: the same answers as one by one, for less work."""

from __future__ import annotations

import random

import pytest
import torch

from ftlab.evaluation.generate import generate_answers
from tests.unit.test_evaluation_models import SMALL, STOP, Letters, plain_answer

STOPS = [STOP, 7, 23, 40, 51]
LIMIT = 16


def build(kind: str):
    from transformers import (
        FalconH1Config,
        FalconH1ForCausalLM,
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
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
    return FalconH1ForCausalLM(FalconH1Config(**SMALL, **mamba)).eval()


def passed(model, call):
    """What `call` returns, and how many rows went through the model in each of its steps."""
    rows = []
    hook = model.model.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len((args or tuple(kwargs.values()))[0])), with_kwargs=True
    )
    try:
        return call(), rows
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["llama", "sliding window", "state space"])
def test_what_has_ended_is_let_go_and_the_others_go_on_as_if_alone(kind):
    model, draw = build(kind), random.Random(2)
    prompts = [[draw.randint(2, 60) for _ in range(draw.randint(1, 24))] for _ in range(24)]
    expected = [plain_answer(model, prompt, STOPS, LIMIT) for prompt in prompts]
    assert len({len(ids) for ids in expected}) > 3

    result, rows = passed(
        model,
        lambda: generate_answers(model, Letters(), prompts, max_new_tokens=LIMIT, stop_ids=STOPS, batch_rows=24),
    )

    assert [a.text for a in result.answers] == [Letters().decode(ids, True) for ids in expected]
    assert [a.tokens for a in result.answers] == [len(ids) for ids in expected]
    needed = sum(len(ids) for ids in expected)
    if kind == "state space":  # its rows cannot be told apart from outside: all stay to the end
        assert set(rows) == {24}
    else:
        assert rows == sorted(rows, reverse=True)
        assert needed <= sum(rows) <= needed * 8 / 7 + 24
