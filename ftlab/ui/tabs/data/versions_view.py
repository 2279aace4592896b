"""Versions as HTML: the history of a data set, and the differences between two of its versions, row by row."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.curation import Diff, diff
from ftlab.data.inspection import EveryRow, every_row
from ftlab.data.version_store import PREFIX, Version, VersionRow, find, history
from ftlab.ui import run_files
from ftlab.ui.kit.html import badge, count, details, empty, join, notice, pick_button, table, when
from ftlab.ui.kit.row_card import cell, readable
from ftlab.ui.kit.word_diff import marked

PAGE_ROWS = 5
_MOST_LISTED = 100

# A press on a version selects it; a press on a run opens it on the Runs tab.
HISTORY_JS = """
element.addEventListener('click', event => {
  const run = event.target.closest('[data-run]');
  const version = event.target.closest('[data-pick]');
  if (version) trigger('pick', {value: version.dataset.pick});
  if (!run) return;
  document.querySelector('#tab_runs-button')?.click();
  let tries = 0;
  const waiting = setInterval(() => {
    const button = [...document.querySelectorAll('#runs_table [data-pick]')]
      .find(one => one.dataset.pick === run.dataset.run);
    if (button) button.click();
    if (button || ++tries > 50) clearInterval(waiting);
  }, 100);
});
"""
_WORDS = {
    "changed": ("{} edited", "edited", "info"),
    "added": ("{} added or brought back", "added", "good"),
    "removed": ("{} removed or excluded", "removed", "bad"),
    "moved": ("{} moved to another split", "moved", "info"),
    "remarked": ("{} with a changed mark or note", "remarked", "warn"),
}


def name_of(data: DataConfig, workspace: Workspace) -> str | None:
    """The data set that `data` is a version of, or whose first version was made from it; None if there is none."""
    if data.source.startswith(PREFIX):
        return find(data.source, workspace).name
    sources = {data.source, Path(data.source).name}
    versions = [
        version for version in history(workspace) if version.parent is None and version.details.get("source") in sources
    ]
    return versions[-1].name if versions else None


def runs_of(workspace: Workspace) -> dict[str, list[str]]:
    """The ids of the runs that used each version, by the version's id; each manifest is read once."""
    used: dict[str, list[str]] = defaultdict(list)
    for run in workspace.runs():
        for version in {source.get("version") for source in run_files.manifest(run).get("sources", [])} - {None}:
            used[version].append(run.id)
    return used


def history_table(versions: list[Version], config_source: str | None, used: dict[str, list[str]]) -> Markup:
    """All versions of one data set, newest first. `config_source` is the current source."""
    if not versions:
        return empty(
            "Not saved as a version yet.",
            "Make a version by saving in Curate, applying a remedy in Checks, splitting, or with the button below.",
        )
    rows = [_line(version, config_source, used.get(version.id, [])) for version in reversed(versions[-_MOST_LISTED:])]
    headers = ["Version", "When", "What was done", "Who and why", "Rows", "Excluded", "Runs that used it"]
    older = len(versions) - _MOST_LISTED
    more = f"{older} older ones: python -m ftlab data versions list" if older > 0 else ""
    return table(headers, rows, label="Versions", numbers=(5,), css="ft-versions") + Markup(
        '<p class="ft-help">Press a version to open it. {}</p>'
    ).format(more)


def _line(version: Version, config_source: str | None, runs: list[str]) -> list[Any]:
    sizes = join((Markup("<div>{}: {}</div>").format(split, count(size)) for split, size in version.rows.items()))
    links = join(
        Markup('<button type="button" class="ft-pick" data-run="{}" aria-label="Open the run {}">{}</button>').format(
            run, run, run
        )
        for run in runs[:5]
    ) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
    current = version.source == config_source
    name: Any = f"Version {version.number}"
    if version.deleted:
        gone = version.deleted
        why = f" ({gone['why']})" if gone.get("why") else ""
        name = Markup("{}<br>{}").format(name, badge("deleted", "bad"))
        links += Markup('<div class="ft-help">Deleted by {}, {}{}.</div>').format(gone["who"], gone["when"][:10], why)
    else:
        button = pick_button(version.source, name, label=f"Show version {version.number}", current=current)
        name = Markup("{}{}").format(button, Markup("<br>{}").format(badge("on show")) if current else "")
    about = Markup('<strong>{}</strong><div class="ft-help">{}</div>').format(version.who, version.why)
    return [name, moment(version), version.action, about, sizes, count(version.excluded), links]


def moment(version: Version) -> str:
    return when(datetime.fromisoformat(version.when).timestamp())


def choices(versions: list[Version]) -> list[tuple[str, str]]:
    """(title, id) of the versions whose rows exist, newest first."""
    return [
        (f"Version {version.number}: {version.action}"[:90], version.id)
        for version in reversed(versions)
        if version.deleted is None
    ]


# What differs


@lru_cache(maxsize=8)
def _compared(before: str, after: str, root: str) -> tuple[Diff, list[int]]:
    changes = diff(before, after, Workspace(Path(root)))
    rows = {row for kind in _WORDS for row in getattr(changes, kind)}
    return changes, sorted(rows)


def pages(before: str, after: str, workspace: Workspace) -> int:
    return max(1, -(-len(_compared(before, after, str(workspace.root))[1]) // PAGE_ROWS))


def difference(before: str, after: str, page: int, workspace: Workspace) -> Markup:
    """One page of differences: a summary, then each row side by side."""
    changes, rows = _compared(before, after, str(workspace.root))
    old_version, new_version = find(before, workspace), find(after, workspace)
    between = f"From version {old_version.number} to version {new_version.number}"
    if not rows:
        return notice(f"{between} no row differs.")
    amounts = [
        words.format("1 row" if len(getattr(changes, kind)) == 1 else f"{len(getattr(changes, kind)):,} rows")
        for kind, (words, _, _) in _WORDS.items()
        if getattr(changes, kind)
    ]
    old, new = (every_row(DataConfig(source=version.source), workspace) for version in (old_version, new_version))
    last = pages(before, after, workspace)
    here = rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    return Markup('<p>{}: {}.</p><p class="ft-help">Page {} of {}.</p>{}').format(
        between, ", ".join(amounts), page, last, join(_row(row, changes, old, new) for row in here)
    )


def _row(row: int, changes: Diff, old: EveryRow, new: EveryRow) -> Markup:
    kinds = [kind for kind in _WORDS if row in getattr(changes, kind)]
    badges = join((badge(_WORDS[kind][1], _WORDS[kind][2]) for kind in kinds), " ")
    before, after = _at(old, row), _at(new, row)
    parts = [*_facts(before, after)]
    if "changed" in kinds and before and after:
        parts.append(_side_by_side(before, after))
    else:
        whole = after or before
        cells = join(
            Markup('<div class="ft-cell"><div class="ft-cell-name">{}</div>{}</div>').format(name, cell(value))
            for name, value in (whole.cells if whole else {}).items()
        )
        parts.append(details("The row", cells))
    return Markup(
        '<section class="ft-card ft-differs" data-row="{}">'
        '<div class="ft-row-head"><h3 class="ft-h">Row {}</h3>{}</div>{}</section>'
    ).format(row, row, badges, join(parts))


def _at(rows: EveryRow, row: int) -> VersionRow | None:
    position = rows.position(row)
    return None if position is None else rows[position]


def _facts(before: VersionRow | None, after: VersionRow | None) -> list[Markup]:
    lines = []
    if before and after:
        if after.excluded and not before.excluded:
            lines.append(f"Excluded: {after.excluded}.")
        if before.excluded and not after.excluded:
            lines.append("Brought back.")
        if before.split != after.split:
            lines.append(f"From {before.split} to {after.split}.")
        if before.mark != after.mark:
            lines.append(f"Mark: {before.mark or 'none'} before, {after.mark or 'none'} after.")
        lines += [f"Remark: {note}" for note in after.notes[len(before.notes) :]]
    return [Markup('<p class="ft-help">{}</p>').format(line) for line in lines]


def _side_by_side(before: VersionRow, after: VersionRow) -> Markup:
    lines = []
    for name in dict.fromkeys([*before.cells, *after.cells]):
        old, new = before.cells.get(name), after.cells.get(name)
        if old == new:
            continue
        left, right = marked(readable(old), readable(new))
        lines.append(
            [name, *(Markup('<div class="ft-text">{}</div>').format(text or "(nothing)") for text in (left, right))]
        )
    return table(["Column", "Before", "After"], lines, label="Cells before and after", css="ft-sides")
