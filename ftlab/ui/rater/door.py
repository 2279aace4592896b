"""Restrict the endpoints and set the headers of a page for strangers: raters, and visitors of a Space.

Gradio serves more than such a page needs: uploads, files, a proxy, monitoring, calls by number. A rater's or
visitor's browser uses none of them, so they are blocked here.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.responses import FileResponse

log = logging.getLogger(__name__)
_PAGES = {"/", "/config", "/theme.css", "/robots.txt", "/favicon.ico", "/manifest.json", "/icon.png"}
_PAGES |= {"/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/theme.css"}
_ICON = Path(__file__).with_name("icon.png")
_FOLDERS = ("/assets/", "/static/", "/svelte/")
# The page loads only from its own server and, behind a share link (Colab), from the host of Gradio's scripts for
# share links. Gradio compiles functions from scripts in its configuration, hence 'unsafe-eval'.
_SHARED = "https://gradio.s3-us-west-2.amazonaws.com"
_POLICY = (
    f"default-src 'self' {_SHARED}; script-src 'self' {_SHARED} 'unsafe-inline' 'unsafe-eval'; "
    f"style-src 'self' {_SHARED} 'unsafe-inline'; img-src 'self' {_SHARED} data:; font-src 'self' {_SHARED} data:; "
    "manifest-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_LONGEST_MESSAGE = 64_000  # bytes of a vote with its comment; no real vote is longer


@dataclass(frozen=True)
class Way:
    """What a page needs besides its files: paths it posts to, and paths (or prefixes) it streams from."""

    posts: frozenset[str]
    follows: tuple[str, ...] = ()


RATERS = Way(frozenset({"/gradio_api/component_server"}))
# A chat is an event in Gradio's queue.
VISITORS = Way(
    frozenset({"/gradio_api/queue/join", "/gradio_api/cancel"}), ("/gradio_api/queue/data", "/gradio_api/heartbeat/")
)


class Door:
    """ASGI middleware: passes what the page needs, and nothing else."""

    def __init__(self, app: Any, way: Way = RATERS) -> None:
        self.app, self.way = app, way

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http" or not _let_in(scope, self.way):
            await _refuse(scope, send)
            return

        started = False

        async def say(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS, *_unkept(scope, self.way)]
            await send(message)

        try:
            await (FileResponse(_ICON) if _path(scope) == "/icon.png" else self.app)(scope, receive, say)
        except Exception as error:
            # Gradio raises an unhandled error for a component, event or body that no page sends.
            log.info("A request that no page sends: %s", type(error).__name__)
            if started:
                raise
            await _refuse(scope, send)


def door(way: Way = RATERS) -> dict[str, Any]:
    """`app_kwargs` for Gradio's launch() and mount_gradio_app()."""
    return {"middleware": [Middleware(Door, way=way)]}


def _path(scope: MutableMapping[str, Any]) -> str:
    """The path below the app's mount point."""
    return scope["path"].removeprefix(scope.get("root_path") or "") or "/"


def _let_in(scope: MutableMapping[str, Any], way: Way) -> bool:
    path, method = _path(scope), scope["method"]
    if method in ("GET", "HEAD"):
        return (path.rstrip("/") or "/") in _PAGES or path.startswith((*_FOLDERS, *way.follows))
    if method != "POST" or path.rstrip("/") not in way.posts:
        return False
    length = dict(scope["headers"]).get(b"content-length", b"")
    return length.isdigit() and int(length) <= _LONGEST_MESSAGE


def _unkept(scope: MutableMapping[str, Any], way: Way) -> tuple[tuple[bytes, bytes], ...]:
    """Keep screens and votes out of the cache of a shared phone."""
    return ((b"cache-control", b"no-store"),) if _path(scope).rstrip("/") in way.posts else ()


async def _refuse(scope: MutableMapping[str, Any], send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"There is nothing here.\n"})
