"""Which names a server of ftlab answers to, and for pages of which origin.

Without this, a page of another site that makes its own name point at this machine (DNS rebinding) is the same site as
the app for a browser, and may do and read all that the app's own page may. Every server of ftlab has it, outermost:
what it refuses reaches neither a handler nor Gradio's own idea of origins, which lets any page read any host but
localhost.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from ftlab.errors import InputError

ALLOW_VARIABLE = "FTLAB_ALLOW_HOST"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
# Whoever has a name below one of these cannot make it point at another machine.
_SHARE, _SPACES = ".gradio.live", ".hf.space"
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Hosts:
    """ASGI middleware: passes on requests and websockets for a known host, from its own pages or from no page."""

    def __init__(self, app: Any, names: Names) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        refused = None if scope["type"] == "lifespan" else self.names.refuse(scope)
        if refused is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, words = refused
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": f"{words}\n".encode()})


class Names:
    """The hosts of one server: this machine, the address it listens on, its public address, and those `allowed`.

    A server that listens everywhere answers to every address in numbers (which no site can claim as its name) and to
    the machine's own name. Raises InputError for an allowed name that is none.
    """

    def __init__(self, host: str, allowed: Iterable[str] = (), *, shared: bool = False) -> None:
        bound = _bare(host)
        self.numbers = bound in _EVERYWHERE
        server = os.environ.get("GRADIO_SHARE_SERVER_ADDRESS", "").partition(":")[0].lower()  # instead of Gradio's own
        self.below = (f".{server}" if server else _SHARE,) * shared + (_SPACES,) * bool(os.environ.get("SPACE_ID"))
        named = [*allowed, *os.environ.get(ALLOW_VARIABLE, "").split(",")]
        # A page of these may ask although the server sees another host: a proxy need not pass the host on.
        self.trusted = {_read(name) for name in named if name.strip()}
        self.trusted |= {_bare(name) for name in os.environ.get("SPACE_HOST", "").split(",") if name.strip()}
        self.own = _LOOPBACK | ({socket.gethostname().lower()} if self.numbers else {bound})

    def add(self, url: str | None) -> None:
        """Answer to the host of `url`, too: that of a public link, which is known only when the server runs."""
        name = urlsplit(url).hostname if url else None
        if name:
            self.trusted.add(name)

    def refuse(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        """Status and words when a request (ASGI `scope`) is for another host, or from a page of one; else None."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1").strip().lower() if len(hosts) == 1 else ""
        name = _split(host)[0]
        if not self.knows(name):
            return 421, f"This server does not answer to the name {_shown(name)}. {_try(name)}"
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        for origin in origins:
            page = origin.decode("latin-1").strip().lower()
            if not self._is_own(page, host):
                return 403, f"Pages from {_shown(page)} may not use this server. {_try(_host_of(page))}"
        return None

    def knows(self, name: str) -> bool:
        """Whether this server is meant by `name`, in lower case and without a port."""
        if name in self.own or name in self.trusted or name.endswith(self.below):
            return True
        return self.numbers and _is_number(name)

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether the page at `origin` comes from this server, which it asks under `host`."""
        name = _host_of(origin)
        if name in self.trusted:
            return True
        scheme = origin.partition("://")[0]
        return scheme in _DEFAULT_PORTS and _place(origin.partition("://")[2], scheme) == _place(host, scheme)


def _host_of(origin: str) -> str:
    """The host of an origin, in lower case; empty for `null` and what is no origin."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _place(host: str, scheme: str) -> tuple[str, int]:
    """Host and port; all names of this machine are one."""
    name, port = _split(host)
    return "localhost" if name in _LOOPBACK else name, port or _DEFAULT_PORTS[scheme]


def _split(host: str) -> tuple[str, int | None]:
    """`host:port` as (name, port); ("", None) for what cannot be one."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::(\d{1,5}))?", host)
    return (_bare(match[1]), int(match[2]) if match[2] else None) if match else ("", None)


def _bare(name: str) -> str:
    return name.strip().lower().strip("[]").rstrip(".")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(text: str) -> str:
    name = _split(_host_of(text.strip()) if "://" in text else text.strip().lower())[0]
    if not _is_number(name) and not _NAME.fullmatch(name):
        raise InputError("Not a valid host name", given=text.strip()[:100], allowed="one such as lab.example.org")
    return name


def _shown(name: str) -> str:
    return re.sub(r"[^a-z0-9.:/_-]", "?", name)[:100] or "that was sent"


def _try(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "Other names are allowed with --allow-host NAME."
    return f"If it is yours, start ftlab with --allow-host {name[:100]} (or {ALLOW_VARIABLE}={name[:100]})."


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` can be reached from this machine alone."""
    return _bare(host) == "localhost" or (_is_number(_bare(host)) and ipaddress.ip_address(_bare(host)).is_loopback)
