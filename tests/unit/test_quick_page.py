"""Gradio's page is served compressed, and finds a component without a search through all of them."""

from __future__ import annotations

from pathlib import Path

import gradio
import pytest
from starlette.testclient import TestClient

from ftlab.core.hosts import Names
from ftlab.core.workspace import Workspace
from ftlab.ui.app import build_app, page_settings
from ftlab.ui.doors.gradio_server import gradio_app
from ftlab.ui.doors.quick_page import _SEARCH, quick_script

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    page = build_app(workspace := Workspace.open(tmp_path_factory.mktemp("quick") / "workspace"))
    app = gradio_app(Names("127.0.0.1"))
    page.launch(prevent_thread_lock=True, quiet=True, _app=app, _frontend=False, **page_settings(workspace))
    yield TestClient(app, base_url=page.local_url)
    page.close()


def core() -> str:
    (name,) = [file.name for file in ASSETS.glob("core-*.js")]
    return name


def test_the_script_of_this_version_of_gradio_has_the_search_and_only_it_is_changed():
    before, after = (ASSETS / core()).read_text(), quick_script(core()).decode()
    (search,) = _SEARCH.finditer(before)
    assert "new WeakMap" in after and len(search[0]) < 130
    assert after.startswith(before[: search.start()]) and after.endswith(before[search.end() :])


def test_a_script_without_the_search_and_one_that_is_not_there_are_left_as_they_are(client):
    other = next(file.name for file in ASSETS.glob("*.js") if file.name.startswith("index-"))
    assert quick_script(other) is None and quick_script("core-none.js") is None
    assert client.get(f"/assets/{other}").content == (ASSETS / other).read_bytes()
    assert client.get("/assets/core-none.js").status_code == 404


def test_the_page_comes_compressed_and_a_kept_script_is_sent_anew(client):
    page = client.get("/")
    assert page.headers["content-encoding"] == "gzip"
    assert int(page.headers["content-length"]) < len(page.content) / 8
    script = client.get(f"/assets/{core()}", headers={"if-none-match": "*", "if-modified-since": "x"})
    assert script.status_code == 200 and script.content == quick_script(core())
