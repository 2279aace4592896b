"""Gradio's own server with the check of hosts before all of it, and where Gradio makes a public link unasked."""

from __future__ import annotations

import os
from typing import Any

from ftlab.core.hosts import Hosts, Names
from ftlab.ui.doors.quick_page import quick


def shares_by_itself() -> bool:
    """Where Gradio makes a public link unasked: in Colab and other hosted notebooks, or when its variable says so."""
    from gradio.utils import colab_check, is_hosted_notebook

    return colab_check() or is_hosted_notebook() or os.environ.get("GRADIO_SHARE", "").lower() == "true"


def gradio_app(names: Names, **settings: Any) -> Any:
    """What Gradio's launch() takes as `_app`, so that `Hosts` stands before all of it; `settings` as `app_kwargs`.

    Of Gradio 6.31, which puts its own middleware before any that `app_kwargs` brings: the stack itself is wrapped.
    """
    from gradio.routes import App, ORJSONResponse

    class Behind(App):
        def build_middleware_stack(self) -> Any:
            return Hosts(quick(super().build_middleware_stack()), names)

    return Behind(default_response_class=ORJSONResponse, **settings)
