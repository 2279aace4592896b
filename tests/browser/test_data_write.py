"""A model writes rows, and a person reads them before training on them: about manuals, where there are no rows, and in
place of the answers of a run that another model beats."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from ftlab.data.version_store import history
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.outside import read_against
from ftlab.evaluation.request import Request
from tests.browser.conftest import PHONE, WIDE, App
from tests.judge_server import judge_server, reply, without_proxies
from tests.small_runs import make_base, make_run, save_result
from tests.unit.test_documents import documents
from tests.unit.test_synthesis import writes


@pytest.mark.long
def test_manuals_become_rows_that_are_read_before_anything_is_trained(visit, tmp_path):
    folder = tmp_path / "manuals"
    folder.mkdir()
    for number, text in enumerate(documents(12)):
        (folder / f"manual{number}.md").write_text(text)
    app = App(tmp_path / "workspace").start()
    try:
        with judge_server(writes) as server:
            seen = visit(app.url)
            page = seen.page
            page.locator("#data_upload input[type=file]").set_input_files(str(folder / "manual0.md"))
            # It is no data: the page opens where a model writes rows about it.
            expect(page.locator("#data_write_listed")).to_contain_text("1 document: manual0.md")
            files = [str(folder / f"manual{number}.md") for number in range(1, 12)]
            page.locator("#data_write_upload input[type=file]").set_input_files(files)
            expect(page.locator("#data_write_listed")).to_contain_text("12 documents")
            page.locator("#data_write_look").click()
            expect(page.locator("#data_write_message")).to_contain_text("The address of the writer is missing")
            page.locator("#data_write_url input, #data_write_url textarea").fill(server.url)
            page.locator("#data_write_model input, #data_write_model textarea").fill("writer-1")
            page.locator("#data_write_look").click()
            expect(page.locator("#data_write_plan")).to_contain_text("12 documents, 12 passages")
            expect(page.locator("#data_write_plan")).to_contain_text("do not leave it")
            assert server.requests == []
            page.screenshot(path=str(tmp_path / "plan.png"), full_page=True)
            page.locator("#data_write_send").click()
            expect(page.locator("#data_write_result")).to_contain_text("36 rows were written, 13 of them kept")
            expect(page.locator("#data_write_result")).to_contain_text("a number that its passage does not have")
            page.screenshot(path=str(tmp_path / "written.png"), full_page=True)
            page.locator("#data_write_read").click()
            expect(page.locator("#data_curate_row")).to_contain_text("What does")
            expect(page.locator("#data_curate_row")).to_contain_text("whoever wants")
            page.screenshot(path=str(tmp_path / "curate.png"), full_page=True)
            # Nothing is trained on what nobody has read, unless a person takes it as it is.
            expect(page.locator("#data_message")).to_contain_text("13 rows were written by a model")
            expect(page.locator("#data_use")).to_be_disabled()
            seen.panel("write")
            page.locator("#data_write_accept").click()
            expect(page.locator("#data_write_message")).to_contain_text("accepted 13 rows unread")
            expect(page.locator("#data_use")).to_be_enabled()
        version, accepted = history(Workspace.open(app.workspace))
        assert version.total == accepted.total == 13 and version.excluded == 23
        assert not seen.errors
    finally:
        app.kill()


@pytest.mark.long
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_where_another_model_is_better_its_answers_are_one_press_away(visit, tmp_path, monkeypatch, size):
    without_proxies(monkeypatch)
    file, base = tmp_path / "things.jsonl", make_base(tmp_path / "base")
    rows = [{"prompt": f"Which colour has thing {i}?", "completion": "red"} for i in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(tmp_path / "workspace" / "runs", base, "none", source=str(file))
    save_result(run, base)
    app = App(tmp_path / "workspace")
    with judge_server(lambda request, _: reply("red")) as server:
        evaluate_run(run, Request(against=[read_against(f"{server.url}#big-one")]))
        evaluated = len(server.requests)
        app.start()
        try:
            seen = visit(app.url, size)
            page = seen.page
            seen.tab("evaluate")
            page.locator("#evaluate_helps > button").click()
            page.locator("#evaluate_remedies").get_by_role("button", name="Try it: Tune on the answers of").click()
            expect(page.locator("#data_write_message")).to_contain_text("settings of the run")
            expect(page.locator("#data_write_url input, #data_write_url textarea")).to_have_value(server.url)
            expect(page.locator("#data_write_documents")).to_be_hidden()
            expect(page.locator("#data_write_rows")).to_be_hidden()
            expect(page.locator("#data_write_run")).to_be_in_viewport()
            page.screenshot(path=str(tmp_path / "asked.png"))
            page.locator("#data_write_look").click()
            plan = page.locator("#data_write_plan")  # it imports the libraries first
            expect(plan).to_contain_text("The prompts of your training rows", timeout=180_000)
            assert len(server.requests) == evaluated
            page.locator("#data_write_send").click()
            expect(page.locator("#data_write_result")).to_contain_text("Read them before you train", timeout=180_000)
            page.screenshot(path=str(tmp_path / "written.png"), full_page=True)
            assert not seen.errors
        finally:
            app.kill()
    made = [
        version.details["made"]["kind"]
        for version in history(Workspace.open(app.workspace))
        if "made" in version.details
    ]
    assert made == ["answers"]
