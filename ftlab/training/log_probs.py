"""Log-probabilities of the trained tokens on a CPU, without logits of any size.

TRL 1.16 computes them in tiles of 4,096 tokens by 32,768 words, at every position, and once more in the backward pass.
That suits a GPU; on a CPU the tiles with their copies take 4 GB, and half of the positions are prompts and padding.
Here tiles are small, only positions with labels are scored, and while the head is frozen (adapters) the gradient comes
from the same tile, as it is linear in what arrives at each token. The results are TRL's (tests/unit/test_log_probs.py).
"""

from __future__ import annotations

from typing import Any

import torch

TILE_BYTES = 32 << 20  # of float32 logits
_FEWEST_ROWS = 16


def use_small_tiles() -> None:
    """Make TRL's trainers score tokens on the CPU with `LogProbs`. Other devices are not affected.

    `trl.trainer.utils` looks both private names up at every call (core/private.py). A version without them keeps its
    own tiles.
    """
    from trl.trainer import utils

    if not {"_ChunkedLogProbFunction", "_use_triton"} <= vars(utils).keys():
        return
    if utils._ChunkedLogProbFunction is LogProbs:
        return
    on_gpu = utils._use_triton
    LogProbs.elsewhere = utils._ChunkedLogProbFunction
    # Where `_use_triton` says yes, only the positions of labels are handed over.
    patched = {
        "_ChunkedLogProbFunction": LogProbs,
        "_use_triton": lambda device: device.type == "cpu" or on_gpu(device),
    }
    vars(utils).update(patched)


class LogProbs:
    """What TRL calls in place of its ChunkedLogProbFunction."""

    elsewhere: Any = None

    @staticmethod
    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[torch.Tensor | None, ...]:
        """Per token: log-probability, entropy, log of the summed squares of the probabilities, mean logit, and whether
        it ranks first; None for what `outputs` does not name."""
        if hidden.device.type != "cpu" or "log_sum_sq_probs" in outputs:
            return LogProbs.elsewhere.apply(
                hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs
            )
        scored = _Scored.apply(hidden, weight, bias, targets, temperature, softcap, scale, torch.is_grad_enabled())
        log_probs, entropy, mean, first = scored
        return (
            log_probs,
            entropy if "entropy" in outputs else None,
            None,
            mean if "mean_logits" in outputs else None,
            first if "is_top1" in outputs else None,
        )


class _Scored(torch.autograd.Function):
    """`hidden` [tokens, width], `weight` [words, width], `targets` [tokens] -> four tensors of one number a token."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        softcap: float | None,
        scale: float,
        learns: bool,
    ) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        ctx.shape = (softcap, scale, 1 / temperature, dtype)
        short, short_bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        frozen = not any(ctx.needs_input_grad[1:3])
        at_once = learns and frozen and ctx.needs_input_grad[0]
        made = [hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(4)]
        log_probs, entropy, mean, log_z = made
        first = torch.empty(len(hidden), dtype=torch.bool)
        slope = torch.empty(hidden.shape, dtype=torch.float32) if at_once else None
        for rows in _tiles(len(hidden), len(weight)):
            z, bend = _logits(hidden[rows], short, short_bias, ctx.shape)
            target = targets[rows, None]
            first[rows] = z.argmax(-1) == target[:, 0]
            mean[rows] = z.mean(-1)
            log_z[rows] = z.logsumexp(-1)
            z -= log_z[rows, None]
            log_probs[rows] = z.gather(-1, target)[:, 0]
            p = z.exp()
            entropy[rows] = -(z.mul_(p)).sum(-1)
            if slope is not None:
                slope[rows] = _to_hidden(_minus(p, target), bend, short, ctx.shape)
        ctx.save_for_backward(hidden, weight, bias, targets, log_z, entropy, slope)
        ctx.mark_non_differentiable(mean, first)
        return log_probs, entropy, mean, first

    @staticmethod
    def backward(ctx: Any, of_log_probs: Any, of_entropy: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, targets, log_z, entropy, slope = ctx.saved_tensors
        if slope is not None and of_entropy is None:
            of_hidden = None if of_log_probs is None else (slope * of_log_probs[:, None]).to(hidden.dtype)
            return of_hidden, *[None] * 7
        # A head that is trained, or an entropy that is: the tiles are computed again.
        dtype, scaling = ctx.shape[3], ctx.shape[1] * ctx.shape[2]
        short, short_bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        of_hidden = torch.zeros(hidden.shape, dtype=torch.float32)
        of_weight = torch.zeros(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros(bias.shape, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        for rows in _tiles(len(hidden), len(weight)):
            z, bend = _logits(hidden[rows], short, short_bias, ctx.shape)
            z -= log_z[rows, None]
            p = z.exp()
            # d(entropy) / dz_j = -p_j (log p_j + entropy)
            through_entropy = 0 if of_entropy is None else (z + entropy[rows, None]) * p * -of_entropy[rows, None]
            gradient = _minus(p, targets[rows, None])
            gradient *= 0 if of_log_probs is None else of_log_probs[rows, None]
            gradient += through_entropy
            of_hidden[rows] = _to_hidden(gradient, bend, short, ctx.shape)
            if of_weight is not None:
                of_weight.addmm_(gradient.t(), hidden[rows].float(), alpha=scaling)
            if of_bias is not None:
                of_bias.add_(gradient.sum(0), alpha=scaling)
        return (
            of_hidden.to(hidden.dtype),
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            *[None] * 5,
        )


def _tiles(tokens: int, words: int) -> list[slice]:
    rows = max(_FEWEST_ROWS, TILE_BYTES // (4 * words))
    return [slice(start, start + rows) for start in range(0, tokens, rows)]


def _logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, shape: tuple[Any, ...]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The logits in float32, and the slope of the soft cap at each where there is one."""
    softcap, scale, inverse, dtype = shape
    z = torch.nn.functional.linear(hidden.to(dtype), weight, bias).float()
    if scale != 1:
        z *= scale
    bend = None
    if softcap:
        z = torch.tanh(z / softcap)
        bend = 1 - z * z
        z *= softcap
    if inverse != 1:
        z *= inverse
    return z, bend


def _minus(p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """d(log p of the target) / dz, in place of `p`."""
    p.neg_()
    return p.scatter_add_(-1, target, torch.ones_like(target, dtype=p.dtype))


def _to_hidden(
    gradient: torch.Tensor, bend: torch.Tensor | None, weight: torch.Tensor, shape: tuple[Any, ...]
) -> torch.Tensor:
    """Of the logits (bent in place) to the hidden states."""
    if bend is not None:
        gradient *= bend
    return (gradient.to(weight.dtype) @ weight).float() * (shape[1] * shape[2])
