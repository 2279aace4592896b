"""Where the owner of a Space logs in: `/owner`, plain HTML without a script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ftlab.ui.access import COOKIE, OWN_FRAMES, SHORTEST_PASSWORD, Access, hub_name
from ftlab.ui.allowance import address_of
from ftlab.ui.html import duration

_LONGEST = 2000  # bytes of the form
_HEADERS = {OWN_FRAMES[0].decode(): OWN_FRAMES[1].decode() + "; default-src 'none'; style-src 'unsafe-inline'"}
_HEADERS |= {"cache-control": "no-store", "referrer-policy": "same-origin"}


def routes(access: Access, kept: Callable[[], tuple[str, str]]) -> list[Route]:
    """The page, what its two forms are sent to, and for programs of the owner what is `kept` on the Hub."""

    def show(request: Request) -> Response:
        return _page(access, request)

    async def login(request: Request) -> Response:
        body = await _body(request)
        if body is None or access.password is None:
            return _page(access, request, "Nobody can log in that way here.", 400)
        client = request.client.host if request.client else None
        outcome = access.guess(parse_qs(body).get("password", [""])[0], address_of(request.headers, client))
        if outcome is True:
            answer = RedirectResponse("/lab/", 303)
            answer.headers["set-cookie"] = _cookie(request, access.ticket(), 12 * 3600)
            return answer
        if outcome is False:
            return _page(access, request, "This is not the password.", 403)
        said = f"There were too many wrong passwords. Try again in {duration(outcome)}."
        return _page(access, request, said, 429, {"retry-after": str(int(outcome) + 1)})

    def logout(request: Request) -> Response:
        (request.scope.get("session") or {}).pop("oauth_info", None)
        answer = RedirectResponse("/owner", 303)
        answer.headers["set-cookie"] = _cookie(request, "", 0)
        return answer

    def status(request: Request) -> Response:
        if not access.is_owner(request.scope):
            return JSONResponse({"detail": "Only the owner of this Space may do this."}, 401)
        kind, words = kept()
        return JSONResponse({"kind": kind, "text": words}, headers={"cache-control": "no-store"})

    def onward(request: Request) -> Response:
        """What is served below a folder is not found without the slash behind its name."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{request.url.path}/{query}", 307)

    return [
        Route("/lab", onward, methods=["GET"]),
        Route("/vote", onward, methods=["GET"]),
        Route("/owner", show, methods=["GET"]),
        Route("/owner/status", status, methods=["GET"]),
        Route("/owner/login", login, methods=["POST"]),
        Route("/owner/logout", logout, methods=["POST"]),
    ]


def _page(
    access: Access, request: Request, said: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    name = hub_name(request.scope)
    who = "Log in as the one who owns this Space."
    if name:
        who = f"You are logged in on the Hub as {name}, who is not the owner of this Space."
    text = environment.get_template("owner_page.html.jinja").render(
        owner=access.is_owner(request.scope),
        possible=access.possible,
        wanting=access.wanting,
        shortest=SHORTEST_PASSWORD,
        by_name=access.with_hub and bool(access.owners),
        by_password=access.password is not None,
        who=who,
        name=name,
        said=said,
    )
    return HTMLResponse(text, status, _HEADERS | (headers or {}))


async def _body(request: Request) -> str | None:
    """The form that was sent; None when it is longer than any form of this page, or in no UTF-8."""
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
    """By hand: only Python 3.14 knows Partitioned, without which no browser keeps it within the Hub's frame."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0]
    secure = "https" in (forwarded, request.url.scheme)
    where = "; SameSite=None; Secure; Partitioned" if secure else "; SameSite=Lax"
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly{where}"


def way_in(access: Access) -> dict[str, Any]:
    """The link to the owner on the page for everybody: {"href", "text"}."""
    if access.possible:
        return {"href": "/lab/", "text": "For the owner: open the lab"}
    return {"href": "/owner", "text": "For the owner: how to set this Space up"}
