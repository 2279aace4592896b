"""A short trial of three learning rates: which one lowers the validation loss most in a tenth of the steps?

Like preflight, it runs in a separate process and a temporary folder, with the run's own data and code, and leaves
nothing behind. The base is loaded once. All rates start from the same weights, rows and seed.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, filled
from ftlab.config.stages import SUPERVISED_STAGES
from ftlab.core.steps import Steps
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError

_SHARE, _FEWEST_STEPS = 0.1, 8
_MOST_ROWS = 64  # validation rows whose losses are compared
_HIGHEST = 0.1  # config: optimisation.learning_rate
# A difference counts from two standard errors of the rows' paired losses. These do not cover the effect of another
# seed, so it must also be a hundredth of the loss.
_ERRORS, _LEAST_GAIN = 2.0, 0.01


@dataclass(frozen=True)
class Tried:
    """The mean validation `loss` after a trial (nats per token). `diverged`: it is not finite, or not below that of the
    untrained model."""

    rate: float
    loss: float | None
    diverged: bool


@dataclass(frozen=True)
class RateTrial:
    """`before` is the validation loss of the untrained model, `taken` the rate to train with, None if all of them
    diverged; `clear`: whether the losses distinguish it from the `usual` one."""

    tried: list[Tried]
    before: float
    usual: float
    taken: float | None
    clear: bool
    steps: int
    rows: int

    @property
    def text(self) -> str:
        """Which rate is used and why, in a sentence or two."""
        on = f"after {self.steps} steps, on {self.rows} validation rows"
        if self.taken is None:
            return f"All rates diverged {on}: the loss is above that of the untrained model."
        if self.clear and self.taken == self.usual:
            return f"The usual rate {self.usual:g} is the best {on}."
        if self.clear:
            verdict = f"The learning rate {self.taken:g} is better than the usual {self.usual:g} {on}."
            # A tenth of the steps leaves less time to overshoot than the whole run.
            return f"{verdict} A trial this short favors high rates." if self.taken > self.usual else verdict
        return f"Cannot tell {on}: the differences are within chance. The usual rate {self.usual:g} is kept."

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"text": self.text}


def find_rate(
    config: RunConfig, workspace: Workspace, *, rates: Sequence[float] = ()
) -> Generator[str, None, RateTrial]:
    """Yields its current phase, in words, several times a second, and returns the result.

    By default, `rates` are a third, one and three times that of `config`. Closing the generator ends the trial and its
    process. Raises InputError as `supervisor.submit` does, for any stage but SFT and pretraining, and without
    validation rows.
    """
    from ftlab.models.estimate import is_here
    from ftlab.training.gate import prepare_data
    from ftlab.training.preflight.finding import FOLDER_PREFIX
    from ftlab.training.preflight.measure import checked, probe

    if config.stage not in SUPERVISED_STAGES:
        raise InputError(
            "A rate trial compares validation losses of answers or texts",
            given=f"stage {config.stage}",
            allowed=", ".join(SUPERVISED_STAGES),
        )
    config = checked(config, workspace)
    if not is_here(config.model):
        raise InputError(
            "The base is not on this machine yet",
            given=config.model.base,
            try_="train once with it, then find the rate",
        )
    usual = filled(config.optimisation.learning_rate)
    rates = rates or rates_to_try(usual)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        yield "reading the data"
        data = prepare_data(config, workspace)
        if not data.splits.get("validation"):
            raise InputError("A rate trial needs validation rows", try_="set data.validation_fraction to 0.1")
        outcome = yield from probe(
            config, data, Path(folder) / "0", workspace, more=["--rates", ",".join(map(repr, rates))]
        )
        if outcome.out_of_memory:
            raise FtlabError(
                "Memory ran out during the rate trial",
                why=outcome.status.phase,
                try_="a smaller optimisation.batch_size",
            )
    measured = outcome.measured
    return decide(measured["losses"], measured["before"], usual=usual, steps=measured["steps"])


def run_find_rate(config: RunConfig, workspace: Workspace) -> RateTrial:
    """Like `find_rate`, without progress."""
    with Steps(find_rate(config, workspace)) as steps:
        for _ in steps:
            pass
    return steps.result


def rates_to_try(usual: float) -> list[float]:
    """A third of it, itself, and three times it, rounded to two digits."""
    return [float(f"{rate:.2g}") if rate != usual else usual for rate in (usual / 3, usual, min(3 * usual, _HIGHEST))]


def decide(losses: Mapping[str, Sequence[float]], before: Sequence[float], *, usual: float, steps: int) -> RateTrial:
    """The rate to take, from the `losses` of the same rows after each trial (by rate) and `before` any step.

    The lowest mean loss wins, but the `usual` rate is replaced only by one that is better by two standard errors of the
    paired differences, and by a hundredth.
    """
    start = statistics.fmean(before)
    tried, kept = [], {}
    for name, values in losses.items():
        rate, mean = float(name), statistics.fmean(values)
        diverged = not math.isfinite(mean) or mean >= start
        tried.append(Tried(rate, mean if math.isfinite(mean) else None, diverged))
        if not diverged:
            kept[rate] = values
    taken, clear = None, False
    if kept:
        best = min(kept, key=lambda rate: statistics.fmean(kept[rate]))
        others = [rate for rate in kept if rate != best]
        if best == usual or usual not in kept:
            taken, clear = best, all(_beats(kept[best], kept[rate]) for rate in others)
            clear = clear or usual not in kept
        else:
            clear = _beats(kept[best], kept[usual])
            taken = best if clear else usual
    return RateTrial(tried, start, usual, taken, clear, steps, len(before))


def _beats(better: Sequence[float], worse: Sequence[float]) -> bool:
    gains = [other - after for after, other in zip(better, worse, strict=True)]
    gain = statistics.fmean(gains)
    error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return gain > _ERRORS * error and gain > _LEAST_GAIN * statistics.fmean(worse)


def try_rates(training: Any, config: RunConfig, rates: Sequence[float], writer: Any, notes: Any) -> None:
    """In the process of the trial: train the prepared run with each of `rates`, and note the losses of the rows."""
    from transformers import TrainerCallback, set_seed

    from ftlab.training.sizes import planned

    trainer, model = training.trainer, training.model
    arguments, dataset = trainer.args, trainer.eval_dataset
    total = planned(trainer, config)["steps"]
    steps = min(total, max(_FEWEST_STEPS, round(_SHARE * total)))
    arguments.max_steps, arguments.warmup_steps = steps, math.ceil(steps * config.optimisation.warmup_fraction)
    rows = sorted(random.Random(0).sample(range(len(dataset)), min(_MOST_ROWS, len(dataset))))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    beginning = [parameter.detach().clone() for parameter in trained]

    class ReportSteps(TrainerCallback):
        doing = ""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            writer.update(phase=f"{self.doing}: step {state.global_step} of {steps}")

    report = ReportSteps()
    trainer.add_callback(report)
    writer.update(phase="validation loss of the untrained model")
    notes.add({"steps": steps, "before": _row_losses(trainer, dataset, rows), "losses": {}})
    for number, rate in enumerate(rates, start=1):
        for parameter, value in zip(trained, beginning, strict=True):
            parameter.data.copy_(value)
        set_seed(config.optimisation.seed)
        arguments.learning_rate, trainer.optimizer, trainer.lr_scheduler = rate, None, None
        report.doing = f"rate {rate:g} ({number} of {len(rates)})"
        trainer.train()
        notes.add({"losses": notes.values["losses"] | {repr(rate): _row_losses(trainer, dataset, rows)}})


def _row_losses(trainer: Any, dataset: Any, rows: Sequence[int]) -> list[float]:
    """The mean loss of each row, in nats per token."""
    import torch

    trainer.model.eval()
    losses = []
    with torch.no_grad():
        for row in rows:
            inputs = trainer._prepare_inputs(trainer.data_collator([dataset[row]]))
            with trainer.compute_loss_context_manager():
                losses.append(float(trainer.compute_loss(trainer.model, inputs)))
    return losses
