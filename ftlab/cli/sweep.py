"""`python -m ftlab sweep start | show`: the same run with several values of one or two settings, compared."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import print_json, say
from ftlab.cli.parser import Parser, add_command, add_group
from ftlab.cli.settings import add_settings, read_config
from ftlab.core.words import duration
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError

if TYPE_CHECKING:
    from ftlab.evaluation.seeds import SeedsVerdict
    from ftlab.training.sweep import SweepRowJson


def add_sweep(parser: Parser) -> None:
    group = add_group(parser)
    command = add_command(
        group,
        "start",
        start,
        "Queue a run for every combination of the values",
        "sweep start run.yaml --vary optimisation.learning_rate=1e-4,3e-4 --vary method.rank=8,16",
    )
    add_settings(command)
    command.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE,VALUE",
        help="values to try, such as optimisation.learning_rate=1e-4,3e-4; once or twice",
    )
    command = add_command(group, "show", show, "Compare the runs of a sweep, best first", "sweep show last")
    command.add_argument("sweep", nargs="?", default="last", help="id of the sweep (default: the last one)")


def start(args: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(args.workspace)
    config = read_config(args, workspace)
    vary: dict[str, list[Any]] = {}
    for text in args.vary:
        path, sign, values = text.partition("=")
        if not sign:
            raise InputError("--vary takes a setting and its values", given=text, allowed="method.rank=8,16,32")
        vary[path.strip()] = sweep.read_values(path.strip(), values)
    started = sweep.submit_sweep(config, vary, workspace)
    look = f"python -m ftlab sweep show {started.id}{workspace.flag}"
    say(f"Queued {len(started.runs)} runs. Compare them with: {look}")
    if args.json:
        print_json({"sweep": started.id, "runs": started.runs})
    return 0


def show(args: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(args.workspace)
    chosen = sweep.find_sweep(args.sweep, workspace)
    rows = sweep.compare(chosen, workspace)
    try:
        verdict = sweep.verdict(chosen, workspace)
    except FtlabError as error:
        verdict = None
        say(str(error))
    if args.json:
        more = {"verdict": asdict(verdict)} if verdict else {}
        print_json({"sweep": chosen.id, "settings": chosen.settings, "runs": rows} | more)
        return 0
    print(f"{chosen.id}: {len(rows)} runs, by exact match, then validation loss; small differences may be chance")
    for row in rows:
        print(_row_text(row))
    if verdict:
        print_seeds(verdict)
    return 0


def _row_text(row: SweepRowJson) -> str:
    values = ", ".join(f"{path.split('.')[-1]} {value}" for path, value in row["values"].items())
    loss = "" if row["validation_loss"] is None else f"validation loss {row['validation_loss']:.4f}"
    match = "" if row["exact_match"] is None else f"exact match {row['exact_match']:.0%}"
    shares = (
        ("general", row["general_accuracy"]),
        ("replayed kinds", row["general_accuracy_replayed"]),
        ("as the base", row["base_agreement"]),
    )
    retained = ", ".join(f"{what} {share:.0%}" for what, share in shares if share is not None)
    time = "" if row["seconds"] is None else duration(row["seconds"])
    return f"{values:<36} {row['state']:<10} {loss:<24} {match:<18} {retained:<33} {time:<12} {row['run']}".rstrip()


def print_seeds(verdict: SeedsVerdict) -> None:
    """A verdict on seeds: a line for each measure, then the sentence."""
    from ftlab.evaluation.seeds import difference_text, measure_text

    print()
    for measure in verdict.measures:
        change = difference_text(measure)
        print(f"{measure_text(measure)}{f'; change {change}' if change else ''}")
    print(f"\n{verdict.text}")
    for note in verdict.notes:
        print(f"note: {note}")
