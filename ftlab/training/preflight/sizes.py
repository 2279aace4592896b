"""Sizes of a run before it starts: its batches, weights and steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftlab.config import OptimisationConfig, RunConfig
from ftlab.config.methods import BaseShape
from ftlab.config.stages import PRETRAINING


@dataclass(frozen=True)
class Steps:
    """How many optimizer steps and validations a run takes; what is `between` two counts steps."""

    per_epoch: int
    total: int
    warmup: int
    between_logs: int
    between_evaluations: int
    evaluations: int


@dataclass(frozen=True)
class Plan:
    """What the warnings are based on; None if unknown. Rows are those kept; tokens are of one epoch.

    `template`: marked (says itself which tokens are the answer), plain (does not), missing. `context` is what the base
    can read, in tokens. `card_has_bf16`: whether the GPU computes in bfloat16; None on a CPU. `bfloat16_gain`: how many
    times as fast as float32 a CPU computes in it. `dtype` is the format of the arithmetic, `shape` that of the base.
    """

    config: RunConfig
    rows: int
    validation_rows: int = 0
    test_rows: int = 0
    rows_too_long: int = 0
    longest: int | None = None
    context: int | None = None
    tokens: int | None = None
    computed_tokens: int | None = None
    template: Literal["marked", "plain", "missing"] | None = None
    stop_trained: bool | None = None
    device: str = "cpu"
    dtype: str = "float32"
    card_has_bf16: bool | None = None
    bfloat16_gain: float | None = None
    shape: BaseShape | None = None


def planned_steps(settings: OptimisationConfig, rows: int, *, validation: bool, processes: int = 1) -> Steps:
    """The steps that training on `rows` examples takes; the first validation is before the first step.

    Each of the `processes` reads a batch of its own in every step.
    """
    per_epoch = max(1, math.ceil(rows / (settings.rows_per_step * processes)))
    total = settings.max_steps or math.ceil(per_epoch * (settings.epochs or 1))
    logged = max(1, total // 200)
    between = max(1, min(per_epoch // settings.evaluations_per_epoch, total))
    # On a logged step, so that a resumed run logs the same averages.
    between = min(math.ceil(between / logged) * logged, total)
    warmup = math.ceil(total * settings.warmup_fraction)
    return Steps(per_epoch, total, warmup, logged, between, 1 + total // between if validation else 0)


LOOKED_AT = 200  # batches of an epoch whose padding is counted


def count_batches(trainer: Any) -> dict[str, Any]:
    """Tokens that are computed in an epoch, padding and all, from batches as the run's own sampler draws them."""
    dataset = trainer.train_dataset
    loader = trainer.get_train_dataloader()
    _, steps_per_epoch, *_ = trainer.set_initial_training_values(trainer.args, loader)
    drawn = [list(indexes) for indexes in itertools.islice(loader.batch_sampler, LOOKED_AT)]
    sizes = [tokens_of(trainer, dataset, indexes) for indexes in drawn]
    counts = row_lengths(dataset, both=True)
    real = sum(counts[index] for indexes in drawn for index in indexes)
    per_batch = sum(sizes) / len(sizes)
    # Of batches of the usual number of rows, those nearest to the mean come first.
    whole = [batch for batch in zip(sizes, drawn, strict=True) if len(batch[1]) == len(drawn[0])]
    usual = sorted(whole, key=lambda batch: abs(batch[0] - per_batch))
    return {
        "tokens": sum(counts),
        "computed": round(sum(counts) * sum(sizes) / real),
        "steps_per_epoch": steps_per_epoch,
        "drawn": [index for _, indexes in usual for index in indexes],
    }


def tokens_of(trainer: Any, dataset: Any, indexes: Sequence[int]) -> int:
    """Tokens, padding included, of the batch that the trainer's own collator makes of these rows."""
    columns = dataset[list(indexes)]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    batch = trainer.data_collator(rows)
    # Of pairs, some collators make one batch of both sides and others two; the prompt alone is not computed.
    return sum(
        int(value.numel())
        for name, value in batch.items()
        if name.endswith("input_ids") and not name.startswith("prompt")
    )


def row_lengths(dataset: Any, *, both: bool = False) -> list[int]:
    """Tokens of the longest sequence of each row; with `both`, of all its sequences together."""
    names = set(dataset.column_names)
    if "input_ids" in names:
        return [len(ids) for ids in dataset["input_ids"]]
    prompts = [len(ids) for ids in dataset["prompt_ids"]] if "prompt_ids" in names else [0] * len(dataset)
    kinds = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
    sides = [[len(ids) for ids in dataset[name]] for name in kinds if name in names]
    if both:
        return [len(sides) * prompt + sum(each) for prompt, *each in zip(prompts, *sides, strict=True)]
    return [prompt + max(each) for prompt, *each in zip(prompts, *sides, strict=True)]


def about_template(tokenizer: Any, dataset: Any) -> dict[str, Any]:
    from ftlab.data.rendering import facts_of
    from ftlab.data.safe_templates import FALLBACK_TEMPLATE

    facts = facts_of(tokenizer)
    template = tokenizer.chat_template
    missing = isinstance(template, str) and template.endswith(FALLBACK_TEMPLATE.removeprefix("BOS"))
    last = _last_trained(dataset[: min(50, len(dataset))])
    return {
        "template": "missing" if missing else "marked" if facts.marks_answers else "plain",
        "stop_trained": None if last is None else not facts.stop_ids.isdisjoint(last),
    }


def _last_trained(rows: dict[str, list[Any]]) -> set[int] | None:
    """The last trained token of each of `rows` (columns of examples); None where no text is trained, as for rewards."""
    if "labels" in rows:
        trained = [[label for label in labels if label != -100] for labels in rows["labels"]]
    else:
        side = next((name for name in ("chosen", "completion") if f"{name}_trained" in rows), None)
        if side is None:
            return None
        # What the template writes after the stop token, such as a line feed, is not trained.
        sides = zip(rows[f"{side}_ids"], rows[f"{side}_trained"], strict=True)
        trained = [list(itertools.compress(ids, mask)) for ids, mask in sides]
    return {tokens[-1] for tokens in trained if tokens}


def about_weights(model: Any, stage: str) -> dict[str, Any]:
    """Numbers of weights and bytes, and what the vocabulary takes of the activations."""
    import torch

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    frozen = [module.weight for module in linear if module.weight.numel() > 1e4]
    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    text = model.config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    return {
        "weights_bytes": sum(weight.numel() * weight.element_size() for weight in weights),
        "trained_bytes": sum(weight.numel() * weight.element_size() for weight in trained),
        "trained": sum(weight.numel() for weight in trained),
        "linear_bytes": sum(weight.numel() * weight.element_size() for weight in frozen),
        "linear_weights": sum(weight.numel() for weight in frozen),
        "layers": layers,
        # Preferences and rewards never hold the logits of a batch (log_probs.py).
        "head_share": head_share(hidden, layers, text.vocab_size) if stage in ("sft", PRETRAINING) else 0.0,
    }


def head_share(hidden: int, layers: int, vocabulary: int) -> float:
    """The part of a step's activations that the logits take: three copies in float32 (logits, their softmax, their
    gradient) against 34 units of 2 bytes for each layer (see memory.py)."""
    head = 3 * 4 * vocabulary
    return head / (head + 34 * hidden * layers)


def planned(trainer: Any, config: RunConfig) -> dict[str, int]:
    """The steps and validations of the run; where several processes train it, each does its part of the rows."""
    if config.launcher.processes == 1:
        return {"steps": _total_steps(trainer), "evaluations": _evaluations(trainer)}
    rows, validation = len(trainer.train_dataset), trainer.eval_dataset is not None
    steps = planned_steps(config.optimisation, rows, validation=validation, processes=config.launcher.processes)
    return {"steps": steps.total, "evaluations": steps.evaluations}


def _total_steps(trainer: Any) -> int:
    loader = trainer.get_train_dataloader()
    return int(trainer.set_initial_training_values(trainer.args, loader)[-1])


def _evaluations(trainer: Any) -> int:
    """How many validations the run makes, the one before the first step among them."""
    if trainer.eval_dataset is None:
        return 0
    return int(trainer.args.eval_on_start) + _total_steps(trainer) // max(1, int(trainer.args.eval_steps))
