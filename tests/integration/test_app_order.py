"""Replies come in the order of the presses, where two events draw the same thing."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest

pytest.importorskip("gradio")

import gradio as gr

from ftlab.core.workspace import Workspace
from ftlab.ui.app import build_app
from ftlab.ui.kit.events import on


def replies(app, events: list[int]) -> list[str]:
    """What a page is sent for `events` (fn_index) that it fires one right after the other."""
    app.launch(prevent_thread_lock=True, quiet=True, _frontend=False)
    try:
        for event in events:
            request = urllib.request.Request(
                f"{app.local_url}gradio_api/queue/join",
                data=json.dumps({"data": [], "fn_index": event, "session_hash": "one"}).encode(),
                headers={"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=120).close()
        shown = []
        address = f"{app.local_url}gradio_api/queue/data?session_hash=one"
        with urllib.request.urlopen(address, timeout=120) as lines:
            for line in lines:
                message = json.loads(line.decode().removeprefix("data: ")) if line.startswith(b"data: ") else {}
                if message.get("msg") == "process_completed":
                    shown.append(message["output"]["data"][0])
                if len(shown) == len(events):
                    break
        return shown
    finally:
        app.close()


@pytest.mark.parametrize(
    ("same_handler", "lane", "waits"),
    [
        (True, None, True),
        (False, "shown", True),
        # Otherwise a press would wait for work that has nothing to do with it.
        (False, None, False),
    ],
    ids=["one handler", "one lane", "nothing in common"],
)
def test_a_slow_reply_never_comes_after_that_of_a_later_press(same_handler, lane, waits):
    begun, second = threading.Event(), threading.Event()
    beside = []  # whether the second press was at work before the first was answered

    def draw():
        if begun.is_set():
            second.set()
            return {shown: "second"}
        begun.set()
        beside.append(second.wait(1 if waits else 60))
        return {shown: "first"}

    def draw_too():
        return draw()

    with gr.Blocks() as app:
        shown = gr.HTML()
        one, other = gr.Button(), gr.Button()
        on(one.click, draw, [], [shown], lane=lane)
        on(other.click, draw if same_handler else draw_too, [], [shown], lane=lane)
    found = replies(app, [0, 1])
    assert beside == [not waits]
    assert sorted(found) == ["first", "second"]
    if waits:
        assert found == ["first", "second"]


DRAWN = (
    "data_summary",
    "data_table",
    "data_rendered",
    "data_checks_findings",
    "data_curate_row",
    "data_versions_history",
    "data_versions_diff",
    "after_answers",
    "evaluate_answers",
    "judge_plan",
    "sweeps_result",
    "blind_title_1",
    "blind_verdict",
)


def is_tick(fn) -> bool:
    return any(event == "tick" for _, event in fn.targets)


def test_what_several_events_draw_is_drawn_in_one_lane(tmp_path):
    app = build_app(Workspace.open(tmp_path))
    lanes = {name: set() for name in DRAWN}
    for fn in app.fns.values():
        for component in fn.outputs:
            # What comes each second needs no order: a late reply is drawn anew.
            if getattr(component, "elem_id", None) in lanes and not is_tick(fn):
                lanes[component.elem_id].add(fn.concurrency_id if fn.queue else "beside the queue")
    assert {name: len(found) for name, found in lanes.items()} == dict.fromkeys(DRAWN, 1), lanes


def test_a_tab_more_is_one_more_module_in_the_list(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from ftlab.ui import app as app_module
    from ftlab.ui.page import Door, Follower

    workspace = Workspace.open(tmp_path)

    def wire(parts, page):
        page.lead(parts["go"].click, "run", to="evaluate", inputs=[parts["text"]])

    more = SimpleNamespace(
        NAME="more",
        TITLE="More",
        build=lambda workspace: {"text": gr.Textbox(), "shown": gr.HTML(elem_id="more_shown"), "go": gr.Button()},
        wire=wire,
        doors=lambda parts, page: {"text": Door([parts["text"]], lambda value: {parts["text"]: value})},
        followers=lambda parts, page: [
            Follower([parts["shown"]], lambda seen: {parts["shown"]: str(len(seen.workspace.runs()))})
        ],
    )
    monkeypatch.setattr(app_module, "TABS", (*app_module.TABS, more))
    app = build_app(workspace)
    tabs = [block.label for block in app.blocks.values() if isinstance(block, gr.Tab)]
    assert "More" in tabs
    shown = next(block for block in app.blocks.values() if getattr(block, "elem_id", None) == "more_shown")
    assert any(is_tick(fn) and shown in fn.outputs for fn in app.fns.values())
