"""Sources of the prompts of a blind test: held-out rows of a run or of data, a file, or pasted lines."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.arena.asking import PromptSpec
from ftlab.arena.conversations import script_of
from ftlab.arena.tally import fresh_only
from ftlab.config import DataConfig, load_config
from ftlab.core.workspace import Workspace
from ftlab.data.formats import detect_prompts, example_of, script_in
from ftlab.data.load import Loaded, load_rows, settled
from ftlab.data.partition import prompt_fingerprint, turns_of
from ftlab.data.rendering import prompt_messages, reference
from ftlab.data.shapes import Message, UnusableRow, without_weights
from ftlab.data.splits import read_split
from ftlab.errors import FtlabError, InputError

HELD_OUT = ("test", "validation")
RUN_PREFIX = "run:"
_LOOKED_AT = 100  # rows sampled to detect the format
_LONGEST_TOPIC = 60


def held_out(
    source: str,
    workspace: Workspace,
    *,
    topic: str | None = None,
    columns: Mapping[str, str] | None = None,
    conversations: bool = False,
) -> list[PromptSpec]:
    """The prompts of the test split (else validation) of `source`: a run as `run:<id>`, a sample, a version or a file.

    Data without such a split gives all rows. `topic` names the column with the topics of the prompts. `columns` (role:
    column) names the prompt column, if it was not set for the data before. `conversations` gives the user's turns of
    each row as a script, without the answers of the data. Raises InputError if there is no such source or column.
    """
    if source.startswith(RUN_PREFIX):
        return _of_run(source.removeprefix(RUN_PREFIX), workspace, topic, conversations)
    loaded = load_rows(DataConfig(source=source), workspace)
    split = next((name for name in HELD_OUT if loaded.splits.get(name)), None)
    return _of_rows(loaded, [split] if split else list(loaded.splits), topic, columns, conversations)


def named(source: str, workspace: Workspace, **how: Any) -> list[PromptSpec]:
    """The prompts of `source`: all rows of a file, else the held-out rows of a run or of data. `how` as there."""
    path = Path(source).expanduser()
    return from_file(path, workspace, **how) if path.is_file() else held_out(source, workspace, **how)


def from_file(
    path: Path,
    workspace: Workspace | None = None,
    *,
    topic: str | None = None,
    columns: Mapping[str, str] | None = None,
    conversations: bool = False,
) -> list[PromptSpec]:
    """The prompts of all rows of a file; a text file has one prompt per line. The rest is as in `held_out`."""
    if path.suffix.lower() == ".txt":
        return pasted(path.read_text(encoding="utf-8-sig", errors="replace"))
    loaded = load_rows(DataConfig(source=str(path)), workspace)
    return _of_rows(loaded, list(loaded.splits), topic, columns, conversations)


def pasted(text: str) -> list[PromptSpec]:
    """One prompt per line. Raises InputError if there is none."""
    lines = [line.strip() for line in text.split("\n")]
    specs = [PromptSpec([{"role": "user", "content": line}]) for line in lines if line]
    if not specs:
        raise InputError("There are no prompts yet", try_="write one prompt per line")
    return _once(specs)


def topic_columns(source: str, workspace: Workspace) -> list[str]:
    """The columns of `source` that could hold the topic of a row: recurring text with few distinct values."""
    if source.startswith(RUN_PREFIX):
        data = _data_of(source.removeprefix(RUN_PREFIX), workspace)
        if data is None:
            return []
        loaded = load_rows(data, workspace)
    else:
        loaded = load_rows(DataConfig(source=source), workspace)
    rows = loaded.splits[next((name for name in HELD_OUT if loaded.splits.get(name)), loaded.main)]
    some = [rows[i] for i in range(min(len(rows), 500))]
    columns = []
    for column in loaded.columns:
        cells = [row.get(column) for row in some]
        kinds = {cell for cell in cells if isinstance(cell, str) and 0 < len(cell) <= _LONGEST_TOPIC}
        if 1 < len(kinds) <= max(2, len(some) // 3) and all(isinstance(cell, str | None) for cell in cells):
            columns.append(column)
    return columns


def sample(
    prompts: Sequence[PromptSpec], number: int | None, *, by_topic: bool = False, seed: int = 0
) -> list[PromptSpec]:
    """`number` of the prompts at random (None: all), in their order. `by_topic` takes equally many from each topic, as
    far as available.

    Raises InputError for a number below one.
    """
    if number is None or number >= len(prompts):
        return list(prompts)
    if number < 1:
        raise InputError("A test needs at least one prompt", given=number, allowed=f"1 to {len(prompts)}")
    order = random.Random(seed).sample(range(len(prompts)), len(prompts))
    if by_topic:
        places: dict[str | None, int] = defaultdict(int)
        turn = {}
        for i in order:
            turn[i] = places[prompts[i].topic]
            places[prompts[i].topic] += 1
        order.sort(key=lambda i: turn[i])  # the first of each topic, then the second of each: sort is stable
    return [prompts[i] for i in sorted(order[:number])]


def fresh(
    prompts: Sequence[PromptSpec], specs: Sequence[Mapping[str, Any]], workspace: Workspace
) -> tuple[list[PromptSpec], int]:
    """The prompts that no contestant was trained on, exactly or nearly, and how many were left out. Raises InputError
    if none is left."""
    references = [prompt.reference for prompt in prompts]
    kept = fresh_only(workspace, specs, [prompt.messages for prompt in prompts], references)
    return [prompts[i] for i in kept], len(prompts) - len(kept)


def _of_run(run_id: str, workspace: Workspace, topic: str | None, conversations: bool) -> list[PromptSpec]:
    run = workspace.run(run_id)
    split = next((name for name in HELD_OUT if run.split_file(name).exists()), None)
    if split is None:
        raise InputError("This run has no held-out rows", given=run.id, try_="use prompts from other data")
    examples, cells = read_split(run, split), {}
    if topic:
        settings = _data_of(run_id, workspace)
        loaded = load_rows(settings, workspace) if settings else None
        if loaded is None or topic not in loaded.columns:
            raise InputError("The data of this run has no such column", given=topic)
        cells = {(name, i): row.get(topic) for name, rows in loaded.splits.items() for i, row in enumerate(rows)}
    data = _data_of(run_id, workspace)
    return _once(
        _spec(
            _without(without_weights(turns_of(example)), data.system_prompt if data else None),
            _topic(cells.get((example["source"], example["row"]))),
            conversations,
        )
        for example in examples
    )


def _spec(turns: Sequence[Message], topic: str | None, conversations: bool) -> PromptSpec:
    if conversations:  # the reference answers another conversation
        return PromptSpec(script_of(turns), topic)
    return PromptSpec(prompt_messages(turns), topic, reference(turns) or None)


def _data_of(run_id: str, workspace: Workspace) -> DataConfig | None:

    try:
        return load_config(workspace.run(run_id).config_file).data
    except FtlabError:
        return None


def _without(messages: Sequence[Mapping[str, str]], system_prompt: str | None) -> list[dict[str, str]]:
    """The prompt without its system prompt, which belongs to the contestant."""
    turns = [dict(turn) for turn in messages]
    if system_prompt and turns and turns[0] == {"role": "system", "content": system_prompt}:
        return turns[1:]
    return turns


def _of_rows(
    loaded: Loaded,
    splits: Sequence[str],
    topic: str | None,
    columns: Mapping[str, str] | None,
    conversations: bool,
) -> list[PromptSpec]:
    if topic and topic not in loaded.columns:
        raise InputError("There is no such column", given=topic, allowed=", ".join(loaded.columns))
    rows = [row for split in splits for row in loaded.splits[split]]
    step = max(1, len(rows) // _LOOKED_AT)
    read = settled(DataConfig(source=loaded.name, columns=dict(columns or {})), loaded.named)
    detected = detect_prompts(
        loaded.columns, rows[::step][:_LOOKED_AT], read.columns, loaded.name, read.prompt_template
    )
    known = topic or next((name for name in ("topic", "category") if name in loaded.columns), None)
    specs, refused = [], ""
    for row in rows:
        try:
            turns = script_in(row, detected) if conversations else example_of(row, detected, None)[0]
        except UnusableRow as problem:
            refused = problem.reason
            continue
        specs.append(_spec(turns, _topic(row.get(known) if known else None), conversations))
    if not specs:
        raise InputError(
            "These rows contain no prompts", given=loaded.name, allowed="a column of prompts", try_=refused or None
        )
    return _once(specs)


def _topic(cell: Any) -> str | None:
    return str(cell).strip()[:_LONGEST_TOPIC] or None if cell is not None else None


def _once(prompts: Iterable[PromptSpec]) -> list[PromptSpec]:
    """Each prompt once, at its first occurrence."""
    seen: dict[str, PromptSpec] = {}
    for prompt in prompts:
        seen.setdefault(prompt_fingerprint(prompt.messages), prompt)
    return list(seen.values())
