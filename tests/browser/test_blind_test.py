"""The owner makes a blind test, raters vote on a page of their own, and the verdict appears when all votes are in."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from playwright.sync_api import expect

from ftlab.arena.links import qr_code
from ftlab.arena.store import open_store, votes
from ftlab.core.workspace import Workspace
from ftlab.ui.rater import serving
from ftlab.ui.tabs.blind_test import form
from tests.browser.conftest import PHONE, WIDE

pytestmark = [pytest.mark.browser, pytest.mark.long]
LONG = 200_000  # milliseconds: loading a model on a slow machine


def type_into(page, name, text):
    page.locator(f"#blind_{name}").locator("input, textarea").first.fill(text)


def given(workspace, **values):
    """Fill in the form of a new test as its owner did at an earlier visit: two bases that answer in a moment."""
    values = {"from": "pasted", "pasted": "Say hello.\nName a colour.", "max_new_tokens": "6"} | values
    values = {"who_1": "base", "who_2": "prompted", "system_2": "Answer in one word.", "votes_per_prompt": "1"} | values
    opened = Workspace.open(workspace)
    form.keep(form.usual(opened).changed(values), opened)


def cast(app):
    store = open_store(Workspace.open(app.workspace))
    with store.reading() as connection:
        return connection.execute(votes.select()).all()


def vote_on_all(rater, pressed="tap"):
    stage = rater.locator(".rt-stage")
    for _ in range(2):
        # Identical answers are ties that nobody is asked about, so there may be fewer.
        expect(stage).to_contain_text(re.compile("Comparison|no more", re.I), timeout=LONG)
        button = rater.locator('[data-do="vote"][data-choice="left"]')
        if button.count():
            expect(button).to_be_enabled()
            trial = stage.inner_text()
            getattr(button, pressed)()
            expect(stage).not_to_have_text(trial)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_takes_three_clicks_from_the_tab_to_a_vote_on_a_phone(app, visit, chromium, viewport):
    given(app.workspace)
    one = visit(app.url, viewport)
    page, clicks = one.page, 0
    has_network = not ip_address(serving._address_in_network()).is_loopback

    def click(selector):
        nonlocal clicks
        clicks += 1
        page.locator(selector).click()

    click("#tab_blind-button")
    expect(page.locator("#blind_power")).to_contain_text("2 votes on 2 prompts", timeout=LONG)
    button = page.locator("#blind_make")
    expect(button).to_be_enabled()
    assert button.bounding_box()["y"] + button.bounding_box()["height"] < viewport["height"]
    click("#blind_make")
    if not has_network:
        page.locator("[data-pick=network]").click()
        expect(page.locator("#blind_message")).to_contain_text("not on a network")
    click(f"[data-pick={'network' if has_network else 'machine'}]")
    link = page.locator("#blind_share .ft-link")
    expect(link).to_contain_text("#key=", timeout=LONG)
    url = link.inner_text()
    code = page.locator("#blind_share .ft-qr svg path").last
    if has_network:
        assert "127.0.0.1" not in url and "localhost" not in url
        assert code.get_attribute("d") in qr_code(url), "the code is that of the link"
    else:
        expect(code).to_have_count(0)
    # The link can be opened at once: the phone waits until the answers are there.
    phone = chromium.new_context(viewport=PHONE, has_touch=True, is_mobile=True).new_page()
    phone.goto(url)
    phone.get_by_label("Your name").fill("Ada", timeout=LONG)
    expect(phone.locator(".rt-stage")).to_contain_text("Which answer would you rather get?")
    phone.get_by_role("button", name="Begin").tap()
    vote_on_all(phone)
    phone.context.close()
    assert clicks == 3 and len(cast(app)) == 2
    expect(page.locator("#blind_verdict [data-verdict]")).to_be_visible(timeout=LONG)
    expect(page.locator("#blind_learn")).to_be_hidden()  # two votes decide nothing
    assert not one.errors


def test_a_test_is_made_answered_and_voted_on_and_the_tally_stays_hidden_until_all_votes_are_in(app, visit):
    one = visit(app.url)
    page = one.page
    one.tab("blind")
    # Without a run there is nothing to compare yet, and the button says so.
    expect(page.locator("#blind_power")).to_contain_text("Contestant 2 needs a system prompt", timeout=LONG)
    expect(page.locator("#blind_make")).to_be_disabled()
    page.get_by_text("Advanced", exact=True).click()
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
    page.get_by_text("Advanced", exact=True).click()
    expect(page.locator("#blind_title input")).to_have_value("Two bases")

    page.locator("#blind_make").click()
    page.locator("[data-pick=machine]").click()
    expect(page.locator("#blind_about")).to_contain_text("brief")
    link = page.locator("#blind_share .ft-link")
    expect(link).to_contain_text("#key=")
    expect(page.locator("#blind_share .ft-qr")).to_have_count(0)  # no phone can open what is on this computer only
    expect(page.locator("#blind_progress")).to_contain_text("of 2 planned votes cast", timeout=LONG)
    expect(page.locator("#blind_progress")).to_contain_text("The tally stays hidden")
    expect(page.locator("#blind_verdict [data-verdict]")).to_have_count(0)
    page.get_by_text("Details: settings, raters, links").click()
    page.locator("#blind_names textarea").fill("Ben")
    page.locator("#blind_add_links").click()
    own = page.locator("#blind_links .ft-link-card", has_text="Ben").locator(".ft-link")
    expect(own).to_contain_text("#key=")

    rater = one.context.new_page()
    rater.goto(own.inner_text())
    vote_on_all(rater, "click")
    rater.close()
    assert len(cast(app)) == 2

    page.reload()
    one.tab("blind")
    expect(page.locator("#blind_verdict [data-verdict=not_enough]")).to_be_visible(timeout=LONG)
    with page.expect_download() as download:
        page.locator("#blind_report").click()
    assert "Two bases" in download.value.path().read_text()
    assert not one.errors
