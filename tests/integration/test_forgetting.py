"""Forgetting and its remedy, seen on the starter; memorisation and tasks of lm-evaluation-harness of the main job."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ftlab.api import Run
from ftlab.config import load_config, with_settings
from ftlab.core.jobs import Stopped
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.harness import evaluate_tasks, kept_measures
from ftlab.evaluation.remedies import remedies
from ftlab.samples import sample_path
from tests.conftest import Quickstart, run_cli
from tests.integration.conftest import Trained

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def without_replay(train_here: Callable[[dict[str, Any]], Trained]) -> dict[str, Any]:
    """The comparison of a run as the main job, but without general examples, and stopped after a seventh of its way."""
    trained = train_here(
        {
            "name": "without-replay",
            "data": {"source": "support_triage"},
            "optimisation": {"max_steps": 45, "evaluations_per_epoch": 1},
            "evaluation": {"after_training": False, "before_training": False, "max_rows": 12, "memorisation": False},
        }
    )
    return evaluate_run(trained.run) | {"config": trained.config, "run": trained.run}


def value(comparison: dict[str, Any], name: str, side: str) -> float:
    return next(measure for measure in comparison["measures"] if measure["name"] == name)["values"][side]


def test_without_replay_the_starter_forgets_what_it_knew(without_replay):
    assert value(without_replay, "general_accuracy", "base") == 0.97  # as the card of general_probes says
    assert "general_accuracy_replayed" not in [one["name"] for one in without_replay["measures"]]
    assert value(without_replay, "general_accuracy", "adapted") < 0.5
    # Measured: 1.27 times (seed 0; the spread over seeds was not).
    assert value(without_replay, "general_bits_per_byte", "adapted") > 1.2 * value(
        without_replay, "general_bits_per_byte", "base"
    )
    forgetting = without_replay["forgetting"]
    assert forgetting["forgot"] is True and forgetting["known"] == 194
    assert forgetting["score"] == forgetting["lost"] / 194 > 0.5


def test_with_replay_it_holds_the_kinds_that_are_replayed_while_it_learns_the_task(quickstart: Quickstart):
    """In seven times as many steps: conversations and documents that are mixed in, and half the learning rate."""
    comparison = quickstart.run.comparison()
    assert value(comparison, "exact_match", "adapted") > 0.65
    parts = {part["measure"]: part for part in comparison["forgetting"]["parts"]}
    assert parts["general_accuracy_replayed"]["score"] < 0.1 < parts["general_accuracy"]["score"]
    # Measured: 93% of the questions, 0.66 bits per byte against 0.61; on another machine rounding moves it some points.
    assert value(comparison, "general_accuracy_replayed", "adapted") > 0.85
    base, adapted = (value(comparison, "general_bits_per_byte", side) for side in ("base", "adapted"))
    assert adapted < 1.15 * base
    # Of stories and mails, which nothing replays, the documents are held better than the answers in a chat: 0.32
    # bits per byte against 0.24.
    base, adapted = (value(comparison, "general_chat_bits_per_byte", side) for side in ("base", "adapted"))
    assert adapted > 1.1 * base and comparison["forgetting"]["forgot"] is True


def test_the_first_remedy_is_the_run_that_holds_most(without_replay, quickstart: Quickstart):
    config = without_replay["config"]
    first = remedies(without_replay, config)[0]
    tried, held = with_settings(config, first.changes), load_config(quickstart.run.config_file)
    assert first.needs is None
    assert tried.data == held.data
    assert tried.optimisation.learning_rate == held.optimisation.learning_rate == 0.002
    assert next(iter(Run(without_replay["run"], quickstart.workspace).remedies().values())) == tried


def test_the_main_job_learns_its_task_and_not_its_rows(quickstart: Quickstart):
    found = quickstart.run.comparison()["memorisation"]
    assert found["rows"] == {"train": 60, "held_out": 60}
    assert found["memorised"] is False and found["overfitted"] is False
    assert set(found["losses"]) == {"base", "adapted"}
    # Three quarters of the gain at least hold for rows it has never seen.
    assert found["carried_over"] > 0.75
    assert found["leaks"]["pairs"] == []
    assert "No sign that it memorized rows" in found["text"]


def test_tasks_of_the_harness_are_asked_of_base_and_adapted_model(quickstart: Quickstart, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason='the extra is not installed: pip install -e ".[harness]"')
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    probes = sample_path("general_probes") / "test.jsonl"
    task = {
        "task": "ftlab_probes",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(probes)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{messages[0].content}}",
        "doc_to_target": "{{messages[1].content}}",
        "generation_kwargs": {"until": ["<|end|>"], "max_gen_toks": 24, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "probes.yaml").write_text(json.dumps(task))  # JSON is YAML
    found = evaluate_tasks(quickstart.run, [str(tmp_path)], limit=30)
    (measure,) = found["measures"]
    assert measure["name"] == "harness/ftlab_probes/exact_match" and measure["rows"] == 30
    # The same questions in ftlab's own evaluation, which has another code from the prompt to the score.
    own = [json.loads(line) for line in quickstart.run.probes_file.read_text().splitlines()][:30]
    for side in ("base", "adapted"):
        assert measure["values"][side] == sum(row[side].strip() == row["reference"] for row in own) / 30
    assert kept_measures(quickstart.run) == found["measures"]
    shown = quickstart.run.comparison()["measures"]
    assert [one["name"] for one in shown].count("harness/ftlab_probes/exact_match") == 1
    with pytest.raises(Stopped):
        evaluate_tasks(quickstart.run, [str(tmp_path)], limit=2, should_stop=lambda: True)
    assert kept_measures(quickstart.run) == found["measures"], "what was there stays"


def test_a_task_that_is_not_there_is_one_sentence(quickstart: Quickstart):
    done = run_cli("evaluate", quickstart.run.id, "--workspace", str(quickstart.workspace.root), "--tasks", "/no/such")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "lm-evaluation-harness" in done.stderr
