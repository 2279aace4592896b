"""Switch parts of a model off for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def switched(modules: Iterable[Any], attribute: str, value: bool) -> Iterator[None]:
    """Within it `attribute` of all `modules` is `value`; afterwards each has its own again, whatever happened."""
    before = [(module, getattr(module, attribute)) for module in modules]
    try:
        for module, _ in before:
            setattr(module, attribute, value)
        yield
    finally:
        for module, own in before:
            setattr(module, attribute, own)
