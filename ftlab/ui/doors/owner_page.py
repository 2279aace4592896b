"""The owner's login page for a Space or a shared app: `/owner`, plain HTML without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ftlab.ui.doors.access import COOKIE, OWN_FRAMES, SHORTEST_PASSWORD, Access, hub_name
from ftlab.ui.doors.allowance import address_of
from ftlab.ui.kit.html import duration

_LONGEST = 2000  # bytes of the form
_HEADERS = {OWN_FRAMES[0].decode(): OWN_FRAMES[1].decode() + "; default-src 'none'; style-src 'unsafe-inline'"}
_HEADERS |= {"cache-control": "no-store", "referrer-policy": "same-origin"}


def routes(access: Access, kept: Callable[[], tuple[str, str]] | None = None) -> list[Route]:
    """The page and the targets of its forms. A Space (`kept`) also reports what is kept on the Hub, for the owner's
    programs, and links to its other pages."""

    def show(request: Request) -> Response:
        return _page(access, request)

    async def login(request: Request) -> Response:
        body = await _body(request)
        if body is None or access.password is None:
            return _page(access, request, "This way of logging in is not available here.", 400)
        address = address_of(request.client)
        with access.patience.turn(address) as may_wait:
            if not may_wait:
                message = "Too many wrong passwords from your address. Try again in a moment."
                return _page(access, request, message, 429, {"retry-after": "30"})
            await asyncio.sleep(access.patience.wait(address))
            if access.guess(parse_qs(body).get("password", [""])[0]):
                return _let_in(request)
            access.patience.wrong(address)
        wait = access.patience.wait(address)
        later = f" The next try is checked after {duration(wait)}." if wait else ""
        return _page(access, request, f"Wrong password.{later}", 403)

    def enter(request: Request) -> Response:
        """Log in by a one-time link. A browser that is logged in needs none: a notebook reloads its frame often."""
        if access.by_link and access.enter(request.query_params.get("ticket", "")[:100]):
            return _let_in(request)
        if access.is_owner(request.scope):
            return RedirectResponse(access.home, 303, _HEADERS)
        return _page(access, request, "This link was already used or is not valid.", 403)

    def _let_in(request: Request) -> Response:
        answer = RedirectResponse(access.home, 303, _HEADERS)
        answer.headers["set-cookie"] = _cookie(request, access.ticket(), 12 * 3600)
        return answer

    def logout(request: Request) -> Response:
        access.end(request.scope)
        (request.scope.get("session") or {}).pop("oauth_info", None)
        answer = RedirectResponse("/owner", 303)
        answer.headers["set-cookie"] = _cookie(request, "", 0)
        return answer

    pages = [
        Route("/owner", show, methods=["GET"]),
        Route("/owner/login", login, methods=["POST"]),
        Route("/owner/enter", enter, methods=["GET"]),
        Route("/owner/logout", logout, methods=["POST"]),
    ]
    return pages if kept is None else [*pages, *_beside(access, kept)]


def _beside(access: Access, kept: Callable[[], tuple[str, str]]) -> list[Route]:
    """Additional routes of a Space."""

    def status(request: Request) -> Response:
        if not access.is_owner(request.scope):
            return JSONResponse({"detail": "Only the owner of this Space may do this."}, 401)
        kind, words = kept()
        return JSONResponse({"kind": kind, "text": words}, headers={"cache-control": "no-store"})

    def onward(request: Request) -> Response:
        """Redirect to the path with a trailing slash; pages served below a folder are not found without it."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{request.url.path}/{query}", 307)

    return [
        Route("/lab", onward, methods=["GET"]),
        Route("/vote", onward, methods=["GET"]),
        Route("/owner/status", status, methods=["GET"]),
    ]


def _page(
    access: Access, request: Request, message: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    name = hub_name(request.scope)
    who = "Log in as the owner of this Space."
    if name:
        who = f"You are logged in on the Hub as {name}, who is not the owner of this Space."
    text = environment.get_template("owner_page.html.jinja").render(
        owner=access.is_owner(request.scope),
        home=access.home,
        in_space=access.home != "/",
        by_link=access.by_link,
        possible=access.possible,
        wanting=access.wanting,
        shortest=SHORTEST_PASSWORD,
        by_name=access.with_hub and bool(access.owners),
        by_password=access.password is not None,
        who=who,
        name=name,
        message=message,
    )
    return HTMLResponse(text, status, _HEADERS | (headers or {}))


async def _body(request: Request) -> str | None:
    """The submitted form; None if it is longer than any form of this page or not valid UTF-8."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            return None
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        return None


def _cookie(request: Request, value: str, seconds: int) -> str:
    """By hand: only Python 3.14 supports Partitioned, without which browsers drop cookies in the Hub's frame."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0]
    # Gradio's share link terminates TLS elsewhere.
    secure = "https" in (forwarded, request.url.scheme) or (request.url.hostname or "").endswith(".gradio.live")
    where = "; SameSite=None; Secure; Partitioned" if secure else "; SameSite=Lax"
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly{where}"


def way_in(access: Access) -> dict[str, Any]:
    """The link to the owner login, shown to everybody: {"href", "text"}."""
    if access.possible:
        return {"href": "/lab/", "text": "For the owner: open the lab"}
    return {"href": "/owner", "text": "For the owner: how to set up this Space"}
