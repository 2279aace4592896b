"""A run as Jupyter shows it: the same picture as in the Train tab, with the app's style and without the app."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from ftlab.run_directory import RunDirectory
from ftlab.ui import run_view

# What the app's theme provides, in neutral values that are readable on a light and on a dark notebook.
_THEME = (
    "--border-color-primary:#88888855;--body-text-color-subdued:#808080;--block-background-fill:transparent;"
    "--background-fill-secondary:#88888822;--font-mono:monospace"
)


def run_html(run: RunDirectory) -> str:
    """Numbers, curves, warnings and outcome of `run` as self-contained HTML."""
    style = Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))
    return Markup('<style>{}</style><div style="{}">{}</div>').format(style, _THEME, run_view.live(run))
