"""Work that yields its progress and returns a result."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Told = TypeVar("Told")
Found = TypeVar("Found")


class Steps(Generic[Told, Found]):
    """Iterates over what `work` yields; `found` is its return value, once the iteration is complete.

    Leaving the `with` block closes the generator, however far it is.
    """

    found: Found

    def __init__(self, work: Generator[Told, None, Found]):
        self._work = work

    def __iter__(self) -> Iterator[Told]:
        self.found = yield from self._work

    def __enter__(self) -> Steps[Told, Found]:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.close()
