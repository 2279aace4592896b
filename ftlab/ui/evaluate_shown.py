"""Which comparison is on show for the chosen runs: the one that was made of them, or their answers side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.report.measures import sides_of
from ftlab.ui import disk
from ftlab.ui.evaluate_form import HELD_OUT
from ftlab.ui.html import empty

Shown = tuple[ComparisonJson, list[dict[str, Any]]]


def shown(run_id: str | None, others: Sequence[str] | None, view: str | None, workspace: Workspace) -> Shown | None:
    """The comparison of `run_id` with `others` and its rows; None where they have not answered the same rows.

    `view` is the name of a question beside the run's own comparison, or empty.
    """
    if not run_id:
        return None
    run = workspace.run(run_id)
    question = next((one for one in reversed(run.questions()) if one.name == view), None)
    wanted = {name for name in others or [] if name != run_id}
    place = question or run
    if (found := _of(place, wanted)) is not None or question is not None:
        return found
    beside = (
        disk.side_by_side([run, *(workspace.run(name) for name in sorted(wanted))]) if disk.comparison(run) else None
    )
    if beside is not None:
        return beside
    asked = (_of(one, wanted) for one in reversed(run.questions()) if wanted)
    return next((one for one in asked if one is not None and not one[0].get("suite")), None)


def views(run: RunDirectory) -> list[tuple[str, str]]:
    """The results of `run` that can be shown, by what was asked: its own comparison, then the others."""
    own = disk.comparison(run)
    question = own.get("question") if own else None
    said = question["text"] if question else "held-out rows"
    others = [(one.asked(), one.name) for one in reversed(run.questions()) if disk.comparison(one)]
    return ([(f"The run's own: {said}", HELD_OUT)] if own else []) + others


def newest(run: RunDirectory, since: float) -> str | None:
    """The result of `run` that was made after `since` (unix seconds); None before there is one."""
    made = {HELD_OUT: run} | {one.name: one for one in run.questions()}
    created = {view: found["created"] for view, place in made.items() if (found := disk.comparison(place))}
    later = {view: when for view, when in created.items() if when > since}
    return max(later, key=later.__getitem__, default=None)


def _of(place: RunDirectory | Question, wanted: Collection[str]) -> Shown | None:
    comparison = disk.comparison(place)
    if comparison is None or not set(wanted) <= {side["name"] for side in sides_of(comparison)}:
        return None
    return comparison, disk.predictions(place)


def apart(run: RunDirectory, others: Sequence[str] | None) -> Markup:
    return empty(
        "These runs have not answered the same rows yet.",
        f"Press Evaluate: {', '.join(others or [])} will answer the rows of {run.id} too.",
    )
