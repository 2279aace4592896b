"""Somebody who has to decide reads what tuning gained and lost, looks into single answers, and tries a remedy."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from ftlab.core.files import read_json, write_json, write_jsonl
from ftlab.core.workspace import Workspace
from tests.browser.conftest import PHONE
from tests.comparisons import a_row, evaluated_run

pytestmark = pytest.mark.browser


def named(run):
    """What tells runs of the same name apart in a list: the end of their ids."""
    return run.id.split("-", 2)[2]


def unfold(page, name):
    page.locator(f"#{name} button").first.click()


def choose(page, name, option):
    page.locator(f"#evaluate_{name} input").first.click()
    page.get_by_role("option", name=option).first.click()


def two_runs(app, visit):
    """The tab with two runs that answered the same rows: the older got 12 of 20 right, the newer 16, and one worse."""
    workspace = Workspace.open(app.workspace)
    old, new = evaluated_run(workspace, "aged"), evaluated_run(workspace, "fresh")
    write_jsonl(old.predictions_file, [a_row(row, False, row < 12) for row in range(20)])
    one = visit(app.url)
    one.tab("evaluate")
    return workspace, old, new, one


def test_a_person_reads_gains_and_losses_compares_two_runs_and_takes_a_remedy(app, visit):
    workspace, old, new, one = two_runs(app, visit)
    page = one.page
    result, answers = page.locator("#evaluate_result"), page.locator("#evaluate_answers")
    full = page.locator("#evaluate_full")
    # First the verdict, three figures and the answers that changed most; everything else is one press away.
    expect(result.locator(".ft-fact dd").first).to_contain_text("10% → 80%")
    expect(result.locator(".ft-example")).to_have_count(4)
    expect(result.locator("section", has_text="Got worse").locator(".ft-example")).to_contain_text("question 3")
    for folded in ("evaluate_answers_box", "evaluate_details", "evaluate_more", "evaluate_helps"):
        unfold(page, folded)
    # The newest is on show; another one and back.
    choose(page, "run", named(old))
    expect(answers).to_contain_text("Answers: 20,")
    choose(page, "run", named(new))
    expect(result).to_contain_text("The adapted model is better: exact match 80% against 10%")
    expect(full.locator(".ft-gain svg")).to_have_count(2)
    expect(page.locator("#evaluate_slices")).to_contain_text("phone")

    page.locator("#evaluate_filter label", has_text="Got worse").click()
    expect(answers).to_contain_text("Answers: 1, page 1 of 1")
    expect(answers).to_contain_text("question 3")
    expect(answers.locator("ins").first).to_have_text("blue")
    page.locator("#evaluate_filter label", has_text="All").click()
    choose(page, "order", "Highest loss first")
    expect(answers.locator("tbody tr").first).to_contain_text("question 11")

    page.locator("#evaluate_share").click()
    with page.expect_download() as download:
        page.locator("#evaluate_report").click()
    assert download.value.suggested_filename == "Support triage, LoRA on the starter report.html"

    choose(page, "others", named(old))
    # 16 of 20 in the newer run, 12 of 20 in the older one.
    expect(full.locator("tbody tr").first).to_contain_text("80%")
    expect(full.locator("tbody tr").first).to_contain_text("−20 points")
    page.keyboard.press("Escape")
    page.locator("#evaluate_others button[aria-label], #evaluate_others .token-remove").first.click()

    remedy = page.locator("#evaluate_remedies button", has_text="Fill in the settings").nth(1)
    expect(page.locator("#evaluate_remedies")).to_contain_text("Halve the learning rate: 0.002 instead of 0.004")
    remedy.click()
    expect(page.locator("#train_settings")).to_contain_text("learning rate 0.002")
    page.locator("#train_more > button").click()
    rate = page.locator("#set_optimisation_learning_rate").locator("input, textarea").first
    expect(rate).to_have_value("0.002")
    expect(page.locator("#train_message")).to_contain_text("Press Start training when it looks right.")
    assert len(workspace.runs()) == 2
    assert not one.errors


def test_a_filter_stays_when_a_reply_is_late_and_when_another_run_gets_its_scores(app, visit):
    _, old, new, one = two_runs(app, visit)
    page = one.page
    answers, worse = page.locator("#evaluate_answers"), page.locator("#evaluate_filter label", has_text="Got worse")
    unfold(page, "evaluate_answers_box")
    choose(page, "run", named(old))
    expect(answers).to_contain_text("Answers: 20,")
    expect(answers).not_to_contain_text("got worse")

    late = []

    def hold_choice(route):
        asked = json.loads(route.request.post_data)["data"]
        choice = asked[:1] == [new.id] and not {"All", "Got worse"}.intersection(map(str, asked))
        late.append(route) if choice and not late else route.continue_()

    page.route("**/run/predict*", hold_choice)
    choose(page, "run", named(new))
    worse.click()
    expect(answers).to_contain_text("Answers: 1, page 1 of 1")
    (route,) = late
    route.continue_()
    page.wait_for_timeout(1500)
    expect(answers).to_contain_text("Answers: 1, page 1 of 1")
    expect(answers).to_contain_text("question 3")

    # Scores of another run: the page looks again at all runs, and takes nothing from whoever reads.
    choose(page, "order", "Highest loss first")
    write_json(old.comparison_file, read_json(old.comparison_file) | {"note": "measured again"})
    page.wait_for_timeout(2500)
    expect(answers).to_contain_text("Answers: 1, page 1 of 1")
    expect(page.locator("#evaluate_order input").first).to_have_value("Highest loss first")
    # And a choice of another run is filtered as it says.
    choose(page, "run", named(old))
    expect(answers).to_contain_text("Answers: 0,")
    assert not one.errors


def test_on_a_phone_nothing_of_the_comparison_is_cut_off(app, visit):
    evaluated_run(Workspace.open(app.workspace), "fresh")
    one = visit(app.url, PHONE)
    page = one.page
    one.tab("evaluate")
    expect(page.locator("#evaluate_result")).to_contain_text("The adapted model is better")
    expect(page.locator("#evaluate_result .ft-example").first).to_be_visible()
    unfold(page, "evaluate_details")
    page.locator("#evaluate_full summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # Every side of every measure stands inside the box, without scrolling sideways.
    box = page.locator("#evaluate_full .ft-scroll").first
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert not one.errors
