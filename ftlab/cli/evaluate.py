"""`python -m ftlab evaluate`: runs against their base, on held-out rows or other data."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
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
from ftlab.config import load_config
from ftlab.config_evaluation import names
from ftlab.errors import InputError
from ftlab.evaluation.metrics.own import name_files
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace


def register(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the commands of `python -m ftlab`."""
    one = add(commands, "evaluate", evaluate, "compare runs with their base on held-out rows")
    one.add_argument("run", nargs="+", help="id of the run, the beginning of it, or `last`; several are compared")
    one.add_argument("--rows", type=int, help="test rows at most")
    one.add_argument("--data", metavar="SUITE", help="a sample, a file or a Hub id instead of the held-out rows")
    one.add_argument("--measures", help="names of measures separated by commas; otherwise those that suit the data")
    one.add_argument("--metric", metavar="FILE", help="Python file with a metric of your own (its code is run)")
    one.add_argument("--labels", help="labels of a classification separated by commas; otherwise those in the data")
    one.add_argument("--likelihood", action="store_true", help="also classify by the likeliest label")
    one.add_argument("--schema", metavar="FILE", help="JSON schema that answers must keep to")
    one.add_argument("--pattern", help="regular expression that a good answer matches")
    one.add_argument("--samples", type=int, metavar="K", help="answers per row: their mean, and pass^k (all K right)")
    one.add_argument("--temperature", type=float, help="draw answers at this temperature; 0 (greedy) otherwise")
    one.add_argument(
        "--probes",
        metavar="FILE",
        help="what shows forgetting: self, known_choices, known_facts, files or Hub ids with commas between, or none",
    )
    one.add_argument("--prompted", action="store_true", help="also ask the base with examples in its prompt")
    one.add_argument("--system-prompt", help="system prompt of the prompted base (implies --prompted)")
    one.add_argument("--examples", type=int, metavar="K", help="examples of the prompted base (implies --prompted)")
    one.add_argument(
        "--strength", type=float, metavar="S", help="of what training changed: 0 (the base) to 1 (as trained), or 1.25"
    )
    one.add_argument(
        "--reward-model",
        metavar="RUN",
        help="let this reward model judge the answers before and after; nothing else is evaluated",
    )
    one.add_argument(
        "--tasks",
        action="append",
        metavar="NAME_OR_FOLDER",
        help="ask tasks of lm-evaluation-harness instead (pip install -e .[harness]), --rows questions of each",
    )


def evaluate(given: argparse.Namespace) -> int:
    from ftlab.evaluation.whole import evaluate_whole
    from ftlab.training.supervisor import evaluating_here

    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run[0])
    # A run that is named by its path may lie in another workspace: `last` beside it means the last one there.
    beside = Workspace.of(run)
    others = [beside.run(name) for name in given.run[1:]]
    judge = beside.run(given.reward_model) if given.reward_model else None
    began = time.monotonic()
    name_files(names(given.metric))
    if given.strength is not None and (given.tasks or judge):
        raise InputError(
            "A strength is measured on held-out rows only",
            given="--strength with --tasks or --reward-model",
            try_="leave one of them out",
        )
    if given.tasks:
        return _evaluate_tasks([run, *others], given)
    with evaluating_here(run):
        found = evaluate_whole(
            run,
            max_rows=given.rows,
            reward_model=judge,
            others=others,
            suite=given.data,
            settings=_settings(given),
            strength=given.strength,
            progress=Progress(),
        )
    if "preferences" in found:
        print_preferences(found["preferences"])
    if "comparison" in found:
        _show(run, found["comparison"])
    if "before_after" in found:
        print_before_after(found["before_after"])
    if given.json:
        seconds = round(time.monotonic() - began, 1)
        if set(found) == {"preferences"}:
            print_json(found["preferences"])
        else:
            figures: dict[str, Any] = {"run": run.id}
            more = {"before_after": found["before_after"]} if "before_after" in found else {}
            if comparison := found.get("comparison"):
                figures = scores(run, comparison)
                figures["measures"] = {measure["name"]: measure["values"] for measure in comparison["measures"]}
            print_json(figures | more | {"seconds": seconds})
    return 0


def show_comparison(run: RunDirectory, comparison: dict[str, Any]) -> None:
    """Write the report of `run`, print the table and where the report is."""
    from ftlab.evaluation.remedies import commands
    from ftlab.sharing.report import write_report

    report = write_report(run)
    print_table(comparison)
    if found := commands(comparison, load_config(run.config_file), run.config_file):
        print("\nWhat may help:")
    for title, command in found:
        print(f"  {title}\n    {command}")
    print(f"\nreport     {report}")


def scores(run: RunDirectory, comparison: dict[str, Any]) -> dict[str, Any]:
    """What --json says of a comparison: the usual scores of base and adapted."""
    names = ("perplexity", "bits_per_byte", "bleu", "exact_match", NOT_REPLAYED, REPLAYED)
    names += ("base_agreement", "base_kl", "rows")
    sides = {
        side: {name: comparison[side][name] for name in names if name in comparison[side]}
        for side in ("base", "adapted")
    }
    return {"run": run.id, "directory": str(run.path)} | sides


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """The settings of the section evaluation that were given on the command line."""
    values = {
        "measures": given.measures,
        "labels": given.labels,
        "likelihood": given.likelihood or None,
        "schema_file": given.schema,
        "pattern": given.pattern,
        "own_metrics": given.metric,
        "samples": given.samples,
        "temperature": given.temperature,
        "probes": given.probes,
        "prompted": given.prompted or None,
        "system_prompt": given.system_prompt,
        "examples": given.examples,
    }
    found = {name: value for name, value in values.items() if value is not None}
    if given.system_prompt is not None or given.examples is not None:
        found["prompted"] = True
    return found


def _show(run: RunDirectory, comparison: dict[str, Any]) -> None:
    from ftlab.sharing.report import write_report

    if question := comparison["question"]["name"]:
        print_measures(comparison)
        print(f"\nasked      {comparison['question']['text']}")
        print(f"results    {run.question(question).comparison_file}")
        own = run.comparison()
        print(f"           {_own(own) if own else 'the run has no comparison of its own yet'}")
    elif len(comparison["sides"]) == 2:
        show_comparison(run, comparison)
    else:
        print_measures(comparison)
        print(f"\nreport     {write_report(run)}")


def _own(comparison: dict[str, Any]) -> str:
    return f"the run's own comparison, on {comparison['adapted']['rows']:,} rows, stays as it was"


def _evaluate_tasks(runs: Sequence[RunDirectory], given: argparse.Namespace) -> int:
    from ftlab.evaluation.harness import evaluate_tasks

    found = [evaluate_tasks(run, given.tasks, limit=given.rows, progress=Progress()) for run in runs]
    for one in found:
        print_tasks(one)
    if given.json:
        print_json(found[0] if len(found) == 1 else {"runs": found})
    return 0
