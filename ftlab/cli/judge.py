"""`python -m ftlab judge RUN`: another model, behind any OpenAI-compatible address, compares the stored answers."""

from __future__ import annotations

import argparse
import sys

from ftlab.cli.output import Progress, print_json, say
from ftlab.cli.parser import Parser, add_run, define
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError


def add_judge(parser: Parser) -> None:
    define(parser, judge, "judge last --url http://127.0.0.1:8000/v1 --model my-model --rows 50")
    key = "The key is read from the environment variable FTLAB_JUDGE_KEY. ftlab stores it nowhere."
    parser.epilog = f"{parser.epilog}\n\n{key}"
    add_run(parser)
    parser.add_argument("--url", required=True, help="OpenAI-compatible address, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, help="name of the judge at that address")
    parser.add_argument(
        "--sides", default="base,adapted", metavar="A,B", help="answers to compare (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, help="most rows to judge")
    parser.add_argument("--criteria", help="what makes an answer better, in your words")
    parser.add_argument("--no-reference", action="store_true", help="do not show the reference answer to the judge")
    parser.add_argument("--price-in", type=float, metavar="PER_MILLION", help="price of a million input tokens")
    parser.add_argument("--price-out", type=float, metavar="PER_MILLION", help="price of a million output tokens")
    parser.add_argument("--at-once", type=int, default=4, help="parallel requests (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest reply in tokens (default: %(default)s)")
    parser.add_argument("--yes", action="store_true", help="send without asking; otherwise the cost is shown first")


def judge(args: argparse.Namespace) -> int:
    """Show the cost, ask, and judge. Ctrl+C stops; judgements so far are kept."""
    from ftlab.evaluation.judge import is_current, judge_by_endpoint
    from ftlab.evaluation.judge_plan import build_settings, plan
    from ftlab.report.findings import judge_figures, judge_lines

    run = Workspace.open(args.workspace).run(args.run)
    settings = build_settings(
        args.url,
        args.model,
        sides=[side.strip() for side in args.sides.split(",")],
        rows=args.rows,
        criteria=args.criteria,
        reference=not args.no_reference,
        price_in=args.price_in,
        price_out=args.price_out,
        at_once=args.at_once,
        max_tokens=args.max_tokens,
    )
    planned = plan(run, settings)
    for line in planned.lines():
        say(line)
    if planned.open and not args.yes:
        if args.json:
            print_json({"run": run.id, "plan": planned.as_dict()})
            return 0
        if not sys.stdin.isatty():
            raise InputError("Nothing was sent: the cost needs your confirmation", try_="add --yes")
        if input("Send it? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    progress = Progress()
    try:
        judgement = judge_by_endpoint(run, settings, progress=progress)
    finally:
        progress.close("")
    if args.json:
        print_json({"run": run.id, **judgement})
        return 0
    print()
    for name, number in judge_figures(judgement):
        print(f"{name:<32} {number:>6}")
    print()
    for line in judge_lines(judgement, current=is_current(run, judgement)):
        print(line)
    return 0
