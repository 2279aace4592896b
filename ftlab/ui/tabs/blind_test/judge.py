"""Let another model judge the answers of the selected blind test, for votes to correct; the form is
`ftlab.ui.judge_form`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.arena import judging
from ftlab.arena.blind_tests import get_test
from ftlab.arena.corrected import FEWEST_PROMPTS, read_scores
from ftlab.arena.store import Store, open_store
from ftlab.core.jobs import Status, StopResult
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.judge_plan import JudgeSettings, Plan, build_settings
from ftlab.ui import judge_form
from ftlab.ui.judge_form import Panel
from ftlab.ui.kit.html import notice

_ABOUT = (
    "A model of your choice reads the answers to all prompts, in both orders, and people's votes correct its errors. "
    "Raters never see what it says. Nothing is sent until you have seen what it will take."
)


@dataclass(frozen=True)
class OfTest:
    """The answers of a blind test, by its id."""

    workspace: Workspace

    def plan(self, chosen: str | None, typed: Mapping[str, Any]) -> tuple[Plan, tuple[str, dict[str, Any]]]:
        store, test_id = self._of(chosen)
        criteria = str(typed["criteria"] or "").strip() or get_test(store, test_id).settings["instructions"]
        more = {"sides": judging.sides_of_test(store, test_id), "criteria": criteria}
        settings = build_settings(**{**typed, **more})
        return judging.plan_judging(store, test_id, settings), (test_id, settings.as_dict())

    def start(self, planned: tuple[str, dict[str, Any]]) -> str:
        test_id, settings = planned
        judging.start(self.workspace, test_id, JudgeSettings.from_dict(settings))
        return test_id

    def status(self, chosen: str | None) -> Status | None:
        return judging.status(self.workspace, chosen) if chosen else None

    def stop(self, chosen: str | None) -> StopResult:
        return judging.stop(self.workspace, self._of(chosen)[1])

    def results(self, chosen: str | None) -> Markup:
        file = self.workspace.judged_file(chosen or "")
        if not chosen or not file.exists():
            return Markup("")
        scores, model = read_scores(file, *judging.sides_of_test(*self._of(chosen)))
        if not scores:
            return Markup("")
        return notice(
            f"{model} has judged {counted(len(scores), 'prompt')}. The verdict uses that once people have voted on "
            f"{FEWEST_PROMPTS} of them: Details, With a judge that votes correct.",
            kind="good",
        )

    def _of(self, chosen: str | None) -> tuple[Store, str]:
        if not chosen:
            raise InputError("No blind test is chosen", try_="choose one above")
        return open_store(self.workspace), chosen


def build() -> Panel:
    return judge_form.build("blind_judge", "Use another model as judge", _ABOUT)


def show(panel: Panel, test: Any, contestants: int, workspace: Workspace) -> dict[Any, Any]:
    """Updates for `test`; hidden unless it has the answers of two contestants."""
    if test.settings["live"] or contestants != 2 or test.state in ("draft", "generating"):
        return judge_form.hidden(panel)
    return {panel.box: gr.update(visible=True), **judge_form.progress(panel, OfTest(workspace), test.id)}


def outputs(panel: Panel) -> list[Any]:
    """The components that `show` updates."""
    return [panel.box, *panel.progress]
