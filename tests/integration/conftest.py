"""Runs on the brand voice samples that several files look at: each is trained once per session, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ftlab.config import RunConfig, build_config
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.training import supervisor, worker
from ftlab.training.status import RunStatus, StatusWriter


@dataclass(frozen=True)
class Trained:
    run: RunDirectory
    config: RunConfig
    status: RunStatus


@pytest.fixture(scope="session")
def voice_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("voice") / "workspace")


@pytest.fixture(scope="session")
def train_here(voice_workspace: Workspace) -> Iterator[Callable[[dict[str, Any]], Trained]]:
    """Train what a dictionary of settings describes, all of it, as the process of a run would."""
    import torch

    threads = torch.get_num_threads()

    def train(settings: dict[str, Any]) -> Trained:
        launcher = {"device": "cpu", "threads": 1}
        evaluation = {"after_training": False}
        config = build_config({"launcher": launcher, "evaluation": evaluation} | settings)
        run, config = supervisor.create(config, voice_workspace)
        writer = StatusWriter(run.status_file)
        try:
            writer.update(state="running")
            writer.update(state=worker.train(run, writer), phase="")
        finally:
            writer.close()
        return Trained(run, config, writer.status)

    yield train
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def voice(train_here: Callable[[dict[str, Any]], Trained]) -> Trained:
    """The starter after a short instruction tuning on brand_voice: it knows the style, not yet well."""
    return train_here(
        {
            "name": "voice",
            "data": {"source": "brand_voice"},
            "optimisation": {"max_steps": 30, "evaluations_per_epoch": 1},
        }
    )


@pytest.fixture(scope="session")
def voice_reward(train_here: Callable[[dict[str, Any]], Trained]) -> Trained:
    """A reward model of brand_voice_preferences."""
    return train_here(
        {
            "name": "voice-reward",
            "stage": "reward",
            "data": {"source": "brand_voice_preferences"},
            "optimisation": {"evaluations_per_epoch": 1},
        }
    )
