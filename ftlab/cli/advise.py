"""`python -m ftlab advise`: prompting, retrieval, fine-tuning or pretraining, with reasons and one's own figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from ftlab.cli.output import print_json
from ftlab.evaluation.advisor_form import BUDGETS, CHANGES, FRESHNESS, LATENCIES, QUESTIONS, Needs, build_needs
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `advise` to the commands of `python -m ftlab`."""
    one = add(commands, "advise", advise, "prompting, retrieval, fine-tuning or pretraining: what suits, and why")
    one.add_argument("--change", help=f"what should change, by commas: {', '.join(CHANGES)}")
    one.add_argument("--freshness", help=f"how often the knowledge changes: {', '.join(FRESHNESS)}")
    one.add_argument("--examples", help="examples at hand (prompts with the right answer)")
    one.add_argument("--text-mb", metavar="MB", help="plain text at hand, in megabytes")
    one.add_argument("--budget", help=f"{', '.join(BUDGETS)}")
    one.add_argument("--latency", help=f"{', '.join(LATENCIES)}")
    one.add_argument("--run", help="use the figures of this run's evaluation")


def advise(given: argparse.Namespace) -> int:
    """Without --change, and on a terminal, the form is asked question by question."""
    from ftlab.evaluation.advisor import STANDS
    from ftlab.evaluation.advisor import advise as work_out
    from ftlab.sharing.evidence import evidence_of

    evidence = None
    if given.run:
        evidence = evidence_of(Workspace.open(given.workspace).run(given.run).with_side("prompted").comparison())
    found = work_out(_needs(given), evidence)
    if given.json:
        print_json(found.as_dict())
        return 0
    print(found.summary)
    for line in found.figures:
        print(line)
    for one in found.recommendations:
        print(f"\n{one.title}: {STANDS[one.stand]}")
        for reason in one.reasons:
            print(f"  - {reason.text}" + (f"\n    {reason.source}" if reason.source else ""))
    if found.steps:
        print("\nNext:")
        for step in found.steps:
            print(f"  - {step}")
    return 0


def _needs(given: argparse.Namespace) -> Needs:
    answers = {question.name: getattr(given, question.name) for question in QUESTIONS}
    if answers["change"] is None and sys.stdin.isatty():
        for question in QUESTIONS:
            if answers[question.name] is None:
                print(f"\n{question.title} {question.help}", file=sys.stderr)
                for name, meaning in question.options.items():
                    print(f"  {name:<10} {meaning}", file=sys.stderr)
                answers[question.name] = input("> ").strip() or None
    change = (answers.pop("change") or "").split(",")
    return build_needs(change, **{name: value for name, value in answers.items() if value is not None})
