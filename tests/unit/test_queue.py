"""The queue of runs that wait for the device: in the order of their start, changed by hand, kept on disk."""

from __future__ import annotations

import time

import pytest

from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.training import supervisor as queue
from ftlab.training.status import RunStatus


@pytest.fixture
def waiting(tmp_path):
    """Four runs that wait, started one second after another, and one that has ended."""
    workspace = Workspace.open(tmp_path)
    runs = []
    for number in range(5):
        run = workspace.create_run(f"run {number}")
        run.config_file.write_text("name: x\n")
        # No process, but started just now elsewhere: a start is trusted for a while.
        state = "completed" if number == 4 else "queued"
        write_status(run.status_file, RunStatus(state=state, created=time.time() - 10 + number))
        runs.append(run)
    return workspace, runs


def test_runs_wait_in_the_order_in_which_they_were_started(waiting):
    workspace, runs = waiting
    assert queue.waiting(workspace) == runs[:4]


@pytest.mark.parametrize(
    "who, where, order",
    [(2, "earlier", "0213"), (2, "first", "2013"), (0, "later", "1023"), (0, "last", "1230"), (0, "earlier", "0123")],
)
def test_a_run_can_be_moved_and_the_order_outlives_the_app(waiting, who, where, order):
    workspace, runs = waiting
    said = queue.move(runs[who], workspace, where)
    assert said == queue.waiting(Workspace.open(workspace.root)) == [runs[int(place)] for place in order]


def test_several_moves_add_up(waiting):
    workspace, runs = waiting
    queue.move(runs[3], workspace, "first")
    queue.move(runs[0], workspace, "last")
    assert queue.waiting(workspace) == [runs[3], runs[1], runs[2], runs[0]]


def test_a_run_that_does_not_wait_cannot_be_moved(waiting):
    workspace, runs = waiting
    with pytest.raises(InputError, match="not waiting"):
        queue.move(runs[4], workspace, "first")
