"""Rate limits, per key and in total."""

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
    """At most `each` uses per key and `in_all` uses in total within `seconds`."""

    def __init__(self, each: int, in_all: int, seconds: float = 60.0) -> None:
        self.each, self.in_all, self.seconds = each, in_all, seconds
        self._taken: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self, key: str, now: float | None = None) -> float:
        """Use it once. Returns 0.0 if allowed; otherwise the seconds to wait, and nothing is used."""
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
                # Drop keys that have not been used for a while.
                self._taken = {
                    visitor: times for visitor, times in self._taken.items() if times and times[-1] > now - 60
                }
            return max(waits, default=0.0)


class Patience:
    """How long a password guess has to wait. Each wrong guess adds to the wait; nobody is locked out.

    The first `free` wrong guesses of an address within `seconds` cost nothing. Later ones cost 1, 2, 4, ... `longest`
    seconds each. If all addresses together exceed `in_all` guesses a minute, every guess waits a little.
    """

    def __init__(self, free: int = 6, in_all: int = 60, seconds: float = 600.0, longest: float = 30.0) -> None:
        self.free, self.in_all, self.seconds, self.longest = free, in_all, seconds, longest
        self._wrong: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._waiting: Counter[str] = Counter()

    def wait(self, address: str, now: float | None = None) -> float:
        """Seconds that the next guess from `address` has to wait."""
        now = time.monotonic() if now is None else now
        mine = self._wrong.get(address, deque())
        for times, kept in ((mine, self.seconds), (self._all, 60.0)):
            while times and times[0] <= now - kept:
                times.popleft()
        alone = 0.0 if len(mine) < self.free else min(self.longest, 2.0 ** min(10, len(mine) - self.free))
        return max(alone, 3.0 if len(self._all) >= self.in_all else 0.0)

    def wrong(self, address: str, now: float | None = None) -> None:
        """Record a wrong guess from `address`."""
        now = time.monotonic() if now is None else now
        self._wrong.setdefault(address, deque(maxlen=50)).append(now)
        self._all.append(now)
        if len(self._wrong) > _MOST_KEYS:
            self._wrong = {visitor: times for visitor, times in self._wrong.items() if times[-1] > now - self.seconds}

    @contextlib.contextmanager
    def turn(self, address: str) -> Iterator[bool]:
        """Whether `address` may wait. False if several of its guesses are waiting already."""
        self._waiting[address] += 1
        try:
            yield self._waiting[address] <= _MOST_WAITING
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


def address_of(client: Any) -> str:
    """The address a request comes from (`request.client`), as a key.

    Behind proxies, uvicorn has already set it to the first non-proxy address, read from the right
    (`space_server.TRUSTED`). A sender can only write entries further left in X-Forwarded-For, and those are ignored.
    """
    return str(client.host if client else "nobody")[:64]
