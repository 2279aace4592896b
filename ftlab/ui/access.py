"""Who the owner of a Space is: a name on the Hub, or whoever knows the password. Everybody else is a visitor.

FTLAB_OWNER      names on the Hub, separated by commas; they log in with the Hub (`hf_oauth: true`)
FTLAB_PASSWORD   a secret of 12 characters or more; wrong ones are limited in number

Neither is set: nobody is the owner, so nobody can train. `OwnerDoor` stands before all that is the owner's: pages,
files, uploads and every event alike. What it does not let pass reaches no handler.
"""

from __future__ import annotations

import functools
import hmac
import importlib.util
import os
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from ftlab.ui.allowance import Allowance

OWNER_VARIABLE = "FTLAB_OWNER"
PASSWORD_VARIABLE = "FTLAB_PASSWORD"
SHORTEST_PASSWORD = 12
COOKIE = "ftlab_owner"
_SECONDS = 12 * 3600
_OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


@dataclass(frozen=True)
class Access:
    """How the owner is known. `wanting` says in words what keeps somebody who meant to be one from it."""

    owners: frozenset[str]  # in lower case, as the Hub compares them
    password: str | None
    with_hub: bool  # whether one can log in with the Hub here
    wanting: tuple[str, ...]
    signer: URLSafeTimedSerializer
    guesses: Allowance

    @property
    def possible(self) -> bool:
        """Whether anybody can be the owner."""
        return self.password is not None or (self.with_hub and bool(self.owners))

    def guess(self, password: str, address: str) -> float | bool:
        """Whether `password` is the one; a number of seconds where there were too many wrong guesses."""
        wait = self.guesses.take(address)
        if wait:
            return wait
        # Bytes: compare_digest takes no text beyond ASCII.
        return self.password is not None and hmac.compare_digest(password.encode(), self.password.encode())

    def ticket(self) -> str:
        """What the browser of the owner keeps after the password; signed, and of no use after a restart."""
        return self.signer.dumps("owner")

    def is_owner(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request (ASGI `scope`) comes from the owner, and from a page of this server."""
        connection = HTTPConnection(scope)
        return not _from_elsewhere(connection) and (self._has_ticket(connection) or self._is_named(scope))

    def _has_ticket(self, connection: HTTPConnection) -> bool:
        try:
            return self.password is not None and self.signer.loads(connection.cookies[COOKIE], _SECONDS) == "owner"
        except (BadData, KeyError):
            return False

    def _is_named(self, scope: MutableMapping[str, Any]) -> bool:
        return hub_name(scope) in self.owners if self.with_hub else False


def hub_name(scope: MutableMapping[str, Any]) -> str | None:
    """Who is logged in with the Hub, in lower case. The session is signed, and Gradio's: see gradio.oauth."""
    known = (scope.get("session") or {}).get("oauth_info") or {}
    if (known.get("expires_at") or 0) < time.time():
        return None
    return str((known.get("userinfo") or {}).get("preferred_username") or "").lower() or None


def from_environment() -> Access:
    """What the variables and secrets of this Space say."""
    names = frozenset(filter(None, (name.strip().lower() for name in os.environ.get(OWNER_VARIABLE, "").split(","))))
    password: str | None = os.environ.get(PASSWORD_VARIABLE, "").strip() or None
    wanting = []
    if password is not None and len(password) < SHORTEST_PASSWORD:
        password = None
        wanting.append(f"{PASSWORD_VARIABLE} is too short: it needs {SHORTEST_PASSWORD} characters.")
    # Elsewhere than in a Space, Gradio's login makes everybody the owner of the token on that machine.
    with_hub = os.environ.get("SYSTEM") == "spaces" and all(os.environ.get(name) for name in _OAUTH)
    with_hub = with_hub and importlib.util.find_spec("authlib") is not None
    if names and not with_hub:
        wanting.append(f"{OWNER_VARIABLE} is set, but hf_oauth: true is missing in the README.md of this Space.")
    if not names and password is None:
        wanting.append(f"Neither {OWNER_VARIABLE} (your name on the Hub) nor {PASSWORD_VARIABLE} (a secret) is set.")
    signer = URLSafeTimedSerializer(secrets.token_hex(32), salt="ftlab owner")
    return Access(names, password, with_hub, tuple(wanting), signer, Allowance(each=6, in_all=60))


class OwnerDoor:
    """ASGI middleware: every request of the owner passes, and no other."""

    def __init__(self, app: Any, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self.access.is_owner(scope)):
            await self.app(scope, receive, functools.partial(_with_headers, send))
        else:
            await _refuse(scope, send)


def owner_door(access: Access) -> dict[str, Any]:
    """`app_kwargs` of Gradio's mount_gradio_app()."""
    return {"middleware": [Middleware(OwnerDoor, access=access)]}


def _from_elsewhere(connection: HTTPConnection) -> bool:
    """Whether a page of another host makes the browser ask: its cookies would go along, and Gradio lets any page read
    the reply."""
    origin = connection.headers.get("origin")
    if origin is None:
        return False
    here = {connection.headers.get("host", ""), *os.environ.get("SPACE_HOST", "").replace(" ", "").split(",")} - {""}
    return urlsplit(origin).netloc not in here


# Only the Hub may show the owner's pages in a frame: another page could lead clicks astray.
OWN_FRAMES = (b"content-security-policy", b"frame-ancestors 'self' https://huggingface.co")


async def _with_headers(send: Any, message: MutableMapping[str, Any]) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], OWN_FRAMES, (b"referrer-policy", b"same-origin")]
    await send(message)


async def _refuse(scope: MutableMapping[str, Any], send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    path = scope["path"].removeprefix(scope.get("root_path") or "")
    page = scope["method"] in ("GET", "HEAD") and path in ("", "/")
    status, extra = (303, [(b"location", b"/owner")]) if page else (401, [])
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"detail": "Only the owner of this Space may do this."}\n'})
