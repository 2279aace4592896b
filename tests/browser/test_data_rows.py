"""A person with data of her own: pastes rows, says which column is which, and sees what the model will read."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

ROWS = [{"ticket": f"My lamp {i} is broken", "triage": json.dumps({"queue": "lamps"})} for i in range(24)]
ROWS[4]["ticket"] = "<img src=x onerror=alert(1)> my radio"


def choose(page, part: str, column: str) -> None:
    box = page.locator(f"#data_part_{part} input")
    box.click()
    # The list that an earlier choice opened may still be fading: the one that belongs to this box is meant.
    options = page.locator(f"#{box.get_attribute('aria-controls')}")
    options.get_by_role("option", name=column, exact=True).click()
    expect(box).to_have_value(column)


@pytest.mark.long
def test_pasted_rows_with_unknown_columns_become_training_examples(app, visit):
    one = visit(app.url)
    page = one.page
    expect(page.locator("#data_tokens")).to_be_visible()
    page.locator("#data_paste button").first.click()
    page.locator("#data_pasted textarea").fill("\n".join(map(json.dumps, ROWS)))
    page.locator("#data_keep").click()

    # The rows are there, and it says what is missing and how to go on.
    expect(page.locator("#data_message")).to_contain_text("No usable column")
    expect(page.locator("#data_table")).to_contain_text("My lamp 9 is broken")
    choose(page, "prompt", "ticket")
    choose(page, "completion", "triage")
    expect(page.locator("#data_tokens mark")).to_contain_text('"queue"')
    expect(page.locator("#data_message")).not_to_contain_text("No usable column")
    expect(page.locator("#data_summary")).to_contain_text("you said")

    page.locator("#set_data_prompt_template textarea").press_sequentially("Sort: {ticket}")
    expect(page.locator("#data_tokens")).to_contain_text("Sort: My lamp 0 is broken")

    page.locator("#data_search textarea, #data_search input").first.fill("radio")
    page.keyboard.press("Enter")
    page.locator("#data_table [data-pick='4']").click()
    expect(page.locator("#data_tokens")).to_contain_text("<img src=x onerror=alert(1)> my radio")
    assert page.locator("#data_table img, #data_rendered img").count() == 0

    # What was said goes with the data to the Train tab.
    page.locator("#data_use").click()
    expect(page.locator("#train_data")).to_contain_text("pasted")
    expect(page.locator("#train_data")).to_contain_text("20 train")
    assert not one.errors


def test_a_phone_reads_rows_without_scrolling_the_page_sideways(app, visit):
    one = visit(app.url, {"width": 390, "height": 844})
    page = one.page
    expect(page.locator("#data_tokens")).to_be_visible()
    page.locator("#data_mapping button").first.click()
    expect(page.locator("#data_part_prompt")).to_be_visible()
    page.locator("#data_next").click()
    expect(page.locator("#data_table")).to_contain_text("page 2 of")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not one.errors
