"""ORPO and CPO (with SimPO) from TRL's experimental part, on pairs that ftlab has tokenised itself."""

from __future__ import annotations

from typing import Any

from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer


def for_trainer(examples: Any) -> Any:
    """Tokenised pairs with empty texts beside them, which these trainers look for before they tokenise."""
    texts = [""] * len(examples)
    for name in ("prompt", "chosen", "rejected"):
        examples = examples.add_column(name, texts)
    return examples


class _OnPairs:
    """What both trainers do alike: they read tokenised pairs and count their tokens."""

    _tokens = 0

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return _tokenised(feature)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
        self._tokens += _count(inputs)
        return super().compute_loss(model, inputs, *arguments, **settings)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs["num_tokens"] = self._tokens
        super().log(logs, start_time)


class OddsTuner(_OnPairs, ORPOTrainer):
    """ORPO (Hong et al. 2024, arXiv 2403.07691)."""


class ContrastTuner(_OnPairs, CPOTrainer):
    """CPO (Xu et al. 2024, arXiv 2401.08417) and SimPO (Meng et al. 2024, arXiv 2405.14734)."""


def _tokenised(row: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "prompt_input_ids": row["prompt_ids"],
        "prompt_attention_mask": [1] * len(row["prompt_ids"]),
    }
    for side in ("chosen", "rejected"):
        ids = row["prompt_ids"] + row[f"{side}_ids"]
        counts = [False] * len(row["prompt_ids"]) + row[f"{side}_trained"]
        made |= {
            f"{side}_input_ids": ids,
            f"{side}_attention_mask": [1] * len(ids),
            f"{side}_labels": [token if on else -100 for token, on in zip(ids, counts, strict=True)],
        }
    return made


def _count(inputs: dict[str, Any]) -> int:
    return sum(int(inputs[f"{side}_attention_mask"].sum()) for side in ("chosen", "rejected"))
