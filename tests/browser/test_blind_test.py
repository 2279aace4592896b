"""The owner makes a blind test, raters vote on a page of their own, and the verdict appears when all votes are in."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from ftlab.arena.store import open_store, votes
from ftlab.core.workspace import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.long]
LONG = 200_000  # milliseconds: loading a model on a slow machine


def type_into(page, name, text):
    page.locator(f"#blind_{name}").locator("input, textarea").first.fill(text)


def test_a_test_is_made_answered_and_voted_on_and_the_tally_stays_hidden_until_all_votes_are_in(app, visit):
    one = visit(app.url)
    page = one.page
    one.tab("blind")
    expect(page.locator("#blind_found .ft-box")).to_be_visible(timeout=LONG)
    type_into(page, "title", "Two bases")
    page.get_by_label("Pasted lines").click()
    type_into(page, "pasted", "Say hello.\nName a colour.")
    type_into(page, "system_2", "Answer in one word.")
    type_into(page, "title_2", "brief")
    type_into(page, "raters", "1")
    type_into(page, "votes_per_prompt", "1")
    type_into(page, "max_new_tokens", "6")
    expect(page.locator("#blind_found")).to_contain_text("2 of 2 prompts")
    expect(page.locator("#blind_power")).to_contain_text("too few to show any difference")
    page.reload()
    one.tab("blind")
    expect(page.locator("#blind_title input")).to_have_value("Two bases")

    page.locator("#blind_make").click()
    expect(page.locator("#blind_about")).to_contain_text("brief")
    page.locator("#blind_generate").click()
    expect(page.locator("#blind_open")).to_be_visible(timeout=LONG)
    page.locator("#blind_open").click()
    link = page.locator("#blind_links .ft-link").first
    expect(link).to_contain_text("#key=")
    expect(page.locator("#blind_progress")).to_contain_text("of 2 planned votes are in")
    expect(page.locator("#blind_progress")).to_contain_text("The tally is hidden")
    expect(page.locator("#blind_verdict [data-verdict]")).to_have_count(0)

    rater = one.context.new_page()
    rater.goto(link.inner_text())
    stage = rater.locator(".rt-stage")
    for _ in range(2):
        # Identical answers are ties that nobody is asked about, so there may be fewer.
        expect(stage).to_contain_text(re.compile("Comparison|no more", re.I))
        button = rater.locator('[data-do="vote"][data-choice="left"]')
        if button.count():
            trial = stage.inner_text()
            button.click()
            expect(stage).not_to_have_text(trial)
    rater.close()
    store = open_store(Workspace.open(app.workspace))
    with store.reading() as connection:
        assert len(connection.execute(votes.select()).all()) == 2

    page.reload()
    one.tab("blind")
    expect(page.locator("#blind_verdict [data-verdict=not_enough]")).to_be_visible(timeout=LONG)
    with page.expect_download() as download:
        page.locator("#blind_report").click()
    assert "Two bases" in download.value.path().read_text()
    assert not one.errors
