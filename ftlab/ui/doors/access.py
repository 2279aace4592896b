"""Identify the owner of a Space or of a shared app. Everybody else is a visitor.

FTLAB_OWNER      names on the Hub, separated by commas; they log in with the Hub (`hf_oauth: true`; Spaces only)
FTLAB_PASSWORD   a secret of 12 characters or more; after a few wrong guesses, each further guess takes longer

A Space that sets neither has no owner, so nobody can train. A shared app asks for the password at the terminal;
a notebook prints a one-time link instead. `OwnerDoor` guards everything that belongs to the owner: pages, files,
uploads and events. A request that it rejects reaches no handler.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import hmac
import importlib.util
import os
import secrets
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from ftlab.errors import InputError
from ftlab.ui.doors.allowance import Patience

OWNER_VARIABLE = "FTLAB_OWNER"
PASSWORD_VARIABLE = "FTLAB_PASSWORD"
SHORTEST_PASSWORD = 12
COOKIE = "ftlab_owner"
_SECONDS = 12 * 3600
_OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


@dataclass(frozen=True)
class Access:
    """How the owner is identified. `wanting` explains what is missing from an incomplete setup.

    `home` is where the owner lands after the login. `by_link` allows one-time links.
    """

    owners: frozenset[str] = frozenset()  # lowercase, as the Hub compares them
    password: str | None = field(default=None, repr=False)
    with_hub: bool = False  # whether visitors can log in with the Hub here
    wanting: tuple[str, ...] = ()
    home: str = "/"
    by_link: bool = False
    patience: Patience = field(default_factory=Patience)
    signer: URLSafeTimedSerializer = field(
        default_factory=lambda: URLSafeTimedSerializer(secrets.token_hex(32), salt="ftlab owner"), repr=False
    )
    _links: set[str] = field(default_factory=set, repr=False)  # not used yet
    _ended: dict[str, float] = field(default_factory=dict, repr=False)  # tickets logged out, and their expiry times

    @property
    def possible(self) -> bool:
        """Whether anybody can be the owner."""
        return self.by_link or self.password is not None or (self.with_hub and bool(self.owners))

    def guess(self, password: str) -> bool:
        """Whether `password` is correct."""
        # Compare bytes: compare_digest accepts only ASCII text.
        return self.password is not None and hmac.compare_digest(password.encode(), self.password.encode())

    def ticket(self) -> str:
        """A signed ticket that the owner's browser keeps after the login. Logging out or a restart invalidates it."""
        return self.signer.dumps(["owner", secrets.token_urlsafe(12)])

    def link(self) -> str:
        """Path and query of a one-time link that lets in one browser."""
        key = secrets.token_urlsafe(24)
        self._links.add(key)
        return f"/owner/enter?ticket={key}"

    def enter(self, key: str) -> bool:
        """Whether `key` belongs to an unused link. Marks the link as used."""
        known = next((link for link in self._links if hmac.compare_digest(link.encode(), key.encode())), None)
        self._links.discard(known or "")
        return known is not None

    def end(self, scope: MutableMapping[str, Any]) -> None:
        """Revoke the request's ticket and its Hub login, including all copies of them."""
        now = time.time()
        for old, until in list(self._ended.items()):
            if until < now:
                self._ended.pop(old, None)
        if ticket := self._ticket_of(HTTPConnection(scope)):
            self._ended[ticket] = now + _SECONDS
        if login := _hub_login(scope):
            self._ended[login[0]] = login[1]

    def is_owner(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request (ASGI `scope`) comes from the owner. `Hosts` has already rejected pages of other hosts."""
        return self._has_ticket(HTTPConnection(scope)) or self._is_named(scope)

    def _has_ticket(self, connection: HTTPConnection) -> bool:
        ticket = self._ticket_of(connection) if self.password is not None or self.by_link else None
        return ticket is not None and ticket not in self._ended

    def _ticket_of(self, connection: HTTPConnection) -> str | None:
        """The id of the request's ticket; None unless the ticket was signed here and is still valid."""
        try:
            kind, ticket = self.signer.loads(connection.cookies[COOKIE], _SECONDS)
        except (BadData, KeyError, TypeError, ValueError):
            return None
        return str(ticket) if kind == "owner" else None

    def _is_named(self, scope: MutableMapping[str, Any]) -> bool:
        if not self.with_hub or hub_name(scope) not in self.owners:
            return False
        login = _hub_login(scope)
        return login is not None and login[0] not in self._ended


def _hub_login(scope: MutableMapping[str, Any]) -> tuple[str, float] | None:
    """The Hub login of a request, as (unique key, expiry time)."""
    known = (scope.get("session") or {}).get("oauth_info")
    if not known:
        return None
    until = float(known.get("expires_at") or 0)
    identity = f"{until} {known.get('access_token')} {(known.get('userinfo') or {}).get('preferred_username')}"
    return hashlib.sha256(identity.encode()).hexdigest(), until


def hub_name(scope: MutableMapping[str, Any]) -> str | None:
    """The logged-in Hub user, in lowercase. Gradio signs this session: see gradio.oauth."""
    known = (scope.get("session") or {}).get("oauth_info") or {}
    if (known.get("expires_at") or 0) < time.time():
        return None
    return str((known.get("userinfo") or {}).get("preferred_username") or "").lower() or None


def from_environment() -> Access:
    """Access as set by the variables and secrets of this Space."""
    names = frozenset(filter(None, (name.strip().lower() for name in os.environ.get(OWNER_VARIABLE, "").split(","))))
    password: str | None = os.environ.get(PASSWORD_VARIABLE, "").strip() or None
    wanting = []
    if password is not None and len(password) < SHORTEST_PASSWORD:
        password = None
        wanting.append(f"{PASSWORD_VARIABLE} is too short: it needs {SHORTEST_PASSWORD} characters.")
    # Outside a Space, Gradio's login treats everybody as the owner of that machine's token.
    with_hub = os.environ.get("SYSTEM") == "spaces" and all(os.environ.get(name) for name in _OAUTH)
    with_hub = with_hub and importlib.util.find_spec("authlib") is not None
    if names and not with_hub:
        wanting.append(f"{OWNER_VARIABLE} is set, but hf_oauth: true is missing in the README.md of this Space.")
    if not names and password is None:
        wanting.append(f"Neither {OWNER_VARIABLE} (your name on the Hub) nor {PASSWORD_VARIABLE} (a secret) is set.")
    return Access(names, password, with_hub, tuple(wanting), home="/lab/")


def for_shared(what: str, *, in_notebook: bool) -> Access:
    """Access to an app that `what` (a flag or argument) opens to others. Asks for a password at a terminal.

    Raises InputError if the password is too short, or if there is none and no terminal to ask at.
    """
    password = os.environ.get(PASSWORD_VARIABLE, "").strip()
    if not password and in_notebook:
        return Access(by_link=True)
    if not password and sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass("Password for visitors of the app (12 characters or more): ").strip()
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(
            f"{what} lets others reach the app, and needs a password",
            given=f"one of {len(password)} characters" if password else None,
            try_=f"{PASSWORD_VARIABLE} set to {SHORTEST_PASSWORD} characters or more, or --open to let anyone in",
        )
    return Access(password=password, by_link=in_notebook)


# Gradio's launch() requests the last path from its own server; the reply reveals nothing.
_LOGIN = ("/owner", "/owner/login", "/owner/enter", "/gradio_api/startup-events")


class OwnerDoor:
    """ASGI middleware: passes the owner's requests. All others reach only the login."""

    def __init__(self, app: Any, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and (self.access.is_owner(scope) or self._is_login(scope)):
            # A notebook shows the app in a frame, and the Hub frames a Space. No other site may.
            await self.app(scope, receive, send if self.access.by_link else functools.partial(_with_headers, send))
        else:
            await _refuse(scope, send)

    def _is_login(self, scope: MutableMapping[str, Any]) -> bool:
        """A shared app serves its login next to the app. In a Space, the login is outside this door."""
        return self.access.home == "/" and scope["path"] in _LOGIN


def owner_door(access: Access) -> dict[str, Any]:
    """`app_kwargs` for Gradio's mount_gradio_app()."""
    return {"middleware": [Middleware(OwnerDoor, access=access)]}


# Only the Hub may frame the owner's pages. This prevents clickjacking.
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
    await send({"type": "http.response.body", "body": b'{"detail": "Only the owner may do this. Log in at /owner."}\n'})
