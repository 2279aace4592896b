"""What to change in the next run when this one forgot or learnt by heart: each at one press, in a filled form."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ftlab.config import RunConfig, with_settings
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import disk
from ftlab.ui.html import heading, join, notice


def offered(run: RunDirectory) -> Markup:
    """A card for each remedy, the likeliest first; empty where there is nothing to mend."""
    found = remedies_of(run)
    if not found:
        return Markup("")
    cards = join(
        Markup(
            '<article class="ft-finding"><h4>{}</h4><p>{}</p><div class="ft-remedies">'
            '<button type="button" class="ft-do{}" data-pick="{}:{}" aria-label="Try it: {}">'
            "Fill in the settings</button></div></article>"
        ).format(remedy.title, remedy.why, "" if place else " ft-do-main", run.id, place, remedy.title)
        for place, remedy in enumerate(found)
    )
    return Markup('<section class="ft-card">{}<div class="ft-findings">{}</div></section>').format(
        heading("What may help", "Pre-fills a new run with these changes. Nothing starts until you press Start."),
        cards,
    )


def remedies_of(run: RunDirectory) -> list[Any]:
    """The remedies against what the comparison of `run` shows."""
    from ftlab.evaluation.forgetting import remedies

    comparison, config = disk.comparison(run), disk.config(run)
    return remedies(comparison, config) if comparison and config else []


def changed(pick: str, workspace: Workspace) -> tuple[RunConfig, Any]:
    """The configuration of the run with the remedy that was picked, and the remedy.

    Raises InputError when it is not offered any more.
    """
    run_id, _, place = pick.rpartition(":")
    run = workspace.run(run_id)
    found, config = remedies_of(run), disk.config(run)
    if config is None or not place.isdigit() or int(place) >= len(found):
        raise InputError("This remedy is not there any more", try_="choose the run again")
    remedy = found[int(place)]
    return with_settings(config, remedy.changes), remedy


def said(remedy: Any) -> Markup:
    """What was filled in, and what is left to do."""
    changes = ", ".join(f"{path}: {value}" for path, value in remedy.changes.items())
    todo = f"Fill in {remedy.needs}, then press Start." if remedy.needs else "Press Start when you are content."
    return notice(
        Markup("<strong>{}.</strong> The settings of the run are filled in, with {}. {}").format(
            remedy.title, changes, todo
        ),
        kind="warn" if remedy.needs else "good",
    )
