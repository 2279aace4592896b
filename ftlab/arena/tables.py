"""All that is known of blind tests as rows: a file for each table, and the data set on the Hub that holds the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from ftlab.arena.store import PUBLIC, Store, blind_tests, metadata
from ftlab.core.files import read_jsonl, write_text
from ftlab.core.hub import fetch
from ftlab.errors import InputError

Rows = dict[str, list[dict[str, Any]]]  # by table
SPACE_FOLDER = "arena"  # of the data set in which a Space keeps all it has
_CARD = """---
viewer: false
tags: [ftlab]
---
# Blind tests of ftlab

One file for each table, one line for each row. Written by ftlab, which reads it back into an empty database.
It holds prompts, answers, votes, comments and the names that raters gave: keep it private.
"""


def dump(store: Store, folder: Path) -> None:
    """Write all tables to `folder`, as of one moment; a file that would not change is left alone."""
    with store.reading() as connection:
        texts = {"README.md": _CARD}
        for table in metadata.sorted_tables:
            columns = PUBLIC if table is blind_tests else table.columns
            rows = connection.execute(select(*columns).order_by(table.c.id)).mappings()
            texts[f"{table.name}.jsonl"] = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    for name, text in texts.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)


def load(store: Store, folder: Path) -> int:
    """Read what `dump` wrote into an empty database; returns the number of tests. Raises InputError if it is not empty
    or a file is not one of ftlab's."""
    with store.writing() as connection:
        if connection.execute(select(blind_tests.c.id).limit(1)).first() is not None:
            raise InputError("There are blind tests here already", try_="restore into a new workspace or database")
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
    """Take in the tests that are not here yet; returns their ids."""
    with store.writing() as connection:
        known = set(connection.execute(select(blind_tests.c.id)).scalars())
        fresh = [row["id"] for row in there["blind_tests"] if row["id"] not in known]
        for test_id in fresh:
            insert(connection, rows_of(there, test_id))
    return fresh


def fetched(api: Any, repository: str) -> tuple[Rows, str]:
    """What the data set holds of blind tests, and its commit."""
    folder, commit = fetch(api, repository, [f"{SPACE_FOLDER}/*.jsonl"])
    return read(folder / SPACE_FOLDER), commit


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


def read(folder: Path) -> Rows:
    """The rows that `dump` wrote."""
    return {table.name: read_jsonl(folder / f"{table.name}.jsonl") for table in metadata.sorted_tables}
