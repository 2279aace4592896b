"""A person with data of her own: uploads or pastes rows, says which column is which where it has to be asked, and sees
what the model will read."""

from __future__ import annotations

import csv
import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, WIDE

ROWS = [{"links": f"My lamp {i} is broken", "rechts": f"Lamp {i} goes to the lamp desk"} for i in range(24)]
ROWS[4]["links"] = "<img src=x onerror=alert(1)> my radio does not play"
ODD = ("Ticket No", "Date", "Gast schreibt", "What we said", "Agent")


def odd_table(file) -> None:
    """60 rows of a newcomer's table, under headers of nobody's standard."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(ODD)
        for n in range(60):
            asked, said = f"Hello, room {n} is too cold for us.", f"We are sorry, somebody comes to room {n} now."
            table.writerow([f"T-{1000 + n}", f"2026-03-{n % 28 + 1:02}", asked, said, "Anna Weber"])


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_newcomers_odd_table_is_on_its_way_to_training_after_one_click(app, visit, tmp_path, viewport):
    odd_table(tmp_path / "Hotel desk.csv")
    one = visit(app.url, viewport)
    page, clicks = one.page, 0
    expect(page.locator("#data_welcome")).to_contain_text("Teach a language model your task")
    page.locator("#data_upload input[type=file]").set_input_files(str(tmp_path / "Hotel desk.csv"))
    expect(page.locator("#data_sentence")).to_have_text(
        "Gast schreibt to What we said: 48 to learn from, 6 to check, 6 to test."
    )
    expect(page.locator("#data_welcome")).to_be_hidden()
    pairs = page.locator("#data_bubbles .ft-pair")
    expect(pairs).to_have_count(3)
    expect(pairs.first.locator(".ft-of-user")).to_contain_text("room 0 is too cold")
    expect(pairs.first.locator(".ft-of-assistant")).to_contain_text("somebody comes to room 0")
    expect(page.locator("#data_mixed")).to_contain_text("general examples")
    # Nobody scrolls for the next step.
    place = page.locator("#data_use").bounding_box()
    assert place["y"] + place["height"] < viewport["height"] and page.evaluate("window.scrollY") == 0
    page.locator("#data_use").click()
    clicks += 1
    expect(page.locator("#train_data")).to_contain_text("48 to learn from")
    assert clicks == 1 and not one.errors


def test_who_only_wants_to_try_is_on_the_train_tab_after_one_press(app, visit):
    one = visit(app.url)
    one.page.locator("#data_try").click()
    expect(one.page.locator("#train_start")).to_be_visible()
    expect(one.page.locator("#train_data")).to_contain_text("Support triage")
    one.tab("data")
    expect(one.page.locator("#data_welcome")).to_be_hidden()
    assert not one.errors


@pytest.mark.long
def test_where_nobody_can_guess_the_columns_choosing_them_is_enough(app, visit):
    one = visit(app.url)
    page = one.page
    page.locator("#data_more > button").click()
    page.locator("#data_paste > button").click()
    page.locator("#data_pasted textarea").fill("\n".join(map(json.dumps, ROWS)))
    page.locator("#data_keep").click()

    # The question stands where an error would, with an example of each column; of two texts, one names the other.
    box = page.locator("#data_pick_prompt input")
    expect(box).to_be_visible()
    expect(page.locator("#data_use")).to_be_disabled()
    expect(page.locator("#data_message .ft-bad")).to_have_count(0)
    box.click()
    page.get_by_role("option", name="links: My lamp 0 is broken").click()
    expect(page.locator("#data_sentence")).to_contain_text("links to rechts")
    expect(page.locator("#data_bubbles .ft-of-assistant").first).to_contain_text("Lamp 0 goes to")
    expect(page.locator("#data_use")).to_be_enabled()

    one.panel("rows")
    # The first row of a process waits for the libraries of the tokenizer.
    expect(page.locator("#data_tokens mark")).to_contain_text("Lamp 0 goes to", timeout=240_000)
    # The columns had to be asked for, so what says them is open already.
    page.locator("#set_data_prompt_template textarea").click()
    page.locator("#set_data_prompt_template textarea").press_sequentially("Sort: {links}")
    expect(page.locator("#data_tokens")).to_contain_text("Sort: My lamp 0 is broken")

    page.locator("#data_search textarea, #data_search input").first.fill("radio")
    page.keyboard.press("Enter")
    page.locator("#data_table [data-pick='4']").click()
    expect(page.locator("#data_tokens")).to_contain_text("<img src=x onerror=alert(1)> my radio")
    assert page.locator("#data_table img, #data_rendered img, #data_bubbles img").count() == 0

    # What was said goes with the data to the Train tab.
    page.locator("#data_use").click()
    expect(page.locator("#train_data")).to_contain_text("pasted")
    expect(page.locator("#train_data")).to_contain_text("20 to learn from")
    assert not one.errors


def test_a_phone_reads_rows_without_scrolling_the_page_sideways(app, visit):
    one = visit(app.url, {"width": 390, "height": 844})
    page = one.page
    page.locator("#data_try").click()  # which leaves the welcome
    expect(page.locator("#train_start")).to_be_visible()
    one.tab("data")
    one.panel("rows")
    expect(page.locator("#data_tokens")).to_be_visible()
    page.locator("#data_mapping > button").click()
    expect(page.locator("#data_part_prompt")).to_be_visible()
    page.locator("#data_next").click()
    expect(page.locator("#data_table")).to_contain_text("page 2 of")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not one.errors
