"""TRL's preference trainers as ftlab calls them, experimental ones included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.utils import add_fused_lm_head, pad

from ftlab.training.checkpoints import WarmsUp
from ftlab.training.speed import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer
else:
    Trainer = object  # what the classes below share; a trainer of TRL comes after it in each of them

REFERENCE = "ref"  # TRL's name for the frozen copy of the adapter that training starts from


class PairCollator(DataCollatorForPreference):
    """TRL's batches, where only the assistant's tokens count, also in answers of several turns."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        masks = [_mask(example, f"{side}_trained") for side in ("chosen", "rejected") for example in examples]
        batch["completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class JudgedCollator(DataCollatorForUnpairedPreference):
    """As PairCollator, for single answers."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for before, column in (("", "completion_trained"), ("KL_", "KL_trained")):
            if column in examples[0]:
                masks = [_mask(example, column) for example in examples]
                batch[f"{before}completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class _OnTokens(Trainer):
    """Rows that are tokenized already. The reference adapter is never saved: it lies in the run's start/."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_trained(self, super()._save, output_dir, state_dict)


class PairTuner(WarmsUp, _OnTokens, DPOTrainer):
    """DPO on tokenized pairs."""


class JudgedTuner(WarmsUp, _OnTokens, KTOTrainer):
    """KTO on tokenized answers."""


class RewardTuner(WarmsUp, RewardTrainer):
    """Reward modeling on tokenized pairs, with the mean score of either side among the figures."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        figures = self._metrics["train" if model.training else "eval"]
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
    """Remove TRL's copy of the adapter from the PeftModel `model`, so that the bare base is the reference."""
    if REFERENCE in getattr(model, "peft_config", {}):
        model.delete_adapter(REFERENCE)


def _mask(example: dict[str, Any], column: str) -> torch.Tensor:
    return torch.tensor([0] * len(example["prompt_ids"]) + [int(on) for on in example[column]], dtype=torch.long)


def for_trainer(examples: Any) -> Any:
    """Tokenized pairs with empty texts beside them, which these trainers look for before they tokenize."""
    texts = [""] * len(examples)
    for name in ("prompt", "chosen", "rejected"):
        examples = examples.add_column(name, texts)
    return examples


class _OnPairs(Trainer):
    """What both trainers share: they read tokenized pairs, count their tokens, and never hold all logits."""

    processing_class: PreTrainedTokenizerBase
    _tokens = 0
    concatenated_inputs: Any  # a static method of both

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        add_fused_lm_head(base_of(self.model), outputs=("log_probs", "mean_logits"))

    def _padding(self) -> int:
        raise NotImplementedError

    def _takes_means(self) -> bool:
        """Whether an answer scores the mean of its tokens, else their sum."""
        raise NotImplementedError

    def _learned(self, ids: torch.Tensor, attention: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """The labels of the chosen answers that are trained by their likelihood."""
        raise NotImplementedError

    def _scored(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """TRL's figures, through the head that DPO uses: theirs takes the logits of all tokens of both sides. In the
        place of the logits, of which TRL logs the mean, are the means at the scored positions."""
        joined = self.concatenated_inputs(batch, padding_value=self._padding(), device=self.accelerator.device)
        ids, attention = joined["concatenated_input_ids"], joined["concatenated_attention_mask"]
        trained, chosen = joined["concatenated_labels"], slice(0, len(batch["chosen_labels"]))
        labels = trained.clone()
        labels[chosen] = self._learned(ids[chosen], attention[chosen], trained[chosen])
        scored = model(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
        counts = trained[:, 1:] != -100
        log_probs = (scored.log_probs * counts).sum(-1)
        if self._takes_means():
            log_probs = log_probs / counts.sum(-1)
        learned = labels[chosen, 1:] != -100
        loss = -(scored.log_probs[chosen] * learned).sum() / learned.sum()
        rest = slice(chosen.stop, None)
        return log_probs[chosen], log_probs[rest], scored.mean_logits[chosen], scored.mean_logits[rest], loss

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return _tokenised(feature)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
        self._tokens += _count(inputs)
        return super().compute_loss(model, inputs, *arguments, **settings)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs["num_tokens"] = self._tokens
        super().log(logs, start_time)


class OddsTuner(WarmsUp, _OnPairs, ORPOTrainer):
    """ORPO (Hong et al. 2024, arXiv 2403.07691)."""

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        return super().concatenated_forward(model, batch) if self.aux_loss_enabled else self._scored(model, batch)

    def _padding(self) -> int:
        return int(self.padding_value)

    def _takes_means(self) -> bool:
        return True

    def _learned(self, ids: torch.Tensor, attention: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        return torch.where(attention == 1, ids, -100)  # the prompt too, as TRL and the authors do


class ContrastTuner(WarmsUp, _OnPairs, CPOTrainer):
    """CPO (Xu et al. 2024, arXiv 2401.08417) and SimPO (Meng et al. 2024, arXiv 2405.14734)."""

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        return super().concatenated_forward(model, batch) if self.aux_loss_enabled else self._scored(model, batch)

    def _padding(self) -> int:
        return int(self.processing_class.pad_token_id)

    def _takes_means(self) -> bool:
        return self.loss_type in ("ipo", "simpo")

    def _learned(self, ids: torch.Tensor, attention: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        return trained


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
