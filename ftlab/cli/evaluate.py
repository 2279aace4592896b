"""`python -m ftlab evaluate`: runs against their base, on held-out rows or other data."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.cli.output import (
    Progress,
    print_before_after,
    print_json,
    print_measures,
    print_preferences,
    print_table,
    print_tasks,
)
from ftlab.cli.parser import Parser, add_run, define
from ftlab.config import load_config
from ftlab.config.evaluation import names
from ftlab.core.comparison import ComparisonJson, scores_of
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.metrics.own import name_files
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED


def add_evaluate(parser: Parser) -> None:
    define(parser, evaluate, "evaluate last --data other.jsonl --measures exact_match,chrf --rows 100")
    add_run(parser, nargs="+")
    parser.add_argument("--rows", type=int, help="most test rows to use")
    parser.add_argument("--data", metavar="SUITE", help="a sample, a file or a Hub id in place of the held-out rows")
    parser.add_argument("--measures", help="measures, separated by commas (default: those that suit the data)")
    parser.add_argument("--metric", metavar="FILE", help="Python file with your own metric (its code is run)")
    parser.add_argument("--labels", help="labels of a classification, separated by commas (default: those in the data)")
    parser.add_argument("--likelihood", action="store_true", help="also classify by the most likely label")
    parser.add_argument("--schema", metavar="FILE", help="JSON schema that answers must match")
    parser.add_argument("--pattern", help="regular expression that a good answer matches")
    parser.add_argument(
        "--samples", type=int, metavar="K", help="answers per row: their mean, and pass^k (all K right)"
    )
    parser.add_argument("--temperature", type=float, help="sampling temperature (default: 0, greedy decoding)")
    parser.add_argument(
        "--probes",
        metavar="FILE",
        help="tests of forgetting, separated by commas: self, known_choices, known_facts, files, Hub ids, or none",
    )
    parser.add_argument("--prompted", action="store_true", help="also ask the base with examples in its prompt")
    parser.add_argument("--system-prompt", help="system prompt of the prompted base (implies --prompted)")
    parser.add_argument("--examples", type=int, metavar="K", help="examples of the prompted base (implies --prompted)")
    parser.add_argument(
        "--strength", type=float, metavar="S", help="share of the trained change: 0 (base), 1 (as trained), up to 1.25"
    )
    parser.add_argument(
        "--reward-model",
        metavar="RUN",
        help="only compare the answers before and after training with this reward model",
    )
    parser.add_argument(
        "--tasks",
        action="append",
        metavar="NAME_OR_FOLDER",
        help="run tasks of lm-evaluation-harness instead (repeatable), with --rows questions each; needs "
        "pip install -e .[harness]",
    )


def evaluate(args: argparse.Namespace) -> int:
    from ftlab.evaluation.compare import evaluate_whole
    from ftlab.training.supervisor import evaluating_here

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run[0])
    # The first run may be a path into another workspace: `last` beside it means the last run there.
    owner = Workspace.of(run)
    others = [owner.run(name) for name in args.run[1:]]
    judge = owner.run(args.reward_model) if args.reward_model else None
    began = time.monotonic()
    name_files(names(args.metric))
    if args.strength is not None and (args.tasks or judge):
        raise InputError(
            "--strength works on held-out rows only",
            given="--strength with --tasks or --reward-model",
            try_="leave one of them out",
        )
    if args.tasks:
        return _evaluate_tasks([run, *others], args)
    with evaluating_here(run):
        result = evaluate_whole(
            run,
            max_rows=args.rows,
            reward_model=judge,
            others=others,
            suite=args.data,
            settings=_settings(args),
            strength=args.strength,
            progress=Progress(),
        )
    if "preferences" in result:
        print_preferences(result["preferences"])
    if "comparison" in result:
        _show(run, result["comparison"])
    if "before_after" in result:
        print_before_after(result["before_after"])
    if args.json:
        seconds = round(time.monotonic() - began, 1)
        if set(result) == {"preferences"}:
            print_json(result["preferences"])
        else:
            figures: dict[str, Any] = {"run": run.id}
            more = {"before_after": result["before_after"]} if "before_after" in result else {}
            if comparison := result.get("comparison"):
                figures = scores(run, comparison)
                figures["measures"] = {measure["name"]: measure["values"] for measure in comparison["measures"]}
            print_json(figures | more | {"seconds": seconds})
    return 0


def show_comparison(run: RunDirectory, comparison: ComparisonJson) -> None:
    """Write the report of `run`; print the table, commands that may help, and the path of the report."""
    from ftlab.evaluation.remedies import commands
    from ftlab.report.report import write_report

    report = write_report(run)
    print_table(comparison)
    if remedies := commands(comparison, load_config(run.config_file), run.config_file):
        print("\nWhat may help:")
    for title, command in remedies:
        print(f"  {title}\n    {command}")
    print(f"\nreport     {report}")


def scores(run: RunDirectory, comparison: ComparisonJson) -> dict[str, Any]:
    """The JSON of a comparison: the main scores of base and adapted."""
    names = ["perplexity", "bits_per_byte", "bleu", "exact_match", NOT_REPLAYED, REPLAYED]
    names += ["base_agreement", "base_kl", "rows"]
    known: dict[str, Mapping[str, Any]] = {side: scores_of(comparison, side) for side in ("base", "adapted")}
    sides = {side: {name: values[name] for name in names if name in values} for side, values in known.items()}
    return {"run": run.id, "directory": str(run.path)} | sides


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the section `evaluation` that the command line sets."""
    values = {
        "measures": args.measures,
        "labels": args.labels,
        "likelihood": args.likelihood or None,
        "schema_file": args.schema,
        "pattern": args.pattern,
        "own_metrics": args.metric,
        "samples": args.samples,
        "temperature": args.temperature,
        "probes": args.probes,
        "prompted": args.prompted or None,
        "system_prompt": args.system_prompt,
        "examples": args.examples,
    }
    settings = {name: value for name, value in values.items() if value is not None}
    if args.system_prompt is not None or args.examples is not None:
        settings["prompted"] = True
    return settings


def _show(run: RunDirectory, comparison: ComparisonJson) -> None:
    from ftlab.report.report import write_report

    if question := comparison["question"]["name"]:
        print_measures(comparison)
        print(f"\nasked      {comparison['question']['text']}")
        print(f"results    {run.question(question).comparison_file}")
        if own := run.comparison():
            print(f"           the run keeps its own comparison, on {own['adapted']['rows']:,} held-out rows")
        else:
            print("           the run has no comparison on its held-out rows yet")
    elif len(comparison["sides"]) == 2:
        show_comparison(run, comparison)
    else:
        print_measures(comparison)
        print(f"\nreport     {write_report(run)}")


def _evaluate_tasks(runs: Sequence[RunDirectory], args: argparse.Namespace) -> int:
    from ftlab.evaluation.harness import evaluate_tasks

    results = [evaluate_tasks(run, args.tasks, limit=args.rows, progress=Progress()) for run in runs]
    for result in results:
        print_tasks(result)
    if args.json:
        print_json(results[0] if len(results) == 1 else {"runs": results})
    return 0
