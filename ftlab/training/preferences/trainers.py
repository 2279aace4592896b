"""TRL's trainers of preferences, on rows that ftlab has tokenised itself: one rendering for training and chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.utils import pad

from ftlab.training.warmup import WarmsUp

REFERENCE = "ref"  # TRL's name for the frozen copy of the adapter that training starts from


class PairCollator(DataCollatorForPreference):
    """TRL's batches, where only what the assistant says counts: in several turns, others speak in between."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        masks = [_mask(one, f"{side}_trained") for side in ("chosen", "rejected") for one in examples]
        batch["completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class JudgedCollator(DataCollatorForUnpairedPreference):
    """As PairCollator, for single answers."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for before, column in (("", "completion_trained"), ("KL_", "KL_trained")):
            if column in examples[0]:
                masks = [_mask(one, column) for one in examples]
                batch[f"{before}completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class _OnTokens:
    """Rows that are tokenised already. The reference adapter is never saved: it lies in the run's start/."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_trained(self, super()._save, output_dir, state_dict)


class PairTuner(WarmsUp, _OnTokens, DPOTrainer):
    """DPO on tokenised pairs."""


class JudgedTuner(WarmsUp, _OnTokens, KTOTrainer):
    """KTO on tokenised answers."""


class RewardTuner(WarmsUp, RewardTrainer):
    """Reward modelling on tokenised pairs, with the mean score of either side among the figures."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        figures = self._metrics["train" if self.model.training else "eval"]
        sides = outputs.logits.detach().squeeze(-1).float().chunk(2)
        for name, scores in zip(("chosen", "rejected"), sides, strict=True):
            figures[f"rewards/{name}"].append(self.accelerator.gather_for_metrics(scores).mean().item())
        return (loss, outputs) if return_outputs else loss


def save_trained(trainer: Any, usual: Any, output_dir: str | None, state_dict: dict[str, Any] | None) -> None:
    """Save what `trainer` trains, as the Trainer's `_save` does, without the adapter it is compared with."""
    if REFERENCE not in getattr(trainer.model, "peft_config", {}):
        usual(output_dir, state_dict)
        return
    folder = Path(output_dir or trainer.args.output_dir)
    trainer.model.save_pretrained(str(folder), state_dict=state_dict, selected_adapters=["default"])
    if trainer.processing_class is not None:
        trainer.processing_class.save_pretrained(str(folder))


def forget_reference(model: Any) -> None:
    """Take TRL's copy of the adapter out of the PeftModel `model`: then the bare base is the reference."""
    if REFERENCE in getattr(model, "peft_config", {}):
        model.delete_adapter(REFERENCE)


def _mask(example: dict[str, Any], column: str) -> torch.Tensor:
    return torch.tensor([0] * len(example["prompt_ids"]) + [int(on) for on in example[column]], dtype=torch.long)
