"""Another model judges, as a person sees it: the price first, then the verdict."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from tests.judge_server import judge_server, says, shown
from tests.unit.test_judge_box import with_answers
from tests.unit.test_preferences_tab import a_result

pytestmark = pytest.mark.browser


def test_i_see_what_judging_takes_before_anything_is_sent_and_the_verdict_after(app, visit):
    workspace = Workspace.open(app.workspace)
    with_answers(workspace, [("bad", f"good {n}") for n in range(8)], a_result(workspace, "judged"))
    page = visit(f"{app.url}?tab=evaluate").page
    with judge_server(lambda request, _: says("A" if "good" in shown(request["body"])["answer_a"] else "B")) as judge:
        page.get_by_role("button", name="Details").click()
        page.get_by_role("button", name="Use another model as judge").click()
        # Drawn whole: what is typed into a box in the moment it appears is lost.
        expect(page.locator("#judge_sides input").first).to_have_value("Adapted against Base")
        page.wait_for_timeout(500)
        typed = {"url": judge.url, "model": "the-judge", "price_in": "1", "price_out": "2"}
        for field, value in typed.items():
            page.locator(f"#judge_{field} input").fill(value)
        page.get_by_role("button", name="Show what it will take").click()
        expect(page.locator("#judge_plan")).to_contain_text("That costs about")
        assert judge.requests == []
        page.get_by_role("button", name="Send 16 requests").click()
        expect(page.locator("#judge_result")).to_contain_text("The judge prefers Adapted: Adapted wins 100% of 8")
        expect(page.locator("#judge_stop")).to_be_hidden()
    assert len(judge.requests) == 16
