"""Making a blind test: the form, kept on disk as it is filled in, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena import blind_tests, links
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from ftlab.ui import blind_test_form as forms
from ftlab.ui import blind_test_plan as plan
from ftlab.ui.blind_test_layout import BlindTestTab, show_all
from ftlab.ui.blind_test_picture import choices
from ftlab.ui.data_sources import keep_upload
from ftlab.ui.events import any_of, on
from ftlab.ui.fresh import digests, only_new
from ftlab.ui.html import notice

LANE = "blind test"


def wire_form(tab: BlindTestTab, workspace: Workspace) -> None:
    form = tab.form

    def keep(*given: Any) -> None:
        """At once, and beside the queue: reading the prompts may take a while."""
        values = form.read(given)
        if values != forms.load(workspace):
            forms.keep(values, workspace)

    def changed(sent: dict[str, str], *given: Any) -> dict[Any, Any]:
        """Only what is new: anything else would say that it changed, and never end."""
        found = suited(form, form.read(given), workspace)
        fresh = only_new(found, sent)
        return {**fresh, known: digests(found)} if fresh else {}

    def more(*given: Any) -> dict[Any, Any]:
        values = form.read(given)
        free = next(n for n in range(3, forms.MOST_CONTESTANTS + 1) if not values[f"who_{n}"])
        values[f"who_{free}"] = "prompted"
        forms.keep(values, workspace)
        return suited(form, values, workspace) | {form.fields[f"who_{free}"]: "prompted"}

    def upload(path: str | None, *given: Any) -> dict[Any, Any]:
        if not path:
            return {}
        values = form.read(given) | {"file": str(keep_upload(Path(path), workspace))}
        forms.keep(values, workspace)
        return {**_filled(tab, workspace), form.upload: None}

    def make(*given: Any) -> dict[Any, Any]:
        values = form.read(given)
        among, how = plan.contestants(values, workspace), plan.settings(values)
        asked = plan.asked(values, workspace).prompts
        raters = plan.whole("Raters", values["raters"])
        store = open_store(workspace)
        votes = plan.planned(values, len(asked), len(among))
        test_id = blind_tests.create_test(store, values["title"] or "", among, asked, how, votes)
        links.create_raters(store, test_id, [""] * raters)
        forms.forget(workspace)
        return {
            tab.chosen: gr.update(choices=choices(workspace), value=test_id),
            tab.message: notice("The test is made. Next: its answers.", kind="good"),
            **_filled(tab, workspace),
            **show_all(tab, test_id, workspace),
        }

    told = [*form.shown, form.found, form.power]
    # A text box tells of a paste by `change` only.
    inputs = [one.change if isinstance(one, gr.Textbox) else one.input for one in form.inputs]
    any_change = any_of(*inputs)
    on(any_change, keep, form.inputs, box=form.message, clears=False, queue=False, trigger_mode="always_last")
    known = gr.State({})  # what the form was sent
    shows: dict[str, Any] = {"box": form.message, "lane": LANE}
    on(any_change, changed, [known, *form.inputs], [*told, known], trigger_mode="always_last", **shows)
    on(form.more.click, more, form.inputs, told, **shows)
    on(form.upload.upload, upload, [form.upload, *form.inputs], told, **shows)
    on(
        form.make.click,
        make,
        form.inputs,
        [tab.chosen, tab.message, *told, *tab.shown, tab.memory],
        progress="minimal",
        show_progress_on=form.message,
        **shows,
    )


def suited(form: forms.Form, values: dict[str, Any], workspace: Workspace) -> dict[Any, Any]:
    found, power = plan.look(values, workspace)
    shown = forms.suit(form, values, plan.topics(values, workspace))
    return shown | {form.found: found, form.power: power}


def _filled(tab: BlindTestTab, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show in the form what is filled in, as it is kept on disk."""
    values = forms.load(workspace)
    found, power = plan.look(values, workspace)
    shown = forms.fill(tab.form, values, plan.topics(values, workspace), workspace)
    return shown | {tab.form.found: found, tab.form.power: power}
