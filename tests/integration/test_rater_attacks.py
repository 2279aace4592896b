"""The raters' server under requests that no page sends: nothing is told, nothing is changed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio.routes
import httpx

from ftlab.arena import blind_tests, links
from ftlab.core.workspace import Workspace
from ftlab.ui.rater.page import launch_rater_app
from tests.blind import Blind, Browserless, open_blind_test


class Rater(Browserless):
    """A rater with a link, without a browser."""

    def __init__(self, url: str, key: str):
        super().__init__(url)
        self.key = key

    def now(self) -> str:
        """The trial that waits."""
        return re.search(r'data-trial="([\w-]+)"', self.say(do="open", key=self.key)["screen"])[1]

    def vote(self, trial: object, **said: object) -> dict[str, str]:
        return self.say(**{"do": "vote", "key": self.key, "trial": trial, "choice": "left"} | said)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Blind, Any]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("attacked"))
    blind = open_blind_test(workspace, rubric=("overall", "style"))
    app, _ = launch_rater_app(workspace.root)
    yield blind, app
    app.close()


@pytest.fixture
def raters(served: tuple[Blind, Any]) -> tuple[Blind, Rater, Rater]:
    blind, app = served
    return blind, Rater(app.local_url, blind.keys[0]), Rater(app.local_url, blind.keys[1])


def given(blind: Blind) -> int:
    return len(blind.rows()["votes"])


def test_a_vote_counts_once_and_its_replay_changes_nothing_even_after_an_undo(raters):
    blind, one, _ = raters
    trial, before = one.now(), given(blind)
    assert "Comparison 2 of" in one.vote(trial, comment="fine", ratings={"style": "right"})["screen"]
    assert given(blind) == before + 1
    kept = blind.rows()
    assert "You have already voted on this" in one.vote(trial, choice="right")["screen"]
    assert blind.rows() == kept

    one.say(do="undo", key=one.key, trial=trial)
    assert given(blind) == before
    kept = blind.rows()
    one.vote(trial)
    assert blind.rows() == kept, "the replay of a vote that was taken back"
    one.say(do="undo", key=one.key, trial=trial)
    assert blind.rows() == kept, "the replay of an undo"
    one.vote(one.now())


def test_the_same_vote_sent_ten_times_at_once_counts_once(raters):
    blind, one, _ = raters
    trial, before = one.now(), given(blind)
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda n: one.vote(trial, choice=("left", "right")[n % 2])["screen"], range(10)))
    assert given(blind) == before + 1
    assert sum("You have already voted on this" in reply for reply in replies) == 9


def test_forged_foreign_and_senseless_votes_change_nothing(raters):
    blind, one, other = raters
    mine, theirs = one.now(), other.now()
    kept = blind.rows()
    head, _, signature = one.key.rpartition(".")
    refused = [
        one.vote("AAAAAAAAAAAAAAAA"),
        one.vote(theirs),
        one.vote(""),
        one.vote(mine, choice="tie"),
        one.vote(mine, choice="veiled-contestant-one"),
        one.vote(mine, choice=["left"]),
        one.vote({"id": mine}),
        one.vote(mine, ratings={"overall": "left"}),
        one.vote(mine, ratings={"style": "best"}),
        one.vote(mine, comment="x" * 5000),
        one.vote(mine, key=other.key),
        one.vote(mine, key=head + "." + signature[::-1]),
        one.vote(mine, key=head),
        one.vote(mine, key="'; DROP TABLE votes; --"),
        one.vote(mine, key=None),
        one.say(do="guess", key=one.key, trial=mine, choice="left"),
        one.say(do="guess", key=one.key, trial=theirs, choice="right"),
        one.say(do="undo", key=one.key, trial=theirs),
        one.say(do="close_test", key=one.key),
        one.say(do="join", key=one.key, name="somebody"),
        one.say(do="ask", key=one.key, text="Who are you?"),
        one.post(["vote", mine]).json(),
        one.post(None).json(),
        one.post("vote").json(),
    ]
    assert blind.rows() == kept
    for reply in refused:
        assert re.search('class="rt-(problem|message)"', reply["screen"]), reply
        assert not [name for name, secret in blind.secrets.items() if secret in str(reply)]
    # The page is none the worse for it.
    assert "rt-problem" not in one.vote(mine)["screen"]


def test_a_revoked_link_and_a_closed_test_take_no_votes(raters):
    blind, one, _ = raters
    gone = links.create_raters(blind.store, blind.test_id, ["a guest"])[0]
    guest = Rater(str(one.http.base_url), gone.token)
    trial = guest.now()
    links.revoke(blind.store, gone.rater_id)
    kept = blind.rows()
    assert "This link was revoked" in guest.vote(trial)["screen"]
    assert blind.rows() == kept

    workspace = blind.store.workspace
    second = open_blind_test(Workspace.open(workspace.root), prompts=3, raters=1)
    late = Rater(str(one.http.base_url), second.keys[0])
    trial = late.now()
    blind_tests.close_test(second.store, second.test_id)
    kept = second.rows()
    assert "This test is over" in late.vote(trial)["screen"]
    assert "This test is over" in late.say(do="undo", key=late.key, trial=trial)["screen"]
    assert second.rows() == kept


def test_an_open_link_lets_in_who_says_a_name_and_never_votes_itself(raters):
    blind, one, _ = raters
    key = links.open_link(blind.store, blind.test_id)
    mine, kept = one.now(), blind.rows()
    assert "Your name" in one.vote(mine, key=key)["screen"]
    assert "Please enter your name" in one.say(do="join", key=key, name=" ")["screen"]
    assert blind.rows() == kept
    reply = one.say(do="join", key=key, name="<b>Ada</b>")
    assert links.read_token(blind.store, reply["key"]).pseudonym == "<b>Ada</b>"
    assert "Comparison 1 of" in reply["screen"]


@pytest.mark.parametrize(
    "body",
    [
        {"component_id": 987_654, "fn_name": "rate", "data": {}, "session_hash": "s"},
        {"component_id": "rate", "fn_name": "rate", "data": {}, "session_hash": "s"},
        {"component_id": None, "fn_name": "rate", "data": {}, "session_hash": None},
        {"component_id": [1], "fn_name": "rate", "data": {}, "session_hash": {"a": 1}},
        {"fn_name": "rate"},
        [],
        "x",
        None,
    ],
)
def test_a_call_of_what_the_page_does_not_have_is_one_sentence(served, caplog, body):
    blind, app = served
    kept = blind.rows()
    answer = httpx.post(f"{app.local_url}gradio_api/component_server", json=body)
    assert 400 <= answer.status_code < 500 and "Traceback" not in answer.text
    for headers, content in (({}, b"{"), ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n")):
        answer = httpx.post(f"{app.local_url}gradio_api/component_server", content=content, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
    assert blind.rows() == kept and not [one for one in caplog.records if one.exc_info]


def test_one_client_cannot_fill_a_test_by_its_open_link(served):
    blind, app = served
    someone = Rater(app.local_url, links.open_link(blind.store, blind.test_id))
    before = len(links.links(blind.store, blind.test_id))
    replies = [someone.say(do="join", key=someone.key, name=f"Rater {n}") for n in range(60)]
    joined = [reply for reply in replies if "key" in reply]
    assert len(joined) <= links.JOINS[60][0] and "Too many people are joining" in replies[-1]["screen"]
    assert len(links.links(blind.store, blind.test_id)) == before + len(joined)
    made_up = [
        httpx.post(
            f"{app.local_url}gradio_api/component_server",
            json={"component_id": someone.page, "fn_name": "rate", "session_hash": "s"}
            | {"data": {"do": "join", "key": someone.key, "name": "Ada"}},
            headers={"x-forwarded-for": f"127.0.0.1, 198.51.100.{n}"},
        ).json()
        for n in range(60)
    ]
    assert sum("key" in reply for reply in made_up) + len(joined) <= links.JOINS[60][1], "for all together as well"


@pytest.mark.parametrize("headers, status", [({"host": "evil.example"}, 421), ({"origin": "http://evil.example"}, 403)])
def test_a_page_of_another_site_cannot_use_the_raters_page(served, headers, status):
    _, app = served
    for method, path in (("GET", ""), ("GET", "config"), ("POST", "gradio_api/component_server")):
        answer = httpx.request(method, app.local_url + path, headers=headers)
        assert answer.status_code == status and "access-control-allow-origin" not in answer.headers


def test_no_route_of_the_server_tells_or_does_anything_else(served):
    blind, app = served
    rater = Rater(app.local_url, blind.keys[0])
    trial = rater.now()
    assert rater.http.get("/config").json()["dependencies"] == []
    assert rater.http.get("/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}

    vote = {"do": "vote", "key": rater.key, "trial": trial, "choice": "left"}
    bodies = [
        {"data": [vote], "fn_index": 0, "session_hash": "s", "event_data": vote},
        {"data": vote, "component_id": rater.page, "fn_name": "get_config", "session_hash": "s"},
        {"data": vote, "component_id": rater.page, "fn_name": "__init__", "session_hash": "s"},
    ]
    places = [blind.store.workspace.arena_database, blind.store.workspace.arena_secret, "/etc/hostname"]
    kept, seen = blind.rows(), {}
    # Every route that this version of Gradio knows, read from its source: none can be forgotten here.
    known = set(re.findall(r'@(?:app|router)\.(get|post|head)\(\s*f?"([^"]+)"', inspect.getsource(gradio.routes)))
    paths = {(method, prefix + path) for method, path in known for prefix in ("", "/gradio_api")}
    for method, path in sorted(paths | {("get", "/docs"), ("get", "/redoc"), ("get", "/openapi.json")}):
        if "component_server" in path:
            continue  # the one that answers
        for filled in [re.sub(r"\{[^}]*\}", str(place), path) for place in (places if "{" in path else [""])]:
            for body in bodies if method == "post" else [None]:
                response = rater.http.request(method, filled, json=body)
                seen[f"{method} {filled}"] = response.status_code
                told = f"{response.headers} {response.text}"
                assert not [name for name, secret in blind.secrets.items() if secret in told]
    for body in bodies[1:]:
        assert rater.http.post("/gradio_api/component_server/", json=body).status_code == 404
    assert blind.rows() == kept
    answered = {name for name, status in seen.items() if status < 400}
    assert len(seen) > 100 and len(answered) > 5
    assert {name for name in answered if not re.search(r" /(gradio_api/)?(static|assets|svelte)/", name)} <= {
        *(
            "get /",
            "head /",
            "get /config",
            "get /config/",
            "get /favicon.ico",
            "get /manifest.json",
            "get /robots.txt",
        ),
        *("get /theme.css", "get /gradio_api/theme.css", "get /gradio_api/info", "get /gradio_api/info/"),
        "get /gradio_api/startup-events",
    }
