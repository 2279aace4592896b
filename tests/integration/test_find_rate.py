"""A rate trial on the starter: for real, in a process of its own."""

from __future__ import annotations

import json

import pytest

from ftlab.config import build_config, load_config
from ftlab.core.steps import Steps
from ftlab.errors import InputError
from ftlab.training.preflight.rate_trial import find_rate
from tests.conftest import run_cli

ONE_THREAD = {"launcher": {"threads": 1}}


def trial(config, workspace, rates):
    phases = []
    with Steps(find_rate(config, workspace, rates=rates)) as steps:
        phases += steps
    return steps.result, phases


@pytest.mark.long
def test_the_usual_rate_beats_one_that_is_far_too_low_and_one_that_diverges_is_refused(workspace):
    config = build_config(
        {"data": {"max_rows": 120}, "method": {"name": "full"}, "optimisation": {"learning_rate": 1e-6}} | ONE_THREAD
    )
    found, phases = trial(config, workspace, [1e-6, 1e-3, 0.1])
    low, usual, high = found.tried
    assert found.before > low.loss > usual.loss
    assert high.diverged and not low.diverged and not usual.diverged
    assert (found.taken, found.clear) == (1e-3, True)
    assert any(phase.startswith("rate 0.001 (2 of 3): step ") for phase in phases)
    assert list((workspace.root / "runs").glob("*")) == []


def test_the_same_rate_gives_the_same_loss_whatever_was_tried_before_it(workspace, rows_file):
    config = build_config({"data": {"source": str(rows_file)}} | ONE_THREAD)
    found, _ = trial(config, workspace, [4e-3, 1e-2, 4e-3 * (1 + 1e-12)])
    first, _, again = found.tried
    assert first.loss == pytest.approx(again.loss, rel=1e-4)


def test_train_takes_the_rate_that_it_found(workspace, rows_file):
    done = run_cli(
        *("train", "--find-rate", "--json", "--detach", "--workspace", str(workspace.root)),
        *("--set", f"data.source={rows_file}", "--set", "optimisation.max_steps=8", "--set", "launcher.threads=1"),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("rate  ") for line in lines) == 3
    [taken] = [line for line in lines if line.startswith("taken ")]
    run = workspace.run(json.loads(done.stdout)["run"])
    assert f"{load_config(run.config_file).optimisation.learning_rate:g}" in taken


def test_without_validation_rows_there_is_nothing_to_judge_by(workspace, rows_file):
    config = build_config({"data": {"source": str(rows_file), "validation_fraction": 0}} | ONE_THREAD)
    with pytest.raises(InputError, match="validation"):
        trial(config, workspace, [])
