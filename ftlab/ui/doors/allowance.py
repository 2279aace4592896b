"""How often somebody may do something: a few times for each, and for all together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

_MOST_KEYS = 10_000
_MOST_WAITING = 8


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
                self._taken = {
                    visitor: times for visitor, times in self._taken.items() if times and times[-1] > now - 60
                }
            return max(waits, default=0.0)


class Patience:
    """How long a guess of a password has to wait: longer with every wrong one, and nobody is shut out.

    The first `free` wrong guesses of an address within `seconds` cost nothing, those after it 1, 2, 4, ... `longest`
    seconds each. Where very many come from everywhere (`in_all` a minute), all wait a little.
    """

    def __init__(self, free: int = 6, in_all: int = 60, seconds: float = 600.0, longest: float = 30.0) -> None:
        self.free, self.in_all, self.seconds, self.longest = free, in_all, seconds, longest
        self._wrong: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._waiting: Counter[str] = Counter()

    def wait(self, address: str, now: float | None = None) -> float:
        """Seconds that the next guess of `address` waits."""
        now = time.monotonic() if now is None else now
        mine = self._wrong.get(address, deque())
        for times, kept in ((mine, self.seconds), (self._all, 60.0)):
            while times and times[0] <= now - kept:
                times.popleft()
        alone = 0.0 if len(mine) < self.free else min(self.longest, 2.0 ** min(10, len(mine) - self.free))
        return max(alone, 3.0 if len(self._all) >= self.in_all else 0.0)

    def wrong(self, address: str, now: float | None = None) -> None:
        """A guess of `address` was wrong."""
        now = time.monotonic() if now is None else now
        self._wrong.setdefault(address, deque(maxlen=50)).append(now)
        self._all.append(now)
        if len(self._wrong) > _MOST_KEYS:
            self._wrong = {visitor: times for visitor, times in self._wrong.items() if times[-1] > now - self.seconds}

    @contextlib.contextmanager
    def turn(self, address: str) -> Iterator[bool]:
        """Whether `address` may wait: not when several of its guesses wait already."""
        self._waiting[address] += 1
        try:
            yield self._waiting[address] <= _MOST_WAITING
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


def address_of(client: Any) -> str:
    """Whom a request comes from (`request.client`), as a key.

    Behind a proxy, uvicorn has put the first address there that is none of a proxy, read from the right
    (`space_server.TRUSTED`): what a sender writes into X-Forwarded-For stands further left and counts for nothing.
    """
    return str(client.host if client else "nobody")[:64]
