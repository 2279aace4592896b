"""Blind test: make a test, let answers be made, send links, wait without peeking, read the verdict, learn from it.

The parts of the page, with their elem_ids, are in `blind_test_layout.py`; the form of a new test in
`blind_test_form.py`, what happens in it in `blind_test_make.py`, what it means in `blind_test_plan.py`; the picture in
`blind_test_picture.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena import answers as answering
from ftlab.arena import blind_tests, links
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui import background, blind_test_votes, raters_page
from ftlab.ui import blind_test_form as forms
from ftlab.ui.blind_test_layout import BlindTestTab, build, show, show_all
from ftlab.ui.blind_test_make import LANE, suited, wire_form
from ftlab.ui.blind_test_picture import NEW, choices, chosen_or_newest, warning
from ftlab.ui.blind_test_views import VOID
from ftlab.ui.events import offer_file, on, press
from ftlab.ui.fresh import digests, only_new
from ftlab.ui.html import notice

__all__ = ["NEW", "STYLE_FILE", "build", "wire"]

STYLE_FILE = Path(__file__).with_name("blind_test.css")
POLL_SECONDS = 2.0
_KEY = "ftlab-blind-test"
# The browser keeps which test was on show, so that a reload comes back to it.
_REMEMBER = (
    f"chosen => {{ try {{ if (chosen) localStorage.setItem('{_KEY}', chosen); }} catch (error) {{ /* not kept */ }} }}"
)
_REMEMBERED = f"""chosen => {{
  try {{ return [localStorage.getItem('{_KEY}') || '']; }} catch (error) {{ return ['']; }}
}}"""


def wire(tab: BlindTestTab, workspace: Workspace, opened: Any) -> None:
    wire_form(tab, workspace)

    def store_and_test(chosen: str | None) -> tuple[Store, str]:
        if not chosen or chosen == NEW:
            raise InputError("No blind test is chosen", try_="choose one above, or make a new one")
        return open_store(workspace), chosen

    def load(chosen: str | None) -> dict[Any, Any]:
        known = choices(workspace)
        chosen = chosen_or_newest(chosen, known)
        page = raters_page.kept(workspace)
        return {
            tab.chosen: gr.update(choices=known, value=chosen),
            tab.reach: page["reach"],
            tab.address: gr.update(value=page["url"], visible=page["reach"] == "elsewhere"),
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

    def after(chosen: str | None, said: str, kind: str = "good") -> dict[Any, Any]:
        return {tab.message: notice(said, kind=kind), **show_all(tab, chosen, workspace)}

    def generate(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        answering.start(workspace, test_id)
        background.release_chat("auto")
        return {tab.message: "", **show_all(tab, chosen, workspace)}  # which says how far they are

    def stop(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        said = answering.stop(workspace, test_id)
        # While it stops, the card of the answers says so itself.
        return after(chosen, said, "info") | ({tab.message: ""} if said.startswith("Stopping") else {})

    def open_(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        raters_page.serve(workspace, reach, url)
        blind_tests.open_test(store, test_id)
        known = choices(workspace)
        return {**after(chosen, "The test is open: send the links below."), tab.chosen: gr.update(choices=known)}

    def reached(reach: str) -> dict[Any, Any]:
        return {tab.address: gr.update(visible=reach == "elsewhere")}

    def serve(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        page = raters_page.serve(workspace, reach, url)
        return after(chosen, f"The raters' page is at {page.url}.")

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
            raise InputError("Nothing is to be confirmed")
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
        offered, said = blind_test_votes.download(*store_and_test(chosen))
        return {tab.export_file: offered, tab.message: notice(said, kind="good")}

    every = [*tab.shown, tab.memory]
    at_opening = [tab.chosen, tab.reach, tab.address, *tab.form.shown, *every]
    told = [*tab.form.shown, tab.form.found, tab.form.power]
    shows: dict[str, Any] = {"box": tab.message, "lane": LANE}
    form: dict[str, Any] = {"outputs": told, "box": tab.form.message, "lane": LANE}
    loaded = on(opened, load, [tab.chosen], at_opening, js=_REMEMBERED, **shows)
    on(loaded.then, look, [tab.chosen], **form)
    # At once, not after the look: a reload comes back to what was chosen.
    tab.chosen.change(None, [tab.chosen], js=_REMEMBER, api_visibility="private")
    chose = on(tab.chosen.input, choose, [tab.chosen], [*every, tab.confirm], trigger_mode="always_last", **shows)
    on(chose.then, look, [tab.chosen], **form)
    # Only while there is a test to look at: a browser redraws whatever a tick may change, and that is much.
    clock = gr.Timer(POLL_SECONDS, active=False)
    on(tab.chosen.change, follow, [tab.chosen], [clock], queue=False)
    on(clock.tick, tick, [tab.memory, tab.chosen], every, queue=False, trigger_mode="once")
    pressed = {"generate": generate, "stop": stop}
    for name, handler in pressed.items():
        on(tab.buttons[name].click, handler, [tab.chosen], every, **shows)
    page = [tab.chosen, tab.reach, tab.address]
    on(tab.buttons["open"].click, open_, page, [*every, tab.chosen], progress="minimal", **shows)
    on(tab.reach.input, reached, [tab.reach], [tab.address], queue=False)
    on(tab.serve.click, serve, page, every, progress="minimal", show_progress_on=tab.message, **shows)
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
