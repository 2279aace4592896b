"""The web server of a Space: pages beside each other, each with a door of its own."""

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
    """Where this Space is reached: https://user-name.hf.space. None elsewhere."""
    host = os.environ.get("SPACE_HOST", "").split(",")[0].strip()
    return f"https://{host}" if host else None


def default_host() -> str:
    """What a Space listens on where nobody said otherwise; its folder tried on a laptop lets nobody else in."""
    return os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")


# Proxies whose word on who asked is taken: those of the Space itself. From the right, the first address that is none
# of these is the sender's; what stands further left anybody can write.
TRUSTED = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::1,fc00::/7"


def new_server(host: str | None = None, allowed: Sequence[str] = ()) -> FastAPI:
    """A server that answers nothing yet, and only to its own names."""
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(quick)
    server.add_middleware(Hosts, names=Names(host or default_host(), allowed))
    return server


def mount(server: FastAPI, page: gr.Blocks, path: str, settings: dict[str, Any]) -> None:
    """Serve `page` at `path`. What is mounted first answers first."""
    page.space_id = None  # else Gradio puts the Hub's header above it, which asks other hosts
    gr.mount_gradio_app(server, page, path, **settings)


def listen(server: FastAPI, host: str | None = None, port: int | None = None) -> None:
    """Serve until the process is asked to end. Raises InputError when the port is taken."""
    import uvicorn

    host = host or default_host()
    port = port or int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    # uvicorn passes the signal on when it is done, which would end the process before the last push.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"ftlab is at {address() or f'http://{host}:{port}'}", flush=True)
    try:
        # A page keeps a connection open for as long as it is looked at: the end does not wait for those.
        uvicorn.run(
            server,
            host=host,
            port=port,
            log_level="warning",
            proxy_headers=True,
            forwarded_allow_ips=TRUSTED,
            timeout_graceful_shutdown=3,
        )
    except SystemExit as error:  # uvicorn's way to say that it could not listen
        raise InputError(f"The app cannot be served at {host}:{port}", try_="another port") from error
