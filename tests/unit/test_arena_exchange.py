"""A blind test goes to a server elsewhere by way of the Hub, and comes back with its votes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftlab.arena import blind_tests, links, trials
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from tests.arena import answered, everything, opened
from tests.fake_hub import ROOT, FakeHub

THERE = """
import sys
from ftlab.arena import backup, trials
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
store = open_store(Workspace.open(sys.argv[1]))
scheduler = backup.start(store, every_minutes=60)
scheduler.trigger().result()
print("ready", flush=True)
for rater in iter(sys.stdin.readline, ""):
    scheduler.trigger().result()
    trial = trials.next_trial(store, rater.strip())
    trials.vote(store, rater.strip(), trial.id, "left")
    scheduler.trigger().result()
    print("voted", flush=True)
scheduler.stop()
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def arena(workspace: Path, hub: FakeHub, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ftlab", "arena", *words, "--workspace", str(workspace)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=hub.environment(workspace.parent / "home"),
    )


def test_a_test_is_sent_voted_on_elsewhere_and_fetched_with_its_votes(hub, tmp_path):
    here = open_store(Workspace.open(tmp_path / "here"))
    first = answered(here)
    sent = arena(
        tmp_path / "here", hub, "send", "--to", "me/store", "--raters", "Ana,Ben", "--url", "https://v.example"
    )
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.count("https://v.example/#key=") == 2 and "arena.secret" in sent.stderr
    assert hub.repo("me/store", "dataset").private
    assert here.workspace.arena_secret.read_bytes() not in b"".join(hub.repo("me/store", "dataset").files.values())
    server = subprocess.Popen(
        [sys.executable, "-c", THERE, str(tmp_path / "there")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=hub.environment(tmp_path / "home-there") | {"FTLAB_SPACE_STORE": "me/store"},
    )
    assert server.stdin is not None and server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    # A second one reaches a server that is up.
    second = answered(here, prompts=3)
    assert arena(tmp_path / "here", hub, "send", second, "--to", "me/store", "--raters", "Cleo").returncode == 0
    raters = [link.rater_id for test_id in (first, second) for link in links.links(here, test_id)]
    for rater in (raters[0], raters[2]):
        server.stdin.write(f"{rater}\n")
        server.stdin.flush()
        assert server.stdout.readline() == "voted\n"
    server.communicate(timeout=60)

    again = arena(tmp_path / "here", hub, "send", first, "--to", "me/store")
    assert again.returncode == 2 and "This test already has votes there" in again.stderr
    back = arena(tmp_path / "here", hub, "fetch", "--from", "me/store")
    assert back.returncode == 0 and back.stdout.count("1 vote\n") == 2, back.stderr
    there = open_store(Workspace.open(tmp_path / "there"))
    assert everything(here) == everything(there)
    assert trials.next_trial(here, raters[0]).number == 2
    voided = arena(tmp_path / "here", hub, "void", "Ana", first)
    assert voided.returncode == 0 and "Excluded the votes of Ana: 0 of" in voided.stdout
    assert arena(tmp_path / "here", hub, "fetch", "--from", "me/store").returncode == 0
    assert "votes voided" in arena(tmp_path / "here", hub, "raters", first).stdout, "a fetch does not undo it"


def test_votes_that_are_only_here_are_not_lost_by_a_fetch(hub, tmp_path):
    here = open_store(Workspace.open(tmp_path / "here"))
    test_id, (ana, _) = opened(here)
    assert arena(tmp_path / "here", hub, "send", test_id, "--to", "me/store").returncode == 0
    trials.vote(here, ana, trials.next_trial(here, ana).id, "left")
    kept = everything(here)
    back = arena(tmp_path / "here", hub, "fetch", "--from", "me/store")
    assert back.returncode == 2 and "not in the data set" in back.stderr and everything(here) == kept


def test_nothing_is_sent_where_everybody_can_read(hub, tmp_path):
    here = open_store(Workspace.open(tmp_path / "here"))
    answered(here)
    hub.add("me/open", "dataset", private=False)
    sent = arena(tmp_path / "here", hub, "send", "--to", "me/open")
    assert sent.returncode == 2 and "already exists on the Hub and is public" in sent.stderr
    assert hub.repo("me/open", "dataset").files == {} and len(blind_tests.list_tests(here)) == 1
