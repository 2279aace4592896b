"""`python -m ftlab preflight`: what a run will take, measured before it starts."""

from __future__ import annotations

import argparse

from ftlab.cli.output import Progress, print_json, say
from ftlab.cli.parser import Parser, add_price, define
from ftlab.cli.settings import add_settings, read_config
from ftlab.core.steps import Steps
from ftlab.core.workspace import Workspace


def add_preflight(parser: Parser) -> None:
    define(parser, preflight, "preflight run.yaml --model.base smollm2 --price 0.40")
    add_settings(parser)
    add_price(parser)


def preflight(args: argparse.Namespace) -> int:
    """Returns 0 if the run fits or the measurement cannot tell, 1 if it does not fit."""
    from ftlab.training.preflight.finding import as_lines
    from ftlab.training.preflight.measure import preflight as measure

    workspace = Workspace.open(args.workspace)
    config = read_config(args, workspace)
    progress = Progress()
    try:
        # Ctrl-C ends the measurement and its process.
        with Steps(measure(config, workspace, price_per_hour=args.price)) as steps:
            for phase in steps:
                progress.line(phase, phase)
    finally:
        progress.close("")
    estimate = steps.result
    if args.json:
        print_json(estimate.as_dict())
    else:
        for line in as_lines(estimate):
            print(line)
    if estimate.fits is False:
        say("The run does not fit.")
        return 1
    return 0
