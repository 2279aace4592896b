"""Somebody sees what tuning took from the base, takes back a part of it, and hands on what is left."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
from playwright.sync_api import expect

from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.strengths import measure_strengths
from ftlab.models.strength import chosen_strength
from ftlab.training.status import RunStatus
from tests.browser.conftest import PHONE, WIDE
from tests.small_runs import make_base, make_run, save_result

pytestmark = pytest.mark.browser
LONG = 240_000  # milliseconds: an export loads its model in two processes


@pytest.fixture
def run(app, tmp_path):
    """A run on a tiny base that was compared with it, at two strengths too."""
    workspace = Workspace.open(app.workspace)
    base = make_base(tmp_path / "base")
    made = make_run(workspace.runs_folder, base, "self", name="20261129-100000-tickets")
    save_result(made, base)
    evaluate_run(made)
    measure_strengths(made, grid=(0.5, 1), max_rows=4)
    write_status(made.status_file, RunStatus(state="completed", created=1.0, started=1.0, finished=2.0))
    return made


def test_a_person_sees_what_was_forgotten_lowers_the_strength_and_exports_at_that_strength(app, visit, run):
    one = visit(app.url)
    page = one.page
    one.tab("evaluate")
    result, box = page.locator("#evaluate_result"), page.locator("#strength_box")
    # The first line says it, and below it stands what was measured and three answers of both.
    expect(result.locator(".ft-box").first).to_contain_text("what the base knew: changed, on neutral prompts")
    expect(result.locator(".ft-fact", has_text="What the base knew").locator("dd")).to_contain_text("Changed")
    page.locator("#evaluate_details button").first.click()
    kept = page.locator("#evaluate_full .ft-kept")
    expect(kept).to_contain_text("100 neutral prompts: same next token as the base")
    expect(kept.locator(".ft-badge").first).to_have_text("changed")
    expect(kept.get_by_label("Answers that changed most").locator("tbody tr")).to_have_count(3)

    # On a phone all of it stands within the width.
    page.set_viewport_size(PHONE)
    for shown in kept.locator("> .ft-scroll").all():
        assert shown.evaluate("box => box.scrollWidth <= box.clientWidth")
    page.set_viewport_size(WIDE)

    box.locator("button").first.click()
    expect(page.locator("#strength_result")).to_contain_text("Gain and retention by strength")
    expect(page.locator("#strength_result").get_by_label("Strengths").locator("tbody tr")).to_have_count(3)
    # What the page fills in itself is there: from now on the slider is the person's.
    expect(page.locator("#strength_at")).to_contain_text("Strength 1, on 4 validation rows")
    at = box.locator("#strength_slider input[type=number]")
    at.fill("0.6")
    at.press("Tab")
    expect(page.locator("#strength_at")).to_contain_text("Strength 0.6 was not measured")
    at.fill("0.5")
    at.press("Tab")
    expect(page.locator("#strength_at")).to_contain_text("Strength 0.5, on 4 validation rows")
    page.locator("#strength_keep").click()
    expect(page.locator("#strength_message")).to_contain_text("use this run at strength 0.5")
    assert chosen_strength(run) == 0.5

    one.tab("chat")
    page.locator("#chat_settings button").first.click()
    expect(page.locator("#chat_strength input[type=number]")).to_have_value("0.5")
    one.tab("runs")
    page.locator("#runs_export_box button").first.click()
    expect(page.locator("#runs_export_state")).to_contain_text("Exports use strength 0.5")
    with page.expect_download(timeout=LONG) as download:
        page.locator("#runs_download").click()
    with zipfile.ZipFile(download.value.path()) as packed:
        names = packed.namelist()
        record = next(name for name in names if name.endswith("ftlab/export.json"))
        card = next(name for name in names if re.fullmatch(r"[^/]*/?README\.md", name))
        assert json.loads(packed.read(record))["shape"]["strength"] == 0.5
        assert "strength 0.5" in packed.read(card).decode()
    assert not one.errors
