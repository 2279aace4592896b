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
from ftlab.damage import explained
from ftlab.errors import FtlabError, InputError
from ftlab.models.strength import AS_TRAINED, chosen_strength
from ftlab.run_directory import RunDirectory
from ftlab.training.self_replay import mixed_in_words
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
    workspace = Workspace.open(given.workspace)
    rows = []
    for run in workspace.runs():
        try:
            rows.append(_listed(run))
        except Exception as error:  # each run stands for itself
            told = error if isinstance(error, FtlabError) else explained(error)
            rows.append({"run": run.id, "state": "damaged", "damage": str(told or error)})
    if given.json:
        print_json({"runs": rows})
    elif not rows:
        say(f"No runs yet in {workspace.root}. Start one with: python -m ftlab quickstart")
    for row in [] if given.json else rows:
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


def _listed(run: RunDirectory) -> dict[str, Any]:
    """One run as `runs list` shows it. Raises FtlabError where a file that it is read from is damaged."""
    from ftlab.training import supervisor

    status = supervisor.status(run)
    if status.state == "damaged" and status.error:
        raise FtlabError(status.error["what"], why=status.error["why"], try_=status.error["try"])
    config, scores = load_config(run.config_file), (run.comparison() or {}).get("adapted", {})
    return {
        "run": run.id,
        "state": status.state,
        "data": config.data.source,
        "base": config.model.base,
        "stage": config.stage,
        "start": config.model.start,
        "method": config.method.name,
        "preference_accuracy": (run.preferences() or {}).get("accuracy"),
        "exact_match": scores.get("exact_match"),
        "perplexity": scores.get("perplexity"),
    }


def show(given: argparse.Namespace) -> int:
    from ftlab.evaluation.keeping import also_asked
    from ftlab.training import supervisor

    run = Workspace.open(given.workspace).run(given.run)
    status = supervisor.status(run)
    damage: list[str] = []

    def read(value: Callable[[], Any]) -> Any:
        """What `value` gives; None where the file it is read from is damaged. The rest of the run is shown."""
        try:
            return value()
        except Exception as error:
            told = error if isinstance(error, FtlabError) else explained(error)
            if told is None:
                raise
            damage.append(str(told))
            return None

    config = read(lambda: load_config(run.config_file))
    if given.json:
        asked = read(lambda: also_asked(run)) or []
        shown = {
            "run": run.id,
            "directory": str(run.path),
            "config": config and config.model_dump(mode="json"),
            "status": dataclasses.asdict(status),
            "comparison": read(run.comparison),
            "also_asked": [{"name": name, "asked": text, "verdict": verdict} for name, text, verdict in asked],
            "preferences": read(run.preferences),
            "before_after": read(run.before_after),
            "rewards": read(run.rewards),
            "verification": read(run.verification),
            "strength": read(lambda: chosen_strength(run)),
        }
        print_json(shown | ({"damage": damage} if damage else {}))
        return 0
    print(f"{run.id}: {read(lambda: progress_line(run, status)) or status.state}")
    print(f"directory  {run.path}")
    splits = (read(run.manifest) or {}).get("splits", {})
    if config is not None:
        print(f"stage      {_stage(config)}")
        print(f"data       {config.data.source} ({_counts(splits)})")
        if (manifest := read(run.manifest)) is not None:
            print(f"replay     {mixed_in_words(config, manifest)}")
    if (at := read(lambda: chosen_strength(run))) not in (None, AS_TRAINED):
        print(f"strength   {at:g} in chat, exports and blind tests, as chosen; figures of the run are those as trained")
    for warning in status.warnings:
        print(f"warning    {warning}")
    if status.error:
        print(f"{status.state:<10} {_failure(status.error)}")
    for value, show_it in (
        (run.preferences, print_preferences),
        (run.rewards, print_rewards),
        (run.comparison, print_table),
    ):
        read(lambda value=value, show_it=show_it: None if (found := value()) is None else show_it(found))
    for name, text, verdict in read(lambda: also_asked(run)) or []:
        print(f"also asked {text}: {verdict or 'see'} (evaluation/{name})")
    read(lambda: None if (found := run.before_after()) is None else print_before_after(found))
    for text in dict.fromkeys(damage):
        print(f"damaged    {text}")
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
    warnings = supervisor.status(run).warnings
    if given.json:
        print_json({"run": run.id, "step": step, "warnings": warnings})
    else:
        for warning in warnings:
            print(f"warning    {warning}")
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
