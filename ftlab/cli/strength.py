"""`python -m ftlab strength RUN`: how much of what training changed to use, chosen after training."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ftlab.cli.output import Progress, print_json, say
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `strength` to the commands of `python -m ftlab`."""
    one = add(commands, "strength", strength, "how much of what training changed to use: measure, propose, choose")
    one.add_argument("run", help="id of the run, the beginning of it, or `last`")
    one.add_argument("--rows", type=int, help="validation rows, and test rows, at most")
    one.add_argument(
        "--set",
        type=float,
        metavar="S",
        dest="chosen",
        help="choose this strength for chat, exports and blind tests; 1 is as trained. No weight changes",
    )


def strength(given: argparse.Namespace) -> int:
    from ftlab.evaluation.strengths import choose, lines, measure_strengths
    from ftlab.models.strength import chosen_strength
    from ftlab.training.supervisor import evaluating_here

    run = Workspace.open(given.workspace).run(given.run)
    if given.chosen is not None:
        kept = choose(run, given.chosen)
        if given.json:
            print_json({"run": run.id, "strength": kept})
        elif kept == 1:
            print(f"{run.id} is used as trained.")
        else:
            print(f"{run.id} is used at strength {kept:g} in chat, exports and blind tests. Its weights are unchanged.")
        return 0
    progress = Progress()
    with evaluating_here(run):
        found = measure_strengths(run, max_rows=given.rows, progress=progress)
    progress.close("")
    for note in found["notes"]:
        say(note)
    if given.json:
        print_json(found | {"chosen": chosen_strength(run)})
        return 0
    for line in lines(found):
        print(line)
    if (at := chosen_strength(run)) != 1:
        print(f"\nchosen     {at:g}")
    if found["proposed"] not in (1, at):
        print(f"\nTo choose it: python -m ftlab strength {run.id} --set {found['proposed']:g}")
    return 0
