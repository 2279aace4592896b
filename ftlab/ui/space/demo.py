"""The visitors' page on its own, in a Space: one run, its chat and its report. Ready for ZeroGPU."""

from __future__ import annotations

import os
from pathlib import Path

from ftlab.core.hosts import Names
from ftlab.errors import FtlabError
from ftlab.report.showcase import run_to_show
from ftlab.ui.doors.gradio_server import gradio_app
from ftlab.ui.doors.server import TRUSTED, default_host
from ftlab.ui.space import visitors


def serve_demo(folder: Path) -> None:
    """Serve the page about the run in `folder`, or about the one that FTLAB_DEMO_REPO names on the Hub.

    Loads the models first and uses Gradio's own launch(): ZeroGPU needs both.
    """
    run = None
    try:
        run = run_to_show(folder)
        visitors.preload(run)
    except FtlabError as error:
        run = None
        print(f"ftlab: nothing to show. {error}", flush=True)
    page = visitors.build_page(lambda: run)
    settings = visitors.page_settings()
    page.space_id = None  # else Gradio puts the Hub's header above it, which contacts other hosts
    os.environ.setdefault("FORWARDED_ALLOW_IPS", TRUSTED)  # uvicorn's, which Gradio starts
    page.launch(
        server_name=default_host(),
        share=False,
        _app=gradio_app(Names(default_host()), **settings.pop("app_kwargs")),
        # Gradio's own check times out after 3 seconds and gives up.
        _frontend=False,
        **settings,
    )
