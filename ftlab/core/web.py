"""HTTP requests within limits: the size of a response, its total time, and the addresses it may come from.

Servers are not trusted: they may send a byte per second forever, megabytes that decompress to gigabytes, or a host name
that resolves to an address in the local network. Used by judges and endpoints (endpoint.py) and by package indexes
(models/bases/index.py); the Hub has its own client.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ftlab.core.parsing import parse_json
from ftlab.core.words import byte_size

if TYPE_CHECKING:
    import httpx

# Bytes of one decompressed response: far above an answer of 100,000 tokens, which takes half a megabyte.
LARGEST_ANSWER = 16 << 20
_PRIVATE_HOSTS = "FTLAB_PRIVATE_HOSTS"
_now = threading.local()  # .ends: the deadline of this thread's request


class TooMuch(Exception):
    """The response is larger than allowed, or compressed in a way that was not requested; the text says which."""


@dataclass(frozen=True)
class Answer:
    """Status, headers (an httpx.Headers), the text as UTF-8, and the final address after redirects."""

    status_code: int
    headers: Any
    text: str
    url: str

    def json(self) -> Any:
        """Raises ValueError for invalid JSON, and for nesting beyond `parsing.DEEPEST`."""
        return parse_json(self.text)


def ask(
    client: httpx.Client, method: str, url: str, *, seconds: float, most: int = LARGEST_ANSWER, **settings: Any
) -> Answer:
    """The complete response to one request, including redirects, within `seconds` and `most` decompressed bytes.

    `settings` are those of httpx (json, headers, auth). Raises TooMuch, and the errors of httpx (httpx.ReadTimeout
    after `seconds`, however slowly the response trickles in).
    """
    headers = {"Accept-Encoding": "identity"} | dict(settings.pop("headers", None) or {})
    with _within(seconds), client.stream(method, url, headers=headers, **settings) as response:
        content = _content(response, most)
    return Answer(response.status_code, response.headers, content.decode("utf-8", "replace"), str(response.url))


def _content(response: httpx.Response, most: int) -> bytes:
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "", "gzip", "deflate"):
        raise TooMuch(f"it is compressed as {packed[:20]}, which was not requested")
    unpack = zlib.decompressobj(47) if packed in ("gzip", "deflate") else None
    pieces, size = [], 0
    for piece in response.iter_raw():
        if unpack is not None:
            try:
                piece = unpack.decompress(piece, most - size + 1)
            except zlib.error:
                raise TooMuch(f"it claims to be compressed as {packed}, but is not") from None
        size += len(piece)
        if size > most:
            raise TooMuch(f"it is larger than {byte_size(most)}")
        pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    _now.ends = time.monotonic() + seconds
    try:
        yield
    finally:
        _now.ends = None


def open_client(named: str | None, **settings: Any) -> httpx.Client:
    """An httpx client (with its `settings`) for the address `named` by the owner of this machine, and for those reached
    from there (redirects, links). It connects to private networks only if `named` is in one, or is None.

    With a proxy from the environment, the proxy decides. The `_network_backend` of httpcore's pools is replaced
    (checked with httpx 0.28, httpcore 1.0).
    """
    import httpx

    client = httpx.Client(**settings)
    for transport, allowed in [
        (client._transport, _allows(named)),
        *((mounted, None) for mounted in client._mounts.values()),
    ]:
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _backend(allowed)
    return client


def _allows(named: str | None) -> Callable[[str], bool] | None:
    """Which hosts may resolve to a private address; None: all."""
    if named is None:
        return None
    host = urlsplit(named).hostname or ""
    trusted = {trusted_name.strip().lower() for trusted_name in os.environ.get(_PRIVATE_HOSTS, "").split(",")} - {""}
    everything = is_near(host) or host.lower() in trusted
    return lambda name: everything or name.lower() in trusted


def is_near(host: str) -> bool:
    """Whether `host` is this machine or in its local network."""
    try:
        return _is_private(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None) or parsed
    return not inner.is_global or inner.is_multicast


def _backend(allowed: Callable[[str], bool] | None) -> Any:
    """A network backend for httpcore: like its own, but within the deadline of the request and to allowed addresses."""
    import httpcore

    class Stream(httpcore.NetworkStream):
        def __init__(self, stream: Any):
            self._stream = stream

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

        def close(self) -> None:
            self._stream.close()

        def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
            left = _left(timeout, httpcore.ConnectTimeout)
            return Stream(self._stream.start_tls(ssl_context, server_hostname, left))

        def get_extra_info(self, info: str) -> Any:
            return self._stream.get_extra_info(info)

    class Backend(httpcore.SyncBackend):
        def connect_tcp(self, host: str, port: int, timeout: float | None = None, *rest: Any, **settings: Any) -> Any:
            problem: Exception | None = None
            for address in [host] if allowed is None or allowed(host) else _public(host, port, httpcore.ConnectError):
                try:
                    left = _left(timeout, httpcore.ConnectTimeout)
                    return Stream(super().connect_tcp(address, port, left, *rest, **settings))
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    problem = error
            raise problem or httpcore.ConnectError("it has no address")

    return Backend()


def _public(host: str, port: int, kind: type[Exception]) -> list[str]:
    """The addresses of `host`, none of them private. The connection uses these addresses: a second lookup of the name
    could return others."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise kind(str(error)) from None
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if any(_is_private(address) for address in addresses):
        raise kind(
            f"{host} resolves to an address in a private network; if that is intended, "
            f"use the address itself, or set {_PRIVATE_HOSTS}={host}"
        )
    return addresses


def _left(timeout: float | None, kind: type[Exception]) -> float | None:
    """The seconds that an operation may take within the deadline of the request."""
    ends = getattr(_now, "ends", None)
    if ends is None:
        return timeout
    left = ends - time.monotonic()
    if left <= 0:
        raise kind("the time limit for the complete response is over")
    return left if timeout is None else min(timeout, left)
