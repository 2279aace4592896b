"""Preference training: pairs as tokens, TRL's trainer for the stage (experimental ones included), the result."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.utils import add_fused_lm_head, pad

from ftlab.config import RunConfig, filled
from ftlab.config.stages import JUDGED_STAGES, STAGES
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.preferences import balanced_weights, cuts_long_answers, equal_answers
from ftlab.data.rendering import Completion, encode_completions
from ftlab.errors import InputError
from ftlab.training import together
from ftlab.training.arguments import stage_arguments
from ftlab.training.checkpoints import WarmsUp
from ftlab.training.gate import check_preference
from ftlab.training.setup import (
    Training,
    begin,
    chat_tokenizer,
    context_of,
    load_model,
    note_environment,
    progress_callbacks,
    unrounded,
)
from ftlab.training.speed import base_of
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase, Trainer
else:
    Trainer = object  # base of the mixins; each trainer lists one of TRL's trainers after them

REFERENCE = "ref"  # TRL's name for the frozen copy of the adapter that training starts from


_FEWEST_ROWS = 10
# Why examples are left out or changed, by their name in the manifest.
_REMARKS = {
    "prompt_too_long": "have a prompt that fills {limit} tokens, which leaves no room for an answer, and were left out",
    "too_long": "are longer than {limit} tokens and were left out: an answer without its end teaches no end",
    "identical": "have equal chosen and rejected answers (within {limit} tokens), which teach nothing, and were left "
    "out",
    "cut": "are longer than {limit} tokens; the ends of their answers were cut off, because fewer than half of the "
    "rows fit whole. A higher optimisation.max_length keeps more of them (three quarters: {most})",
}


def tokenised_preferences(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, datasets.Dataset]:
    """The frozen train and validation splits, as the trainer of the stage reads them.

    Pairs: prompt_ids, chosen_ids, rejected_ids, chosen_trained, rejected_trained. Judged answers: prompt_ids,
    completion_ids, completion_trained, label. Reward models: chosen_ids and rejected_ids, each with its prompt. Raises
    InputError when max_length exceeds the base's context or fewer than 10 training rows are left.
    """
    import datasets

    from ftlab.data.splits import read_split

    limit, context = config.optimisation.max_length, context_of(config)
    splits: dict[str, datasets.Dataset] = {}
    manifest = run.manifest()
    cut = False  # decided on the training rows, for both splits
    for split in ("train", "validation"):
        rows = read_split(run, split)
        if not rows:
            continue
        counts: Counter[str] = Counter()
        remarks: Counter[str] = Counter()
        every, lengths = [], []
        for row in rows:
            sides = [row["completion"]] if "completion" in row else [row["chosen"], row["rejected"]]
            encoded = encode_completions(row["prompt"], sides, tokenizer)
            remarks.update(note for side in encoded for note in set(side.notes))
            lengths.append(max(len(side.whole.input_ids) for side in encoded))
            every.append((encoded, row.get("label"), equal_answers(row)))
        longest, most = max(lengths), sorted(lengths)[3 * len(lengths) // 4]
        if split == "train":
            cut = cuts_long_answers(config.stage, sum(length <= limit for length in lengths), len(rows))
        made = [_example(config.stage, *row, limit, counts, cut=cut) for row in every]
        examples = [example for example in made if example is not None]
        counted = {name: counts[name] for name in _REMARKS if counts[name]}
        columns = [column for example in examples for column in example.items()]
        tokens = sum(len(ids) for name, ids in columns if name.endswith("_ids"))
        trained = sum(sum(on) for name, on in columns if name.endswith("_trained"))
        numbers = {"rows": len(examples), "longest": longest, "tokens": tokens, "trained_tokens": trained or tokens}
        manifest.setdefault("tokens", {})[split] = numbers | counted
        for remark, count in remarks.items():
            writer.warn(f"In {count} answers of the {len(rows)} {split} rows: {remark}")
        for name, count in counted.items():
            writer.warn(f"{count} of {len(rows)} {split} rows {_REMARKS[name].format(limit=limit, most=most)}.")
        if split == "train" and len(examples) < _FEWEST_ROWS:
            reasons = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counted.items())
            raise InputError(
                f"Only {len(examples)} of {len(rows)} training rows can be used ({reasons})",
                given=f"the longest has {longest} tokens; the base reads {context or 'an unknown number'}",
                allowed=f"at least {_FEWEST_ROWS} rows within optimisation.max_length = {limit}",
                try_="raise max_length up to the base's context, leave these rows out, or take a base that reads more",
            )
        if examples:
            splits[split] = datasets.Dataset.from_list(examples)
    if together.is_main():
        write_json(run.manifest_file, manifest)
    return splits


def _example(
    stage: str,
    encoded: list[Completion],
    label: bool | None,
    equal: bool,
    limit: int,
    counts: Counter[str],
    *,
    cut: bool,
) -> dict[str, Any] | None:
    """One row for the trainer, or None; `counts` counts the reasons, and the rows that were cut."""
    if len(encoded[0].prompt_ids) >= limit:
        counts["prompt_too_long"] += 1
        return None
    too_long = any(len(side.whole.input_ids) > limit for side in encoded)
    if too_long and not cut:
        counts["too_long"] += 1
        return None
    room = limit - len(encoded[0].prompt_ids)
    ids = [side.completion_ids[:room] for side in encoded]
    trained = [side.trained[:room] for side in encoded]
    if len(ids) == 2 and (equal or ids[0] == ids[1]):
        counts["identical"] += 1
        return None
    counts["cut"] += too_long
    prompt = encoded[0].prompt_ids
    if not STAGES[stage].answers:
        return {"chosen_ids": prompt + ids[0], "rejected_ids": prompt + ids[1]}
    if len(ids) == 1:
        return {"prompt_ids": prompt, "completion_ids": ids[0], "completion_trained": trained[0], "label": label}
    return {
        "prompt_ids": prompt,
        "chosen_ids": ids[0],
        "rejected_ids": ids[1],
        "chosen_trained": trained[0],
        "rejected_trained": trained[1],
    }


def mismatched(examples: datasets.Dataset, batch: int, seed: int) -> datasets.Dataset:
    """Judged `examples` in random order, each with the answer to another prompt of its batch, from which KTO estimates
    how far the model has moved (Ethayarajh et al. 2024, section 4.1).

    TRL shifts the answers of a batch by one in the order of the file, where the two sides of a pair are neighbors: the
    "mismatched" answer would then often belong to the same prompt.
    """
    rows = list(examples)
    random.Random(seed).shuffle(rows)
    made = []
    for start in range(0, len(rows), batch):
        members = rows[start : start + batch]
        # A batch of one row has no other answer.
        others = [rows[start - 1]] if len(members) == 1 and start else [members[-1], *members[:-1]]
        for row, other in zip(members, others, strict=True):
            extra = {"KL_completion_ids": other["completion_ids"], "KL_trained": other["completion_trained"]}
            made.append(row | extra)
    return type(examples).from_list(made)


def kto_weights(config: RunConfig, labels: list[bool]) -> tuple[float, float]:
    """The weights of good and bad answers: as set, else those that balance the two.

    If a share of the labels is wrong (`label_smoothing`), the weights are those under which the loss is on average that
    of the right labels (N. Natarajan et al. 2013, "Learning with noisy labels"). The losses of an answer as a good and
    as a bad one add up to a constant, so weights are all that wrong labels change. Raises InputError if more labels
    would be wrong than there are good or bad answers, or if one of the two is missing.
    """
    settings, wrong = config.preference, config.preference.label_smoothing
    marked = sum(labels), len(labels) - sum(labels)
    weights = balanced_weights(*marked)
    if settings.good_weight is not None or settings.bad_weight is not None:
        weights = settings.good_weight or 1.0, settings.bad_weight or 1.0
    elif wrong:
        rarer = min(marked) / len(labels)
        if wrong >= rarer:
            raise InputError(
                "So many judged answers cannot be wrong",
                given=f"preference.label_smoothing: {wrong:g}, with {marked[0]} good and {marked[1]} bad answers",
                allowed=f"below {rarer:.3g}, the share of the rarer kind",
            )
        weights = balanced_weights(*(number - wrong * len(labels) for number in marked))
    good, bad = weights
    apart = 1 - 2 * wrong
    return ((1 - wrong) * good + wrong * bad) / apart, ((1 - wrong) * bad + wrong * good) / apart


class PairCollator(DataCollatorForPreference):
    """TRL's batches, in which only the assistant's tokens count, also in answers of several turns."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        masks = [_mask(example, f"{side}_trained") for side in ("chosen", "rejected") for example in examples]
        batch["completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class JudgedCollator(DataCollatorForUnpairedPreference):
    """Like PairCollator, for single answers."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for before, column in (("", "completion_trained"), ("KL_", "KL_trained")):
            if column in examples[0]:
                masks = [_mask(example, column) for example in examples]
                batch[f"{before}completion_mask"] = pad(masks, padding_value=0, padding_side="right")
        return batch


class _OnTokens(Trainer):
    """Reads tokenized rows. The reference adapter is never saved: it is in start/ of the run."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_trained(self, super()._save, output_dir, state_dict)


class PairTuner(WarmsUp, _OnTokens, DPOTrainer):
    """DPO on tokenized pairs."""


class JudgedTuner(WarmsUp, _OnTokens, KTOTrainer):
    """KTO on tokenized answers."""


class RewardTuner(WarmsUp, RewardTrainer):
    """Reward modeling on tokenized pairs; logs the mean score of both sides."""

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
    """Save the weights that `trainer` trains, as its `_save` (`usual`) does, without the reference adapter."""
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


class _OnPairs(Trainer):
    """Reads tokenized pairs, counts their tokens, and never holds all logits."""

    processing_class: PreTrainedTokenizerBase
    _tokens = 0
    concatenated_inputs: Any  # a static method of both

    def __init__(self, *arguments: Any, **settings: Any):
        # TRL's experimental trainers look for texts before they tokenize (see `tokenize_row`): empty ones will do.
        for rows in ("train_dataset", "eval_dataset"):
            for column in ("prompt", "chosen", "rejected") if settings.get(rows) is not None else ():
                settings[rows] = settings[rows].add_column(column, [""] * len(settings[rows]))
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
        """TRL's figures, computed with the head that DPO uses: theirs takes the logits of all tokens of both sides. The
        means at the scored positions replace the logits, of which TRL logs the mean."""
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
        self._tokens += sum(int(inputs[f"{side}_attention_mask"].sum()) for side in ("chosen", "rejected"))
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


_EXO_SMOOTHING = 1e-3  # recommended by the paper of EXO (Ji et al. 2024, arXiv 2402.00856)


def _remarks(config: RunConfig) -> list[str]:
    """Remarks on settings of the section `preference` that have no effect."""
    preference, stage = config.preference, config.stage
    remarks = []
    if preference.loss == "robust" and not preference.label_smoothing:
        remarks.append("The loss robust without a share of wrong votes is sigmoid: set preference.label_smoothing.")
    if preference.label_smoothing and preference.loss not in STAGES[stage].smoothed:
        remarks.append(f"preference.label_smoothing is set, but {stage} with loss {preference.loss} does not use it.")
    weights = preference.good_weight is not None or preference.bad_weight is not None
    if weights and "good_weight" not in STAGES[stage].reads:
        remarks.append(f"preference.good_weight and bad_weight are for judged answers; {stage} does not use them.")
    if preference.precompute_reference and not STAGES[stage].reference:
        remarks.append(f"preference.precompute_reference is set, but {stage} has no reference.")
    return remarks


def prepare_preferences(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenize the frozen preferences of `run`, load what it starts from and build the trainer of its stage.

    Raises InputError and FtlabError for anything that a person can fix.
    """
    from ftlab.training.speed import FUSED_LORA, fuse_lora, use_small_tiles

    check_preference(config)
    device, checkpoint = begin(run, config, writer)
    use_small_tiles()
    writer.update(phase="preparing the examples")
    tokenizer = chat_tokenizer(run, config, writer)
    for remark in _remarks(config):
        writer.warn(remark)
    for finding in run.manifest().get("findings", []):
        if finding["kind"] != "info":
            writer.warn(f"{finding['what']} {finding['try']}")
    splits = tokenised_preferences(run, config, tokenizer, writer)
    model = load_model(run, config, tokenizer, device, writer, scores=config.is_reward_model)
    # Before TRL puts its reference adapter beside the one that is trained; without gradients PEFT's own code runs.
    computing = [FUSED_LORA] if fuse_lora(model) else []
    if together.is_main():
        note_environment(run, computing=computing)
    more = _arguments(run, config, splits, writer)
    validation = "validation" in splits
    arguments = stage_arguments(run, config, device, rows=len(splits["train"]), validation=validation, more=more)
    if checkpoint:
        arguments.eval_on_start = False  # already evaluated at this step
    callbacks = progress_callbacks(run, config, writer, checkpoint, validation=validation)
    if config.preference.precompute_reference and STAGES[config.stage].reference:
        writer.update(phase="scoring the rows with the reference")
    with unrounded(model):
        trainer = _trainer(config, device, model, arguments, splits, tokenizer, callbacks)
    if not run.start.exists():
        # A fresh adapter changes nothing, so the bare base is the same reference, and faster.
        forget_reference(trainer.model)
    return Training(trainer, model, tokenizer, callbacks[0], checkpoint, None, computing)


def train_preferences(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen preferences and write adapter/ (or model/). Returns completed or stopped.

    With a validation split, the weights that did best on it are kept. Raises InputError and FtlabError for anything
    that a person can fix.
    """
    from ftlab.training.setup import save_result
    from ftlab.training.speed import unfuse_lora

    training = prepare_preferences(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    unfuse_lora(training.model)
    forget_reference(trainer.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=None)
    return "stopped" if training.report.stop_asked else "completed"


@dataclass(frozen=True)
class _Stage:
    """How a stage is trained: the arguments of TRL's trainer that only it has, and the trainer.

    A new stage of preferences is a row of `config.stages.STAGES`, and one of `_TRAINED`.
    """

    arguments: Callable[[RunConfig], dict[str, Any]]
    trainer: type[Any]
    collator: type[Any] | None = None  # reads tokenized rows, so that TRL need not know their length
    watched: str = "eval_rewards/accuracies"  # what preference.watch accuracy stands for


def _of_pairs(config: RunConfig) -> dict[str, Any]:
    smoothing = config.preference.label_smoothing
    if config.preference.loss == "exo_pair" and not smoothing:
        smoothing = _EXO_SMOOTHING
    return _of_reference(config) | {"loss_type": [config.preference.loss], "label_smoothing": smoothing}


def _of_judged(config: RunConfig) -> dict[str, Any]:
    # In the order of `mismatched`, batch by batch.
    return _of_reference(config) | {"loss_type": config.preference.loss, "train_sampling_strategy": "sequential"}


def _of_reference(config: RunConfig) -> dict[str, Any]:
    preference = config.preference
    return {
        "max_length": None,
        "beta": preference.beta,
        "precompute_ref_log_probs": preference.precompute_reference,
    }


def _of_odds(config: RunConfig) -> dict[str, Any]:
    return {"max_length": config.optimisation.max_length, "beta": config.preference.beta}


def _of_contrast(config: RunConfig) -> dict[str, Any]:
    preference = config.preference
    return _of_odds(config) | {
        "loss_type": preference.loss,
        "label_smoothing": preference.label_smoothing,
        "simpo_gamma": preference.simpo_margin,
        # SimPO has no term that keeps to the chosen answer; CPO has (TRL's cpo_alpha).
        "cpo_alpha": 0.0 if preference.loss in ("simpo", "alphapo") else 1.0,
    }


_TRAINED = {
    "dpo": _Stage(_of_pairs, PairTuner, PairCollator),
    "kto": _Stage(_of_judged, JudgedTuner, JudgedCollator),
    "orpo": _Stage(_of_odds, OddsTuner),
    "cpo": _Stage(_of_contrast, ContrastTuner),
    "reward": _Stage(lambda config: {"max_length": None}, RewardTuner, watched="eval_accuracy"),
}


def _arguments(run: RunDirectory, config: RunConfig, splits: dict[str, Any], writer: StatusWriter) -> dict[str, Any]:
    """The arguments of TRL's trainer that other stages do not have. Of judged answers, also mixes the rows."""
    stage, batch = _TRAINED[config.stage], filled(config.optimisation.batch_size)
    _divide(splits, writer)
    validation_rows = len(splits.get("validation", ())) // together.processes()
    # Batches of nearly the same size: TRL takes the mean over batches, whatever their size.
    even = math.ceil(validation_rows / math.ceil(validation_rows / batch)) if validation_rows else batch
    values = {"per_device_eval_batch_size": even, "remove_unused_columns": False} | stage.arguments(config)
    if config.preference.watch == "accuracy" and validation_rows:
        values |= {"metric_for_best_model": stage.watched, "greater_is_better": True}
    if config.stage in JUDGED_STAGES:
        labels = list(splits["train"]["label"])
        good, bad = kto_weights(config, labels)
        weights = {"good": sum(labels), "bad": len(labels) - sum(labels), "good_weight": good, "bad_weight": bad}
        if together.is_main():
            write_json(run.manifest_file, run.manifest() | {"judged": weights})
        if good != bad:
            writer.warn(
                f"Good answers count {good:g} and bad ones {bad:g}: there are {weights['good']} good and "
                f"{weights['bad']} bad."
            )
        for split, size in (("train", batch), ("validation", even)):
            if split in splits:  # in the batches of all processes together, as one process would have them
                splits[split] = mismatched(splits[split], size * together.processes(), config.optimisation.seed)
        values |= {"desirable_weight": good, "undesirable_weight": bad}
    return values


def _divide(splits: dict[str, Any], writer: StatusWriter) -> None:
    """Leave out the validation rows that several processes cannot divide evenly: they would count some rows twice."""
    number, rows = together.processes(), len(splits.get("validation", ()))
    if not rows % number:
        return
    kept = rows - rows % number
    writer.warn(f"Validation uses {kept} of {rows} rows, as many for each of the {number} processes.")
    if kept:
        splits["validation"] = splits["validation"].select(range(kept))
    else:
        del splits["validation"]


def _trainer(
    config: RunConfig, device: str, model: Any, arguments: Any, splits: dict[str, Any], tokenizer: Any, callbacks: Any
) -> Any:
    from ftlab.models.load import load_base

    stage = _TRAINED[config.stage]
    more: dict[str, Any] = {"data_collator": stage.collator(tokenizer.pad_token_id)} if stage.collator else {}
    if STAGES[config.stage].reference and config.method.is_full and not config.preference.precompute_reference:
        # TRL would load it by its name alone, and then perhaps another revision.
        same = config.model.model_copy(update={"dtype": str(model.dtype).removeprefix("torch.")})
        more["ref_model"] = load_base(same, device=device)
    return stage.trainer(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits.get("validation"),
        processing_class=tokenizer,
        callbacks=callbacks,
        **more,
    )
