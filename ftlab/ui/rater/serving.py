"""The raters' page, served beside the app: on a port of its own, so that what raters reach leads nowhere else.

Whom it reaches is chosen on the Blind test tab and kept in the workspace: after a restart the links work again.
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

# Where the people who vote are, and what that takes.
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
    """Where raters find the page. `app` is None when somebody else serves it."""

    url: str
    reach: str
    app: gr.Blocks | None


def kept(workspace: Workspace) -> dict[str, Any]:
    """What was chosen last: {"reach", "port", "url"}. A Space serves the page itself, below its own address."""
    here = address()
    url = f"{here}/vote" if here and usual() == "elsewhere" else ""
    return {"reach": usual(), "port": None, "url": url} | (read_cached(workspace.raters_page_file) or {})


def must_ask(workspace: Workspace) -> bool:
    """Whether nobody has said yet where the people are, and nothing here decides it."""
    return usual() == "machine" and read_cached(workspace.raters_page_file) is None


def usual() -> str:
    """Whom the page reaches when nothing was chosen. On Colab nothing but a public link can be reached."""
    return "public" if _on_colab() else "elsewhere" if os.environ.get("SPACE_ID") else "machine"


def now(workspace: Workspace) -> Page | None:
    """The page as it is served by this process; None when it is not."""
    return _served.get(workspace.root)


def serve(workspace: Workspace, reach: str | None = None, url: str | None = None) -> Page:
    """Serve the page for `reach` (default: as last time), on the same port as last time where that is free.

    `url` is the address of a server of one's own. Raises InputError when it has none, FtlabError when there is no way
    to be reached.
    """
    with _one_at_a_time:
        before = kept(workspace)
        reach, url = reach or before["reach"], (before["url"] if url is None else url).strip()
        current = now(workspace)
        if current is not None and current.reach == reach and (reach != "elsewhere" or current.url == url):
            return current
        port = before["port"] if reach == before["reach"] else None
        # In a thread of its own: within a handler, gradio takes new components for updates of the page.
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
    """Serve the page again after a restart, when a test is open: in a moment, or once the app is `served`."""

    def work() -> None:
        served.wait(_PATIENCE_SECONDS)  # nobody may come: raters must not need the owner to look
        if not has_tests(workspace):
            return
        from ftlab.arena.blind_tests import list_tests
        from ftlab.arena.store import open_store

        # What is wrong is said on the tab, where somebody can do something about it.
        with contextlib.suppress(FtlabError):
            # A test whose answers are being made opens by itself.
            awaited = ("open",) if must_ask(workspace) else ("open", "generating")
            if any(test.state in awaited for test in list_tests(open_store(workspace))):
                serve(workspace)

    thread = threading.Thread(target=work, daemon=True, name="raters' page")
    thread.start()
    return thread


def has_tests(workspace: Workspace) -> bool:
    """Whether there can be any blind test: looking makes no database."""
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
        # Somebody else has the port now. Links that were sent must be sent again, and the tab shows the new ones.
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
    """A port that the app itself will not want at its next start; None when all of these are taken."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, port))
            return port
    return None


def _address_in_network() -> str:
    """The address of this machine as others in its network see it. Nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation: only the route to it is looked up
        return str(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "127.0.0.1"


def _on_colab() -> bool:
    return bool(os.environ.get("COLAB_RELEASE_TAG"))
