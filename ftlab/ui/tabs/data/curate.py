"""Curate: an expert goes through the rows, judges and edits them, and saves everything as one new version.

Judgments go into a draft on disk at once (data/curation.py), so a reload or a restart loses nothing.

elem_ids: `data_curate_who`, `data_curate_status`, `data_curate_unsaved` (column: `data_curate_why`,
`data_curate_save`, `data_curate_discard`), `data_curate_confirm` (the question: `data_curate_yes`, `data_curate_no`),
`data_curate_choice` (a later version is there: `data_curate_onto`, `data_curate_beside`, `data_curate_wait`),
`data_curate_filter`, `data_curate_search`, `data_curate_previous`, `data_curate_next`, `data_curate_number`,
`data_curate_go`, `data_curate_message`, `data_curate_row` (the card), `data_curate_at` (hidden: the row in the card),
`data_curate_good`, `data_curate_bad`, `data_curate_none`, `data_curate_edit`, `data_curate_reason`,
`data_curate_exclude`, `data_curate_back`, `data_curate_note`, `data_curate_annotate`, `data_curate_onwards`.
"""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import curation as drafts
from ftlab.data.curation import was_json
from ftlab.data.version_store import Version
from ftlab.data.versions import create
from ftlab.errors import FtlabError, InputError
from ftlab.ui.kit.events import on
from ftlab.ui.kit.html import empty, error_box, notice
from ftlab.ui.kit.person import remember, remembered
from ftlab.ui.kit.row_card import card, form, with_edits
from ftlab.ui.run_names import version_name
from ftlab.ui.tabs.data import curate_desk
from ftlab.ui.tabs.data.curate_layout import Panel, build, nothing_to_judge
from ftlab.ui.tabs.data.sources import DataContext, config_of, version_title

__all__ = ["build", "show", "views", "wire"]


def wire(panel: Panel, context: DataContext) -> None:
    workspace = context.workspace
    page = [context.config_json, *panel.seen]

    def follow(config_json: str | None, who: str, at: str, kind: str, text: str, kept: str | None) -> dict[Any, Any]:
        """For other data, show their draft at its place; after a save, keep the current place."""
        source = config_of(config_json).source if config_json else None
        same = source is not None and source == kept
        if not same:
            at, kind, text = "", curate_desk.FILTERS[0], ""
        back = {} if same else {panel.filter: kind, panel.search: text, panel.message: ""}
        # An empty name is not sent back: somebody may be typing one.
        name = {panel.who: who} if who else {}
        return name | {panel.kept: source} | back | screen(panel, workspace, config_json, who, at, kind, text)

    def named(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        return screen(panel, workspace, config_json, who, at, kind, text, to_draft=True)

    def narrow(*values: Any) -> dict[Any, Any]:
        return screen(panel, workspace, *values, in_view=True)

    def typing(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        if config_json is None or len(curate_desk.desk(config_json, who, kind, "", workspace).rows) > curate_desk.LARGE:
            return {}  # the search runs on Enter
        return narrow(config_json, who, at, kind, text)

    def move(by: int) -> Any:
        return lambda *values: screen(panel, workspace, *values, by=by)

    def go(number: str, *values: Any) -> dict[Any, Any]:
        config_json, who, _, kind, text = values
        wanted = (number or "").strip()
        rows = curate_desk.desk(config_json, who, kind, text, workspace).rows
        if not wanted.isdecimal() or rows.position(int(wanted)) is None:
            raise InputError(
                "There is no row of this number", given=number, allowed=f"{rows.ids.min():,} to {rows.ids.max():,}"
            )
        return {panel.number: "", **screen(panel, workspace, config_json, who, wanted, kind, text)}

    def judge(
        config_json: str | None, who: str, at: str, kind: str, text: str, onwards: bool, **wanted: Any
    ) -> dict[Any, Any]:
        desk, row = row_to_judge(config_json, who, at, kind, text, workspace)
        # Find the next row before this one leaves the filter.
        positions = curate_desk.view(desk)
        ahead = curate_desk.step(positions, desk.rows.position(row.id), 1) if onwards else None
        target = int(desk.rows.ids[ahead]) if ahead is not None else row.id
        change = curate_desk.judged(desk, row, **wanted)
        drafts.change(desk.draft, row, change, at=target)
        words = in_words(row.id, wanted) + (" This was the last row here." if onwards and ahead is None else "")
        return {
            panel.message: notice(words, kind="good"),
            **screen(panel, workspace, config_json, who, str(target), kind, text),
        }

    def marking(mark: str) -> Any:
        return lambda *values: judge(*values, mark=mark)

    def exclude(reason: str, *values: Any) -> dict[Any, Any]:
        return {panel.reason: "", **judge(*values, excluded=(reason or "").strip() or "by hand")}

    def bring_back(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        return judge(config_json, who, at, kind, text, False, excluded="")

    def annotate(note: str, config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        desk, row = row_to_judge(config_json, who, at, kind, text, workspace)
        if not (note or "").strip():
            raise InputError("The note is empty", allowed="some text")
        notes = (*desk.change_of(row.id).notes, note.strip())
        return {panel.note: "", **judge(config_json, who, at, kind, text, False, notes=notes)}

    def edit(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        desk, row = row_to_judge(config_json, who, at, kind, text, workspace)
        columns = desk.rows.columns
        hidden = {part: gr.update(visible=False) for part in (panel.tools, panel.verdict, panel.unsaved)}
        return {panel.card: form(curate_desk.seen(desk, row, workspace), columns), **hidden}

    def keep(event: gr.EventData, config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        desk, row = row_to_judge(config_json, who, at, kind, text, workspace)
        unsaved = dict(desk.change_of(row.id).cells)
        now = row.cells | unsaved
        typed = with_edits(row, now, event._data["cells"])
        if not typed:
            return {
                panel.message: notice("Nothing was changed."),
                **screen(panel, workspace, config_json, who, at, kind, text),
            }
        warnings = [
            f"{column} was valid JSON and no longer is."
            for column, value in typed.items()
            if was_json(now.get(column), value)
        ]
        cells = unsaved | typed
        updates = judge(config_json, who, at, kind, text, False, cells=cells)
        return updates | ({panel.message: notice(" ".join(warnings), kind="warn")} if warnings else {})

    def act(event: gr.EventData, config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        what, _, value = str(event._data["value"]).partition(":")
        if what == "open":
            return context.open(value)
        if what == "undo":
            desk, row = row_to_judge(config_json, who, at, kind, text, workspace)
            drafts.change(desk.draft, row, None)
        if what == "discard":
            drafts.discard(curate_desk.orphan(value, drafts.person_named(who), workspace))
        return screen(panel, workspace, config_json, who, at, kind, text)

    def ask(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        draft = curate_desk.desk(config_json, who, kind, text, workspace).draft
        text = Markup("<p>Discard what is not saved yet ({})? It cannot be brought back.</p>").format(draft.words)
        return {panel.confirm: gr.update(visible=True), panel.question: text}

    def discard(config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        drafts.discard(curate_desk.desk(config_json, who, kind, text, workspace).draft)
        return {
            panel.message: notice("Discarded. The rows are back to their saved state."),
            **screen(panel, workspace, config_json, who, at, kind, text),
        }

    def save(why: str, config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
        desk = curate_desk.desk(config_json, drafts.person_named(who), kind, text, workspace)
        newer = later_version(desk, workspace)
        if newer is not None:
            question = Markup(
                "<p>Meanwhile {} saved <strong>{}</strong> ({}). A version saved separately would not include that.</p>"
            )
            return {
                panel.choice: gr.update(visible=True),
                panel.choices: question.format(newer.who, version_title(newer), newer.action),
            }
        return save_draft(panel, context, desk, why, None)

    def decide(onto: bool) -> Any:
        def save_there(why: str, config_json: str | None, who: str, at: str, kind: str, text: str) -> dict[Any, Any]:
            desk = curate_desk.desk(config_json, drafts.person_named(who), kind, text, workspace)
            return save_draft(panel, context, desk, why, later_version(desk, workspace) if onto else None)

        return save_there

    def close() -> dict[Any, Any]:
        return {panel.confirm: gr.update(visible=False), panel.choice: gr.update(visible=False)}

    screen_ = panel.screen
    shows: dict[str, Any] = {"box": panel.message, "lane": "data curate"}
    on(
        panel.looked.change,
        follow,
        [*page, panel.kept],
        [panel.who, panel.kept, panel.filter, panel.search, *screen_],
        clears=False,
        js=remembered(6, 1),
        **shows,
    )
    for trigger in (panel.who.blur, panel.who.submit):
        trigger(None, [panel.who], js=remember("#data_curate_again"), api_visibility="private")
    on(panel.again.click, named, page, screen_, clears=False, **shows)
    # The list sends "input" only for a person's choice, not for what a save keeps.
    for trigger in (panel.filter.input, panel.search.submit):
        on(trigger, narrow, page, screen_, clears=False, **shows)
    on(panel.search.change, typing, page, screen_, clears=False, trigger_mode="always_last", **shows)
    for trigger, by in ((panel.previous.click, -1), (panel.next.click, 1)):
        on(trigger, move(by), page, screen_, **shows)
    for trigger in (panel.go.click, panel.number.submit):
        on(trigger, go, [panel.number, *page], [panel.number, *screen_], **shows)
    for trigger, mark in ((panel.good.click, "good"), (panel.bad.click, "bad"), (panel.none.click, "none")):
        on(trigger, marking(mark), [*page, panel.onwards], screen_, **shows)
    for trigger in (panel.exclude.click, panel.reason.submit):
        on(trigger, exclude, [panel.reason, *page, panel.onwards], [panel.reason, *screen_], **shows)
    on(panel.back.click, bring_back, page, screen_, **shows)
    for trigger in (panel.annotate.click, panel.note.submit):
        on(trigger, annotate, [panel.note, *page], [panel.note, *screen_], **shows)
    on(panel.edit.click, edit, page, [panel.card, panel.tools, panel.verdict, panel.unsaved], **shows)
    on(panel.card.keep, keep, page, screen_, **shows)
    for component in (panel.card, panel.status):
        on(component.act, act, page, [context.source, *screen_], **shows)
    on(panel.discard.click, ask, page, [panel.confirm, panel.question], **shows)
    on(panel.yes.click, discard, page, screen_, **shows)
    for trigger in (panel.no.click, panel.wait.click):
        on(trigger, close, [], [panel.confirm, panel.choice], **shows)
    outcome = [panel.kept, panel.why, panel.confirm, panel.choice, panel.choices, context.source]
    for trigger, handler in (
        (panel.save.click, save),
        (panel.onto.click, decide(True)),
        (panel.beside.click, decide(False)),
    ):
        on(
            trigger,
            handler,
            [panel.why, *page],
            outcome,
            box=panel.message,
            progress="minimal",
            show_progress_on=panel.message,
            lane="versions",
        )


def views(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.looked]


def show(panel: Panel, config_json: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates for the data on display. A later event adds the name and the place of the current person."""
    return {panel.looked: secrets.token_hex(8)}


def screen(
    panel: Panel,
    workspace: Workspace,
    config_json: str | None,
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

    `in_view` moves to the first matching row if `at` does not match, `to_draft` to where the person left off.
    """
    if config_json is None:
        return {panel.body: gr.update(visible=False), panel.nothing: gr.update(value=nothing_to_judge(), visible=True)}
    try:
        desk = curate_desk.desk(config_json, who, kind, text, workspace)
    except FtlabError as error:
        return {
            panel.body: gr.update(visible=False),
            panel.nothing: gr.update(value=error_box(error), visible=True),
        }
    positions = curate_desk.view(desk)
    position = desk.rows.position(int(at)) if at and at.isdecimal() else None
    to_draft = to_draft and desk.kind == curate_desk.FILTERS[0] and not desk.text
    if desk.draft.at is not None and (position is None or to_draft) and desk.draft.count:
        position = desk.rows.position(desk.draft.at)
    if by and position is not None:
        moved = curate_desk.step(positions, position, by)
        position = position if moved is None else moved
    if position is None or (in_view and position not in positions):
        position = curate_desk.step(positions, None, 1)
    updates = {
        panel.body: gr.update(visible=True),
        panel.nothing: gr.update(visible=False),
        panel.status: curate_desk.status(desk, workspace),
        panel.unsaved: gr.update(visible=desk.draft.count > 0),
        panel.confirm: gr.update(visible=False),
        panel.choice: gr.update(visible=False),
        panel.tools: gr.update(visible=True),
        panel.verdict: gr.update(visible=position is not None),
    }
    if position is None:
        title, hint = "No row matches.", "Show all rows, or search for something else."
        if desk.kind == curate_desk.SUSPICIOUS and not desk.suspects:
            title, hint = (
                "No row stands out.",
                "By their words, no answer is less likely than the others. Show all rows.",
            )
        return updates | {panel.card: empty(title, hint), panel.at: ""}
    row = desk.rows[position]
    seen = curate_desk.seen(desk, row, workspace)
    left_out = seen.now.excluded is not None
    place, why = curate_desk.place_of(positions, position, desk.kind, desk.text), desk.suspects.get(position)
    return updates | {
        panel.card: card(seen, desk.rows.columns, place + (f". {why}" if why else "")),
        panel.at: str(row.id),
        panel.exclude: gr.update(visible=not left_out),
        panel.back: gr.update(visible=left_out),
    }


def save_draft(panel: Panel, context: DataContext, desk: curate_desk.Desk, why: str, onto: Any) -> dict[Any, Any]:
    made = drafts.save(desk.draft, desk.data, context.workspace, why=why or "", onto=onto)
    return {
        panel.message: notice(
            f"Saved as version {made.number} of {version_name(made.name)}: {made.action}.", kind="good"
        ),
        panel.kept: made.source,
        panel.why: "",
        panel.confirm: gr.update(visible=False),
        panel.choice: gr.update(visible=False),
        **context.open(made.source),
    }


def later_version(desk: curate_desk.Desk, workspace: Workspace) -> Version | None:
    """A later version of the judged data. Creates version 1 if there is none: two people may have judged one file."""
    base = create(desk.data, workspace, who=desk.draft.who)
    return drafts.later(DataConfig(source=base.source), workspace)


def row_to_judge(
    config_json: str | None, who: str, at: str, kind: str, text: str, workspace: Workspace
) -> tuple[curate_desk.Desk, Any]:
    """The desk and the saved row. Raises InputError if no name is given or no row is displayed."""
    desk = curate_desk.desk(config_json, drafts.person_named(who), kind, text, workspace)
    row = desk.row(int(at)) if at and at.isdecimal() else None
    if row is None:
        raise InputError("No row is open", try_="choose one with Next, or show all rows")
    return desk, row


def in_words(row: int, wanted: dict[str, Any]) -> str:
    mark = {"good": "good", "bad": "bad", "none": "no mark"}.get(wanted.get("mark", ""))
    if mark:
        return f"Row {row}: {mark}."
    if "excluded" in wanted:
        return f"Row {row}: excluded, {wanted['excluded']}." if wanted["excluded"] else f"Row {row}: brought back."
    return f"Row {row}: edited." if "cells" in wanted else f"Row {row}: note added."
