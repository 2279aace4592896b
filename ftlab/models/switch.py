"""Temporarily switch off parts of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def switched(modules: Iterable[Any], attribute: str, value: bool) -> Iterator[None]:
    """Set `attribute` of all `modules` to `value` within the context, and restore it afterwards in any case."""
    before = [(module, getattr(module, attribute)) for module in modules]
    try:
        for module, _ in before:
            setattr(module, attribute, value)
        yield
    finally:
        for module, own in before:
            setattr(module, attribute, own)
