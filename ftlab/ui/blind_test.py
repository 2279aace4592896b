"""Blind test: make a test, let the answers be made, send links, wait without peeking, read the verdict, learn from it.

The form is in `blind_test_form.py` (its elem_ids too), what it means in `blind_test_plan.py`, the picture of a test in
`blind_test_picture.py`.

elem_ids: `blind_chosen` (which test), `blind_form`, `blind_test` (the chosen one), `blind_about`, `blind_answers`,
`blind_generate`, `blind_stop`, `blind_flags`, `blind_open`, `blind_links_box` (`blind_reach`, `blind_address`,
`blind_serve`, `blind_names`, `blind_add_links`, `blind_open_link`, `blind_links`), `blind_progress`, `blind_early`,
`blind_close`, `blind_delete`, `blind_confirm` (`blind_warning`, `blind_yes`, `blind_no`), `blind_verdict`,
`blind_report`, `blind_export`, `blind_learn`, `blind_message`.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.arena import answering, links, tests
from ftlab.arena.store import Store, open_store
from ftlab.errors import FtlabError, InputError
from ftlab.ui import background, blind_test_votes, raters_page
from ftlab.ui import blind_test_form as forms
from ftlab.ui import blind_test_plan as plan
from ftlab.ui.blind_test_picture import NEW, choices, chosen_or_newest, headline, picture, warning
from ftlab.ui.blind_test_views import LINKS_JS
from ftlab.ui.data_sources import keep_upload
from ftlab.ui.events import message_box, offer_file, on, press
from ftlab.ui.html import error_box, heading, notice
from ftlab.workspace import Workspace

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
_TEXTS = ("about", "answers", "flags", "links", "progress", "verdict")
_BUTTONS = ("generate", "stop", "open", "early", "close", "delete")


@dataclass(frozen=True)
class BlindTestTab:
    chosen: gr.Dropdown
    form: forms.Form
    box: gr.Column
    texts: dict[str, gr.HTML]
    buttons: dict[str, gr.Button]
    links_box: gr.Column
    reach: gr.Radio
    address: gr.Textbox
    serve: gr.Button
    names: gr.Textbox
    add_links: gr.Button
    open_link: gr.Button
    confirm: gr.Column
    warning: gr.HTML
    yes: gr.Button
    no: gr.Button
    asked: gr.State  # what is to be confirmed
    results: gr.Row
    report: gr.Button
    report_file: gr.DownloadButton
    export: gr.Button
    export_file: gr.DownloadButton
    learn: gr.Button
    message: gr.HTML
    memory: gr.State  # what the page shows already

    @property
    def shown(self) -> list[Any]:
        """What `show` updates."""
        return [*self.texts.values(), *self.buttons.values(), self.links_box, self.results, self.box, self.form.box]


def build(workspace: Workspace) -> BlindTestTab:
    gr.HTML(headline())
    chosen = gr.Dropdown(
        [("A new test", NEW)], value=None, label="Blind test", allow_custom_value=True, elem_id="blind_chosen"
    )
    form = forms.build(workspace)
    texts, buttons = {}, {}

    def text(name: str, **settings: Any) -> None:
        texts[name] = gr.HTML("", elem_id=f"blind_{name}", **settings)

    def button(name: str, title: str, **settings: Any) -> None:
        buttons[name] = gr.Button(title, elem_id=f"blind_{name}", visible=False, **settings)

    with gr.Column(elem_id="blind_test", visible=False) as box:
        text("about")
        text("answers")
        text("flags")
        message = message_box("blind_message")
        with gr.Row(elem_classes="ft-buttons"):
            button("generate", "Generate the answers", variant="primary")
            button("stop", "Stop", variant="stop")
            button("open", "Open the test for votes", variant="primary")
        text("progress")
        text("verdict")
        with gr.Row(visible=False, elem_classes="ft-buttons") as results:
            report = gr.Button("Download the report", elem_id="blind_report")
            report_file = gr.DownloadButton("Save report.html", elem_id="blind_report_file", visible="hidden")
            export = gr.Button("Download the votes as data", elem_id="blind_export")
            export_file = gr.DownloadButton("Save votes.zip", elem_id="blind_export_file", visible="hidden")
            learn = gr.Button("Learn from these votes", variant="primary", elem_id="blind_learn")
        with gr.Column(visible=False, elem_id="blind_links_box") as links_box:
            gr.HTML(heading("Links for raters", "Who has a link can vote; nobody needs an account."))
            with gr.Row(equal_height=False):
                with gr.Column(min_width=280):
                    reach = gr.Radio(
                        [(title.capitalize(), name) for name, title in raters_page.REACH.items()],
                        value=raters_page.usual(),
                        label="Who can reach the raters' page",
                        info="It has an address of its own, from which this app cannot be reached.",
                        elem_id="blind_reach",
                    )
                    address = gr.Textbox(
                        label="Address of your server",
                        info="Where you run: python -m ftlab arena serve",
                        placeholder="https://votes.example.org",
                        max_lines=1,
                        visible=False,
                        elem_id="blind_address",
                    )
                    serve = gr.Button("Serve it", size="sm", elem_id="blind_serve", elem_classes="ft-act")
                with gr.Column(min_width=280):
                    names = gr.Textbox(
                        label="More raters",
                        info="One name on each line: a word that you know them by.",
                        lines=2,
                        max_lines=8,
                        elem_id="blind_names",
                    )
                    with gr.Row(elem_classes="ft-buttons"):
                        add_links = gr.Button("Make links", size="sm", elem_id="blind_add_links")
                        open_link = gr.Button("Make an open link", size="sm", elem_id="blind_open_link")
            text("links", js_on_load=LINKS_JS)
        with gr.Column(visible=False, elem_id="blind_confirm") as confirm:
            warn = gr.HTML(elem_id="blind_warning")
            with gr.Row(elem_classes="ft-buttons"):
                yes = gr.Button("Yes", variant="stop", elem_id="blind_yes")
                no = gr.Button("No, leave it", elem_id="blind_no")
        with gr.Row(elem_classes="ft-buttons"):
            button("early", "Open the tally early", size="sm")
            button("close", "Close the test", size="sm")
            button("delete", "Delete the test", size="sm")
    return BlindTestTab(
        chosen, form, box, texts, buttons, links_box, reach, address, serve, names, add_links, open_link, confirm, warn,
        yes, no, gr.State(None), results, report, report_file, export, export_file, learn, message, gr.State({}),
    )  # fmt: skip


def wire(tab: BlindTestTab, workspace: Workspace, opened: Any) -> None:
    _wire_form(tab, workspace)

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
            **_all(tab, chosen, workspace),
        }

    def look(chosen: str | None) -> dict[Any, Any]:
        """Reads the prompts, for which libraries may have to be loaded: so after the rest is there."""
        return _suited(tab.form, forms.load(workspace), workspace) if chosen == NEW else {}

    def choose(chosen: str | None) -> dict[Any, Any]:
        return {**_all(tab, chosen, workspace), tab.confirm: gr.update(visible=False)}

    def follow(chosen: str | None) -> dict[Any, Any]:
        return {clock: gr.Timer(active=bool(chosen) and chosen != NEW)}

    def tick(memory: dict[str, str], chosen: str | None) -> dict[Any, Any]:
        if not chosen:
            return {}  # the page is not filled yet
        shown = show(tab, chosen, workspace)
        now = {component.elem_id: _digest(value) for component, value in shown.items()}
        fresh = {one: value for one, value in shown.items() if memory.get(one.elem_id) != now[one.elem_id]}
        return {**fresh, tab.memory: now} if fresh else {}

    def after(chosen: str | None, said: str, kind: str = "good") -> dict[Any, Any]:
        return {tab.message: notice(said, kind=kind), **_all(tab, chosen, workspace)}

    def generate(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        answering.start(workspace, test_id)
        background.release_chat("auto")
        return after(chosen, "The answers are being made. This goes on when the page is closed.")

    def stop(chosen: str | None) -> dict[Any, Any]:
        _, test_id = store_and_test(chosen)
        return after(chosen, answering.stop(workspace, test_id), "info")

    def open_(chosen: str | None, reach: str, url: str) -> dict[Any, Any]:
        store, test_id = store_and_test(chosen)
        raters_page.serve(workspace, reach, url)
        tests.open_test(store, test_id)
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
        does = {"early": tests.open_early, "close": tests.close_test, "delete": tests.delete_test}
        if what not in does:
            raise InputError("Nothing is to be confirmed")
        does[what](store, test_id)
        said = {"early": "The tally is open.", "close": "The test is closed.", "delete": "The test is deleted."}[what]
        known = choices(workspace)
        now = chosen_or_newest(chosen, known)
        shut = {tab.confirm: gr.update(visible=False), tab.asked: None}
        return {**after(now, said), **shut, tab.chosen: gr.update(choices=known, value=now)}

    def report(chosen: str | None) -> dict[Any, Any]:
        from ftlab.sharing.arena_report import write_arena_report

        store, test_id = store_and_test(chosen)
        return {tab.report_file: offer_file(write_arena_report(store, test_id), "blind-test-report.html")}

    def export(chosen: str | None) -> dict[Any, Any]:
        offered, said = blind_test_votes.download(*store_and_test(chosen))
        return {tab.export_file: offered, tab.message: notice(said, kind="good")}

    every = [*tab.shown, tab.memory]
    at_opening = [tab.chosen, tab.reach, tab.address, *tab.form.shown, *every]
    told = [*tab.form.shown, tab.form.found, tab.form.power]
    loaded = on(opened, load, [tab.chosen], at_opening, box=tab.message, js=_REMEMBERED)
    on(loaded.then, look, [tab.chosen], told, box=tab.form.message)
    # At once, not after the look: a reload comes back to what was chosen.
    tab.chosen.change(None, [tab.chosen], js=_REMEMBER, api_visibility="private")
    chose = on(tab.chosen.input, choose, [tab.chosen], [*every, tab.confirm], box=tab.message)
    on(chose.then, look, [tab.chosen], told, box=tab.form.message)
    # Only while there is a test to look at: a browser redraws whatever a tick may change, and that is much.
    clock = gr.Timer(POLL_SECONDS, active=False)
    on(tab.chosen.change, follow, [tab.chosen], [clock], queue=False)
    on(clock.tick, tick, [tab.memory, tab.chosen], every, queue=False, trigger_mode="once")
    pressed = {"generate": generate, "stop": stop}
    for name, handler in pressed.items():
        on(tab.buttons[name].click, handler, [tab.chosen], every, box=tab.message)
    page = [tab.chosen, tab.reach, tab.address]
    on(tab.buttons["open"].click, open_, page, [*every, tab.chosen], box=tab.message, progress="minimal")
    on(tab.reach.input, reached, [tab.reach], [tab.address], queue=False)
    on(tab.serve.click, serve, page, every, box=tab.message, progress="minimal", show_progress_on=tab.message)
    on(tab.add_links.click, add_links, [tab.chosen, tab.names], [*every, tab.names], box=tab.message)
    on(tab.open_link.click, open_link, [tab.chosen], every, box=tab.message)
    on(tab.texts["links"].pick, end_link, [tab.chosen], every, box=tab.message)
    for what in ("early", "close", "delete"):
        on(tab.buttons[what].click, ask(what), [tab.chosen], [tab.asked, tab.warning, tab.confirm], box=tab.message)
    on(tab.yes.click, confirmed, [tab.chosen, tab.asked], [*every, tab.chosen, tab.confirm, tab.asked], box=tab.message)
    on(tab.no.click, lambda: {tab.confirm: gr.update(visible=False)}, [], [tab.confirm], queue=False)
    done = on(tab.report.click, report, [tab.chosen], [tab.report_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_report_file", "#blind_message"))
    done = on(tab.export.click, export, [tab.chosen], [tab.export_file], box=tab.message, progress="minimal")
    done.then(None, js=press("#blind_export_file", "#blind_message"))


def _wire_form(tab: BlindTestTab, workspace: Workspace) -> None:
    form = tab.form

    def keep(*given: Any) -> None:
        """At once, and beside the queue: reading the prompts may take a while."""
        values = form.read(given)
        if values != forms.load(workspace):
            forms.keep(values, workspace)

    def changed(sent: dict[str, str], *given: Any) -> dict[Any, Any]:
        """Only what is new: a text box that is sent anything says that it changed, which would never end."""
        suited = _suited(form, form.read(given), workspace)
        now = {str(one._id): _digest(value) for one, value in suited.items()}
        fresh = {one: value for one, value in suited.items() if sent.get(str(one._id)) != now[str(one._id)]}
        return {**fresh, known: now} if fresh else {}

    def more(*given: Any) -> dict[Any, Any]:
        values = form.read(given)
        free = next(n for n in range(3, forms.MOST_CONTESTANTS + 1) if not values[f"who_{n}"])
        values[f"who_{free}"] = "prompted"
        forms.keep(values, workspace)
        return _suited(form, values, workspace) | {form.fields[f"who_{free}"]: "prompted"}

    def upload(path: str | None, *given: Any) -> dict[Any, Any]:
        if not path:
            return {}
        values = form.read(given) | {"file": str(keep_upload(Path(path), workspace))}
        forms.keep(values, workspace)
        return {**fill_form(tab, workspace), form.upload: None}

    def make(*given: Any) -> dict[Any, Any]:
        values = form.read(given)
        among, how = plan.contestants(values, workspace), plan.settings(values)
        asked = plan.asked(values, workspace).prompts
        raters = plan.whole("Raters", values["raters"])
        store = open_store(workspace)
        votes = plan.planned(values, len(asked), len(among))
        test_id = tests.create_test(store, values["title"] or "", among, asked, how, votes)
        links.create_raters(store, test_id, [""] * raters)
        forms.forget(workspace)
        return {
            tab.chosen: gr.update(choices=choices(workspace), value=test_id),
            tab.message: notice("The test is made. Next: its answers.", kind="good"),
            **fill_form(tab, workspace),
            **_all(tab, test_id, workspace),
        }

    told = [*form.shown, form.found, form.power]
    # A text box tells of a paste by `change` only.
    inputs = [one.change if isinstance(one, gr.Textbox) else one.input for one in form.inputs]
    any_change = functools.partial(gr.on, inputs)
    on(any_change, keep, form.inputs, box=form.message, clears=False, queue=False, trigger_mode="always_last")
    known = gr.State({})  # what the form was sent
    on(any_change, changed, [known, *form.inputs], [*told, known], box=form.message, trigger_mode="always_last")
    on(form.more.click, more, form.inputs, told, box=form.message)
    on(form.upload.upload, upload, [form.upload, *form.inputs], told, box=form.message)
    on(
        form.make.click,
        make,
        form.inputs,
        [tab.chosen, tab.message, *told, *tab.shown, tab.memory],
        box=form.message,
        progress="minimal",
        show_progress_on=form.message,
        concurrency_limit=1,
    )


def _suited(form: forms.Form, values: dict[str, Any], workspace: Workspace) -> dict[Any, Any]:
    found, power = plan.look(values, workspace)
    shown = forms.suit(form, values, plan.topics(values, workspace))
    return shown | {form.found: found, form.power: power}


def fill_form(tab: BlindTestTab, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show in the form what is filled in, as it is kept on disk."""
    values = forms.load(workspace)
    found, power = plan.look(values, workspace)
    shown = forms.fill(tab.form, values, plan.topics(values, workspace), workspace)
    return shown | {tab.form.found: found, tab.form.power: power}


def show(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the chosen test, or the form of a new one."""
    if not chosen or chosen == NEW:
        return {tab.form.box: gr.update(visible=True), tab.box: gr.update(visible=False)}
    try:
        now = picture(chosen, workspace)
    except FtlabError as error:
        return {tab.form.box: gr.update(visible=False), tab.texts["about"]: error_box(error)}
    can = now["can"]
    titles = {
        "generate": "Go on with the answers" if now["begun"] else "Generate the answers",
        "stop": "Kill it now" if now["stopping"] else "Stop",
        "open": "I have looked: open the test" if now["flagged"] else "Open the test for votes",
    }
    return {
        tab.form.box: gr.update(visible=False),
        tab.box: gr.update(visible=True),
        tab.links_box: gr.update(visible=can["links"]),
        tab.results: gr.update(visible=can["verdict"]),
        **{tab.texts[name]: now[name] for name in _TEXTS},
        **{
            one: gr.update(visible=can[name], **({"value": titles[name]} if name in titles else {}))
            for name, one in tab.buttons.items()
        },
    }


def _all(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """As `show`, and what the page then shows for the next tick."""
    shown = show(tab, chosen, workspace)
    return {**shown, tab.memory: {one.elem_id: _digest(value) for one, value in shown.items()}}


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
