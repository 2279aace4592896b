"""The sections of a run that trains on preferences or rewards."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ftlab.config.sections import Section, explained, field
from ftlab.config.stages import STAGES


class PreferenceConfig(Section):
    """Read by the stages that learn from preferences (stages.Stage.reads)."""

    loss: str | None = field(
        None,
        "Loss",
        f"{explained({name: stage.about_losses for name, stage in STAGES.items()})} Empty: the first of the stage.",
        min_length=1,
    )
    beta: float | None = field(
        None,
        "Beta",
        "How strongly the model is kept close to its starting point. Higher values change it less. Empty: 0.1, and 2 "
        "for simpo and alphapo.",
        gt=0,
        le=100,
    )
    label_smoothing: float = field(
        0.0,
        "Share of wrong votes",
        "The share of votes you expect to be wrong. For the losses robust and exo_pair, for cpo, and for the weights "
        "of kto.",
        advanced=True,
        ge=0,
        lt=0.5,
    )
    simpo_margin: float = field(
        0.5,
        "SimPO margin",
        "The margin by which the chosen answer must win (gamma in Meng et al. 2024). simpo only.",
        advanced=True,
        ge=0,
        le=10,
    )
    watch: Literal["loss", "accuracy"] = field(
        "loss",
        "Best checkpoint by",
        "Selects the best checkpoint and drives early stopping: the validation loss, or how often the chosen answer "
        "wins on the validation pairs. kto supports loss only.",
        advanced=True,
    )
    precompute_reference: bool = field(
        False,
        "Precompute the reference",
        "Compute the reference model's log probabilities of all rows once before training: less memory, faster steps.",
        advanced=True,
    )
    good_weight: float | None = field(
        None,
        "Weight of good answers",
        "kto: the weight of a thumbs-up. Empty: balances good and bad, as Ethayarajh et al. 2024 advise.",
        advanced=True,
        gt=0,
        le=100,
    )
    bad_weight: float | None = field(
        None,
        "Weight of bad answers",
        "kto: the weight of a thumbs-down. Empty: balances good and bad.",
        advanced=True,
        gt=0,
        le=100,
    )


class Reward(BaseModel):
    """One reward of an answer: 0 to 1 by a rule, or the score of a reward model."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["model", "json", "exact_match", "final_number", "length", "regex"]
    name: str | None = Field(None, min_length=1, max_length=40)  # in charts and files; empty: its kind
    weight: float = Field(1.0, ge=-100, le=100)  # below 0 penalizes, 0 only records
    model: str | None = None  # kind model: a run of the stage reward, or a folder with a sequence classifier
    keys: list[str] = []  # kind json: keys of the object; the reward is then the share of them that are present
    pattern: str | None = None  # kind regex: matched anywhere in the answer; ^ and $ anchor it
    shortest: int | None = Field(None, ge=0)  # kind length, in words
    longest: int | None = Field(None, ge=1)


class ReinforcementConfig(Section):
    """Read by the stages that learn from rewards."""

    rewards: list[Reward] = field(
        [],
        "Rewards",
        "What an answer is rewarded for: {kind: model, model: RUN} uses a reward model; json, exact_match, "
        "final_number, length and regex are rules. Several rewards add up, each times its weight.",
    )
    generations: int = field(
        8,
        "Answers per prompt",
        "Answers to a prompt that are compared with each other. More of them give a steadier signal and take longer. "
        "The batch size counts answers, so it must be a multiple of this.",
        unit="answers",
        ge=2,
        le=64,
    )
    max_new_tokens: int = field(
        64, "Longest answer", "Longer answers are cut during training.", unit="tokens", ge=1, le=8192
    )
    temperature: float = field(
        1.0,
        "Temperature",
        "How varied the sampled answers are. If it is too low, there is nothing to learn from.",
        gt=0,
        le=2,
    )
    beta: float = field(
        0.05,
        "KL weight",
        "How strongly the model is kept close to its starting point. 0 lets it drift to whatever maximizes the reward.",
        ge=0,
        le=10,
    )
