"""A person checks data before training on them: sees what is wrong, mends it, and looks again."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from ftlab.data.checks import job
from tests.benchmarks.data_checks import rows
from tests.browser.conftest import PHONE, open_panel

pytestmark = pytest.mark.browser


@pytest.fixture
def shop(app):
    """The app; checks that are still at work afterwards are stopped."""
    yield app
    for one in job.jobs(Workspace.open(app.workspace)):
        if job.status(one).is_active:
            job.stop(one)
            job.stop(one)


def choose(one, source: str, title: str = "") -> None:
    """Put `source`, which the page calls `title`, on show in the Data tab and open its checks."""
    one.tab("data")
    box = one.page.locator("#set_data_source input").first
    box.click()
    box.fill(source)
    box.press("Enter")
    expect(one.page.locator("#data_summary")).to_contain_text(title or Path(source).name)
    open_panel(one.page, "checks")


def counted(page) -> list[int]:
    """Errors, warnings and notes as the panel counts them."""
    text = page.locator("#data_checks_totals").inner_text()
    return [int(number) for number in re.search(r"(\d+) errors?, (\d+) warnings? and (\d+) note", text).groups()]


def is_as_wide_as_the_screen(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.long
def test_a_person_finds_the_defects_of_messy_tickets_and_mends_one_kind_with_one_press(shop, visit):
    one = visit(shop.url)
    choose(one, "messy_tickets", "Messy tickets")
    page = one.page
    found = page.locator("#data_checks_findings")  # nobody pressed anything
    expect(found.locator("[data-kind=exact_duplicate]")).to_contain_text("4 rows of train")
    # As the manifest of the sample says.
    for kind, count in {"overlap": 3, "near_overlap": 3, "secret": 3, "iban": 2, "roles": 5, "html": 4}.items():
        expect(found.locator(f"[data-kind={kind}]")).to_contain_text(f"{count} rows of train")
    expect(page.locator("#data_checks_lengths")).to_contain_text("max_length 512")
    expect(page.locator("#data_checks_coverage")).to_contain_text("sailboat")
    before = counted(page)
    expect(page.locator("#data_checks_line")).to_contain_text(f"{before[0] + before[1]} things to look at")

    found.locator("[data-kind=exact_duplicate]").get_by_role("button", name="Read row 92 of train").click()
    row = page.locator("#data_checks_row")
    expect(row).to_contain_text("T-0092")
    expect(row).to_contain_text("T-0077")
    page.locator("#data_checks_close").click()
    expect(row).to_be_hidden()

    found.get_by_role("button", name="Remove 4 copies, keep the first: Exact duplicates").click()
    said = page.locator("#data_checks_message")
    expect(said).to_contain_text("Removed 4 rows of train (exact duplicates)")
    expect(said).to_contain_text("choose version 1 under Versions")
    expect(page.locator("#data_summary")).to_contain_text("Messy tickets, version 2")
    expect(found.locator("[data-kind=html]")).to_be_visible()
    expect(found.locator("[data-kind=exact_duplicate]")).to_have_count(0)
    assert counted(page) == [before[0], before[1] - 1, before[2]]
    assert is_as_wide_as_the_screen(page) and not one.errors

    # What was checked before is there at once, on a phone as well.
    phone = visit(shop.url, PHONE)
    expect(phone.page.locator("#data_summary")).to_contain_text("version 2")
    choose(phone, "messy_tickets", "Messy tickets")
    expect(phone.page.locator("#data_checks_findings [data-kind=exact_duplicate]")).to_be_visible(timeout=10_000)
    phone.page.locator("#data_checks_findings [data-kind=conflicting_answers] .ft-pick").first.click()
    expect(phone.page.locator("#data_checks_answer textarea")).to_be_visible()
    assert is_as_wide_as_the_screen(phone.page) and not phone.errors


@pytest.mark.long
def test_raising_the_longest_example_checks_again_and_a_remedy_says_where_one_looks_what_it_did(shop, visit, tmp_path):
    file = tmp_path / "long.jsonl"
    lines = [{"prompt": f"Tell me of {n}.", "completion": f"It is {n}." + " More of it." * (n % 20)} for n in range(60)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    one = visit(shop.url)
    page = one.page
    one.tab("train")
    page.locator("#train_more").get_by_role("button").first.click()
    page.locator("#set_optimisation_max_length").locator("input, textarea").first.fill("64")
    choose(one, str(file))
    long = page.locator("#data_checks_findings [data-kind=too_long]")
    said = page.locator("#data_checks_message")
    long.get_by_role("button", name="Cut sentences from").click()
    expect(said).to_contain_text("unchanged: no sentence of the prompt is known to be unnecessary")
    expect(said).to_be_in_viewport()
    long.get_by_role("button", name="Raise the longest example").click()
    expect(said).to_contain_text(re.compile(r"The longest example on the Train tab is now \d+ tokens"))
    expect(said).to_be_in_viewport()
    expect(long).to_have_count(0)
    assert not one.errors


@pytest.mark.long
def test_a_check_goes_on_while_the_page_is_reloaded_and_ends_when_stopped(shop, visit, tmp_path):
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(160_000)), encoding="utf-8")
    one = visit(shop.url)
    choose(one, str(file))
    page = one.page
    assert not job.jobs(Workspace.open(shop.workspace)), "what takes long waits for a press"
    page.locator("#data_checks_line").get_by_role("button", name="Check this data").click()
    expect(page.locator("#data_checks_progress")).to_contain_text(re.compile("loading the tokenizer", re.I))
    started = job.jobs(Workspace.open(shop.workspace))[0]
    pid = job.status(started).pid

    page.reload()
    open_panel(page, "checks")
    expect(page.locator("#data_checks_progress")).to_contain_text(re.compile(r"of 160,000"))
    assert job.status(started).pid == pid

    # Somebody else, who looks at other data, is told and can go there.
    elsewhere = visit(shop.url)
    expect(elsewhere.page.locator("#data_summary")).to_contain_text("long.jsonl")
    choose(elsewhere, "support_triage", "Support triage")
    other = elsewhere.page
    other.locator("#data_checks_elsewhere").get_by_role("button", name="Show the check of long.jsonl").click()
    expect(other.locator("#data_summary")).to_contain_text("long.jsonl")

    page.locator("#data_checks_stop").click()
    expect(page.locator("#data_checks_totals")).to_contain_text("The checks were stopped")
    end = time.monotonic() + 30
    while job.status(started).is_active:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert job.status(started).state == "stopped"
    expect(page.locator("#data_checks_start")).to_have_text("Check again")
    assert not one.errors
