"""Greedy answers in batches, the same as one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.batches import Stopped, by_length, pad, run_batches
from ftlab.evaluation.decoding import greedy


@dataclass(frozen=True)
class Answer:
    """`text` without special tokens; `tokens` made, the stop token included; `cut` when the limit ended it."""

    text: str
    tokens: int
    cut: bool


@dataclass(frozen=True)
class Answers:
    """In the order of the prompts. `halved_to`: the rows at once that fitted, when memory ran out in between."""

    answers: list[Answer]
    halved_to: int | None = None


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    batch_rows: int = 32,
    context: int | None = None,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Answers:
    """The most likely answer to each of `prompts` (token ids), token by token, of at most `max_new_tokens`.

    Prompts are sorted by length and padded on the left; a batch lets go of answers as they end. An answer ends
    with the first of `stop_ids`, or where prompt and answer fill `context` tokens. Raises Stopped, also in the middle
    of a batch.
    """
    import torch
    from transformers import StoppingCriteriaList

    found: list[Answer | None] = [None] * len(prompts)
    room = [min(max_new_tokens, context - len(ids)) if context else max_new_tokens for ids in prompts]
    for index, tokens in enumerate(room):
        if tokens < 1:
            found[index] = Answer("", 0, True)

    def ended_by_person(input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((len(input_ids),), bool(should_stop and should_stop()), device=input_ids.device)

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        ids = torch.tensor(
            pad([list(prompts[i]) for i in batch], tokenizer.pad_token_id, left=True), device=model.device
        )
        mask = torch.tensor(pad([[1] * len(prompts[i]) for i in batch], 0, left=True), device=model.device)
        limit = room[batch[0]]
        with _plain_generation(model):
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=list(stop_ids),
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([ended_by_person]),
                custom_generate=greedy,
            )
        if should_stop and should_stop():
            raise Stopped
        for i, made in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
            found[i] = _answer(made, tokenizer, set(stop_ids))

    # Rows near the end of the context have less room; a batch shares one limit, so they form batches of their own.
    batches = []
    for tokens in sorted(set(room), reverse=True):
        members = [i for i in range(len(prompts)) if room[i] == tokens and found[i] is None]
        batches += [
            [members[k] for k in batch] for batch in by_length([len(prompts[i]) for i in members], rows=batch_rows)
        ]
    if advance and (skipped := sum(answer is not None for answer in found)):
        advance(skipped)
    halved_to = run_batches(batches, work, advance=advance, should_stop=should_stop)
    return Answers([answer for answer in found if answer is not None], halved_to)


def _answer(made: list[int], tokenizer: Any, stops: set[int]) -> Answer:
    end = next((at for at, token in enumerate(made) if token in stops), None)
    kept = made if end is None else made[: end + 1]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), end is None)


@contextlib.contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """Within it the model brings no generation settings of its own.

    transformers fills settings that a call leaves open from the model's generation_config, where bases keep a
    temperature, penalties and the like: the answers would not be greedy, and each batch would warn.
    """
    from transformers import GenerationConfig

    from ftlab.models.load import generating_model

    inner = generating_model(model)
    kept = inner.generation_config
    try:
        inner.generation_config = GenerationConfig()
        yield
    finally:
        inner.generation_config = kept
