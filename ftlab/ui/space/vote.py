"""The raters' page on its own, in a Space on a free CPU: without torch, and without any model on this machine."""

from __future__ import annotations

import os

from ftlab.arena import backup
from ftlab.arena.live import ask_endpoints
from ftlab.arena.store import DATABASE_VARIABLE, open_store
from ftlab.core import hub_sync
from ftlab.core.workspace import Workspace
from ftlab.ui.doors.server import PUSH_MINUTES, listen, mount, new_server
from ftlab.ui.rater.page import build_rater_app, page_settings


def serve_vote(workspace: Workspace) -> None:
    """Serve the page until the process is asked to end.

    Raises InputError or FtlabError if votes should be kept on the Hub and cannot be, or the port is taken.
    """
    store = open_store(workspace)
    kept = backup.start(store, every_minutes=PUSH_MINUTES)
    if kept is None and not os.environ.get(DATABASE_VARIABLE):
        print(
            f"ftlab: votes are lost when this Space restarts. Set {backup.SPACE_VARIABLE} (a private data set, "
            f"owner/name) and the secret HF_TOKEN, or the secret {DATABASE_VARIABLE}.",
            flush=True,
        )
    if risk := backup.links_at_risk(store):
        print(f"ftlab: {risk}", flush=True)
    server = new_server()
    mount(server, build_rater_app(workspace, ask_endpoints), "/", page_settings())
    try:
        listen(server)
    finally:
        hub_sync.finish(kept)
