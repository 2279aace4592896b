"""What preflight reports: whether a run fits, its time and memory, and advice with the setting to change."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ftlab.config import RunConfig, usual_learning_rate
from ftlab.config.evaluation import names, sized
from ftlab.config.methods import METHODS, BaseShape, rate_range
from ftlab.config.stages import PREFERENCE_STAGES, STAGES
from ftlab.core.run_directory import ManifestJson
from ftlab.core.words import duration
from ftlab.core.workspace import Workspace
from ftlab.models.estimate import Need
from ftlab.models.load import shape_of
from ftlab.training.launching.launcher import uses_accelerate
from ftlab.training.preflight.memory import SAFE_SHARE, Remedy, remedies
from ftlab.training.preflight.sizes import Plan, planned_steps
from ftlab.training.self_replay import mixed_in_words
from ftlab.training.status import RunStatus

MOST_PASSES = 4
_STARTER_PASSES = 12  # so small that three passes do not teach it a new format (config.RunConfig.resolved)
_FEWEST_STEPS = 20
_ROOM_IN_LENGTH = 4
_MOSTLY_PADDING = 0.6

# Around what was measured on the starter, which needs far higher rates than a real base.
_STARTER_SPREAD = 5


@dataclass(frozen=True)
class Advice:
    """One warning. `kind`: bad stops the run, warn harms it, info costs time at most. Each text is a sentence."""

    code: str
    kind: Literal["info", "warn", "bad"]
    what: str
    why: str
    try_: str

    def as_dict(self) -> dict[str, str]:
        values = asdict(self)
        return {"code": self.code, "kind": self.kind, "what": self.what, "why": self.why, "try": values["try_"]}


def warnings(plan: Plan) -> list[Advice]:
    """Everything that is unusual about `plan`, the most harmful first."""
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
    # A rate at the edge is as written: 5 * 4e-3 is not 0.02 in binary.
    if low * 0.999 <= rate <= high * 1.001:
        return []
    usual = usual_learning_rate(plan.config, plan.shape)
    name = plan.config.method.name
    if rate > high:
        return [
            Advice(
                "rate_high",
                "warn",
                f"The learning rate {rate:g} is above what works for {name} on this base ({low:g} to {high:g}).",
                f"Too high a rate diverges or forgets what the base knew ({source}).",
                f"Use {usual:g}, or leave it empty.",
            )
        ]
    return [
        Advice(
            "rate_low",
            "warn",
            f"The learning rate {rate:g} is below what works for {name} on this base ({low:g} to {high:g}).",
            f"Too low a rate learns next to nothing in the same time ({source}).",
            f"Use {usual:g}, or leave it empty.",
        )
    ]


def _about_rows(plan: Plan) -> list[Advice]:
    advice = []
    limit = plan.config.optimisation.max_length
    if plan.rows_too_long:
        of = plan.rows + plan.rows_too_long
        advice.append(
            Advice(
                "rows_cut",
                "warn",
                f"{plan.rows_too_long:,} of {of:,} training rows have more than {limit:,} tokens and are left out.",
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
                "That costs nothing: time and memory follow the rows that there are.",
                "Leave it, or lower it if longer rows should be refused later.",
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
                "Take the instruct or chat form of this base if there is one.",
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
                "Look at one row on the Data tab, and use a base whose template ends an answer.",
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
                "float16 overflows at 65,504, which makes the loss of some runs NaN.",
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
                "The short formats take half the memory and are several times faster there.",
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
            f"{padding:.0%} of what is computed is padding.",
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


MEASURED = "measured.json"  # what a measurement leaves behind
FOLDER_PREFIX = "ftlab-preflight-"  # of the temporary folder in which it is made

_MUCH_OF_A_RUN = 0.2  # for telling what was forgotten
_CHECKPOINTS_KEPT = 2  # trainer_arguments: the best and the last


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts. Bytes, seconds and tokens; None where it is not known.

    `kind`: measured, or estimate (of a base that is not on this machine: `estimated_from` says from what).
    `fits`: True, False, or None if unknown. `peak_bytes` is what the run takes at most, `available_bytes` what
    is free for it; both of the GPU, or of RAM where training is on a CPU. `out_of_memory_in` names the phase in which
    memory ran out. Token counts are those of one epoch: `tokens` real ones, `trained_tokens` those that are learned,
    `computed_tokens` with the padding. `training_seconds` holds all steps, `evaluation_seconds` all validations,
    `before_seconds` what the base is asked before training and `after_seconds` the comparison after it, both
    extrapolated from some answers; `total_seconds` all of these that are known, and the start. `computing` says in
    words how the steps are computed.
    """

    kind: Literal["measured", "estimate"]
    fits: bool | None
    device: str | None
    device_name: str | None
    peak_bytes: int | None = None
    available_bytes: int | None = None
    out_of_memory_in: str | None = None
    estimated_from: str | None = None
    rows: int | None = None
    validation_rows: int | None = None
    rows_too_long: int | None = None
    longest_row: int | None = None
    tokens: int | None = None
    trained_tokens: int | None = None
    computed_tokens: int | None = None
    steps: int | None = None
    evaluations: int | None = None
    seconds_per_step: float | None = None
    startup_seconds: float | None = None
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    before_seconds: float | None = None
    after_seconds: float | None = None
    total_seconds: float | None = None
    price_per_hour: float | None = None
    cost: float | None = None
    computing: list[str] = field(default_factory=list)
    trained_parameters: int | None = None
    total_parameters: int | None = None
    result_bytes: int | None = None
    checkpoint_bytes: int | None = None
    disk_bytes: int | None = None
    disk_free_bytes: int | None = None
    remedies: list[Remedy] = field(default_factory=list)
    warnings: list[Advice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def trained_share(self) -> float | None:
        if not self.trained_parameters or not self.total_parameters:
            return None
        return self.trained_parameters / self.total_parameters

    @property
    def padding_share(self) -> float | None:
        """The part of the computed tokens that is padding."""
        if not self.tokens or not self.computed_tokens:
            return None
        return 1 - self.tokens / self.computed_tokens

    @property
    def is_tight(self) -> bool:
        """It fits, with less than a tenth to spare."""
        if not self.fits or not self.peak_bytes or not self.available_bytes:
            return False
        return self.peak_bytes > SAFE_SHARE * self.available_bytes

    def priced(self, price_per_hour: float | None) -> Preflight:
        """The same finding at another price."""
        cost = None
        if self.total_seconds is not None and price_per_hour is not None:
            cost = self.total_seconds / 3600 * price_per_hour
        return replace(self, price_per_hour=price_per_hour, cost=cost)

    def as_dict(self) -> dict[str, Any]:
        """All of the above for JSON, with `trained_share`, `padding_share` and `tight`; a remedy is {settings, what,
        costs, peak_bytes, measured}, a warning {code, kind, what, why, try}."""
        plain = {name: value for name, value in vars(self).items() if name not in ("remedies", "warnings")}
        return plain | {
            "trained_share": self.trained_share,
            "padding_share": self.padding_share,
            "tight": self.is_tight,
            "remedies": [remedy.as_dict() for remedy in self.remedies],
            "warnings": [advice.as_dict() for advice in self.warnings],
        }


@dataclass
class Outcome:
    """What one probe left behind: its measurements, its status, and whether memory was too short."""

    measured: dict[str, Any]
    status: RunStatus
    manifest: ManifestJson
    out_of_memory: bool


def finding(
    config: RunConfig,
    outcome: Outcome,
    prepared: Any,
    workspace: Workspace,
    price_per_hour: float | None,
    verified: Remedy | None,
) -> Preflight:
    known, counted = outcome.measured, outcome.manifest.get("tokens", {}).get("train", {})
    peak, free = known.get("peak"), known.get("available")
    fits = not outcome.out_of_memory and (peak is None or free is None or peak <= free)
    options: list[Remedy] = []
    if verified:
        options.append(verified)
    elif not fits and known.get("peak") and not outcome.out_of_memory and free:
        options = remedies(config, need_of(known), free, known["lengths"])
    steps, evaluations = known.get("steps"), known.get("evaluations")
    per_step, per_evaluation = known.get("step_seconds"), known.get("evaluation_seconds")
    training = steps * per_step if steps and per_step else None
    evaluating = evaluations * per_evaluation if evaluations and per_evaluation else 0.0 if steps else None
    comparing, replaying = known.get("comparison_seconds") or {}, known.get("replay_seconds")
    parts = [evaluating or 0, known.get("startup_seconds", 0), replaying or 0, *comparing.values()]
    total = training + sum(parts) if training is not None else None
    result = known.get("weights_bytes" if config.method.name == "full" else "trained_bytes")
    checkpoint = result + known["optimiser_bytes"] if result and "optimiser_bytes" in known else None
    validation = outcome.manifest.get("tokens", {}).get("validation", {})
    disk = result + _CHECKPOINTS_KEPT * checkpoint if checkpoint else None
    left = disk_free(workspace)
    rows = counted.get("rows", len(prepared.splits["train"]))
    plan = Plan(
        config,
        rows=rows,
        validation_rows=validation.get("rows", len(prepared.splits.get("validation", []))),
        test_rows=len(prepared.splits.get("test", [])),
        rows_too_long=counted.get("too_long", 0),
        longest=counted.get("longest"),
        context=known.get("context"),
        tokens=known.get("tokens"),
        computed_tokens=known.get("computed"),
        template=known.get("template"),
        stop_trained=known.get("stop_trained"),
        device=known.get("device", "cpu"),
        dtype=known.get("dtype", "float32"),
        card_has_bf16=known.get("card_has_bf16"),
        bfloat16_gain=known.get("bfloat16_gain"),
        shape=shape_of(config.model),
    )
    advice = warnings(plan)
    if disk and left is not None and disk > left:
        advice.insert(0, _disk_warning(disk, left))
    notes = [note for note in outcome.status.warnings if not _said_by_plan(note)]
    if outcome.out_of_memory and outcome.status.error is None:
        notes.append("The measurement was killed from outside. The system does that when memory runs out.")
    if counted.get("documents"):
        notes.append(
            f"{counted['documents']:,} training documents; {counted['documents_cut']:,} of them are longer than "
            f"{config.optimisation.max_length:,} tokens and are learned in pieces."
        )
    notes.append(about_replay(config, prepared))
    if replaying:
        notes.append(
            f"Before training the base answers {len(prepared.replay_prompts):,} prompts, in about "
            f"{duration(replaying)}. These answers are training rows in addition to those counted above."
        )
    if comparing:
        notes.append(_about_times(known))
        notes += _about_forgetting(config, known.get("forgetting_seconds"), total)
        if config.stage in PREFERENCE_STAGES:
            notes.append("Not included in these times: the held-out pairs, and the answers before and after.")
    elif not outcome.out_of_memory and config.evaluation.after_training:
        notes.append("The evaluation after training is not included in these times.")
    if "answers_grow_to" in known:
        notes.append(
            f"Memory is measured with answers of {config.reinforcement.max_new_tokens:,} tokens, the maximum; time "
            f"with answers of their present length. A step of the longest took {known['answers_grow_to']:.2g} s."
        )
    notes += about_processes(config, known.get("device", "cpu"))
    return Preflight(
        kind="measured",
        fits=fits,
        device=known.get("device"),
        device_name=known.get("device_name"),
        peak_bytes=None if outcome.out_of_memory else peak,
        available_bytes=free,
        out_of_memory_in=outcome.status.phase if outcome.out_of_memory else None,
        rows=rows,
        validation_rows=plan.validation_rows,
        rows_too_long=plan.rows_too_long,
        longest_row=plan.longest,
        tokens=known.get("tokens"),
        trained_tokens=counted.get("trained_tokens"),
        computed_tokens=known.get("computed"),
        steps=steps
        or planned_steps(
            config.optimisation, rows, validation=plan.validation_rows > 0, processes=config.launcher.processes
        ).total,
        evaluations=evaluations,
        seconds_per_step=per_step,
        startup_seconds=known.get("startup_seconds"),
        training_seconds=training,
        evaluation_seconds=evaluating,
        before_seconds=comparing["before"] + (replaying or 0) if "before" in comparing else replaying,
        after_seconds=comparing.get("after"),
        total_seconds=total,
        computing=[known["dtype"], *known["computing"]] if "computing" in known else [],
        trained_parameters=outcome.status.trained_parameters,
        total_parameters=outcome.status.total_parameters,
        result_bytes=result,
        checkpoint_bytes=checkpoint,
        disk_bytes=disk,
        disk_free_bytes=left,
        remedies=options,
        warnings=advice,
        notes=notes,
    ).priced(price_per_hour)


def _about_times(known: dict[str, Any]) -> str:
    """What the times were extrapolated from."""
    steps, asked = known.get("steps_timed", 0), known.get("rows_asked", 0)
    return (
        f"The times are estimates, from {steps} training {'step' if steps == 1 else 'steps'} and, for the comparison, "
        f"from {asked} answers of the base. The adapted model is assumed to answer as briefly as the references. "
        "Answers that an earlier run has from the same base are reused."
    )


def _about_forgetting(config: RunConfig, seconds: float | None, total: float | None) -> list[str]:
    """The time that measuring forgetting takes and, where it is much of the run, how to leave it out."""
    if not seconds:
        return []
    sentence = f"{duration(seconds)} of these go to measuring forgetting: {_asked(config)}"
    if total and seconds > _MUCH_OF_A_RUN * total:
        share = f"{100 * seconds / total:.0f}%"
        off = "evaluation.general_text=none saves part of it, evaluation.probes=none the rest"
        return [f"{sentence}, {share} of this short run although little is asked. {off}."]
    return [f"{sentence}."]


def _asked(config: RunConfig) -> str:
    """The general questions and texts of `config` in words."""
    every = [*names(config.evaluation.probes), *names(config.evaluation.general_text)]
    parts = []
    for source, most in map(sized, every):
        title = "neutral prompts" if source == "self" else source
        if source.lower() != "none":
            parts.append(f"{most} {'' if source == 'self' else 'passages of '}{title}" if most else title)
    return ", ".join(parts)


def about_replay(config: RunConfig, prepared: Any) -> str:
    """What is mixed in against forgetting, or why nothing is."""
    sentence = mixed_in_words(config, prepared.manifest)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def about_processes(config: RunConfig, device: str) -> list[str]:
    """What to bear in mind of memory and times where several processes train together: those of one are known."""
    if not uses_accelerate(config.launcher):
        return []
    share = ", with its share of this machine's memory and cores" if device == "cpu" else ""
    return [
        f"{config.launcher.processes} processes train together. Memory and times are those of one process{share}, "
        "without the communication after every step and without what FSDP or DeepSpeed save in memory."
    ]


def need_of(known: dict[str, Any]) -> Need:
    """What the probe measured, split into what stays and what grows with the batch."""
    # The optimizer's two moments and the gradient of every trained weight come with the first step.
    fixed = known["loaded"] + known["optimiser_bytes"] + known["trained_bytes"]
    return Need(
        fixed=min(fixed, known["peak"]),
        activations=max(0, known["peak"] - fixed),
        layers=known["layers"],
        head_share=known["head_share"],
        linear=known["linear_bytes"],
        linear_weights=known["linear_weights"],
    )


def _said_by_plan(note: str) -> bool:
    return "left out" in note or "no chat template" in note


def _disk_warning(needed: int, free: int) -> Advice:
    return Advice(
        "disk_small",
        "bad",
        f"The run writes about {needed / (1 << 30):.1f} GB, and the disk has {free / (1 << 30):.1f} GB free.",
        "The result and two checkpoints with the optimizer state are kept.",
        "Delete old runs, or set FTLAB_HOME to a folder on a larger disk.",
    )


def disk_free(workspace: Workspace) -> int | None:
    try:
        return shutil.disk_usage(workspace.root).free
    except OSError:
        return None
