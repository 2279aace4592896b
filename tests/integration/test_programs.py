"""What programs may call of the app: the declared endpoints, as the docs show them, and as tools for agents."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("gradio")

from gradio_client import Client
from gradio_client.exceptions import AppError

from ftlab.arena import trials
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.training import supervisor
from ftlab.ui.launch import launch
from tests.arena import opened
from tests.conftest import ROOT, Quickstart, end_runs

PLANTED = {"own_metrics": "/tmp/planted.py", "after_training": False}
PUBLIC = {"/inspect", "/train", "/status", "/stop", "/evaluate", "/chat", "/arena_results"}


@pytest.fixture(scope="module")
def place(quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A copy of the workspace of the main job: the example evaluates its run anew."""
    root = tmp_path_factory.mktemp("programs") / "workspace"
    shutil.copytree(quickstart.workspace.root, root)
    workspace = Workspace.open(root)
    yield workspace
    for run in workspace.runs():
        supervisor.stop_evaluation(run)
        supervisor.stop_evaluation(run)
    end_runs(workspace)


@pytest.fixture(scope="module")
def address(place: Workspace) -> Iterator[str]:
    app = launch(place.root, block=False, mcp=True)
    yield app.local_url
    app.close()


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def test_only_the_declared_endpoints_are_offered_and_each_says_what_it_takes(client: Client):
    offered = client.view_api(return_format="dict", print_info=False)
    assert set(offered["named_endpoints"]) == PUBLIC
    assert offered["unnamed_endpoints"] == {}
    for name, endpoint in offered["named_endpoints"].items():
        assert len(endpoint["description"]) > 30, name
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["type"] != "Any", (name, parameter["parameter_name"])


@pytest.mark.train
def test_the_example_in_the_docs_does_what_it_says(client: Client, address: str, place: Workspace):
    page = (ROOT / "ftlab" / "docs" / "programs.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    assert "http://127.0.0.1:7860" in example
    known: dict[str, Any] = {}
    exec(example.replace("http://127.0.0.1:7860", address), known)
    assert known["inspection"]["splits"] == {"train": 600, "validation": 100, "test": 100}
    assert known["done"]["state"] == "completed"
    assert known["done"]["measures"]["exact_match"]["adapted"] > 0.5
    assert known["answers"]["adapted"] and known["answers"]["adapted"] != known["answers"]["base"]
    run = place.run(known["run"])
    assert supervisor.wait(run).state == "stopped", "it was stopped before it was trained"
    evaluating = client.predict(known["done"]["run"], api_name="/status")["evaluation"]
    assert evaluating in ("queued", "running", "completed")


def test_the_chat_of_a_program_gives_the_answers_of_the_evaluation(client: Client, quickstart: Quickstart):
    """It is asked with the very tokens that the held-out rows were (tests/unit/test_asked.py has all kinds of data)."""
    row, settings = quickstart.run.predictions()[0], quickstart.run.comparison()["settings"]
    asked = {"run": quickstart.run.id, "max_new_tokens": settings["max_new_tokens"]}
    told = client.predict(row["prompt"], **asked, api_name="/chat")
    assert (told["base"], told["adapted"]) == (row["base"], row["adapted"])


@pytest.mark.parametrize(
    ("endpoint", "given", "said"),
    [
        ("/inspect", {"source": "suport_triage"}, "Try: 'support_triage'"),
        ("/inspect", {"source": "support_triage", "settings": {"seeds": 1}}, "did you mean"),
        ("/train", {"config": {"optimisation": {"epochs": -1}}}, "Given: -1. Allowed: a number above 0.0"),
        ("/train", {"config": [1, 2]}, "config cannot be [1, 2]. Allowed: an object {...} or null"),
        ("/train", {"config": {"data": None}}, "cannot take this value. Given: None"),
        ("/train", {"config": {"nonsense": 1}}, "Unknown setting 'nonsense'"),
        ("/inspect", {"source": None}, "source cannot be null. Allowed: text"),
        ("/inspect", {"source": "support_triage", "settings": [1]}, "settings cannot be [1]"),
        ("/status", {"run": 5}, "run cannot be 5. Allowed: text"),
        ("/stop", {"run": {"a": 1}}, "run cannot be"),
        ("/evaluate", {"run": "x", "max_rows": "5"}, 'max_rows cannot be "5". Allowed: a whole number or null'),
        (
            "/train",
            {"config": {"evaluation": {"own_metrics": "/etc/passwd", "after_training": False}}},
            "from one folder",
        ),
        ("/evaluate", {"run": "x", "max_rows": True}, "max_rows cannot be true"),
        ("/chat", {"message": "Hello", "temperature": "0.5"}, 'temperature cannot be "0.5". Allowed: a number'),
        ("/arena_results", {"test": 3}, "test cannot be 3. Allowed: text or null"),
        ("/status", {"run": "nobody"}, "There is no run called 'nobody'"),
        ("/chat", {"message": "Hello", "run": "nobody"}, "There is no run called"),
        ("/arena_results", {"test": "none"}, "There is no such blind test"),
    ],
)
def test_an_expected_failure_reaches_the_program_as_one_message(client: Client, endpoint, given, said):
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name=endpoint)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_too_few_values_are_said_in_a_sentence(address: str):
    event = httpx.post(f"{address}gradio_api/call/inspect", json={"data": []}, timeout=60).json()["event_id"]
    told = httpx.get(f"{address}gradio_api/call/inspect/{event}", timeout=60).text
    assert "Too few values. Given: 0. Allowed: 2" in told


def test_a_program_does_not_see_a_tally_that_is_hidden(client: Client, place: Workspace):
    store = open_store(place)
    test_id, raters = opened(store, prompts=4)
    trial = trials.next_trial(store, raters[0])
    trials.vote(store, raters[0], trial.id, "left", seconds=1.0)
    found = client.predict(api_name="/arena_results")
    assert (found["test"], found["revealed"], found["votes"]["cast"]) == (test_id, None, 1)
    assert not {"verdict", "text", "win_rate", "counts"} & set(found)


def test_agents_find_the_same_endpoints_as_tools(address: str):
    tools = httpx.get(f"{address}gradio_api/mcp/schema", timeout=60).json()
    assert {f"/{tool['name']}" for tool in tools} == PUBLIC
    chat = next(tool for tool in tools if tool["name"] == "chat")
    assert chat["inputSchema"]["properties"]["message"]["description"] == "what is asked"
    assert json.dumps(tools).count("workspace") == 0, "nobody chooses where the app works"


def test_without_its_package_mcp_is_refused_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[mcp\]"'):
        launch(tmp_path / "workspace", block=False, mcp=True)
