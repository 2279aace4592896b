"""Gradio's own server behind a host check. Also detects where Gradio creates a public link by default."""

from __future__ import annotations

import os
from typing import Any

from ftlab.core.hosts import Hosts, Names
from ftlab.ui.doors.quick_page import quick


def shares_by_itself() -> bool:
    """Whether Gradio makes a public link by default: in Colab and other hosted notebooks, or if its variable is set."""
    from gradio.utils import colab_check, is_hosted_notebook

    return colab_check() or is_hosted_notebook() or os.environ.get("GRADIO_SHARE", "").lower() == "true"


def gradio_app(names: Names, **settings: Any) -> Any:
    """The `_app` argument of Gradio's launch(), with `Hosts` in front of everything; `settings` as in `app_kwargs`.

    Gradio 6.31 puts its own middleware before any from `app_kwargs`, so this wraps the stack itself.
    """
    from gradio.routes import App, ORJSONResponse

    class Behind(App):
        def build_middleware_stack(self) -> Any:
            return Hosts(quick(super().build_middleware_stack()), names)

    return Behind(default_response_class=ORJSONResponse, **settings)
