"""Blind tests go to a private data set on the Hub and come back, through the real library and a stand-in Hub."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftlab.arena import backup, blind_tests, trials
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from tests.arena import everything, opened
from tests.fake_hub import ROOT, FakeHub

GO = """
import sys
from ftlab.arena import backup
from ftlab.arena.store import open_store
from ftlab.errors import FtlabError
from ftlab.core.workspace import Workspace
store = open_store(Workspace.open(sys.argv[1]))
try:
    scheduler = backup.start(store, sys.argv[2], every_minutes=60)
    scheduler.trigger().result()
    scheduler.stop()
    print("sent", backup.links_at_risk(store))
except FtlabError as error:
    print(error.message())
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def go(workspace: Path, hub: FakeHub, repository: str = "me/data") -> str:
    done = subprocess.run(
        [sys.executable, "-c", GO, str(workspace), repository],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=hub.environment(workspace.parent / f"home-{workspace.name}"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_votes_come_back_on_a_host_that_lost_its_disk(hub: FakeHub, tmp_path: Path) -> None:
    store = open_store(Workspace.open(tmp_path / "here"))
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    trials.vote(store, ana, trial.id, "left", comment="“näher” an der Frage\u2028so")
    assert "sent" in go(tmp_path / "here", hub)
    sent = hub.repo("me/data", "dataset")
    assert len(sent.commits) == 1, "one commit holds all tables, and what did not change is not sent again"
    assert store.workspace.arena_secret.read_bytes() not in b"".join(sent.files.values())
    assert sent.private

    assert "FTLAB_SECRET" in go(tmp_path / "there", hub)
    there = open_store(Workspace.open(tmp_path / "there"))
    assert everything(there) == everything(store) and len(everything(there)["votes"]) == 1
    following = trials.next_trial(there, ana)  # and the raters go on
    assert following is not None and following.number == 2


def test_votes_never_go_where_everybody_can_read(hub: FakeHub, tmp_path: Path) -> None:
    opened(open_store(Workspace.open(tmp_path / "here")))
    there = hub.add("me/data", "dataset", private=False)
    assert "already exists on the Hub and is public" in go(tmp_path / "here", hub)
    assert "does not let you" in go(tmp_path / "here", hub, "me/other")
    assert not any(repo.files for repo in hub.repos.values()) and not there.commits


def test_a_backup_is_not_read_into_tests_that_are_there(tmp_path: Path) -> None:
    store = open_store(Workspace.open(tmp_path / "one"))
    opened(store)
    backup.dump(store, tmp_path / "tables")
    with pytest.raises(InputError, match="already"):
        backup.load(store, tmp_path / "tables")
    (tmp_path / "tables" / "votes.jsonl").write_text('{"id": "1", "mood": "fine"}\n')
    other = open_store(Workspace.open(tmp_path / "two"))
    with pytest.raises(InputError, match="another version"):
        backup.load(other, tmp_path / "tables")
    assert blind_tests.list_tests(other) == []
