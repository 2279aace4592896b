"""Several seeds, one verdict: models are a sample as rows are, and what is said holds for other runs too."""

from __future__ import annotations

import json
import math

import pytest

from ftlab.config import build_config
from ftlab.core.files import write_json, write_jsonl
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.seeds import both_sources, difference_text, read_verdict, seeds_verdict, verdict_with
from ftlab.training import sweep
from ftlab.training.status import RunStatus
from ftlab.training.sweep import Sweep
from ftlab.ui.tabs.train import sweep as sweep_results
from tests.benchmarks.seeds import verdicts

HELP = {"title": "Exact match", "kind": "share", "unit": "%", "better": "higher", "group": "task", "help": ""}


def make_run(workspace, right, *, base=(), better=None, forgot=False, name="exact_match", **scores):
    """A run whose adapted model is right in the rows `right`, of 40."""
    run = workspace.create_run("seed")
    run.config_file.write_text("name: x\n")
    write_status(run.status_file, RunStatus(state="completed", started=1.0, finished=2.0))
    rows = []
    for row in range(40):
        values = {"base": float(row in base), "adapted": float(row in right)}
        more = {key: {"base": 0.2, "adapted": value} for key, value in scores.items()}
        told = {"base_correct": row in base, "adapted_correct": row in right, "base_loss": 1.0, "adapted_loss": 0.5}
        message = [{"role": "user", "content": f"q{row}"}]
        rows.append(
            {"row": row, "messages": message, "reference": "a", "scores": {"exact_match": values, **more}} | told
        )
    measure = HELP | {"name": "exact_match", "values": {"base": len(base) / 40, "adapted": len(right) / 40}}
    verdict = {"better": better, "measure": name, "forgot": forgot}
    write_jsonl(run.predictions_file, rows)
    other = [
        HELP | {"name": key, "title": key, "values": {"base": 0.2, "adapted": value}} for key, value in scores.items()
    ]
    write_json(run.comparison_file, {"split": "test", "measures": [measure, *other], "verdict": verdict})
    return run


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path)


def test_the_interval_joins_what_rows_and_what_runs_leave_open():
    base = [0.0, 0.5, 0.25, 0.75]
    gains = [[0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.1, 0.6], [0.2, 0.2, 0.2, 0.2]]
    runs = [(base, [b + g for b, g in zip(base, one, strict=True)]) for one in gains]
    # By hand: means of rows .2 .2 .2 .4 (SE .05, t 3.1824), of runs .25 .3 .2 (SE .05 / sqrt 3, t 4.3027).
    half = math.hypot(3.1824 * 0.05, 4.3027 * 0.05 / 3**0.5)
    assert both_sources(runs) == pytest.approx([0.25 - half, 0.25 + half], abs=1e-4)
    # Ten rows of which all change alike: Newcombe (1998, method 10) for 0 of 10 and 10 of 10, not a point.
    assert both_sources([([0] * 10, [1] * 10)] * 3) == pytest.approx([0.6076, 1], abs=1e-3)


def test_rows_of_one_cluster_are_less_than_as_many_rows():
    runs = [([0.0] * 12, [1.0] * 6 + [0.0] * 6)] * 3
    alone, tied = both_sources(runs), both_sources(runs, [row // 3 for row in range(12)])
    assert tied[0] < alone[0] < 0.5 < alone[1] < tied[1]


def test_runs_that_agree_are_better_and_the_spread_is_said(workspace):
    runs = [(seed, make_run(workspace, range(right), better=True)) for seed, right in enumerate((30, 32, 34))]
    found = seeds_verdict(runs)
    assert found.better is True and found.seeds == [0, 1, 2] and found.rows == 40 and found.decided == ["exact_match"]
    one = found.measures[0]
    assert (round(one.mean, 9), one.low, one.high, one.base) == (0.8, 0.75, 0.85, 0.0)
    assert one.deviation == pytest.approx(0.05)
    low, high = one.interval
    assert 0.55 < low < 0.75 and 0.85 < high <= 1
    assert one.p is not None and one.p < 0.001
    assert "80% on average of 3 runs (75% to 85%, standard deviation 5.0 points) against 0% of the base" in found.text
    assert "with both seeds and rows taken as random" in found.text and "Each run by itself: 3 better." in found.text
    assert difference_text(one).startswith("+80.0 points (+")


def test_seeds_that_disagree_leave_it_open_though_these_models_are_better(workspace):
    runs = [(0, make_run(workspace, range(38), better=True)), (1, make_run(workspace, range(36), better=True))]
    runs.append((2, make_run(workspace, range(8), base=range(10), forgot=True)))
    found = seeds_verdict(runs)
    one = found.measures[0]
    assert one.p is not None and one.p < 0.05 and found.better is None
    assert found.text.startswith("Cannot tell whether a run like these is better")
    assert "2 better, 1 cannot tell" in found.text and "In 1 of 3 something was forgotten." in found.text


def test_of_free_text_the_loss_alone_proves_nothing(workspace):
    runs = [(seed, make_run(workspace, (), name="perplexity", rouge_l=0.2)) for seed in range(3)]
    found = seeds_verdict(runs)
    assert found.decided == ["loss", "rouge_l"] and found.better is None
    better = [(seed, make_run(workspace, (), name="perplexity", rouge_l=0.6)) for seed in range(3)]
    assert seeds_verdict(better).better is True
    for verdict in (None, True):  # without an overlap of rows the single verdicts count, which look at BLEU
        alone = [(seed, make_run(workspace, (), name="perplexity", better=verdict)) for seed in range(3)]
        found = seeds_verdict(alone)
        assert found.decided == ["loss"] and found.better is verdict


def test_at_most_one_verdict_in_twenty_is_false_where_seeds_matter_and_by_rows_alone_many_are():
    both, alone = verdicts(rows=200, runs=3, between=1.0, gain=0.0, repeats=150)
    assert both <= 0.05 and alone > 0.3
    assert verdicts(rows=200, runs=3, between=0.0, gain=1.5, repeats=30)[0] > 0.9, "and a gain is found"


def test_too_few_runs_or_none_in_common_are_no_verdict(workspace):
    one = make_run(workspace, range(20))
    empty = workspace.create_run("empty")
    with pytest.raises(FtlabError, match="1 of 2 runs have been compared"):
        seeds_verdict([(0, one), (1, empty)])
    two = seeds_verdict([(0, one), (1, make_run(workspace, range(21))), (2, empty)])
    assert two.notes[0].startswith("1 of 3 runs have no comparison") and "Two runs say little" in two.notes[1]


def test_a_sweep_over_seeds_keeps_its_verdict_and_every_run_knows_it(workspace):
    runs = [make_run(workspace, range(30 + seed), better=True) for seed in range(3)]
    started = Sweep("sweep-1", 0.0, {sweep.SEED: [0, 1, 2]}, [
        {"run": run.id, "values": {sweep.SEED: seed}} for seed, run in enumerate(runs)
    ])  # fmt: skip
    write_json(workspace.sweeps_folder / "sweep-1.json", started.__dict__)
    found = sweep.verdict(started, workspace)
    kept = json.loads((workspace.sweeps_folder / "verdict-sweep-1.json").read_text())
    assert read_verdict(kept) == found == verdict_with(runs[1])
    assert [one.id for one in sweep.sweeps(workspace)] == ["sweep-1"], "a verdict is no sweep"
    shown = str(sweep_results.result("sweep-1", workspace))
    assert "A run like these is better than the base" in shown
    assert sweep.verdict(Sweep("s", 0.0, {"method.rank": [8, 16]}), workspace) is None


@pytest.mark.parametrize(
    "settings, count, said",
    [
        ({}, 1, "number of seeds"),
        ({}, 25, "number of seeds"),
        ({"evaluation": {"after_training": False}}, 3, "compared"),
    ],
)
def test_seeds_without_a_verdict_are_refused_before_anything_starts(workspace, settings, count, said):
    with pytest.raises(InputError, match=said):
        sweep.submit_seeds(build_config(settings), count, workspace)
    assert workspace.runs() == []


def test_runs_differ_in_their_seed_alone():
    every = sweep.combinations(build_config({"name": "a"}), {sweep.SEED: [0, 1, 2]})
    plain = [one.model_dump(exclude={"name": True, "optimisation": {"seed"}}) for _, one in every]
    assert plain[0] == plain[1] == plain[2] and [one.optimisation.seed for _, one in every] == [0, 1, 2]
