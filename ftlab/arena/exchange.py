"""A blind test goes to a server elsewhere and comes back with its votes, by way of a private data set on the Hub.

send(store, test_id, "me/votes")    here: the test is added to what the data set holds
(backup.start)                      there: it is found within a minute, and every vote goes to the data set
fetch(store, "me/votes")            here: the tests with their votes, as they are there

The links are valid there when both sides have the same FTLAB_SECRET. Once a test is sent, votes are given there only.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select

from ftlab.arena.backup import SPACE_FOLDER, dump
from ftlab.arena.store import Store, blind_tests, metadata, votes
from ftlab.errors import InputError
from ftlab.files import read_jsonl
from ftlab.hub import check_name, refuse_public, told

Rows = dict[str, list[dict[str, Any]]]  # by table


def send(store: Store, test_id: str, repository: str) -> None:
    """Add a test to the data set `repository`, which is made when it is missing.

    Raises InputError when votes were given on it there, or everybody can read the data set.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_name(repository, "data set")
    with told("data set", repository, doing=f"keep blind tests in {repository}"):
        api = HfApi()
        refuse_public(api, repository, "dataset")
        api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        there, revision = fetched(api, repository)
        if rows_of(there, test_id)["votes"]:
            raise InputError(
                "Votes were given on this test there already",
                given=test_id,
                try_="fetch them; a sent test stays as it is",
            )
        with tempfile.TemporaryDirectory() as folder:
            dump(store, Path(folder))
            here = rows_of(_read(Path(folder)), test_id)
        operations = []
        for name, added in here.items():
            known = {row["id"] for row in added}
            rows = [row for row in there[name] if row["id"] not in known] + added
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            operations.append(CommitOperationAdd(f"{SPACE_FOLDER}/{name}.jsonl", text.encode()))
        # Of this state and no other: what came in between would be lost.
        api.create_commit(
            repository,
            operations,
            commit_message="A blind test",
            repo_type="dataset",
            parent_commit=revision,
        )


def fetch(store: Store, repository: str) -> list[str]:
    """Bring back every test of the data set as it is there; returns their ids.

    Raises InputError when there is none, or when a vote would be lost that is only here.
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


def adopt(store: Store, there: Rows) -> list[str]:
    """Take in the tests that are not here yet; returns their ids."""
    with store.writing() as connection:
        known = set(connection.execute(select(blind_tests.c.id)).scalars())
        fresh = [row["id"] for row in there["blind_tests"] if row["id"] not in known]
        for test_id in fresh:
            insert(connection, rows_of(there, test_id))
    return fresh


def fetched(api: Any, repository: str) -> tuple[Rows, str]:
    """What the data set holds of blind tests, and its commit."""
    from huggingface_hub import snapshot_download

    revision = api.dataset_info(repository).sha
    tables = [f"{SPACE_FOLDER}/*.jsonl"]
    folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=tables)
    return _read(Path(folder) / SPACE_FOLDER), revision


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
    """Write rows that are not here yet, in the order in which tables refer to each other."""
    for table in metadata.sorted_tables:
        if rows[table.name]:
            connection.execute(table.insert(), rows[table.name])


def _read(folder: Path) -> Rows:
    return {table.name: read_jsonl(folder / f"{table.name}.jsonl") for table in metadata.sorted_tables}


def _keep_voided(connection: Connection, test_id: str, there: Rows) -> None:
    """What its owner has voided here stays so, whatever the server that takes the votes knows of it."""
    people = metadata.tables["raters"]
    query = select(people.c.id, people.c.voided_at).where(people.c.test_id == test_id, people.c.voided_at.is_not(None))
    voided = dict(connection.execute(query).all())
    there["raters"] = [row | {"voided_at": row.get("voided_at") or voided.get(row["id"])} for row in there["raters"]]


def _keep_votes_that_are_only_here(connection: Connection, test_id: str, there: Rows) -> None:
    trials = metadata.tables["trials"]
    of_test = select(votes.c.rater_id).join(trials, trials.c.id == votes.c.trial_id).where(trials.c.test_id == test_id)
    here = list(connection.execute(of_test).scalars())
    # By rater: one who took a vote back there gave no other one here.
    unknown = set(here) - {row["rater_id"] for row in there["votes"]}
    if here and len(here) > len(there["votes"]) and unknown:
        raise InputError(
            "Votes were given here that are not in the data set", given=f"{len(here)} here, {len(there['votes'])} there"
        )
