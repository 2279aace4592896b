"""Decoding of a batch that lets go of the answers that have ended and takes in rows that wait.

transformers carries a batch on whole until its longest answer ends: where one answer in thirty-two is long, nearly all
work is done on rows that are over. Its continuous batching does not, and takes four times as long as this on a CPU.
Passed to `generate` as `custom_generate`, its own way of changing the decoding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Letting go copies the cache of the rows that stay: worth it once an eighth of them is over. Where rows wait, taking in
# costs a pass over their prompts as well: that is done for a quarter of the batch at once.
_ENDED_SHARE = 1 / 8
_TAKEN_IN_SHARE = 1 / 4
# Prompts are read in groups of like length: padding costs as much as text.
_PADDED = 1 / 4
_FEW_PLACES = 128
# What belongs to single rows besides the cache. Whatever else a model keeps for a batch, its rows all stay.
_PER_ROW = ("attention_mask", "position_ids", "token_type_ids")


@dataclass(frozen=True)
class Work:
    """The rows of a batch, by names of the caller's, and those that wait. Each makes at most `limit` tokens.

    `note` gets the names of the rows at work and the token that each of them made; it says which of them are over. Rows
    that are over may be carried along, and it is told of them, too. `waits` says whether rows wait. `more` gives up to
    so many of them, the longest first, or None: names, token ids and mask (rows x tokens, padded on the left).
    It is asked only where rows can be added. `choose` takes the names of rows and their scores (rows x vocabulary) and
    gives the token of each; without it the likeliest is taken.
    """

    rows: Sequence[Any]
    limit: int
    note: Callable[[Sequence[Any], list[int]], list[bool]]
    waits: Callable[[], bool]
    more: Callable[[int], tuple[list[Any], Any, Any] | None]
    choose: Callable[[Sequence[Any], Any], Any] | None = None

    def picker(self, rows: Sequence[Any]) -> Callable[[Any], Any]:
        """From the scores of `rows` (rows x vocabulary) to a token each."""
        choose = self.choose
        return (lambda scores: scores.argmax(dim=-1)) if choose is None else (lambda scores: choose(rows, scores))


def decode(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    work: Work,
    **model_kwargs: Any,
) -> Any:
    """Continue each of `input_ids` (rows x tokens), as `work` chooses, until it says that all are over.

    Criteria of `generate` itself are not asked. Returns `input_ids`: what was made, `work` was told.
    Source of the steps: transformers 5.23, GenerationMixin._sample.
    """
    from ftlab.evaluation.roomy_cache import give_room

    if _is_plain(cache := model_kwargs.get("past_key_values")):
        give_room(cache)
    blank, at_once = _blank(model_kwargs), len(work.rows)

    def begun(names: Sequence[Any], ids: Any, mask: Any) -> _State:
        """Rows that have made their first token, in their order."""
        state: _State | None = None
        for group in of_like_length(mask):
            width = max(1, int(mask[group].sum(dim=1).max()))
            part, seen = ids[group][:, -width:], mask[group][:, -width:]
            pick = work.picker(names[group])
            new = _begun(model, part, logits_processor, generation_config, _blank_for(model, blank, part, seen), pick)
            state = state.joined(new) if state else new
        assert state is not None
        return state

    asked, mask = input_ids, model_kwargs.get("attention_mask")
    rows = list(work.rows)
    if blank is None or mask is None:
        state = _begun(model, input_ids, logits_processor, generation_config, model_kwargs, work.picker(rows))
    else:
        state = begun(rows, input_ids, mask)
    over = work.note(rows, state.tokens)
    while True:
        ended = sum(over)
        free = at_once - len(rows) + ended
        takes_in = blank is not None and free >= _TAKEN_IN_SHARE * at_once and _can_join(state.kwargs)
        coming = work.more(free) if takes_in else None
        if coming is None and ended == len(rows):
            return asked
        # Where rows come in soon, those that are over go with the same copy.
        share = _TAKEN_IN_SHARE if blank is not None and work.waits() else _ENDED_SHARE
        # A row that is over is not carried past its limit: there the places of the model may end.
        at_limit = any(made >= work.limit for made, ends in zip(state.made, over, strict=True) if ends)
        if ended == len(rows):
            rows, over = [], []
        elif ended and (coming or at_limit or ended >= share * len(rows)) and (smaller := state.without(over)):
            state, rows = smaller, [row for row, ends in zip(rows, over, strict=True) if not ends]
            over = [False] * len(rows)
        if coming:
            names, *prompts = coming
            new = begun(names, *prompts)
            over = [*over, *work.note(names, new.tokens)]
            state, rows = (state.joined(new) if rows else new), [*rows, *names]
            continue  # a first token may be the last
        inputs = model.prepare_inputs_for_generation(
            state.input_ids, next_sequence_length=1 if state.kwargs["use_cache"] else None, **state.kwargs
        )
        outputs = model(**inputs, return_dict=True)
        pick = work.picker(rows)
        state = _next(model, outputs, state.input_ids, logits_processor, state.kwargs, state.made, pick)
        over = work.note(rows, state.tokens)


def of_like_length(mask: Any) -> list[slice]:
    """The rows of `mask` (rows x tokens, padded on the left, the longest first) parted where their length falls.

    At most _PADDED of the places of a part are padding, or they are too few to be worth a pass of their own.
    """
    lengths = mask.sum(dim=1).tolist()
    parts, first, filled = [], 0, 0
    for row, length in enumerate(lengths):
        places = lengths[first] * (row + 1 - first)
        if places - filled - length > max(_PADDED * places, _FEW_PLACES):
            parts.append(slice(first, row))
            first, filled = row, 0
        filled += length
    return [*parts, slice(first, len(lengths))]


@dataclass
class _State:
    """Rows with the token that each made last, which is not in the cache yet; `kwargs` as generate keeps them.

    `made` counts the tokens of each row.
    """

    input_ids: Any
    kwargs: dict[str, Any]
    made: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.input_ids[:, -1].tolist()

    def without(self, over: list[bool]) -> _State | None:
        """The rows that are not `over`; None where it is not known how a model keeps its rows apart."""
        import torch

        stay = torch.tensor(over, device=self.input_ids.device).logical_not()
        if (kwargs := _rows_of(self.kwargs, stay)) is None:
            return None
        made = [count for count, ends in zip(self.made, over, strict=True) if not ends]
        return _State(self.input_ids[stay], kwargs, made).cut()

    def joined(self, other: _State) -> _State:
        """The rows of both; what is shorter is filled on the left."""
        import torch
        from torch.nn.functional import pad

        both, masks = (self, other), (_mask(self), _mask(other))
        width = max(mask.shape[1] for mask in masks)
        missing = [width - mask.shape[1] for mask in masks]

        def filled(tensors: Any, *inner: int) -> Any:
            wide = [pad(one, (*inner, short, 0)) if short else one for one, short in zip(tensors, missing, strict=True)]
            return torch.cat(wide)

        for mine, theirs in zip(*(one.kwargs["past_key_values"].layers for one in both), strict=True):
            mine.replace(filled((mine.keys, theirs.keys), 0, 0), filled((mine.values, theirs.values), 0, 0))
        places = filled([one.kwargs["position_ids"] for one in both])
        kwargs = self.kwargs | {"attention_mask": filled(masks), "position_ids": places}
        return _State(filled([one.input_ids for one in both]), kwargs, [*self.made, *other.made]).cut()

    def cut(self) -> _State:
        """Without the places on the left at which no row has anything."""
        mask = self.kwargs.get("attention_mask")
        if mask is None or not _can_join(self.kwargs) or not (empty := int(mask.any(dim=0).int().argmax())):
            return self
        for layer in self.kwargs["past_key_values"].layers:
            layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]
        per_place = {name: self.kwargs[name][:, empty:] for name in ("attention_mask", "position_ids")}
        return _State(self.input_ids[:, empty:], self.kwargs | per_place, self.made)


def _begun(model: Any, input_ids: Any, logits_processor: Any, config: Any, kwargs: dict[str, Any], pick: Any) -> _State:
    """Rows that have made their first token."""
    outputs = model._prefill(input_ids, config, kwargs)
    return _next(model, outputs, input_ids, logits_processor, kwargs, [0] * len(input_ids), pick)


def _next(
    model: Any,
    outputs: Any,
    input_ids: Any,
    logits_processor: Any,
    kwargs: dict[str, Any],
    made: list[int],
    pick: Callable[[Any], Any],
) -> _State:
    import torch

    kwargs = model._update_model_kwargs_for_generation(outputs, kwargs, is_encoder_decoder=False)
    # float() copies in half precision, and indexing keeps the whole prompt's logits alive: only the last are kept.
    scores = logits_processor(input_ids, outputs.logits[:, -1].to(copy=True, dtype=torch.float32))
    input_ids = torch.cat([input_ids, pick(scores)[:, None]], dim=-1)
    return _State(input_ids, kwargs, [count + 1 for count in made])


def _blank(kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """What other rows can begin with, taken before the cache is filled; None where that is not known."""
    import torch

    own = {name: value for name, value in kwargs.items() if name not in ("attention_mask", "position_ids")}
    tensors = [name for name, value in own.items() if isinstance(value, torch.Tensor)]
    cache = kwargs.get("past_key_values")
    if tensors or "position_ids" not in kwargs or not _is_plain(cache):
        return None
    if cache.get_seq_length():  # virtual tokens stand there already, once for each row of this batch
        return None
    return own | {"past_key_values": copy.deepcopy(cache)}


def _blank_for(model: Any, blank: dict[str, Any], ids: Any, mask: Any) -> dict[str, Any]:
    """`blank` for the rows `ids`."""
    places = model._prepare_position_ids_for_generation(ids, {"attention_mask": mask})
    cache = copy.deepcopy(blank["past_key_values"])
    return blank | {"past_key_values": cache, "attention_mask": mask, "position_ids": places}


def _can_join(kwargs: dict[str, Any]) -> bool:
    """Whether the cache holds one place for each place of the text, and nothing besides."""
    cache, places = kwargs.get("past_key_values"), kwargs.get("position_ids")
    if not _is_plain(cache) or places is None or places.dim() != 2:
        return False
    rows, _, held, _ = cache.layers[0].keys.shape
    return (rows, held) == (len(places), places.shape[1] - 1)


def _is_plain(cache: Any, sliding: bool = False) -> bool:
    """Whether `cache` keeps keys and values of each place, (rows, heads, places, width) in each layer."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    from ftlab.evaluation.roomy_cache import RoomyLayer

    known = (DynamicLayer, RoomyLayer, *((DynamicSlidingWindowLayer,) if sliding else ()))
    return type(cache) is DynamicCache and all(type(layer) in known for layer in cache.layers)


def _mask(state: _State) -> Any:
    """generate leaves the mask out where nothing is padded."""
    import torch

    mask = state.kwargs.get("attention_mask")
    return torch.ones_like(state.kwargs["position_ids"]) if mask is None else mask


def _rows_of(model_kwargs: dict[str, Any], stay: Any) -> dict[str, Any] | None:
    """`model_kwargs` for the rows that `stay`; None where it is not known how a model keeps its rows apart."""
    import torch

    cache = model_kwargs.get("past_key_values")
    tensors = {name: value for name, value in model_kwargs.items() if isinstance(value, torch.Tensor)}
    known = all(
        name in _PER_ROW and value.dim() == 2 and len(value) in (1, len(stay)) for name, value in tensors.items()
    )
    if not (_is_plain(cache, sliding=True) and known):
        return None
    cache.batch_select_indices(stay.nonzero()[:, 0])
    return model_kwargs | {name: value[stay] for name, value in tensors.items() if len(value) == len(stay)}
