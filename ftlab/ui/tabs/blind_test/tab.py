"""Blind test: make a test, let answers be made, send links, wait without peeking, read the verdict, learn from it.

The parts of the page, with their elem_ids, are in `blind_test_layout.py`; the form of a new test in
`blind_test_form.py`, what it means in `blind_test_plan.py`; the picture in
`blind_test_picture.py`.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena import answers as answering
from ftlab.arena import blind_tests, links, tally
from ftlab.arena.blind_tests import list_contestants
from ftlab.arena.preferences import DPO_FILE, KTO_FILE, export
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from ftlab.data.splits import FEWEST_ROWS
from ftlab.errors import InputError
from ftlab.ui import background, run_files
from ftlab.ui.kit.events import any_of, offer_file, on, press
from ftlab.ui.kit.fresh import digests, only_new
from ftlab.ui.kit.html import notice, stop_note
from ftlab.ui.page import Page, kept_choices, remember_choice
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.tabs.blind_test import form as forms
from ftlab.ui.tabs.blind_test import plan
from ftlab.ui.tabs.blind_test.layout import BlindTestTab, build, show, show_all
from ftlab.ui.tabs.blind_test.picture import NEW, choices, chosen_or_newest, warning
from ftlab.ui.tabs.blind_test.views import VOID
from ftlab.ui.tabs.data.sources import keep_upload
from ftlab.ui.tabs.preferences.tab import Lesson, start_choices

__all__ = ["NEW", "STYLE_FILE", "build", "wire"]

STYLE_FILE = Path(__file__).with_name("style.css")
POLL_SECONDS = 2.0
NAME, TITLE = "blind", "Blind test"


def wire(tab: BlindTestTab, page: Page) -> None:
    workspace = page.workspace
    # Filled when somebody looks: its form is long, and a browser redraws all of it.
    opened = page.panels[NAME].select
    wire_form(tab, workspace)

    def store_and_test(chosen: str | None) -> tuple[Store, str]:
        if not chosen or chosen == NEW:
            raise InputError("No blind test is chosen", try_="choose one above, or make a new one")
        return open_store(workspace), chosen

    def load(chosen: str | None) -> dict[Any, Any]:
        known = choices(workspace)
        chosen = chosen_or_newest(chosen or kept_choices(workspace).test, known)
        served = raters_page.kept(workspace)
        return {
            tab.chosen: gr.update(choices=known, value=chosen),
            tab.reach: served["reach"],
            tab.address: gr.update(value=served["url"], visible=served["reach"] == "elsewhere"),
            **forms.fill(tab.form, forms.load(workspace), [], workspace),
            **show_all(tab, chosen, workspace),
        }

    def look(chosen: str | None) -> dict[Any, Any]:
        """Reads the prompts, for which libraries may have to be loaded: so after the rest is there."""
        return suited(tab.form, forms.load(workspace), workspace) if chosen == NEW else {}

    def choose(chosen: str | None) -> dict[Any, Any]:
        return {**show_all(tab, chosen, workspace), tab.confirm: gr.update(visible=False)}

    def follow(chosen: str | None) -> dict[Any, Any]:
        return {clock: gr.Timer(active=bool(chosen) and chosen != NEW)}

    def tick(memory: dict[str, str], chosen: str | None) -> dict[Any, Any]:
        if not chosen:
            return {}  # the page is not filled yet
        shown = show(tab, chosen, workspace)
        fresh = only_new(shown, memory)
        return {**fresh, tab.memory: digests(shown)} if fresh else {}

    def after(chosen: str | None, said: str) -> dict[Any, Any]:
        return {tab.message: notice(said, kind="good"), **show_all(tab, chosen, workspace)}

    def generate(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        answering.start(workspace, test_id)
        background.release_chat("auto")
        return {tab.message: "", **show_all(tab, chosen, workspace)}  # which says how far they are

    def stop(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        return {tab.message: stop_note(answering.stop(workspace, test_id)), **show_all(tab, chosen, workspace)}

    def open_(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        raters_page.serve(workspace, reach, url)
        blind_tests.open_test(store, test_id)
        known = choices(workspace)
        return {**after(chosen, "The test is open: send the links below."), tab.chosen: gr.update(choices=known)}

    def reached(reach: str) -> dict[Any, Any]:
        return {tab.address: gr.update(visible=reach == "elsewhere")}

    def serve(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        served = raters_page.serve(workspace, reach, url)
        return after(chosen, f"The raters' page is at {served.url}.")

    def add_links(chosen: str | None, names: str) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        given = [line.strip() for line in (names or "").split("\n") if line.strip()]
        if not given:
            raise InputError("No names are given", try_="write one on each line")
        made = links.create_raters(store, test_id, given)
        said = "Made 1 link." if len(made) == 1 else f"Made {len(made)} links."
        return {**after(chosen, said), tab.names: ""}

    def open_link(chosen: str | None) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        links.open_link(store, test_id)
        return after(chosen, "The open link stands first below: everybody who has it can vote under a name.")

    def end_link(chosen: str | None, event: gr.EventData) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        which = str(event._data["value"])
        if which == "open":
            links.revoke_open_link(store, test_id)
        elif which.startswith(VOID):
            links.void(store, which.removeprefix(VOID))
            return after(chosen, "The votes do not count any more. Every verdict will say so.")
        else:
            links.revoke(store, which)
        return after(chosen, "The link is ended.")

    def ask(what: str) -> Any:
        def asked(chosen: str | None) -> dict[Any, Any]:
            _, test_id = store_and_test(chosen)
            return {
                tab.asked: what,
                tab.warning: warning(what, test_id, workspace),
                tab.confirm: gr.update(visible=True),
            }

        return asked

    def confirmed(chosen: str | None, what: str | None) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        does = {"early": blind_tests.open_early, "close": blind_tests.close_test, "delete": blind_tests.delete_test}
        if what not in does:
            raise InputError("There is nothing to confirm")
        does[what](store, test_id)
        said = {"early": "The tally is open.", "close": "The test is closed.", "delete": "The test is deleted."}[what]
        known = choices(workspace)
        now = chosen_or_newest(chosen, known)
        shut = {tab.confirm: gr.update(visible=False), tab.asked: None}
        return {**after(now, said), **shut, tab.chosen: gr.update(choices=known, value=now)}

    def report(chosen: str | None) -> dict[Any, Any]:
        from ftlab.report.arena import write_arena_report

        store, test_id = store_and_test(chosen)
        return {tab.report_file: offer_file(write_arena_report(store, test_id), "blind-test-report.html")}

    def export(chosen: str | None) -> dict[Any, Any]:
        offered, said = download(*store_and_test(chosen))
        return {tab.export_file: offered, tab.message: notice(said, kind="good")}

    def learn(chosen: str | None) -> Lesson:
        return lesson(*store_and_test(chosen), workspace)

    every = [*tab.shown, tab.memory]
    page.lead(tab.learn.click, "lesson", [tab.chosen], learn, box=tab.message, progress="minimal")
    at_opening = [tab.chosen, tab.reach, tab.address, *tab.form.shown, *every]
    told = [*tab.form.shown, tab.form.found, tab.form.power]
    shows: dict[str, Any] = {"box": tab.message, "lane": LANE}
    form: dict[str, Any] = {"outputs": told, "box": tab.form.message, "lane": LANE}
    loaded = on(opened, load, [tab.chosen], at_opening, **shows)
    on(loaded.then, look, [tab.chosen], **form)
    # At once, not after the look: a reload comes back to what was chosen.
    on(tab.chosen.change, lambda chosen: remember_choice(workspace, test=chosen or ""), [tab.chosen], queue=False)
    chose = on(tab.chosen.input, choose, [tab.chosen], [*every, tab.confirm], trigger_mode="always_last", **shows)
    on(chose.then, look, [tab.chosen], **form)
    # Only while there is a test to look at: a browser redraws whatever a tick may change, and that is much.
    clock = gr.Timer(POLL_SECONDS, active=False)
    on(tab.chosen.change, follow, [tab.chosen], [clock], queue=False)
    on(clock.tick, tick, [tab.memory, tab.chosen], every, queue=False, trigger_mode="once")
    pressed = {"generate": generate, "stop": stop}
    for name, handler in pressed.items():
        on(tab.buttons[name].click, handler, [tab.chosen], every, **shows)
    asked = [tab.chosen, tab.reach, tab.address]
    on(tab.buttons["open"].click, open_, asked, [*every, tab.chosen], progress="minimal", **shows)
    on(tab.reach.input, reached, [tab.reach], [tab.address], queue=False)
    on(tab.serve.click, serve, asked, every, progress="minimal", show_progress_on=tab.message, **shows)
    on(tab.add_links.click, add_links, [tab.chosen, tab.names], [*every, tab.names], **shows)
    on(tab.open_link.click, open_link, [tab.chosen], every, **shows)
    on(tab.texts["links"].pick, end_link, [tab.chosen], every, **shows)
    for what in ("early", "close", "delete"):
        on(tab.buttons[what].click, ask(what), [tab.chosen], [tab.asked, tab.warning, tab.confirm], **shows)
    on(tab.yes.click, confirmed, [tab.chosen, tab.asked], [*every, tab.chosen, tab.confirm, tab.asked], **shows)
    on(tab.no.click, lambda: {tab.confirm: gr.update(visible=False)}, [], [tab.confirm], queue=False)
    done = on(tab.report.click, report, [tab.chosen], [tab.report_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_report_file", "#blind_message"))
    done = on(tab.export.click, export, [tab.chosen], [tab.export_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_export_file", "#blind_message"))


def download(store: Store, test_id: str) -> tuple[dict[str, Any], str]:
    """The update that offers the zip, and what is in it in words. Raises InputError while the tally is hidden."""
    folder, found = export(store, test_id)
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / "votes.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.glob("*.json*")):
                archive.write(file, file.name)
        return offer_file(packed, "votes.zip"), found.text()


def lesson(store: Store, test_id: str, workspace: Workspace) -> Lesson:
    """Write the votes as data and say how to learn from them: pairs by DPO, judged answers alone by KTO.

    Training goes on from the contestant that the raters preferred, where it is a run that can be trained further, else
    from the last such contestant. Raises InputError while the tally is hidden, or when no vote can be learned from.
    """
    folder, found = export(store, test_id)
    stage = "dpo" if found.pairs else "kto"
    among = {one.id: one.spec for one in list_contestants(store, test_id)}
    winner = tally.evaluate(store, test_id).get("winner")
    order = [among[winner]] if winner in among else []
    order += reversed(among.values())
    startable = {value for _, value in start_choices(workspace)}
    start = next((spec["run"] for spec in order if spec.get("run") in startable), "")
    config = run_files.config(workspace.run(start)) if start else None
    base = config.model.base if config else next((spec["base"] for spec in order if spec.get("base")), None)
    said = found.text()
    rows = len(found.pairs if found.pairs else found.judged)
    if rows < FEWEST_ROWS:
        said += f" A run needs at least {FEWEST_ROWS} rows to learn from: add votes or other preferences."
    return Lesson(str(folder / (DPO_FILE if found.pairs else KTO_FILE)), stage, start, base, said)


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
