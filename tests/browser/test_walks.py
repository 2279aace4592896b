"""Where people stumbled who walked through the app from screenshots alone, as their tasks, with the clicks counted."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address

import pytest
from playwright.sync_api import expect

from ftlab.arena.blind_tests import list_tests
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from ftlab.ui.rater import serving
from tests.browser.conftest import PHONE, WIDE

pytestmark = [pytest.mark.browser, pytest.mark.long]
LONG = 200_000  # milliseconds: a model is loaded on a slow machine
SIZES = {"wide, light": (WIDE, "light"), "phone, dark": (PHONE, "dark")}
# What is uploaded by mistake, and a word of the one message that says so.
ODD = {
    "nothing.csv": (b"", "is empty"),
    "header only.csv": (b"question,answer\n", "no rows"),
    "one row.csv": (b"question,answer\nWhere is the gym?,On floor 2.\n", "too few rows"),
}


def in_view(page, selector):
    """Whether it can be read and pressed without scrolling."""
    place = page.locator(selector).first.bounding_box()
    return place is not None and place["y"] >= 0 and place["y"] + place["height"] <= page.viewport_size["height"]


@pytest.mark.train
@pytest.mark.parametrize("size", SIZES)
def test_from_one_button_to_a_vote_on_a_phone_and_the_verdict_that_its_owner_reads(finished, visit, chromium, size):
    """The test opens by itself; on the phone, three presses are enough for the first vote."""
    one = visit(finished.url, *SIZES[size])
    page = one.page
    one.tab("blind")
    if list_tests(open_store(Workspace.open(finished.workspace))):  # the other size was here before
        page.locator("#blind_new").click(timeout=LONG)
    # The base against the newest run, on that run's held-out rows, and the page says whose prompts these are.
    expect(page.locator("#blind_power")).to_contain_text("held-out prompts of Support triage", timeout=LONG)
    page.locator("#blind_number input, #blind_number textarea").first.fill("3")
    expect(page.locator("#blind_power")).to_contain_text("3 held-out prompts", timeout=LONG)
    page.locator("#blind_make").click()
    network = not ip_address(serving._address_in_network()).is_loopback
    # Asked once: the other size may have been asked already.
    expect(page.locator("#blind_places, #blind_share .ft-link").filter(visible=True).first).to_be_visible(timeout=LONG)
    if page.locator("#blind_places").is_visible():
        page.locator(f"[data-pick={'network' if network else 'machine'}]").click()
    link = page.locator("#blind_share .ft-link")
    expect(link).to_contain_text("#key=", timeout=LONG)

    if network:  # the code and its white border are whole: cameras need both
        drawn = page.locator("#blind_share .ft-qr svg").evaluate(
            "svg => [svg, svg.querySelector('path')].map(one => one.getBoundingClientRect().right)"
        )
        assert drawn[1] <= drawn[0] + 1

    phone = chromium.new_context(viewport=PHONE, color_scheme="dark", has_touch=True, is_mobile=True).new_page()
    phone.goto(link.inner_text())
    taps = 1
    phone.get_by_label("Your name").tap(timeout=LONG)
    phone.keyboard.type("Ada")
    for press in (phone.get_by_role("button", name="Begin"), phone.locator("[data-do=vote][data-choice=left]")):
        expect(press).to_be_enabled(timeout=LONG)
        press.tap()
        taps += 1
    expect(phone.locator(".rt-stage")).to_contain_text(re.compile("Comparison 2|Undo last vote"), timeout=LONG)
    assert taps == 3
    phone.context.close()

    expect(page.locator("#blind_about")).to_contain_text("Open for votes", timeout=LONG)
    expect(page.locator("#blind_progress")).to_contain_text("close the test", timeout=LONG)
    page.locator("#blind_close").click()
    # The question comes to whoever pressed, and the verdict after it.
    expect(page.locator("#blind_yes")).to_be_in_viewport()
    page.locator("#blind_yes").click()
    expect(page.locator("#blind_verdict [data-verdict]")).to_be_visible(timeout=LONG)
    expect(page.locator("#blind_about")).to_contain_text("Closed")
    expect(page.locator("#blind_new")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert not one.errors


def test_what_cannot_be_trained_on_is_said_once_under_the_name_that_the_file_has(app, visit, tmp_path):
    one = visit(app.url)
    page = one.page
    for name, (content, words) in ODD.items():
        (tmp_path / name).write_bytes(content)
        page.locator("#data_upload input[type=file]").set_input_files(str(tmp_path / name))
        message = page.locator("#data_message .ft-box")
        expect(message).to_contain_text(name, timeout=LONG)
        expect(message).to_contain_text(words)
        expect(message).to_have_count(1)
        expect(page.locator("#data_use")).to_be_disabled()
    # The other tabs point to where it is said, in a line, and measure nothing.
    for tab in ("train", "preferences"):
        one.tab(tab)
        about = page.locator("#train_data" if tab == "train" else "#pref_data")
        expect(about).to_contain_text("The Data tab says why", timeout=LONG)
        assert len(about.inner_text().split()) < 25
    expect(page.locator("#pref_start")).to_be_disabled()
    assert not one.errors


@pytest.mark.parametrize("size", SIZES)
def test_a_team_with_pairs_is_ready_to_train_on_them_after_one_click(app, visit, tmp_path, size):
    file, user = tmp_path / "our pairs.jsonl", {"role": "user"}
    rows = [
        {
            "input": {"messages": [user | {"content": f"Is room {n} free?"}]},
            "preferred_output": [{"role": "assistant", "content": f"Yes, room {n} is free for you."}],
            "non_preferred_output": [{"role": "assistant", "content": "Ask somebody else."}],
        }
        for n in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = visit(app.url, *SIZES[size])
    page = one.page
    page.locator("#data_upload input[type=file]").set_input_files(str(file))
    expect(page.locator("#data_summary")).to_contain_text("our pairs.jsonl", timeout=LONG)
    expect(page.locator("#data_bubbles .ft-of-rejected").first).to_contain_text("Ask somebody else")
    assert in_view(page, "#data_use")
    page.locator("#data_use").click()
    expect(page.locator("#pref_data")).to_contain_text("pairs to learn from", timeout=LONG)
    expect(page.locator("#pref_start")).to_be_enabled(timeout=LONG)
    assert in_view(page, "#pref_start")
    assert not one.errors
