"""Describe the stages of the Preferences tab: what each needs, what it learns, and which settings it reads."""

from __future__ import annotations

from ftlab.config import stages as config_stages
from ftlab.config.methods import FOR_PREFERENCES, METHODS, fields_of
from ftlab.config.sections import explained
from ftlab.config.stages import LOSSES, REWARD_STAGES, SUPERVISED_STAGES

STAGES = {name: stage for name, stage in config_stages.STAGES.items() if stage.usual}  # those of the Preferences tab
TITLES = {name: stage.title for name, stage in config_stages.STAGES.items()}
# A reward model writes no answers, so it reads no settings about answers.
_OF_ANSWERS = ("evaluation.max_new_tokens", "evaluation.batch_size", "evaluation.probes")
_OF_BASE = ("model.base", "model.revision", "model.dtype", "model.thinking")


def stage_choices() -> list[tuple[str, str]]:
    return [
        (f"{stage.title}: {stage.what}{' (experimental)' if stage.experimental else ''}", name)
        for name, stage in STAGES.items()
    ]


def loss_choices(stage: str) -> list[tuple[str, str]]:
    """The losses of `stage`, the default first, under the empty value that selects it."""
    losses = LOSSES.get(stage, ())
    return [(f"usual: {losses[0]}", ""), *((loss, loss) for loss in losses)] if losses else [("the only one", "")]


LOSS_HELP = {name: f"{stage.about_losses}." for name, stage in STAGES.items() if stage.about_losses}
METHOD_HELP = explained({name: METHODS[name].about for name in FOR_PREFERENCES})


def is_read(path: str, stage: str, method: str, *, start: str | None) -> bool:
    """Whether a run of `stage` reads the setting `path`. `start`: base, adapter or model, what it starts from.

    An adapter that is trained further brings its base and its method, a whole model its base.
    """
    section, _, name = path.partition(".")
    if section == "preference":
        return name in STAGES[stage].reads
    if section == "reinforcement":
        return stage in REWARD_STAGES
    if path in _OF_BASE:
        return start == "base"
    if section == "method":
        return start != "adapter" and (name == "name" or name in fields_of(method))
    if path == "optimisation.loss":
        return stage in SUPERVISED_STAGES
    return path not in _OF_ANSWERS or config_stages.STAGES[stage].answers
