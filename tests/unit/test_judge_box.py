"""The boxes of judge and advisor on the Evaluate tab, without a browser."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("gradio")

import gradio as gr

from ftlab.arena import judging
from ftlab.arena.blind_tests import get_test
from ftlab.arena.store import open_store
from ftlab.config import build_config
from ftlab.core.endpoint import JUDGE
from ftlab.core.files import write_json, write_jsonl, write_text
from ftlab.evaluation.advisor import QUESTIONS, build_needs
from ftlab.training import supervisor
from ftlab.ui import job_strip, judge_form, run_files
from ftlab.ui.tabs.blind_test import judge as blind_judge
from ftlab.ui.tabs.evaluate import advisor as advisor_box
from ftlab.ui.tabs.evaluate import judge as judge_box
from tests.arena import answered
from tests.judge_server import judge_server, says, shown
from tests.unit.test_advisor import measured
from tests.unit.test_arena_corrected import by_number
from tests.unit.test_ui import ATTACK, a_run

KEY = "sk-box-77aR3kQ-secret"


class Page:
    """Both boxes as the app builds them, and their handlers by the elem_id of what triggers them."""

    def __init__(self, workspace):
        with gr.Blocks() as self.blocks:
            self.run = gr.Dropdown([], allow_custom_value=True, elem_id="run")
            strip = job_strip.build()
            self.judge, self.advisor = judge_box.build(), advisor_box.build()
            judge_form.wire(self.judge, self.run, judge_box.OfRun(workspace), strip, workspace)
            self.test, self.blind = gr.Dropdown([], allow_custom_value=True, elem_id="test"), blind_judge.build()
            judge_form.wire(self.blind, self.test, blind_judge.OfTest(workspace), strip, workspace)
            advisor_box.wire(self.advisor, self.run, workspace)

    def press(self, component, event="click", **typed):
        """What the handler of `event` of `component` gives; `typed` are values by elem_id, else those the page has."""
        target = (component._id, event)
        fn = next(fn for fn in self.blocks.fns.values() if target in fn.targets)
        values = [typed.get(one.elem_id, getattr(one, "value", None)) if one.elem_id else typed.get("planned")
                  for one in fn.inputs]  # fmt: skip
        return fn.fn(*values)


@pytest.fixture
def page(workspace, monkeypatch):
    monkeypatch.setenv(JUDGE.key_variable, KEY)
    return Page(workspace)


def with_answers(workspace, answers, run=None):
    run = run or a_run(workspace)
    rows = [
        {"row": n, "prompt": f"q {n}", "reference": "r", "base": base, "adapted": adapted}
        for n, (base, adapted) in enumerate(answers)
    ]
    write_jsonl(run.predictions_file, rows)
    return run


def judged(page, workspace, run):
    return judge_form.progress(page.judge, judge_box.OfRun(workspace), run.id)[page.judge.result]


def ended(run):
    end = time.monotonic() + 60
    while (status := supervisor.judging_status(run)).is_active:
        assert time.monotonic() < end, run.evaluation_log_file.read_text()
        time.sleep(0.1)
    return status


def test_the_cost_is_shown_first_and_what_was_shown_is_sent_by_a_process_of_its_own(page, workspace):
    run = with_answers(workspace, [("bad", f"good {n}") for n in range(7)] + [(ATTACK, "good")])

    def prefers_good(request, _):
        reason = f"{ATTACK} {request['headers']['Authorization']}"
        return says("A" if "good" in shown(request["body"])["answer_a"] else "B", reason=reason)

    with judge_server(prefers_good) as server:
        typed = {"run": run.id, "judge_url": server.url, "judge_model": "m"}
        typed |= {"judge_price_in": "1,5", "judge_price_out": "2"}
        looked = page.press(page.judge.look, **typed)
        assert server.requests == [] and "16 requests to m" in looked[page.judge.plan]
        assert "That costs about" in looked[page.judge.plan]
        sent = page.press(page.judge.send, planned=looked[page.judge.planned])
        assert (
            "at work" in sent[page.judge.result]
            and sent[page.judge.stop]["visible"]
            and sent[page.judge.send]["visible"] is False
        )
        status = ended(run)
        assert status.state == "completed", status.error
        assert len(server.requests) == 16
        assert {request["headers"]["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    result = judge_box.judgements(run)
    assert "The judge prefers Adapted: Adapted wins 100% of 8" in result and "not people" in result
    assert "<script" not in result and "&lt;script&gt;" in result
    # Nothing that was written, the log of the process and the request of the app among it, holds the key.
    files = [file for file in workspace.root.rglob("*") if file.is_file()]
    assert {run.judging_file, run.judged_file, run.evaluation_log_file, run.evaluation_status_file} <= set(files)
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_a_judge_that_refuses_is_said_in_the_box_and_a_stop_keeps_what_is_judged(page, workspace):
    run = with_answers(workspace, [(f"bad {n}", f"good {n}") for n in range(40)])

    def slow_then_wrong(request, number):
        time.sleep(0.2)
        return says("A") if number < 400 else (401, {}, {"error": {"message": "no"}})

    with judge_server(slow_then_wrong) as server:
        typed = {"run": run.id, "judge_url": server.url, "judge_model": "m", "judge_at_once": "2"}
        planned = page.press(page.judge.look, **typed)[page.judge.planned]
        page.press(page.judge.send, planned=planned)
        again = page.press(page.judge.send, planned=planned)
        assert "still running" in again[page.judge.message]
        end = time.monotonic() + 60
        while len(server.requests) < 6 and time.monotonic() < end:
            time.sleep(0.05)
        assert "A judge is at work" in judged(page, workspace, run)
        job = run_files.current_job(workspace)
        assert job is not None and job.run == run  # so the strip shows it as well
        stopped = page.press(page.judge.stop, run=run.id)
        assert stopped[page.judge.message] == "" and "A judge is stopping" in stopped[page.judge.result]
        assert ended(run).state == "stopped" and len(server.requests) < 80
        kept = len(run_files.judged_answers(run))
        assert kept >= 4 and "rows are not judged yet" in judged(page, workspace, run)
        server.behave = lambda *_: (401, {}, {"error": {"message": "no"}})
        page.press(page.judge.send, planned=planned)
        assert ended(run).state == "failed"
    assert "rejected the key (401)" in judged(page, workspace, run) and len(run_files.judged_answers(run)) == kept


def test_a_blind_test_is_judged_by_a_process_of_its_own_that_can_be_stopped_and_goes_on(page, workspace):
    store = open_store(workspace)
    test_id = answered(store, prompts=30)
    prefers = by_number(errs=10)

    def slowly(request, number):
        time.sleep(0.2)
        return prefers(request, number)

    def until(done):
        end = time.monotonic() + 60
        while not done() and time.monotonic() < end:
            time.sleep(0.05)
        assert done()

    with judge_server(slowly) as server:
        typed = {"test": test_id, "blind_judge_url": server.url, "blind_judge_model": "m", "blind_judge_at_once": "2"}
        looked = page.press(page.blind.look, **typed)
        assert "60 requests to m" in looked[page.blind.plan] and server.requests == []
        planned = looked[page.blind.planned]
        sent = page.press(page.blind.send, planned=planned)
        assert "A judge is at work" in sent[page.blind.result] and sent[page.blind.stop]["visible"]
        assert "being judged already" in page.press(page.blind.send, planned=planned)[page.blind.message]
        until(lambda: len(server.requests) > 6)
        assert "A judge of the blind test" in job_strip.show_now(None, workspace)
        page.press(page.blind.stop, test=test_id)
        until(lambda: not judging.status(workspace, test_id).is_active)
        assert judging.status(workspace, test_id).state == "stopped" and len(server.requests) < 60
        server.behave = prefers
        page.press(page.blind.send, planned=planned)
        until(lambda: judging.status(workspace, test_id).state == "done")
    shown_now = blind_judge.show(page.blind, get_test(store, test_id), 2, workspace)
    assert "m has judged 30 prompts" in shown_now[page.blind.result]
    files = [file for file in workspace.root.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_settings_that_cannot_be_used_are_said_and_a_change_takes_the_cost_away(page, workspace):
    run = with_answers(workspace, [("a", "b")])
    wrong = page.press(page.judge.look, run=run.id, judge_url="here", judge_model="m")
    assert "This is not a valid address for the judge" in wrong[page.judge.message] and page.judge.send not in wrong
    typed = {"run": run.id, "judge_url": "http://127.0.0.1:1/v1", "judge_model": "m"}
    assert "cannot take this value" in page.press(page.judge.look, **typed, judge_price_in="x")[page.judge.message]
    assert "Nothing planned" in page.press(page.judge.send)[page.judge.message]
    changed = page.press(page.judge.fields["model"], "input")
    assert changed[page.judge.planned] is None and changed[page.judge.send]["visible"] is False


def test_the_box_is_there_once_two_sides_have_answers_and_says_whether_a_key_is_set(page, workspace, monkeypatch):
    run = a_run(workspace)
    assert judge_box.show(page.judge, run.id, workspace)[page.judge.box]["visible"] is False
    run = with_answers(workspace, [("a", "b")])
    rows = [row | {"prompted": "c"} for row in run.predictions()]
    write_jsonl(run.predictions_file, rows)
    sides = [{"name": name, "title": name.capitalize()} for name in ("base", "prompted", "adapted")]
    write_json(run.comparison_file, {"sides": sides})
    said = judge_box.show(page.judge, run.id, workspace)
    assert said[page.judge.box]["visible"] is True
    assert [value for _, value in said[page.judge.fields["sides"]]["choices"]] == [
        "base,prompted",
        "base,adapted",
        "prompted,adapted",
    ]
    assert "is set" in said[page.judge.about] and KEY not in said[page.judge.about]
    monkeypatch.delenv(JUDGE.key_variable)
    assert "is not set" in judge_box.show(page.judge, run.id, workspace)[page.judge.about]


def test_the_untouched_form_of_the_advisor_is_the_defaults_and_its_advice_has_the_runs_figures(page, workspace):
    values = {question.name: field.value for question, field in zip(QUESTIONS, page.advisor.form, strict=True)}
    assert build_needs(["style"], **{name: value for name, value in values.items() if name != "change"}) == build_needs(
        ["style"]
    )
    run = a_run(workspace)
    write_text(run.config_file, build_config({}).resolved().to_yaml())
    run.evaluation.mkdir()
    found = measured(prompted=0.3, over_prompting=True) | {"run": ATTACK}
    write_json(run.comparison_file, found)
    change = page.advisor.form[0]
    shown_ = page.press(change, "change", run=run.id, advisor_change=["format"])[page.advisor.result]
    assert "beats prompting: Exact match: Base 10%" in shown_ and "arXiv 2305.11206" in shown_
    assert "<script" not in shown_ and "&lt;script&gt;" in shown_
    wrong = page.press(change, "change", advisor_change=["format"], advisor_examples="many")
    assert "Examples at hand cannot take this value" in wrong[page.advisor.message]
    assert "Choose what should change" in page.press(change, "change")[page.advisor.result]
