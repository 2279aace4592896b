"""A data set goes to the Hub as the dry run said it would, sent by the real library to a stand-in on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftlab.config import DataConfig
from ftlab.data import curation, versions
from ftlab.data.publish import push
from ftlab.errors import InputError
from ftlab.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import json, sys
from ftlab.config import DataConfig
from ftlab.data.publish import push
from ftlab.errors import FtlabError
for repository, private in json.loads(sys.argv[2]):
    try:
        print(json.dumps(push(DataConfig(source=sys.argv[1]), repository, private=private).as_dict()))
    except FtlabError as error:
        print(json.dumps(error.message()))
"""


class Hub(BaseHTTPRequestHandler):
    """The few answers of the Hub that saving a data set needs; what was asked is kept in `server.asked`."""

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        self.server.asked.append((self.command, path, body, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        base = f"http://127.0.0.1:{self.server.server_address[1]}"
        if "other" in path or b'"other"' in body:
            self.send(403, {"error": "no rights"})
        elif path == "/api/repos/create":
            self.send(200, {"url": f"{base}/datasets/me/data", "name": "me/data", "id": "1"})
        elif "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.send(200, {"files": files})
        elif "/commit/" in path:
            url = f"{base}/datasets/me/data/commit/{'a' * 40}"
            self.send(200, {"success": True, "commitOid": "a" * 40, "commitUrl": url, "hookOutput": ""})
        elif path == "/api/validate-yaml":
            self.send(200, {"errors": [], "warnings": []})
        elif path.endswith("/me/data") and self.server.visibility == "none":  # type: ignore[attr-defined]
            self.send(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            public = self.server.visibility == "public"  # type: ignore[attr-defined]
            self.send(
                200,
                {
                    "private": not public,
                    "_id": "1",
                    "id": "me/data",
                    "sha": "a" * 40,
                    "siblings": [],
                    "tags": [],
                    "name": "me",
                },
            )

    do_GET = do_HEAD = do_POST = answer

    def send(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.visibility = [], "none"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{n}", "completion": f"a{n}"}) + "\n" for n in range(30)))
    return str(path)


def ask(source: str, home: Path, cases: list[Any], **environment: str) -> list[Any]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", ASK, source, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=inherited
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")]), "HF_HOME": str(home)}
        | {"NO_PROXY": "127.0.0.1", "HF_TOKEN": "hf_test"}
        | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"'))]


def test_what_is_sent_is_what_the_dry_run_showed(hub: ThreadingHTTPServer, source: str, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    sent, refused = ask(source, tmp_path / "home", [["me/data", True], ["other/data", True]], HF_ENDPOINT=endpoint)
    shown = push(DataConfig(source=source), "me/data", dry_run=True)
    assert sent["files"] == shown.files and sent["card"] == shown.card and sent["address"].endswith("/datasets/me/data")
    assert "does not let you write to other/data" in refused
    asked = hub.asked  # type: ignore[attr-defined]
    created = json.loads(next(body for _, path, body, _ in asked if path == "/api/repos/create"))
    assert created["type"] == "dataset" and created["visibility"] == "private"
    commit = next(body for _, path, body, _ in asked if "/commit/" in path)
    files = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in map(json.loads, commit.decode().splitlines())
        if line["key"] == "file"
    }
    assert {name: len(data) for name, data in files.items()} == shown.files
    assert files["README.md"].decode() == shown.card and files["data/train.parquet"][:4] == b"PAR1"
    assert {key for *_, key in asked if key} == {"Bearer hf_test"}


def test_private_rows_do_not_go_into_a_public_data_set(hub: ThreadingHTTPServer, source: str, tmp_path: Path) -> None:
    hub.visibility = "public"  # type: ignore[attr-defined]
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    refused, sent = ask(source, tmp_path / "home", [["me/data", True], ["me/data", False]], HF_ENDPOINT=endpoint)
    assert "everybody can read it" in refused and sent["private"] is False
    assert sum("/commit/" in path for _, path, *_ in hub.asked) == 1  # type: ignore[attr-defined]


def test_a_hub_that_does_not_answer_is_told(source: str, tmp_path: Path) -> None:
    (told,) = ask(source, tmp_path / "home", [["me/data", True]], HF_ENDPOINT="http://127.0.0.1:9")
    assert told.startswith("The Hugging Face Hub cannot be reached") and "--dry-run" in told


def test_the_card_tells_splits_source_and_steps_without_markup_of_others(source: str, workspace: Workspace) -> None:
    first = versions.create(source, workspace, who="Ada")
    second = curation.exclude(first, [1, 2], who="Ada", why="<script>[spam](http://x)")
    shown = push(DataConfig(source=second.source), "me/data", workspace, dry_run=True, licence="cc-by-4.0")
    head = yaml.safe_load(shown.card.split("---")[1])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and shown.private
    assert "| train | 28 |" in shown.card and second.content in shown.card
    assert "taken from the source: 30 rows" in shown.card and "excluded 2 rows: 28 rows" in shown.card
    assert "<script>" not in shown.card and "Ada" not in shown.card
    for wrong in ("data", "me/da ta", "me/data/x", "../x"):
        with pytest.raises(InputError, match="not the id of a data set"):
            push(DataConfig(source=source), wrong, dry_run=True)
