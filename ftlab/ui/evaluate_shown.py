"""Which comparison is on show for the chosen runs: the one that was made of them, or their answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.sharing.measures import sides_of
from ftlab.ui import disk
from ftlab.ui.html import empty
from ftlab.workspace import RunDirectory, Workspace

Shown = tuple[Mapping[str, Any], list[dict[str, Any]]]


def shown(run_id: str | None, others: Sequence[str] | None, workspace: Workspace) -> Shown | None:
    """The comparison of `run_id` with `others` and its rows; None where they have not answered the same rows."""
    if not run_id:
        return None
    run = workspace.run(run_id)
    comparison = disk.comparison(run)
    if comparison is None:
        return None
    wanted = [name for name in others or [] if name != run_id]
    known = {side["name"] for side in sides_of(comparison)}
    if all(name in known for name in wanted):
        return comparison, disk.predictions(run)
    return disk.side_by_side([run, *(workspace.run(name) for name in wanted)])


def apart(run: RunDirectory, others: Sequence[str] | None) -> Markup:
    return empty(
        "These runs have not answered the same rows yet.",
        f"Press Evaluate: {', '.join(others or [])} will answer the held-out rows of {run.id}.",
    )
