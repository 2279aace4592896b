"""`python -m ftlab runs list | show | stop | resume | move | delete`: the runs of a workspace."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from ftlab.cli.output import (
    print_before_after,
    print_json,
    print_preferences,
    print_rewards,
    print_table,
    progress_line,
    say,
)
from ftlab.config import load_config
from ftlab.config_preferences import EXPERIMENTAL, LOSSES
from ftlab.errors import FtlabError, InputError
from ftlab.models.strength import AS_TRAINED, chosen_strength
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]


def register(runs: Any, add: Add) -> None:
    """Add the commands to the group `runs`; `add(group, name, command, help)` is the one of `cli`."""
    add(runs, "list", list_runs, "all runs with state, data, method and scores")
    add(runs, "show", show, "one run").add_argument("run")
    add(runs, "stop", stop, "ask a run to save and stop; a second time kills it").add_argument("run")
    add(runs, "resume", resume, "train a stopped or failed run on from its last checkpoint").add_argument("run")
    one = add(runs, "move", move, "move a waiting run in the queue")
    one.add_argument("run")
    one.add_argument("where", choices=["earlier", "later", "first", "last"])
    one = add(runs, "delete", delete, "remove a run for good", as_json=False)
    one.add_argument("run")
    one.add_argument("--yes", action="store_true", help="really delete it")


def list_runs(given: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    workspace = Workspace.open(given.workspace)
    rows = []
    for run in workspace.runs():
        config, scores = load_config(run.config_file), run.comparison() or {}
        rows.append(
            {
                "run": run.id,
                "state": supervisor.status(run).state,
                "data": config.data.source,
                "base": config.model.base,
                "stage": config.stage,
                "start": config.model.start,
                "method": config.method.name,
                "preference_accuracy": (run.preferences() or {}).get("accuracy"),
                "exact_match": scores.get("adapted", {}).get("exact_match"),
                "perplexity": scores.get("adapted", {}).get("perplexity"),
            }
        )
    if given.json:
        print_json({"runs": rows})
    elif not rows:
        say(f"No runs yet in {workspace.root}. Start one with: python -m ftlab quickstart")
    for row in [] if given.json else rows:
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


def show(given: argparse.Namespace) -> int:
    from ftlab.evaluation.keeping import also_asked
    from ftlab.training import supervisor

    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run)
    status = supervisor.status(run)
    if given.json:
        print_json(
            {
                "run": run.id,
                "directory": str(run.path),
                "config": load_config(run.config_file).model_dump(mode="json"),
                "status": dataclasses.asdict(status),
                "comparison": run.comparison(),
                "also_asked": [
                    {"name": name, "asked": asked, "verdict": verdict} for name, asked, verdict in also_asked(run)
                ],
                "preferences": run.preferences(),
                "before_after": run.before_after(),
                "rewards": run.rewards(),
                "verification": run.verification(),
                "strength": chosen_strength(run),
            }
        )
        return 0
    print(f"{run.id}: {progress_line(run, status)}")
    print(f"directory  {run.path}")
    splits = run.manifest().get("splits", {})
    config = load_config(run.config_file)
    print(f"stage      {_stage(config)}")
    print(f"data       {config.data.source} ({_counts(splits)})")
    if (at := chosen_strength(run)) != AS_TRAINED:
        print(f"strength   {at:g} in chat, exports and blind tests, as chosen; figures of the run are those as trained")
    for warning in status.warnings:
        print(f"warning    {warning}")
    if status.error:
        print(f"failed     {_failure(status.error)}")
    preferences = run.preferences()
    if preferences is not None:
        print_preferences(preferences)
    if (rewards := run.rewards()) is not None:
        print_rewards(rewards)
    comparison = run.comparison()
    if comparison is not None:
        print_table(comparison)
    for name, asked, verdict in also_asked(run):
        print(f"also asked {asked}: {verdict or 'see'} (evaluation/{name})")
    if (answers := run.before_after()) is not None:
        print_before_after(answers)
    return 0


def stop(given: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    run = Workspace.open(given.workspace).run(given.run)
    message = supervisor.stop(run)
    if given.json:
        print_json({"run": run.id, "state": supervisor.status(run).state, "message": message})
    else:
        print(message)
    return 0


def resume(given: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run)
    step = supervisor.resume(run, workspace)
    if given.json:
        print_json({"run": run.id, "step": step})
    else:
        said = f"goes on from step {step}" if step else "starts from the beginning: it had no whole checkpoint"
        print(f"{run.id} {said}. Follow it with: python -m ftlab runs show {run.id}{workspace.flag}")
    return 0


def move(given: argparse.Namespace) -> int:
    from ftlab.training import queue

    workspace = Workspace.open(given.workspace)
    order = [run.id for run in queue.move(workspace.run(given.run), workspace, given.where)]
    if given.json:
        print_json({"queue": order})
    else:
        print("\n".join(f"{place}. {name}" for place, name in enumerate(order, start=1)))
    return 0


def delete(given: argparse.Namespace) -> int:
    from ftlab.training import supervisor

    workspace = Workspace.open(given.workspace)
    run = workspace.run(given.run)
    if not given.yes:
        raise InputError(
            f"Deleting {run.id} removes its adapter and scores for good", try_="add --yes if that is what you want"
        )
    supervisor.delete(run, workspace)
    print(f"Deleted {run.id}.")
    return 0


def _stage(config: Any) -> str:
    parts = [config.stage + (" (experimental in TRL)" if config.stage in EXPERIMENTAL else "")]
    if config.preference.loss and config.stage in LOSSES:
        parts.append(f"loss {config.preference.loss}")
    if config.model.start:
        parts.append(f"started from {config.model.start}")
    return ", ".join([*parts, f"method {config.method.name} on {config.model.base}"])


def _failure(error: dict[str, Any]) -> str:
    return str(FtlabError(error["what"], why=error.get("why"), try_=error.get("try")))


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in splits.items()) or "no rows"
