"""Which names a server answers to, who is let in as its owner, and how often anybody may do something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

pytest.importorskip("gradio")

from starlette.requests import HTTPConnection

from ftlab.core.hosts import Names
from ftlab.errors import InputError
from ftlab.ui.doors import access
from ftlab.ui.doors.allowance import Allowance, Patience, address_of
from ftlab.ui.doors.server import TRUSTED, default_host
from ftlab.ui.launch import launch
from ftlab.ui.rater import serving as raters_page

HUB = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret", "OAUTH_SCOPES": "openid", "OPENID_PROVIDER_URL": "x"}


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Access in a Space with the given variables."""
    for name in (access.OWNER_VARIABLE, access.PASSWORD_VARIABLE, *HUB):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SYSTEM", "spaces")

    def build(**variables: str) -> access.Access:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return access.from_environment()

    return build


def asked(cookie: str = "", *, user: str | None = None, expires: float = 60.0) -> dict[str, Any]:
    """A request as a server sees it; `user` has logged in with the Hub."""
    headers = [(b"host", b"me-lab.hf.space"), (b"cookie", cookie.encode())]
    info = {"userinfo": {"preferred_username": user}, "expires_at": time.time() + expires}
    return {"type": "http", "headers": headers, "session": {"oauth_info": info} if user else {}}


def test_nobody_is_the_owner_of_a_space_without_configuration(space):
    who = space()
    assert not who.possible and "FTLAB_OWNER" in who.wanting[0] and "FTLAB_PASSWORD" in who.wanting[0]
    assert not who.is_owner(asked(f"{access.COOKIE}={who.ticket()}"))
    assert not who.is_owner(asked(user="me")) and not who.guess("")


def test_a_name_on_the_hub_lets_in_its_bearer_and_nobody_else(space):
    who = space(FTLAB_OWNER="Me, colleague", **HUB)
    assert who.possible and who.is_owner(asked(user="ME")) and who.is_owner(asked(user="colleague"))
    assert not who.is_owner(asked(user="stranger")) and not who.is_owner(asked())
    assert not who.is_owner(asked(user="me", expires=-1))


def test_a_name_means_nothing_where_gradio_would_let_everybody_in_under_it(space, monkeypatch):
    monkeypatch.delenv("SYSTEM")
    assert not space(FTLAB_OWNER="me", **HUB).is_owner(asked(user="me"))
    monkeypatch.setenv("SYSTEM", "spaces")
    without = space(OAUTH_CLIENT_SECRET="")
    assert not without.is_owner(asked(user="me")) and "hf_oauth" in without.wanting[0]


def test_only_the_right_password_makes_a_ticket_and_a_ticket_of_another_server_is_worth_nothing(space):
    who = space(FTLAB_PASSWORD="correct horse ¾")
    assert who.guess("correct horse ¾") and not who.guess("correct horse")
    assert who.is_owner(asked(f"{access.COOKIE}={who.ticket()}"))
    again = access.from_environment()
    for cookie in (again.ticket(), who.ticket()[:-1], "owner", ""):
        assert not who.is_owner(asked(f"{access.COOKIE}={cookie}"))


def test_a_short_password_is_none(space):
    who = space(FTLAB_PASSWORD="tooshort")
    assert not who.possible and not who.guess("tooshort") and "12 characters" in who.wanting[0]


def test_a_logout_ends_the_ticket_and_the_login_with_the_hub_for_every_copy(space):
    who = space(FTLAB_PASSWORD="correct horse battery", FTLAB_OWNER="me", **HUB)
    mine, other = (f"{access.COOKIE}={who.ticket()}" for _ in range(2))
    named = asked(user="me")
    for request in (asked(mine), named):
        assert who.is_owner(request)
        who.end(request)
        assert not who.is_owner(request)
    assert who.is_owner(asked(other)), "another browser of the owner"
    assert who.is_owner(asked(user="me", expires=61)), "a new login with the Hub"


def test_a_link_lets_in_once(monkeypatch):
    monkeypatch.delenv(access.PASSWORD_VARIABLE, raising=False)
    who = access.for_shared("--share", in_notebook=True)
    key = who.link().partition("ticket=")[2]
    assert not who.enter("") and not who.enter(key[:-1]) and who.enter(key) and not who.enter(key)
    assert who.is_owner(asked(f"{access.COOKIE}={who.ticket()}")) and not who.guess("")


@pytest.mark.parametrize("password", ["", "tooshort"])
def test_an_app_that_others_reach_needs_a_password(monkeypatch, tmp_path, password):
    monkeypatch.setenv(access.PASSWORD_VARIABLE, password)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(
        InputError, match=r"--host 0\.0\.0\.0 lets others reach the app.*FTLAB_PASSWORD.*--open"
    ) as failed:
        launch(tmp_path, host="0.0.0.0")
    assert not password or password not in str(failed.value)


def test_wrong_passwords_take_longer_and_shut_nobody_out():
    patience = Patience(free=2, in_all=5, seconds=100, longest=4)
    for _ in range(6):
        patience.wrong("a", 0.0)
    assert patience.wait("b", 1.0) == 3.0, "very many from everywhere: a little for all"
    assert [patience.wait("a", now) for now in (1.0, 61.0, 101.0)] == [4.0, 4.0, 0.0]
    assert patience.wait("b", 61.0) == 0.0
    patience.wrong("b", 61.0), patience.wrong("b", 61.0)
    assert patience.wait("b", 61.0) == 1.0


def test_of_one_address_few_guesses_wait_at_once():
    patience = Patience()
    with contextlib.ExitStack() as held:
        assert [held.enter_context(patience.turn("a")) for _ in range(9)] == [True] * 8 + [False]
        with patience.turn("b") as other:
            assert other
    with patience.turn("a") as again:
        assert again


def seen(host: str | None, origin: str | None = None) -> dict[str, Any]:
    headers = [(b"host", host.encode())] if host is not None else []
    return {"type": "http", "headers": headers + ([(b"origin", origin.encode())] if origin is not None else [])}


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:7860", "localhost.:7860", "lab.example.org"]
)
def test_a_server_answers_to_its_own_names(host):
    assert Names("127.0.0.1", ["lab.example.org"]).refuse(seen(host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0:7860"),
        *(
            "192.168.0.7",
            "x.gradio.live",
            "me-lab.hf.space",
            "localhost@evil.example",
            "evil.example/localhost",
            "",
            None,
        ),
    ],
)
def test_a_server_of_this_machine_answers_to_no_other_name(monkeypatch, host):
    monkeypatch.delenv("SPACE_ID", raising=False)
    status, words = Names("127.0.0.1").refuse(seen(host))
    assert status == 421 and "--allow-host" in words


def test_two_hosts_in_one_request_are_none():
    twice = {"type": "http", "headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}
    assert Names("127.0.0.1").refuse(twice)[0] == 421


def test_a_server_for_the_network_answers_to_every_address_in_numbers_and_to_no_strange_name():
    names = Names("0.0.0.0")
    for host in ("192.168.0.7:7860", "[fe80::1]", "localhost"):
        assert names.refuse(seen(host)) is None
    assert names.refuse(seen("evil.example"))[0] == 421
    assert Names("192.168.0.7").refuse(seen("192.168.0.7")) is None
    assert Names("192.168.0.7").refuse(seen("192.168.0.8"))[0] == 421


def test_only_pages_of_the_server_itself_may_ask(monkeypatch):
    here, names = "localhost:7860", Names("127.0.0.1", ["lab.example.org"])
    for origin in ("http://localhost:7860", "http://127.0.0.1:7860", "https://lab.example.org"):
        assert names.refuse(seen(here, origin)) is None
    for origin in (
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "http://localhost",
        "",
        "file://",
        "http://[x",
    ):
        assert names.refuse(seen(here, origin))[0] == 403
    assert Names("127.0.0.1", shared=True).refuse(seen("ab12.gradio.live", "https://ab12.gradio.live")) is None
    assert Names("127.0.0.1", shared=True).refuse(seen("ab12.gradio.live", "https://evil.gradio.live"))[0] == 403
    monkeypatch.setenv("SPACE_ID", "me/lab")
    monkeypatch.setenv("SPACE_HOST", "me-lab.hf.space,lab.example.com")
    space = Names("0.0.0.0")
    for host in ("me-lab.hf.space", "10.0.3.4:7860", "lab.example.com"):
        assert space.refuse(seen(host, "https://me-lab.hf.space")) is None
        for origin in ("https://evil.example", "https://other.hf.space", "https://me-lab.hf.space.evil.example"):
            assert space.refuse(seen(host, origin))[0] == 403


def test_what_is_no_name_cannot_be_allowed(monkeypatch):
    with pytest.raises(InputError, match="Not a valid host name"):
        Names("127.0.0.1", ["*"])
    monkeypatch.setenv("FTLAB_ALLOW_HOST", "lab.example.org, https://other.example.org:8443/x")
    assert Names("127.0.0.1").refuse(seen("other.example.org")) is None


def test_an_allowance_comes_back_with_time():
    allowance = Allowance(each=2, in_all=3, seconds=10)
    assert [allowance.take("a", now) for now in (0.0, 4.0)] == [0.0, 0.0]
    assert allowance.take("a", 5.0) == 5.0 and allowance.take("b", 5.0) == 0.0
    assert allowance.take("c", 6.0) == 4.0, "three in all"
    assert allowance.take("a", 10.5) == 0.0


def test_what_a_sender_writes_into_a_header_is_not_its_address():
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    seen_as = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen_as.append(address_of(HTTPConnection(scope).client))

    through = ProxyHeadersMiddleware(app, TRUSTED)
    for forwarded in ("203.0.113.7", "1.2.3.4, 203.0.113.7", "127.0.0.1, 9.9.9.9, 203.0.113.7, 10.20.0.3"):
        scope = {"type": "http", "client": ("10.20.0.2", 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}
        asyncio.run(through(scope, None, None))
    assert seen_as == ["203.0.113.7"] * 3 and address_of(None) == "nobody"


def test_in_a_space_the_links_of_raters_lead_to_its_own_page(monkeypatch, workspace):
    monkeypatch.setenv("SPACE_ID", "me/lab")
    monkeypatch.setenv("SPACE_HOST", "me-lab.hf.space,lab.example.org")
    assert raters_page.serve(workspace).url == "https://me-lab.hf.space/vote"
    monkeypatch.delenv("SPACE_ID")
    assert raters_page.kept(workspace)["reach"] == "elsewhere", "as it was chosen"


def test_a_folder_of_a_space_that_is_tried_elsewhere_lets_nobody_else_in(monkeypatch):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert default_host() == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "me/votes")
    assert default_host() == "0.0.0.0"
    monkeypatch.setenv("GRADIO_SERVER_NAME", "10.0.0.7")
    assert default_host() == "10.0.0.7"
