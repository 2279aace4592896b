"""The training stages: the data each one needs, the settings it reads, its losses and its defaults.

The only list of stages; `training/` trains them. No heavy imports: forms, help and messages use this table too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple


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
    """`title` for a badge; `data`: what a row is; `trl`: the name of its trainer in TRL, as in DPOConfig; `about`
    explains it in the help of the setting; `what` for the list of stages; `needs`: what its data must contain.

    `reads`: the settings of PreferenceConfig it uses. `losses`: the default first; `about_losses` explains them;
    `smoothed` are those that use label smoothing, `per_token` those that score the mean of an answer's tokens, not
    their sum (True: all); `betas` are usual values of beta other than 0.1, by loss. `usual`: None if the
    rate follows the method (`config.methods.real_rate`). `reference`: beta holds the model to where it started.
    `experimental`: in trl.experimental, which may change with any version. `answers`: whether the trained model writes
    answers.
    """

    title: str
    data: Literal["conversations", "documents", "pairs", "judged answers", "prompts"]
    trl: str
    about: str
    what: str = ""
    needs: str = ""
    reads: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    about_losses: str = ""
    smoothed: tuple[str, ...] = ()
    per_token: bool | tuple[str, ...] = False
    betas: Mapping[str, float] = field(default_factory=dict)
    usual: Usual | None = None
    reference: bool = False
    experimental: bool = False
    answers: bool = True


SFT, PRETRAINING = "sft", "pretraining"  # train on conversations, and on documents
_PAIRS, _OWN_ANSWERS = "pairs of a chosen and a rejected answer", "the model's own answers, scored by rewards"
STAGES: dict[str, Stage] = {
    SFT: Stage("SFT", "conversations", "SFT", "instruction tuning on examples of good answers"),
    PRETRAINING: Stage("Pretraining", "documents", "SFT", "plain text; the loss covers every token"),
    "dpo": Stage(
        "DPO",
        "pairs",
        "DPO",
        _PAIRS,
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
        about_losses="sigmoid is standard; ipo overfits less on few pairs; robust assumes a share of wrong votes "
        "(label smoothing); the others are for research",
        smoothed=("robust", "exo_pair", "aot", "aot_unpaired"),
        reference=True,
        usual=Usual(5e-7, 2e-4, 1, 2e-5, 1e-4, 2, f"5e-7 in Tunstall et al. 2023, arXiv 2310.16944; {_FEW_PAIRS}"),
    ),
    "kto": Stage(
        "KTO",
        "judged answers",
        "KTO",
        "single answers marked good or bad",
        "single answers with a thumbs-up or thumbs-down",
        "answers marked good or bad, or pairs",
        reads=("loss", "beta", "label_smoothing", "precompute_reference", "good_weight", "bad_weight"),
        losses=("kto", "apo_zero_unpaired"),
        smoothed=("kto", "apo_zero_unpaired"),
        about_losses="kto is standard; apo_zero_unpaired raises good answers and lowers bad ones without a common zero",
        reference=True,
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
        "ORPO",
        _PAIRS,
        "pairs; also trains on the chosen answers",
        "pairs of answers",
        reads=("beta", "watch"),
        per_token=True,
        usual=Usual(8e-6, 8e-5, 3, 2e-4, 1e-3, 3, "8e-6 in Hong et al. 2024, arXiv 2403.07691; LoRA ten times that"),
        experimental=True,
    ),
    "cpo": Stage(
        "CPO and SimPO",
        "pairs",
        "CPO",
        _PAIRS,
        "pairs, without a reference model",
        "pairs of answers",
        reads=("loss", "beta", "label_smoothing", "simpo_margin", "watch"),
        losses=("sigmoid", "simpo", "hinge", "ipo", "alphapo"),
        about_losses="sigmoid, hinge, ipo, alphapo; simpo divides by the length, so long answers gain nothing from it",
        smoothed=("sigmoid", "simpo", "alphapo"),
        per_token=("ipo", "simpo", "alphapo"),
        # Meng et al. 2024 use 2 to 2.5 for SimPO: its rewards are means over tokens, so much smaller.
        betas={"simpo": 2.0, "alphapo": 2.0},
        usual=Usual(
            5e-7, 5e-6, 1, 2e-5, 1e-4, 2, "3e-7 to 1e-6 in Meng et al. 2024, arXiv 2405.14734; LoRA ten times that"
        ),
        experimental=True,
    ),
    "reward": Stage(
        "Reward model",
        "pairs",
        "Reward",
        "trains a model that scores answers",
        "learns to score answers",
        "pairs of answers",
        reads=("watch",),
        usual=Usual(1e-5, 1e-4, 1, 2e-4, 2e-3, 2, "9e-6 in Ouyang et al. 2022, arXiv 2203.02155; LoRA ten times that"),
        answers=False,
    ),
    "rloo": Stage(
        "RLOO",
        "prompts",
        "RLOO",
        _OWN_ANSWERS,
        "samples answers and learns from their rewards",
        "prompts",
        usual=Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
    ),
    "grpo": Stage(
        "GRPO",
        "prompts",
        "GRPO",
        _OWN_ANSWERS,
        "like RLOO, each answer relative to its group",
        "prompts",
        usual=Usual(1e-6, 1e-5, 1, 2e-4, 2e-3, 1, _REWARDED, batch=2),
    ),
}
# Literals are those of the table, which a type checker cannot read.
if TYPE_CHECKING:
    StageName = str
else:
    StageName = Literal[tuple(STAGES)]
PAIR_STAGES = tuple(name for name, stage in STAGES.items() if stage.data == "pairs")
JUDGED_STAGES = tuple(name for name, stage in STAGES.items() if stage.data == "judged answers")
PREFERENCE_STAGES = tuple(name for name in STAGES if name in (*PAIR_STAGES, *JUDGED_STAGES))
REWARD_STAGES = tuple(name for name, stage in STAGES.items() if stage.data == "prompts")
SUPERVISED_STAGES = tuple(name for name, stage in STAGES.items() if stage.data in ("conversations", "documents"))
WITH_REFERENCE = tuple(name for name, stage in STAGES.items() if stage.reference)
EXPERIMENTAL = tuple(name for name, stage in STAGES.items() if stage.experimental)
# What votes are learned by, unless another stage is chosen: the first of each kind.
FROM_PAIRS, FROM_JUDGED = PAIR_STAGES[0], JUDGED_STAGES[0]
SCORING = tuple(name for name, stage in STAGES.items() if not stage.answers)  # whose models score answers
LOSSES = {name: stage.losses for name, stage in STAGES.items() if stage.losses}


def scores_means(stage: str, loss: str | None) -> bool:
    """Whether `stage` with `loss` scores an answer by the mean log probability of its tokens, not by their sum."""
    per_token = STAGES[stage].per_token
    return per_token if isinstance(per_token, bool) else loss in per_token
