"""The lab in a Space under the requests of a stranger: nothing of the owner's is told, nothing is done."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("gradio")

import gradio.routes
import httpx
from gradio_client import Client

from ftlab.core.workspace import Workspace
from ftlab.ui.doors import access
from tests.small_runs import make_base, make_run, save_result
from tests.space import Lab, fire, served_lab

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that shows a run of a tiny random model to everybody."""
    folder = tmp_path_factory.mktemp("space")
    workspace = Workspace.open(folder / "workspace")
    base = make_base(folder / "base")
    save_result(make_run(workspace.runs_folder, base, "general_probes", name="20260101-000000-shown"), base)
    (workspace.root / "secret.txt").write_text("nobody should read this")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPACE_ID", "me/lab")
        environment.setenv(access.PASSWORD_VARIABLE, PASSWORD)
        environment.setenv("FTLAB_SHOW_RUN", "last")
        with served_lab(workspace) as served:
            yield served


@pytest.fixture
def visitor(lab: Lab) -> Iterator[httpx.Client]:
    with lab.visitor() as client:
        yield client


def state(lab: Lab) -> list[str]:
    """Every file of the workspace, but for those of the database that reading touches."""
    files = [path for path in lab.workspace.root.rglob("*") if path.is_file() and "arena.sqlite-" not in path.name]
    return sorted(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def test_no_handler_of_the_lab_is_reached_by_a_visitor(lab, visitor):
    before = state(lab)
    assert len(lab.blocks.fns) > 100
    for number, fn in lab.blocks.fns.items():
        data = [getattr(one, "value", None) for one in fn.inputs]
        body = {"data": [None] * len(data), "fn_index": number, "session_hash": "s", "trigger_id": None}
        for path in ("queue/join", "run/predict", f"run/{fn.api_name}", f"api/{fn.api_name}", f"call/{fn.api_name}"):
            answer = visitor.post(f"/lab/gradio_api/{path}", json=body)
            assert answer.status_code == 401, (path, number)
    assert state(lab) == before
    # The same door lets the owner's browser through.
    with lab.owner() as owner:
        assert owner.get("/lab/config").status_code == 200
        assert owner.get("/owner/status").json() == {"kind": "info", "text": "All is kept."}
    assert visitor.get("/owner/status").status_code == 401
    with lab.owner() as owner:
        join = {"data": [], "fn_index": 0, "session_hash": "s"}
        assert owner.post("/lab/gradio_api/queue/join", json=join).status_code != 401


def test_no_route_of_the_server_opens_anything_of_the_owner(lab, visitor):
    before = state(lab)
    # Every route that this version of Gradio knows, read from its source: none can be forgotten here.
    known = set(re.findall(r'@(?:app|router)\.(get|post|head)\(\s*f?"([^"]+)"', inspect.getsource(gradio.routes)))
    paths = {(method, prefix + path) for method, path in known for prefix in ("", "/gradio_api")}
    paths |= {
        ("post", "/gradio_api/upload"),
        ("get", "/gradio_api/file={}"),
        ("get", "/docs"),
        ("get", "/openapi.json"),
    }
    secret, seen = str(lab.workspace.root / "secret.txt"), 0
    for method, path in sorted(paths):
        filled = re.sub(r"\{[^}]*\}", secret, path)
        for mount in ("/lab", "/vote", ""):
            body = {"json": {"data": [], "fn_index": 0, "session_hash": "s"}} if method == "post" else {}
            if mount == "" and path in ("/gradio_api/queue/join", "/gradio_api/queue/data"):
                continue  # the visitors' own, below
            answer = visitor.request(method, mount + filled, **body)
            seen += 1
            assert "nobody should read this" not in answer.text
            if mount == "/lab":
                assert answer.status_code in (303, 401), (method, filled)
                assert answer.status_code == 401 or answer.headers["location"] == "/owner"
            elif "file" in path or "upload" in path or "proxy" in path or "monitoring" in path:
                assert answer.status_code >= 400, (method, mount + filled)
    assert seen > 200 and state(lab) == before


@pytest.mark.parametrize(
    "path",
    [
        *("//lab/config", "/lab//config", "/./lab/config", "/x/../lab/config", "/vote/../lab/config", "/%6cab/config"),
        *(
            "/lab%2fconfig",
            "/LAB/config",
            "/lab/./config",
            "/lab;x/config",
            "/lab/config?x=/vote",
            "http://x/lab/config",
        ),
        *("/vote/..%2flab/config", "/lab/%2e%2e/lab/config", "\\lab\\config", "/owner/../lab/config"),
    ],
)
def test_no_spelling_of_a_path_goes_around_the_door(lab, path):
    status, text = lab.raw("GET", path)
    assert "train_start" not in text
    for headers in (
        {"X-Forwarded-Prefix": "/lab"},
        {"X-Original-URL": "/lab/config"},
        {"X-Rewrite-URL": "/lab/config"},
    ):
        assert "train_start" not in lab.raw("GET", path, headers=headers)[1]
    assert status in (200, 303, 307, 400, 401, 404, 405, 421)


def test_forged_tickets_and_pages_of_other_hosts_are_refused(lab, visitor):
    ticket = lab.who.ticket()
    for cookie in (ticket[:-2] + "xx", "owner", "Im93bmVyIg.x.y", "", access.from_environment().ticket()):
        answer = visitor.get("/lab/config", headers={"cookie": f"{access.COOKIE}={cookie}"})
        assert answer.status_code == 401
    for origin in ("https://evil.example", "null"):
        mine = {"cookie": f"{access.COOKIE}={ticket}", "origin": origin}
        assert visitor.get("/lab/config", headers=mine).status_code == 403
        join = visitor.post("/lab/gradio_api/queue/join", json={"data": [], "fn_index": 0}, headers=mine)
        assert join.status_code == 403
    for path in ("/", "/lab/config", "/vote/", "/owner", "/owner/login", "/nothing"):
        mine = {"cookie": f"{access.COOKIE}={ticket}", "host": "evil.example"}
        assert visitor.get(path, headers=mine).status_code == 421


def test_the_password_opens_the_lab_and_wrong_ones_make_it_slow(lab):
    with lab.visitor(follow_redirects=True) as client:
        assert "Password" in client.get("/lab").text
        page = client.post("/owner/login", data={"password": PASSWORD})
        assert page.url.path == "/lab/" and "train_start" in page.text
        assert "Log out" in client.get("/owner").text
        assert client.get("/lab/help").url.path == "/lab/help/"
        assert "Learning rates" in client.get("/lab/help/methods").text
        program = Client(f"{lab.url}/lab/", headers={"cookie": f"{access.COOKIE}={client.cookies[access.COOKIE]}"})
        assert program.predict("support_triage", api_name="/inspect")["rows"] == 800
        kept = {"cookie": f"{access.COOKIE}={client.cookies[access.COOKIE]}"}
        assert "Password" in client.post("/owner/logout").text and client.get("/lab/config").status_code == 401
        assert client.get("/lab/config", headers=kept).status_code == 401, "a copy of the ticket"
    with lab.visitor() as client:
        # However many addresses are made up, the one that counts is on the right.
        for number in range(7):
            made_up = {"x-forwarded-for": f"198.51.100.{number}, 203.0.113.9"}
            answer = client.post("/owner/login", data={"password": "wrong"}, headers=made_up)
            assert answer.status_code == 403
        assert "checked after" in answer.text
        began = time.monotonic()
        late = client.post("/owner/login", data={"password": PASSWORD}, headers={"x-forwarded-for": "203.0.113.9"})
        assert late.status_code == 303 and time.monotonic() - began > 1, "later, but the owner gets in"
        assert client.post("/owner/login", content=b"password=" + b"x" * 5000).status_code == 400


def test_a_visitor_chats_with_the_run_that_is_shown_and_no_longer_than_the_limits(lab, visitor):
    page = lab.visitors
    assert len([fn for fn in page.fns.values() if fn.fn is not None]) == 4, "open, send, send by Enter, start anew"
    told = fire(visitor, page, "show_send", "click", show_text="Hello there.")
    assert "Hello there." in told["show_log"] and "Adapted" in told["show_log"]
    assert "too long" in fire(visitor, page, "show_send", "click", show_text="x" * 1001)["show_message"]
    assert "no message" in fire(visitor, page, "show_send", "click", show_text="  ")["show_message"]
    codes = [fire(visitor, page, "show_send", "click", show_text="Again.")["show_message"] for _ in range(6)]
    assert codes[:5] == [""] * 5 and "Too many messages" in codes[5]
    with lab.visitor(headers={"x-forwarded-for": "203.0.113.20"}) as other:
        assert fire(other, page, "show_send", "click", show_text="Hello.")["show_message"] == ""
    long = {"data": ["x" * 70_000], "fn_index": 0, "session_hash": "s"}
    assert visitor.post("/gradio_api/queue/join", json=long).status_code == 404


def test_a_space_without_configuration_says_what_to_set_and_lets_nobody_train(tmp_path, monkeypatch):
    for name in (access.PASSWORD_VARIABLE, access.OWNER_VARIABLE, "FTLAB_SHOW_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPACE_ID", "me/lab")
    with served_lab(Workspace.open(tmp_path / "workspace")) as lab, lab.visitor(follow_redirects=True) as client:
        page = client.get("/lab/")
        assert page.url.path == "/owner" and "nobody can train" in page.text
        assert "FTLAB_OWNER" in page.text and "FTLAB_PASSWORD" in page.text
        assert client.post("/owner/login", data={"password": ""}).status_code == 400
        assert client.get("/lab/config", cookies={access.COOKIE: lab.who.ticket()}).status_code == 401
        assert "Nothing to show yet" in str(fire(client, lab.visitors, "show_send", "click", show_text="Hi"))
