"""A package index on 127.0.0.1 that serves one wheel, whole or in a bad way."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Index:
    """`requests` are the path and the Range header of every request. `cuts` are the bytes after which the next
    answers with the wheel end too early; `login` is asked for; `agents` are the only programs that are served."""

    package: str
    wheel: str
    content: bytes
    json: bool = True
    announced: str | None = None  # another sha256 than that of the content
    missing: bool = False  # the page is there, the file is not
    cuts: list[int] = field(default_factory=list)
    login: str | None = None
    agents: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def url(self, login: str = "") -> str:
        return f"http://{login and login + '@'}127.0.0.1:{self.port}/simple"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for path, asked in self.requests if path.endswith(".whl")]

    def __enter__(self) -> Index:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, handler.headers.get("Range")))
        if self.login and handler.headers.get("Authorization") != _basic(self.login):
            return self._send(handler, 401, b"", "text/plain")
        if self.agents not in handler.headers.get("User-Agent", ""):
            return self._send(handler, 403, b"", "text/plain")
        if handler.path == f"/simple/{self.package}/":
            return self._send(handler, 200, *self._page())
        if handler.path == f"/files/{self.wheel}" and not self.missing:
            return self._send_wheel(handler)
        return self._send(handler, 404, b"", "text/plain")

    def _page(self) -> tuple[bytes, str]:
        sha256 = self.announced or hashlib.sha256(self.content).hexdigest()
        if self.json:
            file = {"filename": self.wheel, "url": f"../../files/{self.wheel}", "hashes": {"sha256": sha256}}
            page = {"meta": {"api-version": "1.1"}, "name": self.package, "files": [file]}
            return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"
        link = f'<a href="../../files/{self.wheel}#sha256={sha256}">{self.wheel}</a>'
        return f"<!DOCTYPE html><html><body>{link}</body></html>".encode(), "text/html; charset=utf-8"

    def _send_wheel(self, handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        begin = int(asked[1]) if asked else 0
        body = self.content[begin:]
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        end = self.cuts.pop(0) if self.cuts else len(body)
        try:
            handler.wfile.write(body[:end])
        except OSError:
            pass  # whoever asked has gone
        handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
        handler.send_response(status)
        if status == 401:
            handler.send_header("WWW-Authenticate", 'Basic realm="index"')
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()
