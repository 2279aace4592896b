"""Somebody has manuals and no rows: a model writes them, and the person reads them before training on them."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ftlab.core.workspace import Workspace
from ftlab.data.versions import history
from tests.browser.conftest import App
from tests.judge_server import judge_server
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
            expect(page.locator("#data_write_message")).to_contain_text("not a valid address for the writer")
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
