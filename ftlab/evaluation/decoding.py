"""Greedy decoding of a batch that lets go of the answers that have ended.

transformers carries a batch on whole until its longest answer ends: where one answer in thirty-two is long, nearly all
work is done on rows that are over. Passed to `generate` as `custom_generate`, its own way of changing the decoding.
"""

from __future__ import annotations

from typing import Any

# Letting go copies the cache of the rows that stay: worth it once an eighth of them is over.
_ENDED_SHARE = 1 / 8
# What belongs to single rows besides the cache. Whatever else a model keeps for a batch, its rows all stay.
_PER_ROW = ("attention_mask", "position_ids", "token_type_ids")


def greedy(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **model_kwargs: Any,
) -> Any:
    """The most likely continuation of each of `input_ids` (rows x tokens): rows x (tokens given and new).

    Ended rows are filled with the padding token. Every criterion ends the rows for which it is true.
    Source of the steps: transformers 5.23, GenerationMixin._sample.
    """
    import torch

    padding = generation_config._pad_token_tensor.to(input_ids.device)
    made = [input_ids]
    rows = torch.arange(len(input_ids), device=input_ids.device)  # those at work, as rows of the batch given
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    while True:
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs, is_encoder_decoder=False)
        # float() copies in half precision, and indexing keeps the whole prompt's logits alive: only the last are kept.
        scores = logits_processor(input_ids, outputs.logits[:, -1].to(copy=True, dtype=torch.float32))
        del outputs
        tokens = torch.where(ended, padding, scores.argmax(dim=-1))
        made.append(padding.expand(len(made[0])).scatter(0, rows, tokens)[:, None])
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=-1)
        ended = ended | stopping_criteria(input_ids, None)
        over = int(ended.sum())
        if over == len(ended):
            return torch.cat(made, dim=-1)
        if over >= _ENDED_SHARE * len(ended) and (smaller := _rows_of(model_kwargs, ~ended)):
            model_kwargs, input_ids, rows, ended = smaller, input_ids[~ended], rows[~ended], ended[~ended]
        inputs = model.prepare_inputs_for_generation(
            input_ids, next_sequence_length=1 if model_kwargs["use_cache"] else None, **model_kwargs
        )
        outputs = model(**inputs, return_dict=True)


def _rows_of(model_kwargs: dict[str, Any], stay: Any) -> dict[str, Any] | None:
    """`model_kwargs` for the rows that `stay`; None where it is not known how a model keeps its rows apart."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = model_kwargs.get("past_key_values")
    plain = type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
    tensors = {name: value for name, value in model_kwargs.items() if isinstance(value, torch.Tensor)}
    known = all(
        name in _PER_ROW and value.dim() == 2 and len(value) in (1, len(stay)) for name, value in tensors.items()
    )
    if not (plain and known):
        return None
    cache.batch_select_indices(stay.nonzero()[:, 0])
    return model_kwargs | {name: value[stay] for name, value in tensors.items() if len(value) == len(stay)}
