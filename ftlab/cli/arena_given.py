"""What somebody names on the command line of `arena`: a workspace, a test, contestants, prompts."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import say
from ftlab.errors import InputError, nearest
from ftlab.parsing import parse_json
from ftlab.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import Row

    from ftlab.arena.specs import ContestantSpec, PromptSpec
    from ftlab.arena.store import Store


def find(store: Store, given: str) -> Row[Any]:
    """The test that is meant. Raises InputError naming the nearest."""
    from ftlab.arena import tests

    known = tests.list_tests(store)
    if not known:
        raise InputError("There is no blind test yet", try_="python -m ftlab arena create")
    if given == "last":
        return known[0]
    found = [one for one in known if one.id == given] or [
        one for one in known if one.title.casefold() == given.casefold()
    ]
    found = found or [one for one in known if one.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    close = nearest(given, [one.title for one in known])
    raise InputError(
        "More than one blind test is called so" if found else "There is no such blind test",
        given=given,
        allowed=", ".join(f"{one.id} ({one.title})" for one in (found or known)[:5]),
        try_=f"did you mean {close}?" if close and not found else "give its id",
    )


def read_contestants(texts: Sequence[str], workspace: Workspace) -> list[ContestantSpec]:
    """What all `--contestant` name; a base that none names is that of the runs beside it. Raises InputError for what
    names nobody, and for a base that could be several."""
    from ftlab.arena.asking import base_beside, split_strength

    every = [_parts(text) for text in texts]
    runs = [workspace.run(split_strength(one.get("run", "last"))[0]) for one in every if one["kind"] == "run"]
    for one in every:
        if one["kind"] == "base" and not one.get("base"):
            base, revision = base_beside(runs)
            one |= {"base": base} | ({"revision": revision} if revision and not one.get("revision") else {})
    return [_contestant(one, workspace) for one in every]


def _parts(text: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            given = parse_json(text)
        except ValueError as error:
            raise InputError("This contestant is no JSON object", given=text, allowed=str(error)) from None
    else:
        kind, _, rest = re.match(r"([^:=]*)([:=]?)(.*)", text, re.DOTALL).groups()
        if kind in ("http", "https"):
            url, _, model = text.partition("#")
            given = {"kind": "endpoint", "url": url, "model": model}
        elif kind in ("base", "run"):
            given = {"kind": kind, **({kind: rest} if rest else {})}
    named = {"base": ("base", "revision"), "run": ("run",), "endpoint": ("url", "model")}
    unknown = set(given) - {"kind", "title", "system_prompt", "examples", *named.get(given.get("kind", ""), ())}
    if given.get("kind") not in named or unknown:
        raise InputError(
            "This is no contestant",
            given=text,
            allowed="base, base=NAME-OR-HUB-ID, run:ID, run:ID@STRENGTH, https://host/v1#model, or JSON with kind",
            try_=f"leave out {', '.join(sorted(unknown))}" if given.get("kind") in named else None,
        )
    return given


def _contestant(given: dict[str, Any], workspace: Workspace) -> ContestantSpec:
    from ftlab.arena.asking import base_contestant, endpoint_contestant, run_contestant

    more = {key: given[key] for key in ("title", "system_prompt", "examples") if given.get(key)}
    if given["kind"] == "base":
        return base_contestant(given["base"], revision=given.get("revision"), **more)
    if given["kind"] == "run":
        return run_contestant(workspace, given.get("run", "last"), **more)
    return endpoint_contestant(given.get("url", ""), given.get("model", ""), **more)


def titled(among: Sequence[ContestantSpec]) -> list[ContestantSpec]:
    """The contestants with titles of their own: equal ones are numbered."""
    from ftlab.arena.specs import ContestantSpec

    seen: dict[str, int] = {}
    found = []
    for one in among:
        seen[one.title] = seen.get(one.title, 0) + 1
        found.append(one if seen[one.title] == 1 else ContestantSpec(f"{one.title} {seen[one.title]}", one.spec))
    return found


def read_prompts(
    source: str | None,
    topic: str | None,
    specs: Sequence[dict[str, Any]],
    workspace: Workspace,
    columns: Mapping[str, str] | None = None,
) -> list[PromptSpec]:
    """The prompts of `source`, by default the held-out rows of the last run among the contestants."""
    from ftlab.arena import prompt_sources

    if source is None:
        runs = [spec["run"] for spec in specs if spec["kind"] == "run"]
        if not runs:
            raise InputError("The test has no prompts", try_="--prompts with a file, data, or run:ID")
        source = prompt_sources.RUN_PREFIX + runs[-1]
    path = Path(source).expanduser()
    if path.is_file():
        return prompt_sources.from_file(path, workspace, topic=topic, columns=columns)
    return prompt_sources.held_out(source, workspace, topic=topic, columns=columns)


def learning_from(store: Any, test_id: str, workspace: Workspace) -> list[str]:
    """The settings with which a run learns from the votes: the result of the run that raters preferred, else of the
    last run, trained further; else the base that answered."""
    from ftlab.arena import tally, tests
    from ftlab.config import load_config
    from ftlab.method_table import CONTINUED

    among = {one.id: one.spec for one in tests.list_contestants(store, test_id)}
    winner = tally.evaluate(store, test_id).get("winner")
    order = ([among[winner]] if winner in among else []) + list(reversed(among.values()))
    for spec in order:
        if spec.get("run"):
            run = workspace.run(spec["run"])
            if not run.adapter.exists() or load_config(run.config_file).method.name in CONTINUED:
                return [f"model.start={run.id}"]
    base = next((spec["base"] for spec in order if spec.get("base")), None)
    return [f"model.base={base}"] if base else []


def open_given(given: argparse.Namespace) -> tuple[Workspace, Any]:
    """The workspace and its blind tests; that of a run which `--contestant` names by its path, unless one is named."""
    from ftlab.arena.asking import split_strength
    from ftlab.arena.store import open_store

    workspace = Workspace.open(given.workspace)
    named = [text.partition(":")[2] for text in getattr(given, "contestant", []) if text.startswith("run:")]
    paths = [split_strength(text)[0] for text in named]
    if given.workspace is None and (path := next((path for path in paths if os.sep in path), None)):
        workspace = Workspace.of(workspace.run(path))
    return workspace, open_store(workspace)


def split_words(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def print_flags(store: Any, test_id: str, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Print what raters might know a side by; returns all of it."""
    from ftlab.arena import tests

    flags = tests.flags(store, test_id)
    for flag in [] if quiet else flags[:20]:
        where = f"prompt {flag['prompt']}, {flag['contestant']}: " if flag["prompt"] else ""
        say(f"look at    {where}{flag['what']}" + (f" ({flag['excerpt']})" if flag["excerpt"] else ""))
    if not quiet and len(flags) > 20:
        say(f"look at    {len(flags) - 20} more: raters might know a side by such answers")
    return flags
