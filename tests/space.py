"""A lab as a Space serves it, on a port of this machine, and the requests of somebody without a browser."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
import httpx
import uvicorn

from ftlab.core.workspace import Workspace
from ftlab.ui.doors import access
from ftlab.ui.space import lab as space_lab


@dataclass(frozen=True)
class Lab:
    """The server, and what is mounted in it."""

    url: str
    blocks: gr.Blocks
    visitors: gr.Blocks
    who: access.Access
    workspace: Workspace

    def visitor(self, **settings: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **settings)

    def owner(self) -> httpx.Client:
        return self.visitor(cookies={access.COOKIE: self.who.ticket()})

    def raw(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """A request whose path is sent as it is."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        connection.putrequest(method, target, skip_host=False)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        said = answer.status, answer.read(200_000).decode("utf-8", "replace")
        connection.close()
        return said


@contextmanager
def served_lab(workspace: Workspace) -> Iterator[Lab]:
    """A lab over `workspace` with what the environment says."""
    who = access.from_environment()
    server, lab = space_lab.build_server(workspace, who, lambda: ("info", "All is kept."))
    mounted = [route.app for route in server.routes if getattr(route, "path", None) == ""]
    running = uvicorn.Server(uvicorn.Config(server, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield Lab(f"http://127.0.0.1:{port}", lab, mounted[0].get_blocks(), who, workspace)
    finally:
        running.should_exit = running.force_exit = True
        thread.join()


def fire(client: httpx.Client, blocks: gr.Blocks, elem_id: str, event: str, **typed: Any) -> dict[str, Any]:
    """What the page gets after `event` of `elem_id`; `typed` are values by elem_id. The session is the client's."""
    target = next(one for one in blocks.blocks.values() if getattr(one, "elem_id", None) == elem_id)._id
    fn = next(fn for fn in blocks.fns.values() if (target, event) in fn.targets)
    session = client.headers.setdefault("x-session", uuid.uuid4().hex)
    data = [typed.get(getattr(one, "elem_id", None) or "") for one in fn.inputs]
    asked = {"data": data, "fn_index": fn._id, "session_hash": session}
    client.post("/gradio_api/queue/join", json=asked).raise_for_status()
    shown: dict[str, Any] = {}
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                assert message["success"], message
                pairs = zip(fn.outputs, message["output"]["data"], strict=True)
                shown = {one.elem_id: value for one, value in pairs if getattr(one, "elem_id", None)}
                break
    return shown
