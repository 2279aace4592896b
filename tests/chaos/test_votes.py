"""What a rater is told of a vote is what the database holds, whatever happens to the server, its files and its disk.

The long part, with sustained load: python -m pytest -m long -s tests/chaos/test_votes.py
FTLAB_CHAOS_ROUNDS sets how often the server is killed there (5).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

pytest.importorskip("gradio")

from ftlab.arena import links, trials
from ftlab.arena.store import Store, open_store, votes
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui.rater.talk import answer
from tests.arena import opened
from tests.benchmarks.votes import Thumb, served, spread
from tests.chaos.disk import fill, small_disk

SEED = 17
RATERS = 50
ROUNDS = int(os.environ.get("FTLAB_CHAOS_ROUNDS", "5"))


def kept(store: Store) -> list[str]:
    """The trials of all votes, read from the file that has the name by a connection of its own."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(store.workspace.arena_database)) as connection:
        return [row[0] for row in connection.execute("SELECT trial_id FROM votes")]


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, run in a thread of its own: Playwright leaves its loop running in the one of the tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def checkpointed(store: Store) -> None:
    """All of it in one file, as after a regular end."""
    store.engine.dispose()
    assert not store.workspace.arena_database.with_name("arena.sqlite-wal").exists()


# The database is taken away while raters vote.


def test_a_vote_into_a_deleted_file_is_not_acknowledged(workspace: Workspace) -> None:
    store = open_store(workspace)
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    workspace.arena_database.unlink()
    with pytest.raises(FtlabError, match=r"gone; nothing was changed.*put the file back"):
        trials.vote(store, ana, trial.id, "left")
    assert not workspace.arena_database.exists()  # nor is an empty one made in its place


def test_a_file_that_was_put_back_is_the_one_that_is_voted_into(workspace: Workspace) -> None:
    store = open_store(workspace)
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    checkpointed(store)
    copy = workspace.root / "backup.sqlite"
    shutil.copyfile(workspace.arena_database, copy)
    for file in workspace.root.glob("arena.sqlite*"):
        file.unlink()
    copy.rename(workspace.arena_database)
    trials.vote(store, ana, trial.id, "left")
    assert kept(store) == [trial.id]


@pytest.mark.parametrize("name", ["arena.sqlite", "arena.sqlite-wal"])
def test_a_file_that_goes_in_the_middle_of_a_vote_is_noticed(workspace: Workspace, name: str) -> None:
    """Deleted after the vote was written and before it was acknowledged: the transaction itself goes well."""
    store = open_store(workspace)
    opened(store)
    with pytest.raises(FtlabError, match="moved or deleted"), store.writing(kept=lambda _: False) as connection:
        connection.execute(text("UPDATE blind_tests SET title = 'lost'"))
        (workspace.root / name).unlink()


def test_an_end_that_cannot_be_told_is_looked_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit went well and its answer was lost: the vote is there, so that is what the rater hears; and where
    nobody can look, that is said."""
    from sqlalchemy import Transaction
    from sqlalchemy.exc import OperationalError

    store = open_store(workspace)
    _, (ana, _) = opened(store)
    commit = Transaction.commit

    def lost(self: Any) -> None:
        commit(self)
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    trial = trials.next_trial(store, ana)
    assert trial is not None
    monkeypatch.setattr(Transaction, "commit", lost)
    trials.vote(store, ana, trial.id, "left")
    with pytest.raises(FtlabError, match="may or may not have been stored") as caught, store.writing():
        pass
    assert "nothing was changed" not in str(caught.value)
    assert kept(store) == [trial.id]


def test_a_damaged_database_is_one_sentence_and_the_app_goes_on(workspace: Workspace) -> None:
    from ftlab.ui.app import build_app
    from tests.chaos.test_files import answered, drawn_tick

    app = build_app(workspace)
    for damage in (b"", b"\0" * 4096, b"not a database " * 300):
        workspace.arena_database.write_bytes(damage)
        assert not answered("arena", "list", "--workspace", str(workspace.root))
        shown, wrong = drawn_tick(app, None)
        assert not wrong and shown
        for file in workspace.root.glob("arena.sqlite*"):
            file.unlink()


def test_pages_that_were_destroyed_while_the_app_runs_are_one_sentence(workspace: Workspace) -> None:
    store = open_store(workspace)
    _, (ana, _) = opened(store, prompts=60)
    checkpointed(store)
    size = workspace.arena_database.stat().st_size
    with workspace.arena_database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(FtlabError, match="damaged; nothing was changed"):
        trials.next_trial(store, ana)


# The disk is full.


def test_on_a_full_disk_every_rater_is_told_the_truth(tmp_path: Path) -> None:
    """However little room is left: "Vote saved" means that it is there, anything else that it is not."""
    seeded = random.Random(SEED)
    with small_disk(tmp_path / "disk", "8m") as disk:
        workspace = Workspace.open(disk / "workspace")
        store = open_store(workspace)
        test_id, _ = opened(store, names=[""] * 12, prompts=40, votes_per_prompt=12)
        keys = [link.token for link in links.links(store, test_id)]
        saved = refused = 0
        for key in keys:
            for leave in (0, 4096, 8192, 16384, 4096 * seeded.randint(0, 12)):
                waiting = trials.next_trial(store, links.read_token(store, key).id)
                assert waiting is not None
                trial = waiting.id
                before = set(kept(store))
                ballast = fill(disk, leave=leave)
                reply = answer(store, {"key": key, "do": "vote", "trial": trial, "choice": "left", "seconds": 3.0})
                there = trial in kept(store)
                said = reply["say"].startswith("Vote saved")
                assert said == there, (leave, reply)
                assert set(kept(store)) - before == ({trial} if there else set())
                if not there:
                    assert "disk with the blind tests is full" in reply["say"] and str(disk) not in reply["screen"]
                saved, refused = saved + there, refused + (not there)
                ballast.unlink()
                answer(store, {"key": key, "do": "open"})
        store.engine.dispose()
    assert saved and refused, (saved, refused)


# The server is killed.


class _Told(Thumb):
    """A rater who goes on after the server was away, and knows which votes were acknowledged."""

    async def vote(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            await super().vote()


async def _voting(url: str, keys: list[str], server: Any, seconds: float) -> list[_Told]:
    """All vote at once, again and again, until the server is killed without warning after `seconds`."""
    limits = httpx.Limits(max_connections=len(keys), max_keepalive_connections=len(keys), keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        thumbs = [_Told(http, key) for key in keys]
        await asyncio.gather(*(thumb.load() for thumb in thumbs))

        async def go_on(thumb: _Told) -> None:
            while thumb.trial and server.is_running():
                count = len(thumb.acknowledged)
                await thumb.vote()
                if len(thumb.acknowledged) == count:
                    return

        async def kill() -> None:
            await asyncio.sleep(seconds)
            server.send_signal(signal.SIGKILL)

        await asyncio.gather(kill(), *(go_on(thumb) for thumb in thumbs))
        return thumbs


def _killed(workspace: Workspace, kills: int) -> dict[str, Any]:
    seeded = random.Random(SEED)
    store = open_store(workspace)
    test_id, _ = opened(store, names=[""] * RATERS, prompts=200, votes_per_prompt=RATERS)
    keys = [link.token for link in links.links(store, test_id)]
    acknowledged: list[str] = []
    waits: list[_Told] = []
    for _ in range(kills):
        with served(workspace, None) as (url, server):
            thumbs = apart(_voting(url, keys, server, seeded.uniform(0.5, 2.0)))
        acknowledged += [trial for thumb in thumbs for trial in thumb.acknowledged]
        waits += thumbs
    there = kept(store)
    figures = {"kills": kills, "raters": RATERS, "acknowledged": len(acknowledged), "kept": len(there)}
    figures |= {"lost": len(set(acknowledged) - set(there)), "doubled": len(there) - len(set(there))}
    with store.reading() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
        assert len(connection.execute(select(votes.c.trial_id)).all()) == len(there)
    return figures | {"waited": spread(waits, "vote")}


def test_a_server_killed_under_fifty_raters_has_kept_every_vote_it_acknowledged(workspace: Workspace) -> None:
    figures = _killed(workspace, 1)
    print(json.dumps(figures))
    assert figures["acknowledged"] > 20
    assert (figures["lost"], figures["doubled"]) == (0, 0)
    assert figures["kept"] - figures["acknowledged"] <= RATERS  # at most one of each was on its way


@pytest.mark.long
def test_a_server_killed_again_and_again_loses_and_doubles_no_vote(workspace: Workspace) -> None:
    figures = _killed(workspace, ROUNDS)
    print(json.dumps(figures, indent=1))
    assert (figures["lost"], figures["doubled"]) == (0, 0)


@pytest.mark.long
def test_two_servers_on_one_workspace_lose_and_double_no_vote(workspace: Workspace) -> None:
    """Half of the raters on each, under sustained load; each vote is sent twice. Prints how long they waited."""
    store = open_store(workspace)
    test_id, _ = opened(store, names=[""] * RATERS, prompts=200, votes_per_prompt=RATERS)
    keys = [link.token for link in links.links(store, test_id)]

    async def crowd(urls: list[str]) -> list[Thumb]:
        limits = httpx.Limits(max_connections=2 * RATERS, keepalive_expiry=2)
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=120, limits=limits))
                for url in urls
            ]
            thumbs = [Thumb(clients[number % len(urls)], key) for number, key in enumerate(keys)]
            await asyncio.gather(*(thumb.load() for thumb in thumbs))

            async def rate(thumb: Thumb) -> None:
                for _ in range(10):
                    await thumb.vote()
                    await thumb.vote_again()
                    await asyncio.sleep(random.Random(thumb.key).uniform(0.5, 2))

            await asyncio.gather(*(rate(thumb) for thumb in thumbs))
            return thumbs

    with served(workspace, None) as (first, _), served(workspace, None) as (second, _):
        thumbs = apart(crowd([first, second]))
    acknowledged = [trial for thumb in thumbs for trial in thumb.acknowledged]
    there = kept(store)
    lost, doubled = len(set(acknowledged) - set(there)), len(there) - len(set(there))
    figures = {"acknowledged": len(acknowledged), "lost": lost, "doubled": doubled, "waited": spread(thumbs, "vote")}
    print(json.dumps(figures, indent=1))
    assert (lost, doubled) == (0, 0) and len(there) == len(set(acknowledged)) == RATERS * 10
