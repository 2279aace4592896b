"""What the tab shows of a blind test now. It is asked every other second, so little is worked out anew."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.arena import answers as answering
from ftlab.arena import blind_tests, links, tally
from ftlab.arena.results import FlagJson, ProgressJson
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import blind_test_verdict, raters_page
from ftlab.ui import blind_test_views as views
from ftlab.ui.html import heading, notice

NEW = "new"
_EVERY_SECONDS = 15  # how old a verdict may be while nobody votes: a guess may have come after the last vote


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """All tests, the newest first, behind the way to a new one."""
    found = blind_tests.list_tests(open_store(workspace)) if raters_page.has_tests(workspace) else []
    return [("A new test", NEW), *((f"{one.title} ({views.STATES[one.state][0].lower()})", one.id) for one in found)]


def chosen_or_newest(chosen: str | None, known: Sequence[tuple[str, str]]) -> str:
    """The test that was chosen, if it is still there, else the newest one."""
    ids = [value for _, value in known]
    return chosen if chosen in ids else ids[1] if len(ids) > 1 else NEW


def picture(test_id: str, workspace: Workspace) -> dict[str, Any]:
    """Texts and what may be pressed, by name. Raises InputError when there is no such test."""
    store = open_store(workspace)
    test = blind_tests.get_test(store, test_id)
    known = blind_tests.progress(store, test_id)
    if test.state == "open" and known["revealed"] is None and _watched(_key(store), test_id, known["votes"]):
        known = blind_tests.progress(store, test_id)
    among, asked = blind_tests.list_contestants(store, test_id), len(blind_tests.list_prompts(store, test_id))
    live, job = test.settings["live"], answering.status(workspace, test_id)
    working = job is not None and job.is_active
    waits = test.state in ("draft", "generating") and not live
    opens = test.state == "ready" or (test.state == "draft" and live)
    found = _flags(_key(store), test_id, known["answers"]) if test.state == "ready" else ()
    shown = {
        "about": views.about(test, among, asked, known),
        "answers": views.answers(test.state, known, job, live)
        if waits or (live and test.state != "closed")
        else Markup(""),
        "flags": views.flags(found) if test.state == "ready" else Markup(""),
        "links": _links(store, test, known, workspace) if test.state != "closed" else Markup(""),
        "progress": views.progress(test, known) if test.state in ("open", "closed") else Markup(""),
        "verdict": Markup(""),
        "can": {
            "generate": waits and not working,
            "stop": working,
            "open": opens,
            "links": test.state != "closed",
            "early": test.state == "open" and known["revealed"] is None,
            "close": test.state == "open",
            "delete": test.state != "open" and not working,
            "verdict": known["revealed"] is not None,
        },
        "begun": bool(known["answers"]),
        "flagged": bool(found),
        "stopping": working and job is not None and job.state == "stopping",
    }
    if known["revealed"] is not None:
        fresh = int(time.time() / _EVERY_SECONDS) if test.state == "open" else 0
        shown["verdict"] = _verdict(_key(store), test_id, json.dumps(known, default=str), fresh)
    return shown


def _links(store: Store, test: Any, known: ProgressJson, workspace: Workspace) -> Markup:
    page = raters_page.now(workspace)
    if page is None:
        return notice("The raters' page is not served yet: it begins when you open the test, or press Serve it.")
    token = links.open_link(store, test.id) if test.open_link_key else None
    local = ""
    if page.reach == "machine":
        local = notice("These links work on this machine only. Choose this network above to let phones in.")
    return local + views.links(page.url, links.links(store, test.id), known, token)


# The store is made anew from what it was opened with: it holds connections, and a cache must not.
def _key(store: Store) -> str:
    return str(store.workspace.root)


def _store(root: str) -> Store:
    return open_store(Workspace(Path(root)))


@lru_cache(maxsize=32)
def _watched(root: str, test_id: str, votes: int) -> bool:
    """Whether the evidence has decided, asked once for each number of votes."""
    return bool(votes) and tally.watch(_store(root), test_id)


@lru_cache(maxsize=16)
def _flags(root: str, test_id: str, answers: int) -> tuple[FlagJson, ...]:
    return tuple(blind_tests.flags(_store(root), test_id))


@lru_cache(maxsize=16)
def _verdict(root: str, test_id: str, known: str, fresh: int) -> Markup:
    return blind_test_verdict.verdict(tally.evaluate(_store(root), test_id))


def warning(what: str, test_id: str, workspace: Workspace) -> Markup:
    """What is said before something that cannot be undone."""
    known = blind_tests.progress(open_store(workspace), test_id)
    makers = {"early": views.open_early_warning, "close": views.close_warning, "delete": views.delete_warning}
    if what not in makers:
        raise InputError("This is not possible here", given=what)
    return makers[what](known)


def headline() -> Markup:
    return heading(
        "Blind test",
        "People compare answers without knowing whose they are; the verdict says how sure it is, and the votes can "
        "train the next model.",
    )
