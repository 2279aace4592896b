"""`python -m ftlab preflight`: what a run will take, measured before it starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ftlab.cli.columns import add_columns, read_config
from ftlab.cli.output import Progress, print_json, say
from ftlab.errors import InputError
from ftlab.steps import Steps
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `preflight` to the commands of `python -m ftlab`."""
    one = add(commands, "preflight", preflight, "measure a run before it starts: memory, time, cost, warnings")
    one.add_argument("config", nargs="?", help="YAML file; without it the defaults and --set")
    one.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="change one setting")
    add_columns(one)
    one.add_argument("--price", type=float, metavar="PER_HOUR", help="price of the machine per hour, to know the cost")


def preflight(given: argparse.Namespace) -> int:
    """Returns 0 when the run fits or nobody can say, 1 when it does not fit."""
    from ftlab.training.preflight.measure import preflight as measure

    if given.price is not None and given.price < 0:
        raise InputError("The price per hour is negative", given=given.price, allowed="0 or more")
    workspace = Workspace.open(given.workspace)
    config = read_config(given, workspace)
    show = Progress()
    try:
        # Ctrl-C ends the measurement and its process.
        with Steps(measure(config, workspace, price_per_hour=given.price)) as steps:
            for phase in steps:
                show.line(phase, phase)
    finally:
        show.close("")
    found = steps.found
    if given.json:
        print_json(found.as_dict())
    else:
        from ftlab.training.preflight.text import as_lines

        for line in as_lines(found):
            print(line)
    if found.fits is False:
        say("It does not fit.")
        return 1
    return 0
