"""`python -m ftlab judge RUN`: another model, behind any OpenAI-compatible address, compares the stored answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from ftlab.cli.output import Progress, print_json, say
from ftlab.errors import InputError
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `judge` to the commands of `python -m ftlab`."""
    one = add(commands, "judge", judge, "let another model compare the answers, in both orders")
    one.add_argument("run", help="id of an evaluated run, the beginning of it, or `last`")
    one.add_argument("--url", required=True, help="an OpenAI-compatible address, like http://127.0.0.1:8000/v1")
    one.add_argument("--model", required=True, help="the name by which the endpoint knows the judge")
    one.add_argument("--sides", default="base,adapted", metavar="A,B", help="whose answers (default: base,adapted)")
    one.add_argument("--rows", type=int, help="rows at most")
    one.add_argument("--criteria", help="what makes an answer better, in your words")
    one.add_argument("--no-reference", action="store_true", help="do not show the reference answer")
    one.add_argument("--price-in", type=float, metavar="PER_MILLION", help="price of a million input tokens")
    one.add_argument("--price-out", type=float, metavar="PER_MILLION", help="price of a million output tokens")
    one.add_argument("--at-once", type=int, default=4, help="requests at once (default: 4)")
    one.add_argument("--max-tokens", type=int, default=1024, help="longest reply (default: 1024)")
    one.add_argument("--yes", action="store_true", help="do it; without this the cost is shown and you are asked")
    one.epilog = "The key is read from the environment variable FTLAB_JUDGE_KEY and kept nowhere else."


def judge(given: argparse.Namespace) -> int:
    """Show what it will cost, ask, and judge. Ctrl-C ends it; what is judged is kept."""
    from ftlab.evaluation.judge import is_current, judge_by_endpoint
    from ftlab.evaluation.judge_plan import build_settings, plan
    from ftlab.sharing.judged import figure_rows, lines_of

    run = Workspace.open(given.workspace).run(given.run)
    settings = build_settings(
        given.url,
        given.model,
        sides=[side.strip() for side in given.sides.split(",")],
        rows=given.rows,
        criteria=given.criteria,
        reference=not given.no_reference,
        price_in=given.price_in,
        price_out=given.price_out,
        at_once=given.at_once,
        max_tokens=given.max_tokens,
    )
    planned = plan(run, settings)
    for line in planned.lines():
        say(line)
    if planned.open and not given.yes:
        if given.json:
            print_json({"run": run.id, "plan": planned.as_dict()})
        elif not sys.stdin.isatty():
            raise InputError("Nothing was sent: the cost needs a yes", try_="add --yes if that is what you want")
        if given.json or input("Send it? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    show = Progress()
    try:
        judgement = judge_by_endpoint(run, settings, progress=show)
    finally:
        show.close("")
    if given.json:
        print_json({"run": run.id, **judgement})
        return 0
    print()
    for name, number in figure_rows(judgement):
        print(f"{name:<32} {number:>6}")
    print()
    for line in lines_of(judgement, current=is_current(run, judgement)):
        print(line)
    return 0
