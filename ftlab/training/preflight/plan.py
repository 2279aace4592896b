"""What is known of a run before its first step, and how many steps it takes. Pure; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ftlab.config import OptimisationConfig, RunConfig
from ftlab.method_table import BaseShape


@dataclass(frozen=True)
class Steps:
    """How many optimiser steps and validations a run takes; what is `between` two counts steps."""

    per_epoch: int
    total: int
    warmup: int
    between_logs: int
    between_evaluations: int
    evaluations: int


@dataclass(frozen=True)
class Plan:
    """What the warnings are drawn from; None where it is not known. Rows are those kept; tokens are of one epoch.

    `template`: marked (says itself which tokens are the answer), plain (does not), missing. `context` is what the base
    can read, in tokens. `card_has_bf16`: whether the GPU computes in bfloat16; None on a CPU. `bfloat16_gain`: how many
    times as fast as float32 a CPU computes in it. `dtype` is the format of the arithmetic, `shape` that of the base.
    """

    config: RunConfig
    rows: int
    validation_rows: int = 0
    test_rows: int = 0
    rows_too_long: int = 0
    longest: int | None = None
    context: int | None = None
    tokens: int | None = None
    computed_tokens: int | None = None
    template: Literal["marked", "plain", "missing"] | None = None
    stop_trained: bool | None = None
    device: str = "cpu"
    dtype: str = "float32"
    card_has_bf16: bool | None = None
    bfloat16_gain: float | None = None
    shape: BaseShape | None = None


def planned_steps(settings: OptimisationConfig, rows: int, *, validation: bool, processes: int = 1) -> Steps:
    """The steps that training on `rows` examples takes; the first validation is before the first step.

    Each of the `processes` reads a batch of its own in every step.
    """
    per_epoch = max(1, math.ceil(rows / (settings.batch_size * settings.gradient_accumulation * processes)))
    total = settings.max_steps or math.ceil(per_epoch * (settings.epochs or 1))
    logged = max(1, total // 200)
    between = max(1, min(per_epoch // settings.evaluations_per_epoch, total))
    # On a logged step, so that a resumed run logs the same averages.
    between = min(math.ceil(between / logged) * logged, total)
    warmup = math.ceil(total * settings.warmup_fraction)
    return Steps(per_epoch, total, warmup, logged, between, 1 + total // between if validation else 0)
