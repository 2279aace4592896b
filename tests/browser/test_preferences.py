"""A person has pairs of better and worse answers and wants a model that writes the better ones."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from ftlab.arena import links
from ftlab.arena.store import open_store
from ftlab.config import load_config
from ftlab.core.workspace import Workspace
from tests.benchmarks.pages import measure
from tests.browser.conftest import PHONE
from tests.browser.test_pages import crowded
from tests.unit.test_arena_preferences import ANN, BOB, made, vote

pytestmark = [pytest.mark.browser, pytest.mark.train]
LONG = 400_000  # milliseconds: a whole training on a slow machine


def type_into(page, name, text):
    page.locator(f"#pref_{name}").locator("input, textarea").first.fill(text)


def choose(page, name, option):
    field = page.locator(f"#pref_{name} input")
    field.click()
    page.get_by_role("option", name=option).first.click()


@pytest.mark.long
def test_a_person_tunes_on_preferences_reads_the_charts_and_sees_the_held_out_accuracy(app, visit):
    one = visit(app.url)
    page = one.page
    one.tab("preferences")
    about = page.locator("#pref_data")
    # The data that the Data tab begins with hold no preferences.
    expect(about).to_contain_text("DPO learns from pairs of answers, and this data has none")
    expect(page.locator("#pref_start")).to_be_disabled()
    page.locator("#pref_sample").click()
    expect(about).to_contain_text("220 pairs to learn from, 40 to check, 40 to test")
    expect(page.locator("#pref_start")).to_be_enabled()
    expect(page.locator("#pref_sample")).to_have_text("Use the Data tab's data")

    page.locator("#pref_more").get_by_role("button").first.click()
    for name, text in {
        "preference_beta": "strong",
        "optimisation_batch_size": "4",
        "optimisation_max_steps": "6",
        "evaluation_max_rows": "8",
        "evaluation_max_new_tokens": "8",
        "evaluation_probes": "",
    }.items():
        type_into(page, name, text)
    page.locator("#pref_start").click()
    expect(page.locator("#pref_message")).to_contain_text("Beta (preference.beta)")
    assert Workspace.open(app.workspace).runs() == []

    type_into(page, "preference_beta", "0.2")
    page.locator("#pref_start").click()
    expect(page.locator("#pref_live")).to_contain_text("Brand voice: preferences, DPO")
    expect(page.locator("#pref_message")).not_to_contain_text("Beta")
    run = Workspace.open(app.workspace).runs()[0]
    config = load_config(run.config_file)
    assert (config.stage, config.preference.beta, config.optimisation.max_steps) == ("dpo", 0.2, 6)
    assert config.data.source == "brand_voice_preferences"

    page.reload()
    one.tab("preferences")
    live = page.locator("#pref_live")
    expect(live).to_contain_text("Preference accuracy", timeout=LONG)
    expect(live).to_contain_text("50% is a coin toss")
    expect(live).to_contain_text(re.compile(r"The chosen answer wins in [\d.]+% of 8 held-out pairs"), timeout=LONG)
    expect(page.locator("#pref_to_evaluate")).to_be_visible(timeout=LONG)
    assert not crowded({"preferences": measure(page, "preferences")})
    live.locator("summary", has_text="Details").first.click()
    expect(live.locator("svg").first).to_be_visible()
    page.locator("#after_box > button").click()
    expect(page.locator("#after_result")).to_contain_text(re.compile("the base.*this run", re.DOTALL), timeout=LONG)
    expect(page.locator("#after_answers")).to_contain_text("Prompts: 8, page 1 of 1")
    expect(page.locator("#after_judge")).to_be_disabled()
    page.locator("#pref_to_evaluate").click()
    expect(page.locator("#evaluate_result")).to_contain_text("8 held-out pairs", timeout=LONG)

    one.tab("runs")
    expect(page.locator("#runs_table")).to_contain_text("DPO")
    page.locator("#runs_menu button").first.click()
    page.locator("#runs_again").click()
    page.locator("#pref_more").get_by_role("button").first.click()
    expect(page.locator("#pref_preference_beta").locator("input, textarea").first).to_have_value("0.2")
    assert not one.errors


def test_votes_of_a_blind_test_are_learned_from_with_one_press(app, visit):
    store = open_store(Workspace.open(app.workspace))
    test = made(store)
    for name, wanted in zip(("Ann", "Bob"), (ANN, BOB), strict=True):
        vote(store, links.create_raters(store, test, [name])[0].rater_id, wanted)
    one = visit(app.url)
    page = one.page
    one.tab("preferences")
    expect(page.locator("#pref_votes")).to_contain_text("You have 31 votes from Second round")
    expect(page.locator("#pref_start")).to_be_disabled()
    page.locator("#pref_take").click()
    expect(page.locator("#pref_data")).to_contain_text("dpo.jsonl")
    expect(page.locator("#pref_data")).to_contain_text("pairs to learn from")
    expect(page.locator("#pref_start")).to_be_enabled()
    expect(page.locator("#pref_take")).to_be_hidden()
    # Train keeps the data that were chosen for it, and both tabs keep theirs.
    for _ in range(2):
        one.tab("train")
        expect(page.locator("#train_data")).to_contain_text("Support triage")
        one.tab("preferences")
        expect(page.locator("#pref_data")).to_contain_text("dpo.jsonl")
        page.reload()
    one.tab("preferences")
    expect(page.locator("#pref_sample")).to_have_text("Use the Data tab's data")
    page.locator("#pref_sample").click()
    expect(page.locator("#pref_data")).to_contain_text("Support triage")
    page.locator("#pref_sample").click()
    expect(page.locator("#pref_data")).to_contain_text("Brand voice: preferences")
    expect(page.locator("#pref_start")).to_be_enabled()
    one.tab("train")
    expect(page.locator("#train_data")).to_contain_text("Support triage")
    assert not one.errors


def test_on_a_phone_the_settings_of_the_chosen_stage_are_shown_and_no_others(app, visit):
    one = visit(app.url, PHONE)
    page = one.page
    one.tab("preferences")
    page.locator("#pref_more > button").click()
    expect(page.locator("#pref_preference_beta")).to_be_visible()
    expect(page.locator("#pref_rewards")).to_be_hidden()
    choose(page, "stage", re.compile("^RLOO"))
    expect(page.locator("#pref_rewards")).to_be_visible()
    expect(page.locator("#pref_preference_beta")).to_be_hidden()
    # Prompts are enough for it, so the data on show suit.
    expect(page.locator("#pref_data")).to_contain_text("prompts")
    type_into(page, "length_longest", "20")
    type_into(page, "length_shortest", "40")
    page.locator("#pref_start").click()
    expect(page.locator("#pref_message")).to_contain_text("shortest: 40, longest: 20")
    expect(page.locator("#pref_length_longest").locator("input, textarea").first).to_have_value("20")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert Workspace.open(app.workspace).runs() == []
    assert not one.errors
