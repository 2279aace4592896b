"""Work that yields its progress and returns a result."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


class Steps(Generic[Step, Result]):
    """Iterates over what `work` yields; `result` is its return value, once the iteration is complete.

    Leaving the `with` block closes the generator, however far it is.
    """

    result: Result

    def __init__(self, work: Generator[Step, None, Result]):
        self._work = work

    def __iter__(self) -> Iterator[Step]:
        self.result = yield from self._work

    def __enter__(self) -> Steps[Step, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.close()
