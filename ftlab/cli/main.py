"""The command line: `python -m ftlab ...`, the same functions as the tabs and the notebooks."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from ftlab.cli import (
    advise as cli_advise,
)
from ftlab.cli import (
    app as cli_app,
)
from ftlab.cli import (
    arena as cli_arena,
)
from ftlab.cli import (
    base as cli_base,
)
from ftlab.cli import (
    chat as cli_chat,
)
from ftlab.cli import (
    data as cli_data,
)
from ftlab.cli import (
    data_versions as cli_data_versions,
)
from ftlab.cli import (
    evaluate as cli_evaluate,
)
from ftlab.cli import (
    export as cli_export,
)
from ftlab.cli import (
    judge as cli_judge,
)
from ftlab.cli import (
    notebook as cli_notebook,
)
from ftlab.cli import (
    preflight as cli_preflight,
)
from ftlab.cli import (
    report as cli_report,
)
from ftlab.cli import (
    runs as cli_runs,
)
from ftlab.cli import (
    strength as cli_strength,
)
from ftlab.cli import (
    sweep as cli_sweep,
)
from ftlab.cli.columns import add_columns, read_config
from ftlab.cli.evaluate import scores, show_comparison
from ftlab.cli.output import (
    Progress,
    failure,
    print_before_after,
    print_json,
    print_preferences,
    print_rewards,
    progress_line,
    rate_lines,
    say,
)
from ftlab.config import STARTER, STARTER_REPLAY, RunConfig, build_config, load_config, with_settings
from ftlab.config_preferences import EXPERIMENTAL
from ftlab.damage import explained
from ftlab.data.splits import FEWEST_ROWS
from ftlab.errors import FtlabError, InputError
from ftlab.files import disk_full
from ftlab.quiet import quieten
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace, default_root

_POLL_SECONDS = 0.5
_QUICKSTART_ROWS = 600


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 well, 1 failed, 2 wrong input, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given = _parser().parse_args(words)
    except _WrongUsage as error:
        if "--json" not in words:
            error.parser.print_usage(sys.stderr)
        return _tell(error, as_json="--json" in words)
    quieten()
    as_json = getattr(given, "json", False)
    try:
        return given.command(given)
    except FtlabError as error:
        return _tell(error, as_json=as_json)
    except KeyboardInterrupt:
        return _tell(_Interrupted("interrupted"), as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        full = disk_full(error, getattr(given, "workspace", None) or default_root())
        if full is not None:
            return _tell(full, as_json=as_json)
        if (about_a_run := explained(error)) is not None:
            return _tell(about_a_run, as_json=as_json)
        # A fault of ftlab's own: its traceback goes to standard error.
        if as_json:
            print_json(failure(FtlabError("Something went wrong inside ftlab", try_="see standard error")))
        raise


class _Interrupted(FtlabError):
    exit_code = 130


class _WrongUsage(InputError):
    """What argparse does not understand; `parser` is the one of the command."""

    parser: argparse.ArgumentParser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as every other error is said, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        wrong = _WrongUsage(message, try_=f"{self.prog} --help")
        wrong.parser = self
        raise wrong


def _tell(error: FtlabError, *, as_json: bool) -> int:
    print(f"ftlab: {error if error.exit_code != 130 else error.what}", file=sys.stderr)
    if as_json:
        print_json(failure(error))
    return error.exit_code


def quickstart(given: argparse.Namespace) -> int:
    """Sample data -> LoRA on a base -> comparison with the base -> report."""
    began = time.monotonic()
    workspace = Workspace.open(given.workspace)
    config = quickstart_config(given.base, given.rows)
    rows, base = config.data.max_rows or _QUICKSTART_ROWS, "the toy starter" if config.is_starter else given.base
    say(
        f"ftlab quickstart: tune {base} on {rows} support tickets, then prove it on "
        f"{min(config.evaluation.max_rows, 100)} it has never seen."
    )
    if rows < _QUICKSTART_ROWS:
        why = "as asked" if given.rows else "since this CPU is slow in bfloat16"
        say(f"smaller    {rows} of {_QUICKSTART_ROWS} tickets, {why}: expect less than the README says")
    run = _submit(config, workspace)
    state = _follow(run)
    _raise_if_failed(run)
    comparison = run.comparison()
    if comparison is None:
        evaluate_it = f"python -m ftlab evaluate {run.id}{workspace.flag}"
        raise FtlabError(f"The run is {state} and there is no comparison", try_=evaluate_it)
    show_comparison(run, comparison)
    say(_next_steps(run, comparison, workspace))
    if given.json:
        print_json(scores(run, comparison) | {"seconds": round(time.monotonic() - began, 1)})
    return 0


def quickstart_config(base: str = STARTER, rows: int | None = None) -> RunConfig:
    """The main job: support tickets to JSON. The starter gets general examples mixed in, so that it forgets less; of
    a real `base` the base prompted with examples is asked too. `rows` of the 600 tickets are trained on; None: all, and
    fewer for a real base on a CPU that is slow in bfloat16."""
    from ftlab.models.load import pick_device, pick_dtype

    if rows is not None and not FEWEST_ROWS <= rows <= _QUICKSTART_ROWS:
        raise InputError(
            "The quickstart has no such number of tickets (--rows)",
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
        # Five minutes on two cores: what does not prove the gain has to go.
        config.evaluation.max_rows, config.evaluation.memorisation = 50, False
        config.data.replay_fraction = 0.15  # 90 of the base's own answers, which take it half a minute
        if rows is None and str(pick_dtype(config.model, device)) != "torch.bfloat16":
            config.data.max_rows = 240
    # Small batches make more steps of the same tokens (SmolLM2, 600 tickets, 1.2 passes at the usual rate: 180 steps in
    # batches of 4 answered 96% of 50 right; 90 in batches of 8, at 1.5 times the rate, 70%). Few tickets want more.
    config.optimisation.epochs = 1.2 if config.data.max_rows is None else 2.5
    config.optimisation.batch_size = 4
    return config


def train(given: argparse.Namespace) -> int:
    workspace = Workspace.open(given.workspace)
    config = read_config(given, workspace)
    if given.find_rate:
        config = _with_found_rate(config, workspace)
    if given.seeds is not None:
        return _train_seeds(config, given, workspace)
    run = _submit(config, workspace)
    if given.detach:
        say(f"It trains on its own. Follow it with: python -m ftlab runs show {run.id}{workspace.flag}")
        state = "queued"
    else:
        state = _follow(run)
        if not given.json:
            _raise_if_failed(run)
        preferences, comparison = run.preferences(), run.comparison()
        if preferences is not None:
            print_preferences(preferences)
        if (rewards := run.rewards()) is not None:
            print_rewards(rewards)
        if comparison is not None:
            show_comparison(run, comparison)
        if (answers := run.before_after()) is not None:
            print_before_after(answers)
    if given.json:
        found: dict[str, Any] = {"run": run.id, "directory": str(run.path), "state": state}
        try:
            _raise_if_failed(run)
        except FtlabError as error:
            print(f"ftlab: {error}", file=sys.stderr)
            print_json(found | failure(error))
            return error.exit_code
        print_json(found)
    return 0


def _train_seeds(config: RunConfig, given: argparse.Namespace, workspace: Workspace) -> int:
    """Train with several seeds, one run after the other, and judge them as one."""
    from ftlab.sharing.report import write_report
    from ftlab.training import supervisor, sweep

    started = sweep.submit_seeds(config, given.seeds, workspace)
    runs = [workspace.run(one["run"]) for one in started.runs]
    show = f"python -m ftlab sweep show {started.id}"
    say(f"{started.id}: {len(runs)} runs that differ in their seed alone")
    if given.detach:
        say(f"They train on their own, one after the other. Their verdict: {show}")
        if given.json:
            print_json({"sweep": started.id, "runs": started.runs})
        return 0
    for number, run in enumerate(runs):
        say(f"run        {run.id}, {number + 1} of {len(runs)}")
        if _follow(run) == "stopped":
            for waiting in runs[number + 1 :]:
                supervisor.stop(waiting)
            say(f"stopped    go on with: python -m ftlab runs resume RUN, for each of them; then {show}")
            if given.json:
                print_json({"sweep": started.id, "runs": started.runs})
            return 0
    found = sweep.verdict(started, workspace)
    assert found is not None
    for run in runs:
        if run.comparison() is not None:
            write_report(run)
    cli_sweep.print_seeds(found)
    if given.json:
        print_json({"sweep": started.id, "runs": started.runs, "verdict": asdict(found)})
    return 0


def _with_found_rate(config: RunConfig, workspace: Workspace) -> RunConfig:
    """`config` with the best of three learning rates, after a trial whose figures are shown."""
    from ftlab.steps import Steps
    from ftlab.training.rate_trial import find_rate

    show = Progress()
    try:
        # Ctrl-C ends the trial and its process.
        with Steps(find_rate(config, workspace)) as steps:
            for phase in steps:
                show.line(phase, phase.split(":")[0])
    finally:
        show.close("")
    found = steps.found
    for line in rate_lines(found):
        say(line)
    if found.taken is None:
        raise FtlabError(found.text, try_=f"--set optimisation.learning_rate={found.tried[0].rate / 10:g}")
    return with_settings(config, {"optimisation.learning_rate": found.taken})


def _submit(config: RunConfig, workspace: Workspace) -> RunDirectory:
    from ftlab.training import supervisor
    from ftlab.training.self_replay import mixed_in_words

    run = supervisor.submit(config, workspace)
    say(f"run        {run.id}")
    say(f"directory  {run.path}")
    say(f"replay     {mixed_in_words(load_config(run.config_file), run.manifest())}")
    return run


def _follow(run: RunDirectory) -> str:
    """Show the run's progress until it has ended. Ctrl-C asks it to stop and save; once more kills it."""
    from ftlab.training import supervisor

    if load_config(run.config_file).stage in EXPERIMENTAL:
        say("note       this stage is in TRL's experimental part and may change with any version of it")
    show = Progress()
    while True:
        try:
            status = supervisor.status(run)
            if not status.is_active:
                show.close(progress_line(run, status))
                for warning in status.warnings:
                    say(f"warning    {warning}")
                return status.state
            show.line(progress_line(run, status), status.phase)
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            show.close("")
            say(supervisor.stop(run))


def _raise_if_failed(run: RunDirectory) -> None:
    from ftlab.api import raise_failure
    from ftlab.training import supervisor

    status = supervisor.status(run)
    if status.state == "failed":
        say(f"log        {run.log_file}")
        raise_failure(status)


def _next_steps(run: RunDirectory, comparison: dict[str, Any], workspace: Workspace) -> str:
    from ftlab.data.latest import train_command
    from ftlab.evaluation.verdict import next_steps

    where = workspace.flag
    config = load_config(run.config_file)
    advice = "".join(f"  - {step}\n" for step in next_steps(comparison, config))
    own_data = train_command("my.jsonl", workspace, config.model.base)
    real = "  a real base                 --set model.base=smollm2 (93 MB; see the README for bases by GPU memory)"
    return (
        f"\nWhat to do next:\n{advice}"
        f"  talk to both models         python -m ftlab chat {run.id}{where}\n"
        f"  see it in the browser       python -m ftlab app{where}\n"
        f"  your own data               {own_data}" + (f"\n{real}" if config.is_starter else "")
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m ftlab",
        description="Adapt a language model with a few hundred examples, and prove it is better.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        group: Any, name: str, command: Callable[[argparse.Namespace], int], help: str, *, as_json: bool = True
    ) -> argparse.ArgumentParser:
        one = group.add_parser(name, help=help, description=help)
        one.set_defaults(command=command)
        one.add_argument("--workspace", type=Path, help="folder for runs (default: $FTLAB_HOME, else ./workspace)")
        if as_json:
            one.add_argument(
                "--json", action="store_true", help="print one JSON object as the last line, on failure too"
            )
        return one

    one = add(
        commands, "quickstart", quickstart, "train on a sample, compare with the base, write a report (3 minutes)"
    )
    one.add_argument(
        "--base",
        default=STARTER,
        help="smollm2 (real, 93 MB to fetch, 5 minutes), a folder, a GGUF file or a Hub id; default: the toy starter",
    )
    one.add_argument("--rows", type=int, metavar="N", help="train on fewer of the 600 tickets: faster, and learns less")
    one = add(commands, "app", cli_app.app, "open the app in a browser", as_json=False)
    cli_app.add_options(one)
    one = add(commands, "train", train, "train what a YAML file describes")
    one.add_argument("config", nargs="?", help="YAML file; without it the defaults and --set")
    one.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="change one setting")
    add_columns(one)
    one.add_argument(
        "--find-rate",
        action="store_true",
        help="try three learning rates for a tenth of the steps, then train with the best",
    )
    one.add_argument(
        "--seeds",
        type=int,
        metavar="K",
        help="train K runs that differ in their seed alone, and give one verdict on them with the spread",
    )
    one.add_argument("--detach", action="store_true", help="start it and return at once")
    cli_preflight.register(commands, add)
    cli_evaluate.register(commands, add)
    cli_strength.register(commands, add)
    cli_report.register(commands, add)
    cli_notebook.register(commands, add)
    cli_export.register(commands, add)
    cli_judge.register(commands, add)
    cli_advise.register(commands, add)
    cli_chat.register(commands, add)
    bases = commands.add_parser("base", help="get, list or remove bases that ftlab keeps (smollm2, GGUF files)")
    cli_base.register(bases.add_subparsers(required=True, metavar="COMMAND"))
    data = commands.add_parser("data", help="look at, check, fix, split, save and version data").add_subparsers(
        required=True, metavar="COMMAND"
    )
    cli_data.register(data, add)
    cli_data_versions.register(data, add)
    arena = commands.add_parser("arena", help="blind tests: make, answer, serve, judge, and learn from the votes")
    cli_arena.register(arena.add_subparsers(required=True, metavar="COMMAND"), add)
    sweeps = commands.add_parser("sweep", help="try several values of one or two settings, and compare")
    cli_sweep.register(sweeps.add_subparsers(required=True, metavar="COMMAND"), add)
    cli_runs.register(
        commands.add_parser("runs", help="list, show, stop, resume, move or delete runs").add_subparsers(
            required=True, metavar="COMMAND"
        ),
        add,
    )
    return parser
