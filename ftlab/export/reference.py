"""What the run's own model says, loaded by ftlab: what an export is compared with, and by how much it may differ."""

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
    """The logits of the run's own model at the same places, by prompt, in float32 on the CPU.

    `base` are those of the model without what was trained (of a reward model its mean score). `merged` and `rounded`:
    those of the run's own model when it is merged here, and rounded as the export is; None where that rounds nothing.
    """

    logits: list[Any]
    base: list[Any]
    merged: list[Any] | None = None
    rounded: list[Any] | None = None

    @property
    def largest_change(self) -> float:
        """Of what training changed, as a part of the largest logit."""
        pairs = list(zip(self.logits, self.base, strict=True))
        changed = max(float((mine[..., : base.shape[-1]] - base).abs().max()) for mine, base in pairs)
        return changed / max(float(mine.abs().max()) for mine, _ in pairs)


@dataclass(frozen=True)
class Carried:
    """How much of the change that training made is in an export, over all places and tokens.

    With d the change of the logits from the base to the run's own model and e that from the base to the export:
    `slope` is <e, d> / <d, d> (1: all of it; 0: none; 0.8: an adapter at 0.8 of its strength) and `error` its standard
    error over prompts (a ratio estimator's, Cochran 1977, 6.4). `apart` is |e - d| / |d|. `effect` is the root mean
    square of d, in logits. Logits are centered at each place, since a constant changes no probability.
    """

    slope: float
    error: float
    apart: float
    effect: float


def carried(export: Sequence[Any], reference: Reference, *, scores: bool = False) -> Carried:
    """What `export` (logits by prompt) carries of the change that the run's training made; NaN where it made none."""
    squares, products, rest, count = [], [], 0.0, 0
    for theirs, mine, base in zip(export, reference.logits, reference.base, strict=True):
        theirs, mine, base = (one if scores else _centered(one, base.shape[-1]) for one in (theirs, mine, base))
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
    """What `model` (as of `load_reference`) and its base say; `model` is of no use afterwards."""
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
    """The logits of `model` merged (None of one without an adapter), and then rounded as the export is."""
    import torch
    from peft import PeftModel

    merged = None
    if isinstance(model, PeftModel):
        model.merge_adapter()
        merged = logits_along(model, asked, scores=False)
    # Not model.to: the buffers of position embeddings stay as they are when a model is loaded.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, shape.dtype)).to(getattr(torch, shape.load_dtype))
    return merged, logits_along(model, asked, scores=False)


def apart(some: Sequence[Any], others: Sequence[Any], reference: Reference, *, scores: bool = False) -> float:
    """How far two sets of logits are apart (root mean square), as a part of what training changed."""
    width = reference.base[0].shape[-1]
    pairs = zip(some, others, strict=True)
    own = zip(reference.logits, reference.base, strict=True)

    def squares(one: Any, other: Any) -> float:
        difference = one - other if scores else _centered(one, width) - _centered(other, width)
        return float((difference.double() ** 2).sum())

    return math.sqrt(math.fsum(squares(*pair) for pair in pairs) / math.fsum(squares(*pair) for pair in own))


def _centered(logits: Any, width: int) -> Any:
    return logits[..., :width] - logits[..., :width].mean(-1, keepdim=True)


def load_reference(run: RunDirectory, shape: Shape) -> tuple[Any, Any]:
    """The model of `run` and its tokenizer as it was evaluated; where a whole model is exported, in the number format
    in which that is loaded, so that rounding blurs as little as can be. Of a quantised one that is merged it is the
    adapter on the whole base, which is what the merge stands for."""
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
    """The base of a fully tuned model, in the number format in which that is loaded."""
    from ftlab.models.load import load_base

    return load_base(_in_format(load_config(run.config_file).resolved(), shape.load_dtype).model, device=shape.device)


def logits_along(model: Any, asked: Sequence[tuple[list[int], list[int]]], *, scores: bool) -> list[Any]:
    """The logits after each prompt and along what follows it: (prompt, continuation) as tokens."""
    import torch

    with torch.inference_mode():
        return [logits(model, ids + more, 1 if scores else len(more) + 1, scores=scores) for ids, more in asked]


def gap_between(run: RunDirectory, shape: Shape, cases: Sequence[tuple[Any, list[int]]]) -> list[float]:
    """How much likelier one of the two tokens was, in logits of the run's own model, where two answers part.

    Each case is a question (with what was expected, as tokens) and the tokens that the export made.
    """
    model, _ = load_reference(run, shape)
    gaps = []
    for asked, made in cases:
        # A text does not tell its tokens for certain, so the place is where the export leaves the run's own model.
        along = logits_along(model, [(asked.ids, made)], scores=False)[0]
        left = next((at for at, token in enumerate(made) if int(along[at].argmax()) != token), None)
        if left is not None:
            gaps.append(float(along[left].max() - along[left][made[left]]))
            continue
        expected = [*asked.expected_ids]
        place = next((i for i, (a, b) in enumerate(zip(made, expected, strict=False)) if a != b), None)
        if place is None:
            # One goes on where the other has ended: nothing that rounding explains.
            gaps.append(float("inf"))
            continue
        logits_there = logits_along(model, [(asked.ids + made[:place], [])], scores=False)[0][-1]
        gaps.append(abs(float(logits_there[made[place]] - logits_there[expected[place]])))
    return gaps


def _in_format(config: RunConfig, dtype: str) -> RunConfig:
    config = config.model_copy(deep=True)
    config.model.dtype = dtype  # type: ignore[assignment]
    return config
