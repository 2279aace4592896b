"""The stages of the Preferences tab in words: what each needs, what it learns, and which settings it reads."""

from __future__ import annotations

from typing import NamedTuple

from ftlab.config import SELF_STAGES
from ftlab.config_preferences import EXPERIMENTAL, LOSSES
from ftlab.method_table import fields_of


class Stage(NamedTuple):
    """`title` for a badge, `what` for the list of stages, `needs` for what its data have to hold."""

    title: str
    what: str
    needs: str
    reads: tuple[str, ...]  # settings of PreferenceConfig


STAGES: dict[str, Stage] = {
    "dpo": Stage(
        "DPO",
        "pairs of a better and a worse answer",
        "pairs of answers",
        ("loss", "beta", "label_smoothing", "watch", "precompute_reference"),
    ),
    "kto": Stage(
        "KTO",
        "single answers with a thumb up or down",
        "answers marked good or bad, or pairs",
        ("loss", "beta", "precompute_reference", "good_weight", "bad_weight"),
    ),
    "orpo": Stage("ORPO", "pairs, and good answers at the same time", "pairs of answers", ("beta", "watch")),
    "cpo": Stage(
        "CPO and SimPO",
        "pairs, without a second model to compare with",
        "pairs of answers",
        ("loss", "beta", "label_smoothing", "simpo_margin", "watch"),
    ),
    "reward": Stage("Reward model", "learns to score answers", "pairs of answers", ("watch",)),
    "rloo": Stage("RLOO", "tries answers and learns from their rewards", "prompts", ()),
    "grpo": Stage("GRPO", "as RLOO, each answer against its siblings", "prompts", ()),
}
FROM_REWARDS = ("rloo", "grpo")
# What a stage is called where its run is shown; those of the Train tab too.
TITLES = {"sft": "SFT", "pretraining": "Pretraining"} | {name: stage.title for name, stage in STAGES.items()}
# A reward model writes no answers, so nothing that is asked of answers is read.
_OF_ANSWERS = ("evaluation.max_new_tokens", "evaluation.batch_size", "evaluation.probes")
_OF_BASE = ("model.base", "model.revision", "model.dtype", "model.thinking")


def stage_choices() -> list[tuple[str, str]]:
    marked = {name: " (experimental)" if name in EXPERIMENTAL else "" for name in STAGES}
    return [(f"{stage.title}: {stage.what}{marked[name]}", name) for name, stage in STAGES.items()]


def loss_choices(stage: str) -> list[tuple[str, str]]:
    """The losses of `stage`, the usual one first, under the empty value that takes it."""
    losses = LOSSES.get(stage, ())
    return [(f"usual: {losses[0]}", ""), *((loss, loss) for loss in losses)] if losses else [("the only one", "")]


LOSS_HELP = {
    "dpo": "ipo overfits less on few pairs; robust expects a share of wrong votes (set it below); the others are for "
    "research.",
    "kto": "apo_zero_unpaired pushes good answers up and bad ones down without a common zero.",
    "cpo": "simpo divides by the length, so that long answers win nothing by it.",
}
METHOD_HELP = "lora suits nearly always; qlora saves memory; full changes all weights; ia3 only with rewards."


def is_read(path: str, stage: str, method: str, *, start: str | None) -> bool:
    """Whether a run of `stage` reads the setting `path`. `start`: base, adapter or model, what it starts from.

    An adapter that is trained further brings its base and its method along, a whole model its base.
    """
    section, _, name = path.partition(".")
    if section == "preference":
        return name in STAGES[stage].reads
    if section == "reinforcement":
        return stage in FROM_REWARDS
    if path in _OF_BASE:
        return start == "base"
    if section == "method":
        return start != "adapter" and (name == "name" or name in fields_of(method))
    if path == "optimisation.loss":
        return stage in SELF_STAGES
    return not (path in _OF_ANSWERS and stage == "reward")
