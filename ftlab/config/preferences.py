"""The sections of a run that learns from preferences or from rewards."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ftlab.config.sections import Section, field


class PreferenceConfig(Section):
    """Read by the stages dpo, kto, orpo, cpo and reward."""

    loss: str | None = field(
        None,
        "Loss",
        "dpo: sigmoid is the usual one; ipo overfits less on few pairs; robust expects a share of wrong votes "
        "(label smoothing). cpo: sigmoid, simpo, hinge, ipo, alphapo. kto: kto, apo_zero_unpaired. Empty takes the "
        "usual one.",
        min_length=1,
    )
    beta: float | None = field(
        None,
        "Beta",
        "How strongly the model is held to where it started. Higher changes it less. Empty takes what is usual: 0.1, "
        "and 2 for simpo.",
        gt=0,
        le=100,
    )
    label_smoothing: float = field(
        0.0,
        "Share of wrong votes",
        "How often a rater is expected to have voted the wrong way. For the losses robust and exo_pair, and for cpo.",
        advanced=True,
        ge=0,
        lt=0.5,
    )
    simpo_margin: float = field(
        0.5,
        "SimPO margin",
        "By how much the chosen answer has to win (gamma in Meng et al. 2024). simpo only.",
        advanced=True,
        ge=0,
        le=10,
    )
    watch: Literal["loss", "accuracy"] = field(
        "loss",
        "Best moment by",
        "What decides which weights are kept and when training ends early: the validation loss, or how often the "
        "chosen answer of the validation pairs wins. kto knows the loss only.",
        advanced=True,
    )
    precompute_reference: bool = field(
        False,
        "Reference beforehand",
        "Takes the reference's log probabilities of all rows once before training: less memory and faster steps.",
        advanced=True,
    )
    good_weight: float | None = field(
        None,
        "Weight of good answers",
        "kto: how much a thumbs-up counts. Empty balances good and bad, as Ethayarajh et al. 2024 advise.",
        advanced=True,
        gt=0,
        le=100,
    )
    bad_weight: float | None = field(
        None,
        "Weight of bad answers",
        "kto: how much a thumbs-down counts. Empty balances good and bad.",
        advanced=True,
        gt=0,
        le=100,
    )


class Reward(BaseModel):
    """One thing that an answer is rewarded for: 0 to 1 by a rule, or the score of a reward model."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["model", "json", "exact_match", "final_number", "length", "regex"]
    name: str | None = Field(None, min_length=1, max_length=40)  # in charts and files; empty: its kind
    weight: float = Field(1.0, ge=-100, le=100)  # below 0 punishes, 0 only watches
    model: str | None = None  # kind model: a run of the stage reward, or a folder with a sequence classifier
    keys: list[str] = []  # kind json: keys of the object; the reward is then the share of them that are there
    pattern: str | None = None  # kind regex: found anywhere in the answer; ^ and $ tie it to the ends
    shortest: int | None = Field(None, ge=0)  # kind length, in words
    longest: int | None = Field(None, ge=1)


class ReinforcementConfig(Section):
    """Read by the stages rloo and grpo."""

    rewards: list[Reward] = field(
        [],
        "Rewards",
        "What an answer is rewarded for: {kind: model, model: RUN} takes a reward model; json, exact_match, "
        "final_number, length and regex are checked by rule. Several are added up by their weights.",
    )
    generations: int = field(
        8,
        "Answers per prompt",
        "Answers that are compared with each other. More give a steadier signal and take longer. The batch size "
        "counts answers, so it has to be a multiple of this.",
        unit="answers",
        ge=2,
        le=64,
    )
    max_new_tokens: int = field(
        64, "Longest answer", "Answers are cut after so many tokens while training.", unit="tokens", ge=1, le=8192
    )
    temperature: float = field(
        1.0,
        "Temperature",
        "How varied the tried answers are. Too low, and there is nothing to learn from.",
        gt=0,
        le=2,
    )
    beta: float = field(
        0.05,
        "KL weight",
        "How strongly the model is held to where it started. 0 lets it run away to whatever pleases the reward.",
        ge=0,
        le=10,
    )
