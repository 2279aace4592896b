"""What earlier versions wrote still opens: tests/fixtures/workspace_* were made by the versions in their names."""

import json
import shutil
from pathlib import Path

import pytest

from ftlab.core.workspace import Workspace
from ftlab.data.version_store import history
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.blind_test import picture as blind_test_picture
from ftlab.ui.tabs.data import versions_view as version_views
from ftlab.ui.tabs.evaluate import result as evaluate_result
from ftlab.ui.tabs.preferences import before_after
from ftlab.ui.tabs.runs import tab as runs
from ftlab.ui.tabs.train import sweep
from tests.fixtures.make_workspace import QUESTIONS, ask

FOLDERS = sorted((Path(__file__).parents[1] / "fixtures").glob("workspace_*"))
# What an answer says of the machine or the moment, and what a command writes anew.
OF_NOW = {"directory", "report", "device", "created"}


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def old(request, tmp_path_factory):
    """(a copy of the workspace, what it was asked about, what was said of it then)"""
    root = tmp_path_factory.mktemp("old") / "home"
    shutil.copytree(request.param, root)
    then = json.loads((root / "expected.json").read_text().replace("HOME", str(root)))
    return Workspace.open(root), then["names"], then["answers"]


@pytest.fixture(autouse=True)
def home(old, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(old[0].root))


def lost(then, now, where=""):
    """What was said `then` and is not said `now`, by its place; what is new does not count."""
    if isinstance(then, dict) and isinstance(now, dict):
        kept = [name for name in then if name not in OF_NOW]
        return [place for name in kept for place in lost(then[name], now.get(name), f"{where}.{name}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [place for n, pair in enumerate(zip(then, now, strict=True)) for place in lost(*pair, f"{where}[{n}]")]
    if isinstance(then, str) and " " in then:  # a sentence, whose words may change
        same = isinstance(now, str) and now != ""
    else:
        same = then == (pytest.approx(now) if isinstance(now, float) else now)
    return [] if same else [f"{where}: {then!r} then, {now!r} now"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_json_says_of_an_old_workspace_what_it_said_then(old, question):
    _, names, answers = old
    assert lost(answers[question], ask(QUESTIONS[question], **names)) == []


def test_the_pages_show_an_old_workspace(old):
    workspace, names, answers = old
    run, pairs = workspace.run(names["run"]), workspace.run(names["pairs"])
    table = runs.runs_table(workspace.runs(), run.id)
    assert all(other.id in table for other in workspace.runs())
    for each in (run, pairs):
        assert "completed" in runs.detail(each).lower() and run_view.outcome(each, each_status(each))
    comparison = run.comparison()
    assert run.id in evaluate_result.result(run, comparison)
    assert run_view.verdict_text(run, comparison)
    assert run.id in sweep.result(answers["sweep show"]["sweep"], workspace)
    assert names["version"][:6] in version_views.history_table(
        history(workspace), None, version_views.runs_of(workspace)
    )
    assert before_after.compared(workspace) == [pairs.id]


def each_status(run):
    from ftlab.training.supervisor import status

    return status(run)


def test_the_votes_of_an_old_blind_test_are_counted(old):
    workspace, _, answers = old
    test_id = answers["arena verdict"]["test"]
    page = blind_test_picture.picture(test_id, workspace)
    assert "8" in page["verdict"] + page["facts"], "two raters, four prompts"


def test_a_value_that_is_lost_is_found():
    assert lost({"a": [1.0, {"b": 2}]}, {"a": [1.0, {"b": 3, "c": 4}]}) == [".a[1].b: 2 then, 3 now"]
    assert lost({"a": 1}, {}) == [".a: 1 then, None now"]
