"""A warm-up that trains from its first step on. That of transformers begins at a rate of 0, and wastes a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftlab.training.checkpoints import check_sealed


class WarmsUp:
    """A trainer of any stage (transformers' Trainer comes after it) with such a warm-up."""

    def _load_best_model(self) -> None:
        check_sealed(Path(self.state.best_model_checkpoint))
        super()._load_best_model()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        is_new = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_new:
            start_above_zero(scheduler, self.args.get_warmup_steps(num_training_steps))
        return scheduler


def start_above_zero(scheduler: Any, warmup: int) -> None:
    """Let the rate rise from 1/(warmup + 1) to warmup/(warmup + 1) of its peak in the `warmup` steps of a new
    `scheduler` (a LambdaLR that begins at 0); the steps after them keep their rates."""

    def risen(usual: Any) -> Any:
        return lambda step: (step + 1) / (warmup + 1) if step < warmup else usual(step)

    if not warmup or any(usual(0) > 0 for usual in scheduler.lr_lambdas):
        return  # without a warm-up, or constant
    scheduler.lr_lambdas = [risen(usual) for usual in scheduler.lr_lambdas]
    for group, peak in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
        group["lr"] = peak / (warmup + 1)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
