"""`python -m ftlab advise`: prompting, retrieval, fine-tuning or pretraining, with reasons and figures of a run."""

from __future__ import annotations

import argparse
import sys

from ftlab.cli.output import print_json
from ftlab.cli.parser import Parser, define
from ftlab.core.workspace import Workspace
from ftlab.evaluation.advisor import BUDGETS, CHANGES, FRESHNESS, LATENCIES, QUESTIONS, Needs, build_needs


def add_advise(parser: Parser) -> None:
    define(parser, advise, "advise --change style,facts --freshness monthly --examples 300")
    parser.add_argument("--change", help=f"what should change, separated by commas: {', '.join(CHANGES)}")
    parser.add_argument("--freshness", help=f"how often the knowledge changes: {', '.join(FRESHNESS)}")
    parser.add_argument("--examples", help="number of examples you have (prompts with the right answer)")
    parser.add_argument("--text-mb", metavar="MB", help="megabytes of plain text you have")
    parser.add_argument("--budget", help=", ".join(BUDGETS))
    parser.add_argument("--latency", help=", ".join(LATENCIES))
    parser.add_argument("--run", help="use the figures of this run's evaluation")


def advise(args: argparse.Namespace) -> int:
    """Without --change, and on a terminal, asks the form question by question."""
    from ftlab.evaluation.advisor import STANDS
    from ftlab.evaluation.advisor import advise as give_advice
    from ftlab.report.measures import evidence_of

    evidence = None
    if args.run:
        evidence = evidence_of(Workspace.open(args.workspace).run(args.run).with_ways().comparison())
    advice = give_advice(_needs(args), evidence)
    if args.json:
        print_json(advice)
        return 0
    print(advice.summary)
    for line in advice.figures:
        print(line)
    for recommendation in advice.recommendations:
        print(f"\n{recommendation.title}: {STANDS[recommendation.stand]}")
        for reason in recommendation.reasons:
            print(f"  - {reason.text}" + (f"\n    {reason.source}" if reason.source else ""))
    if advice.steps:
        print("\nNext:")
        for step in advice.steps:
            print(f"  - {step}")
    return 0


def _needs(args: argparse.Namespace) -> Needs:
    answers = {question.name: getattr(args, question.name) for question in QUESTIONS}
    if answers["change"] is None and sys.stdin.isatty():
        for question in QUESTIONS:
            if answers[question.name] is None:
                print(f"\n{question.title} {question.help}", file=sys.stderr)
                for name, meaning in question.options.items():
                    print(f"  {name:<10} {meaning}", file=sys.stderr)
                answers[question.name] = input("> ").strip() or None
    change = (answers.pop("change") or "").split(",")
    return build_needs(change, **{name: value for name, value in answers.items() if value is not None})
