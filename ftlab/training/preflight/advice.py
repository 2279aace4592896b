"""Advice before a run starts: what is unusual about it, and the setting to change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

from ftlab.config import RunConfig, usual_learning_rate
from ftlab.config.methods import METHODS, BaseShape, rate_range
from ftlab.config.stages import STAGES
from ftlab.training.sizes import planned_steps

MOST_PASSES = 4
_STARTER_PASSES = 12  # three passes do not teach so small a model a new format (config.RunConfig.resolved)
_FEWEST_STEPS = 20
_ROOM_IN_LENGTH = 4
_MOSTLY_PADDING = 0.6
_STARTER_SPREAD = 5  # around the rate measured on the starter, which needs far higher rates than a real base


@dataclass(frozen=True)
class Plan:
    """The facts that the warnings are based on; None if unknown. Rows are those kept; tokens are of one epoch.

    `template`: marked (it marks which tokens are the answer), plain (it does not), missing. `context` is the context
    length of the base, in tokens. `card_has_bf16`: whether the GPU computes in bfloat16; None on a CPU.
    `bfloat16_gain`: the speedup of bfloat16 over float32 on a CPU. `dtype` is the format of the arithmetic, `shape`
    that of the base.
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


AdviceJson = TypedDict("AdviceJson", {"code": str, "kind": str, "what": str, "why": str, "try": str})


@dataclass(frozen=True)
class Advice:
    """One warning. `kind`: bad (the run fails), warn (it gets worse), info (it takes longer at most). Each text is a
    sentence."""

    code: str
    kind: Literal["info", "warn", "bad"]
    what: str
    why: str
    try_: str

    def as_dict(self) -> AdviceJson:
        return {"code": self.code, "kind": self.kind, "what": self.what, "why": self.why, "try": self.try_}


def warnings(plan: Plan) -> list[Advice]:
    """Everything unusual about `plan`, the most harmful first."""
    advice = [
        *_about_rate(plan),
        *_about_rows(plan),
        *_about_passes(plan),
        *_about_template(plan),
        *_about_numbers(plan),
        *_about_batches(plan),
    ]
    return sorted(advice, key=lambda warning: ("bad", "warn", "info").index(warning.kind))


def usual_rates(config: RunConfig, shape: BaseShape | None = None) -> tuple[float, float, str]:
    """(lowest, highest, source) of the learning rates that work for the method and base (of `shape`) of `config`."""
    if config.is_starter:
        usual = usual_learning_rate(config)
        return usual / _STARTER_SPREAD, usual * _STARTER_SPREAD, "measured on the starter, which needs high rates"
    if feedback := STAGES[config.stage].usual:
        usual = usual_learning_rate(config)
        return usual / 10, usual * 10, feedback.source
    return *rate_range(config.method.name, shape), METHODS[config.method.name].source


def _about_rate(plan: Plan) -> list[Advice]:
    rate = plan.config.optimisation.learning_rate or usual_learning_rate(plan.config, plan.shape)
    low, high, source = usual_rates(plan.config, plan.shape)
    # With a margin for rates at the edge: 5 * 4e-3 is not 0.02 in binary.
    if low * 0.999 <= rate <= high * 1.001:
        return []
    where, harm = "below", "Too low a rate learns next to nothing in the same time"
    if rate > high:
        where, harm = "above", "Too high a rate diverges or forgets what the base knew"
    return [
        Advice(
            "rate_high" if rate > high else "rate_low",
            "warn",
            f"The learning rate {rate:g} is {where} what works for {plan.config.method.name} on this base ({low:g} to "
            f"{high:g}).",
            f"{harm} ({source}).",
            f"Use {usual_learning_rate(plan.config, plan.shape):g}, or leave it empty.",
        )
    ]


def _about_rows(plan: Plan) -> list[Advice]:
    advice = []
    limit = plan.config.optimisation.max_length
    if plan.rows_too_long:
        total = plan.rows + plan.rows_too_long
        advice.append(
            Advice(
                "rows_cut",
                "warn",
                f"{plan.rows_too_long:,} of {total:,} training rows have more than {limit:,} tokens and are left out.",
                f"The longest has {plan.longest or limit:,} tokens, and a row that is cut in the middle would teach "
                "answers without an end.",
                _longer(plan),
            )
        )
    elif plan.longest and limit > _ROOM_IN_LENGTH * plan.longest:
        advice.append(
            Advice(
                "length_unused",
                "info",
                f"The longest example may have {limit:,} tokens, and the longest row has {plan.longest:,}.",
                "That costs nothing: time and memory depend on the actual rows.",
                "Leave it, or lower it if longer rows should be left out later.",
            )
        )
    if not plan.validation_rows:
        advice.append(
            Advice(
                "no_validation",
                "warn",
                "There are no validation rows.",
                "Without them, overfitting goes unnoticed, and the last weights are kept, not the best.",
                "Set the validation share to 0.1.",
            )
        )
    if not plan.test_rows:
        advice.append(
            Advice(
                "no_test",
                "warn",
                "There are no test rows.",
                "Without rows that training never saw, nothing can show that the result is better than the base.",
                "Set the test share to 0.1.",
            )
        )
    return advice


def _about_passes(plan: Plan) -> list[Advice]:
    settings = plan.config.optimisation
    processes = plan.config.launcher.processes
    steps = planned_steps(settings, plan.rows, validation=plan.validation_rows > 0, processes=processes)
    batch = settings.rows_per_step * processes
    passes = steps.total / steps.per_epoch
    advice = []
    most = _STARTER_PASSES if plan.config.is_starter else MOST_PASSES
    if passes > most:
        watched = plan.validation_rows and settings.early_stopping
        advice.append(
            Advice(
                "many_passes",
                "info" if watched else "warn",
                f"Each of the {plan.rows:,} rows is seen {passes:.3g} times. More than {most} times rarely helps.",
                "More than four passes over the same text add little (Muennighoff et al. 2023, arXiv 2305.16264) and "
                "end in memorization.",
                "Training stops by itself when the validation loss rises; fewer epochs save that time."
                if watched
                else f"Use at most {most} epochs, or keep validation rows and early stopping.",
            )
        )
    if batch > plan.rows:
        advice.append(
            Advice(
                "batch_above_rows",
                "warn",
                f"One step takes {batch:,} rows, and there are only {plan.rows:,}.",
                "Each epoch is then a single step, however large the batch is.",
                f"Use a batch of {_fitting_batch(plan.rows):,} without accumulation.",
            )
        )
    elif steps.total < _FEWEST_STEPS:
        advice.append(
            Advice(
                "few_steps",
                "warn",
                f"There are only {steps.total:,} steps, {steps.warmup:,} of them warm-up.",
                "The learning rate has no time to rise and fall, so the model hardly changes.",
                f"Use a smaller batch (now {batch:,} rows a step), more epochs or more rows.",
            )
        )
    elif settings.warmup_fraction > 0.25:
        advice.append(
            Advice(
                "long_warmup",
                "info",
                f"The learning rate rises during {steps.warmup:,} of {steps.total:,} steps.",
                "A twentieth to a tenth is enough; the rest is time at too low a rate.",
                "Set the warm-up to 0.05.",
            )
        )
    return advice


def _about_template(plan: Plan) -> list[Advice]:
    advice = []
    if plan.template == "missing":
        advice.append(
            Advice(
                "template_missing",
                "warn",
                "The base has no chat template; a plain one (### Question: / ### Answer:) is used and saved with the "
                "result.",
                "Such a base has rarely learned to answer, so it needs more rows than an instruct model.",
                "Use the instruct or chat version of this base if there is one.",
            )
        )
    if plan.template == "plain":
        advice.append(
            Advice(
                "template_unmarked",
                "info",
                "The chat template does not mark which tokens are the answer (no generation marks).",
                "The answers are located by comparing renderings instead, and only they are trained.",
                "Look at a row on the Data tab: the colored tokens are trained.",
            )
        )
    if plan.stop_trained is False:
        advice.append(
            Advice(
                "stop_untrained",
                "bad",
                "No row trains the stop token.",
                "The model would learn what to say, but not when to stop.",
                "Look at a row on the Data tab, and use a base whose template ends an answer.",
            )
        )
    return advice


def _about_numbers(plan: Plan) -> list[Advice]:
    if plan.device == "cpu":
        gain = plan.bfloat16_gain if plan.dtype == "bfloat16" else None
        if plan.dtype == "float16" or (gain and gain < 1):
            slow = f"Measured here: {1 / gain:.2g} times slower than float32." if gain else "CPUs compute it slowly."
            return [
                Advice(
                    "short_format_on_cpu",
                    "warn",
                    f"{plan.dtype} is used on a CPU.",
                    slow,
                    "Set the number format to auto.",
                )
            ]
        return []
    if plan.dtype == "float16" and plan.card_has_bf16:
        return [
            Advice(
                "fp16_on_bf16_card",
                "warn",
                "float16 is used on a GPU that has bfloat16.",
                "float16 overflows at 65,504, so the loss of some runs becomes NaN.",
                "Set the number format to auto.",
            )
        ]
    if plan.dtype == "bfloat16" and plan.card_has_bf16 is False:
        return [
            Advice(
                "bf16_not_there",
                "warn",
                "bfloat16 is used on a GPU that does not have it.",
                "It is emulated there and slow.",
                "Set the number format to auto, which uses float16.",
            )
        ]
    if plan.dtype == "float32":
        return [
            Advice(
                "float32_on_gpu",
                "info",
                "float32 is used on a GPU.",
                "16-bit formats take half the memory and are several times faster there.",
                "Set the number format to auto.",
            )
        ]
    return []


def _about_batches(plan: Plan) -> list[Advice]:
    if not plan.tokens or not plan.computed_tokens:
        return []
    padding = 1 - plan.tokens / plan.computed_tokens
    if padding < _MOSTLY_PADDING or plan.config.optimisation.batch_size == 1:
        return []
    return [
        Advice(
            "mostly_padding",
            "info",
            f"{padding:.0%} of the computation is padding.",
            "Short rows are padded to the longest row of their batch.",
            "A smaller batch with gradient accumulation learns the same with less padding.",
        )
    ]


def _longer(plan: Plan) -> str:
    if plan.longest is None:
        return "Raise the longest example, or leave these rows out."
    if plan.context is not None and plan.longest > plan.context:
        return f"Take a base that reads more than {plan.context:,} tokens, or leave these rows out."
    return f"Raise the longest example to {plan.longest:,} tokens if memory allows, or leave these rows out."


def _fitting_batch(rows: int) -> int:
    """The largest power of two that still makes ten steps of an epoch, up to 16."""
    return max(1, min(16, 2 ** int(math.log2(max(1, rows // 10))))) if rows >= 10 else 1
