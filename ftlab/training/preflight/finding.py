"""What preflight finds: whether a run fits, its time and memory; as an object, and in words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ftlab.config import RunConfig
from ftlab.config.evaluation import names, sized
from ftlab.config.stages import PREFERENCE_STAGES
from ftlab.core.endpoint import money
from ftlab.core.run_directory import ManifestJson
from ftlab.core.words import byte_size, duration
from ftlab.core.workspace import Workspace
from ftlab.models.estimate import Need
from ftlab.models.load import shape_of
from ftlab.training.launcher import uses_accelerate
from ftlab.training.preflight.advice import Advice, Plan, warnings
from ftlab.training.self_replay import mixed_in_words
from ftlab.training.sizes import SAFE_SHARE, MeasuredJson, Remedy, planned_steps, remedies
from ftlab.training.status import RunStatus

if TYPE_CHECKING:
    from ftlab.data.splits import Prepared

MEASURED = "measured.json"  # what a measurement leaves behind
FOLDER_PREFIX = "ftlab-preflight-"  # of the temporary folder for a measurement

_MUCH_OF_A_RUN = 0.2  # for measuring forgetting
_CHECKPOINTS_KEPT = 2  # the best and the last (arguments.stage_arguments)


@dataclass(frozen=True)
class Preflight:
    """What is known about a run before it starts, in bytes, seconds and tokens; None if unknown.

    `kind`: measured, or estimate (the base is not on this machine: `estimated_from` names the source). `peak_bytes` is
    the peak memory of the run, `available_bytes` the free memory; both of the GPU, or of RAM for training on a CPU.
    `out_of_memory_in` names the phase in which memory ran out. Token counts are those of one epoch: `tokens` without
    padding, `trained_tokens` those that the loss covers, `computed_tokens` with padding. `training_seconds` are those
    of all steps, `evaluation_seconds` of all validations, `before_seconds` of evaluating the base before training and
    `after_seconds` of the comparison after it, both extrapolated from some answers; `total_seconds` is the sum of those
    that are known, and of the start. `computing`: how the steps are computed, in words.
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
        """The share of padding in the computed tokens."""
        if not self.tokens or not self.computed_tokens:
            return None
        return 1 - self.tokens / self.computed_tokens

    @property
    def is_tight(self) -> bool:
        """Whether it fits with less than a tenth of the memory to spare."""
        if not self.fits or not self.peak_bytes or not self.available_bytes:
            return False
        return self.peak_bytes > SAFE_SHARE * self.available_bytes

    def priced(self, price_per_hour: float | None) -> Preflight:
        """A copy with the cost at another price."""
        cost = None
        if self.total_seconds is not None and price_per_hour is not None:
            cost = self.total_seconds / 3600 * price_per_hour
        return replace(self, price_per_hour=price_per_hour, cost=cost)

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, with `trained_share`, `padding_share` and `tight`; a remedy is {settings, what, costs,
        peak_bytes, measured}, a warning {code, kind, what, why, try}."""
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
    """The result of one probe: its measurements, its status, and whether memory ran out."""

    measured: MeasuredJson
    status: RunStatus
    manifest: ManifestJson
    out_of_memory: bool


def finding(
    config: RunConfig,
    outcome: Outcome,
    prepared: Prepared,
    workspace: Workspace,
    price_per_hour: float | None,
    verified: Remedy | None,
) -> Preflight:
    """The finding of a measurement; `verified` is a remedy that was measured to fit."""
    known, counted = outcome.measured, outcome.manifest.get("tokens", {}).get("train", {})
    peak, free = known.get("peak"), known.get("available")
    fits = not outcome.out_of_memory and (peak is None or free is None or peak <= free)
    options: list[Remedy] = []
    if verified:
        options.append(verified)
    elif not fits and peak and not outcome.out_of_memory and free:
        options = remedies(config, need_of(known), free, known["lengths"])
    steps, evaluations = known.get("steps"), known.get("evaluations")
    per_step, per_evaluation = known.get("step_seconds"), known.get("evaluation_seconds")
    training = steps * per_step if steps and per_step else None
    evaluating = evaluations * per_evaluation if evaluations and per_evaluation else 0.0 if steps else None
    comparing, replaying = known.get("comparison_seconds"), known.get("replay_seconds") or 0.0
    before, after = (comparing["before"], comparing["after"]) if comparing else (0.0, 0.0)
    parts = [evaluating or 0.0, known.get("startup_seconds", 0.0), replaying, before, after]
    total = training + sum(parts) if training is not None else None
    result = known.get("weights_bytes") if config.method.is_full else known.get("trained_bytes")
    state = known.get("optimiser_bytes")
    checkpoint = result + state if result and state is not None else None
    validation = outcome.manifest.get("tokens", {}).get("validation", {})
    disk = result + _CHECKPOINTS_KEPT * checkpoint if result and checkpoint else None
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
    # Those that the advice repeats are left out.
    notes = [note for note in outcome.status.warnings if "left out" not in note and "no chat template" not in note]
    if outcome.out_of_memory and outcome.status.error is None:
        notes.append("The measurement was killed from outside. The system does that when memory runs out.")
    if counted.get("documents"):
        notes.append(
            f"{counted['documents']:,} training documents; {counted['documents_cut']:,} of them are longer than "
            f"{config.optimisation.max_length:,} tokens and are trained in pieces."
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
            f"with answers of their current length. A step of the longest took {known['answers_grow_to']:.2g} s."
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
        before_seconds=before + replaying if comparing or replaying else None,
        after_seconds=after if comparing else None,
        total_seconds=total,
        computing=[known["dtype"], *known["computing"]] if "computing" in known else [],
        trained_parameters=outcome.status.trained_parameters,
        total_parameters=outcome.status.total_parameters,
        result_bytes=result,
        checkpoint_bytes=checkpoint,
        disk_bytes=disk,
        remedies=options,
        warnings=advice,
        notes=notes,
    ).priced(price_per_hour)


def _about_times(known: MeasuredJson) -> str:
    """What the times were extrapolated from."""
    steps, asked = known.get("steps_timed", 0), known.get("rows_asked", 0)
    return (
        f"The times are estimates, from {steps} training {'step' if steps == 1 else 'steps'} and, for the comparison, "
        f"from {asked} answers of the base. The adapted model is assumed to answer as briefly as the references. "
        "Answers that an earlier run has from the same base are reused."
    )


def _about_forgetting(config: RunConfig, seconds: float | None, total: float | None) -> list[str]:
    """The time for measuring forgetting and, if it is a large part of the run, how to save it."""
    if not seconds:
        return []
    sentence = f"{duration(seconds)} of these go to measuring forgetting: {_asked(config)}"
    if total and seconds > _MUCH_OF_A_RUN * total:
        share = f"{100 * seconds / total:.0f}%"
        off = "evaluation.general_text=none saves part of it, evaluation.probes=none the rest"
        return [f"{sentence}, {share} of this short run even with few questions. {off}."]
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


def about_replay(config: RunConfig, prepared: Prepared) -> str:
    """What is mixed in against forgetting, or why nothing is."""
    sentence = mixed_in_words(config, prepared.manifest)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def about_processes(config: RunConfig, device: str) -> list[str]:
    """What memory and times mean when several processes train together: only one is measured."""
    if not uses_accelerate(config.launcher):
        return []
    share = ", with its share of this machine's memory and cores" if device == "cpu" else ""
    return [
        f"{config.launcher.processes} processes train together. Memory and times are those of one process{share}, "
        "without the communication after every step and without the memory that FSDP or DeepSpeed save."
    ]


def need_of(known: MeasuredJson) -> Need:
    """The measured memory, split into a fixed part and one that grows with the batch."""
    # The first step adds the optimizer's two moments and the gradient of every trained weight.
    fixed = known["loaded"] + known["optimiser_bytes"] + known["trained_bytes"]
    return Need(
        fixed=min(fixed, known["peak"]),
        activations=max(0, known["peak"] - fixed),
        layers=known["layers"],
        head_share=known["head_share"],
        linear=known["linear_bytes"],
        linear_weights=known["linear_weights"],
    )


def _disk_warning(needed: int, free: int) -> Advice:
    return Advice(
        "disk_small",
        "bad",
        f"The run writes about {byte_size(needed)}, and the disk has {byte_size(free)} free.",
        "The result and two checkpoints with the optimizer state are kept.",
        "Delete old runs, or set FTLAB_HOME to a folder on a larger disk.",
    )


def disk_free(workspace: Workspace) -> int | None:
    try:
        return shutil.disk_usage(workspace.root).free
    except OSError:
        return None


def as_lines(preflight: Preflight) -> Iterator[str]:
    """The finding as text, one fact per line."""
    for name, value in facts(preflight):
        yield f"{name:<12} {value}"
    for remedy in preflight.remedies:
        yield f"would fit    {remedy_text(remedy)}"
        yield f"             {settings_text(remedy.settings)}"
    for advice in preflight.warnings:
        yield f"{'note' if advice.kind == 'info' else 'warning':<12} {advice.what} {advice.why} {advice.try_}"
    for note in preflight.notes:
        yield f"{'note':<12} {note}"


def facts(preflight: Preflight) -> Iterator[tuple[str, str]]:
    """(name, value) of each known fact."""
    yield "verdict", verdict(preflight)
    if preflight.peak_bytes is not None:
        about = "about " if preflight.kind == "estimate" else ""
        free = f" of {byte_size(preflight.available_bytes)} free" if preflight.available_bytes is not None else ""
        yield "memory", f"{about}{byte_size(preflight.peak_bytes)}{free}"
        yield "", f"peak memory: {what_peaks(preflight)}"
    elif preflight.available_bytes is not None:
        yield "memory", f"{byte_size(preflight.available_bytes)} free"
    if preflight.total_seconds is not None and preflight.training_seconds is not None:
        yield "time", f"about {duration(preflight.total_seconds)} in all"
        yield from _times(preflight)
    elif preflight.steps:
        yield "steps", f"{preflight.steps:,}"
    if preflight.cost is not None:
        yield "cost", f"{money(preflight.cost)} at {preflight.price_per_hour:g} per hour"
    if preflight.tokens and preflight.computed_tokens:
        yield (
            "tokens",
            f"{preflight.tokens:,} an epoch, {preflight.trained_tokens or 0:,} of them trained; "
            f"{preflight.computed_tokens:,} are computed ({preflight.padding_share:.0%} padding)",
        )
    if preflight.computing:
        yield "computing", ", ".join(preflight.computing)
    if preflight.rows is not None:
        cut = f", {preflight.rows_too_long:,} left out as too long" if preflight.rows_too_long else ""
        longest = f", the longest has {preflight.longest_row:,} tokens" if preflight.longest_row else ""
        yield "rows", f"{preflight.rows:,} training, {preflight.validation_rows or 0:,} validation{cut}{longest}"
    if preflight.trained_parameters and preflight.total_parameters:
        share = f"{100 * (preflight.trained_share or 0):.3g} %"
        yield "weights", f"{preflight.trained_parameters:,} trained, {share} of {preflight.total_parameters:,}"
    elif preflight.total_parameters:
        yield "weights", f"about {preflight.total_parameters / 1e9:.3g} billion"
    if preflight.result_bytes is not None and preflight.checkpoint_bytes is not None:
        result, checkpoint = byte_size(preflight.result_bytes), byte_size(preflight.checkpoint_bytes)
        yield "disk", f"{result} the result, {checkpoint} a checkpoint"


def _times(preflight: Preflight) -> Iterator[tuple[str, str]]:
    """The parts of the time, in order."""
    if preflight.before_seconds is not None:
        yield "", f"{duration(preflight.before_seconds)} the base before training"
    yield "", f"{duration(preflight.startup_seconds or 0)} loading and preparing"
    steps = f"{preflight.steps:,} steps of {_seconds(preflight.seconds_per_step)}"
    yield "", f"{duration(preflight.training_seconds or 0)} training: {steps}"
    if preflight.evaluations:
        yield "", f"{duration(preflight.evaluation_seconds or 0)} validation, {preflight.evaluations} times"
    if preflight.after_seconds is not None:
        yield "", f"{duration(preflight.after_seconds)} the comparison after training"


def what_peaks(preflight: Preflight) -> str:
    """Which memory is counted, and over which parts of a run."""
    whole = preflight.after_seconds is not None  # the comparison was measured
    parts = "asking the base, training and the comparison" if whole else "training alone"
    kind = "reserved by its process on the GPU" if preflight.device == "cuda" else "resident memory of its process"
    return f"{kind}, {parts}"


def verdict(preflight: Preflight) -> str:
    """Whether it fits, in a sentence."""
    where = "the GPU's memory" if preflight.device == "cuda" else "memory"
    if preflight.kind == "estimate":
        if preflight.fits is None:
            return "Cannot tell whether it fits: the base is not on this machine."
        answer = "should fit" if preflight.fits else "probably does not fit"
        return f"It {answer} in {where}. This is an estimate from {preflight.estimated_from}, not a measurement."
    if preflight.fits:
        return f"It fits in {where}, with little to spare." if preflight.is_tight else f"It fits in {where}."
    if preflight.out_of_memory_in:
        return f"It does not fit: memory ran out during: {preflight.out_of_memory_in}."
    return f"It does not fit in {where}."


def remedy_text(remedy: Remedy) -> str:
    """What to change, the memory it then takes, and its cost."""
    known = "measured" if remedy.measured else "calculated"
    peak = f" ({byte_size(remedy.peak)}, {known})" if remedy.peak else ""
    what = remedy.what[:1].upper() + remedy.what[1:]
    return f"{what}{peak}. {remedy.costs}"


def settings_text(settings: dict[str, Any]) -> str:
    """Settings as the command line takes them."""
    return " ".join(
        f"--set {name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()
    )


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2g} s"
