"""Blind test: make a test, generate answers, send links, wait without peeking, read the verdict, learn from it.

layout.py has the parts of the page with their elem_ids; form.py the form of a new test, and plan.py turns it into a
test; picture.py shows a test.
"""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.arena import answers as answering
from ftlab.arena import blind_tests, links
from ftlab.arena.preferences import export
from ftlab.arena.store import Store, open_store
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.ui import background, judge_form
from ftlab.ui.kit.events import any_of, offer_file, on, press, reveal
from ftlab.ui.kit.fresh import build_with, digests, only_new
from ftlab.ui.kit.html import error_box, notice, stop_note
from ftlab.ui.page import Page, kept_choices, remember_choice
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.tabs.blind_test import form as forms
from ftlab.ui.tabs.blind_test import judge, plan, repeat
from ftlab.ui.tabs.blind_test.form import NewTest
from ftlab.ui.tabs.blind_test.layout import BlindTestTab, draw, show, show_all
from ftlab.ui.tabs.blind_test.picture import NEW, choices, chosen_or_newest, warning
from ftlab.ui.tabs.blind_test.views import VOID
from ftlab.ui.tabs.data.sources import keep_upload
from ftlab.ui.tabs.preferences import lessons
from ftlab.ui.tabs.preferences.lessons import Lesson
from ftlab.ui.tabs.train import preflight as train_preflight

__all__ = ["NEW", "STYLE_FILE", "build", "wire"]

STYLE_FILE = Path(__file__).with_name("style.css")
POLL_SECONDS = 2.0
log = logging.getLogger(__name__)
NAME, TITLE = "blind", "Blind test"
# The text of the two buttons that confirm an action that cannot be undone.
_ANSWERS = {
    "early": ("Open the tally", "Keep it hidden"),
    "close": ("Close the test", "Keep it open"),
    "delete": ("Delete the test", "Keep it"),
}
READING = Markup('<p class="ft-help" role="status">Reading the prompts …</p>')


def build(workspace: Workspace) -> BlindTestTab:
    """Built in its opening state: updates sent later are slow, as the browser processes them one by one."""
    tab = draw()
    try:
        updates = opening(tab, None, workspace)
    except Exception as error:  # opening the tab reports it instead
        log.warning("The Blind test tab is filled when it is opened: %s", shorten(error))
        return tab
    tab.built.value = build_with(updates)
    tab.memory.value = updates[tab.memory]
    tab.known.value = _sent(tab.form, forms.load(workspace))
    return tab


def opening(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the selected test, or the stored form; without the prompts, which take a while to read."""
    listed = _listed(tab, chosen or kept_choices(workspace).test, workspace)
    served, test = raters_page.kept(workspace), forms.load(workspace)
    return {
        **listed,
        **_lacks(tab.form, test),
        tab.reach: served["reach"],
        tab.address: gr.update(value=served["url"], visible=served["reach"] == "elsewhere"),
        **forms.fill(tab.form, test, [], workspace),
        **show_all(tab, listed[tab.chosen]["value"], workspace),
    }


def _listed(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    known = choices(workspace)
    return {tab.chosen: gr.update(choices=known, value=chosen_or_newest(chosen, known), visible=len(known) > 1)}


def _sent(form: forms.Form, test: NewTest) -> dict[str, str]:
    """The part of `suited`'s updates that `opening` has sent already."""
    return digests(forms.suit(form, test, []) | _lacks(form, test))


def wire(tab: BlindTestTab, page: Page) -> None:
    workspace = page.workspace
    # The runs, tests and prompts may have changed since it was drawn.
    opened = page.panels[NAME].select
    wire_form(tab, workspace)

    where, form = tab.where, tab.form
    hidden = {component: gr.update(visible=False) for component in (tab.confirm, where.box, where.own)}

    def store_and_test(chosen: str | None) -> tuple[Store, str]:
        if not chosen or chosen == NEW:
            raise InputError("No blind test is chosen", try_="choose one above, or make a new one")
        return open_store(workspace), chosen

    def keep_choice(chosen: str | None, built: dict[str, str]) -> None:
        if not built:  # else the event is the page being filled, not a selection
            remember_choice(workspace, test=chosen or "")

    def listed(chosen: str | None) -> dict[Any, Any]:
        return _listed(tab, chosen, workspace)

    def load(chosen: str | None, built: dict[str, str]) -> dict[Any, Any]:
        # The page knows the test selected when the app started; the workspace, the one selected last.
        updates = opening(tab, None if built else chosen, workspace)
        known = _sent(form, forms.load(workspace))
        states = {tab.memory: updates[tab.memory], tab.built: {}, tab.known: known}
        return {**only_new(updates, built), **states, tab.cover: ""}

    def look(chosen: str | None, known: dict[str, str]) -> dict[Any, Any]:
        """Reads the prompts, which may load libraries, so it runs after everything else is shown."""
        return _news(tab, forms.load(workspace), known, workspace) if chosen == NEW else {}

    def choose(chosen: str | None) -> dict[Any, Any]:
        return {**show_all(tab, chosen, workspace), **hidden}

    def follow(chosen: str | None) -> dict[Any, Any]:
        return {clock: gr.Timer(active=bool(chosen) and chosen != NEW)}

    def tick(memory: dict[str, str], chosen: str | None) -> dict[Any, Any]:
        if not chosen:
            return {}  # the page is not filled yet
        updates = show(tab, chosen, workspace)
        fresh = only_new(updates, memory)
        return {**fresh, tab.memory: digests(updates)} if fresh else {}

    def after(chosen: str | None, text: str) -> dict[Any, Any]:
        return {tab.message: notice(text, kind="good"), **show_all(tab, chosen, workspace)}

    def begin(chosen: str | None, *inputs: Any) -> Iterator[dict[Any, Any]]:
        """The action of the main button. The first time, it asks where the raters are."""
        if not raters_page.must_ask(workspace):
            yield from go(chosen, inputs)
            return
        if chosen == NEW:
            planned(form.read(inputs), workspace)  # report form errors first
        yield {where.box: gr.update(visible=True), form.actions: gr.update(visible=False)}

    def place(chosen: str | None, event: gr.EventData, *inputs: Any) -> Iterator[dict[Any, Any]]:
        reach = str(event._data["value"])
        if reach == "elsewhere":
            yield {where.own: gr.update(visible=True)}
        else:
            yield from go(chosen, inputs, reach, "")

    def use(chosen: str | None, url: str, *inputs: Any) -> Iterator[dict[Any, Any]]:
        yield from go(chosen, inputs, "elsewhere", url)

    def back(chosen: str | None) -> dict[Any, Any]:
        return {**hidden, form.actions: gr.update(visible=chosen == NEW)}

    def go(
        chosen: str | None, inputs: Sequence[Any], reach: str | None = None, url: str | None = None
    ) -> Iterator[dict[Any, Any]]:
        """Make the test if it is new, serve the raters' page, and generate the answers or open the test."""
        yield {tab.message: notice("One moment …")}
        make = planned(form.read(inputs), workspace) if chosen == NEW else None
        try:
            raters_page.serve(workspace, reach, url)
        except FtlabError as error:  # the remembered or selected place fails; another may work
            yield {
                tab.message: error_box(error),
                where.box: gr.update(visible=True),
                form.actions: gr.update(visible=False),
            }
            return
        store, test_id = (open_store(workspace), make()) if make else store_and_test(chosen)
        test = blind_tests.get_test(store, test_id)
        if test.state != "open" and not links.links(store, test_id):
            links.open_link(store, test_id)
        if test.state == "ready" or (test.state == "draft" and test.settings["live"]):
            blind_tests.open_test(store, test_id)
        elif test.state != "open":
            train_preflight.give_way()  # else the answers wait for a measurement that nobody requested
            answering.start(workspace, test_id, then_open=True)
            background.release_models("auto")
        served = raters_page.kept(workspace)
        yield {
            tab.message: "",
            **hidden,
            tab.reach: served["reach"],
            tab.address: gr.update(value=served["url"], visible=served["reach"] == "elsewhere"),
            **(_filled(tab, workspace) if make else {}),
            **listed(test_id),
            **show_all(tab, test_id, workspace),
        }

    def stop(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        return {tab.message: stop_note(answering.stop(workspace, test_id)), **show_all(tab, chosen, workspace)}

    def leave(chosen: str | None) -> dict[Any, Any]:
        left = blind_tests.leave_out(*store_and_test(chosen))
        return after(chosen, f"{counted(left, 'prompt')} left out, with the answers of all contestants.")

    def reached(reach: str) -> dict[Any, Any]:
        return {tab.address: gr.update(visible=reach == "elsewhere")}

    def serve(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        served = raters_page.serve(workspace, reach, url)
        return after(chosen, f"The raters' page is at {served.url}.")

    def add_links(chosen: str | None, names: str) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        people = [line.strip() for line in (names or "").split("\n") if line.strip()]
        if not people:
            raise InputError("No names entered", try_="write one on each line")
        made = links.create_raters(store, test_id, people)
        text = "Made 1 link." if len(made) == 1 else f"Made {len(made)} links."
        return {**after(chosen, text), tab.names: ""}

    def open_link(chosen: str | None) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        links.open_link(store, test_id)
        return after(chosen, "The open link is the first below. Anyone who has it can vote under a name.")

    def end_link(chosen: str | None, event: gr.EventData) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        which = str(event._data["value"])
        if which == "open":
            links.revoke_open_link(store, test_id)
        elif which.startswith(VOID):
            links.void(store, which.removeprefix(VOID))
            return after(chosen, "The votes no longer count. Every verdict will say so.")
        else:
            links.revoke(store, which)
        return after(chosen, "Link ended.")

    def ask(what: str) -> Any:
        def asked(chosen: str | None) -> dict[Any, Any]:
            _, test_id = store_and_test(chosen)
            does, leaves = _ANSWERS[what]
            return {
                tab.asked: what,
                tab.warning: warning(what, test_id, workspace),
                tab.confirm: gr.update(visible=True),
                tab.yes: gr.update(value=does),
                tab.no: gr.update(value=leaves),
            }

        return asked

    def confirmed(chosen: str | None, what: str | None) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        does = {"early": blind_tests.open_early, "close": blind_tests.close_test, "delete": blind_tests.delete_test}
        if what not in does:
            raise InputError("Nothing to confirm")
        does[what](store, test_id)
        left = listed(chosen)
        told = after(left[tab.chosen]["value"], "Test deleted.")
        if what != "delete":
            told[tab.message] = ""  # the verdict is there now
        return {**told, **hidden, tab.asked: None, **left}

    def new() -> dict[Any, Any]:
        return {tab.chosen: NEW, **choose(NEW)}

    def repeat_it(chosen: str | None, source: str | None, number: str | None) -> dict[Any, Any]:
        made = repeat.create(*store_and_test(chosen), source, number)
        return {**listed(made), **choose(made)}

    def report(chosen: str | None) -> dict[Any, Any]:
        from ftlab.report.arena import write_arena_report

        store, test_id = store_and_test(chosen)
        return {tab.report_file: offer_file(write_arena_report(store, test_id), "blind-test-report.html")}

    def export(chosen: str | None) -> dict[Any, Any]:
        offered, text = download(*store_and_test(chosen))
        return {tab.export_file: offered, tab.message: notice(text, kind="good")}

    def learn(chosen: str | None) -> Lesson:
        return lessons.of_test(*store_and_test(chosen), workspace)

    every = [*tab.outputs, tab.memory]
    page.lead(tab.learn.click, "lesson", [tab.chosen], learn, box=tab.message, progress="minimal")
    at_opening = [tab.chosen, tab.reach, tab.address, *form.outputs, *every]
    seen = [*form.outputs, tab.known]
    shows: dict[str, Any] = {"box": tab.message, "lane": LANE}
    filled: dict[str, Any] = {"outputs": seen, "box": tab.message, "clears": False, "lane": LANE}
    loaded = on(opened, load, [tab.chosen, tab.built], [*at_opening, tab.built, tab.known, tab.cover], **shows)
    on(loaded.then, look, [tab.chosen, tab.known], **filled)
    # Immediately, not after the look, so that a reload returns to the selection.
    on(tab.chosen.change, keep_choice, [tab.chosen, tab.built], queue=False)
    chose = on(tab.chosen.input, choose, [tab.chosen], [*every, *hidden], trigger_mode="always_last", **shows)
    on(chose.then, look, [tab.chosen, tab.known], **filled)
    began = on(tab.new.click, new, [], [tab.chosen, *every, *hidden], **shows)
    on(began.then, look, [tab.chosen, tab.known], **filled)
    # Only while a test is displayed: the browser redraws everything that a tick may change, which is a lot.
    clock = gr.Timer(POLL_SECONDS, active=False)
    on(tab.chosen.change, follow, [tab.chosen], [clock], queue=False)
    on(clock.tick, tick, [tab.memory, tab.chosen], every, queue=False, trigger_mode="once")
    going = [*at_opening, *hidden]
    now: dict[str, Any] = {"progress": "minimal", "show_progress_on": tab.message, **shows}
    for button in (form.make, tab.buttons["generate"], tab.buttons["open"]):
        on(button.click, begin, [tab.chosen, *form.inputs], going, **now)
    on(where.places.pick, place, [tab.chosen, *form.inputs], going, **now)
    on(where.use.click, use, [tab.chosen, where.address, *form.inputs], going, **now)
    on(where.back.click, back, [tab.chosen], [*hidden, form.actions], **shows)
    on(tab.buttons["stop"].click, stop, [tab.chosen], every, **shows)
    on(tab.buttons["leave"].click, leave, [tab.chosen], every, **shows)
    on(tab.reach.input, reached, [tab.reach], [tab.address], queue=False)
    on(tab.serve.click, serve, [tab.chosen, tab.reach, tab.address], every, **now)
    on(tab.add_links.click, add_links, [tab.chosen, tab.names], [*every, tab.names], **shows)
    on(tab.open_link.click, open_link, [tab.chosen], every, **shows)
    on(tab.texts["links"].pick, end_link, [tab.chosen], every, **shows)
    for what in _ANSWERS:
        question = [tab.asked, tab.warning, tab.confirm, tab.yes, tab.no]
        asked = on(tab.buttons[what].click, ask(what), [tab.chosen], question, **shows)
        asked.then(None, js=reveal("#blind_confirm"))
    sure = on(tab.yes.click, confirmed, [tab.chosen, tab.asked], [*every, tab.chosen, *hidden, tab.asked], **shows)
    sure.then(None, js=reveal("#blind_verdict [data-verdict], #blind_form"))
    on(tab.no.click, lambda: {tab.confirm: gr.update(visible=False)}, [], [tab.confirm], queue=False)
    judge_form.wire(tab.judge, tab.chosen, judge.OfTest(workspace), page.strip, workspace)
    again = tab.repeating
    renewed = [again.source, again.upload]
    on(again.upload.upload, lambda path: repeat.uploaded(again, path, workspace), [again.upload], renewed, **shows)
    on(again.go.click, repeat_it, [tab.chosen, again.source, again.number], [tab.chosen, *every, *hidden], **now)
    done = on(tab.buttons["report"].click, report, [tab.chosen], [tab.report_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_report_file", "#blind_message"))
    done = on(tab.buttons["export"].click, export, [tab.chosen], [tab.export_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_export_file", "#blind_message"))


def download(store: Store, test_id: str) -> tuple[dict[str, Any], str]:
    """The update that offers the zip, and its contents in words. Raises InputError while the tally is hidden."""
    folder, summary = export(store, test_id)
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / "votes.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.glob("*.json*")):
                archive.write(file, file.name)
        return offer_file(packed, "votes.zip"), summary.text()


LANE = "blind test"


def wire_form(tab: BlindTestTab, workspace: Workspace) -> None:
    form = tab.form

    def keep(*inputs: Any) -> None:
        """Immediately, and outside the queue: reading the prompts may take a while."""
        test = form.read(inputs)
        if test.among and test != forms.load(workspace):  # events start before all fields exist
            forms.keep(test, workspace)

    def changed(known: dict[str, str], *inputs: Any) -> dict[Any, Any]:
        test = form.read(inputs)
        return _news(tab, test, known, workspace) if test.among else {}

    def more(*inputs: Any) -> dict[Any, Any]:
        test = form.read(inputs)
        free = next(n for n, contestant in enumerate(test.contestants, 1) if n > 2 and not contestant.who)
        test = test.changed({f"who_{free}": "prompted"})
        forms.keep(test, workspace)
        return suited(form, test, workspace) | {form.fields[f"who_{free}"]: "prompted"}

    def upload(path: str | None, *inputs: Any) -> dict[Any, Any]:
        if not path:
            return {}
        forms.keep(form.read(inputs).changed({"file": str(keep_upload(Path(path), workspace))}), workspace)
        return {**_filled(tab, workspace), form.upload: None}

    # A text box reports a paste only through `change`.
    inputs = [box.change if isinstance(box, gr.Textbox) else box.input for box in form.inputs]
    any_change = any_of(*inputs)
    on(any_change, keep, form.inputs, box=tab.message, clears=False, queue=False, trigger_mode="always_last")
    shows: dict[str, Any] = {"box": tab.message, "lane": LANE}
    on(any_change, changed, [tab.known, *form.inputs], [*form.outputs, tab.known], trigger_mode="always_last", **shows)
    on(form.more.click, more, form.inputs, form.outputs, **shows)
    on(form.upload.upload, upload, [form.upload, *form.inputs], form.outputs, **shows)


def planned(test: NewTest, workspace: Workspace) -> Callable[[], str]:
    """A function that makes the test from the form and returns its id. Raises InputError if it cannot be made."""
    among, how = plan.contestants(test, workspace), plan.settings(test)
    asked = plan.asked(test, workspace).prompts
    votes = plan.planned(test, len(asked), len(among))

    def make() -> str:
        store = open_store(workspace)
        test_id = blind_tests.create_test(store, plan.title(test, among, workspace), among, asked, how, votes)
        links.open_link(store, test_id)
        forms.forget(workspace)
        return test_id

    return make


def suited(form: forms.Form, test: NewTest, workspace: Workspace) -> dict[Any, Any]:
    look = plan.look(test, workspace)
    return forms.suit(form, test, plan.topics(test, workspace), look.limit) | _seen(form, look)


def _news(tab: BlindTestTab, test: NewTest, known: dict[str, str], workspace: Workspace) -> dict[Any, Any]:
    """Only the new updates of `suited`: others would report a change and cause an endless loop."""
    updates = suited(tab.form, test, workspace)
    fresh = only_new(updates, known)
    return {**fresh, tab.known: digests(updates)} if fresh else {}


def _filled(tab: BlindTestTab, workspace: Workspace) -> dict[Any, Any]:
    """Updates that fill the form with the values stored on disk."""
    test = forms.load(workspace)
    look = plan.look(test, workspace)
    updates = forms.fill(tab.form, test, plan.topics(test, workspace), workspace, look.limit)
    return updates | _seen(tab.form, look)


def _seen(form: forms.Form, look: plan.Look) -> dict[Any, Any]:
    told = {form.preview: look.preview, form.power: look.power, form.plan: look.plan}
    return told | {form.make: gr.update(interactive=look.complete)}


def _lacks(form: forms.Form, test: NewTest) -> dict[Any, Any]:
    """The errors that can be found before the prompts are read."""
    try:
        plan.lacking(test)
    except InputError as error:
        return {form.power: plan.why_not(error), form.make: gr.update(interactive=False)}
    return {form.power: READING, form.make: gr.update(interactive=True)}
