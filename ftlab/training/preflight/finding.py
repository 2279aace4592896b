"""What a preflight found: one record of everything that is known of a run before it starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ftlab.config import RunConfig
from ftlab.config_evaluation import names, sized
from ftlab.data.preferences import PREFERENCE_STAGES
from ftlab.models.estimate import Need
from ftlab.models.load import shape_of
from ftlab.training.launching.launcher import uses_accelerate
from ftlab.training.preflight.advice import Advice, warnings
from ftlab.training.preflight.memory import SAFE_SHARE, Remedy, remedies
from ftlab.training.preflight.plan import Plan, planned_steps
from ftlab.training.self_replay import mixed_in_words
from ftlab.training.status import RunStatus
from ftlab.wording import duration
from ftlab.workspace import Workspace

_MUCH_OF_A_RUN = 0.2  # for telling what was forgotten
_CHECKPOINTS_KEPT = 2  # trainer_arguments: the best and the last


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts. Bytes, seconds and tokens; None where it is not known.

    `kind`: measured, or estimate (of a base that is not on this machine: `estimated_from` says from what).
    `fits`: True, False, or None when nobody can say. `peak_bytes` is what the run takes at most, `available_bytes` what
    is free for it; both of the GPU, or of RAM where training is on a CPU. `out_of_memory_in` names the phase in which
    memory ran out. Token counts are those of one epoch: `tokens` real ones, `trained_tokens` those that are learnt,
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
        known = self.total_seconds is not None and price_per_hour is not None
        cost = self.total_seconds / 3600 * price_per_hour if known else None
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
    manifest: dict[str, Any]
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
    said = warnings(plan)
    if disk and left is not None and disk > left:
        said.insert(0, _disk_warning(disk, left))
    notes = [note for note in outcome.status.warnings if not _said_by_plan(note)]
    if outcome.out_of_memory and outcome.status.error is None:
        notes.append("The measurement was killed from outside; the system does that when memory runs out.")
    if counted.get("documents"):
        notes.append(
            f"{counted['documents']:,} training documents; {counted['documents_cut']:,} of them are longer than "
            f"{config.optimisation.max_length:,} tokens and are learnt piece by piece."
        )
    notes.append(about_replay(config, prepared))
    if replaying:
        notes.append(
            f"Before training the base answers {len(prepared.replay_prompts):,} prompts, in about "
            f"{duration(replaying)}; these answers are rows of training beside those counted above."
        )
    if comparing:
        notes.append(_about_times(known))
        notes += _about_forgetting(config, known.get("forgetting_seconds"), total)
        if config.stage in PREFERENCE_STAGES:
            notes.append("Not in these times: the held-out pairs, and the answers before and after.")
    elif not outcome.out_of_memory and config.evaluation.after_training:
        notes.append("The evaluation after training is not in these times.")
    if "answers_grow_to" in known:
        notes.append(
            f"Memory is measured with answers of {config.reinforcement.max_new_tokens:,} tokens, the longest there can "
            f"be; the time with answers as long as they are now. A step of the longest took "
            f"{known['answers_grow_to']:.2g} s."
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
        warnings=said,
        notes=notes,
    ).priced(price_per_hour)


def _about_times(known: dict[str, Any]) -> str:
    """What the times were extrapolated from."""
    steps, asked = known.get("steps_timed", 0), known.get("rows_asked", 0)
    return (
        f"The times are estimates, from {steps} training {'step' if steps == 1 else 'steps'} and, for the comparison, "
        f"from {asked} answers of the base; the adapted model is taken to answer as briefly as the references. What an "
        "earlier run has asked the same base is not asked again."
    )


def _about_forgetting(config: RunConfig, seconds: float | None, total: float | None) -> list[str]:
    """What it costs to tell what was forgotten; where that is much of a run, how to leave it out."""
    if not seconds:
        return []
    said = f"{duration(seconds)} of these go to what was forgotten: {_asked(config)}"
    if total and seconds > _MUCH_OF_A_RUN * total:
        share = f"{100 * seconds / total:.0f}%"
        off = "evaluation.general_text=none leaves out a part of it, evaluation.probes=none the rest"
        return [f"{said}, {share} of this short run, though little is asked; {off}."]
    return [f"{said}."]


def _asked(config: RunConfig) -> str:
    """The general questions and texts of `config` in words."""
    every = [*names(config.evaluation.probes), *names(config.evaluation.general_text)]
    said = []
    for source, most in map(sized, every):
        title = "neutral prompts" if source == "self" else source
        if source.lower() != "none":
            said.append(f"{most} {'' if source == 'self' else 'passages of '}{title}" if most else title)
    return ", ".join(said)


def about_replay(config: RunConfig, prepared: Any) -> str:
    """What is mixed in against forgetting, or why nothing is."""
    said = mixed_in_words(config, prepared.manifest)
    return f"{said[:1].upper()}{said[1:]}."


def about_processes(config: RunConfig, device: str) -> list[str]:
    """What to bear in mind of memory and times where several processes train together: those of one are known."""
    if not uses_accelerate(config.launcher):
        return []
    share = ", with its share of this machine's memory and cores" if device == "cpu" else ""
    return [
        f"{config.launcher.processes} processes train together; memory and times are those of one of them{share}. Not "
        "in them: what the processes send each other after every step, and what FSDP or DeepSpeed save in memory."
    ]


def need_of(known: dict[str, Any]) -> Need:
    """What the probe measured, split into what stays and what grows with the batch."""
    # The optimiser's two moments and the gradient of every trained weight come with the first step.
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
        "The result and two checkpoints with the state of the optimiser are kept.",
        "Delete old runs, or set FTLAB_HOME to a folder on a larger disk.",
    )


def disk_free(workspace: Workspace) -> int | None:
    try:
        return shutil.disk_usage(workspace.root).free
    except OSError:
        return None
