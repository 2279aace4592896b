"""Before and after on the Preferences tab: base, start and run answer the same held-out prompts, side by side.

elem_ids: `after_box` (hidden while no run has such answers), `after_run`, `after_result` (figures, win rates),
`after_reward_model`, `after_judge`, `after_message`, `after_search`, `after_answers`, `after_previous`, `after_next`,
`after_page`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config.stages import SCORING
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import BeforeAfterJson
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.before_after import CONTESTANTS
from ftlab.evaluation.request import Request
from ftlab.report.findings import HEADINGS, MEANINGS, figure_rows, lines_of
from ftlab.training import supervisor
from ftlab.ui import background, job_strip, run_files, run_names
from ftlab.ui.kit import forms
from ftlab.ui.kit.answer_tables import PAGE_ROWS, text_cell
from ftlab.ui.kit.events import any_of, message_box, on, steps
from ftlab.ui.kit.html import badge, count, details, empty, join, list_items, notice, scrolling, short, table
from ftlab.ui.page import Look
from ftlab.ui.run_view import run as run_view

_NO_JUDGE = "No reward model yet. Train one above with the stage Reward model."
_JUDGE = "It scores which answers it prefers. That is the model's opinion, not people's."


@dataclass(frozen=True)
class Panel:
    box: gr.Accordion
    run: gr.Dropdown
    result: gr.HTML
    reward_model: gr.Dropdown
    judge: gr.Button
    message: gr.HTML
    search: gr.Textbox
    answers: gr.HTML
    previous: gr.Button
    next: gr.Button
    page: gr.Number

    @property
    def outputs(self) -> list[Any]:
        """The components that `list_runs` and `show` update."""
        return [self.box, self.run, self.result, self.reward_model, self.judge, self.answers, self.page]

    @property
    def looked_at(self) -> list[Any]:
        """The page state that `list_runs` needs."""
        return [self.run, self.search, self.page]


def build() -> Panel:
    title = "Before and after: answers to the same prompts"
    with gr.Accordion(title, open=False, visible=False, elem_id="after_box") as box:
        run = gr.Dropdown(
            [],
            value=None,
            label="Run",
            info="Runs compared after training or by Evaluate.",
            allow_custom_value=True,
            elem_id="after_run",
        )
        result = gr.HTML(elem_id="after_result")
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            reward_model = gr.Dropdown(
                [],
                value=None,
                label="Reward model",
                info=_NO_JUDGE,
                allow_custom_value=True,
                elem_id="after_reward_model",
                scale=3,
                min_width=240,
            )
            judge = gr.Button("Judge the answers with it", elem_id="after_judge", scale=1, min_width=200)
        message = message_box("after_message")
        search = gr.Textbox(label="Search", placeholder="words in prompts or answers", elem_id="after_search")
        answers = gr.HTML(elem_id="after_answers")
        with gr.Row(elem_classes="ft-pager"):
            previous, page, next_ = forms.pager("after")
    return Panel(box, run, result, reward_model, judge, message, search, answers, previous, next_, page)


def wire(panel: Panel, strip: job_strip.Strip, workspace: Workspace) -> None:
    def judge(run_id: str | None, judge_id: str | None) -> dict[Any, Any]:
        if not run_id or not judge_id:
            raise InputError("No reward model is chosen" if run_id else "No run is chosen", try_=_NO_JUDGE)
        run, reward_model = workspace.run(run_id), workspace.run(judge_id)
        if not run_files.is_reward_model(reward_model):
            raise InputError(
                f"{reward_model.id} is not a reward model", allowed=f"a run of the stage {', '.join(SCORING)}"
            )
        supervisor.submit_evaluation(run, workspace, Request(reward_model=reward_model))
        background.make_room(run)
        return {panel.result: _result(run), **job_strip.at_work(strip, workspace)}

    def find(run_id: str | None, search: str | None) -> dict[Any, Any]:
        return show(panel, run_id, workspace, search)

    def turn(run_id: str | None, search: str | None, page: float | None, *, by: int = 0) -> dict[Any, Any]:
        return _page(panel, run_id, workspace, search, int(page or 1) + by)

    backwards, forwards = steps(turn)

    on(
        panel.judge.click,
        judge,
        [panel.run, panel.reward_model],
        [panel.result, strip.box, strip.stop, strip.job],
        box=panel.message,
        progress="minimal",
        show_progress_on=panel.message,
    )
    turned = [panel.answers, panel.page]
    shows: dict[str, Any] = {"box": panel.message, "lane": "before and after"}
    on(
        any_of(panel.run.input, panel.search.change),
        find,
        [panel.run, panel.search],
        [panel.result, *turned],
        trigger_mode="always_last",
        **shows,
    )
    for trigger, handler in (
        (panel.previous.click, backwards),
        (panel.next.click, forwards),
        (panel.page.submit, turn),
    ):
        on(trigger, handler, panel.looked_at, turned, **shows)


def list_runs(panel: Panel, seen: Look) -> dict[Any, Any]:
    """New choices of runs and reward models, and the selected run."""
    workspace, (run_id, search, page) = seen.workspace, [seen.values[component] for component in panel.looked_at]
    choices = compared(workspace)
    chosen = seen.follow(panel.run, choices)
    judges = run_files.reward_models(workspace)
    same = chosen == run_id
    return {
        panel.box: gr.update(visible=bool(choices)),
        panel.run: gr.update(choices=run_names.choices([workspace.run(run) for run in choices]), value=chosen),
        panel.reward_model: gr.update(
            choices=run_names.choices(judges),
            value=judges[0].id if judges else None,
            info=_JUDGE if judges else _NO_JUDGE,
        ),
        panel.judge: gr.update(interactive=bool(judges)),
        **show(panel, chosen, workspace, search, int(page or 1) if same else 1),
    }


def compared(workspace: Workspace) -> list[str]:
    """The runs that have answers before and after, newest first."""
    return [run.id for run in workspace.runs() if run_files.before_after(run)]


def show(
    panel: Panel, run_id: str | None, workspace: Workspace, search: str | None = None, page: int = 1
) -> dict[Any, Any]:
    """Updates that show figures, win rates and one page of answers of `run_id`."""
    run = workspace.run(run_id) if run_id else None
    if run is None or not run_files.before_after(run):
        return {panel.result: "", panel.answers: ""}
    return {panel.result: _result(run), **_page(panel, run_id, workspace, search, page)}


def _result(run: RunDirectory) -> Markup:
    state = run_view.measuring(run, supervisor.REWARD_MODEL, "The reward model judges the answers")
    comparison = run_files.before_after(run)
    return state + result(comparison) if comparison else state


def result(comparison: BeforeAfterJson) -> Markup:
    """The figures of each contestant, and the scores by reward models."""
    _, *rows = figure_rows(comparison)
    judged = join(
        notice(
            Markup("{} <strong>Win rate</strong><ul>{}</ul>").format(
                badge("proxy", "warn"), list_items(lines_of(win_rate))
            )
        )
        for win_rate in comparison["win_rates"].values()
    )
    notes = list_items(comparison.get("notes", []))
    where = "" if comparison.get("start") else " This run started from the base."
    return Markup('<section class="ft-card" data-run="{}">{}{}{}{}{}</section>').format(
        comparison["run"],
        Markup('<p class="ft-help">Means over the answers to {} prompts of the {} split.{}</p>').format(
            count(comparison["rows"]), comparison["split"], where
        ),
        table(HEADINGS, rows, label="Length and repetition of the answers", numbers=range(1, len(HEADINGS))),
        details("What these figures mean", join(Markup("<p>{}</p>").format(line) for line in MEANINGS)),
        judged,
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def select(rows: list[dict[str, Any]], search: str | None) -> list[dict[str, Any]]:
    """The rows whose prompt and answers contain all words of `search`."""
    words = (search or "").lower().split()

    def holds(row: dict[str, Any]) -> bool:
        texts = [turn["content"] for turn in row["prompt"]] + [
            row[name]["answer"] for name in CONTESTANTS if name in row
        ]
        text = " ".join(texts).lower()
        return all(word in text for word in words)

    return [row for row in rows if holds(row)]


def prompts_table(rows: list[dict[str, Any]], page: int, last: int) -> Markup:
    """One page of prompts with all answers. On a phone the cells are stacked."""
    line = Markup('<p class="ft-help">Prompts: {}, page {} of {}.</p>').format(count(len(rows)), page, last)
    if not rows:
        return line + empty("No answer matches.", "Change the search.")
    offset = (page - 1) * PAGE_ROWS
    page_rows = rows[offset : offset + PAGE_ROWS]
    titles = {name: title.capitalize() for name, title in CONTESTANTS.items() if name in page_rows[0]}
    body = join(
        Markup('<tr><td data-label="Row">{}</td><td data-label="Prompt">{}</td>{}</tr>').format(
            row["row"],
            _prompt(row["prompt"]),
            join(
                Markup('<td data-label="{}">{}{}</td>').format(title, _marks(row[name]), text_cell(row[name]["answer"]))
                for name, title in titles.items()
            ),
        )
        for row in page_rows
    )
    heads = ("Row", "Prompt", *titles.values())
    return line + scrolling(heads, body, label="Answers before and after", css="ft-answers")


def _page(panel: Panel, run_id: str | None, workspace: Workspace, search: str | None, page: int) -> dict[Any, Any]:
    if not run_id:
        return {}
    run: RunDirectory = workspace.run(run_id)
    matches = select(run_files.before_after_answers(run), search)
    last = max(1, -(-len(matches) // PAGE_ROWS))
    page = min(max(1, page), last)
    return {panel.answers: prompts_table(matches, page, last), panel.page: page}


def _prompt(messages: list[dict[str, str]]) -> Markup:
    earlier = [turn for turn in messages[:-1] if turn["role"] != "system"]
    before = Markup('<span class="ft-help">{} earlier turns</span>').format(len(earlier)) if earlier else ""
    return before + text_cell(messages[-1]["content"])


def _marks(side: dict[str, Any]) -> Markup:
    scores = ", ".join(f"score {short(score)}" for score in side.get("scores", {}).values())
    return Markup('<div class="ft-mark">{} <span class="ft-help">{} tokens{}</span></div>').format(
        badge("cut off", "warn") if side["cut"] else "", side["tokens"], f", {scores}" if scores else ""
    )
