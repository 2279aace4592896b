"""A warm-up trains from its first step on, in every stage."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from ftlab.training.checkpoints import WarmsUp, start_above_zero
from ftlab.training.preferences import ContrastTuner, JudgedTuner, OddsTuner, PairTuner, RewardTuner
from ftlab.training.reinforcement import GroupPolicy, LeaveOneOutPolicy
from ftlab.training.trainer import FineTuner


def rates(name: str, warmup: int, *, mended: bool) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=10)
    if mended:
        start_above_zero(scheduler, warmup)
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_rate_rises_from_the_first_step_and_falls_as_it_did(name: str) -> None:
    usual, mended = rates(name, 4, mended=False), rates(name, 4, mended=True)
    assert usual[0] == 0
    assert mended[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert mended[4:] == usual[4:]


def test_without_a_warm_up_nothing_changes() -> None:
    assert rates("linear", 0, mended=True) == rates("linear", 0, mended=False)
    assert rates("constant", 3, mended=True) == [1.0] * 10


@pytest.mark.parametrize(
    "trainer",
    [FineTuner, PairTuner, JudgedTuner, RewardTuner, OddsTuner, ContrastTuner, GroupPolicy, LeaveOneOutPolicy],
)
def test_the_trainer_of_every_stage_warms_up_so(trainer: type) -> None:
    order = trainer.__mro__
    assert order.index(WarmsUp) < order.index(Trainer)
    assert trainer.create_scheduler is WarmsUp.create_scheduler


def test_a_trainer_logs_a_rate_above_zero_for_its_first_step(tmp_path) -> None:
    class Tiny(WarmsUp, Trainer):
        pass

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.weight * x).mean()}

    arguments = TrainingArguments(
        str(tmp_path), max_steps=4, warmup_steps=1, logging_steps=1, learning_rate=1.0, use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Tiny(Model(), arguments, train_dataset=[{"x": torch.ones(1)}] * 8)
    trainer.train()
    logged = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert logged[0] == pytest.approx(0.5) and logged[1] == pytest.approx(1.0)
