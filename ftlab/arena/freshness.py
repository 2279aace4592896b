"""Prompts that trained a contestant never count in its test: they would show memory, not skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ftlab.arena.store import Store, contestants, prompts
from ftlab.config import load_config
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import FtlabError, InputError
from ftlab.files import read_json
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace


def trained_prompts(workspace: Workspace, spec: Mapping[str, Any]) -> set[str]:
    """The fingerprints of all prompts that a contestant was trained on: by its run, by the runs it started from, and by
    the reward models that taught it. Empty for a base, an endpoint, and a run that is gone."""
    known = {run.id: run for run in workspace.runs()}
    waiting = [spec.get("run"), *_runs_in([spec.get("base")], known)]
    seen: set[str] = set()
    prints: set[str] = set()
    while waiting:
        run = known.get(str(waiting.pop()))
        if run is None or run.id in seen:
            continue
        seen.add(run.id)
        prints |= set(run.manifest().get("prompt_fingerprints", {}).get("train", []))
        waiting += _teachers(run, known)
    return prints


def stale_prompts(store: Store, test_id: str) -> dict[str, list[str]]:
    """The ids of the prompts of a test that a contestant was trained on, with the titles of these contestants."""
    with store.reading() as connection:
        query = select(contestants.c.title, contestants.c.spec).where(contestants.c.test_id == test_id)
        among = connection.execute(query.order_by(contestants.c.position)).all()
        trained = {one.title: trained_prompts(store.workspace, one.spec) for one in among}
        if not any(trained.values()):
            return {}
        asked = connection.execute(select(prompts.c.id, prompts.c.messages).where(prompts.c.test_id == test_id)).all()
    found = {
        one.id: [who.title for who in among if not trained[who.title].isdisjoint(_prints(one.messages, who.spec))]
        for one in asked
    }
    return {prompt_id: titles for prompt_id, titles in found.items() if titles}


def fresh_only(
    workspace: Workspace, specs: Sequence[Mapping[str, Any]], asked: Sequence[Sequence[Mapping[str, str]]]
) -> list[int]:
    """The places in `asked` (prompts as messages) of those that no contestant was trained on.

    Raises InputError when none is left.
    """
    trained = [(spec, trained_prompts(workspace, spec)) for spec in specs]
    fresh = [
        i
        for i, messages in enumerate(asked)
        if all(prints.isdisjoint(_prints(messages, spec)) for spec, prints in trained)
    ]
    if asked and not fresh:
        raise InputError(
            "A contestant was trained on every one of these prompts, so they would show memory, not skill",
            given=f"{len(asked)} prompts",
            allowed="prompts that none of the contestants was trained on",
            try_="take the held-out split of the run, or write new ones",
        )
    return fresh


def _prints(messages: Sequence[Mapping[str, str]], spec: Mapping[str, Any]) -> set[str]:
    """The fingerprints under which a prompt may have been trained on: as it is, and with the contestant's system prompt
    in front, as data may hold it."""
    turns = [dict(turn) for turn in messages]
    found = {prompt_fingerprint(turns)}
    if spec.get("system_prompt"):
        found.add(prompt_fingerprint([{"role": "system", "content": spec["system_prompt"]}, *turns]))
    return found


def _teachers(run: RunDirectory, known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs whose training went into `run`."""
    found = [read_json(run.environment_file, {}).get("parent_run")]
    try:
        config = load_config(run.config_file)
    except FtlabError:
        return [one for one in found if one]
    given = [config.model.start, config.model.base, *(reward.model for reward in config.reinforcement.rewards)]
    return [one for one in found if one] + _runs_in(given, known)


def _runs_in(given: Sequence[str | None], known: Mapping[str, RunDirectory]) -> list[str]:
    """The runs that are named, by id or by a path that leads into one."""
    parts = {part for one in given if one for part in (one, *Path(one).parts)}
    return [run_id for run_id in known if run_id in parts]
