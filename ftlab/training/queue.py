"""The order in which waiting runs get the device. It is kept in files, so it outlives the app and can be changed."""

from __future__ import annotations

from typing import Literal

from ftlab.errors import InputError
from ftlab.files import locked, read_cached, write_json
from ftlab.run_directory import RunDirectory
from ftlab.training.supervisor import status
from ftlab.workspace import Workspace

Where = Literal["earlier", "later", "first", "last"]


def waiting(workspace: Workspace) -> list[RunDirectory]:
    """The runs that wait for the device, the next one first."""
    return sorted((run for run in workspace.runs() if status(run).state == "queued"), key=position)


def position(run: RunDirectory) -> tuple[float, str]:
    """What the queue is sorted by: the place it was moved to, else the time (unix seconds) at which it was started."""
    place = (read_cached(run.queue_file) or {}).get("position")
    return (place if isinstance(place, int | float) else status(run).created), run.id


def move(run: RunDirectory, workspace: Workspace, where: Where) -> list[RunDirectory]:
    """Move a waiting run in the queue; returns the new order. Raises InputError when it does not wait."""
    with locked(workspace.queue_lock):
        return _move(run, waiting(workspace), where)


def _move(run: RunDirectory, order: list[RunDirectory], where: Where) -> list[RunDirectory]:
    if run not in order:
        raise InputError(
            f"The run {run.id} does not wait for the device",
            given=status(run).state,
            allowed=", ".join(one.id for one in order) or "no run waits",
        )
    old = order.index(run)
    new = {"earlier": max(0, old - 1), "later": min(len(order) - 1, old + 1), "first": 0, "last": len(order) - 1}
    if where not in new:
        raise InputError("A run cannot be moved there", given=where, allowed=", ".join(new))
    places = sorted(position(one)[0] for one in order)
    order.insert(new[where], order.pop(old))
    for one, place in zip(order, places, strict=True):
        if position(one)[0] != place:
            write_json(one.queue_file, {"position": place})
    return order
