"""How often somebody may do something: a few times for each, and for all together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

_MOST_KEYS = 10_000


class Allowance:
    """At most `each` times within `seconds` for one key, and `in_all` times for all keys."""

    def __init__(self, each: int, in_all: int, seconds: float = 60.0) -> None:
        self.each, self.in_all, self.seconds = each, in_all, seconds
        self._taken: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self, key: str, now: float | None = None) -> float:
        """Use it once: 0.0 when it may be done, else the seconds to wait, and nothing is used."""
        now = time.monotonic() if now is None else now
        with self._lock:
            mine = self._taken.setdefault(key, deque())
            for times in (mine, self._all):
                while times and times[0] <= now - self.seconds:
                    times.popleft()
            waits = [
                times[0] + self.seconds - now
                for times, most in ((mine, self.each), (self._all, self.in_all))
                if len(times) >= most
            ]
            if not waits:
                mine.append(now)
                self._all.append(now)
            if len(self._taken) > _MOST_KEYS:
                # Who has not come for a while needs no place.
                self._taken = {one: times for one, times in self._taken.items() if times and times[-1] > now - 60}
            return max(waits, default=0.0)


def address_of(headers: Mapping[str, str], client: str | None) -> str:
    """Whom a request comes from. Behind a Space's proxy that is the first address it was forwarded for.

    A sender can write anything there: what must not be got around is limited for all together as well.
    """
    forwarded = headers.get("x-forwarded-for", "").split(",")[0].strip()
    return (forwarded or client or "nobody")[:64]
