"""The reference that an export is compared with: the logits of the run's own model, loaded by ftlab."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.export.outside import logits
from ftlab.export.shape import Shape
from ftlab.models.strength import AS_TRAINED, set_strength


@dataclass(frozen=True)
class Reference:
    """The logits of the run's own model at the same positions, by prompt, in float32 on the CPU.

    `base`: those of the model before training (for a reward model, its mean score). `merged` and `rounded`: those of
    the run's own model after merging it here, and after rounding it like the export; None where nothing is rounded.
    """

    logits: list[Any]
    base: list[Any]
    merged: list[Any] | None = None
    rounded: list[Any] | None = None

    @property
    def largest_change(self) -> float:
        """The largest change made by training, as a part of the largest logit."""
        pairs = list(zip(self.logits, self.base, strict=True))
        changed = max(float((mine[..., : base.shape[-1]] - base).abs().max()) for mine, base in pairs)
        return changed / max(float(mine.abs().max()) for mine, _ in pairs)


@dataclass(frozen=True)
class Carried:
    """How much of the change made by training an export carries, over all positions and tokens.

    Let d be the change of the logits from the base to the run's own model, and e that from the base to the export.
    `slope` is <e, d> / <d, d> (1: all of it; 0: none; 0.8: an adapter at 0.8 of its strength) and `error` its standard
    error over prompts (a ratio estimator's, Cochran 1977, 6.4). `apart` is |e - d| / |d|. `effect` is the root mean
    square of d, in logits. Logits are centered at each position, since a constant changes no probability.
    """

    slope: float
    error: float
    apart: float
    effect: float


def carried(export: Sequence[Any], reference: Reference, *, scores: bool = False) -> Carried:
    """How much of the change made by training `export` (logits by prompt) carries; NaN if training changed nothing."""
    squares, products, rest, count = [], [], 0.0, 0
    for theirs, mine, base in zip(export, reference.logits, reference.base, strict=True):
        theirs, mine, base = (
            logits if scores else _centered(logits, base.shape[-1]) for logits in (theirs, mine, base)
        )
        change = mine - base
        squares.append(float((change.double() ** 2).sum()))
        products.append(float(((theirs - base).double() * change).sum()))
        rest += float(((theirs - mine).double() ** 2).sum())
        count += change.numel()
    total, prompts = math.fsum(squares), len(squares)
    if not total:
        return Carried(math.nan, math.nan, math.nan, 0.0)
    slope = math.fsum(products) / total
    spread = math.fsum((product - slope * square) ** 2 for product, square in zip(products, squares, strict=True))
    error = math.sqrt(spread * prompts / (prompts - 1)) / total if prompts > 1 else math.inf
    return Carried(slope, error, math.sqrt(rest / total), math.sqrt(total / count))


def ask_reference(
    run: RunDirectory, shape: Shape, model: Any, asked: Sequence[tuple[list[int], list[int]]]
) -> Reference:
    """The logits of `model` (from `load_reference`) and of its base. `model` is modified and cannot be used again."""
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.adapters import adapter_disabled

    own = logits_along(model, asked, scores=shape.scores)
    if shape.scores:
        mean = sum(own) / len(own)
        return Reference(own, [mean] * len(own))
    if run.adapter.exists():
        with adapter_disabled(model) as below:
            base = logits_along(below, asked, scores=False)
    merged = rounded = None
    if not shape.is_adapter and shape.dtype != "float32":
        merged, rounded = _rounded(model, shape, asked)
    if not run.adapter.exists():
        del model
        free_memory()
        base = logits_along(_below(run, shape), asked, scores=False)
    return Reference(own, base, merged, rounded)


def _rounded(
    model: Any, shape: Shape, asked: Sequence[tuple[list[int], list[int]]]
) -> tuple[list[Any] | None, list[Any]]:
    """The logits of `model` after merging (None without an adapter), and after rounding like the export."""
    import torch
    from peft import PeftModel

    merged = None
    if isinstance(model, PeftModel):
        model.merge_adapter()
        merged = logits_along(model, asked, scores=False)
    # Not model.to: loading a model leaves the buffers of position embeddings as they are.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, shape.dtype)).to(getattr(torch, shape.load_dtype))
    return merged, logits_along(model, asked, scores=False)


def apart(some: Sequence[Any], others: Sequence[Any], reference: Reference, *, scores: bool = False) -> float:
    """The distance of two sets of logits (root mean square), as a part of the change made by training."""
    width = reference.base[0].shape[-1]
    pairs = zip(some, others, strict=True)
    own = zip(reference.logits, reference.base, strict=True)

    def squares(first: Any, other: Any) -> float:
        difference = first - other if scores else _centered(first, width) - _centered(other, width)
        return float((difference.double() ** 2).sum())

    return math.sqrt(math.fsum(squares(*pair) for pair in pairs) / math.fsum(squares(*pair) for pair in own))


def _centered(logits: Any, width: int) -> Any:
    return logits[..., :width] - logits[..., :width].mean(-1, keepdim=True)


def load_reference(run: RunDirectory, shape: Shape) -> tuple[Any, Any]:
    """The model and the tokenizer of `run`, as evaluated. If a whole model is exported, it is loaded in the number
    format of the export, so that rounding blurs the comparison as little as possible. If a quantized one is merged, it
    is the adapter on the unquantized base, which the merge represents."""
    from transformers import AutoTokenizer

    from ftlab.models.adapters import attach_adapter
    from ftlab.models.load import load_base, load_run
    from ftlab.models.reward import load_reward_model

    if shape.scores:
        return load_reward_model(run)
    if shape.is_adapter:
        return load_run(run, device=shape.device, strength=shape.strength)
    whole = not run.adapter.exists()
    source = ModelConfig.model_validate({"base": str(run.model), "dtype": shape.load_dtype}) if whole else None
    base = load_base(source or _in_format(load_config(run.config_file), shape.load_dtype).model, device=shape.device)
    tokenizer = AutoTokenizer.from_pretrained(str(run.model if whole else run.adapter))
    model = base if whole else attach_adapter(base, run.adapter)
    if shape.strength != AS_TRAINED:
        below = _below(run, shape) if whole else None
        set_strength(model, shape.strength, base=below)
    return model, tokenizer


def _below(run: RunDirectory, shape: Shape) -> Any:
    """The base of a fully tuned model, in the number format in which the export is loaded."""
    from ftlab.models.load import load_base

    return load_base(_in_format(load_config(run.config_file).resolved(), shape.load_dtype).model, device=shape.device)


def logits_along(model: Any, asked: Sequence[tuple[list[int], list[int]]], *, scores: bool) -> list[Any]:
    """The logits after each prompt and along its continuation: (prompt, continuation) as tokens."""
    import torch

    with torch.inference_mode():
        return [logits(model, ids + more, 1 if scores else len(more) + 1, scores=scores) for ids, more in asked]


def gap_between(run: RunDirectory, shape: Shape, cases: Sequence[tuple[Any, list[int]]]) -> list[float]:
    """The difference of the two tokens at which two answers diverge, in logits of the run's own model.

    Each case is a prompt (with the expected tokens) and the tokens that the export generated.
    """
    model, _ = load_reference(run, shape)
    gaps = []
    for asked, made in cases:
        # A text may have several tokenizations, so look for where the export departs from the run's own model.
        along = logits_along(model, [(asked.ids, made)], scores=False)[0]
        left = next((at for at, token in enumerate(made) if int(along[at].argmax()) != token), None)
        if left is not None:
            gaps.append(float(along[left].max() - along[left][made[left]]))
            continue
        expected = [*asked.expected_ids]
        place = next((i for i, (a, b) in enumerate(zip(made, expected, strict=False)) if a != b), None)
        if place is None:
            # One continues where the other has ended: rounding does not explain that.
            gaps.append(float("inf"))
            continue
        logits_there = logits_along(model, [(asked.ids + made[:place], [])], scores=False)[0][-1]
        gaps.append(abs(float(logits_there[made[place]] - logits_there[expected[place]])))
    return gaps


def _in_format(config: RunConfig, dtype: str) -> RunConfig:
    config = config.model_copy(deep=True)
    config.model.dtype = dtype  # type: ignore[assignment]
    return config
