"""A stand-in for the Hugging Face Hub on this machine: the real library talks to it, and it keeps what it is sent.

    hub.add("me/data", "dataset", private=False, files={"train.jsonl": b"..."})
    run_a_process(env=hub.environment(tmp_path / "home"))
    hub.repo("me/data", "dataset").files["README.md"]

Where the owner or the name is `other`, nobody may write. A repository that is not there answers as the Hub does for
one that is private. Large files go by LFS, so `environment` switches Xet off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_test"
ROOT = Path(__file__).resolve().parents[1]
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+))?)?(?:/.*)?")
_RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)")
_LFS = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass(frozen=True)
class Asked:
    """One request: method, path without the query, body, and the header that carries the token."""

    method: str
    path: str
    body: bytes
    authorization: str | None


@dataclass
class Repo:
    """A repository: what lies in it, the paths of each commit, and what was said of it besides."""

    kind: str
    name: str
    private: bool = True
    gated: bool = False  # the owner has not let you in yet
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # the request that made it: sdk, hardware, secrets ...
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.name} {len(self.commits)}".encode()).hexdigest()


class FakeHub:
    """The Hub on a free port of this machine, until `close`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self, name: str, kind: str = "model", *, private: bool = True, files: dict[str, bytes] | None = None
    ) -> Repo:
        self.repos[kind, name] = Repo(kind, name, private, files=dict(files or {}))
        return self.repos[kind, name]

    def repo(self, name: str, kind: str = "model") -> Repo:
        return self.repos[kind, name]

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process whose Hub this is, logged in, with a cache of its own in `home`."""
        names = ("HF_", "FTLAB", "TRANSFORMERS_", "GRADIO")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        return inherited | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")]),
        }


class _Handler(BaseHTTPRequestHandler):
    """The answers of the Hub that ftlab needs."""

    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        with self.hub.lock:
            self.hub.asked.append(Asked(self.command, path, body, self.headers.get("Authorization")))
            self.route(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def route(self, path: str, body: bytes) -> None:
        hub = self.hub
        if path.startswith("/lfs/"):
            hub.blobs[path.removeprefix("/lfs/")] = body
            return self.send(200, {})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if path == "/api/whoami-v2":
            return self.send(200, {"type": "user", "name": "me", "orgs": [], "auth": {"type": "access_token"}})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if (found := _LFS.fullmatch(path)) is not None:
            return self.batch(json.loads(body))
        if (found := _RESOLVE.fullmatch(path)) is not None:
            return self.resolve(_KINDS.get(found[1] or "models"), found[2], found[3])
        if (found := _API.fullmatch(path)) is not None:
            kind, name, verb = _KINDS[found[1]], found[2], found[3]
            if verb in ("preupload", "commit", "secrets", "variables", "hardware", "restart") and self.refused(name):
                return None
            if (kind, name) not in hub.repos:
                return self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            if hub.repos[kind, name].gated:
                return self.send(403, {}, {"X-Error-Code": "GatedRepo"})
            return self.about(hub.repos[kind, name], verb, body)
        return self.send(404, {"error": f"the fake Hub does not know {path}"})

    def refused(self, name: str) -> bool:
        owner, _, own = name.partition("/")
        if "other" in (owner, own):
            self.send(403, {"error": "You don't have the rights"})
            return True
        if not self.headers.get("Authorization"):
            self.send(401, {"error": "Invalid username or password."})
            return True
        return False

    def create(self, asked: dict[str, Any]) -> None:
        kind, name = asked.get("type") or "model", f"{asked.get('organization') or 'me'}/{asked['name']}"
        if self.refused(name):
            return
        prefix = "" if kind == "model" else f"{kind}s/"
        known = (kind, name) in self.hub.repos
        if not known:
            repo = self.hub.add(name, kind, private=asked.get("visibility") == "private")
            repo.settings = asked
            repo.secrets |= {one["key"]: one["value"] for one in asked.get("secrets") or []}
            repo.variables |= {one["key"]: one["value"] for one in asked.get("variables") or []}
        self.send(409 if known else 200, {"url": f"{self.hub.url}/{prefix}{name}", "name": name, "id": "1"})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self.send(200, {"transfer": "basic", "objects": objects})

    def resolve(self, kind: str, name: str, path: str) -> None:
        repo = self.hub.repos.get((kind, name))
        if repo is not None and repo.gated:
            return self.send(403, {}, {"X-Error-Code": "GatedRepo", "X-Repo-Commit": repo.sha})
        if repo is None or path not in repo.files:
            code = "RepoNotFound" if repo is None else "EntryNotFound"
            return self.send(404, {}, {"X-Error-Code": code, "X-Repo-Commit": repo.sha if repo else ""})
        data = repo.files[path]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": repo.sha}
        return self.send(200, data, headers)

    def about(self, repo: Repo, verb: str | None, body: bytes) -> None:
        asked = json.loads(body) if verb in ("preupload", "secrets", "variables") else {}
        if verb == "preupload":
            mode = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": one["path"],
                    "uploadMode": mode[one["path"].endswith(".safetensors") or one["size"] > 10_000_000],
                    "shouldIgnore": False,
                }
                for one in asked["files"]
            ]
            self.send(200, {"files": files})
        elif verb == "commit":
            self.commit(repo, [json.loads(line) for line in body.decode().splitlines()])
        elif verb in ("tree", "paths-info"):
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in repo.files.items()
            ]
            self.send(200, listed)
        elif verb in ("secrets", "variables"):
            kept = repo.secrets if verb == "secrets" else repo.variables
            kept[asked["key"]] = asked["value"]
            self.send(200, {})
        else:
            self.send(200, self.info(repo))

    def info(self, repo: Repo) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in repo.files]
        return {
            "_id": "1",
            "id": repo.name,
            "modelId": repo.name,
            "sha": repo.sha,
            "private": repo.private,
            "siblings": siblings,
            "tags": [],
            "sdk": repo.settings.get("sdk"),
            "runtime": {"stage": "BUILDING"},
        }

    def commit(self, repo: Repo, lines: list[dict[str, Any]]) -> None:
        paths = []
        for line in lines:
            value, path = line["value"], line["value"].get("path")
            if line["key"] == "file":
                repo.files[path] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[path] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                repo.files.pop(path, None)
            if path:
                paths.append(path)
        repo.commits.append(paths)
        url = f"{self.hub.url}/{repo.name}/commit/{repo.sha}"
        self.send(200, {"success": True, "commitOid": repo.sha, "commitUrl": url, "hookOutput": ""})

    def send(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
