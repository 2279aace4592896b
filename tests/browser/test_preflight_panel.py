"""A person wants to know what a run will take before starting it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from tests.browser.conftest import PHONE

pytestmark = pytest.mark.browser


def open_advanced(page) -> None:
    page.locator("#train_more > button").click()


@pytest.mark.long
def test_time_and_memory_show_by_themselves_once_for_the_same_settings_and_can_be_stopped(app, visit):
    person = visit(app.url)
    person.tab("train")
    page = person.page
    expect(page.locator("#train_data")).to_contain_text("Support triage")
    progress, result = page.locator("#preflight_progress"), page.locator("#preflight_result")
    expect(progress).to_contain_text("oading the libraries")
    open_advanced(page)
    page.locator("#preflight_stop").click()
    expect(page.locator("#preflight_check")).to_be_enabled()
    expect(progress).to_be_empty()

    page.locator("#preflight_check").click()
    expect(result).to_contain_text("free memory on this machine", timeout=120_000)
    expect(result.locator("[data-fits=yes]")).to_be_hidden()
    result.locator("summary").first.click()
    expect(result.locator("[data-fits=yes]")).to_be_visible()
    expect(result).to_contain_text("It fits in memory")
    expect(result).not_to_contain_text("Cost")
    page.locator("#preflight_price").locator("input, textarea").fill("1,20")
    page.keyboard.press("Enter")
    expect(result).to_contain_text("at 1.2 per hour")

    expect(page.locator("#train_settings")).to_contain_text("6 epochs, learning rate 0.002, rank 16")
    # Another setting is measured anew, and the first one is known when it comes back, in another page too.
    page.locator("#train_preset").get_by_label("Quick").check()
    expect(result).not_to_contain_text("free memory")
    expect(page.locator("#train_settings")).to_contain_text("3 epochs, learning rate 0.003, rank 8, tested on")
    page.locator("#train_preset").get_by_label("Balanced").check()
    expect(result).to_contain_text("free memory on this machine")
    again = visit(app.url)
    again.tab("train")
    expect(again.page.locator("#preflight_result")).to_contain_text("free memory on this machine", timeout=15_000)
    assert Workspace.open(app.workspace).runs() == []
    assert person.errors == [] and again.errors == []


def test_a_measurement_gives_way_to_start_at_once(app, visit):
    person = visit(app.url)
    person.tab("train")
    page = person.page
    expect(page.locator("#preflight_progress")).to_contain_text("Measuring time and memory")
    page.locator("#train_start").click()
    expect(page.locator("#train_live")).to_contain_text("Step 1 of 4", timeout=20_000)
    expect(page.locator("#preflight_progress")).not_to_contain_text("Measuring")
    run = Workspace.open(app.workspace).runs()[0]
    assert run.config_file.exists()
    assert person.errors == []


def test_settings_are_found_by_label_help_and_key(app, visit):
    person = visit(app.url)
    person.tab("train")
    page = person.page
    open_advanced(page)
    find = page.locator("#train_find input")
    for words, there, gone in (
        ("learning rate", "set_optimisation_learning_rate", "set_optimisation_seed"),
        ("optimisation.seed", "set_optimisation_seed", "set_optimisation_learning_rate"),
        ("decays after the warmup", "set_optimisation_schedule", "set_method_rank"),
    ):
        find.fill(words)
        expect(page.locator(f"#{gone}")).to_be_hidden()
        expect(page.locator(f"#{there}")).to_be_visible()
    find.fill("")
    expect(page.locator("#set_method_rank")).to_be_visible()
    assert person.errors == []


@pytest.mark.long
def test_a_learning_rate_is_found_and_stands_in_the_form(app, visit):
    person = visit(app.url)
    person.tab("train")
    page = person.page
    open_advanced(page)
    rate = page.locator("#set_optimisation_learning_rate").locator("input, textarea")
    page.locator("#set_optimisation_epochs").locator("input, textarea").fill("1")
    rate.fill("1e-6")
    find = page.locator("#preflight_find_rate")
    find.click()
    expect(page.locator("#preflight_progress")).to_contain_text("oading the libraries")
    expect(page.locator("#preflight_check")).to_be_disabled()
    page.locator("#preflight_stop").click()
    expect(page.locator("#preflight_message")).to_contain_text("stopped")
    assert rate.input_value() == "1e-6"

    rate.fill("2e-4")
    find.click()
    result = page.locator("#preflight_trial")
    # The starter needs far higher rates: of a third, one and three times so low a one, the highest is the best.
    expect(result.locator("[data-rate='0.0006']")).to_be_visible(timeout=120_000)
    expect(result).to_contain_text("better than the usual 0.0002")
    expect(rate).to_have_value("0.0006")
    assert Workspace.open(app.workspace).runs() == []
    assert person.errors == []


def test_on_a_phone_a_wrong_setting_is_named_and_nothing_typed_is_lost(app, visit):
    person = visit(app.url, PHONE)
    person.tab("train")
    page = person.page
    open_advanced(page)
    batch = page.locator("#set_optimisation_batch_size").locator("input, textarea")
    batch.fill("many")
    page.locator("#preflight_check").click()
    expect(page.locator("#preflight_message")).to_contain_text("Batch size")
    expect(page.locator("#preflight_message")).to_contain_text("a whole number")
    expect(page.locator("#preflight_check")).to_be_enabled()
    assert batch.input_value() == "many"
    base = page.locator("#set_model_base input")
    base.fill("./nowhere")
    base.press("Enter")
    batch.fill("8")
    page.locator("#preflight_check").click()
    expect(page.locator("#preflight_message")).to_contain_text("no such model folder")
    expect(page.locator("#preflight_check")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
