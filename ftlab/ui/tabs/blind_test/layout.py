"""The page of a blind test: its components, and what they show of the selected test.

elem_ids: `blind_chosen` (which test), `blind_form` and `blind_actions` (a new one), `blind_where` (asks where the
raters are: `blind_places`, `blind_where_address`, `blind_where_use`, `blind_where_back`), `blind_message`,
`blind_test` (the chosen one: `blind_about`, `blind_answers`, `blind_flags`, `blind_generate`, `blind_stop`,
`blind_open`, `blind_share`, `blind_progress`, `blind_verdict`, `blind_learn`, `blind_report`, `blind_export`),
`blind_details` (`blind_facts`, `blind_links_box` with `blind_reach`, `blind_address`, `blind_serve`, `blind_names`,
`blind_add_links`, `blind_open_link`, `blind_links`; a judge and a repetition, see judge.py and repeat.py;
`blind_early`, `blind_delete`), `blind_close`, `blind_confirm` (`blind_warning`, `blind_yes`, `blind_no`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui import judge_form
from ftlab.ui.kit.events import cover_page, message_box
from ftlab.ui.kit.fresh import digests
from ftlab.ui.kit.html import COVER_TAB, PICK_JS, error_box, heading
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.tabs.blind_test import form as forms
from ftlab.ui.tabs.blind_test import judge, repeat
from ftlab.ui.tabs.blind_test.picture import NEW, picture
from ftlab.ui.tabs.blind_test.views import LINKS_JS, places

_TEXTS = ("about", "answers", "flags", "share", "progress", "verdict", "facts", "links")


@dataclass(frozen=True)
class Where:
    """The question of where the raters are, which is asked once."""

    box: gr.Column
    places: gr.HTML
    own: gr.Column  # for the address of your own server
    address: gr.Textbox
    use: gr.Button
    back: gr.Button


@dataclass(frozen=True)
class BlindTestTab:
    chosen: gr.Dropdown
    new: gr.Button
    form: forms.Form
    where: Where
    message: gr.HTML
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
    asked: gr.State  # the action to confirm
    report_file: gr.DownloadButton
    export_file: gr.DownloadButton
    memory: gr.State  # what the page shows already
    built: gr.State  # what it was built with, until it is first opened
    known: gr.State  # what its form was sent
    cover: gr.HTML  # until it has been filled
    judge: judge_form.Panel
    repeating: repeat.Repeating

    @property
    def learn(self) -> gr.Button:
        return self.buttons["learn"]

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        boxes = [self.new, self.links_box, self.box, self.form.box, self.form.actions]
        more = [*judge.outputs(self.judge), *self.repeating.outputs]
        return [*self.texts.values(), *self.buttons.values(), *boxes, *more]


def draw() -> BlindTestTab:
    gr.HTML(
        heading("Blind test", "People compare two answers without knowing which model wrote which.", page="blind_tests")
    )
    cover = cover_page(COVER_TAB)
    chosen = gr.Dropdown(
        [("A new test", NEW)], value=None, label="Test", allow_custom_value=True, elem_id="blind_chosen", visible=False
    )
    new = gr.Button("New test", size="sm", elem_id="blind_new", elem_classes="ft-act", visible=False)
    form = forms.Form()
    forms.build_fields(form)
    where = _where()
    message = message_box("blind_message")
    forms.build_actions(form)
    texts, buttons = {}, {}

    def text(name: str, **settings: Any) -> None:
        texts[name] = gr.HTML("", elem_id=f"blind_{name}", **settings)

    def button(name: str, title: str, **settings: Any) -> None:
        buttons[name] = gr.Button(title, elem_id=f"blind_{name}", visible=False, **settings)

    with gr.Column(elem_id="blind_test", visible=False) as box:
        text("about")
        text("answers")
        text("flags")
        with gr.Row(elem_classes="ft-buttons"):
            button("generate", "Make the answers", variant="primary")
            button("stop", "Stop the answers", variant="stop")
            button("leave", "Leave these prompts out")
            button("open", "Open the test", variant="primary")
        text("share", js_on_load=LINKS_JS)
        text("progress")
        with gr.Row(elem_classes="ft-buttons"):
            button("close", "Close the test", size="sm")
        # Next to the test itself, wherever the button that asks is.
        with gr.Column(visible=False, elem_id="blind_confirm") as confirm:
            warn = gr.HTML(elem_id="blind_warning")
            with gr.Row(elem_classes="ft-buttons"):
                yes = gr.Button("Yes", variant="stop", elem_id="blind_yes")
                no = gr.Button("No", elem_id="blind_no")
        text("verdict")
        with gr.Row(elem_classes="ft-buttons"):
            button("learn", "Learn from these votes", variant="primary")
            button("report", "Download the report")
            button("export", "Download the votes as data")
            report_file = gr.DownloadButton("Save report.html", elem_id="blind_report_file", elem_classes="ft-gone")
            export_file = gr.DownloadButton("Save votes.zip", elem_id="blind_export_file", elem_classes="ft-gone")
        with gr.Accordion("Details: settings, raters, links", open=False, elem_id="blind_details"):
            text("facts")
            with gr.Column(visible=False, elem_id="blind_links_box") as links_box:
                gr.HTML(heading("Links for raters", "Anyone with a link can vote. No account needed.", page="raters"))
                with gr.Row(equal_height=False):
                    with gr.Column(min_width=280):
                        reach = gr.Radio(
                            [(title, name) for name, (title, _) in raters_page.REACH.items()],
                            value=raters_page.usual(),
                            label="Where voters are",
                            info="They can reach only the raters' page, never this app.",
                            elem_id="blind_reach",
                        )
                        address = _address("blind_address", visible=False)
                        serve = gr.Button("Use this", size="sm", elem_id="blind_serve", elem_classes="ft-act")
                    with gr.Column(min_width=280):
                        names = gr.Textbox(
                            label="Personal links", info="One name per line; nurses: Ana puts Ana in a group.",
                            lines=2, max_lines=8, elem_id="blind_names",
                        )  # fmt: skip
                        with gr.Row(elem_classes="ft-buttons"):
                            add_links = gr.Button("Make links", size="sm", elem_id="blind_add_links")
                            open_link = gr.Button("Make an open link", size="sm", elem_id="blind_open_link")
                text("links", js_on_load=LINKS_JS)
            judging, repeating = judge.build(), repeat.build()
            with gr.Row(elem_classes="ft-buttons"):
                button("early", "Open the tally early", size="sm")
                button("delete", "Delete the test", size="sm")
    return BlindTestTab(
        chosen, new, form, where, message, box, texts, buttons, links_box, reach, address, serve, names, add_links,
        open_link, confirm, warn, yes, no, gr.State(None), report_file, export_file, gr.State({}), gr.State({}),
        gr.State({}), cover, judging, repeating,
    )  # fmt: skip


def _where() -> Where:
    with gr.Column(visible=False, elem_id="blind_where") as box:
        listed = gr.HTML(places(raters_page.REACH), elem_id="blind_places", js_on_load=PICK_JS)
        with gr.Column(visible=False) as own:
            address = _address("blind_where_address")
            use = gr.Button("Use this address", variant="primary", elem_id="blind_where_use", elem_classes="ft-act")
        back = gr.Button("Back", size="sm", elem_id="blind_where_back", elem_classes="ft-act")
    return Where(box, listed, own, address, use, back)


def _address(elem_id: str, **settings: Any) -> gr.Textbox:
    return gr.Textbox(
        label="Address of the raters' page", info="Where you run: python -m ftlab arena serve", max_lines=1,
        placeholder="https://votes.example.org", elem_id=elem_id, **settings,
    )  # fmt: skip


def show(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the selected test, or the form of a new one."""
    new = not chosen or chosen == NEW
    boxes = {component: gr.update(visible=new) for component in (tab.form.box, tab.form.actions)}
    boxes[tab.box] = boxes[tab.new] = gr.update(visible=not new)
    if not chosen or new:
        return boxes
    try:
        now = picture(chosen, workspace)
    except FtlabError as error:
        return {**boxes, **judge_form.hidden(tab.judge), tab.texts["about"]: error_box(error)}
    can = now["can"]
    titles = {
        "generate": "Go on with the answers" if now["begun"] else "Make the answers",
        "stop": "Kill it now" if now["stopping"] else "Stop the answers",
        "open": now["open"],
    }
    return {
        **boxes,
        tab.links_box: gr.update(visible=can["links"]),
        **{tab.texts[name]: now[name] for name in _TEXTS},
        **{
            component: gr.update(visible=can[name], **({"value": titles[name]} if name in titles else {}))
            for name, component in tab.buttons.items()
        },
        **judge.show(tab.judge, now["test"], now["contestants"], workspace),
        **repeat.show(tab.repeating, now["test"], now["secret"], workspace),
    }


def show_all(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """Like `show`, plus what the page then shows, for the next tick."""
    updates = show(tab, chosen, workspace)
    return {**updates, tab.memory: digests(updates)}
