"""Killing the app at any moment loses no vote that it acknowledged, and leaves nothing half done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from sqlalchemy import select, text

from ftlab.arena import trials
from ftlab.arena.store import open_store, votes
from ftlab.arena.store import trials as trial_rows
from ftlab.core.workspace import Workspace
from tests.arena import opened

ROOT = Path(__file__).resolve().parents[2]
VOTER = """
import sys, threading
from ftlab.arena import trials
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
store = open_store(Workspace.open(sys.argv[1]))
said = threading.Lock()
def give(rater):
    while trial := trials.next_trial(store, rater):
        trials.vote(store, rater, trial.id, "left")
        with said:  # acknowledged, as the page would be told
            print(trial.id, flush=True)
for rater in sys.argv[2:]:
    threading.Thread(target=give, args=(rater,)).start()
"""
KILLS = 4


def test_a_killed_app_has_kept_every_vote_it_acknowledged(tmp_path: Path) -> None:
    """Killed without warning amid the votes of four raters, several times over; what is left is then voted on."""
    workspace = Workspace.open(tmp_path)
    store = open_store(workspace)
    _, raters = opened(store, names=["", "", "", ""], prompts=150, votes_per_prompt=4)
    wait, acknowledged = random.Random(7), []
    for kill in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", VOTER, str(tmp_path), *raters],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        # After so many votes, whatever the machine does beside; more are on their way by then.
        acknowledged += [process.stdout.readline() for _ in range(wait.randint(4, 40))]
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        # The last line may be cut: then it was not acknowledged.
        acknowledged += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = [line.strip() for line in acknowledged]
        assert process.returncode == -signal.SIGKILL, f"kill {kill} came too late"
        with store.reading() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
            kept = connection.execute(select(votes.c.trial_id)).scalars().all()
        assert set(acknowledged) <= set(kept)
        # At most one vote of each rater was on disk before anybody was told.
        assert len(kept) - len(acknowledged) <= len(raters) * (kill + 1)
    assert len(acknowledged) > 3 * KILLS
    for rater in raters:  # everybody goes on where they were
        seen = 0
        while seen < 3 and (trial := trials.next_trial(store, rater)):
            trials.vote(store, rater, trial.id, "right")
            seen += 1
    with store.reading() as connection:
        handed = connection.execute(select(trial_rows.c.rater_id, trial_rows.c.prompt_id)).all()
        kept = connection.execute(select(votes.c.trial_id)).scalars().all()
    assert len(set(handed)) == len(handed) and len(set(kept)) == len(kept)


def test_a_transaction_that_is_killed_halfway_never_was(tmp_path: Path) -> None:
    store = open_store(Workspace.open(tmp_path))
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    halfway = """
import os, signal, sys
from ftlab.arena import store as tables
from ftlab.core.workspace import Workspace
store = tables.open_store(Workspace.open(sys.argv[1]))
with store.writing() as connection:
    connection.execute(tables.votes.insert().values(
        id="half", trial_id=sys.argv[2], rater_id=sys.argv[3], choice="left", ratings={}, comment="", created=0.0,
        automatic=False))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", halfway, str(tmp_path), trial.id, ana],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    with store.reading() as connection:
        assert connection.execute(select(votes)).all() == []
    trials.vote(store, ana, trial.id, "right")  # and it holds no lock that anybody waits for
