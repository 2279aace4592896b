"""What the tab currently shows of a blind test. Requested every other second, so most of it is cached."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.arena import answers as answering
from ftlab.arena import blind_tests, links, pooling, preferences, tally
from ftlab.arena.conversations import user_turns
from ftlab.arena.results import FlagJson, ProgressJson
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from ftlab.data.splits import FEWEST_TO_PART
from ftlab.errors import InputError, shorten
from ftlab.ui.kit.html import notice, when
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.tabs.blind_test import verdict as blind_test_verdict
from ftlab.ui.tabs.blind_test import views

NEW = "new"
_EVERY_SECONDS = 15  # maximum age of a verdict without new votes: a guess may follow the last vote


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """All tests, newest first, after the entry for a new one."""
    tests = blind_tests.list_tests(open_store(workspace)) if raters_page.has_tests(workspace) else []
    named = [
        (f"{test.title}, {when(test.created)}", test.id) for test in tests
    ]  # its state changes while it is on display
    return [("A new test", NEW), *named]


def chosen_or_newest(chosen: str | None, known: Sequence[tuple[str, str]]) -> str:
    """The selected test if it still exists, else the newest one."""
    ids = [value for _, value in known]
    return chosen if chosen in ids else ids[1] if len(ids) > 1 else NEW


def picture(test_id: str, workspace: Workspace) -> dict[str, Any]:
    """Texts and enabled buttons, by name. Raises InputError if there is no such test."""
    store = open_store(workspace)
    test = blind_tests.get_test(store, test_id)
    known = blind_tests.progress(store, test_id)
    if test.state == "open" and known["revealed"] is None and _watched(_key(store), test_id, known["votes"]):
        known = blind_tests.progress(store, test_id)
    among, asked = blind_tests.list_contestants(store, test_id), len(blind_tests.list_prompts(store, test_id))
    live, job, page = test.settings["live"], answering.status(workspace, test_id), raters_page.now(workspace)
    working = job is not None and job.is_active
    waits = test.state in ("draft", "generating") and not live
    opens = (test.state == "ready" and not working) or (test.state == "draft" and live)
    flagged = _flags(_key(store), test_id, known["answers"]) if test.state in ("ready", "open") and not live else ()
    looked = test.state == "ready" and blind_tests.must_be_looked_at(flagged)
    secret = known["revealed"] is None
    unserved = test.state == "open" and page is None and secret
    can = {
        "generate": waits and not working,
        "stop": working,
        "leave": looked and bool(blind_tests.revealing(flagged)),
        "open": opens or unserved,
        "links": test.state != "closed",
        "early": test.state == "open" and secret,
        "close": test.state == "open",
        "delete": test.state != "open" and not working,
        "learn": False,
        "report": not secret,
        "export": not secret,
    }
    parts: dict[str, Any] = {
        "about": views.about(test, among),
        "answers": views.answers(test.state, known, job, live)
        if waits or (live and test.state != "closed")
        else Markup(""),
        "flags": views.flags(flagged, known) if looked else Markup(""),
        "share": _share(store, test, page) if test.state != "closed" and secret else Markup(""),
        "progress": views.progress(known) if test.state == "open" and secret else Markup(""),
        "verdict": Markup(""),
        "facts": views.settings(test, among, asked, known)
        + views.people(known)
        + (Markup("") if looked else views.flags(flagged, known)),
        "links": _links(store, test, known, page) if test.state != "closed" else Markup(""),
        "can": can,
        "begun": bool(known["answers"]),
        "open": "Let raters in"
        if unserved
        else "I've checked the answers: open the test"
        if looked
        else "Open the test",
        "stopping": working and job is not None and job.state == "stopping",
        "test": test,
        "contestants": len(among),
        "secret": secret,
    }
    if not secret:
        fresh = int(time.time() / _EVERY_SECONDS) if test.state == "open" else 0
        decided = _verdict(_key(store), test_id, json.dumps(known, default=str), fresh, _judged(store, test_id))
        parts["verdict"] = decided.drawn + _together(store, test_id) + views.revealed(known)
        can["learn"] = decided.teaches
    return parts


def _share(store: Store, test: Any, page: raters_page.Page | None) -> Markup:
    if page is None:
        return Markup("")
    if not test.open_link_key:
        return notice("Each rater has a link of their own, under Details.")
    return views.share(page.url, links.open_link(store, test.id), page.reach)


def _links(store: Store, test: Any, known: ProgressJson, page: raters_page.Page | None) -> Markup:
    if page is None:
        return notice("The raters' page is not being served yet.")
    token = links.open_link(store, test.id) if test.open_link_key else None
    return views.links(page.url, links.links(store, test.id), known, token, phones=page.reach != "machine")


# Open the store again from its settings: it holds connections, which a cache must not.
def _key(store: Store) -> str:
    return str(store.workspace.root)


def _store(root: str) -> Store:
    return open_store(Workspace(Path(root)))


@lru_cache(maxsize=32)
def _watched(root: str, test_id: str, votes: int) -> bool:
    """Whether the evidence is decisive, computed once for each number of votes."""
    return bool(votes) and tally.watch(_store(root), test_id)


@lru_cache(maxsize=16)
def _flags(root: str, test_id: str, answers: int) -> tuple[FlagJson, ...]:
    return tuple(blind_tests.flags(_store(root), test_id))


@dataclass(frozen=True)
class Decided:
    """The verdict as drawn, and whether its votes can be learned from now: one contestant is better, and there are
    enough."""

    drawn: Markup
    teaches: bool


def _judged(store: Store, test_id: str) -> int:
    """Changes with what a judge model has said."""
    file = store.workspace.judged_file(test_id)
    return file.stat().st_size if file.exists() else 0


def _together(store: Store, test_id: str) -> Markup:
    """The verdict with the repetitions of the test; empty without one."""
    tests = blind_tests.list_tests(store)
    if len(tests) < 2 or len(blind_tests.list_contestants(store, test_id)) != 2:
        return Markup("")
    votes = tuple(blind_tests.progress(store, test.id)["votes"] for test in tests)
    # Opening a test early changes neither its state nor its votes, but adds to its history; so does voiding.
    states = tuple(f"{test.id} {test.state} {len(blind_tests.history(store, test.id))}" for test in tests)
    return _pooled(_key(store), test_id, states, votes)


@lru_cache(maxsize=16)
def _pooled(root: str, test_id: str, _tests: tuple[str, ...], _votes: tuple[int, ...]) -> Markup:
    store = _store(root)
    together = pooling.repetitions(store, test_id)
    return blind_test_verdict.pooled(pooling.pool(store, together)) if len(together) > 1 else Markup("")


@lru_cache(maxsize=16)
def _verdict(root: str, test_id: str, known: str, fresh: int, judged: int) -> Decided:
    store = _store(root)
    counted = tally.evaluate(store, test_id)
    titles = {contestant.id: contestant.title for contestant in blind_tests.list_contestants(store, test_id)}
    whole = blind_tests.get_test(store, test_id).settings.get("conversations", False)
    asked = {
        prompt.id: shorten(
            " / ".join(user_turns(prompt.messages) if whole else [str(prompt.messages[-1]["content"])]), 120
        )
        for prompt in blind_tests.list_prompts(store, test_id)
    }
    written = blind_test_verdict.comments(tally.count(store, test_id), asked, titles)
    teaches = counted["verdict"] in ("better", "worse")
    if teaches:
        rows = preferences.collect(store, test_id)
        teaches = len(rows.pairs or rows.judged) >= FEWEST_TO_PART
    return Decided(blind_test_verdict.verdict(counted) + written, teaches)


def warning(what: str, test_id: str, workspace: Workspace) -> Markup:
    """The warning before an action that cannot be undone."""
    known = blind_tests.progress(open_store(workspace), test_id)
    makers = {"early": views.open_early_warning, "close": views.close_warning, "delete": views.delete_warning}
    if what not in makers:
        raise InputError("This is not possible here", given=what)
    return makers[what](known)
