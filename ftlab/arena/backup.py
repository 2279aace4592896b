"""Votes outlive a host that forgets: on a schedule, all blind tests go to a private data set on the Hugging Face Hub.

FTLAB_BACKUP=owner/name       the data set; made when missing, refused when everybody can read it
FTLAB_SPACE_STORE=owner/name  the same, in the folder arena/ of the data set in which a Space keeps all it has
start(store)                  what the data set holds comes back into an empty database, then every change goes there

What signs the links is never sent: set FTLAB_SECRET where the disk is lost, so that links outlive a restart. Nor is the
secret from which sides are drawn: a test that comes back goes on with a new one.
"""

from __future__ import annotations

import functools
import logging
import os
from concurrent.futures import wait
from typing import Any

from sqlalchemy import func, select

from ftlab.arena.links import SECRET_VARIABLE
from ftlab.arena.store import Store, blind_tests, now, votes
from ftlab.arena.tables import SPACE_FOLDER, adopt, dump, fetched, load
from ftlab.core.files import read_cached, write_json
from ftlab.core.hub import fetch, refuse_public, told, writing
from ftlab.errors import shorten

BACKUP_VARIABLE = "FTLAB_BACKUP"
SPACE_VARIABLE = "FTLAB_SPACE_STORE"
EVERY_MINUTES = 5.0

log = logging.getLogger(__name__)


def start(store: Store, repository: str | None = None, every_minutes: float = EVERY_MINUTES) -> Any:
    """Bring back what `repository` (else FTLAB_BACKUP, else FTLAB_SPACE_STORE) holds, when there is no test here, and
    keep it up to date.

    Returns huggingface_hub's CommitScheduler (`trigger()` pushes now, `stop()` ends it), or None when no data set is
    named; started once for each process. Raises InputError or FtlabError when the data set cannot be used, so that
    nobody believes in a backup that is none.
    """
    repository = repository or os.environ.get(BACKUP_VARIABLE)
    folder = ""
    if not repository:
        repository, folder = os.environ.get(SPACE_VARIABLE), SPACE_FOLDER
    return _start(store, repository, every_minutes, folder) if repository else None


@functools.cache
def _start(store: Store, repository: str, every_minutes: float, folder: str) -> Any:
    restore(store, repository, folder)
    from huggingface_hub import CommitScheduler

    class Scheduler(CommitScheduler):
        """Takes in what was sent, writes the tables down before each push, and the outcome after it."""

        seen: str | None = None  # the commit whose tests are all here

        def push_to_hub(self) -> Any:
            before = read_cached(store.workspace.arena_backup / "status.json") or {}
            status = {"repository": repository, "at": now(), "error": None, "saved_at": before.get("saved_at")}
            try:
                if folder:
                    self.seen = _take_in(store, self.api, repository, self.seen)
                dump(store, self.folder_path)
                pushed = super().push_to_hub()
                status["saved_at"] = status["at"]
                return pushed
            except Exception as error:
                status["error"] = shorten(error, 300)
                log.error("The blind tests could not be backed up to %s: %s", repository, status["error"])
                raise
            finally:
                write_json(store.workspace.arena_backup / "status.json", status)

    with told("data set", repository, doing=f"keep blind tests in {repository}"):
        return Scheduler(
            repo_id=repository,
            repo_type="dataset",
            folder_path=store.workspace.arena_backup / "tables",
            path_in_repo=folder or None,
            every=every_minutes,
            private=True,
        )


def finish(scheduler: Any) -> None:
    """A last push, and no more: what CommitScheduler does at the end of the process comes too late for its threads."""
    if scheduler is None:
        return
    wait([scheduler.trigger()])  # what goes wrong is in the log and in `status`
    scheduler.stop()


def _take_in(store: Store, api: Any, repository: str, seen: str | None) -> str:
    """Take in the tests that `exchange.send` has brought to the data set since the commit `seen`; gives the newest."""
    newest = str(api.dataset_info(repository).sha)
    if newest != seen:
        there, newest = fetched(api, repository)
        for test_id in adopt(store, there):
            log.info("The blind test %s was sent here by way of %s", test_id, repository)
    return newest


def status(store: Store) -> dict[str, Any] | None:
    """The last push: {"repository", "at", "error", "note"}; None when there was none."""
    last = read_cached(store.workspace.arena_backup / "status.json")
    if last is None:
        return None
    note = None
    if not os.environ.get(SECRET_VARIABLE):
        note = f"The links of the raters end when the disk is lost. Set {SECRET_VARIABLE} to keep them."
    return last | {"note": note}


def unsaved(store: Store) -> int:
    """How many votes were given since the last push that went well."""
    last = read_cached(store.workspace.arena_backup / "status.json") or {}
    with store.reading() as connection:
        newer = select(func.count()).select_from(votes).where(votes.c.created > (last.get("saved_at") or 0.0))
        return int(connection.execute(newer).scalar_one())


def restore(store: Store, repository: str, folder: str = "") -> int:
    """Bring back what a data set on the Hub holds; returns the number of tests, 0 when there are some here already or
    the data set does not exist yet. Raises InputError when everybody can read it, or it cannot be reached."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with writing("dataset", repository, f"keep blind tests in {repository}") as api:
        refuse_public(
            api, repository, "dataset", try_=f"name another one in {BACKUP_VARIABLE}, or make it private on the Hub"
        )
        with store.reading() as connection:
            if connection.execute(select(blind_tests.c.id).limit(1)).first() is not None:
                return 0
        try:
            fetched, _ = fetch(api, repository, [f"{folder}/*.jsonl" if folder else "*.jsonl"])
        except RepositoryNotFoundError:
            return 0
    return load(store, fetched / folder)
