"""Every `python -m ftlab` command of the documentation, run as it stands, page by page, in the order of the page.

Not run: blocks marked `<!-- needs: ... -->`, which say what this machine lacks; sentences that name a command of the
repository (pytest, .ci, tests.benchmarks), which tests/unit/test_docs.py looks up; and what ELSEWHERE names, which
another test runs. Training is cut short by two settings at the end of the command. Servers are stopped once they
answer.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from ftlab.core.workspace import Workspace
from ftlab.training.supervisor import active_runs, status, stop, waiting
from tests.conftest import ROOT, offline_environment
from tests.unit.test_docs import NAMES, commands, unmarked

pytestmark = [pytest.mark.train, pytest.mark.long]

ELSEWHERE = {
    "quickstart": "tests/conftest.py",
    "loop": "tests/integration/test_arena_loop.py",
    "push": "tests/unit/test_data_export.py",
    "arena export": "tests/unit/test_arena_bases.py",  # here nobody votes
}
SHORT = ["--set", "optimisation.max_steps=2", "--set", "evaluation.max_rows=8"]
SETTINGS = """\
data: {source: my.csv}
optimisation: {max_steps: 2}
evaluation: {max_rows: 8}
"""
METRIC = '''\
import datasets
import evaluate


class Thanks(evaluate.Metric):
    """How many answers say thank you."""

    def _info(self):
        texts = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="Says thank you.", citation="", inputs_description="", features=texts)

    def _compute(self, predictions, references):
        return {"thanks": sum("thank" in answer.lower() for answer in predictions) / len(predictions)}
'''
PAGES = [name for name in NAMES if any(words[1:3] == ["-m", "ftlab"] for words in commands(unmarked(name)))]


def _call(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run `words` in `folder`; its output. A server is stopped once it has printed its address."""
    command = [sys.executable, *words[1:]]
    serves = words[-1] == "app" or words[3] == "serve" or words[3:5] == ["arena", "serve"]
    if not serves:
        done = subprocess.run(
            command, cwd=folder, env=environment, input="Hello\n", capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, (" ".join(words), done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout
    log = folder / "server.log"
    with log.open("w") as out, psutil.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out) as server:
        until = time.monotonic() + 120
        while "http://127.0.0.1" not in log.read_text() and server.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        running = server.poll() is None
        for process in [*server.children(recursive=True), server]:
            process.kill()
    assert running and "http://127.0.0.1" in log.read_text(), (" ".join(words), log.read_text())
    return log.read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, and a workspace with three finished runs."""
    folder = tmp_path_factory.mktemp("documented")
    rows = [(f"Where is order {n}?", f"Order {n} is on its way.", f"c{n % 20}") for n in range(120)]
    for name, headers in (
        ("my.csv", ("question", "answer", "customer")),
        ("guests.csv", ("Gast schreibt", "Antwort", "customer")),
    ):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([headers, *rows])
    chats = "".join(json.dumps({"prompt": f"Case {q}", "completion": a}) + "\n" for q, a, _ in rows)
    (folder / "my.jsonl").write_text(chats)
    (folder / "other.jsonl").write_text(chats)
    (folder / "handbook.txt").write_text(
        "\n\n".join(f"Rule {n}. Orders above {n} are checked twice." for n in range(60))
    )
    (folder / "manuals").mkdir()
    (folder / "manuals" / "orders.md").write_text(
        "# Orders\n\nOrders above 100 euros are checked twice: once by the person who takes them, and once more by the "
        "person who packs them. Orders below are checked once.\n"
    )
    (folder / "run.yaml").write_text(SETTINGS)
    (folder / "ticket.schema.json").write_text('{"type": "object"}')
    (folder / "thanks.py").write_text(METRIC)
    for seed in ("1", "2", "3"):
        _train(folder, seed)
    return folder


def _train(folder: Path, seed: str) -> None:
    words = ["python", "-m", "ftlab", "train", "run.yaml", "--set", f"optimisation.seed={seed}"]
    _call(words, folder, _environment(folder))


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("FTLAB_BASES", "FTLAB_TEST_KEEP")}
    own = {"PYTHONPATH": str(ROOT), "FTLAB_HOME": str(folder / "workspace"), "FTLAB_SERVE_KEY": "x" * 8}
    return offline_environment() | own | kept


def _filled(words: list[str], runs: Iterator[str], reward_model: str | None) -> list[str]:
    """The placeholders of a page replaced by runs and names that there are."""
    filled = list(words)
    for at, word in enumerate(filled):
        if word == "RUN":
            filled[at] = reward_model or "last" if filled[at - 1] == "--reward-model" else next(runs)
        elif word == "model.start=RUN":
            filled[at] = f"model.start={next(runs)}"
        elif word in ("SOURCE", "NAME"):
            filled[at] = {"SOURCE": "my.csv", "NAME": "Ana"}[word]
    return filled


@pytest.fixture
def rested(folder: Path) -> Path:
    """The folder with nothing at work, whatever an earlier page left, and with `last` a run that answers questions."""
    workspace = Workspace(folder / "workspace")
    for run in active_runs(workspace) + waiting(workspace):
        stop(run)
    while active_runs(workspace) or waiting(workspace):
        time.sleep(0.5)
    newest = workspace.run("last")
    if status(newest).state != "completed" or not re.search(r"^stage: sft", newest.config_file.read_text(), re.M):
        _train(folder, "4")
    return folder


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, rested: Path):
    folder, workspace = rested, Workspace(rested / "workspace")
    for words in commands(unmarked(page)):
        if words[1:3] != ["-m", "ftlab"] or "..." in words or "COMMAND" in words:
            continue
        called = " ".join(words[3:5])
        if phrase := next((phrase for phrase in ELSEWHERE if phrase in called), None):
            assert phrase.split()[-1] in (ROOT / ELSEWHERE[phrase]).read_text()
            continue
        configs = {run.id: run.config_file.read_text() for run in workspace.runs()}
        answering = [run for run, text in configs.items() if re.search(r"^stage: sft", text, re.M)]
        scoring = [run for run, text in configs.items() if re.search(r"^stage: reward", text, re.M)]
        preferring = [run for run, text in configs.items() if re.search(r"^stage: (dpo|kto)", text, re.M)]
        # A reward model scores what a run answered before and after it learned from preferences.
        runs = preferring if "--reward-model" in words else answering
        words = _filled(words, iter(runs), next(iter(scoring), None))
        trains = words[3] == "train" or words[3:5] == ["sweep", "start"]
        _call([*words, *(SHORT if trains else [])], folder, _environment(folder))
        while active_runs(workspace) or waiting(workspace):  # a sweep goes on by itself; "last" is one that has ended
            time.sleep(0.5)
