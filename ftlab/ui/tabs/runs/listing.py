"""The list of runs (name, verdict, main score, date; a press opens one, two ticks compare), and the lineage of one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson, decided_by
from ftlab.core.files import DamagedFile
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import shorten
from ftlab.evaluation.figures import in_sentence, number, percent, value_text
from ftlab.report import findings
from ftlab.report.measures import measures_of
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import NOTHING, PICK_JS, badge, empty, heading, join, pick_button
from ftlab.ui.run_stages import TITLES
from ftlab.ui.run_view import run as run_view

log = logging.getLogger(__name__)

_KINDS = {"better": "good", "worse": "bad", "open": "warn"}
ALL, _MOST = "*", 100
# A second tick compares; a third replaces the first. While two are compared, each tick counts.
LIST_JS = (
    PICK_JS
    + """
let ticked = [];
element.addEventListener('change', event => {
  const box = event.target.closest('input[data-tick]');
  if (!box) return;
  const boxes = [...element.querySelectorAll('input[data-tick]')];
  const on = boxes.filter(one => one.checked).map(one => one.dataset.tick);
  ticked = [...ticked.filter(id => on.includes(id)), ...on.filter(id => !ticked.includes(id))].slice(-2);
  boxes.forEach(one => { one.checked = ticked.includes(one.dataset.tick); });
  if (ticked.length === 2 || element.querySelector('[data-compared]')) trigger('pick', {value: ticked.join(' ')});
});
"""
)


def no_runs() -> Markup:
    return empty("No runs yet.", "Start one on the Train tab. Every run is kept here.")


def runs_table(
    runs: Sequence[RunDirectory], current: str | None, other: str | None = None, *, whole: bool = False
) -> Markup:
    """`runs`, newest first: the first _MOST and those in use, or all (`whole`). `current` is open, and `other` compared
    with it."""
    compared = {current, other} if current and other and other != current else set()
    listed = [run for place, run in enumerate(runs) if whole or place < _MOST or run.id in (current, *compared)]
    names = run_names.told_apart(listed, dated=False)
    rows = join(_row(run, name, current, compared) for run, name in zip(listed, names, strict=True))
    hint = (
        Markup('<p class="ft-help">{:,} runs. Tick two to compare them.</p>').format(len(runs)) if len(runs) > 1 else ""
    )
    more = pick_button(ALL, f"Show all {len(runs):,} runs", label="Show all runs") if len(listed) < len(runs) else ""
    return Markup('{}<ul class="ft-runlist ft-content" aria-label="Runs"{}>{}</ul>{}').format(
        hint, Markup(" data-compared") if compared else "", rows, more
    )


def _row(run: RunDirectory, name: str, current: str | None, compared: Collection[str | None]) -> Markup:
    try:
        badges, score = _badges(run), _score(run)
        date = run_names.started(run)
    except DamagedFile:
        raise
    except Exception as error:
        # Each run is drawn on its own: an unexpected error in the files of one hides no other.
        log.warning("The run %s cannot be listed: %s", run.id, shorten(repr(error)))
        badges, score, date = run_view.state_badge("damaged", "Damaged"), NOTHING, NOTHING
    tick = Markup('<input type="checkbox" data-tick="{}" aria-label="Compare {}"{}>').format(
        run.id, name, Markup(" checked") if run.id in compared else ""
    )
    opens = pick_button(run.id, name, label=f"Open {name}, {run.id}", current=run.id == current)
    return Markup(
        '<li{}>{}{}<span class="ft-run-badges">{}</span><span class="ft-run-score">{}</span>'
        '<span class="ft-run-date">{}</span></li>'
    ).format(Markup(' class="ft-current"') if run.id == current else "", tick, opens, badges, score, date)


def _badges(run: RunDirectory) -> Markup:
    """The verdict; the state too if the run did not finish."""
    status, comparison = run_files.status(run), run_files.comparison(run)
    state = "damaged" if run_files.damage(run) and not status.is_active else status.state
    badges = [] if state == "completed" else [run_view.state_badge(state, state.capitalize())]
    if comparison and comparison.get("verdict"):
        kind, word = findings.badge(comparison["verdict"])
        short = word if comparison["verdict"].get("forgot") else word.partition(";")[0].removesuffix(" than its base")
        badges.append(badge(short, _KINDS[kind]))
    elif not badges and preferred(run) == NOTHING:
        badges.append(badge("Not evaluated"))
    return join(badges, " ")


def _score(run: RunDirectory) -> str:
    """The deciding measure, base → adapted; without one, the result of the held-out preferences."""
    comparison = run_files.comparison(run)
    held_out = preferred(run)
    if comparison is None:
        return f"preference {held_out}" if held_out != NOTHING else NOTHING
    known = {measure["name"]: measure for measure in measures_of(comparison)}
    measure = known.get(decided_by(comparison) or "") or next(iter(known.values()), None)
    return f"{in_sentence(measure['title'])} {pair_text(comparison, measure['name'])}" if measure else NOTHING


def pair_text(comparison: ComparisonJson | None, name: str) -> str:
    """The measure called `name`, base → adapted."""
    measures = comparison["measures"] if comparison else []
    measured = next((measure for measure in measures if measure["name"] == name), None)
    if measured is None or any(measured["values"].get(side) is None for side in ("base", "adapted")):
        return NOTHING
    return " → ".join(value_text(measured, measured["values"][side]) for side in ("base", "adapted"))


def preferred(run: RunDirectory) -> str:
    """The result of a run's held-out preferences or rewards, in one cell."""
    preferences, rewards = run_files.preferences(run), run_files.rewards(run)
    if preferences:
        return percent(preferences["accuracy"])
    if rewards:
        return f"{number(rewards['start']['reward'])} → {number(rewards['adapted']['reward'])}"
    return NOTHING


def lineage_tree(runs: Sequence[RunDirectory], current: str) -> Markup:
    """The family of the run `current`: its ancestors, and all runs started from any of them. Empty for a lone run."""
    by_id = {run.id: (run, name) for run, name in zip(runs, run_names.told_apart(runs), strict=True)}
    parents = {run.id: run_files.parent(run) for run in runs}
    family = relatives(parents, current)
    judged = {run.id: [name for name in reward_models(run) if name in by_id] for run in runs}
    if len(family) < 2 and not parents.get(current) and not judged.get(current) and not _judges(judged, current):
        return Markup("")
    root = _root(parents, current)
    drawn = _branch(root, family, parents, by_id, judged, current)
    base = _base(by_id[root][0]) if root in by_id else ""
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
    by_id: Mapping[str, tuple[RunDirectory, str]],
    judged: Mapping[str, Sequence[str]],
    current: str,
) -> Markup:
    children = sorted(child for child in family if parents.get(child) == run_id)
    below = join(_branch(child, family, parents, by_id, judged, current) for child in children)
    return Markup("<li>{}{}</li>").format(
        _node(run_id, by_id.get(run_id), judged, current), Markup("<ul>{}</ul>").format(below) if below else ""
    )


def _node(
    run_id: str, known: tuple[RunDirectory, str] | None, judged: Mapping[str, Sequence[str]], current: str
) -> Markup:
    if known is None:
        return Markup('<span class="ft-help">{} (deleted, or a folder)</span>').format(run_id)
    run, name = known
    state = run_files.status(run).state
    parts = badge(TITLES[run_files.stage(run)]) + Markup(" ")
    parts += pick_button(run.id, name, label=f"Open {name}, {run.id}", current=run.id == current)
    if state != "completed":
        parts += Markup(" ") + run_view.state_badge(state)
    for text, others in (("rewarded by", judged.get(run_id, ())), ("rewards", _judges(judged, run_id))):
        if others:
            links = join((pick_button(other, other, label=f"Open {other}") for other in others), " ")
            parts += Markup(' <span class="ft-help">{}</span> {}').format(text, links)
    return Markup('<div class="ft-lineage-run">{}</div>').format(parts)


def _base(run: RunDirectory) -> str:
    config = run_files.config(run)
    return config.model.base if config else ""
