"""Votes on chat answers, stored as data that the Preferences tab can learn from.

Two files among the uploads of the workspace: pairs (prompt, chosen, rejected; for DPO and similar) and thumbs (prompt,
completion, label; for KTO). Each row records its origin: run, strength, temperature, date. A prompt is the list of
turns that the models were given. Pressing again undoes a vote.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftlab.core.files import locked, read_jsonl, write_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.data.tool_calls import next_turn
from ftlab.errors import InputError
from ftlab.models.strength import AS_TRAINED
from ftlab.ui.kit.conversation import SIDES, Turn, can_choose, history

PAIRS, THUMBS = "chat-pairs.jsonl", "chat-thumbs.jsonl"


def prompts(
    run: RunDirectory,
    before: list[Turn],
    text: str,
    *,
    as_trained: bool,
    system: str | None,
    tools: str | None = None,
) -> dict[str, list[dict[str, str]]]:
    """The prompt of each side for `text` after the turns `before`, as data: a list of turns by side."""
    asked = (asked_of(run) if as_trained else AsTrained()).offering(tools)
    earlier = history(before)
    return {side: asked.messages([*earlier[side], next_turn(earlier[side], text)], system) for side in SIDES}


def choose(turn: Turn, side: str, workspace: Workspace) -> Turn:
    """`turn` with the answer of `side` as the better one, stored as a pair; the same side again undoes it.

    Raises InputError if the two cannot be compared.
    """
    if not can_choose(turn):
        raise InputError("These two answers cannot be compared", try_="use the thumbs")
    chosen = None if turn.get("better") == side else side
    row = None
    if chosen:
        other = next(name for name in SIDES if name != side)
        row = {"prompt": turn["prompts"][side], "chosen": turn[side], "rejected": turn[other], "chosen_from": side}
    _keep(workspace.uploads / PAIRS, turn["id"], row, turn, workspace)
    return {**turn, "better": chosen}


def thumb(turn: Turn, side: str, good: bool, workspace: Workspace) -> Turn:
    """`turn` with the answer of `side` marked good or not; the same mark again undoes it."""
    thumbs = dict(turn.get("thumbs") or {})
    mark = None if thumbs.get(side) is good else good
    row = None
    if mark is not None:
        row = {"prompt": turn["prompts"][side], "completion": turn[side], "label": mark, "answer_of": side}
    _keep(workspace.uploads / THUMBS, f"{turn['id']}-{side}", row, turn, workspace)
    return {**turn, "thumbs": {**thumbs, side: mark}}


def counts(workspace: Workspace) -> tuple[int, int]:
    """The number of pairs and thumbs in the workspace."""
    return len(read_jsonl(workspace.uploads / PAIRS)), len(read_jsonl(workspace.uploads / THUMBS))


def _keep(file: Path, name: str, row: Mapping[str, Any] | None, turn: Turn, workspace: Workspace) -> None:
    """Replace the row `name` of `file` with `row`; None removes it."""
    of = {
        "run": turn["run"],
        "strength": turn.get("strength", AS_TRAINED),
        "temperature": turn["temperature"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "vote": name,
    }
    with locked(workspace.root / "cache" / f"{file.name}.lock"):
        rows = [vote for vote in read_jsonl(file) if vote.get("vote") != name]
        rows += [{**row, **of}] if row else []
        if rows:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(file, rows)
        else:
            file.unlink(missing_ok=True)
