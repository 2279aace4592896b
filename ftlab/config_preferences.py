"""The sections of a run that learns from preferences or from rewards."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ftlab.config_sections import Section, field


class Usual(NamedTuple):
    """What usually works for a stage: the learning rate of full training and of adapters, passes over the data, and on
    real bases rows at once (`batch`) and how many of these make a step (`accumulation`)."""

    full: float
    adapter: float
    epochs: float
    starter_full: float
    starter_adapter: float
    starter_epochs: float
    source: str = "found by trial"
    batch: int = 1
    accumulation: int = 8


# The first of each is the usual one. Those of dpo are all that TRL 1.16 names.
LOSSES: dict[str, tuple[str, ...]] = {
    "dpo": (
        "sigmoid", "ipo", "robust", "hinge", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
        "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
    ),
    "cpo": ("sigmoid", "simpo", "hinge", "ipo", "alphapo"),
    "kto": ("kto", "apo_zero_unpaired"),
}  # fmt: skip
EXPERIMENTAL = ("orpo", "cpo")  # in TRL's experimental part: they may change with any version of it

# Sources for real bases:
# dpo     full 5e-7 (Zephyr, Tunstall et al. 2023, arXiv 2310.16944). LoRA: 5e-6 in the same authors' alignment handbook
#         and 1e-4 in Intel's neural-chat (its issue 25), both 7B with ten thousand pairs. SmolLM2-135M (r=16, 56 pairs,
#         one epoch): on pairs not seen before, in the last half, a mean margin of 0.00 at 5e-5 (steps of 8), 0.09 at
#         2e-4 and 0.35 at 5e-4 (steps of 4), chosen answers 0.2 and 1.5 nats less likely; 18 held-out pairs tell none
# kto     full 5e-7 (Ethayarajh et al. 2024, arXiv 2402.01306, 5e-7 to 5e-6), LoRA as dpo
# orpo    full 8e-6 (Hong et al. 2024, arXiv 2403.07691), LoRA ten times that
# cpo     full 5e-7 (SimPO, Meng et al. 2024, arXiv 2405.14734, 3e-7 to 1e-6), LoRA ten times that
# reward  full 1e-5 (Ouyang et al. 2022, arXiv 2203.02155, 9e-6; one epoch), LoRA 1e-4 (TRL's default)
# rloo, grpo  full 1e-6, LoRA 1e-5; those of the starter by runs on brand_voice and brand_voice_preferences
# Batches of real bases: a row of dpo is two texts, one of kto an answer and that of another prompt; rloo and grpo need
# whole groups of answers in a step. Peak of the process on SmolLM2-135M in float32 with max_length 512: 3.5 GB (dpo,
# one pair), 3.95 GB (kto, two answers). Eight rows a step, so that a hundred make enough of them.
# Those of the starter were found by runs on brand_voice_preferences, from an adapter that had learned brand_voice.
_REWARDED = (
    "1e-6 in Ahmadian et al. 2024, arXiv 2402.14740, and Shao et al. 2024, arXiv 2402.03300; 1e-5 for LoRA in TRL's "
    "LoRA Without Regret"
)
_FEW_PAIRS = "LoRA with some hundred pairs measured with dpo on SmolLM2-135M; 5e-6 for 7B with ten thousand pairs"
PREFERENCE_USUAL: dict[str, Usual] = {
    "dpo": Usual(5e-7, 2e-4, 1, 2e-5, 1e-4, 2, f"5e-7 in Tunstall et al. 2023, arXiv 2310.16944; {_FEW_PAIRS}"),
    "kto": Usual(
        5e-7, 2e-4, 1, 2e-5, 1e-4, 2, f"5e-7 to 5e-6 in Ethayarajh et al. 2024, arXiv 2402.01306; {_FEW_PAIRS}", batch=2
    ),
    "orpo": Usual(8e-6, 8e-5, 3, 2e-4, 1e-3, 3, "8e-6 in Hong et al. 2024, arXiv 2403.07691; ten times that for LoRA"),
    "cpo": Usual(
        5e-7, 5e-6, 1, 2e-5, 1e-4, 2, "3e-7 to 1e-6 in Meng et al. 2024, arXiv 2405.14734; ten times that for LoRA"
    ),
    "reward": Usual(
        1e-5, 1e-4, 1, 2e-4, 2e-3, 2, "9e-6 in Ouyang et al. 2022, arXiv 2203.02155; ten times that for LoRA"
    ),
    "rloo": Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
    "grpo": Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
}


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
