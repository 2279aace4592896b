"""The inputs of `python -m ftlab arena`: workspace, test, contestants and prompts."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import say
from ftlab.core.parsing import parse_json
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError, nearest

if TYPE_CHECKING:
    from sqlalchemy import Row

    from ftlab.arena.asking import ContestantSpec, PromptSpec
    from ftlab.arena.results import FlagJson
    from ftlab.arena.store import Store


def find_test(store: Store, name: str) -> Row[Any]:
    """The test called `name`: a title, an id, its first characters, or `last`. Raises InputError naming the nearest."""
    from ftlab.arena import blind_tests

    if not name.strip():  # such as an unset shell variable
        raise InputError("The name of the blind test is empty", try_="leave it out for the last one")
    known = blind_tests.list_tests(store)
    if not known:
        raise InputError(
            "There is no blind test yet", try_="python -m ftlab arena create --contestant base --contestant run:last"
        )
    if name == "last":
        return known[0]
    matches = (
        [test for test in known if test.id == name]
        or [test for test in known if test.title.casefold() == name.casefold()]
        or [test for test in known if test.id.startswith(name)]
    )
    if len(matches) == 1:
        return matches[0]
    close = nearest(name, [test.title for test in known])
    raise InputError(
        "More than one blind test has this name" if matches else "There is no such blind test",
        given=name,
        allowed=", ".join(f"{test.id} ({test.title})" for test in (matches or known)[:5]),
        try_=f"did you mean {close}?" if close and not matches else "name it by its id",
    )


def read_contestants(texts: Sequence[str], workspace: Workspace) -> list[ContestantSpec]:
    """The contestants of `--contestant`; `base` without a name is the base of the runs beside it. Raises InputError for
    texts that name no contestant, and for runs of several bases."""
    from ftlab.arena.asking import base_beside, split_strength

    all_parts = [_parts(text) for text in texts]
    names = [parts.get("run", "last") for parts in all_parts if parts["kind"] == "run"]
    runs = [workspace.run(split_strength(name)[0]) for name in names]
    for parts in all_parts:
        if parts["kind"] == "base" and not parts.get("base"):
            base, revision = base_beside(runs)
            parts |= {"base": base} | ({"revision": revision} if revision and not parts.get("revision") else {})
    return [_contestant(parts, workspace) for parts in all_parts]


def _parts(text: str) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            parts = parse_json(text)
        except ValueError as error:
            raise InputError("The contestant is not valid JSON", given=text, allowed=str(error)) from None
    else:
        kind = re.split("[:=]", text, maxsplit=1)[0]
        rest = text[len(kind) + 1 :]
        if kind in ("http", "https"):
            url, _, model = text.partition("#")
            parts = {"kind": "endpoint", "url": url, "model": model}
        elif kind in ("base", "run"):
            parts = {"kind": kind, **({kind: rest} if rest else {})}
    named = {"base": ("base", "revision"), "run": ("run",), "endpoint": ("url", "model")}
    unknown = set(parts) - {"kind", "title", "system_prompt", "examples", *named.get(parts.get("kind", ""), ())}
    if parts.get("kind") not in named or unknown:
        raise InputError(
            "Unknown contestant",
            given=text,
            allowed="base, base=NAME-OR-HUB-ID, run:ID, run:ID@STRENGTH, https://host/v1#model, or JSON with kind",
            try_=f"leave out {', '.join(sorted(unknown))}" if parts.get("kind") in named else None,
        )
    return parts


def _contestant(parts: dict[str, Any], workspace: Workspace) -> ContestantSpec:
    from ftlab.arena.asking import base_contestant, endpoint_contestant, run_contestant

    more = {key: parts[key] for key in ("title", "system_prompt", "examples") if parts.get(key)}
    if parts["kind"] == "base":
        return base_contestant(parts["base"], revision=parts.get("revision"), **more)
    if parts["kind"] == "run":
        return run_contestant(workspace, parts.get("run", "last"), **more)
    return endpoint_contestant(parts.get("url", ""), parts.get("model", ""), **more)


def with_titles(contestants: Sequence[ContestantSpec]) -> list[ContestantSpec]:
    """`contestants` with distinct titles: equal ones are numbered."""
    from ftlab.arena.asking import ContestantSpec

    counts: dict[str, int] = {}
    renamed = []
    for contestant in contestants:
        title, spec = contestant.title, contestant.spec
        counts[title] = counts.get(title, 0) + 1
        renamed.append(contestant if counts[title] == 1 else ContestantSpec(f"{title} {counts[title]}", spec))
    return renamed


def text_or_file(value: str) -> str:
    """The text of a file, or `value` itself if it names none. Raises InputError for a file that is missing or no text:
    its name is not what raters should read."""
    value = value.strip()
    try:
        path = Path(value).expanduser()
        is_file = bool(value) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a long text is no path
        return value
    if is_file:
        try:
            return path.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            raise InputError("This file cannot be read as text", given=value, allowed="a text file in UTF-8") from None
    if re.fullmatch(r"\S+\.(txt|md)", value, re.IGNORECASE):
        raise InputError("There is no such file", given=value, allowed="a text file in UTF-8, or the text itself")
    return value


def read_prompts(
    source: str | None,
    topic: str | None,
    specs: Sequence[dict[str, Any]],
    workspace: Workspace,
    columns: Mapping[str, str] | None = None,
    *,
    conversations: bool = False,
) -> list[PromptSpec]:
    """The prompts of `source` (default: the held-out rows of the last run among the contestants)."""
    from ftlab.arena import prompt_sources

    if source is None:
        runs = [spec["run"] for spec in specs if spec["kind"] == "run"]
        if not runs:
            raise InputError("The test has no prompts", try_="--prompts with a file, data, or run:ID")
        source = prompt_sources.RUN_PREFIX + runs[-1]
    return prompt_sources.named(source, workspace, topic=topic, columns=columns, conversations=conversations)


def learning_from(store: Store, test_id: str, workspace: Workspace) -> list[str]:
    """The settings of a run that trains on the votes: what it continues, or the base that answered."""
    from ftlab.arena.preferences import start_after

    run, base = start_after(store, test_id, workspace)
    return [f"model.start={run}"] if run else [f"model.base={base}"] if base else []


def open_tests(args: argparse.Namespace) -> tuple[Workspace, Any]:
    """The workspace and its blind tests. Without --workspace, a run that `--contestant` names by its path decides."""
    from ftlab.arena.asking import split_strength
    from ftlab.arena.store import open_store

    workspace = Workspace.open(args.workspace)
    named = [text.partition(":")[2] for text in getattr(args, "contestant", []) if text.startswith("run:")]
    paths = [split_strength(text)[0] for text in named]
    if args.workspace is None and (path := next((path for path in paths if os.sep in path), None)):
        workspace = Workspace.of(workspace.run(path))
    return workspace, open_store(workspace)


def split_words(text: str) -> tuple[str, ...]:
    """The parts of `text` between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def print_flags(store: Any, test_id: str, *, quiet: bool = False) -> list[FlagJson]:
    """Print what might reveal a side to raters; returns all of it."""
    from ftlab.arena import blind_tests

    flags = blind_tests.flags(store, test_id)
    for flag in [] if quiet else flags[:20]:
        where = f"prompt {flag['prompt']}, {flag['contestant']}: " if flag["prompt"] else ""
        say(f"look at    {where}{flag['what']}" + (f" ({flag['excerpt']})" if flag["excerpt"] else ""))
    if not quiet and len(flags) > 20:
        say(f"look at    {len(flags) - 20} more: such answers might reveal a side to raters")
    return flags
