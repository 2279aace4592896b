"""What several texts begin with is read once.

Every label is scored after the same question, every option after the same multiple-choice question, both answers of a
preference after the same prompt; and the rows of a task often share an instruction.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ftlab.evaluation.batches import pad

# Reading the beginnings is a pass of its own: worth it if it saves this share of all tokens.
_WORTH = 1 / 4
# Keys and values of the beginnings are copied for each row.
_COPIED_TOKENS = 8192


def reads_once(model: Any) -> bool:
    """Whether `model` continues texts from keys and values alone, at positions that the caller gives: no virtual
    tokens, sliding windows or states."""
    from peft import PeftModel
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    from ftlab.models.adapters import Prompted
    from ftlab.models.families import generating_model, keeps_state

    prompted = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning  # as while it trains
    if prompted or isinstance(model, Prompted) or keeps_state(model):
        return False
    inner = generating_model(model)
    taken = inspect.signature(type(inner).forward).parameters
    try:
        layers = DynamicCache(config=inner.config).layers
    except (AttributeError, KeyError, ValueError):  # a configuration without attention
        return False
    # Without a configuration of its layers, the cache makes them as they come.
    plain = all(type(layer) is DynamicLayer for layer in layers)
    return plain and {"position_ids", "past_key_values", "use_cache"} <= set(taken)


def beginnings(encoded: Sequence[Any]) -> list[int]:
    """The number of tokens at the start of each row (with `input_ids` and `trained`) that are read once for several
    rows; 0 for a row that is read by itself. All of them come before the token that predicts the first trained one."""
    asked = []
    for row in encoded:
        first = next((place for place, on in enumerate(row.trained) if on and place), 1)
        asked.append(tuple(row.input_ids[: first - 1]))
    same: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, text in enumerate(asked):
        same[text].append(i)
    begins, alone = [0] * len(encoded), []
    for text, rows in same.items():
        if _is_worth(len(text), [len(encoded[i].input_ids) for i in rows]):
            for i in rows:
                begins[i] = len(text)
        else:
            alone += rows
    if alone:
        common = _common([asked[i] for i in alone])
        if _is_worth(common, [len(encoded[i].input_ids) for i in alone]):
            for i in alone:
                begins[i] = common
    return begins


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all `prompts` (token ids) begin with, and not one of them ends with; 0 if it is not
    worth reading them once."""
    common = _common([tuple(ids[:-1]) for ids in prompts]) if prompts else 0
    return common if _is_worth(common, [len(ids) for ids in prompts]) else 0


def tokens_to_score(encoded: Sequence[Any], once: bool) -> int:
    """The tokens that are read to score the rows `encoded`; `once`: what several begin with counts once."""
    begins = beginnings(encoded) if once else [0] * len(encoded)
    texts = {tuple(row.input_ids[:begin]) for row, begin in zip(encoded, begins, strict=True)}
    return sum(len(row.input_ids) for row in encoded) - sum(begins) + sum(map(len, texts))


def tokens_to_read(prompts: Sequence[Sequence[int]], once: bool) -> int:
    """The tokens that are read before the answers to `prompts`; `once` as in `tokens_to_score`."""
    common = common_beginning(prompts) if once else 0
    return sum(map(len, prompts)) - max(0, len(prompts) - 1) * common


def _common(texts: Sequence[tuple[int, ...]]) -> int:
    # In lexical order, what the first and the last begin with is what all begin with.
    first, last = min(texts), max(texts)
    both = zip(first, last, strict=False)
    return next((place for place, (mine, other) in enumerate(both) if mine != other), len(first))


def _is_worth(shared: int, lengths: Sequence[int]) -> bool:
    return (len(lengths) - 1) * shared >= _WORTH * sum(lengths) > 0


def batches_of(encoded: Sequence[Any], begins: Sequence[int], *, rows: int, tokens: int) -> list[list[int]]:
    """The rows with a beginning, in batches of at most `rows` rows that read at most `tokens` tokens after their
    beginnings; a single row may be longer. Rows with the same beginning come together, the longest first."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, begin in enumerate(begins):
        if begin:
            groups[tuple(encoded[i].input_ids[:begin])].append(i)
    order = [
        i
        for text in sorted(groups, key=len, reverse=True)
        for i in sorted(groups[text], key=lambda i: -len(encoded[i].input_ids))
    ]
    batches: list[list[int]] = []
    longest = rest = 0
    for i in order:
        count, own = len(batches[-1]) + 1 if batches else 1, len(encoded[i].input_ids) - begins[i]
        longest, rest = max(longest, begins[i]), max(rest, own)
        if not batches or count > rows or count * rest > tokens or count * longest > _COPIED_TOKENS:
            batches.append([])
            longest, rest = begins[i], own
        batches[-1].append(i)
    return batches


def read(model: Any, texts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Any, Any]:
    """The keys and values after each of `texts` (token ids), and their mask (texts x tokens, padded on the right).
    Equal texts are read once, and so is what all begin with."""
    import torch

    from ftlab.models.families import next_logits

    numbers: dict[tuple[int, ...], int] = {}
    owner = [numbers.setdefault(tuple(text), len(numbers)) for text in texts]
    different = list(numbers)
    begin = common_beginning(different)
    ids = torch.tensor(pad([list(text[begin:]) for text in different], pad_token_id), device=model.device)
    mask = torch.tensor(pad([[1] * len(text) for text in different], 0), device=model.device)
    settings: dict[str, Any] = {}
    if begin:
        settings["past_key_values"], _ = read(model, [different[0][:begin]] * len(different), pad_token_id)
    places = torch.arange(begin, begin + ids.shape[1], device=model.device).expand_as(ids)
    settings |= {"attention_mask": mask, "position_ids": places, "use_cache": True}
    cache = next_logits(model, ids, **settings).past_key_values
    rows = torch.tensor(owner, device=model.device)
    cache.batch_select_indices(rows)
    return cache, mask[rows]
