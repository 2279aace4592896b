"""The list of runs: name, verdict, main score, date; a press opens one, two ticks compare."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson, decided_by
from ftlab.core.files import DamagedFile
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import shorten
from ftlab.evaluation.figures import in_sentence, number, percent, value_text
from ftlab.report import findings
from ftlab.report.measures import measures_of
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import NOTHING, PICK_JS, badge, empty, join, pick_button
from ftlab.ui.run_view import run as run_view

log = logging.getLogger(__name__)

_KINDS = {"better": "good", "worse": "bad", "open": "warn"}
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


def runs_table(runs: Sequence[RunDirectory], current: str | None, other: str | None = None) -> Markup:
    """All `runs`; `current` is open, and `other` compared with it."""
    compared = {current, other} if current and other and other != current else set()
    names = [run_names.name_of(run, dated=False) for run in runs]
    rows = join(_row(run, name, current, compared) for run, name in zip(runs, names, strict=True))
    hint = (
        Markup('<p class="ft-help">{} runs. Tick two to compare them.</p>').format(len(runs)) if len(runs) > 1 else ""
    )
    return Markup('{}<ul class="ft-runlist ft-content" aria-label="All runs"{}>{}</ul>').format(
        hint, Markup(" data-compared") if compared else "", rows
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
        badges.append(badge(word.partition(";")[0].removesuffix(" than its base"), _KINDS[kind]))
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
    measures = (comparison.get("measures") or measures_of(comparison)) if comparison else []
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
