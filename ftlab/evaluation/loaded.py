"""The models that stay loaded in this process between questions, for Chat and for live blind tests: one at a time uses
the device, and all of them give way to a run that needs its memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable
from typing import Any, TypeVar

from ftlab.evaluation.batches import free_memory

Models = TypeVar("Models")

# Held by whoever loads or generates: two generations on one device only slow each other down.
device = threading.Lock()
# By what they are for and by their weights. Each value has its `model`.
_loaded: dict[str, dict[Hashable, Any]] = {}


def models_of(use: str, key: Hashable, load: Callable[[], Models], *, beside: Collection[Hashable] = ()) -> Models:
    """The models of `key`, loaded on first use. Of what is loaded for the same `use`, only those and the ones `beside`
    them stay. The caller holds the device."""
    mine = _loaded.setdefault(use, {})
    _forget(use, {key, *beside})
    if key not in mine:
        mine[key] = load()
    return mine[key]


def release() -> None:
    """Free the memory of all models once nobody uses them."""
    with device:
        for use in _loaded:
            _forget(use)


def release_for(run_on: str) -> bool:
    """Like `release`, if a run on `run_on` (auto, cpu, cuda) needs GPU memory. Returns whether it was done."""
    with device:
        # A model is missing where loading it at another strength has failed.
        held = [models.model for group in _loaded.values() for models in group.values() if models.model is not None]
        held_on = {device_of(model).type for model in held}
        # CPU memory is not released: there is enough, and the next message would have to wait for the models again.
        needed = run_on != "cpu" and bool(held_on - {"cpu"})
        if needed:
            for use in _loaded:
                _forget(use)
    return needed


def device_of(model: Any) -> Any:
    return next(model.parameters()).device


def _forget(use: str, but: Collection[Hashable] = ()) -> None:
    group = _loaded[use]
    if gone := group.keys() - set(but):
        for key in gone:
            del group[key]
        free_memory()
