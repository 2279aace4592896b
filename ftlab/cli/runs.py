"""`python -m ftlab runs list | show | stop | resume | move | delete`: the runs of a workspace."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftlab.cli.output import (
    print_before_after,
    print_json,
    print_preferences,
    print_result,
    print_rewards,
    print_table,
    progress_line,
    say,
)
from ftlab.cli.parser import Parser, add_command, add_group, add_run
from ftlab.config import load_config
from ftlab.config.stages import EXPERIMENTAL, LOSSES
from ftlab.core.comparison import scores_of
from ftlab.core.damage import explained
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import ErrorJson, FtlabError, InputError
from ftlab.models.strength import AS_TRAINED, chosen_strength

if TYPE_CHECKING:
    from ftlab.cli.json_forms import DeletedForm, ListedForm, QueueForm, ResumedForm, RunForm, RunsForm, StoppedForm


def add_runs(parser: Parser) -> None:
    group = add_group(parser)
    add_command(group, "list", list_runs, "List all runs with state, data, method and scores", "runs list")
    add_run(add_command(group, "show", show, "Show one run", "runs show last"))
    stopping = "Ask a run to save and stop; a second time kills it"
    add_run(add_command(group, "stop", stop, stopping, "runs stop last"))
    resuming = "Resume a stopped or failed run from its last checkpoint"
    add_run(add_command(group, "resume", resume, resuming, "runs resume last"))
    command = add_command(group, "move", move, "Move a waiting run in the queue", "runs move last first")
    add_run(command)
    command.add_argument("where", choices=["earlier", "later", "first", "last"], help="its new place")
    command = add_command(group, "delete", delete, "Delete a run for good", "runs delete last --yes")
    add_run(command)
    command.add_argument("--yes", action="store_true", help="confirm the deletion")


def list_runs(args: argparse.Namespace) -> int:
    workspace = Workspace.open(args.workspace)
    rows: list[ListedForm] = []
    for run in workspace.runs():
        try:
            rows.append(_listed(run))
        except Exception as error:  # a damaged run hides no other
            damage = error if isinstance(error, FtlabError) else explained(error)
            rows.append({"run": run.id, "state": "damaged", "damage": str(damage or error)})
    if args.json:
        value: RunsForm = {"runs": rows}
        print_json(value)
    elif not rows:
        say(f"No runs yet in {workspace.root}. Start one with: python -m ftlab quickstart")
    for row in [] if args.json else rows:
        if "damage" in row:
            print(f"{row['run']:<52} {row['state']:<10} {row['damage']}")
            continue
        match = "" if row["exact_match"] is None else f"exact match {row['exact_match']:.0%}"
        if row["preference_accuracy"] is not None:
            match = f"preferences {row['preference_accuracy']:.0%}"
        elif row["exact_match"] is None and row["perplexity"] is not None:
            match = f"perplexity {row['perplexity']:.3g}"
        print(
            f"{row['run']:<52} {row['state']:<10} {row['stage']:<6} {row['method']:<6} "
            f"{row['base']} <- {row['data']}  {match}".rstrip()
        )
    return 0


def _listed(run: RunDirectory) -> ListedForm:
    """One run as `runs list` shows it. Raises FtlabError if a file it reads is damaged."""
    from ftlab.training import supervisor

    status = supervisor.status(run)
    if status.state == "damaged" and status.error:
        raise FtlabError(status.error["what"], why=status.error["why"], try_=status.error["try"])
    config, comparison, preferences = load_config(run.config_file), run.comparison(), run.preferences()
    scores = scores_of(comparison, "adapted") if comparison else {}
    preferences = run.preferences()
    return {
        "run": run.id,
        "state": status.state,
        "data": config.data.source,
        "base": config.model.base,
        "stage": config.stage,
        "start": config.model.start,
        "method": config.method.name,
        "preference_accuracy": preferences.get("accuracy") if preferences else None,
        "exact_match": scores.get("exact_match"),
        "perplexity": scores.get("perplexity"),
    }


def show(args: argparse.Namespace) -> int:
    from ftlab.evaluation.keeping import also_asked
    from ftlab.training import supervisor
    from ftlab.training.elsewhere import place_of
    from ftlab.training.self_replay import mixed_in_words

    run = Workspace.open(args.workspace).run(args.run)
    status = supervisor.status(run)
    damage: list[str] = []

    def read(value: Callable[[], Any]) -> Any:
        """The result of `value`; None if a file it reads is damaged, so that the rest of the run is shown."""
        try:
            return value()
        except Exception as error:
            known = error if isinstance(error, FtlabError) else explained(error)
            if known is None:
                raise
            damage.append(str(known))
            return None

    def show_figures(figures: Callable[[], Any], print_figures: Callable[[Any], None]) -> None:
        if (value := read(figures)) is not None:
            read(lambda: print_figures(value))

    config = read(lambda: load_config(run.config_file))
    if args.json:
        questions = read(lambda: also_asked(run)) or []
        value: RunForm = {
            "run": run.id,
            "directory": str(run.path),
            "config": config,
            "status": status,
            "comparison": read(run.comparison),
            "also_asked": [{"name": name, "asked": text, "verdict": verdict} for name, text, verdict in questions],
            "preferences": read(run.preferences),
            "before_after": read(run.before_after),
            "rewards": read(run.rewards),
            "verification": read(run.verification),
            "strength": read(lambda: chosen_strength(run)),
        }
        if damage:
            value["damage"] = damage
        print_json(value)
        return 0
    print(f"{run.id}: {read(lambda: progress_line(run, status)) or status.state}")
    print(f"directory  {run.path}")
    if (place := read(lambda: place_of(run))) is not None:
        print(f"place      {place.name}")
    splits = (read(run.manifest) or {}).get("splits", {})
    if config is not None:
        print(f"stage      {_stage(config)}")
        print(f"data       {config.data.source} ({_counts(splits)})")
        if (manifest := read(run.manifest)) is not None:
            print(f"replay     {mixed_in_words(config, manifest)}")
    if (strength := read(lambda: chosen_strength(run))) not in (None, AS_TRAINED):
        print(f"strength   {strength:g} in chat, exports and blind tests; the figures below are of the run as trained")
    for warning in status.warnings:
        print(f"warning    {warning}")
    if status.error:
        print(f"{status.state:<10} {_failure(status.error)}")
    show_figures(run.preferences, print_preferences)
    show_figures(run.rewards, print_rewards)
    show_figures(run.comparison, print_table)
    for name, text, verdict in read(lambda: also_asked(run)) or []:
        print(f"also asked {text}: {verdict or 'see'} (evaluation/{name})")
    show_figures(run.before_after, print_before_after)
    for text in dict.fromkeys(damage):
        print(f"damaged    {text}")
    return 0


def stop(args: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    run = Workspace.open(args.workspace).run(args.run)
    message = supervisor.stop(run).message
    value: StoppedForm = {"run": run.id, "state": supervisor.status(run).state, "message": message}
    return print_result(args, value, message)


def resume(args: argparse.Namespace) -> int:
    from ftlab.training import supervisor
    from ftlab.training.elsewhere import place_of

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run)
    step = supervisor.resume(run, workspace)
    warnings = supervisor.status(run).warnings
    start = f"resumes from step {step}" if step else "starts again: it had no complete checkpoint"
    if (place := place_of(run)) is not None:
        start = f"is taken up again at {place.name}, where it goes on from its last checkpoint"
    follow = f"Follow it with: python -m ftlab runs show {run.id}{workspace.flag}"
    lines = [*(f"warning    {warning}" for warning in warnings), f"{run.id} {start}. {follow}"]
    value: ResumedForm = {"run": run.id, "step": step, "warnings": warnings}
    return print_result(args, value, *lines)


def move(args: argparse.Namespace) -> int:
    from ftlab.training import supervisor as queue

    workspace = Workspace.open(args.workspace)
    order = [run.id for run in queue.move(workspace.run(args.run), workspace, args.where)]
    value: QueueForm = {"queue": order}
    return print_result(args, value, *(f"{place}. {name}" for place, name in enumerate(order, start=1)))


def delete(args: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    workspace = Workspace.open(args.workspace)
    run = workspace.run(args.run)
    if not args.yes:
        raise InputError(f"Deleting {run.id} removes its adapter and scores for good", try_="add --yes")
    supervisor.delete(run, workspace)
    value: DeletedForm = {"deleted": run.id}
    return print_result(args, value, f"Deleted {run.id}.")


def _stage(config: Any) -> str:
    parts = [config.stage + (" (experimental in TRL)" if config.stage in EXPERIMENTAL else "")]
    if config.preference.loss and config.stage in LOSSES:
        parts.append(f"loss {config.preference.loss}")
    if config.model.start:
        parts.append(f"started from {config.model.start}")
    return ", ".join([*parts, f"method {config.method.name} on {config.model.base}"])


def _failure(error: ErrorJson) -> str:
    return str(FtlabError.from_json(error))


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in splits.items()) or "no rows"
