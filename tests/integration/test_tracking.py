"""Trackers: a run reports to those that it names, to the folder that it says, and to none otherwise."""

from __future__ import annotations

import os

import pytest

from ftlab.config import build_config, load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import InputError
from ftlab.training import arguments as tracking
from ftlab.training import supervisor

pytestmark = pytest.mark.train


def test_a_run_writes_the_log_of_tensorboard_into_its_own_folder(train_here, rows_file, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")  # so that what the run sets is taken back
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    trained = train_here(
        {
            "name": "tracked",
            "data": {"source": os.fspath(rows_file)},
            "optimisation": {"max_steps": 3, "batch_size": 4, "evaluations_per_epoch": 1},
            "tracking": {"report_to": "tensorboard"},
        }
    )
    assert load_config(trained.run.config_file).tracking.report_to == ["tensorboard"]
    events = accumulator.EventAccumulator(os.fspath(trained.run.tracking)).Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss")}
    own = {row["step"]: row["loss"] for row in trained.run.metrics() if "loss" in row}
    assert logged == pytest.approx(own, rel=1e-6)


def test_a_run_reports_to_nobody_unless_it_says_so(tmp_path):
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    from ftlab.training.arguments import stage_arguments

    run, config = RunDirectory(tmp_path / "run"), build_config({}).resolved()
    arguments = stage_arguments(run, config, "cpu", rows=20, validation=False, more={})
    assert config.tracking.report_to == [] and get_reporting_integration_callbacks(arguments.report_to) == []
    tracking.begin_tracking(run, config)
    assert not run.tracking.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("trakio", "did you mean trackio?"), ("neptune", "pip install neptune"), ("comet_ml", "pip install comet-ml")],
)
def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_anything_starts(workspace, name, said):
    config = build_config({"tracking": {"report_to": [name]}})
    with pytest.raises(InputError) as caught:
        supervisor.create(config, workspace)
    assert said in str(caught.value)
    assert workspace.runs() == []


def test_a_folder_of_ones_own_is_taken_and_a_setting_of_the_environment_left_alone(tmp_path, monkeypatch):
    config = build_config({"tracking": {"report_to": "trackio, tensorboard", "folder": os.fspath(tmp_path / "logs")}})
    monkeypatch.setenv("TRACKIO_DIR", "/elsewhere")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    tracking.begin_tracking(RunDirectory(tmp_path / "run"), config)
    assert os.environ["TRACKIO_DIR"] == "/elsewhere"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == os.fspath(tmp_path / "logs")
