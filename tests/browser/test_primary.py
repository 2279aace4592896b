"""One button of each tab is the right one now: in an empty workspace, while a run waits, works, ended or failed."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from ftlab.core.files import write_json, write_text
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.training.status import RunStatus
from ftlab.ui import run_files
from tests.comparisons import evaluated_run

pytestmark = pytest.mark.browser
# Whether the visible primary buttons of a tab are these; those that cannot be pressed in brackets.
PRIMARY = """([name, wanted]) => {
  const seen = [...document.querySelectorAll(`#tab_${name} button.primary`)]
    .filter(one => one.checkVisibility() && one.getClientRects().length)
    .map(one => one.disabled ? `(${one.innerText.trim()})` : one.innerText.trim());
  window.primary = `${name}: ${seen}`;
  return seen.join() === wanted;
}"""


def offers(page: Any, **wanted: str) -> None:
    """Each tab that is named shows this primary button and no other."""
    for tab, button in wanted.items():
        page.locator(f"#tab_{tab}-button").click()
        try:
            page.wait_for_function(PRIMARY, arg=[tab, button], timeout=120_000)
        except PlaywrightTimeout:
            raise AssertionError(f"{page.evaluate('window.primary')}, not {button}") from None


def step(page: Any, name: str) -> None:
    expect(page.locator("#way [aria-current=step]")).to_contain_text(name)


def test_each_tab_offers_the_button_that_is_right_now(app, visit):
    workspace = Workspace.open(app.workspace)
    page = visit(app.url).page
    expect(page.locator("#data_try")).to_be_visible()
    step(page, "Data")
    # What cannot be done yet is off, and the tab says what comes first.
    offers(page, data="Try it", train="Start training", preferences="(Start training)", evaluate="(Evaluate)")
    offers(page, chat="(Send)", blind="(Create and get the link)", runs="")

    run = workspace.create_run("mine")
    write_text(run.config_file, "name: mine\n")
    at_work = RunStatus(created=time.time(), started=time.time(), pid=os.getpid(), heartbeat=time.time())
    for state in ("queued", "running"):
        at_work.state = state
        write_status(run.status_file, at_work)
        expect(page.locator("#train_start")).to_have_text("Add to the queue")
        step(page, "Train")
        offers(page, train="", runs="", evaluate="(Evaluate)", chat="(Send)")
    write_status(run.status_file, RunStatus(state="failed", created=1.0, finished=2.0))
    expect(page.locator("#train_start")).to_have_text("Start training")
    offers(page, train="Start training", runs="")
    step(page, "Train")

    done = evaluated_run(workspace, "done")
    write_text(done.config_file, "name: done\n")
    step(page, "Share")
    expect(page.locator(f"#train_live [data-run='{done.id}']")).to_have_count(1)
    offers(page, train="See the evaluation", preferences="(Start training)")
    offers(page, evaluate="Share", chat="Send", blind="Create and get the link", runs="See the result")
    # Whoever changes a setting means the next run.
    page.locator("#tab_train-button").click()
    page.locator("#train_preset label").first.click()
    offers(page, train="Start training")
    # And still does when the picture of the run is drawn again.
    write_json(run_files.name_file(done), {"name": "Renamed"})
    expect(page.locator("#train_live")).to_contain_text("Renamed")
    offers(page, train="Start training")
