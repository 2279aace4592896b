"""All of ftlab in a public Hugging Face Space, with a separate entrance for each group of users.

/        visitors: chat with one run and read its report (FTLAB_SHOW_RUN names it; without it nothing is shown)
/vote    raters, with their links
/owner   the owner's login
/lab     the whole app, for the owner only
"""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI
from markupsafe import Markup, escape

from ftlab.arena import backup, tally
from ftlab.arena.live import ask_models
from ftlab.arena.store import open_store
from ftlab.core import hub_sync
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui import help, run_files
from ftlab.ui.app import build_app, page_settings
from ftlab.ui.background import import_later
from ftlab.ui.doors import access, owner_page
from ftlab.ui.doors.server import PUSH_MINUTES, listen, mount, new_server
from ftlab.ui.kit.events import on
from ftlab.ui.kit.html import join, notice
from ftlab.ui.rater import page as rater
from ftlab.ui.space import visitors

SHOW_VARIABLE = "FTLAB_SHOW_RUN"
_SECONDS = 20.0  # between two checks for what is not on the Hub yet


def serve_lab(
    workspace: Workspace, *, host: str | None = None, port: int | None = None, allow_hosts: Sequence[str] = ()
) -> Any:
    """Serve the app to its owner, and the public pages to everybody else. Returns when the server is stopped.

    Raises InputError if the port is taken.
    """
    kept, ended = _keep_everything(workspace)
    who, served = access.from_environment(), threading.Event()
    server, lab = build_server(workspace, who, kept, served, new_server(host, allow_hosts))
    import_later(served)
    tally.keep_watch(open_store(workspace))
    for line in who.wanting:
        print(f"ftlab: {line}", flush=True)
    try:
        listen(server, host, port)
    finally:
        ended()
    return lab


def build_server(
    workspace: Workspace,
    who: access.Access,
    kept: Callable[[], tuple[str, str]],
    served: threading.Event | None = None,
    server: FastAPI | None = None,
) -> tuple[FastAPI, gr.Blocks]:
    """The server with all its pages, including the owner's app. `kept()` gives the app's message about the Hub."""
    server = _with_login(server or new_server(), who, kept)
    lab = build_app(workspace, served, above=functools.partial(_above, kept))
    beside = access.owner_door(who) | {"routes": help.routes()}
    mount(server, lab, "/lab", page_settings(workspace) | {"app_kwargs": beside})
    mount(server, rater.build_rater_app(workspace, ask_models), "/vote", rater.page_settings())
    page = visitors.build_page(
        functools.partial(_shown_run, workspace), foot=_foot(who), threads=functools.partial(_threads, workspace)
    )
    mount(server, page, "/", visitors.page_settings())
    return server, lab


def _with_login(server: FastAPI, who: access.Access, kept: Callable[[], tuple[str, str]]) -> FastAPI:
    server.router.routes.extend(owner_page.routes(who, kept))
    if who.with_hub:
        from gradio.oauth import attach_oauth

        attach_oauth(server)
    return server


def _keep_everything(workspace: Workspace) -> tuple[Callable[[], tuple[str, str]], Callable[[], None]]:
    """Restore what the Hub holds, and keep saving to it. Returns a function for the status message (its kind and the
    text), and one that stops saving."""
    from ftlab.export import space_store

    repository = os.environ.get(backup.SPACE_VARIABLE, "").strip()
    if not repository:
        words = (
            "Runs, data and votes are lost when this Space restarts. To keep them, set the variable "
            f"{backup.SPACE_VARIABLE} to the name of a private data set (owner/name) and the secret HF_TOKEN."
        )
        return lambda: ("warn", words), lambda: None
    try:
        restored = space_store.restore(workspace, repository)
        votes = backup.start(open_store(workspace), every_minutes=PUSH_MINUTES)
    except FtlabError as error:
        words = f"Nothing you do here is saved, and nothing was restored. {error} Then restart this Space."
        print(f"ftlab: {words}", flush=True)
        return lambda: ("bad", words), lambda: None
    print(f"ftlab: {len(restored.names)} runs and versions of data restored from {repository}.", flush=True)
    if restored.broken:
        print(f"ftlab: incomplete in {repository}, left there: {', '.join(restored.broken)}", flush=True)
    end_runs = space_store.start(workspace, repository)

    def end() -> None:
        hub_sync.finish(votes)
        end_runs()

    return functools.partial(_kept, workspace, repository, restored.broken), end


def _kept(workspace: Workspace, repository: str, broken: list[str]) -> tuple[str, str]:
    """What is on the Hub and what is not, in words."""
    from ftlab.export import space_store

    missing = [name.removeprefix("runs/") for name in space_store.waiting(workspace)]
    store = open_store(workspace)
    unsaved, risk = backup.unsaved(store), backup.links_at_risk(store)
    if unsaved:
        missing.append(f"{unsaved} vote{'s' if unsaved > 1 else ''}")
    last = space_store.status(workspace)
    error = last.error if last else None
    lines = []
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        lines.append(f"Not on the Hub yet, and lost if this Space stops now: {named}.")
    else:
        lines.append(f"All runs, versions of data and votes are kept in {repository}.")
    if error:
        lines.append(f"The last try failed: {error}")
    if risk:
        lines.append(risk)
    if broken:
        lines.append(f"Left in {repository}, because files are missing: {', '.join(broken)}.")
    return ("bad" if error or broken else "warn" if missing or risk else "info"), " ".join(lines)


def _above(kept: Callable[[], tuple[str, str]]) -> None:
    """The line above the lab that says what is not saved yet, with links to log out and to the public pages."""
    links = Markup('<div class="ft-help"><a href="/">The public page</a> · <a href="/owner">Log out</a></div>')

    def words() -> str:
        kind, text = "warn", "The state of the backup on the Hub is unknown right now."
        with contextlib.suppress(FtlabError):
            kind, text = kept()
        return notice(join([escape(text), links]), kind=kind)

    line = gr.HTML(words, elem_id="space_kept")
    on(gr.Timer(_SECONDS).tick, lambda: {line: words()}, [], [line], queue=False)


def _foot(who: access.Access) -> Markup:
    link = owner_page.way_in(who)
    return Markup('<p class="ft-foot"><a href="{}" target="_blank" rel="noopener">{}</a></p>').format(
        link["href"], link["text"]
    )


def _shown_run(workspace: Workspace) -> Any:
    """The run that the owner shows to everybody; None if there is none, or it has no result yet."""
    name = os.environ.get(SHOW_VARIABLE, "").strip()
    if not name:
        return None
    with contextlib.suppress(FtlabError):
        run = workspace.run(name)
        return run if run.has_result else None
    return None


def _threads(workspace: Workspace) -> int | None:
    from ftlab.evaluation.duet import threads_beside_a_run

    return threads_beside_a_run() if run_files.current_job(workspace) else None
