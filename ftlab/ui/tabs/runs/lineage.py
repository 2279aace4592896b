"""The lineage of a run as a chart: its base, its ancestors, and the runs started from any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ftlab.core.run_directory import RunDirectory
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import badge, heading, join, pick_button
from ftlab.ui.run_stages import TITLES
from ftlab.ui.run_view import run as run_view


def lineage_tree(runs: Sequence[RunDirectory], current: str) -> Markup:
    """The family of the run `current`: its ancestors, and all runs started from any of them. Empty for a lone run."""
    by_id = {run.id: run for run in runs}
    parents = {run.id: run_files.parent(run) for run in runs}
    family = relatives(parents, current)
    judged = {run.id: [name for name in reward_models(run) if name in by_id] for run in runs}
    if len(family) < 2 and not parents.get(current) and not judged.get(current) and not _judges(judged, current):
        return Markup("")
    root = _root(parents, current)
    drawn = _branch(root, family, parents, by_id, judged, current)
    base = _base(by_id.get(root))
    if base:
        of_base = Markup('<div class="ft-lineage-run"><span class="ft-help">Base</span> {}</div>').format(base)
        drawn = Markup("<li>{}<ul>{}</ul></li>").format(of_base, drawn)
    return Markup('<section class="ft-card ft-lineage" data-lineage="{}">{}<ul>{}</ul></section>').format(
        current, heading("Lineage"), drawn
    )


def relatives(parents: Mapping[str, str | None], current: str) -> set[str]:
    """`current`, its ancestors, and all their descendants, by id. Includes a parent that was deleted."""
    root = _root(parents, current)
    return {root} | {run for run in parents if _root(parents, run) == root}


def reward_models(run: RunDirectory) -> list[str]:
    """The reward models that `run` learned from."""
    config = run_files.config(run)
    return [reward.model for reward in config.reinforcement.rewards if reward.model] if config else []


def _root(parents: Mapping[str, str | None], run: str) -> str:
    seen = {run}
    while (parent := parents.get(run)) and parent not in seen:
        seen.add(parent)
        run = parent
    return run


def _judges(judged: Mapping[str, Sequence[str]], current: str) -> list[str]:
    """The runs that learned from the reward model `current`."""
    return [run for run, models in judged.items() if current in models]


def _branch(
    run_id: str,
    family: set[str],
    parents: Mapping[str, str | None],
    by_id: Mapping[str, RunDirectory],
    judged: Mapping[str, Sequence[str]],
    current: str,
) -> Markup:
    children = sorted(child for child in family if parents.get(child) == run_id)
    below = join(_branch(child, family, parents, by_id, judged, current) for child in children)
    return Markup("<li>{}{}</li>").format(
        _node(run_id, by_id.get(run_id), judged, current), Markup("<ul>{}</ul>").format(below) if below else ""
    )


def _node(run_id: str, run: RunDirectory | None, judged: Mapping[str, Sequence[str]], current: str) -> Markup:
    if run is None:
        return Markup('<span class="ft-help">{} (deleted, or a folder)</span>').format(run_id)
    state = run_files.status(run).state
    parts = badge(TITLES[run_files.stage(run)]) + Markup(" ")
    name = run_names.name_of(run, dated=False)
    parts += pick_button(run.id, name, label=f"Open {name}, {run.id}", current=run.id == current)
    if state != "completed":
        parts += Markup(" ") + run_view.state_badge(state)
    for text, others in (("rewarded by", judged.get(run_id, ())), ("rewards", _judges(judged, run_id))):
        if others:
            links = join((pick_button(other, other, label=f"Open {other}") for other in others), " ")
            parts += Markup(' <span class="ft-help">{}</span> {}').format(text, links)
    return Markup('<div class="ft-lineage-run">{}</div>').format(parts)


def _base(run: RunDirectory | None) -> str:
    config = run_files.config(run) if run else None
    return config.model.base if config else ""
