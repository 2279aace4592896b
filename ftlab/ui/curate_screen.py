"""What the Curate panel shows after each press, and how a draft becomes a version."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import curation as drafts
from ftlab.data.versions import Version, create
from ftlab.errors import FtlabError, InputError
from ftlab.ui import judging
from ftlab.ui.curate_layout import Panel, nothing_to_judge
from ftlab.ui.data_sources import DataContext
from ftlab.ui.html import empty, error_box, notice
from ftlab.ui.row_card import card


def screen(
    panel: Panel,
    workspace: Workspace,
    shown: str | None,
    who: str | None,
    at: str | None,
    kind: str | None,
    text: str | None,
    *,
    by: int = 0,
    in_view: bool = False,
    to_draft: bool = False,
) -> dict[Any, Any]:
    """Updates for the whole panel: the row `at`, or the one before or after it (`by`).

    `in_view` goes to the first row that matches when `at` does not, `to_draft` to where the person left off.
    """
    if shown is None:
        return {panel.body: gr.update(visible=False), panel.nothing: gr.update(value=nothing_to_judge(), visible=True)}
    try:
        desk = judging.desk(shown, who, kind, text, workspace)
    except FtlabError as error:
        return {
            panel.body: gr.update(visible=False),
            panel.nothing: gr.update(value=error_box(error), visible=True),
        }
    positions = judging.view(desk)
    position = desk.rows.position(int(at)) if at and at.isdecimal() else None
    to_draft = to_draft and desk.kind == judging.FILTERS[0] and not desk.text
    if desk.draft.at is not None and (position is None or to_draft) and desk.draft.count:
        position = desk.rows.position(desk.draft.at)
    if by and position is not None:
        moved = judging.step(positions, position, by)
        position = position if moved is None else moved
    if position is None or (in_view and position not in positions):
        position = judging.step(positions, None, 1)
    updates = {
        panel.body: gr.update(visible=True),
        panel.nothing: gr.update(visible=False),
        panel.status: judging.status(desk, workspace),
        panel.unsaved: gr.update(visible=desk.draft.count > 0),
        panel.confirm: gr.update(visible=False),
        panel.choice: gr.update(visible=False),
        panel.tools: gr.update(visible=True),
        panel.verdict: gr.update(visible=position is not None),
    }
    if position is None:
        hint = "Show all rows, or search for something else."
        return updates | {panel.card: empty("No row matches.", hint), panel.at: ""}
    row = desk.rows[position]
    seen = judging.seen(desk, row, workspace)
    left_out = seen.now.excluded is not None
    return updates | {
        panel.card: card(seen, desk.rows.columns, judging.place_of(positions, position, desk.kind, desk.text)),
        panel.at: str(row.id),
        panel.exclude: gr.update(visible=not left_out),
        panel.back: gr.update(visible=left_out),
    }


def save_draft(panel: Panel, context: DataContext, desk: judging.Desk, why: str, onto: Any) -> dict[Any, Any]:
    made = drafts.save(desk.draft, desk.data, context.workspace, why=why or "", onto=onto)
    return {
        panel.message: notice(f"Saved as version {made.number} of {made.name}: {made.action}.", kind="good"),
        panel.kept: made.source,
        panel.why: "",
        panel.confirm: gr.update(visible=False),
        panel.choice: gr.update(visible=False),
        **context.open(made.source),
    }


def later_version(desk: judging.Desk, workspace: Workspace) -> Version | None:
    """A later version of what was judged; version 1 is made where there is none, as two may have judged one file."""
    base = create(desk.data, workspace, who=desk.draft.who)
    return drafts.later(DataConfig(source=base.source), workspace)


def row_to_judge(
    shown: str | None, who: str, at: str, kind: str, text: str, workspace: Workspace
) -> tuple[judging.Desk, Any]:
    """The desk and the row as it is saved. Raises InputError when nobody is named or no row is on show."""
    desk = judging.desk(shown, drafts.person_named(who), kind, text, workspace)
    row = desk.row(int(at)) if at and at.isdecimal() else None
    if row is None:
        raise InputError("No row is on show", try_="choose one with Next, or show all rows")
    return desk, row


def in_words(row: int, wanted: dict[str, Any]) -> str:
    mark = {"good": "good", "bad": "bad", "none": "no mark"}.get(wanted.get("mark", ""))
    if mark:
        return f"Row {row}: {mark}."
    if "excluded" in wanted:
        return f"Row {row}: excluded, {wanted['excluded']}." if wanted["excluded"] else f"Row {row}: brought back."
    return f"Row {row}: edited." if "cells" in wanted else f"Row {row}: note added."
