"""`python -m ftlab strength RUN`: how much of the trained change to apply, chosen after training."""

from __future__ import annotations

import argparse

from ftlab.cli.output import Progress, print_json, say
from ftlab.cli.parser import Parser, add_run, define
from ftlab.core.workspace import Workspace


def add_strength_command(parser: Parser) -> None:
    define(parser, strength, "strength last --set 0.75")
    add_run(parser)
    parser.add_argument("--rows", type=int, help="most validation rows, and test rows, to measure")
    parser.add_argument(
        "--set",
        type=float,
        metavar="S",
        dest="chosen",
        help="apply this share of the change in chat, exports and blind tests; 1 is as trained. Weights do not change",
    )


def strength(args: argparse.Namespace) -> int:
    from ftlab.evaluation.strengths import choose, lines, measure_strengths
    from ftlab.models.strength import chosen_strength
    from ftlab.training.supervisor import evaluating_here

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run)
    if args.chosen is not None:
        chosen = choose(run, args.chosen)
        if args.json:
            print_json({"run": run.id, "strength": chosen})
        elif chosen == 1:
            print(f"{run.id} is used as trained.")
        else:
            print(
                f"{run.id} is used at strength {chosen:g} in chat, exports and blind tests. Its weights are unchanged."
            )
        return 0
    progress = Progress()
    with evaluating_here(run):
        measured = measure_strengths(run, max_rows=args.rows, progress=progress)
    progress.close("")
    for note in measured["notes"]:
        say(note)
    chosen = chosen_strength(run)
    if args.json:
        print_json(measured | {"chosen": chosen})
        return 0
    for line in lines(measured):
        print(line)
    if chosen != 1:
        print(f"\nchosen     {chosen:g}")
    if measured["proposed"] not in (1, chosen):
        command = f"python -m ftlab strength {run.id} --set {measured['proposed']:g}{workspace.flag}"
        print(f"\nTo choose it: {command}")
    return 0
