"""What people do with the app, from the first page to the trained and compared adapter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ftlab.config import load_config
from ftlab.core.files import write_text
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.training import supervisor
from ftlab.training.status import RunStatus
from tests.browser.conftest import PHONE
from tests.comparisons import evaluated_run
from tests.conftest import write_easy_rows

pytestmark = [pytest.mark.browser, pytest.mark.train]
LONG = 400_000  # milliseconds: a whole training on a slow machine


def steps_shown(page) -> int:
    said = re.search(r"([\d,]+) of [\d,]+ updates", page.locator("#train_live").inner_text())
    return int(said.group(1).replace(",", ""))


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    file = tmp_path / "long.jsonl"
    rows = [{"prompt": f"Say {n}.", "completion": f"You said {n}."} for n in range(400)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def upload(visit, file: Path) -> None:
    visit.tab("data")
    visit.page.locator("#data_upload input[type=file]").set_input_files(str(file))


def open_advanced(page) -> None:
    page.locator("#train_more > button").click()


def start_long_run(visit, file: Path) -> None:
    """A run of many epochs on a file of one's own."""
    upload(visit, file)
    expect(visit.page.locator("#data_sentence")).to_contain_text("320 to learn from")
    visit.tab("train")
    open_advanced(visit.page)
    visit.page.locator("#set_optimisation_epochs input").first.fill("200")
    visit.page.locator("#train_start").click()
    running = re.compile(r"[2-9]\d* of [\d,]+ updates")
    expect(visit.page.locator("#train_live")).to_contain_text(running, timeout=LONG)


def test_a_run_survives_reload_and_restart_of_the_app_and_stops_when_asked(app, visit, long_file):
    one = visit(app.url)
    start_long_run(one, long_file)
    run = Workspace.open(app.workspace).runs()[0]
    pid = supervisor.status(run).pid
    first = steps_shown(one.page)

    one.page.reload()
    one.tab("train")
    expect(one.page.locator(f"#train_live [data-run='{run.id}']")).to_be_visible()
    expect(one.page.locator("#job_strip")).to_contain_text(re.compile("training", re.I))

    app.kill()
    assert supervisor.status(run).state == "running"
    app.start()
    again = visit(app.url)
    again.tab("train")
    expect(again.page.locator(f"#train_live [data-run='{run.id}']")).to_be_visible()
    again.page.wait_for_function(
        "before => { const m = document.querySelector('#train_live').innerText.match(/([\\d,]+) of [\\d,]+ updates/);"
        " return m && parseInt(m[1].replace(/,/g, '')) > before }",
        arg=first,
    )
    assert supervisor.status(run).pid == pid
    logged = [row["step"] for row in run.metrics() if "loss" in row]
    assert logged[0] == 1 and logged == sorted(set(logged))
    expect(again.page.locator("#train_live svg").first).to_be_visible()

    again.page.locator("#job_stop").click()
    expect(again.page.locator("#train_live")).to_contain_text(re.compile("stopped", re.I), timeout=LONG)
    assert run.has_result
    assert not one.errors and not again.errors


def test_a_newcomer_gets_a_trained_and_evaluated_adapter_in_five_clicks(app, visit, quickstart, tmp_path):
    one = visit(app.url)
    upload(one, write_easy_rows(tmp_path / "mine.jsonl"))
    expect(one.page.locator("#data_sentence")).to_contain_text("120 to learn from")
    one.tab("train")
    one.page.locator("#train_start").click()
    expect(one.page.locator("#train_live")).to_contain_text("Training loss", timeout=LONG)
    expect(one.page.locator("#train_live")).to_contain_text("Step 2 of 4: Training", timeout=LONG)
    answered = one.page.locator("#train_live .ft-now")
    expect(answered).to_have_count(3, timeout=LONG)
    expect(answered.first).to_contain_text(re.compile(r"Step \d+"), timeout=LONG)
    expect(one.page.locator("#train_to_evaluate")).to_be_visible(timeout=LONG)
    one.page.locator("#train_to_evaluate").click()
    expect(one.page.locator("#evaluate_result")).to_contain_text("Exact match", timeout=LONG)
    one.page.locator("#evaluate_details button").first.click()
    expect(one.page.locator("#evaluate_full")).to_contain_text("Perplexity")
    run = Workspace.open(app.workspace).runs()[0]
    comparison = run.comparison()
    assert comparison["adapted"]["exact_match"] > comparison["base"]["exact_match"]
    validation = [row["eval_loss"] for row in run.metrics() if "eval_loss" in row]
    assert min(validation) < validation[0]
    # An untouched form is the main job, whose outcome on the sample is measured in tests/integration.
    mine, main = load_config(run.config_file), load_config(quickstart.run.config_file)
    main.name, main.data.source = mine.name, mine.data.source
    assert mine == main
    assert not one.errors


def test_a_person_reads_the_comparison_and_searches_the_answers(finished, quickstart, visit):
    one = visit(finished.url)
    one.tab("evaluate")
    page = one.page
    expect(page.locator("#evaluate_result")).to_contain_text("Exact match")
    expect(page.locator("#evaluate_result .ft-example").first).to_be_visible()
    page.locator("#evaluate_details button").first.click()
    expect(page.locator("#evaluate_full svg").first).to_be_visible()
    page.locator("#evaluate_answers_box button").first.click()
    name = quickstart.run.predictions()[0]["prompt"].split(",")[0][:40]
    page.locator("#evaluate_search input, #evaluate_search textarea").first.fill(name)
    expect(page.locator("#evaluate_answers")).to_contain_text(name)
    page.locator("#evaluate_search input, #evaluate_search textarea").first.fill("no such words in any answer")
    expect(page.locator("#evaluate_answers")).not_to_contain_text(name)
    assert not one.errors


def test_a_person_evaluates_again_and_sees_it_progress(finished, quickstart, visit):
    before = quickstart.run.comparison()["created"]
    one = visit(finished.url)
    one.tab("evaluate")
    expect(one.page.locator("#evaluate_result")).to_contain_text("Exact match")
    one.page.locator("#evaluate_more button").first.click()
    one.page.locator("#evaluate_rows input, #evaluate_rows textarea").first.fill("25")
    one.page.locator("#evaluate_start").click()
    expect(one.page.locator("#job_strip")).to_contain_text(re.compile("evaluat|loading|answers|queue|wait", re.I))
    expect(one.page.locator("#evaluate_result")).to_contain_text("On 25 test rows", timeout=LONG)
    assert quickstart.run.comparison()["created"] == before, "the run's own comparison stays"
    assert quickstart.run.question("25-rows").comparison()["adapted"]["rows"] == 25
    assert not one.errors


def test_both_models_answer_a_held_out_prompt_and_the_better_answer_is_kept_to_learn_from(finished, quickstart, visit):
    one = visit(finished.url)
    one.tab("chat")
    page = one.page
    text, log = page.locator("#chat_text textarea, #chat_text input").first, page.locator("#chat_log")
    expect(log.locator("[data-act^=ask]")).to_have_count(3)
    log.locator("[data-act^=ask]").first.click()
    expect(log).to_contain_text('"queue"', timeout=LONG)
    expect(log).to_contain_text("Base")
    expect(log).to_contain_text("Adapted")
    expect(page.locator("#chat_send")).to_be_enabled(timeout=LONG)
    page.reload()
    one.tab("chat")
    expect(log).to_contain_text('"queue"')
    log.get_by_role("button", name="Adapted is better").click()
    expect(log.get_by_role("button", name="Adapted is better")).to_have_attribute("aria-pressed", "true")
    log.get_by_role("button", name="Base: bad answer").click()
    expect(page.locator("#chat_votes")).to_contain_text("1 pair")
    expect(page.locator("#chat_votes")).to_contain_text("1 thumb")
    uploads = Workspace.open(finished.workspace).uploads
    pair = json.loads((uploads / "chat-pairs.jsonl").read_text())
    assert pair["prompt"][-1]["content"] == quickstart.run.predictions()[0]["prompt"]
    assert '"queue"' in pair["chosen"] and pair["run"] == quickstart.run.id
    # Taken back, so that nothing is left for the tests that come after.
    log.get_by_role("button", name="Adapted is better").click()
    log.get_by_role("button", name="Base: bad answer").click()
    expect(page.locator("#chat_votes")).not_to_contain_text("thumb")
    assert not list(uploads.glob("chat-*"))
    log.get_by_role("button", name="Move the last message back").click()
    expect(text).to_have_value(quickstart.run.predictions()[0]["prompt"])
    expect(log.locator("[data-act^=ask]")).to_have_count(3)
    text.fill("<img src=x onerror=alert(1)> hello")
    page.locator("#chat_send").click()
    expect(log).to_contain_text("<img src=x onerror=alert(1)> hello", timeout=LONG)
    assert page.locator("#chat_log img").count() == 0
    # A conversation that is left while it is answered does not come back with the rest of the answer.
    page.locator("#chat_clear").click()
    expect(log.locator("[data-act^=ask]")).to_have_count(3)
    expect(page.locator("#chat_stop")).to_be_hidden(timeout=LONG)
    page.wait_for_timeout(1000)
    expect(log.locator("[data-act^=ask]")).to_have_count(3)
    expect(log).not_to_contain_text("hello")
    page.reload()
    one.tab("chat")
    expect(log.locator("[data-act^=ask]")).to_have_count(3)
    assert not one.errors


def test_a_person_downloads_the_verified_adapter_and_is_asked_before_deleting(finished, quickstart, visit):
    one = visit(finished.url)
    one.tab("runs")
    page = one.page
    expect(page.locator("#runs_table")).to_contain_text("Support triage, LoRA on the starter")
    expect(page.locator("#runs_detail")).to_contain_text(quickstart.run.id)
    page.locator("#runs_more button").first.click()
    expect(page.locator("#runs_whole")).to_contain_text("learning_rate")
    page.locator("#runs_export_box button").first.click()
    with page.expect_download(timeout=LONG) as download:
        page.locator("#runs_download").click()
    assert download.value.suggested_filename.endswith("-adapter.zip")
    expect(page.locator("#runs_export_state")).to_contain_text("20 of 20 held-out prompts")
    page.locator("#runs_menu button").first.click()
    page.locator("#runs_delete").click()
    expect(page.locator("#runs_confirm")).to_be_visible()
    page.locator("#runs_delete_no").click()
    assert quickstart.run.config_file.exists()
    assert not one.errors


def test_a_run_gets_a_name_in_place_and_two_runs_are_compared_by_ticking(app, visit):
    workspace = Workspace.open(app.workspace)
    old, new = evaluated_run(workspace, "aged"), evaluated_run(workspace, "fresh")
    one = visit(app.url)
    one.tab("runs")
    page = one.page
    rows = page.locator("#runs_table li")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("exact match 10% → 80%")
    rows.nth(1).locator("button").click()
    expect(page.locator("#runs_detail")).to_contain_text(old.id)
    name = page.locator("#runs_name input, #runs_name textarea").first
    expect(name).to_have_value("Support triage, LoRA on the starter")
    name.fill("Hotel desk")
    name.press("Enter")
    expect(rows.nth(1)).to_contain_text("Hotel desk")
    for row in (rows.first, rows.nth(1)):
        row.locator("input").check()
    expect(page.locator("#runs_detail [data-compare]")).to_contain_text("Hotel desk")
    rows.first.locator("input").uncheck()
    expect(page.locator("#runs_detail")).to_contain_text(old.id)
    # The name is the same wherever runs are listed, and the folder keeps its own.
    page.locator("#runs_to_evaluate").click()
    expect(page.locator("#evaluate_run input").first).to_have_value("Hotel desk")
    assert old.path.is_dir() and new.path.is_dir()
    assert not one.errors


def test_wrong_input_gets_one_message_in_its_tab(app, visit, tmp_path):
    one = visit(app.url)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", \n')
    upload(one, broken)
    expect(one.page.locator("#data_message")).to_contain_text("line 2")
    # The broken file is still chosen: what cannot be trained on cannot be started, and says so.
    one.page.reload()
    one.tab("train")
    expect(one.page.locator("#train_data")).to_contain_text("The Data tab says why")
    expect(one.page.locator("#train_start")).to_be_disabled()
    one.tab("data")
    fill_list(one.page, "set_data_source", "support_triage")
    expect(one.page.locator("#data_summary")).to_contain_text("600")
    one.tab("train")
    open_advanced(one.page)
    one.page.locator("#set_optimisation_learning_rate input").first.fill("5")
    one.page.locator("#train_start").click()
    expect(one.page.locator("#train_message")).to_contain_text("Learning rate")
    expect(one.page.locator("#train_message")).to_contain_text("0.1")
    assert Workspace.open(app.workspace).runs() == []
    assert "Traceback" not in one.page.content()


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["wide", "phone"])
def test_no_page_asks_another_host_or_scrolls_sideways(finished, visit, viewport):
    one = visit(finished.url, viewport) if viewport else visit(finished.url)
    for tab in ("data", "train", "preferences", "evaluate", "chat", "runs"):
        one.tab(tab)
        one.page.wait_for_timeout(800)
        wider = one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 1, f"the tab {tab} is {wider} px too wide"
    for page in ("", "methods", "settings", "?q=learning+rate"):
        one.page.goto(f"{finished.url}/help/{page}")
        assert one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1
    assert {host for host in one.hosts if host} == {f"127.0.0.1:{finished.port}"}
    assert not one.errors


def fill_list(page, elem_id: str, value: str) -> None:
    box = page.locator(f"#{elem_id} input").first
    box.click()
    box.fill(value)
    box.press("Enter")
    expect(box).not_to_be_focused()


def test_what_was_chosen_survives_a_restart_and_is_there_in_another_browser(app, visit):
    """A sample and a base that are not the defaults, and an older run on show."""
    workspace = Workspace.open(app.workspace)
    runs = []
    for name in ("aged", "fresh"):
        runs.append(workspace.create_run(name))
        write_text(runs[-1].config_file, f"name: {name}\n")
        write_status(runs[-1].status_file, RunStatus(state="completed", created=len(runs), finished=9))
    one = visit(app.url)
    sample = "brand_voice"
    one.tab("data")
    fill_list(one.page, "set_data_source", sample)
    expect(one.page.locator("#data_summary")).to_contain_text("Brand voice")
    one.tab("train")
    fill_list(one.page, "set_model_base", "somebody/some-base")
    one.page.locator("#train_preset label", has_text="Quick").click()
    expect(one.page.locator("#train_settings")).to_contain_text("rank 8")
    one.tab("runs")
    one.page.locator(f"#runs_table [data-pick='{runs[0].id}']").first.click()
    expect(one.page.locator("#runs_detail")).to_contain_text(runs[0].id)
    page_file = workspace.page_file
    for _ in range(300):
        if page_file.exists() and {"brand_voice", "somebody/some-base", "quick", runs[0].id} <= set(
            json.loads(page_file.read_text()).values()
        ):
            break
        one.page.wait_for_timeout(100)
    one.context.close()
    app.kill()
    app.start()
    other = visit(app.url)
    other.tab("data")
    expect(other.page.locator("#data_summary")).to_contain_text("Brand voice")
    other.tab("train")
    expect(other.page.locator("#set_model_base input").first).to_have_value("somebody/some-base")
    expect(other.page.locator("#train_preset label", has_text="Quick").locator("input")).to_be_checked()
    expect(other.page.locator("#train_settings")).to_contain_text("rank 8")
    other.tab("runs")
    expect(other.page.locator("#runs_detail")).to_contain_text(runs[0].id)
