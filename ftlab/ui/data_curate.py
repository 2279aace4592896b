"""placeholder: curate panel of the Data tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ftlab.ui.data_sources import DataContext
from ftlab.workspace import Workspace


@dataclass(frozen=True)
class Panel:
    box: gr.HTML


def build() -> Panel:
    return Panel(gr.HTML(elem_id="curate_box"))


def wire(panel: Panel, context: DataContext) -> None:
    """Wire the handlers of the panel."""


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.box]


def show(panel: Panel, shown: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the data `shown`."""
    return {}
