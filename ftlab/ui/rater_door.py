"""What the raters' server answers at all, and what it says beside each answer.

Gradio serves more than its page needs: uploads, files, a proxy, monitoring, calls by number. A rater's browser uses
none of them, so here they do not exist.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.middleware import Middleware

_PAGES = {"/", "/config", "/theme.css", "/robots.txt", "/favicon.ico", "/manifest.json"}
_PAGES |= {"/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/theme.css"}
_FOLDERS = ("/assets/", "/static/", "/svelte/")
_CALLS = {"/gradio_api/component_server"}
# The page draws itself from its own server only, and behind a share link (Colab) from where Gradio keeps its scripts
# for those. Gradio makes functions of the scripts in its configuration, hence 'unsafe-eval'.
_SHARED = "https://gradio.s3-us-west-2.amazonaws.com"
_POLICY = (
    f"default-src 'self' {_SHARED}; script-src 'self' {_SHARED} 'unsafe-inline' 'unsafe-eval'; "
    f"style-src 'self' {_SHARED} 'unsafe-inline'; img-src 'self' {_SHARED} data:; font-src 'self' {_SHARED} data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_LONGEST_MESSAGE = 64_000  # bytes of a vote with its comment; more is nobody's vote


class Door:
    """ASGI middleware: lets pass what a rater's page needs, and nothing else."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http" or not _let_in(scope):
            await _refuse(scope, send)
            return

        async def say(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS, *_unkept(scope)]
            await send(message)

        await self.app(scope, receive, say)


def door() -> dict[str, Any]:
    """`app_kwargs` of Gradio's launch() and mount_gradio_app()."""
    return {"middleware": [Middleware(Door)]}


def _path(scope: MutableMapping[str, Any]) -> str:
    """The path below the place where the app is mounted."""
    return scope["path"].removeprefix(scope.get("root_path") or "") or "/"


def _let_in(scope: MutableMapping[str, Any]) -> bool:
    path, method = _path(scope), scope["method"]
    if method in ("GET", "HEAD"):
        return (path.rstrip("/") or "/") in _PAGES or path.startswith(_FOLDERS)
    if method != "POST" or path.rstrip("/") not in _CALLS:
        return False
    length = dict(scope["headers"]).get(b"content-length", b"")
    return length.isdigit() and int(length) <= _LONGEST_MESSAGE


def _unkept(scope: MutableMapping[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    """Screens and votes are in no cache of a shared phone."""
    return ((b"cache-control", b"no-store"),) if _path(scope).rstrip("/") in _CALLS else ()


async def _refuse(scope: MutableMapping[str, Any], send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"There is nothing here.\n"})
