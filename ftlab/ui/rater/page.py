"""The raters' app: a separate Blocks whose only endpoint takes a rater's message and answers with the next screen.

Nothing in it trains, reads runs or names a model. `talk.answer` decides what the page shows, screens.py draws it, and
rater.js is the page's script. elem_id: `rater`.
"""

from __future__ import annotations

import os

# Before gradio is imported: offline means offline.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena import backup, tally
from ftlab.arena.store import open_store
from ftlab.core.hosts import Names
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui.doors.allowance import address_of
from ftlab.ui.doors.gradio_server import gradio_app, shares_by_itself
from ftlab.ui.rater.door import door
from ftlab.ui.rater.talk import AskModels, Reply, answer
from ftlab.ui.rater.texts import for_the_browser
from ftlab.ui.theme import HEAD, plain_page

TITLE = "Compare answers"
_FOLDER = Path(__file__).parent
_FRAME = """
<div class="rt-live" role="status" aria-live="polite"></div>
<div class="rt-stage"><p class="rt-help" data-text>One moment.</p></div>
<footer class="rt-choices">
  <label><input type="checkbox" id="rt-written"> <span data-text>Show answers as written</span></label>
  <label class="rt-for-keys"><input type="checkbox" id="rt-keys"> <span data-text>Use keys to vote</span></label>
  <button type="button" class="rt-quiet" id="rt-theme" data-text>Light / dark</button>
  <select class="rt-quiet" id="rt-language"></select>
</footer>
"""
# A phone that puts the page on its home screen takes its icon from here; rater.js describes the rest.
_HEAD = """
<meta name="robots" content="noindex"><meta name="referrer" content="no-referrer">
<link rel="apple-touch-icon" href="icon.png"><meta name="mobile-web-app-capable" content="yes">
<meta name="theme-color" content="#f8fafc" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#020617" media="(prefers-color-scheme: dark)">
"""


def build_rater_app(workspace: Workspace, ask_models: AskModels | None = None) -> gr.Blocks:
    """The raters' page for the blind tests of `workspace`. In live tests, `ask_models` answers raters' questions."""
    store = open_store(workspace)

    def rate(message: Any, request: gr.Request) -> Reply:
        return answer(store, message, ask_models, address_of(request.client))

    with gr.Blocks(title=TITLE, analytics_enabled=False) as app:
        gr.HTML(
            "",
            html_template=_FRAME,
            js_on_load=f"const spoken = {for_the_browser()};\n" + (_FOLDER / "rater.js").read_text("utf-8"),
            server_functions=[rate],
            apply_default_css=False,
            elem_id="rater",
        )
    return app


def page_settings() -> dict[str, Any]:
    """Arguments of launch() and mount_gradio_app() that show the raters' page and serve nothing else."""
    return {
        **plain_page(),
        "css_paths": [_FOLDER / "rater.css"],
        "head": HEAD + _HEAD,
        "max_file_size": "1kb",
        "app_kwargs": door(),
    }


def rater_address(base: str, token: str) -> str:
    """The link of a rater below `base`, the address of the raters' app.

    The secret follows the #. Browsers do not send that part, so no server log contains it.
    """
    return f"{base.rstrip('/')}/#key={token}"


def launch_rater_app(
    workspace: str | os.PathLike[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    block: bool = False,
    ask_models: AskModels | None = None,
    allow_hosts: Sequence[str] = (),
) -> tuple[gr.Blocks, str]:
    """Serve the raters' page. Returns the app and the address for raters.

    With `port` None, uses the first free one from 7860 up. `allow_hosts` adds host names, such as those of a proxy.
    Raises InputError if `port` is taken.
    """
    names, settings = Names(host, allow_hosts, shared=share or shares_by_itself()), page_settings()
    opened = Workspace.open(workspace)
    store = open_store(opened)
    backup.start(store)
    tally.keep_watch(store)
    app = build_rater_app(opened, ask_models)
    try:
        _, url, shared = app.launch(
            server_name=host,
            server_port=port,
            share=share or shares_by_itself(),
            prevent_thread_lock=True,
            quiet=True,
            # Gradio's own check times out after 3 seconds and gives up: too short beside a run on a small CPU.
            _frontend=False,
            _app=gradio_app(names, **settings.pop("app_kwargs")),
            **settings,
        )
    except OSError as error:
        raise InputError(
            f"The raters' page cannot be served at {host}:{port or 'any port from 7860 on'}: {error}",
            try_="another --port, or none for the first free one",
        ) from error
    names.add(shared)
    if block:
        app.block_thread()
    return app, shared or url
