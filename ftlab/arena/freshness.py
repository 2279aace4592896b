"""Prompts that trained a contestant, as they are or nearly, never count in its test: they would show memory, not skill.

Copies are known by the fingerprints in the manifest of a run, near copies (`ftlab.data.near`: without the "?", with
"Please", with a word more, inside a longer text) by its frozen training rows, where they are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ftlab.arena.store import Store, contestants, prompts
from ftlab.config import load_config
from ftlab.core.files import read_cached
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.partition import prompt_fingerprint, prompt_text
from ftlab.errors import FtlabError, InputError

Messages = Sequence[Mapping[str, str]]


def trained_prompts(workspace: Workspace, spec: Mapping[str, Any]) -> set[str]:
    """The fingerprints of all prompts that a contestant was trained on: by its run, by the runs it started from, and by
    the reward models that taught it. Empty for a base, an endpoint, and a run that is gone."""
    return _fingerprints(_trained_by(workspace, spec))


def stale_prompts(store: Store, test_id: str) -> dict[str, list[str]]:
    """The ids of the prompts of a test that a contestant was trained on, with the titles of these contestants."""
    with store.reading() as connection:
        query = select(contestants.c.title, contestants.c.spec).where(contestants.c.test_id == test_id)
        among = connection.execute(query.order_by(contestants.c.position)).all()
        if not any(_trained_by(store.workspace, one.spec) for one in among):
            return {}
        query = select(prompts.c.id, prompts.c.messages, prompts.c.reference).where(prompts.c.test_id == test_id)
        every = connection.execute(query.order_by(prompts.c.number)).all()
    messages, references = [one.messages for one in every], [one.reference for one in every]
    stale: dict[str, list[str]] = {}
    for who in among:
        for place in sorted(_known(store.workspace, who.spec, messages, references)):
            stale.setdefault(every[place].id, []).append(who.title)
    return stale


def fresh_only(
    workspace: Workspace,
    specs: Sequence[Mapping[str, Any]],
    asked: Sequence[Messages],
    references: Sequence[str | None] | None = None,
) -> list[int]:
    """The places in `asked` (prompts as messages, with the answers that are right, where they are known) of those that
    no contestant was trained on, not even nearly.

    Raises InputError when none is left.
    """
    stale: set[int] = set()
    for spec in specs:
        stale |= _known(workspace, spec, asked, references or [None] * len(asked))
    fresh = [place for place in range(len(asked)) if place not in stale]
    if asked and not fresh:
        raise InputError(
            "A contestant was trained on every one of these prompts or on a near copy, so they would show memory, "
            "not skill",
            given=f"{len(asked)} prompts",
            allowed="prompts that none of the contestants was trained on",
            try_="use the held-out split of the run, or write new prompts",
        )
    return fresh


def _known(
    workspace: Workspace, spec: Mapping[str, Any], asked: Sequence[Messages], references: Sequence[str | None]
) -> set[int]:
    """The places in `asked` of prompts that a contestant was trained on, exactly or nearly."""
    runs = _trained_by(workspace, spec)
    prints = _fingerprints(runs)
    places = {place for place, messages in enumerate(asked) if not prints.isdisjoint(_prints(messages, spec))}
    if not runs:
        return places
    from ftlab.data.splits import trained_nearly

    rest = [place for place in range(len(asked)) if place not in places]
    texts = tuple((prompt_text(_turns(asked[place])), references[place] or "") for place in rest)
    for run in runs:
        places.update(rest[place] for place in trained_nearly(run, texts, spec.get("system_prompt")))
    return places


def _fingerprints(runs: Sequence[RunDirectory]) -> set[str]:
    return {one for run in runs for one in run.manifest().get("prompt_fingerprints", {}).get("train", [])}


def _trained_by(workspace: Workspace, spec: Mapping[str, Any]) -> list[RunDirectory]:
    """The runs whose training went into a contestant."""
    known = {run.id: run for run in workspace.runs()}
    waiting = [spec.get("run"), *_runs_in([spec.get("base")], known)]
    seen: dict[str, RunDirectory] = {}
    while waiting:
        run = known.get(str(waiting.pop()))
        if run is None or run.id in seen:
            continue
        seen[run.id] = run
        waiting += _teachers(run, known)
    return list(seen.values())


def _prints(messages: Sequence[Mapping[str, str]], spec: Mapping[str, Any]) -> set[str]:
    """The fingerprints under which a prompt may have been trained on: as it is, and with the contestant's system prompt
    in front, as data may hold it."""
    turns = _turns(messages)
    fingerprints = {prompt_fingerprint(turns)}
    if spec.get("system_prompt"):
        fingerprints.add(prompt_fingerprint([{"role": "system", "content": spec["system_prompt"]}, *turns]))
    return fingerprints


def _turns(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [dict(turn) for turn in messages]


def _teachers(run: RunDirectory, known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs whose training went into `run`."""
    parents = [(read_cached(run.environment_file) or {}).get("parent_run")]
    try:
        config = load_config(run.config_file)
    except FtlabError:
        return [one for one in parents if one]
    named = [config.model.start, config.model.base, *(reward.model for reward in config.reinforcement.rewards)]
    return [one for one in parents if one] + _runs_in(named, known)


def _runs_in(named: Sequence[str | None], known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs that are named, by id or by a path that leads into one."""
    parts = {part for one in named if one for part in (one, *Path(one).parts)}
    return [run_id for run_id in known if run_id in parts]
