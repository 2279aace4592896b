"""The app as a web server: what it imports, offers and answers. Journeys of a person are in tests/browser."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid

import pytest

pytest.importorskip("gradio")

import gradio.routes
import httpx
from gradio_client import Client
from gradio_client.exceptions import AppError

from ftlab.core.files import append_jsonl, write_text
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.training import supervisor
from ftlab.training.status import RunStatus
from ftlab.ui.app import TABS
from ftlab.ui.launch import launch
from tests.conftest import ROOT, offline_environment

HEAVY = ("torch", "transformers", "trl", "peft", "evaluate", "datasets")


class Served:
    """The launched app, and the requests a browser would send for it."""

    def __init__(self, app, workspace: Workspace):
        self.app, self.workspace, self.url = app, workspace, app.local_url
        self.session = uuid.uuid4().hex

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def block(self, elem_id: str):
        return next(block for block in self.app.blocks.values() if getattr(block, "elem_id", None) == elem_id)

    def fire(self, elem_id: str, event: str, event_data=None, **typed) -> dict[str, object]:
        """What the page gets after `event` of the component `elem_id`; `typed` are values by elem_id."""
        target = self.block(elem_id)._id
        return self.call(next(fn for fn in self.app.fns.values() if (target, event) in fn.targets), event_data, **typed)

    def fire_all(self, elem_id: str, event: str, event_data=None, **typed) -> dict[str, object]:
        """As `fire`, with what follows by itself (`.then`)."""
        target = self.block(elem_id)._id
        first = next(fn for fn in self.app.fns.values() if (target, event) in fn.targets)
        shown, open_ = self.call(first, event_data, **typed), [first]
        while open_:
            after = open_.pop(0)._id
            for fn in (fn for fn in self.app.fns.values() if fn.trigger_after == after and fn.fn is not None):
                shown |= self.call(fn, **typed)
                open_.append(fn)
        return shown

    def tick(self, **typed) -> dict[str, object]:
        """What the page gets from the timer that follows the runs."""
        return self.call(self.follows(), **typed)

    def follows(self):
        strip = self.block("job_strip")
        ticks = [fn for fn in self.app.fns.values() if any(event == "tick" for _, event in fn.targets)]
        return next(fn for fn in ticks if strip in fn.outputs)

    def call(self, fn, event_data=None, **typed) -> dict[str, object]:
        values = []
        for component in fn.inputs:
            name = getattr(component, "elem_id", None)
            values.append(typed.get(name, getattr(component, "value", None)) if name else None)
        request = {"data": values, "fn_index": fn._id, "session_hash": self.session, "event_data": event_data}
        request = urllib.request.Request(
            self.url + "gradio_api/queue/join",
            data=json.dumps(request).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=60).close()
        with urllib.request.urlopen(
            f"{self.url}gradio_api/queue/data?session_hash={self.session}", timeout=240
        ) as lines:
            for line in lines:
                message = json.loads(line.decode().removeprefix("data: ")) if line.startswith(b"data: ") else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    break
        shown = zip(fn.outputs, message["output"]["data"], strict=True)
        return {component.elem_id: value for component, value in shown if getattr(component, "elem_id", None)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    workspace = Workspace.open(tmp_path_factory.mktemp("app"))
    app = launch(workspace.root, port=None, block=False)
    yield Served(app, workspace)
    app.close()


def test_the_first_page_is_built_without_the_heavy_libraries(tmp_path):
    code = (
        "import sys; from ftlab.ui.app import build_app; from ftlab.core.workspace import Workspace; "
        f"build_app(Workspace.open({str(tmp_path)!r})); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, env=offline_environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_page_loads_nothing_from_another_host(served):
    page = served.get("")
    loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)""", page)
    assert [address for address in loaded if not address.startswith(served.url)] == []
    style = served.get("theme.css")
    assert re.findall(r"""url\((?!["']?data:)[^)]*|@import|@font-face""", style) == []
    assert served.app.enable_monitoring is False and served.app.analytics_enabled is False


def test_help_opens_from_the_app_itself(served):
    assert '"ft-more\\" href=\\"help/' in served.get("config")
    assert "ftlab documentation" in served.get("help") and "Learning rates" in served.get("help/methods")


def test_the_workspace_is_not_opened_to_the_web_server(served):
    secret = served.workspace.root / "secret.txt"
    secret.write_text("nobody should read this")
    with pytest.raises(urllib.error.HTTPError):
        served.get(f"gradio_api/file={secret}")


@pytest.mark.parametrize(
    "headers, status",
    [({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403)],
)
@pytest.mark.parametrize(
    "path", ["", "config", "gradio_api/upload", "gradio_api/queue/join", "gradio_api/queue/data?session_hash=s"]
)
def test_a_page_of_another_site_gets_nothing_and_is_told_nothing(served, headers, status, path):
    for method in ("GET", "POST", "OPTIONS"):
        asked = {**headers, "Access-Control-Request-Method": "POST"} if method == "OPTIONS" else headers
        answer = httpx.request(method, served.url + path, headers=asked)
        assert answer.status_code == status and "--allow-host" in answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_an_app_that_others_reach_lets_in_nobody_without_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv("FTLAB_PASSWORD", "correct horse battery")
    app = launch(tmp_path / "workspace", host="0.0.0.0", block=False)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{app.server_port}") as stranger:
            known = set(re.findall(r'@(?:app|router)\.(get|post)\(\s*f?"([^"]+)"', inspect.getsource(gradio.routes)))
            told = set()
            for method, path in {(method, prefix + path) for method, path in known for prefix in ("", "/gradio_api")}:
                answer = stranger.request(method, re.sub(r"\{[^}]*\}", "/etc/hostname", path))
                told |= {path} if answer.status_code not in (303, 401) else set()
            assert told == {"/gradio_api/startup-events"}
            assert stranger.get("/help/").status_code == 401
            page = stranger.post("/owner/login", data={"password": "correct horse battery"}, follow_redirects=True)
            assert page.url.path == "/" and "train_start" in page.text
            assert "Security" in stranger.get("/help/").text
    finally:
        app.close()


def test_a_shared_notebook_opens_by_its_link_in_one_browser(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FTLAB_PASSWORD", raising=False)
    # Stands for Gradio's servers, which cannot be reached here; the notebook is said to be one.
    monkeypatch.setattr("gradio.networking.setup_tunnel", lambda **_: "https://ab12.gradio.live")
    monkeypatch.setattr("ftlab.ui.launch._in_notebook", lambda: True)
    app = launch(tmp_path / "workspace", share=True)
    try:
        link = re.search(r"https://ab12\.gradio\.live(/owner/enter\?ticket=[\w-]+) ", capsys.readouterr().out)[1]
        shared = {"base_url": app.local_url, "headers": {"host": "ab12.gradio.live"}}
        with httpx.Client(**shared) as stranger, httpx.Client(**shared) as mine:
            assert stranger.get("/").headers["location"] == "/owner" and stranger.get("/config").status_code == 401
            entered = mine.get(link)
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            assert "Secure" in entered.headers["set-cookie"] and "Partitioned" in entered.headers["set-cookie"]
            ticket = {"cookie": entered.headers["set-cookie"].split(";")[0]}
            assert mine.get("/config", headers=ticket).status_code == 200
            assert mine.get(link, headers=ticket).status_code == 303, "the frame of a cell is drawn again"
            again = stranger.get(link)
            assert again.status_code == 403 and "already used" in again.text and "set-cookie" not in again.headers
            foreign = {**ticket, "origin": "https://other.gradio.live"}
            assert mine.post("/gradio_api/upload", headers=foreign).status_code == 403
            assert mine.post("/owner/logout", headers=ticket).status_code == 303
            assert mine.get("/config", headers=ticket).status_code == 401
    finally:
        app.close()


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """An app that others can reach, which asks for no password."""
    workspace = Workspace.open(tmp_path_factory.mktemp("visited"))
    app = launch(workspace.root, host="0.0.0.0", open_to_all=True, block=False)
    yield Served(app, workspace)
    app.close()


@pytest.fixture
def elsewhere(tmp_path):
    rows = [{"prompt": f"What is {n}?", "completion": f"It is secret-{n}."} for n in range(40)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_who_visits_an_app_that_others_reach_reads_no_file_beside_the_workspace(visited, elsewhere):
    kept = sorted(visited.workspace.root.rglob("*"))
    (visited.workspace.root / "link.jsonl").symlink_to(elsewhere)
    inside = visited.workspace.root / "uploads"
    ways = [elsewhere, f"{inside}/../../{elsewhere.name}", visited.workspace.root / "link.jsonl", elsewhere.parent]
    ways += ["/proc/self/environ", "~/.ssh/id_rsa", "../../../../etc/passwd", os.path.relpath(elsewhere)]
    said = [visited.fire("data_look", "click", set_data_source=str(way)) for way in ways]
    said += [visited.fire("train_start", "click", set_model_base=str(elsewhere.parent))]
    program = Client(visited.url, verbose=False)
    calls = [("/inspect", {"source": str(way)}) for way in ways]
    calls += [("/train", {"config": {"data": {"source": str(elsewhere)}}})]
    calls += [("/train", {"config": {"data": {"replay": f"general_replay, {elsewhere}"}}})]
    calls += [("/train", {"config": {"evaluation": {"general_text": str(elsewhere)}}})]
    calls += [("/train", {"config": {"model": {"base": str(elsewhere.parent)}}})]
    calls += [("/train", {"config": {"trainer": {"deepspeed": str(elsewhere)}}})]
    calls += [("/status", {"run": str(elsewhere.parent)})]
    for name, given in calls:
        with pytest.raises(AppError, match="opens only files in its workspace"):
            program.predict(api_name=name, **given)
    for one in said:
        assert "opens only files in its workspace" in str(one) and "secret-" not in str(one)
    (visited.workspace.root / "link.jsonl").unlink()
    assert sorted(visited.workspace.root.rglob("*")) == kept
    (visited.workspace.root / "own.jsonl").write_bytes(elsewhere.read_bytes())
    assert program.predict(str(visited.workspace.root / "own.jsonl"), api_name="/inspect")["rows"] == 40
    assert program.predict("support_triage", api_name="/inspect")["rows"] == 800


def test_a_file_is_no_upload_because_somebody_says_so(visited, served, elsewhere):
    for app in (visited, served):
        upload = next(fn for fn in app.app.fns.values() if any(name == "upload" for _, name in fn.targets))
        given = {"path": str(elsewhere), "orig_name": "x.jsonl", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AssertionError, match="False"):
            app.call(upload, data_upload=given)
    assert not list(visited.workspace.root.rglob("mine*"))


def test_who_opens_the_app_of_their_own_machine_names_any_file(served, elsewhere):
    assert Client(served.url, verbose=False).predict(str(elsewhere), api_name="/inspect")["rows"] == 40


def test_the_tabs_stand_in_the_order_of_the_pipeline(served):
    import gradio as gr

    bars = [block for block in served.app.blocks.values() if isinstance(block, gr.Tabs)]
    # The tabs of the Data tab are a bar inside the bar.
    tabs = [tab.label for tab in next(bar for bar in bars if not isinstance(bar.parent, gr.Tab)).children]
    assert (
        tabs
        == [tab.TITLE for tab in TABS]
        == ["Data", "Train", "Preferences", "Evaluate", "Chat", "Blind test", "Runs"]
    )


def test_a_learning_rate_out_of_range_is_one_clear_message_and_starts_nothing(served):
    answer = served.fire("train_start", "click", set_optimisation_learning_rate="5")
    assert "Learning rate (optimisation.learning_rate)" in answer["train_message"]
    assert "at most 0.1" in answer["train_message"]
    assert "Traceback" not in answer["train_message"]
    assert served.workspace.runs() == []


def test_a_missing_file_is_one_clear_message_on_the_data_tab(served):
    answer = served.fire_all("data_look", "click", set_data_source="/nowhere/rows.jsonl")
    assert "/nowhere/rows.jsonl" in answer["data_message"] and 'role="alert"' in answer["data_message"]
    assert answer["data_table"] == "" and answer["data_use"]["interactive"] is False


def test_a_sample_shows_its_rows_columns_format_and_splits(served):
    answer = served.fire_all("data_look", "click", set_data_source="support_triage")
    for words in ("Support triage", "prompt", "completion", "600 to learn from, 100 to check, 100 to test"):
        assert words in answer["data_summary"]
    assert "600 rows" in answer["data_facts"] and answer["data_bubbles"].count("<li") == 3
    assert answer["data_use"]["interactive"] is True
    assert answer["data_table"].count("data-pick=") == 10
    turned = served.fire("data_next", "click", data_page=1)
    assert turned["data_page"] == 2 and 'data-pick="10"' in turned["data_table"]


def test_a_chat_without_a_run_says_what_to_do_first(served):
    assert "train one on the Train tab first" in served.fire("chat_send", "click", chat_text="hi")["chat_message"]


def test_what_is_pressed_in_a_chat_without_answers_is_told_in_its_place(served):
    asked = served.fire("chat_log", "ask", {"value": "ask:0"})
    assert "train one on the Train tab first" in asked["chat_message"]
    again = served.fire("chat_log", "ask", {"value": "again"})
    assert "There is no message to answer again" in again["chat_message"]
    run = served.workspace.create_run("talk")
    write_text(run.config_file, "name: talk\n")
    write_status(run.status_file, RunStatus(state="completed", step=2, total_steps=2, created=1, finished=9))
    for value in ("up:0:adapted", "up:0:nobody", "better::", "nothing"):
        voted = served.fire("chat_log", "vote", {"value": value}, chat_run=run.id)
        assert "This answer is no longer displayed" in voted["chat_message"], value
    offered = served.fire("chat_log", "ask", {"value": "ask:7"}, chat_run=run.id)
    assert "This prompt is no longer offered" in offered["chat_message"]
    supervisor.delete(run, served.workspace)
    served.tick()


def test_a_run_started_elsewhere_appears_by_itself(served):
    served.tick()
    run = served.workspace.create_run("elsewhere")
    write_text(run.config_file, "name: elsewhere\n")
    write_status(run.status_file, RunStatus(state="completed", step=2, total_steps=2, created=1, started=1, finished=9))
    append_jsonl(run.metrics_file, {"step": 2, "loss": 1.5})
    shown = served.tick()
    assert run.id in shown["runs_table"] and "1.5" in shown["train_live"]
    # Nothing changed since: nothing is sent again.
    assert "__type__" in str(served.tick()["runs_table"])
    supervisor.delete(run, served.workspace)
    assert "No runs yet" in served.tick()["runs_table"]


def test_a_slow_tick_undoes_no_choice_and_the_next_one_draws_it(served):
    for name in ("one", "two"):
        run = served.workspace.create_run(name)
        write_text(run.config_file, f"name: {name}\n")
        write_status(run.status_file, RunStatus(state="completed", step=2, total_steps=2, created=1, finished=9))
    one, two = (run.id for run in served.workspace.runs())
    chosen = {"runs_run": one, "runs_other": two, "evaluate_others": []}
    page = Served(served.app, served.workspace)
    # The reply of a tick that somebody's choice overtook: it repeats nothing that it was told.
    first = page.tick(**chosen)
    assert one in first["runs_detail"]
    for name in chosen:
        assert "choices" in first[name] and "value" not in first[name], first[name]
    assert "__type__" in str(page.tick(**chosen)["runs_detail"])
    after = page.tick(**chosen | {"runs_run": two})
    assert two in after["runs_detail"] and "value" not in after["runs_run"]
    for run in served.workspace.runs():
        supervisor.delete(run, served.workspace)
    page.tick()


def test_a_taken_port_is_said_in_words(served):
    done = subprocess.run(
        [sys.executable, "app.py", "--port", str(served.app.server_port), "--workspace", str(served.workspace.root)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=offline_environment(),
    )
    assert done.returncode == 2
    assert "another --port" in done.stderr and "Traceback" not in done.stderr
