"""Serve the raters' page beside the app, on its own port, so that raters can reach nothing else.

Its audience is chosen on the Blind test tab and stored in the workspace: links work again after a restart.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena.store import DATABASE_VARIABLE
from ftlab.core.files import read_cached, write_json
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.ui.doors.server import address

# Where the raters are, and what each option requires.
REACH = {
    "network": ("In this network", "Phones and computers on the same Wi-Fi or office network."),
    "public": ("Anywhere", "A public share link, while ftlab runs here."),
    "machine": ("Only at this computer", "Nobody else can open it."),
    "elsewhere": ("On your own server or Space", "It serves the raters' page at its own address."),
}
_HOSTS = {"machine": "127.0.0.1", "network": "0.0.0.0", "public": "127.0.0.1"}
_PORTS = range(7960, 8000)
_PATIENCE_SECONDS = 3.0
_one_at_a_time = threading.RLock()
_served: dict[Path, Page] = {}


@dataclass(frozen=True)
class Page:
    """Where raters find the page. `app` is None if another process serves it."""

    url: str
    reach: str
    app: gr.Blocks | None


def kept(workspace: Workspace) -> dict[str, Any]:
    """The last choice: {"reach", "port", "url"}. A Space serves the page itself, below its own address."""
    here = address()
    url = f"{here}/vote" if here and usual() == "elsewhere" else ""
    return {"reach": usual(), "port": None, "url": url} | (read_cached(workspace.raters_page_file) or {})


def must_ask(workspace: Workspace) -> bool:
    """Whether nobody has chosen the audience yet and the environment does not determine it."""
    return usual() == "machine" and read_cached(workspace.raters_page_file) is None


def usual() -> str:
    """The default audience. On Colab, only a public link is reachable."""
    return "public" if _on_colab() else "elsewhere" if os.environ.get("SPACE_ID") else "machine"


def now(workspace: Workspace) -> Page | None:
    """The page as served by this process; None if it is not served."""
    return _served.get(workspace.root)


def serve(workspace: Workspace, reach: str | None = None, url: str | None = None) -> Page:
    """Serve the page for `reach` (default: the last choice), on the previous port if that is free.

    `url` is the address of your own server. Raises InputError if it is missing, FtlabError if the page cannot be
    reached.
    """
    with _one_at_a_time:
        before = kept(workspace)
        reach, url = reach or before["reach"], (before["url"] if url is None else url).strip()
        current = now(workspace)
        if current is not None and current.reach == reach and (reach != "elsewhere" or current.url == url):
            return current
        port = before["port"] if reach == before["reach"] else None
        # In a separate thread: inside a handler, gradio treats new components as updates of the page.
        with ThreadPoolExecutor(1) as thread:
            page, port = thread.submit(_start, workspace, reach, url, port).result()
        if current is not None and current.app is not None:
            current.app.close(verbose=False)
        _served[workspace.root] = page
        write_json(
            workspace.raters_page_file, {"reach": reach, "port": port, "url": url if reach == "elsewhere" else ""}
        )
        return page


def serve_again(workspace: Workspace, served: threading.Event) -> threading.Thread:
    """Serve the page again after a restart if a test is open: shortly, or once the app is `served`."""

    def work() -> None:
        served.wait(_PATIENCE_SECONDS)  # no page may load: raters must not depend on the owner
        if not has_tests(workspace):
            return
        from ftlab.arena.blind_tests import list_tests
        from ftlab.arena.store import open_store

        # The tab reports the problem, where the owner can fix it.
        with contextlib.suppress(FtlabError):
            # A test that is still generating answers opens by itself.
            awaited = ("open",) if must_ask(workspace) else ("open", "generating")
            if any(test.state in awaited for test in list_tests(open_store(workspace))):
                serve(workspace)

    thread = threading.Thread(target=work, daemon=True, name="raters' page")
    thread.start()
    return thread


def has_tests(workspace: Workspace) -> bool:
    """Whether any blind test can exist. The check creates no database."""
    return workspace.arena_database.exists() or bool(os.environ.get(DATABASE_VARIABLE))


def _start(workspace: Workspace, reach: str, url: str, port: int | None) -> tuple[Page, int | None]:
    if reach not in REACH:
        raise InputError("The raters' page cannot be served this way", given=reach, allowed=", ".join(REACH))
    if reach == "elsewhere":
        if not url.startswith(("http://", "https://")):
            raise InputError(
                "The address of your server is needed",
                given=url or "nothing",
                allowed="an address like https://votes.example.org",
                try_="serve the page there with: python -m ftlab arena serve",
            )
        return Page(url, reach, None), None
    from ftlab.arena.live import ask_models
    from ftlab.ui.rater.page import launch_rater_app

    settings: dict[str, Any] = {"host": _HOSTS[reach], "share": reach == "public", "ask_models": ask_models}
    try:
        app, address = launch_rater_app(workspace.root, port=port or _free_port(settings["host"]), **settings)
    except InputError:
        # Another process has the port now. Links must be sent again; the tab shows the new ones.
        app, address = launch_rater_app(workspace.root, **settings)
    used = app.server_port
    if reach == "public" and ".gradio.live" not in address:
        app.close(verbose=False)
        raise FtlabError(
            "No public link could be made",
            why="Gradio's servers, which forward it, cannot be reached from here.",
            try_="people on this network instead, or your own server",
        )
    if reach == "network":
        mine = _address_in_network()
        if ipaddress.ip_address(mine).is_loopback:
            app.close(verbose=False)
            raise FtlabError(
                "This computer is not on a network that others can reach",
                try_="connect it to one, or let people vote anywhere or only at this computer",
            )
        address = f"http://{mine}:{used}"
    return Page(address.rstrip("/"), reach, app), used


def _free_port(host: str) -> int | None:
    """A port that the app will not need at its next start; None if all are taken."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, port))
            return port
    return None


def _address_in_network() -> str:
    """The address of this machine in its local network. Sends nothing."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation: this only looks up the route
        return str(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "127.0.0.1"


def _on_colab() -> bool:
    return bool(os.environ.get("COLAB_RELEASE_TAG"))
