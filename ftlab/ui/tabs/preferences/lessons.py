"""Votes as training data: where they are stored, and which data, stage and start they lead to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftlab.arena import preferences as preferred
from ftlab.arena import tally
from ftlab.arena.ballots import judged
from ftlab.arena.blind_tests import list_tests
from ftlab.arena.preferences import DPO_FILE, KTO_FILE
from ftlab.arena.store import DATABASE_VARIABLE, Store, open_store
from ftlab.config.stages import FROM_JUDGED, FROM_PAIRS
from ftlab.core.files import read_jsonl
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.splits import FEWEST_TO_PART
from ftlab.errors import InputError
from ftlab.ui import run_files, run_names
from ftlab.ui.tabs.chat import votes as chat_votes


@dataclass(frozen=True)
class Voted:
    """Votes that can be learned from: `id` is a blind test or a file of the chat; `kind` is the term for one of them
    there; `rows` counts the training rows, where the raters of one prompt count once."""

    id: str
    title: str
    kind: str
    votes: int
    rows: int


@dataclass(frozen=True)
class Lesson:
    """What votes teach: the data, the stage that learns from them, and the run to continue from (empty: the base)."""

    source: str
    stage: str
    start: str
    base: str | None
    message: str
    preference: Mapping[str, Any] = field(default_factory=dict)  # settings of the section


def voted(workspace: Workspace) -> list[Voted]:
    """Visible votes that can be learned from, most rows first: the newest blind test that has some, and the pairs and
    thumbs of the chat."""
    pairs, thumbs = chat_votes.counts(workspace)
    of_chat = ((chat_votes.PAIRS, "pair", pairs), (chat_votes.THUMBS, "thumb", thumbs))
    places = [*(Voted(name, "Chat", kind, number, number) for name, kind, number in of_chat), _voted_test(workspace)]
    return sorted((place for place in places if place and place.votes), key=lambda place: place.rows, reverse=True)


def _voted_test(workspace: Workspace) -> Voted | None:
    if not workspace.arena_database.exists() and not os.environ.get(DATABASE_VARIABLE):
        return None
    store = open_store(workspace)
    for test in list_tests(store):
        try:
            data = preferred.collect(store, test.id)
            if rows := data.pairs or data.judged:
                votes = sum(judged(ballot) for ballot in tally.count(store, test.id))
                return Voted(test.id, test.title, "vote", votes, len(rows))
        except InputError:  # its votes are still hidden
            continue
    return None


def of_votes(place: str, workspace: Workspace) -> Lesson:
    """The lesson of the votes at `place`, the id of `Voted`."""
    if place in (chat_votes.PAIRS, chat_votes.THUMBS):
        return of_chat(place, workspace)
    return of_test(open_store(workspace), place, workspace)


def of_test(store: Store, test_id: str, workspace: Workspace) -> Lesson:
    """Write the votes as data and determine how to learn from them: pairs if there are any, else judged answers.

    Training continues from the contestant that the raters preferred if it is a run that can be trained further, else
    from the last such contestant. Raises InputError while the tally is hidden, or if no vote can be learned from.
    """
    folder, data = preferred.export(store, test_id)
    file, stage, rows = (DPO_FILE, FROM_PAIRS, data.pairs) if data.pairs else (KTO_FILE, FROM_JUDGED, data.judged)
    start, base = preferred.start_after(store, test_id, workspace)
    text = data.text() + _too_few(len(rows), "add votes or preferences")
    return Lesson(str(folder / file), stage, start, base or None, text, data.settings(stage))


def of_chat(name: str, workspace: Workspace) -> Lesson:
    """The lesson of the chat votes in the file `name`; training continues from the run that answered last."""
    file = workspace.uploads / name
    rows = read_jsonl(file)
    startable = {value for _, value in start_choices(workspace)}
    start = next((row["run"] for row in reversed(rows) if row.get("run") in startable), "")
    kind, stage = ("pair", FROM_PAIRS) if name == chat_votes.PAIRS else ("thumb", FROM_JUDGED)
    message = f"{counted(len(rows), kind)} from Chat." + _too_few(len(rows), "vote on more answers")
    return Lesson(str(file), stage, start, None, message)


def _too_few(rows: int, remedy: str) -> str:
    return f" A run needs at least {FEWEST_TO_PART} rows to learn from: {remedy}." if rows < FEWEST_TO_PART else ""


def start_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """The finished runs that can be trained further, newest first."""
    return run_names.choices(
        [
            run
            for run in run_files.runs_that_answer(workspace)
            if (config := run_files.config(run)) is not None and preferred.trains_further(run, config)
        ]
    )
