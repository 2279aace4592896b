"""Faster training: attention without padding, LoRA fused with the base, and small tiles of logits on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ftlab.config import RunConfig
from ftlab.config.methods import fields_of
from ftlab.training import together

NAME = "ftlab_varlen"


def fits(model: Any, method: str, longest: int) -> bool:
    """Whether examples of up to `longest` tokens can be trained without padding. This needs plain causal attention in
    every layer, through transformers' own interface, and neither virtual tokens before the text nor a recurrent state.
    """
    from ftlab.models.families import keeps_state

    base = base_of(model)
    config = base.config
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        "virtual_tokens" not in fields_of(method)
        and config._attn_implementation == "sdpa"
        and base._supports_attention_backend
        and not keeps_state(base)
        and kinds <= {"full_attention", "sliding_attention"}
        and (longest <= window if window is not None else "sliding_attention" not in kinds)
        and not getattr(config, "attn_logit_softcapping", None)
        and not getattr(config, "alibi", False)
    )


def use(model: Any) -> None:
    """Make `model` read batches without padding, until `leave` is called."""
    from transformers import AttentionInterface

    # No mask function is registered under this name, so that no mask is built.
    AttentionInterface.register(NAME, attend)
    base_of(model).set_attn_implementation(NAME)


def leave(model: Any) -> None:
    """Return to attention over padded batches, for generation and evaluation."""
    base_of(model).set_attn_implementation("sdpa")


@contextlib.contextmanager
def padded(model: Any) -> Iterator[None]:
    """Within it `model` reads padded batches and generates, however it trains."""
    config = base_of(model).config
    chosen = config._attn_implementation
    if chosen in (NAME, "flash_attention_2"):
        leave(model)
    try:
        yield
    finally:
        if config._attn_implementation != chosen:
            base_of(model).set_attn_implementation(chosen)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within each of the sequences that `cu_seq_lens_q` ([sequences + 1], token offsets) delimits.

    `query` [1, heads, tokens, size]; `key` and `value` may have fewer heads. Returns [1, tokens, heads, size].
    Raises ValueError for a padded batch.
    """
    import torch

    if cu_seq_lens_q is None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise ValueError("this attention reads batches without padding only")
    lengths, kind = cu_seq_lens_q.diff().tolist(), query.dtype
    states = [query, key, value]
    if query.device.type == "cpu":
        # The backward pass of torch's attention takes three times as long in bfloat16 as in float32 (82 tokens).
        states = [state.float() for state in states]
    with torch.autocast(query.device.type, enabled=False):
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=query.shape[1] != key.shape[1]
            )
            for q, k, v in zip(*(state.split(lengths, dim=2) for state in states), strict=True)
        ]
    return torch.cat(parts, dim=2).to(kind).transpose(1, 2).contiguous(), None


def base_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_SHORT_FORMATS = ("float16", "bfloat16")


def speed_up(model: Any, arguments: Any, config: RunConfig, longest: int) -> list[str]:
    """Configure `model` and TRL's `arguments` for speed; returns the choices, in words. `longest`: tokens of the
    longest example.

    The losses equal those of padded batches (tests/unit/test_varlen.py, test_fused_lora.py).
    """
    chosen = []
    if fits(model, config.method.name, longest):
        arguments.padding_free = True
        if model.device.type == "cuda" and _has_flash_attention(model):
            base_of(model).set_attn_implementation("flash_attention_2")
            chosen.append("batches without padding (flash attention)")
        else:
            use(model)
            chosen.append("batches without padding")
    if model.device.type == "cuda" and "use_liger_kernel" not in config.trainer and _has_liger():
        arguments.use_liger_kernel = True
        chosen.append("Liger kernels")
    # Not with FSDP and DeepSpeed, where the weights are on the CPU only until training starts.
    if not together.is_sharded() and fuse_lora(model):
        chosen.append(FUSED_LORA)
    return chosen


def slow_down(model: Any) -> None:
    """Undo `speed_up`, for generation and for saving."""
    if base_of(model).config._attn_implementation in (NAME, "flash_attention_2"):
        leave(model)
    unfuse_lora(model)


def _has_flash_attention(model: Any) -> bool:
    from transformers.utils import is_flash_attn_2_available

    weights = str(base_of(model).dtype).removeprefix("torch.")
    return weights in _SHORT_FORMATS and is_flash_attn_2_available()


def _has_liger() -> bool:
    from transformers.utils import is_liger_kernel_available

    return is_liger_kernel_available()


# PEFT computes `base(x) + B(A(x)) * scaling` as five operations, each of which reads and writes activations of the size
# of the layer. Here the products add the low-rank part themselves (`addmm`), forward and backward, as Unsloth does on
# GPUs: the same result in fewer passes. Used for training on a CPU, where it was measured (tests/benchmarks/train.py):
# in float32, and in bfloat16 under autocast, where the products use the dtype of the base and the adapter stays in
# float32.
FUSED_LORA = "LoRA fused with the base's matrix products"


class _LowRank(torch.autograd.Function):
    """`x W' + bias + scaling x A' B'`: `x` [tokens, in], `a` [rank, in], `b` [out, rank], frozen `weight` [out, in]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        low = x @ a.t()
        result = x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())
        result.addmm_(low, b.t(), alpha=scaling)
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scaling = scaling
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, low = ctx.saved_tensors
        of_low = (gradient @ b).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            of_x.addmm_(of_low, a)
        of_b = (gradient.t() @ low).mul_(ctx.scaling)
        return of_x, None, None, of_low.t() @ x, of_b, None


def fuse_lora(model: Any) -> int:
    """Fuse the eligible LoRA layers of the PeftModel `model`, until `unfuse_lora`; returns how many.

    Eligible are plain linear layers in float32 or bfloat16 on a CPU with a single plain LoRA in float32 and no dropout.
    """
    layers = [module for module in model.modules() if _can_fuse(module)]
    for layer in layers:
        layer.forward = _joined(layer)
    return len(layers)


def unfuse_lora(model: Any) -> None:
    """Return to PEFT's own products."""
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "joins_low_rank", False):
            del module.forward


def _can_fuse(module: Any) -> bool:
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or type(module.base_layer) is not torch.nn.Linear or len(module.active_adapters) != 1:
        return False
    name, weight = module.active_adapters[0], module.base_layer.weight
    return (
        set(module.lora_A) == {name}
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
        and module.lora_B[name].bias is None
        and not weight.requires_grad
        and weight.dtype in (torch.float32, torch.bfloat16)
        and module.lora_A[name].weight.dtype == torch.float32
        and weight.device.type == "cpu"
    )


def _joined(layer: Any) -> Any:
    as_before, name = layer.forward, layer.active_adapters[0]

    def forward(x: torch.Tensor, *arguments: Any, **settings: Any) -> torch.Tensor:
        if layer.disable_adapters or layer.merged or settings or not torch.is_grad_enabled():
            return as_before(x, *arguments, **settings)
        base = layer.base_layer
        kind = base.weight.dtype
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        weights = layer.lora_A[name].weight.to(kind), layer.lora_B[name].weight.to(kind)
        # Autocast would check every product for casts; none remain.
        with torch.autocast("cpu", enabled=False):
            result = _LowRank.apply(flat, base.weight, base.bias, *weights, layer.scaling[name])
        return result.view(*x.shape[:-1], result.shape[-1])

    vars(forward)["joins_low_rank"] = True
    return forward


# TRL 1.16 computes the log-probabilities of the trained tokens in tiles of 4,096 tokens by 32,768 words, at every
# position, and once more in the backward pass. That suits a GPU; on a CPU the tiles with their copies take 4 GB, and
# half of the positions are prompts and padding. Here tiles are small, only positions with labels are scored, and while
# the head is frozen (adapters) the gradient comes from the same tile, since it is linear in the gradient at each token.
# The results are those of TRL (tests/unit/test_log_probs.py).
TILE_BYTES = 32 << 20  # of float32 logits
_FEWEST_ROWS = 16


def use_small_tiles() -> None:
    """Make TRL's trainers score tokens on the CPU with `LogProbs`. Other devices are not affected.

    `trl.trainer.utils` looks up both private names at every call (tests/unit/private_names.py). A version without them
    keeps its own tiles.
    """
    from trl.trainer import utils

    if not {"_ChunkedLogProbFunction", "_use_triton"} <= vars(utils).keys():
        return
    if utils._ChunkedLogProbFunction is LogProbs:
        return
    on_gpu = utils._use_triton
    LogProbs.elsewhere = utils._ChunkedLogProbFunction
    # Where `_use_triton` returns True, TRL passes only the positions of labels.
    patched = {
        "_ChunkedLogProbFunction": LogProbs,
        "_use_triton": lambda device: device.type == "cpu" or on_gpu(device),
    }
    vars(utils).update(patched)


class LogProbs:
    """Replaces TRL's ChunkedLogProbFunction."""

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
        it ranks first; None for those that `outputs` does not name."""
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
    """`hidden` [tokens, width], `weight` [words, width], `targets` [tokens] -> four tensors with a number per token."""

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
        log_probs, entropy, mean, log_z = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(4))
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
        # The head is trained, or the entropy is: the tiles are computed again.
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
    """The logits in float32, and the slope of the soft cap at each of them if there is one."""
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
    """The gradient of the hidden states from that of the logits, which is changed in place."""
    if bend is not None:
        gradient *= bend
    return (gradient.to(weight.dtype) @ weight).float() * (shape[1] * shape[2])
