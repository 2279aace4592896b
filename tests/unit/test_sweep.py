"""A sweep tries every combination of the values of one or two settings and says which did best."""

from __future__ import annotations

import pytest

from ftlab.config import build_config
from ftlab.core.files import append_jsonl, write_json
from ftlab.core.jobs import write_status
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.training import sweep
from ftlab.training.status import RunStatus
from ftlab.training.sweep import Sweep, combinations, compare, read_values


def test_every_combination_becomes_a_checked_run_with_its_own_name():
    every = combinations(build_config({}), {"optimisation.learning_rate": [1e-4, 3e-4], "method.rank": [8, 16, 32]})
    assert len(every) == 6
    assert {(one.optimisation.learning_rate, one.method.rank) for _, one in every} == {
        (rate, rank) for rate in (1e-4, 3e-4) for rank in (8, 16, 32)
    }
    assert len({one.name for _, one in every}) == 6


def test_values_are_read_as_people_write_them():
    assert read_values("optimisation.learning_rate", "1e-4, 3E-4,0.001") == [1e-4, 3e-4, 1e-3]
    assert read_values("method.name", "lora, full") == ["lora", "full"]
    assert read_values("method.rank", " 8 ,16") == [8, 16]


@pytest.mark.parametrize(
    "vary, said",
    [
        ({"method.rnk": [8, 16]}, "did you mean method.rank"),
        ({"data.source": ["a", "b"]}, "cannot be varied"),
        ({"method.rank": [8, 8]}, "listed twice"),
        ({"method.rank": [8]}, "at least two values"),
        ({"method.rank": list(range(1, 26))}, "too many runs"),
        ({}, "one or two settings"),
        ({"method.rank": [8, -1]}, "method.rank"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_before_anything_starts(vary, said):
    with pytest.raises(InputError, match=said):
        combinations(build_config({}), vary)


def test_the_runs_are_ranked_by_their_score_and_then_by_validation_loss(tmp_path):
    workspace = Workspace.open(tmp_path)
    runs = []
    for rank, loss, match in ((8, 0.5, 0.7), (16, 0.3, 0.9), (32, 0.2, 0.7), (64, 0.1, None)):
        run = workspace.create_run(f"rank {rank}")
        run.config_file.write_text("name: x\n")
        write_status(run.status_file, RunStatus(state="completed", started=1.0, finished=61.0))
        append_jsonl(run.metrics_file, {"step": 1, "eval_loss": loss + 1})
        append_jsonl(run.metrics_file, {"step": 2, "eval_loss": loss})
        append_jsonl(run.metrics_file, {"step": 3, "eval_loss": float("nan")})
        if match is not None:
            run.evaluation.mkdir()
            write_json(run.comparison_file, {"adapted": {"exact_match": match}, "base": {}})
        runs.append({"run": run.id, "values": {"method.rank": rank}})
    runs.append({"run": "deleted-since", "values": {"method.rank": 128}})
    rows = compare(Sweep("sweep-1", 0.0, {"method.rank": [8, 16, 32, 64, 128]}, runs), workspace)
    assert [row["values"]["method.rank"] for row in rows] == [16, 32, 8, 64]
    assert rows[0]["validation_loss"] == 0.3 and rows[0]["seconds"] == 60


def test_what_can_be_varied_are_the_settings_of_method_and_optimisation():
    paths = sweep.settings_to_vary()
    assert {"method.rank", "optimisation.learning_rate", "model.base"} <= paths.keys()
    assert not [path for path in paths if path.startswith(("data.", "evaluation.", "launcher."))]
