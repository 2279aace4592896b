"""The registered plan of a blind test, and the folder with which others check its verdict."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from ftlab.arena import blind_tests, trials
from ftlab.arena.analysis import write_analysis
from ftlab.arena.store import Store, answers, open_store, prompts
from ftlab.arena.tally import evaluate
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.report.arena import check_lines
from tests.arena import opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path / "workspace"))


def vote(store: Store, rater: str, draw: random.Random, better: float, most: int = 10**6) -> None:
    """Votes of one rater, who prefers contestant 1 with the probability `better`; some ties and skips."""
    while most and (trial := trials.next_trial(store, rater)) is not None:
        most -= 1
        kind = draw.random()
        side = "left" if trial.left.endswith("by 1") == (draw.random() < better) else "right"
        choice = "skip" if kind < 0.05 else "both_good" if kind < 0.15 else "both_bad" if kind < 0.2 else side
        trials.vote(store, rater, trial.id, choice, comment="I know who this is")


def recomputed(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(folder / "recompute.py")], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("better", "verdict", "settings"),
    [
        (0.9, "better", {}),
        (0.1, "worse", {"votes_per_prompt": 2}),
        (0.5, None, {"votes_per_prompt": 2}),
        (0.85, None, {"contestants": 3}),
        (0.8, "no_worse", {"margin": 10}),
        (0.05, "worse", {"margin": 10, "votes_per_prompt": 2}),
    ],
)
def test_a_script_with_scipy_alone_comes_to_the_same_verdict(store, tmp_path, better, verdict, settings):
    test, raters = opened(store, ("Ana", "Bo"), prompts=24, **settings)
    draw = random.Random(7)
    with pytest.raises(InputError, match="hidden"):
        write_analysis(store, test, tmp_path / "analysis")
    for rater in raters:
        vote(store, rater, draw, better)
    blind_tests.close_test(store, test)
    tally = evaluate(store, test)
    if verdict:
        assert tally["verdict"] == verdict
    folder = write_analysis(store, test, tmp_path / "analysis")
    done = recomputed(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rule = json.loads((folder / "plan.json").read_text())["rule"]["text"]
    assert ("50% minus" in rule) == ("margin" in settings)
    assert "as registered" in done.stdout and done.stdout.count("As ftlab says.") == len(tally["pairs"] or [tally])
    # Nobody is named, and nothing that a person wrote is in it.
    text = "".join((folder / name).read_text() for name in ("votes.csv", "verdict.json", "plan.json"))
    assert not any(word in text for word in ("Ana", "Bo\n", "I know who"))
    rows = list(csv.DictReader((folder / "votes.csv").open()))
    assert {row["rater"] for row in rows} == {"1", "2"} and {row["left"] for row in rows} <= set("ABC")
    # A vote that was changed afterwards is noticed.
    wins = json.loads((folder / "verdict.json").read_text())
    wins["pairs"][0]["wins"] += 1
    (folder / "verdict.json").write_text(json.dumps(wins))
    assert recomputed(folder).returncode == 1


def test_what_changes_after_a_test_opened_is_said_with_its_verdict(store):
    test, raters = opened(store, ("Ana",), prompts=6, planned=4)
    vote(store, raters[0], random.Random(1), 0.9)
    plan = evaluate(store, test)["registered"]
    assert plan is not None and plan["kept"] and len(plan["sha256"]) == 64
    with store.writing() as connection:
        some = connection.execute(prompts.select()).first()
        connection.execute(update(answers).where(answers.c.prompt_id == some.id).values(text="better now"))
    tally = evaluate(store, test)
    assert not tally["registered"]["kept"]
    assert "no longer the same" in dict(check_lines(tally))["Plan"]
