"""A blind test goes to a server elsewhere and comes back with its votes, by way of a private data set on the Hub.

send(store, test_id, "me/votes")    here: the test is added to what the data set holds
(backup.start)                      there: it is found within a minute, and every vote goes to the data set
fetch(store, "me/votes")            here: the tests with their votes, as they are there

The links are valid there when both sides have the same FTLAB_SECRET. Once a test is sent, votes are given there only.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sqlalchemy import Connection, delete, select

from ftlab.arena.store import Store, blind_tests, metadata, votes
from ftlab.arena.tables import SPACE_FOLDER, Rows, dump, fetched, insert, read, rows_of
from ftlab.core.hub import check_name, make, told, writing
from ftlab.errors import InputError


def send(store: Store, test_id: str, repository: str) -> None:
    """Add a test to the data set `repository`, which is made when it is missing.

    Raises InputError when votes were given on it there, or everybody can read the data set.
    """
    from huggingface_hub import CommitOperationAdd

    check_name(repository, "data set")
    with writing("dataset", repository, f"keep blind tests in {repository}") as api:
        make(api, repository, "dataset")
        there, revision = fetched(api, repository)
        if rows_of(there, test_id)["votes"]:
            raise InputError(
                "This test already has votes there",
                given=test_id,
                try_="fetch them; a test cannot change once it was sent",
            )
        with tempfile.TemporaryDirectory() as folder:
            dump(store, Path(folder))
            here = rows_of(read(Path(folder)), test_id)
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
            "Some votes here are not in the data set",
            given=f"{len(here)} here, {len(there['votes'])} there",
        )
