"""`python -m ftlab quickstart | preflight | train | sweep`: measure a run before it starts, start and follow it, and
show the result."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import (
    Progress,
    agreed,
    failure,
    print_before_after,
    print_json,
    print_preferences,
    print_rewards,
    progress_line,
    rate_lines,
    say,
)
from ftlab.cli.parser import Parser, add_command, add_group, add_price, define
from ftlab.cli.settings import add_settings, read_config
from ftlab.config import STARTER, STARTER_REPLAY, RunConfig, build_config, load_config, with_settings
from ftlab.config.stages import EXPERIMENTAL
from ftlab.core.comparison import ComparisonJson
from ftlab.core.run_directory import RunDirectory
from ftlab.core.steps import Steps
from ftlab.core.words import duration
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError

if TYPE_CHECKING:
    from ftlab.cli.json_forms import QuickstartForm, SeedsForm, SendsForm, StartedForm, SweepForm, TrainedForm
    from ftlab.evaluation.seeds import SeedsVerdict
    from ftlab.training.sweep import SweepRowJson

_POLL_SECONDS = 0.5
_QUICKSTART_ROWS = 600


def add_quickstart(parser: Parser) -> None:
    define(parser, quickstart, "quickstart --base smollm2")
    parser.add_argument(
        "--base",
        default=STARTER,
        help="smollm2 (a real model: 89 MB, 7 minutes), a folder, a GGUF file or a Hub id (default: the toy starter)",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="train on fewer of the 600 tickets: faster, learns less")


def quickstart(args: argparse.Namespace) -> int:
    """Sample data -> LoRA on a base -> comparison with the base -> report."""
    from ftlab.cli.evaluate import scores, show_comparison
    from ftlab.models.load import check_base

    began = time.monotonic()
    workspace = Workspace.open(args.workspace)
    config = quickstart_config(args.base, args.rows)
    check_base(config.model)
    rows, base = config.data.max_rows or _QUICKSTART_ROWS, "the toy starter" if config.is_starter else args.base
    say(
        f"ftlab quickstart: tunes {base} on {rows} support tickets and compares it with its base on "
        f"{min(config.evaluation.max_rows, 100)} held-out tickets."
    )
    if rows < _QUICKSTART_ROWS:
        why = "as requested" if args.rows else "because this CPU is slow in bfloat16"
        say(f"smaller    {rows} of {_QUICKSTART_ROWS} tickets, {why}: expect lower scores than the README reports")
    run = _submit(config, workspace)
    state = _follow(run)
    _raise_if_failed(run)
    comparison = run.comparison()
    if comparison is None:
        evaluate_it = f"python -m ftlab evaluate {run.id}{workspace.flag}"
        raise FtlabError(f"The run is {state} and has no comparison", try_=evaluate_it)
    show_comparison(run, comparison)
    say(_next_steps(run, comparison, workspace))
    if args.json:
        value: QuickstartForm = {**scores(run, comparison), "seconds": round(time.monotonic() - began, 1)}
        print_json(value)
    return 0


def quickstart_config(base: str = STARTER, rows: int | None = None) -> RunConfig:
    """The run of the quickstart: support tickets to JSON. On the starter it replays general examples against
    forgetting; a real `base` is also compared with itself prompted with examples. `rows` is how many of the 600 tickets
    to train on; None: all of them, or fewer for a real base on a CPU that is slow in bfloat16. Raises InputError for
    too few or too many rows."""
    from ftlab.data.splits import FEWEST_ROWS
    from ftlab.models.load import pick_device, pick_dtype

    if rows is not None and not FEWEST_ROWS <= rows <= _QUICKSTART_ROWS:
        raise InputError(
            "The quickstart cannot train on this number of tickets (--rows)",
            given=rows,
            allowed=f"{FEWEST_ROWS} to {_QUICKSTART_ROWS}",
        )
    rows = None if rows == _QUICKSTART_ROWS else rows
    if base == STARTER:
        data = {"source": "support_triage", "max_rows": rows, **STARTER_REPLAY}
        return build_config({"name": "quickstart", "data": data})
    values: dict[str, Any] = {
        "name": "quickstart",
        "model": {"base": base},
        "data": {"source": "support_triage", "max_rows": rows},
        "optimisation": {"evaluations_per_epoch": 1},
        "evaluation": {"prompted": True},
    }
    config = build_config(values)
    if (device := pick_device(config.launcher.device)) == "cpu":
        # Keeps to a few minutes on two cores: measures that do not prove the gain are left out.
        config.evaluation.max_rows, config.evaluation.memorisation = 50, False
        config.data.replay_fraction = 0.1  # 60 of the base's own answers, 20 seconds of generation
        if rows is None and str(pick_dtype(config.model, device)) != "torch.bfloat16":
            config.data.max_rows = 240
    # Small batches give more steps for the same tokens. After 1.5 epochs (236 steps in batches of 4) SmolLM2 answers 99
    # of 100 unseen tickets right; after 1.2 it was 77 to 98, depending on the order of the rows. Fewer tickets take
    # more epochs.
    config.optimisation.epochs = 1.5 if config.data.max_rows is None else 2.5
    config.optimisation.batch_size = 4
    return config


def add_train(parser: Parser) -> None:
    define(parser, train, "train run.yaml --data.source my.jsonl --optimisation.epochs 3")
    add_settings(parser)
    parser.add_argument(
        "--find-rate",
        action="store_true",
        help="try three learning rates for a tenth of the steps, then train with the best",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="K",
        help="train K runs that differ only in their seed; one verdict, with the spread",
    )
    parser.add_argument("--detach", action="store_true", help="start the run and return at once")
    where = "train on another machine by ssh and rsync: ssh:HOST or ssh:HOST:FOLDER; asks before it sends the data"
    parser.add_argument("--on", metavar="PLACE", help=where)
    parser.add_argument("--yes", action="store_true", help="with --on: send the data without asking")


def train(args: argparse.Namespace) -> int:
    workspace = Workspace.open(args.workspace)
    config = read_config(args, workspace)
    if args.on and (args.find_rate or args.seeds is not None):
        option = "--find-rate" if args.find_rate else "--seeds"
        raise InputError("--on trains one run", given=f"{option} and --on", allowed="one of them")
    if args.find_rate:
        config = _with_best_rate(config, workspace)
    if args.seeds is not None:
        return _train_seeds(config, args, workspace)
    run = _submit_elsewhere(config, args, workspace) if args.on else _submit(config, workspace)
    if run is None:
        return 0
    if args.detach:
        say(f"Training continues in the background. Follow it with: python -m ftlab runs show {run.id}{workspace.flag}")
        state = "queued"
    else:
        state = _follow(run)
        if not args.json:
            _raise_if_failed(run)
        _show_results(run)
    if args.json:
        result: TrainedForm = {"run": run.id, "directory": str(run.path), "state": state}
        try:
            _raise_if_failed(run)
        except FtlabError as error:
            print(f"ftlab: {error}", file=sys.stderr)
            result = {**result, **failure(error)}
            print_json(result)
            return error.exit_code
        print_json(result)
    return 0


def _show_results(run: RunDirectory) -> None:
    from ftlab.cli.evaluate import show_comparison

    if (preferences := run.preferences()) is not None:
        print_preferences(preferences)
    if (rewards := run.rewards()) is not None:
        print_rewards(rewards)
    if (comparison := run.comparison()) is not None:
        show_comparison(run, comparison)
    if (answers := run.before_after()) is not None:
        print_before_after(answers)


def _train_seeds(config: RunConfig, args: argparse.Namespace, workspace: Workspace) -> int:
    """Train with several seeds, one run after the other, and give one verdict on them."""
    from ftlab.report.report import write_report
    from ftlab.training import supervisor, sweep

    started = sweep.submit_seeds(config, args.seeds, workspace)
    runs = [workspace.run(member["run"]) for member in started.runs]
    result: SeedsForm = {"sweep": started.id, "runs": started.runs}
    show = f"python -m ftlab sweep show {started.id}{workspace.flag}"
    say(f"{started.id}: {len(runs)} runs that differ only in their seed")
    if args.detach:
        say(f"They train in the background, one after the other. For the verdict, run: {show}")
    for number, run in enumerate([] if args.detach else runs):
        say(f"run        {run.id}, {number + 1} of {len(runs)}")
        if _follow(run) == "stopped":
            for waiting in runs[number + 1 :]:
                supervisor.stop(waiting)
            say(f"stopped    Resume each run with: python -m ftlab runs resume RUN{workspace.flag}; then: {show}")
            break
    else:
        if not args.detach:
            verdict = sweep.verdict(started, workspace)
            assert verdict is not None
            for run in runs:
                if run.comparison() is not None:
                    write_report(run)
            print_seeds(verdict)
            result["verdict"] = verdict
    if args.json:
        print_json(result)
    return 0


def _with_best_rate(config: RunConfig, workspace: Workspace) -> RunConfig:
    """`config` with the best of three learning rates, after a trial whose figures are shown."""
    from ftlab.core.steps import Steps
    from ftlab.training.preflight.rate_trial import find_rate

    progress = Progress()
    try:
        # Ctrl-C ends the trial and its process.
        with Steps(find_rate(config, workspace)) as steps:
            for phase in steps:
                progress.line(phase, phase.split(":")[0])
    finally:
        progress.close("")
    trial = steps.result
    for line in rate_lines(trial):
        say(line)
    if trial.taken is None:
        raise FtlabError(trial.text, try_=f"--set optimisation.learning_rate={trial.tried[0].rate / 10:g}")
    return with_settings(config, {"optimisation.learning_rate": trial.taken})


def _submit_elsewhere(config: RunConfig, args: argparse.Namespace, workspace: Workspace) -> RunDirectory | None:
    """Start the run on another machine; None if the data were not to be sent."""
    from ftlab.training.elsewhere import Transfer, submit_elsewhere

    def sent(transfer: Transfer, remarks: list[str]) -> bool:
        plan: SendsForm = {"sends": transfer}
        return agreed(args, plan, [*remarks, *transfer.lines()], needed=True)

    run = submit_elsewhere(config, workspace, args.on, sent)
    if run is not None:
        _introduce(run)
    elif not args.json:
        say("Nothing was sent, and no run was started.")
    return run


def _submit(config: RunConfig, workspace: Workspace) -> RunDirectory:
    from ftlab.training import supervisor

    run = supervisor.submit(config, workspace)
    _introduce(run)
    return run


def _introduce(run: RunDirectory) -> None:
    from ftlab.training.self_replay import mixed_in_words

    say(f"run        {run.id}")
    say(f"directory  {run.path}")
    say(f"replay     {mixed_in_words(load_config(run.config_file), run.manifest())}")


def _follow(run: RunDirectory) -> str:
    """Show the run's progress until it ends; returns its state. Ctrl-C asks it to save and stop; twice kills it."""
    from ftlab.training import supervisor

    if load_config(run.config_file).stage in EXPERIMENTAL:
        say("note       TRL marks this stage as experimental: it may change with any version of TRL")
    progress = Progress()
    while True:
        try:
            status = supervisor.status(run)
            if not status.is_active:
                progress.close(progress_line(run, status))
                for warning in status.warnings:
                    say(f"warning    {warning}")
                return status.state
            progress.line(progress_line(run, status), status.phase)
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            progress.close("")
            say(supervisor.stop(run).message)


def _raise_if_failed(run: RunDirectory) -> None:
    from ftlab.api import raise_failure
    from ftlab.training import supervisor

    status = supervisor.status(run)
    if status.state == "failed":
        say(f"log        {run.log_file}")
        raise_failure(status)


def _next_steps(run: RunDirectory, comparison: ComparisonJson, workspace: Workspace) -> str:
    from ftlab.data.versions import train_command
    from ftlab.evaluation.verdict import next_steps

    where = workspace.flag
    config = load_config(run.config_file)
    advice = "".join(f"  - {step}\n" for step in next_steps(comparison, config))
    own_data = train_command("my.jsonl", workspace, config.model.base)
    real = "  use a real base             --set model.base=smollm2 (89 MB; the README lists bases by GPU memory)"
    return (
        f"\nNext steps:\n{advice}"
        f"  chat with both models       python -m ftlab chat {run.id}{where}\n"
        f"  open the app                python -m ftlab app{where}\n"
        f"  train on your own data      {own_data}" + (f"\n{real}" if config.is_starter else "")
    )


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
        print_json(estimate)
    else:
        for line in as_lines(estimate):
            print(line)
    if estimate.fits is False:
        say("The run does not fit.")
        return 1
    return 0


def add_sweep(parser: Parser) -> None:
    group = add_group(parser)
    command = add_command(
        group,
        "start",
        start,
        "Queue a run for every combination of the values",
        "sweep start run.yaml --vary optimisation.learning_rate=1e-4,3e-4 --vary method.rank=8,16",
    )
    add_settings(command)
    command.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE,VALUE",
        help="values to try, such as optimisation.learning_rate=1e-4,3e-4; once or twice",
    )
    command = add_command(group, "show", show, "Compare the runs of a sweep, best first", "sweep show last")
    command.add_argument("sweep", nargs="?", default="last", help="id of the sweep (default: the last one)")


def start(args: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(args.workspace)
    config = read_config(args, workspace)
    vary: dict[str, list[Any]] = {}
    for text in args.vary:
        path, sign, values = text.partition("=")
        if not sign:
            raise InputError("--vary takes a setting and its values", given=text, allowed="method.rank=8,16,32")
        vary[path.strip()] = sweep.read_values(path.strip(), values)
    started = sweep.submit_sweep(config, vary, workspace)
    look = f"python -m ftlab sweep show {started.id}{workspace.flag}"
    say(f"Queued {len(started.runs)} runs. Compare them with: {look}")
    if args.json:
        value: StartedForm = {"sweep": started.id, "runs": started.runs}
        print_json(value)
    return 0


def show(args: argparse.Namespace) -> int:
    from ftlab.training import sweep

    workspace = Workspace.open(args.workspace)
    chosen = sweep.find_sweep(args.sweep, workspace)
    rows = sweep.compare(chosen, workspace)
    try:
        verdict = sweep.verdict(chosen, workspace)
    except FtlabError as error:
        verdict = None
        say(str(error))
    if args.json:
        value: SweepForm = {"sweep": chosen.id, "settings": chosen.settings, "runs": rows}
        if verdict:
            value["verdict"] = verdict
        print_json(value)
        return 0
    print(f"{chosen.id}: {len(rows)} runs, by exact match, then validation loss; small differences may be chance")
    for row in rows:
        print(_row_text(row))
    if verdict:
        print_seeds(verdict)
    return 0


def _row_text(row: SweepRowJson) -> str:
    values = ", ".join(f"{path.split('.')[-1]} {value}" for path, value in row["values"].items())
    loss = "" if row["validation_loss"] is None else f"validation loss {row['validation_loss']:.4f}"
    match = "" if row["exact_match"] is None else f"exact match {row['exact_match']:.0%}"
    shares = (
        ("general", row["general_accuracy"]),
        ("replayed kinds", row["general_accuracy_replayed"]),
        ("as the base", row["base_agreement"]),
    )
    retained = ", ".join(f"{what} {share:.0%}" for what, share in shares if share is not None)
    time = "" if row["seconds"] is None else duration(row["seconds"])
    return f"{values:<36} {row['state']:<10} {loss:<24} {match:<18} {retained:<33} {time:<12} {row['run']}".rstrip()


def print_seeds(verdict: SeedsVerdict) -> None:
    """A verdict on seeds: a line for each measure, then the sentence."""
    from ftlab.evaluation.seeds import difference_text, measure_text

    print()
    for measure in verdict.measures:
        change = difference_text(measure)
        print(f"{measure_text(measure)}{f'; change {change}' if change else ''}")
    print(f"\n{verdict.text}")
    for note in verdict.notes:
        print(f"note: {note}")
