"""`python -m ftlab evaluate | strength | judge | report`: the results of runs, and how strongly to apply them."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ftlab.cli.output import (
    Progress,
    agreed,
    keeping,
    print_before_after,
    print_json,
    print_measures,
    print_preferences,
    print_table,
    print_tasks,
    say,
)
from ftlab.cli.parser import Parser, add_judge_address, add_price, add_run, add_sending, define
from ftlab.cli.settings import add_fields
from ftlab.config import load_config
from ftlab.config.evaluation import names
from ftlab.core.comparison import ComparisonJson, main_scores
from ftlab.core.files import disk_full, replacing
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.metrics.own import name_files
from ftlab.evaluation.request import Request

if TYPE_CHECKING:
    from ftlab.cli.json_forms import (
        BeforeAfterForm,
        ChosenForm,
        EvaluatedForm,
        EvaluationPlanForm,
        JudgedForm,
        JudgePlanForm,
        MeasuredStrengthsForm,
        ReportForm,
        ScoredForm,
        SeveralTasksForm,
    )
    from ftlab.evaluation.outside import Outside

# The settings of the run that may differ here.
_FLAGS = {
    "--measures": "measures",
    "--metric": "own_metrics",
    "--labels": "labels",
    "--likelihood": "likelihood",
    "--schema": "schema_file",
    "--pattern": "pattern",
    "--samples": "samples",
    "--temperature": "temperature",
    "--probes": "probes",
    "--prompted": "prompted",
    "--system-prompt": "system_prompt",
    "--examples": "examples",
    "--retrieved": "retrieved",
    "--margin": "margin",
}
_NEAREST = 3  # before each question, where --documents or --embeddings is given without --retrieved


def add_evaluate(parser: Parser) -> None:
    define(parser, evaluate, "evaluate last --data other.jsonl --measures exact_match,chrf --rows 100")
    add_run(parser, nargs="+")
    parser.add_argument("--rows", type=int, help="most test rows to use")
    parser.add_argument("--data", metavar="SUITE", help="a sample, a file or a Hub id in place of the held-out rows")
    parser.add_argument(
        "--documents",
        nargs="+",
        metavar="PATH",
        help="retrieve passages of these documents or folders instead of training rows (alone: --retrieved 3)",
    )
    parser.add_argument(
        "--embeddings",
        metavar="URL#MODEL",
        help="find them by vectors of a model behind an OpenAI-compatible address instead of TF-IDF (key in "
        "FTLAB_ENDPOINT_KEY; alone: --retrieved 3)",
    )
    parser.add_argument(
        "--strength", type=float, metavar="S", help="share of the trained change: 0 (base), 1 (as trained), up to 1.25"
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="URL#MODEL_OR_FILE",
        help="also a model behind an OpenAI-compatible address, https://host/v1#model (key in FTLAB_ENDPOINT_KEY), or "
        "a JSONL file of prompts and answers (repeatable)",
    )
    parser.add_argument(
        "--without",
        action="append",
        metavar="TITLE",
        help="leave out a side of an earlier --against, by its title in the table (repeatable)",
    )
    parser.add_argument("--max-tokens", type=int, help="longest answer of a model behind an address, in its tokens")
    add_sending(parser)
    add_price(parser)
    add_fields(
        parser,
        "evaluation",
        _FLAGS,
        "Default: as in the settings of the run. --system-prompt and --examples imply --prompted.",
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
    from ftlab.evaluation.embeddings import read_embeddings
    from ftlab.training.supervisor import evaluating_here

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run[0])
    # The first run may be a path into another workspace: `last` beside it means the last run there.
    owner = Workspace.of(run)
    others = [owner.run(name) for name in args.run[1:]]
    judge = owner.run(args.reward_model) if args.reward_model else None
    began = time.monotonic()
    name_files(names(args.own_metrics))
    if args.strength is not None and (args.tasks or judge):
        raise InputError(
            "--strength works on held-out rows only",
            given="--strength with --tasks or --reward-model",
            try_="leave one of them out",
        )
    for option, value in {"--against": args.against, "--embeddings": args.embeddings}.items():
        if value and (args.tasks or judge):
            raise InputError(
                f"{option} works on held-out rows only",
                given=f"{option} with --tasks or --reward-model",
                try_="leave one of them out",
            )
    if args.tasks:
        return _evaluate_tasks([run, *others], args)
    request = Request(
        others=others,
        suite=args.data,
        max_rows=args.rows,
        settings=_settings(args),
        strength=args.strength,
        against=_against(args),
        without=args.without or (),
        embeddings=read_embeddings(args.embeddings, args.price_in) if args.embeddings is not None else None,
        price_per_hour=args.price,
        reward_model=judge,
    )
    asks = request.against or request.sends or args.margin is not None
    if asks and not _agreed(args, run, request):
        return 0
    with keeping(run.outside_file, run.embeddings_file), evaluating_here(run):
        result = evaluate_whole(run, request, progress=Progress())
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
            figures: BeforeAfterForm = {"run": run.id, "seconds": seconds}
            if "before_after" in result:
                figures["before_after"] = result["before_after"]
            if comparison := result.get("comparison"):
                measures = {measure["name"]: measure["values"] for measure in comparison["measures"]}
                figures = cast("EvaluatedForm", {**scores(run, comparison), "measures": measures, **figures})
            print_json(figures)
    return 0


def _against(args: argparse.Namespace) -> list[Outside]:
    """The sides of --against."""
    from ftlab.evaluation.outside import read_against

    return [
        read_against(
            text,
            price_in=args.price_in,
            price_out=args.price_out,
            at_once=args.at_once,
            max_tokens=args.max_tokens,
        )
        for text in args.against or []
    ]


def _agreed(args: argparse.Namespace, run: RunDirectory, request: Request) -> bool:
    """Whether to ask the sides behind an address, and for vectors: what that takes is shown first. Files need no
    consent. How many rows a margin takes is said too."""
    from ftlab.evaluation.compare import material_against, plans_to_send
    from ftlab.evaluation.margins import rows_for

    material = material_against(run, request)
    plans = plans_to_send(run, request, material)
    asked: EvaluationPlanForm = {"run": run.id, "plans": plans}
    lines = [line for planned in plans for line in planned.lines()]
    if args.margin is not None:
        lines.insert(0, rows_for(args.margin, len(material.rows), material.clusters))
    return agreed(args, asked, lines, needed=any(planned.open for planned in plans))


def show_comparison(run: RunDirectory, comparison: ComparisonJson) -> None:
    """Write the report of `run`; print the table, commands that may help, and the path of the report."""
    from ftlab.report.report import write_report

    report = write_report(run)
    print_table(comparison)
    _print_remedies(run, comparison)
    print(f"\nreport     {report}")


def _print_remedies(run: RunDirectory, comparison: ComparisonJson) -> None:
    from ftlab.evaluation.remedies import commands

    if remedies := commands(comparison, load_config(run.config_file), run.config_file):
        print("\nWhat may help:")
    for title, command in remedies:
        print(f"  {title}\n    {command}")


def scores(run: RunDirectory, comparison: ComparisonJson) -> ScoredForm:
    """The JSON of a comparison: the main scores of base and adapted."""
    base, adapted = (main_scores(comparison, side) for side in ("base", "adapted"))
    return {"run": run.id, "directory": str(run.path), "base": base, "adapted": adapted}


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the section `evaluation` that the command line sets."""
    fields = [*_FLAGS.values(), "documents"]
    settings = {name: value for name in fields if (value := getattr(args, name)) is not None}
    if args.system_prompt is not None or args.examples is not None:
        settings["prompted"] = True
    if args.documents or args.embeddings:
        settings.setdefault("retrieved", _NEAREST)
    return settings


def _show(run: RunDirectory, comparison: ComparisonJson) -> None:
    from ftlab.report.report import write_report

    if question := comparison["question"]["name"]:
        print_measures(comparison)
        _print_remedies(run, comparison)
        print(f"\nasked      {comparison['question']['text']}")
        print(f"results    {run.question(question).comparison_file}")
        if own := run.comparison():
            print(f"           the run keeps its own comparison, on {counted(own['adapted']['rows'], 'held-out row')}")
        else:
            print("           the run has no comparison on its held-out rows yet")
    elif len(comparison["sides"]) == 2:
        show_comparison(run, comparison)
    else:
        print_measures(comparison)
        _print_remedies(run, comparison)
        print(f"\nreport     {write_report(run)}")


def _evaluate_tasks(runs: Sequence[RunDirectory], args: argparse.Namespace) -> int:
    from ftlab.evaluation.harness import evaluate_tasks

    results = [evaluate_tasks(run, args.tasks, limit=args.rows, progress=Progress()) for run in runs]
    for result in results:
        print_tasks(result)
    if args.json:
        several: SeveralTasksForm = {"runs": results}
        print_json(results[0] if len(results) == 1 else several)
    return 0


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
            value: ChosenForm = {"run": run.id, "strength": chosen}
            print_json(value)
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
        figures: MeasuredStrengthsForm = {**measured, "chosen": chosen}
        print_json(figures)
        return 0
    for line in lines(measured):
        print(line)
    if chosen != 1:
        print(f"\nchosen     {chosen:g}")
    if measured["proposed"] not in (1, chosen):
        command = f"python -m ftlab strength {run.id} --set {measured['proposed']:g}{workspace.flag}"
        print(f"\nTo choose it: {command}")
    return 0


def add_judge(parser: Parser) -> None:
    define(parser, judge, "judge last --url http://127.0.0.1:8000/v1 --model my-model --rows 50")
    add_run(parser)
    parser.add_argument(
        "--sides", default="base,adapted", metavar="A,B", help="answers to compare (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, help="most rows to judge")
    add_judge_address(parser)


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
    asked: JudgePlanForm = {"run": run.id, "plan": planned}
    if not agreed(args, asked, planned.lines(), needed=planned.open > 0):
        return 0
    progress = Progress()
    try:
        with keeping(run.judged_answers_file):
            judgement = judge_by_endpoint(run, settings, progress=progress)
    finally:
        progress.close("")
    if args.json:
        value: JudgedForm = {"run": run.id, **judgement}
        print_json(value)
        return 0
    print()
    for name, number in judge_figures(judgement):
        print(f"{name:<32} {number:>6}")
    print()
    for line in judge_lines(judgement, current=is_current(run, judgement)):
        print(line)
    return 0


def add_report(parser: Parser) -> None:
    define(parser, report, "report last --to report.html")
    add_run(parser)
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a model card")
    parser.add_argument("--to", type=Path, metavar="FILE", help="file to write (default: in the folder of the run)")
    add_price(parser)


def report(args: argparse.Namespace) -> int:
    from ftlab.report.markdown import write_markdown
    from ftlab.report.report import write_report

    run = Workspace.open(args.workspace).run(args.run)
    write = write_markdown if args.markdown else write_report
    path = write(run, price_per_hour=args.price)
    if args.to is not None:
        path = _copied(path, args.to.expanduser())
    if args.json:
        comparison = run.comparison()
        assert comparison is not None  # the report was written of it
        value: ReportForm = {"run": run.id, "report": str(path), "verdict": comparison["verdict"]["text"]}
        print_json(value)
    else:
        print(path)
    return 0


def _copied(path: Path, target: Path) -> Path:
    """Copy `path` to `target`, or into `target` if that is a folder; returns the copy."""
    target = target / path.name if target.is_dir() else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            shutil.copyfile(path, part)
    except OSError as error:
        raise disk_full(error, target.absolute()) or FtlabError(
            f"The report cannot be written: {error.strerror}", why=str(target)
        ) from error
    return target
