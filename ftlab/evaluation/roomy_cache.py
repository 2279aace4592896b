"""Keys and values with preallocated room for new tokens.

transformers' DynamicLayer copies everything it holds for every new token: the more and longer the rows, the more of
each step is copying. Here each copy makes room for the next _ROOM tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 32  # tokens


class RoomyLayer(DynamicLayer):
    """Like DynamicLayer, with `keys` and `values` (rows, heads, tokens, width) as slices of a larger buffer."""

    _store: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        if not self.keys.numel():  # a prompt: stored at its exact length, since it may be joined with others next
            self.keys, self.values = key_states, value_states
        else:
            stores = self._store or (None, None)
            self.keys, first = _added(self.keys, key_states, stores[0])
            self.values, second = _added(self.values, value_states, stores[1])
            self._store = (first, second)
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold `keys` and `values` instead, releasing what was held before."""
        self.keys, self.values, self._store = keys, values, None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._store = None


def give_room(cache: DynamicCache) -> None:
    """Preallocate in the layers of `cache`, if it is still empty."""
    if not cache.get_seq_length():
        cache.layers = [RoomyLayer() for _ in cache.layers]


def _added(held: torch.Tensor, new: torch.Tensor, store: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """`held` followed by `new`, and the buffer they are part of: the given one if it has room."""
    tokens, more = held.shape[2], new.shape[2]
    start = _place(held, store)
    if store is None or start is None or start + tokens + more > store.shape[2]:
        rows, heads, _, width = held.shape
        store, start = held.new_empty(rows, heads, tokens + more + _ROOM, width), 0
        store[:, :, :tokens] = held
    store[:, :, start + tokens : start + tokens + more] = new
    return store[:, :, start : start + tokens + more], store


def _place(held: torch.Tensor, store: torch.Tensor | None) -> int | None:
    """The token of `store` at which `held` begins. None if it is not a slice of it along the tokens."""
    if store is None or held.untyped_storage().data_ptr() != store.untyped_storage().data_ptr():
        return None
    if held.stride() != store.stride() or (held.shape[:2], held.shape[3]) != (store.shape[:2], store.shape[3]):
        return None
    start, rest = divmod(int(held.storage_offset()) - int(store.storage_offset()), store.stride(2))
    return None if rest else start
