"""An expert goes through rows in the Data tab, and what comes out of it is a version with a name on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from ftlab.data.version_store import history, rows_of
from tests.browser.conftest import PHONE, open_panel

pytestmark = pytest.mark.browser

BOLD = "Press <b>Reset</b> & wait <img src=x onerror=alert(1)> ${1+1} {{value}}"


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Ticket {n}: where is my parcel?", "completion": f"It is in depot {n}."} for n in range(30)]
    rows[1]["completion"] = BOLD
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def fill(page: Any, name: str, text: str) -> None:
    page.locator(f"#{name} :is(input, textarea)").first.fill(text)


def row_shown(page: Any, number: int) -> Any:
    card = page.locator(f"#data_curate_row [data-row='{number}']")
    expect(card).to_be_visible()
    return card


@pytest.mark.long
def test_an_expert_judges_rows_loses_nothing_to_a_reload_and_saves_one_version(
    app: Any, visit: Any, tickets: Path
) -> None:
    one = visit(app.url)
    page = one.page
    page.locator("#data_upload input[type=file]").set_input_files(str(tickets))
    expect(page.locator("#data_summary")).to_contain_text("tickets")
    open_panel(page, "curate")
    fill(page, "data_curate_who", "Ada Lovelace")
    row_shown(page, 0)
    page.locator("#data_curate_good").click()

    # What is in a cell is text, never markup; a second look and a judgement by keyboard.
    expect(row_shown(page, 1)).to_contain_text(BOLD)
    assert page.locator("#data_curate_row :is(b, img)").count() == 0
    page.locator("#data_curate_row h3").click()
    page.keyboard.press("b")
    row_shown(page, 2)
    fill(page, "data_curate_reason", "not ours")
    page.locator("#data_curate_exclude").click()

    row_shown(page, 3)
    page.locator("#data_curate_edit").click()
    page.locator("#data_curate_row textarea[data-column=completion]").fill("It is in depot 33.")
    page.locator("#data_curate_row [data-do=keep]").click()
    status = page.locator("#data_curate_status")
    expect(status).to_contain_text("4 changes not saved yet: edited 1 row, marked 1 good, marked 1 bad, excluded 1")

    page.reload()
    open_panel(page, "curate")
    expect(page.locator("#data_curate_who :is(input, textarea)").first).to_have_value("Ada Lovelace")
    expect(status).to_contain_text("4 changes not saved yet")
    expect(row_shown(page, 3)).to_contain_text("depot 33")

    fill(page, "data_curate_why", "first look")
    page.locator("#data_curate_save").click()
    expect(page.locator("#data_curate_message")).to_contain_text("Saved as version 2")
    expect(status).not_to_contain_text("not saved yet")
    expect(row_shown(page, 3)).to_contain_text("Version 2")  # the place is kept
    made = history(Workspace.open(app.workspace))
    assert [(one.number, one.who) for one in made] == [(1, "Ada Lovelace"), (2, "Ada Lovelace")]
    rows = list(rows_of(made[1]))
    assert (rows[0].mark, rows[1].mark, rows[2].excluded) == ("good", "bad", "not ours")

    open_panel(page, "versions")
    line = page.locator("#data_versions_history tr", has_text="Version 2")
    expect(line).to_contain_text("Ada Lovelace")
    expect(line).to_contain_text("first look")
    expect(line).to_contain_text("on show")
    page.locator("#data_versions_compare_box > button").click()
    page.locator("#data_versions_compare").click()
    changed = page.locator("#data_versions_diff [data-row='3']")
    expect(changed.locator("del")).to_have_text("3")
    expect(changed.locator("ins")).to_have_text("33")
    expect(page.locator("#data_versions_diff [data-row='2']")).to_contain_text("Excluded: not ours")

    page.locator("#data_versions_export_box > button").click()
    with page.expect_download() as download:
        page.locator("#data_versions_export").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert re.fullmatch(r"tickets-2-[0-9a-f]+\.jsonl", download.value.suggested_filename)
    assert len(lines) == 29 and lines[1]["completion"] == BOLD
    assert lines[2] == {"prompt": "Ticket 3: where is my parcel?", "completion": "It is in depot 33."}

    page.set_viewport_size(PHONE)
    for panel in ("curate", "versions"):
        open_panel(page, panel)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not one.errors
