"""The training stages: the data each one needs, the settings it reads, its losses and its defaults.

The only list of stages; `training/` trains them. No heavy imports: forms, help and messages use this table too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Usual(NamedTuple):
    """The defaults of a stage: learning rates of full tuning and of adapters, epochs, and for real bases the batch size
    and gradient accumulation."""

    full: float
    adapter: float
    epochs: float
    starter_full: float
    starter_adapter: float
    starter_epochs: float
    source: str = "found by trial"
    batch: int = 1
    accumulation: int = 8


# Sources for real bases:
# dpo     full 5e-7 (Zephyr, Tunstall et al. 2023, arXiv 2310.16944). LoRA: 5e-6 in the same authors' alignment handbook
#         and 1e-4 in Intel's neural-chat (its issue 25), both 7B with ten thousand pairs. SmolLM2-135M (r=16, 56 pairs,
#         one epoch): on pairs not seen before, in the last half, a mean margin of 0.00 at 5e-5 (steps of 8), 0.09 at
#         2e-4 and 0.35 at 5e-4 (steps of 4), chosen answers 0.2 and 1.5 nats less likely; 18 held-out pairs cannot
#         tell them apart
# kto     full 5e-7 (Ethayarajh et al. 2024, arXiv 2402.01306, 5e-7 to 5e-6), LoRA as dpo
# orpo    full 8e-6 (Hong et al. 2024, arXiv 2403.07691), LoRA ten times that
# cpo     full 5e-7 (SimPO, Meng et al. 2024, arXiv 2405.14734, 3e-7 to 1e-6), LoRA ten times that
# reward  full 1e-5 (Ouyang et al. 2022, arXiv 2203.02155, 9e-6; one epoch), LoRA 1e-4 (TRL's default)
# rloo, grpo  full 1e-6, LoRA 1e-5; for the starter, from runs on brand_voice and brand_voice_preferences
# Batches of real bases: a row of dpo is two texts; a row of kto is an answer and the answer to another prompt; rloo and
# grpo need whole groups of answers in a step. Peak memory on SmolLM2-135M in float32 with max_length 512: 3.5 GB (dpo,
# one pair), 3.95 GB (kto, two answers). Eight rows per step, so that a hundred rows give enough steps.
# The starter's rates are from runs on brand_voice_preferences, starting from an adapter trained on brand_voice.
_REWARDED = (
    "1e-6 in Ahmadian et al. 2024, arXiv 2402.14740, and Shao et al. 2024, arXiv 2402.03300; 1e-5 for LoRA in TRL's "
    "LoRA Without Regret"
)
_FEW_PAIRS = "LoRA with about a hundred pairs measured with dpo on SmolLM2-135M; 5e-6 for 7B with ten thousand pairs"


@dataclass(frozen=True)
class Stage:
    """`title` for a badge; `data`: what a row is; `what` for the list of stages; `needs`: what its data must contain.

    `reads`: the settings of PreferenceConfig it uses. `losses`: the default first. `usual`: None if the rate follows
    the method (`config.methods.real_rate`). `experimental`: in trl.experimental, which may change with any version.
    `answers`: whether the trained model writes answers.
    """

    title: str
    data: Literal["conversations", "documents", "pairs", "judged answers", "prompts"]
    what: str = ""
    needs: str = ""
    reads: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    usual: Usual | None = None
    experimental: bool = False
    answers: bool = True


PRETRAINING = "pretraining"  # trains on documents
STAGES: dict[str, Stage] = {
    "sft": Stage("SFT", "conversations"),
    PRETRAINING: Stage("Pretraining", "documents"),
    "dpo": Stage(
        "DPO",
        "pairs",
        "pairs of a better and a worse answer",
        "pairs of answers",
        reads=("loss", "beta", "label_smoothing", "watch", "precompute_reference"),
        losses=(
            "sigmoid",
            "ipo",
            "robust",
            "hinge",
            "exo_pair",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "aot",
            "aot_unpaired",
            "apo_zero",
            "apo_down",
            "discopop",
            "sft",
            "sigmoid_norm",
        ),  # all that TRL 1.16 names
        usual=Usual(5e-7, 2e-4, 1, 2e-5, 1e-4, 2, f"5e-7 in Tunstall et al. 2023, arXiv 2310.16944; {_FEW_PAIRS}"),
    ),
    "kto": Stage(
        "KTO",
        "judged answers",
        "single answers with a thumbs-up or thumbs-down",
        "answers marked good or bad, or pairs",
        reads=("loss", "beta", "precompute_reference", "good_weight", "bad_weight"),
        losses=("kto", "apo_zero_unpaired"),
        usual=Usual(
            5e-7,
            2e-4,
            1,
            2e-5,
            1e-4,
            2,
            f"5e-7 to 5e-6 in Ethayarajh et al. 2024, arXiv 2402.01306; {_FEW_PAIRS}",
            batch=2,
        ),
    ),
    "orpo": Stage(
        "ORPO",
        "pairs",
        "pairs; also trains on the chosen answers",
        "pairs of answers",
        reads=("beta", "watch"),
        usual=Usual(8e-6, 8e-5, 3, 2e-4, 1e-3, 3, "8e-6 in Hong et al. 2024, arXiv 2403.07691; LoRA ten times that"),
        experimental=True,
    ),
    "cpo": Stage(
        "CPO and SimPO",
        "pairs",
        "pairs, without a reference model",
        "pairs of answers",
        reads=("loss", "beta", "label_smoothing", "simpo_margin", "watch"),
        losses=("sigmoid", "simpo", "hinge", "ipo", "alphapo"),
        usual=Usual(
            5e-7, 5e-6, 1, 2e-5, 1e-4, 2, "3e-7 to 1e-6 in Meng et al. 2024, arXiv 2405.14734; LoRA ten times that"
        ),
        experimental=True,
    ),
    "reward": Stage(
        "Reward model",
        "pairs",
        "learns to score answers",
        "pairs of answers",
        reads=("watch",),
        usual=Usual(1e-5, 1e-4, 1, 2e-4, 2e-3, 2, "9e-6 in Ouyang et al. 2022, arXiv 2203.02155; LoRA ten times that"),
        answers=False,
    ),
    "rloo": Stage(
        "RLOO",
        "prompts",
        "samples answers and learns from their rewards",
        "prompts",
        usual=Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
    ),
    "grpo": Stage(
        "GRPO",
        "prompts",
        "like RLOO, each answer relative to its group",
        "prompts",
        usual=Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
    ),
}
PAIR_STAGES = tuple(name for name, stage in STAGES.items() if stage.data == "pairs")
PREFERENCE_STAGES = tuple(name for name, stage in STAGES.items() if stage.data in ("pairs", "judged answers"))
REWARD_STAGES = tuple(name for name, stage in STAGES.items() if stage.data == "prompts")
SELF_STAGES = tuple(name for name, stage in STAGES.items() if stage.data in ("conversations", "documents"))
EXPERIMENTAL = tuple(name for name, stage in STAGES.items() if stage.experimental)
LOSSES = {name: stage.losses for name, stage in STAGES.items() if stage.losses}
