"""Answers in batches, greedy or sampled, the same as one by one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.evaluation.batches import Stopped, pad, run_batches
from ftlab.evaluation.decoding import Work, decode
from ftlab.models.families import padding_changes_answers

# Keys and values of a batch on a CPU, or a quarter of the weights where that is more. 32 rows of 2,755 tokens took 2 GB
# of them beside the 270 MB of SmolLM2 (dpo_en_demo.json).
_CACHE_BYTES = 512 << 20


@dataclass(frozen=True)
class Answer:
    """`text` without special tokens; `tokens` made, the stop token included; `cut` when the limit ended it. `ids` are
    those tokens where the answer was made just now: of a kept one they are not known."""

    text: str
    tokens: int
    cut: bool
    ids: tuple[int, ...] = field(default=(), compare=False, repr=False)


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
    temperature: float = 0.0,
    sample: int = 1,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Answers:
    """An answer to each of `prompts` (token ids) of at most `max_new_tokens`: the most likely token at each step, or
    at a `temperature` above 0 a drawn one.

    What is drawn depends on the prompt and the number `sample` alone, not on batches: the same call gives the same
    answers, and models are asked the same prompt with the same draws. No top-p, no top-k.

    Prompts are sorted by length and padded on the left; where the model reads padding as text, a batch holds prompts
    of one length. A batch lets go of answers as they end and takes in prompts that wait. An answer ends with the first
    of `stop_ids`, or where prompt and answer fill `context` tokens. Raises Stopped, also in the middle of a batch.
    """
    import torch

    found: list[Answer | None] = [None] * len(prompts)
    room = [min(max_new_tokens, context - len(ids)) if context else max_new_tokens for ids in prompts]
    for index, tokens in enumerate(room):
        if tokens < 1:
            found[index] = Answer("", 0, True)
    queue: deque[int] = deque()  # rows of one room whose turn has not come yet, the longest first
    stops = set(stop_ids)
    unpadded = bool(prompts) and padding_changes_answers(model, max(prompts, key=len), tokenizer.pad_token_id)

    def batches() -> Iterator[list[int]]:
        # Rows near the end of the context have less room; a batch shares one limit, so they form batches of their own.
        both = list(zip(room, prompts, strict=True))
        fitting = rows_that_fit(model, [tokens + len(ids) for tokens, ids in both], batch_rows)
        kinds = [
            (tokens, len(ids) if unpadded else 0, -rows) for (tokens, ids), rows in zip(both, fitting, strict=True)
        ]
        for kind in sorted(set(kinds), reverse=True):
            members = [i for i in range(len(prompts)) if kinds[i] == kind and found[i] is None]
            queue.extend(sorted(members, key=lambda i: -len(prompts[i])))
            while queue:
                yield _take(queue, -kind[-1])

    def padded(rows: list[int]) -> tuple[Any, Any]:
        ids = pad([list(prompts[i]) for i in rows], tokenizer.pad_token_id, left=True)
        mask = pad([[1] * len(prompts[i]) for i in rows], 0, left=True)
        return torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        rows = [i for i in batch if found[i] is None]  # after memory ran out, some have their answer
        if not rows:
            return
        limit = room[rows[0]]
        # Made anew with the answers: after memory ran out, a row begins again with its first draw.
        choose = _drawing(prompts, temperature, sample) if temperature else None
        made: dict[int, list[int]] = {i: [] for i in rows}
        untold: list[int] = []

        def tell() -> None:
            if advance and untold:
                advance(len(untold))
            untold.clear()

        def note(names: Sequence[int], tokens: list[int]) -> list[bool]:
            if should_stop and should_stop():
                raise Stopped
            for i, token in zip(names, tokens, strict=True):
                if found[i] is None:
                    made[i].append(token)
                    if token in stops or len(made[i]) == limit:
                        found[i] = _answer(made[i], tokenizer, stops)
                        untold.append(i)
            if len(untold) >= len(rows) / 4:  # each telling may write a file
                tell()
            return [found[i] is not None for i in names]

        def more(count: int) -> tuple[list[int], Any, Any] | None:
            names = _take(queue, count)
            made.update((i, []) for i in names)
            return (names, *padded(names)) if names else None

        ids, mask = padded(rows)
        try:
            with _plain_generation(model):
                model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=limit,
                    do_sample=False,
                    eos_token_id=list(stop_ids),
                    pad_token_id=tokenizer.pad_token_id,
                    custom_generate=decode,
                    work=Work(rows, limit, note, lambda: bool(queue), more, choose),
                )
        except BaseException:
            queue.extendleft(reversed([i for i in made if i not in rows and found[i] is None]))
            raise
        finally:
            tell()

    if advance and (skipped := sum(answer is not None for answer in found)):
        advance(skipped)
    halved_to = run_batches(batches(), work, should_stop=should_stop)
    return Answers([answer for answer in found if answer is not None], halved_to)


def rows_that_fit(model: Any, tokens: Sequence[int], most: int) -> list[int]:
    """For rows of so many `tokens`, prompt and answer, how many of each are answered at once: `most`, or on a CPU the
    power of two whose keys and values fit beside the model. The system kills a process there that takes too much; on a
    GPU memory that runs out is an error, after which half the rows are tried (`run_batches`)."""
    from ftlab.models.families import generating_model

    inner = generating_model(model)
    text = inner.config.get_text_config()
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    if inner.device.type != "cpu" or not layers or not heads:
        return [most] * len(tokens)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    of_token = 2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * width * inner.dtype.itemsize
    weights = sum(one.numel() * one.element_size() for one in inner.parameters())
    room = max(_CACHE_BYTES, weights // 4) // of_token
    return [most if count * most <= room else 2 ** int(math.log2(max(1, room // count))) for count in tokens]


def _drawing(prompts: Sequence[list[int]], temperature: float, sample: int) -> Callable[[Sequence[int], Any], Any]:
    """A function that draws a token for each of some rows, from their scores (rows x vocabulary)."""
    import torch

    numbers: dict[int, random.Random] = {}

    def number(row: int) -> float:
        if row not in numbers:
            seed = hashlib.sha256(json.dumps([sample, list(prompts[row])]).encode()).digest()
            numbers[row] = random.Random(seed)
        return numbers[row].random()

    def choose(rows: Sequence[int], scores: Any) -> Any:
        shares = torch.softmax(scores.double() / temperature, dim=-1).cumsum(dim=-1)
        drawn = torch.tensor([number(row) for row in rows], dtype=shares.dtype, device=shares.device)[:, None]
        # The inverse of the cumulative distribution. Rounding may leave its end a little off 1.
        return torch.searchsorted(shares, drawn * shares[:, -1:], right=True)[:, 0].clamp(max=shares.shape[1] - 1)

    return choose


def _take(queue: deque[int], count: int) -> list[int]:
    return [queue.popleft() for _ in range(min(count, len(queue)))]


def _answer(made: list[int], tokenizer: Any, stops: set[int]) -> Answer:
    end = next((at for at, token in enumerate(made) if token in stops), None)
    kept = made if end is None else made[: end + 1]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), end is None, tuple(kept))


@contextlib.contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """Within it the model brings no generation settings of its own.

    transformers fills settings that a call leaves open from the model's generation_config, where bases keep a
    temperature, penalties and the like: the answers would not be greedy, and each batch would warn.
    """
    from transformers import GenerationConfig

    from ftlab.models.families import generating_model

    inner = generating_model(model)
    kept = inner.generation_config
    try:
        inner.generation_config = GenerationConfig()
        yield
    finally:
        inner.generation_config = kept
