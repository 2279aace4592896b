"""What the run's own model says, loaded by ftlab: what an export is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.run_directory import RunDirectory
from ftlab.sharing.outside import logits
from ftlab.sharing.shape import Shape


@dataclass(frozen=True)
class Reference:
    """The logits of the run's own model at the same places, by prompt, in float32 on the CPU."""

    logits: list[Any]


def load_reference(run: RunDirectory, shape: Shape) -> tuple[Any, Any]:
    """The model of `run` and its tokenizer as it was evaluated; of a quantised one that is merged, the adapter on the
    whole base, which is what the merge stands for."""
    from transformers import AutoTokenizer

    from ftlab.models.load import attach_adapter, load_base, load_run
    from ftlab.models.reward import load_reward_model

    config = load_config(run.config_file)
    if shape.scores:
        return load_reward_model(run)
    if not shape.merged_from_quantised:
        return load_run(run, device=shape.device)
    base = load_base(_in_format(config, shape.own_dtype).model, device=shape.device)
    return attach_adapter(base, run.adapter), AutoTokenizer.from_pretrained(str(run.adapter))


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
        expected = [*asked.expected_ids]
        place = next((i for i, (a, b) in enumerate(zip(made, expected, strict=False)) if a != b), None)
        if place is None:
            # One goes on where the other has ended: nothing that rounding explains.
            gaps.append(float("inf"))
            continue
        found = logits_along(model, [(asked.ids + made[:place], [])], scores=False)[0][-1]
        gaps.append(abs(float(found[made[place]] - found[expected[place]])))
    return gaps


def _in_format(config: RunConfig, dtype: str) -> RunConfig:
    config = config.model_copy(deep=True)
    config.model.dtype = dtype  # type: ignore[assignment]
    return config
