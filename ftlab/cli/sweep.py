"""`python -m ftlab sweep start | show`: the same run with several values of one or two settings, compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftlab.cli.columns import add_columns, read_config
from ftlab.cli.output import print_json, say
from ftlab.errors import FtlabError, InputError
from ftlab.wording import duration
from ftlab.workspace import Workspace

if TYPE_CHECKING:
    from ftlab.evaluation.seeds import SeedsVerdict

Add = Callable[..., argparse.ArgumentParser]


def register(group: Any, add: Add) -> None:
    """Add the commands to the group `sweep`; `add(group, name, command, help)` is the one of `cli`."""
    one = add(group, "start", start, "start a run for every combination of the values; they wait in the queue")
    one.add_argument("config", nargs="?", help="YAML file; without it the defaults and --set")
    one.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="change one setting")
    add_columns(one)
    one.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE,VALUE",
        help="the values to try, e.g. optimisation.learning_rate=1e-4,3e-4; once or twice",
    )
    one = add(group, "show", show, "the runs of a sweep, the best first")
    one.add_argument("sweep", nargs="?", default="last")


def start(given: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(given.workspace)
    config = read_config(given, workspace)
    vary: dict[str, list[Any]] = {}
    for text in given.vary:
        path, sign, values = text.partition("=")
        if not sign:
            raise InputError("--vary takes a setting and its values", given=text, allowed="method.rank=8,16,32")
        vary[path.strip()] = sweep.read_values(path.strip(), values)
    started = sweep.submit_sweep(config, vary, workspace)
    look = f"python -m ftlab sweep show {started.id}{workspace.flag}"
    say(f"{len(started.runs)} runs wait in the queue. Compare them with: {look}")
    if given.json:
        print_json({"sweep": started.id, "runs": started.runs})
    return 0


def show(given: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(given.workspace)
    found = sweep.find_sweep(given.sweep, workspace)
    rows = sweep.compare(found, workspace)
    try:
        verdict = sweep.verdict(found, workspace)
    except FtlabError as error:
        verdict = None
        say(str(error))
    if given.json:
        more = {"verdict": asdict(verdict)} if verdict else {}
        print_json({"sweep": found.id, "settings": found.settings, "runs": rows} | more)
        return 0
    print(f"{found.id}: {len(rows)} runs, by exact match, then by validation loss; small differences may be chance")
    for row in rows:
        values = ", ".join(f"{path.split('.')[-1]} {value}" for path, value in row["values"].items())
        loss = "" if row["validation_loss"] is None else f"validation loss {row['validation_loss']:.4f}"
        match = "" if row["exact_match"] is None else f"exact match {row['exact_match']:.0%}"
        shares = (
            ("general", row["general_accuracy"]),
            ("replayed kinds", row["general_accuracy_replayed"]),
            ("as the base", row["base_agreement"]),
        )
        kept = ", ".join(f"{what} {share:.0%}" for what, share in shares if share is not None)
        took = "" if row["seconds"] is None else duration(row["seconds"])
        print(f"{values:<36} {row['state']:<10} {loss:<24} {match:<18} {kept:<33} {took:<12} {row['run']}".rstrip())
    if verdict:
        print_seeds(verdict)
    return 0


def print_seeds(verdict: SeedsVerdict) -> None:
    """A verdict on seeds: a line for each measure, then the sentence."""
    from ftlab.evaluation.seeds import difference_text, measure_text

    print()
    for one in verdict.measures:
        change = difference_text(one)
        print(f"{measure_text(one)}{f'; change {change}' if change else ''}")
    print(f"\n{verdict.text}")
    for note in verdict.notes:
        print(f"note: {note}")
