"""Who is let in as the owner of a Space, and how often anybody may do something."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("gradio")

from ftlab.ui import access, raters_page
from ftlab.ui.allowance import Allowance, address_of
from ftlab.ui.space_server import default_host

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


def asked(
    cookie: str = "", *, user: str | None = None, expires: float = 60.0, origin: str | None = None
) -> dict[str, Any]:
    """A request as a server sees it; `user` has logged in with the Hub."""
    headers = [(b"host", b"me-lab.hf.space"), (b"cookie", cookie.encode())]
    headers += [(b"origin", origin.encode())] if origin else []
    info = {"userinfo": {"preferred_username": user}, "expires_at": time.time() + expires}
    return {"type": "http", "headers": headers, "session": {"oauth_info": info} if user else {}}


def test_nobody_is_the_owner_of_a_space_without_configuration(space):
    who = space()
    assert not who.possible and "FTLAB_OWNER" in who.wanting[0] and "FTLAB_PASSWORD" in who.wanting[0]
    assert not who.is_owner(asked(f"{access.COOKIE}={who.ticket()}"))
    assert not who.is_owner(asked(user="me")) and who.guess("", "a") is False


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
    assert who.guess("correct horse ¾", "a") is True and who.guess("correct horse", "a") is False
    assert who.is_owner(asked(f"{access.COOKIE}={who.ticket()}"))
    again = access.from_environment()
    for cookie in (again.ticket(), who.ticket()[:-1], "owner", ""):
        assert not who.is_owner(asked(f"{access.COOKIE}={cookie}"))


def test_a_short_password_is_none(space):
    who = space(FTLAB_PASSWORD="tooshort")
    assert not who.possible and who.guess("tooshort", "a") is False and "12 characters" in who.wanting[0]


def test_a_page_of_another_host_acts_for_nobody(space):
    who = space(FTLAB_PASSWORD="correct horse battery", FTLAB_OWNER="me", **HUB)
    cookie = f"{access.COOKIE}={who.ticket()}"
    assert who.is_owner(asked(cookie, origin="https://me-lab.hf.space"))
    for origin in ("https://evil.example", "null", "https://me-lab.hf.space.evil.example", "https://other.hf.space"):
        assert not who.is_owner(asked(cookie, origin=origin)) and not who.is_owner(asked(user="me", origin=origin))


def test_guesses_are_limited_for_each_address_and_in_all(space):
    who = space(FTLAB_PASSWORD="correct horse battery")
    assert [who.guess("wrong wrong wrong", "a") for _ in range(6)] == [False] * 6
    wait = who.guess("correct horse battery", "a")
    assert not isinstance(wait, bool) and 50 < wait <= 60
    for n in range(54):
        assert who.guess("wrong wrong wrong", f"address {n}") is False
    assert who.guess("correct horse battery", "a new address") is not True


def test_an_allowance_comes_back_with_time():
    allowance = Allowance(each=2, in_all=3, seconds=10)
    assert [allowance.take("a", now) for now in (0.0, 4.0)] == [0.0, 0.0]
    assert allowance.take("a", 5.0) == 5.0 and allowance.take("b", 5.0) == 0.0
    assert allowance.take("c", 6.0) == 4.0, "three in all"
    assert allowance.take("a", 10.5) == 0.0


def test_behind_a_proxy_the_address_is_the_one_it_names():
    assert address_of({"x-forwarded-for": "203.0.113.7, 10.0.0.1"}, "10.0.0.2") == "203.0.113.7"
    assert address_of({}, "10.0.0.2") == "10.0.0.2" and len(address_of({"x-forwarded-for": "x" * 999}, None)) == 64


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
