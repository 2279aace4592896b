"""The web server of a Space: several pages, each with its own access rules."""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import signal
import threading
from collections.abc import Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ftlab.core.hosts import Hosts, Names
from ftlab.errors import InputError
from ftlab.ui.doors.quick_page import quick

PUSH_MINUTES = 1.0  # between two pushes of votes: a Space may end at any time


def address() -> str | None:
    """The public address of this Space: https://user-name.hf.space. None elsewhere."""
    host = os.environ.get("SPACE_HOST", "").split(",")[0].strip()
    return f"https://{host}" if host else None


def default_host() -> str:
    """The default host of a Space. On a laptop, only this machine can connect."""
    return os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")


# Proxies whose X-Forwarded-For is trusted: those of the Space itself. Read from the right, the first address that is
# not one of these is the sender's. Anybody can forge the entries further left.
TRUSTED = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::1,fc00::/7"


def new_server(host: str | None = None, allowed: Sequence[str] = ()) -> FastAPI:
    """A server without routes that accepts only its own host names."""
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(quick)
    server.add_middleware(Hosts, names=Names(host or default_host(), allowed))
    return server


def mount(server: FastAPI, page: gr.Blocks, path: str, settings: dict[str, Any]) -> None:
    """Serve `page` at `path`. Earlier mounts take precedence."""
    page.space_id = None  # else Gradio puts the Hub's header above it, which contacts other hosts
    gr.mount_gradio_app(server, page, path, **settings)


def listen(server: FastAPI, host: str | None = None, port: int | None = None) -> None:
    """Serve until the process is asked to end. Raises InputError if the port is taken."""
    import uvicorn

    host = host or default_host()
    port = port or int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    # uvicorn re-raises the signal when it is done, which would end the process before the last push.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"ftlab is at {address() or f'http://{host}:{port}'}", flush=True)
    try:
        # A page keeps a connection open while it is visible. Shutdown does not wait for those.
        uvicorn.run(
            server,
            host=host,
            port=port,
            log_level="warning",
            proxy_headers=True,
            forwarded_allow_ips=TRUSTED,
            timeout_graceful_shutdown=3,
        )
    except SystemExit as error:  # uvicorn raises this if it cannot listen
        raise InputError(f"The app cannot be served at {host}:{port}", try_="another port") from error
