"""Work that tells what it does by yielding, and returns what it found."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Told = TypeVar("Told")
Found = TypeVar("Found")


class Steps(Generic[Told, Found]):
    """Iterates over what `work` yields; `found` is what it returned, once the iteration has come to its end.

    Leaving the `with` block closes the work, wherever it is.
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
