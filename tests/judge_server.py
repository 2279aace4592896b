"""A small OpenAI-compatible server on this machine, which judges as a test tells it to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What a behaviour gives: status, headers, and a body (text, or a value that becomes JSON).
Answer = tuple[int, dict[str, str], Any]


@dataclass
class JudgeServer:
    """`requests` holds what came: {path, headers, body}, in order."""

    behave: Callable[[dict[str, Any], int], Answer]
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    most_at_once: int = 0


def says(better: str, *, reason: str = "because", prompt_tokens: int = 100, completion_tokens: int = 10) -> Answer:
    """A well-formed reply that chooses `better`."""
    return reply(json.dumps({"reason": reason, "better": better}), prompt_tokens, completion_tokens)


def reply(text: str, prompt_tokens: int = 100, completion_tokens: int = 10, finish: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return 200, {}, {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def shown(body: dict[str, Any]) -> dict[str, str]:
    """What stands in the blocks of a request: prompt, reference, answer_a, answer_b."""
    text = body["messages"][-1]["content"]
    return dict(re.findall(r"<(\w+) \w{8}>\n(.*?)\n</\1 \w{8}>", text, flags=re.DOTALL))


def without_proxies(monkeypatch: Any) -> None:
    """Requests to this machine go there, whatever proxy the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def judge_server(behave: Callable[[dict[str, Any], int], Answer]) -> Iterator[JudgeServer]:
    """Serve at `url`; `behave(request, n)` answers the n-th request (from 0), a dict with path, headers and body."""
    judge, lock, at_work = JudgeServer(behave), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = {"path": self.path, "headers": dict(self.headers), "body": json.loads(raw)}
            with lock:
                number = len(judge.requests)
                judge.requests.append(request)
                at_work[0] += 1
                judge.most_at_once = max(judge.most_at_once, at_work[0])
            try:
                status, headers, body = judge.behave(request, number)
            finally:
                with lock:
                    at_work[0] -= 1
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """The tests' output stays readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
