"""Blind tests go to a private data set on the Hub and come back, through the real library and a stand-in Hub."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from ftlab.arena import backup, tests, trials
from ftlab.arena.store import open_store
from ftlab.errors import InputError
from ftlab.workspace import Workspace
from tests.arena import everything, opened
from tests.unit.test_data_publish import ROOT, Hub

GO = """
import sys
from ftlab.arena import backup
from ftlab.arena.store import open_store
from ftlab.errors import FtlabError
from ftlab.workspace import Workspace
store = open_store(Workspace.open(sys.argv[1]))
try:
    scheduler = backup.start(store, sys.argv[2], every_minutes=60)
    scheduler.trigger().result()
    scheduler.stop()
    print("sent", backup.status(store))
except FtlabError as error:
    print(error.message())
"""


class Keeper(Hub):
    """A Hub that also keeps what it is sent, and gives it back."""

    def do_POST(self) -> None:
        if "/commit/" in self.path:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content  # type: ignore[attr-defined]
            self.server.commits += 1  # type: ignore[attr-defined]
            url = f"http://127.0.0.1:{self.server.server_address[1]}/datasets/me/data/commit/{'a' * 40}"
            self.send(200, {"success": True, "commitOid": "a" * 40, "commitUrl": url, "hookOutput": ""})
        else:
            self.answer()

    def do_GET(self) -> None:
        files = self.server.files  # type: ignore[attr-defined]
        path, _, name = self.path.split("?")[0].partition(f"/resolve/{'a' * 40}/")
        if name:
            self.send_response(200)
            for header, value in (("X-Repo-Commit", "a" * 40), ("ETag", f'"{hash(files[name])}"')):
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(files[name])
        elif "/tree/" in path:
            listed = [{"type": "file", "path": name, "size": len(files[name]), "oid": "b" * 40} for name in files]
            self.send(200, listed)
        else:
            self.answer()

    do_HEAD = do_GET


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    server.asked, server.visibility, server.files, server.commits = [], "none", {}, 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def go(workspace: Path, hub: ThreadingHTTPServer, repository: str = "me/data") -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FTLAB"))}
    home = {
        "HF_HOME": str(workspace.parent / f"home-{workspace.name}"),
        "HF_TOKEN": "hf_test",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", GO, str(workspace), repository],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=inherited
        | home
        | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_votes_come_back_on_a_host_that_lost_its_disk(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    store = open_store(Workspace.open(tmp_path / "here"))
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    trials.vote(store, ana, trial.id, "left", comment="“näher” an der Frage\u2028so")
    assert "sent" in go(tmp_path / "here", hub)
    assert hub.commits == 1, "one commit holds all tables, and what did not change is not sent again"  # type: ignore[attr-defined]
    sent = hub.files  # type: ignore[attr-defined]
    assert store.workspace.arena_secret.read_bytes() not in b"".join(sent.values())
    created = json.loads(next(body for _, path, body, _ in hub.asked if path == "/api/repos/create"))  # type: ignore[attr-defined]
    assert created["visibility"] == "private"

    hub.visibility = "private"  # type: ignore[attr-defined]
    assert "FTLAB_SECRET" in go(tmp_path / "there", hub)
    there = open_store(Workspace.open(tmp_path / "there"))
    assert everything(there) == everything(store) and len(everything(there)["votes"]) == 1
    following = trials.next_trial(there, ana)  # and the raters go on
    assert following is not None and following.number == 2


def test_votes_never_go_where_everybody_can_read(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    opened(open_store(Workspace.open(tmp_path / "here")))
    hub.visibility = "public"  # type: ignore[attr-defined]
    assert "everybody can read it" in go(tmp_path / "here", hub)
    assert "does not let you" in go(tmp_path / "here", hub, "me/other")
    assert hub.files == {}  # type: ignore[attr-defined]


def test_a_backup_is_not_read_into_tests_that_are_there(tmp_path: Path) -> None:
    store = open_store(Workspace.open(tmp_path / "one"))
    opened(store)
    backup.dump(store, tmp_path / "tables")
    with pytest.raises(InputError, match="already"):
        backup.load(store, tmp_path / "tables")
    (tmp_path / "tables" / "votes.jsonl").write_text('{"id": "1", "mood": "fine"}\n')
    other = open_store(Workspace.open(tmp_path / "two"))
    with pytest.raises(InputError, match="another version"):
        backup.load(other, tmp_path / "tables")
    assert tests.list_tests(other) == []
