"""The box on the Evaluate tab that compares with a model elsewhere, without a browser."""

from __future__ import annotations

import shutil
import time

import pytest

pytest.importorskip("gradio")

import gradio as gr

from ftlab.core.endpoint import CONTESTANT
from ftlab.core.run_directory import RunDirectory
from ftlab.training import supervisor
from ftlab.ui import job_strip
from ftlab.ui.tabs.evaluate import against as against_box
from tests.judge_server import judge_server, reply
from tests.small_runs import ROWS, make_base, make_run, save_result

KEY = "sk-box-51bT8mZ-secret"


class Page:
    """The box as the app builds it, and its handlers by what triggers them."""

    def __init__(self, workspace):
        with gr.Blocks() as self.blocks:
            self.run = gr.Dropdown([], allow_custom_value=True, elem_id="run")
            strip = job_strip.build()
            self.box = against_box.build()
            against_box.wire(self.box, self.run, strip, workspace)

    def press(self, component, **typed):
        target = (component._id, "click")
        fn = next(fn for fn in self.blocks.fns.values() if target in fn.targets)
        values = [typed.get(each.elem_id, "") if each.elem_id else typed.get("planned") for each in fn.inputs]
        return fn.fn(*values)


def test_the_plan_is_shown_first_and_then_a_process_asks_and_compares(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv(CONTESTANT.key_variable, KEY)
    base = make_base(tmp_path / "base")
    made = make_run(tmp_path / "made", base, "none", name="20261130-000000-toy-0000")
    save_result(made, base)
    target = workspace.root / "runs" / made.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made.path, target)
    run, page = RunDirectory(target), Page(workspace)
    with judge_server(lambda *_: reply("something")) as server:
        typed = {"run": run.id, "against_side": f"{server.url}#big-one", "against_margin": "5"}
        typed |= {"against_price_in": "1", "against_price_out": "2", "against_price": "0,5"}
        refused = page.press(page.box.look, **typed | {"against_margin": "500"})
        assert "Margin cannot take this value" in str(refused[page.box.message])
        looked = page.press(page.box.look, **typed)
        text = str(looked[page.box.plan])
        assert f"{ROWS} requests to big-one" in text and "within 5 points takes about" in text and not server.requests
        page.press(page.box.send, planned=looked[page.box.planned])
        end = time.monotonic() + 180
        while (status := supervisor.evaluation_status(run)).is_active:
            assert time.monotonic() < end, run.evaluation_log_file.read_text()
            time.sleep(0.2)
        assert status.state == "completed", status.error
        assert {request["headers"]["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    comparison = run.comparison()
    assert comparison["sides"][-1]["title"] == "big-one" and comparison["settings"]["margin"] == 5
    assert comparison["settings"]["price_per_hour"] == 0.5
    assert not [file for file in run.path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
