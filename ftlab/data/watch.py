"""How far a long look at the data is, and whether somebody pressed stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, int, int], None]
CHUNK = 2000  # rows between two looks at the stop button


class Stopped(Exception):
    """The person pressed stop; what was found so far is kept."""


@dataclass
class Watch:
    """Tells how far a check is and notices the stop button. Raises Stopped from `at`."""

    progress: Progress | None = None
    should_stop: Callable[[], bool] | None = None
    phase: str = ""

    def at(self, done: int, total: int) -> None:
        if self.should_stop is not None and self.should_stop():
            raise Stopped
        if self.progress is not None:
            self.progress(self.phase, done, total)

    def over(self, items: Sequence[Any]) -> Any:
        """(position, item) of all `items`, looking up every 2000 of them."""
        total = len(items)
        for position, item in enumerate(items):
            if position % CHUNK == 0:
                self.at(position, total)
            yield position, item
        self.at(total, total)
