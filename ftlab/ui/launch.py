"""Serve the app: on a laptop, in Colab, or in a Space behind the owner's login."""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ftlab.core import hosts
from ftlab.core.processes import FOR_THE_APP, NICE, quieten
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import help, programs
from ftlab.ui.app import build_app, page_settings
from ftlab.ui.background import import_later
from ftlab.ui.doors import access, gradio_server, owner_page
from ftlab.ui.kit.events import reaching
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.space import lab as space_lab


def launch(
    workspace: str | os.PathLike[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    open_to_all: bool = False,
    allow_hosts: Sequence[str] = (),
    open_browser: bool = False,
    block: bool | None = None,
    mcp: bool = False,
) -> gr.Blocks:
    """Serve the app and print its address. `block` None waits for Ctrl-C, except in a notebook.

    With `port` None, uses the first free one from 7860 up. With `share`, or a `host` that others can reach, the app
    requires the password in FTLAB_PASSWORD (asked for at a terminal), or in a notebook the printed link, unless
    `open_to_all` is set. `allow_hosts` adds host names that the app answers to, such as those of a proxy. `mcp` also
    offers the endpoints for programs to agents, as tools of the Model Context Protocol. Raises InputError if `port` is
    taken, a password is missing, the workspace is not writable, or the packages for MCP are not installed.
    """
    quieten()
    os.environ.setdefault(NICE, FOR_THE_APP)
    if mcp:
        programs.check_mcp()
    place = Workspace.open(workspace)
    if os.environ.get("SPACE_ID"):
        # Anyone can open a Space, so there the app is behind the owner's login.
        return space_lab.serve_lab(place, host=host, port=port, allow_hosts=allow_hosts)
    shared = share or gradio_server.shares_by_itself()
    names = hosts.Names(host, allow_hosts, shared=shared)
    others = shared or not hosts.is_loopback(host)
    who = None
    if others and not open_to_all:
        who = access.for_shared("--share" if shared else f"--host {host}", in_notebook=_in_notebook())
    served = threading.Event()
    # Other users of the app can read no files except their uploads and the workspace.
    with reaching([place.root, Path(get_upload_folder())] if others else None):
        app = build_app(place, served)
    try:
        _, url, public = app.launch(
            server_name=host,
            server_port=port,
            share=shared,
            inbrowser=open_browser,
            inline=False if who is not None else None,  # the frame needs the link that logs in
            height=760,  # of the frame in a notebook
            prevent_thread_lock=True,
            quiet=True,
            _app=gradio_server.gradio_app(names, **_served_beside(who)),
            **(page_settings(place) | {"mcp_server": mcp}),
            # Gradio's own check times out after 3 seconds and gives up: too short beside a run on a small CPU.
            _frontend=False,
        )
    except OSError as error:
        raise InputError(
            f"The app cannot be served at {host}:{port or 'any port from 7860 on'}: {error}",
            try_="another --port, or none for the first free one",
        ) from error
    names.add(public)
    import_later(served)
    raters_page.serve_again(place, served)
    _tell(url, public, who)
    print(f"workspace: {place.root}", flush=True)
    if mcp:
        print(f"tools for agents (MCP): {url}gradio_api/mcp/", flush=True)
    if block or (block is None and not _in_notebook()):
        print("Stop with ctrl-C; runs that are at work go on.", flush=True)
        app.block_thread()
    return app


def _served_beside(who: access.Access | None) -> dict[str, Any]:
    """`app_kwargs`: the pages beside the app and, if only its owner may use it, the door in front of everything."""
    if who is None:
        return {"routes": help.routes()}
    return access.owner_door(who) | {"routes": [*owner_page.routes(who), *help.routes()]}


def _tell(url: str, public: str | None, who: access.Access | None) -> None:
    """Print the address of the app. In a notebook, also show it in a frame that is logged in by link."""
    if who is None:
        print(f"ftlab is at {url}{f' and, for everybody with the link, at {public}' if public else ''}", flush=True)
        return
    if not who.by_link:
        print(f"ftlab is at {url}{f' and at {public}' if public else ''}, protected by your password", flush=True)
        return
    place = (public or url).rstrip("/")
    print(f"ftlab is at {place}{who.link()} (this link lets one browser in, once)", flush=True)
    try:
        from IPython.display import IFrame, display
    except ImportError:
        return
    display(IFrame(f"{place}{who.link()}", "100%", 760))


def _in_notebook() -> bool:
    """Whether this is Jupyter or Colab, where a blocked cell would block all later cells."""
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell is not None else None
    return shell is not None and hasattr(shell, "kernel")
