"""Blind tests in a private data set on the Hugging Face Hub, one file per database table: a backup, and an exchange
with a server elsewhere.

FTLAB_BACKUP=owner/name       the data set; created if missing, rejected if public
FTLAB_SPACE_STORE=owner/name  the same, in the folder arena/ of the data set in which a Space keeps everything
start(store)                  restores its tests into an empty database, then sends every change

send(store, test, "me/votes")    here: adds a test to the data set
start(store)                     there: imports it within a minute, and sends every vote
fetch(store, "me/votes")         here: brings the tests back with their votes

The key that signs links is never sent. Set FTLAB_SECRET if the disk is not persistent, so that links survive a restart,
and use the same value on both sides of an exchange. The secret from which sides are drawn is not sent either: a
restored test continues with a new one.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, select

from ftlab.arena.links import SECRET_VARIABLE
from ftlab.arena.store import PUBLIC, Store, blind_tests, metadata, votes
from ftlab.core import hub_sync
from ftlab.core.files import read_jsonl, write_text
from ftlab.core.hub import check_name, told
from ftlab.core.hub_sync import commit, make, refuse_public, writing
from ftlab.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import CommitScheduler, HfApi

BACKUP_VARIABLE = "FTLAB_BACKUP"
SPACE_VARIABLE = "FTLAB_SPACE_STORE"
EVERY_MINUTES = 5.0

log = logging.getLogger(__name__)

Rows = dict[str, list[dict[str, Any]]]  # by table
SPACE_FOLDER = "arena"  # in the data set where a Space keeps everything
_CARD = """---
viewer: false
tags: [ftlab]
---
# Blind tests of ftlab

One file for each table, one line for each row. Written by ftlab, which reads it back into an empty database.
It contains prompts, answers, votes, comments and raters' names: keep it private.
"""


def start(store: Store, repository: str | None = None, every_minutes: float = EVERY_MINUTES) -> CommitScheduler | None:
    """Restore the tests in `repository` (else FTLAB_BACKUP, else FTLAB_SPACE_STORE) if none are here, and keep the data
    set up to date.

    Returns huggingface_hub's CommitScheduler (`trigger()` pushes now, `stop()` ends it), or None if no data set is
    named. It starts once per process. Raises InputError or FtlabError if the data set cannot be used, so that a failing
    backup is noticed.
    """
    repository = repository or os.environ.get(BACKUP_VARIABLE)
    folder = ""
    if not repository:
        repository, folder = os.environ.get(SPACE_VARIABLE), SPACE_FOLDER
    return _start(store, repository, every_minutes, folder) if repository else None


@functools.cache
def _start(store: Store, repository: str, every_minutes: float, folder: str) -> CommitScheduler:
    restore(store, repository, folder)
    tables = store.workspace.arena_backup / "tables"
    seen: str | None = None  # the commit whose tests have all been imported

    def prepare(api: HfApi) -> None:
        nonlocal seen
        if folder:
            seen = _take_in(store, api, repository, seen)
        dump(store, tables)

    with told("data set", repository, doing=f"keep blind tests in {repository}"):
        return hub_sync.scheduled(
            tables,
            repository,
            prepare,
            path_in_repo=folder,
            every_minutes=every_minutes,
            status_file=_status_file(store),
            what="Blind tests",
        )


def _take_in(store: Store, api: HfApi, repository: str, seen: str | None) -> str:
    """Import the tests that `send` has added to the data set since the commit `seen`. Returns the newest commit."""
    newest = str(api.dataset_info(repository).sha)
    if newest != seen:
        there, newest = fetched(api, repository)
        for test_id in adopt(store, there):
            log.info("The blind test %s was received through %s", test_id, repository)
    return newest


def links_at_risk(store: Store) -> str:
    """A warning while the raters' links would not survive a restart of a Space; else empty."""
    with store.reading() as connection:
        if os.environ.get(SECRET_VARIABLE) or connection.execute(select(blind_tests.c.id).limit(1)).first() is None:
            return ""
    return f"Raters' links stop working when this Space restarts. Set the secret {SECRET_VARIABLE} to keep them."


def unsaved(store: Store) -> int:
    """The number of votes since the last successful push."""
    last = hub_sync.last_push(_status_file(store))
    with store.reading() as connection:
        newer = select(func.count()).select_from(votes)
        newer = newer.where(votes.c.created > ((last and last.saved_at) or 0.0))
        return int(connection.execute(newer).scalar_one())


def _status_file(store: Store) -> Path:
    return store.workspace.arena_backup / "status.json"


def restore(store: Store, repository: str, folder: str = "") -> int:
    """Restore the tests of a data set on the Hub. Returns their number, 0 if there already are some here or the data
    set does not exist yet. Raises InputError if it is public or cannot be reached."""
    with writing("dataset", repository, f"keep blind tests in {repository}") as api:
        refuse_public(api, repository, "dataset", try_=f"set {BACKUP_VARIABLE} to another name, or make it private")
        with store.reading() as connection:
            if connection.execute(select(blind_tests.c.id).limit(1)).first() is not None:
                return 0
        files = hub_sync.fetch_if_there(api, repository, [f"{folder}/*.jsonl" if folder else "*.jsonl"])
    return load(store, files / folder) if files else 0


def send(store: Store, test_id: str, repository: str) -> None:
    """Add a test to the data set `repository`, which is created if missing.

    Raises InputError if the test already has votes there, or the data set is public.
    """
    check_name(repository, "data set")
    with writing("dataset", repository, f"keep blind tests in {repository}") as api:
        make(api, repository, "dataset")
        there, revision = fetched(api, repository)
        if rows_of(there, test_id)["votes"]:
            raise InputError(
                "This test already has votes there",
                given=test_id,
                try_="fetch them; a test cannot change after it is sent",
            )
        with tempfile.TemporaryDirectory() as folder:
            dump(store, Path(folder))
            here = rows_of(read(Path(folder)), test_id)
        files: dict[str, bytes | Path] = {}
        for name, added in here.items():
            known = {row["id"] for row in added}
            rows = [row for row in there[name] if row["id"] not in known] + added
            files[f"{SPACE_FOLDER}/{name}.jsonl"] = _lines(rows).encode()
        commit(api, repository, "A blind test", files, parent=revision)


def fetch(store: Store, repository: str) -> list[str]:
    """Replace the tests here with those of the data set. Returns their ids.

    Raises InputError if it has none, or if a vote that exists only here would be lost.
    """
    from huggingface_hub import HfApi

    check_name(repository, "data set")
    with told("data set", repository):
        there, _ = fetched(HfApi(), repository)
    ids = [row["id"] for row in there["blind_tests"]]
    if not ids:
        raise InputError(
            "There is no blind test in this data set",
            given=repository,
            try_=f"python -m ftlab arena send TEST --to {repository}",
        )
    with store.writing() as connection:
        for test_id in ids:
            rows = rows_of(there, test_id)
            _keep_votes_that_are_only_here(connection, test_id, rows)
            _keep_voided(connection, test_id, rows)
            connection.execute(delete(blind_tests).where(blind_tests.c.id == test_id))
            insert(connection, rows)
    return ids


def _keep_voided(connection: Connection, test_id: str, there: Rows) -> None:
    """Votes voided here stay voided, even if the other server does not know."""
    people = metadata.tables["raters"]
    query = select(people.c.id, people.c.voided_at).where(people.c.test_id == test_id, people.c.voided_at.is_not(None))
    voided = dict(connection.execute(query).all())
    there["raters"] = [row | {"voided_at": row.get("voided_at") or voided.get(row["id"])} for row in there["raters"]]


def _keep_votes_that_are_only_here(connection: Connection, test_id: str, there: Rows) -> None:
    trials = metadata.tables["trials"]
    of_test = select(votes.c.rater_id).join(trials, trials.c.id == votes.c.trial_id).where(trials.c.test_id == test_id)
    here = list(connection.execute(of_test).scalars())
    # Matched by rater: a rater who undid a vote there cast no other vote here.
    unknown = set(here) - {row["rater_id"] for row in there["votes"]}
    if here and len(here) > len(there["votes"]) and unknown:
        raise InputError(
            "Some votes here are not in the data set",
            given=f"{len(here)} here, {len(there['votes'])} there",
        )


def dump(store: Store, folder: Path) -> None:
    """Write all tables to `folder` as a consistent snapshot. Unchanged files are not rewritten."""
    with store.reading() as connection:
        texts = {"README.md": _CARD}
        for table in metadata.sorted_tables:
            columns = PUBLIC if table is blind_tests else table.columns
            rows = connection.execute(select(*columns).order_by(table.c.id)).mappings()
            texts[f"{table.name}.jsonl"] = _lines(rows)
    for name, text in texts.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)


def _lines(rows: Iterable[Mapping[Any, Any]]) -> str:
    return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)


def load(store: Store, folder: Path) -> int:
    """Read what `dump` wrote into an empty database. Returns the number of tests. Raises InputError if it is not empty
    or a file is not one of ftlab's."""
    with store.writing() as connection:
        if connection.execute(select(blind_tests.c.id).limit(1)).first() is not None:
            raise InputError("Blind tests already exist here", try_="restore into a new workspace or database")
        for table in metadata.sorted_tables:
            rows = read_jsonl(folder / f"{table.name}.jsonl")
            unknown = {name for row in rows for name in row} - set(table.columns.keys())
            if unknown:
                raise InputError(
                    f"{table.name}.jsonl was written by another version of ftlab",
                    given=", ".join(sorted(unknown)),
                    allowed=", ".join(table.columns.keys()),
                )
            if rows:
                connection.execute(table.insert(), rows)
        return len(read_jsonl(folder / "blind_tests.jsonl"))


def adopt(store: Store, there: Rows) -> list[str]:
    """Add the tests that are not here yet. Returns their ids."""
    with store.writing() as connection:
        known = set(connection.execute(select(blind_tests.c.id)).scalars())
        fresh = [row["id"] for row in there["blind_tests"] if row["id"] not in known]
        for test_id in fresh:
            insert(connection, rows_of(there, test_id))
    return fresh


def fetched(api: HfApi, repository: str) -> tuple[Rows, str]:
    """The blind tests of the data set, and its commit."""
    folder, revision = hub_sync.fetch(api, repository, [f"{SPACE_FOLDER}/*.jsonl"])
    return read(folder / SPACE_FOLDER), revision


def rows_of(tables: Rows, test_id: str) -> Rows:
    """All rows that belong to one test."""

    def ids(name: str) -> set[str]:
        return {row["id"] for row in tables[name] if row["test_id"] == test_id}

    prompts, trials = ids("prompts"), ids("trials")

    def belongs(name: str, row: Mapping[str, Any]) -> bool:
        if name == "blind_tests":
            return row["id"] == test_id
        if "test_id" in row:
            return row["test_id"] == test_id
        return row.get("prompt_id") in prompts or row.get("trial_id") in trials

    return {name: [row for row in rows if belongs(name, row)] for name, rows in tables.items()}


def insert(connection: Connection, rows: Rows) -> None:
    """Insert new rows, in foreign key order."""
    for table in metadata.sorted_tables:
        if rows[table.name]:
            connection.execute(table.insert(), rows[table.name])


def read(folder: Path) -> Rows:
    """The rows that `dump` wrote."""
    return {table.name: read_jsonl(folder / f"{table.name}.jsonl") for table in metadata.sorted_tables}
