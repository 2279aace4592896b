"""The page of a blind test: its parts, and what they show of the chosen test.

elem_ids: `blind_chosen` (which test), `blind_form`, `blind_test` (the chosen one), `blind_about`, `blind_answers`,
`blind_generate`, `blind_stop`, `blind_flags`, `blind_open`, `blind_links_box` (`blind_reach`, `blind_address`,
`blind_serve`, `blind_names`, `blind_add_links`, `blind_open_link`, `blind_links`), `blind_progress`, `blind_early`,
`blind_close`, `blind_delete`, `blind_confirm` (`blind_warning`, `blind_yes`, `blind_no`), `blind_verdict`,
`blind_report`, `blind_export`, `blind_learn`, `blind_message`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui.kit.events import message_box
from ftlab.ui.kit.fresh import digests
from ftlab.ui.kit.html import error_box, heading
from ftlab.ui.rater import serving as raters_page
from ftlab.ui.tabs.blind_test import form as forms
from ftlab.ui.tabs.blind_test.picture import NEW, headline, picture
from ftlab.ui.tabs.blind_test.views import LINKS_JS

_TEXTS = ("about", "answers", "flags", "links", "progress", "verdict")


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
            report_file = gr.DownloadButton("Save report.html", elem_id="blind_report_file", elem_classes="ft-gone")
            export = gr.Button("Download the votes as data", elem_id="blind_export")
            export_file = gr.DownloadButton("Save votes.zip", elem_id="blind_export_file", elem_classes="ft-gone")
            learn = gr.Button("Learn from these votes", variant="primary", elem_id="blind_learn")
        with gr.Column(visible=False, elem_id="blind_links_box") as links_box:
            gr.HTML(heading("Links for raters", "Anyone with a link can vote. No account needed.", page="raters"))
            with gr.Row(equal_height=False):
                with gr.Column(min_width=280):
                    reach = gr.Radio(
                        [(title.capitalize(), name) for name, title in raters_page.REACH.items()],
                        value=raters_page.usual(),
                        label="Who can reach the raters' page",
                        info="It has its own address, and raters cannot reach this app from it.",
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
                        info="One name per line.",
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


def show_all(tab: BlindTestTab, chosen: str | None, workspace: Workspace) -> dict[Any, Any]:
    """As `show`, and what the page then shows for the next tick."""
    shown = show(tab, chosen, workspace)
    return {**shown, tab.memory: digests(shown)}
