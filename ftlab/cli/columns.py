"""`--column ROLE=COLUMN`: which column of the data plays which part, in one spelling for every command that takes data.

What is named is kept with the data (`ftlab.data.named`), so the next command need not be told again.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.data.named import forget, remember, said_in
from ftlab.errors import InputError
from ftlab.evaluation.metrics.own import name_files_of
from ftlab.workspace import Workspace

_DETECT = "auto"


def add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="ROLE=COLUMN",
        help="which column is the prompt, the completion, the text, the label, ...; once for each, and known from then "
        f"on (--column {_DETECT} forgets it and detects them)",
    )


def named_columns(given: argparse.Namespace) -> dict[str, str]:
    """What `--column` names, by role. Raises InputError for what is no pair."""
    named = {}
    for text in given.column:
        role, _, column = text.partition("=")
        if text == _DETECT:
            continue
        if not role.strip() or not column.strip():
            raise InputError(
                "A column is written ROLE=COLUMN", given=text, allowed=f'for example prompt="Guest writes"; {_DETECT}'
            )
        named[role.strip()] = column
    return named


def overrides(given: argparse.Namespace) -> list[str]:
    """`--set` and `--column` as settings of a run; a column beats what `--set` says of all of them."""
    named = named_columns(given)
    return [*given.set, *([f"data.columns={json.dumps(named, ensure_ascii=False)}"] if named else [])]


def read_config(given: argparse.Namespace, workspace: Workspace) -> RunConfig:
    """The run that the YAML file, `--set` and `--column` describe. Raises InputError as `load_config` does."""
    config = load_config(given.config, overrides(given))
    name_files_of(config)
    if _DETECT in given.column:
        forget(config.data, workspace)
    return config


def keeping(command: Callable[[argparse.Namespace], int], read: Callable[..., Any]) -> Callable[..., int]:
    """`command`, after which the workspace remembers the columns named in what `read(given)` gives, if it went well."""

    @functools.wraps(command)
    def run(given: argparse.Namespace) -> int:
        data = read(given)
        if _DETECT in given.column:
            forget(data, Workspace.open(given.workspace))
        code = command(given)
        if code == 0 and said_in(data):
            remember(data, Workspace.open(given.workspace))
        return code

    return run
