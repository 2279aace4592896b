"""Which comparison is on show for the chosen runs: the one that was made of them, or their answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.run_directory import RunDirectory
from ftlab.sharing.measures import sides_of
from ftlab.ui import disk
from ftlab.ui.evaluate_form import HELD_OUT
from ftlab.ui.html import empty
from ftlab.workspace import Workspace

Shown = tuple[Mapping[str, Any], list[dict[str, Any]]]


def shown(run_id: str | None, others: Sequence[str] | None, view: str | None, workspace: Workspace) -> Shown | None:
    """The comparison of `run_id` with `others` and its rows; None where they have not answered the same rows.

    `view` is the name of a suite (a data set beside the held-out rows), or empty.
    """
    if not run_id:
        return None
    run = workspace.run(run_id)
    suite = next((one for one in run.suites() if one.name == view), None)
    place = suite or run
    comparison = disk.comparison(place)
    if comparison is None:
        return None
    wanted = [name for name in others or [] if name != run_id]
    known = {side["name"] for side in sides_of(comparison)}
    if all(name in known for name in wanted):
        return comparison, disk.predictions(place)
    if suite is not None:
        return None
    return disk.side_by_side([run, *(workspace.run(name) for name in wanted)])


def views(run: RunDirectory) -> list[tuple[str, str]]:
    """The results of `run` that can be shown: on its held-out rows, and on every suite it was evaluated on."""
    own = [("held-out rows", HELD_OUT)] if disk.comparison(run) else []
    return own + [(suite.name, suite.name) for suite in run.suites()]


def apart(run: RunDirectory, others: Sequence[str] | None) -> Markup:
    return empty(
        "These runs have not answered the same rows yet.",
        f"Press Evaluate: {', '.join(others or [])} will answer the rows of {run.id} too.",
    )
