"""The one gate of every run: whichever door it comes through (form, YAML, API, sweep, resume), each setting is checked
here before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import AUTO, RunConfig
from ftlab.data.preferences import PREFERENCE_STAGES
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.hub import is_offline
from ftlab.training.start import Start, resolve_start
from ftlab.workspace import Workspace


def checked(config: RunConfig, workspace: Workspace, *, needs_base: bool = True) -> tuple[RunConfig, Start | None]:
    """`config` with nothing left empty, checked, and what it starts from. Without `needs_base` the base may be
    one that cannot be had from here: preflight estimates what it would need.

    Raises InputError for whatever would stop the run later, as far as its settings tell.
    """
    from ftlab.models.load import check_base, shape_of
    from ftlab.training.launching.check import shards
    from ftlab.training.reinforcement.checks import pin_rewards

    config, start = resolve_start(config, workspace)
    if config.data.replay == AUTO and shards(config.launcher):
        config.data.replay = None
    if needs_base:
        check_base(config.model)
    given = config.evaluation
    config = config.resolved(shape_of(config.model, fetch=needs_base and not is_offline()))
    if not config.is_starter:
        # How much that is follows from the data: see settle_measuring.
        config.evaluation.probes = given.probes
        config.evaluation.general_text = given.general_text
    if config.stage in REWARD_STAGES:
        pin_rewards(config, workspace)
    check_stored(config, workspace)
    check_code(config)
    return config, start


def settle_measuring(config: RunConfig, prepared: Any) -> None:
    """Put into `config` how much is asked for forgetting on its `prepared` data, where nobody said so."""
    from ftlab.evaluation.affordable import MOST_PASSAGES, MOST_PROMPTS, affordable

    settings = config.evaluation
    if "auto" not in (settings.probes, settings.general_text):
        return
    prompts, passages = MOST_PROMPTS, MOST_PASSAGES
    if config.stage not in REWARD_STAGES:  # which write their answers in each step
        told = prepared.manifest.get("replay") or {}
        prompts, passages = affordable(config, prepared.splits, told["rows"] if prepared.replay_prompts else 0)
    if settings.probes == "auto":
        settings.probes = f"self:{prompts}" if prompts < MOST_PROMPTS else "self"
    if settings.general_text == "auto":
        settings.general_text = f"general_reading:{passages}" if passages < MOST_PASSAGES else "general_reading"


def check_stored(config: RunConfig, workspace: Workspace, *, kept: Path | None = None) -> None:
    """Raise InputError for settings that cannot be trained with, of a new run or of one that exists (and has a copy
    `kept` of its accelerate configuration): the folder of a run may have come from anywhere."""
    from ftlab.models.methods import check_method
    from ftlab.training.launching.check import check_launcher

    check_method(config)
    if config.stage in REWARD_STAGES:
        from ftlab.training.reinforcement.checks import check_reinforcement, check_rewards

        check_reinforcement(config)
        check_rewards(config, workspace)
    if config.stage in PREFERENCE_STAGES:
        from ftlab.training.preferences.train import check_preferences_config

        check_preferences_config(config)
    if config.trainer:
        from ftlab.training.arguments import check_trainer_settings

        check_trainer_settings(config.trainer, config.stage)
    check_launcher(config, kept=kept)
    if config.tracking.report_to:
        from ftlab.training.tracking import check_tracking

        check_tracking(config)


def check_code(config: RunConfig) -> None:
    """Raise InputError where `config` names a file of code that nobody has named in this command: whether or not this
    run would run it, somebody evaluates it later."""
    from ftlab.config_evaluation import names
    from ftlab.evaluation.metrics.own import check_may_run

    for path in names(config.evaluation.own_metrics):
        check_may_run(path)


def check_evaluation(config: RunConfig, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raise InputError for settings that would stop the comparison of this run, now or whenever it is asked for."""
    from ftlab.evaluation.measuring import check_settings

    if config.stage == "reward":
        return
    held_out = splits["test"] or splits["validation"] if config.stage == "sft" else []
    check_settings(config, [row["messages"][-1]["content"].strip() for row in held_out])
