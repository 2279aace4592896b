"""LoRA's matrix products fused with those of the base: the same result in fewer passes over the activations.

PEFT computes `base(x) + B(A(x)) * scaling` as five operations, each of which reads and writes activations of the size
of the layer. Here the products add the low-rank part themselves (`addmm`), forward and backward, as Unsloth does on
GPUs. Used for training on a CPU, where it was measured (tests/benchmarks/train.py): in float32, and in bfloat16 under
autocast, where the products use the dtype of the base and the adapter stays in float32.
"""

from __future__ import annotations

from typing import Any

import torch

IN_WORDS = "LoRA fused with the base's matrix products"


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


def use(model: Any) -> int:
    """Fuse the eligible LoRA layers of the PeftModel `model`, until `leave`; returns how many.

    Eligible are plain linear layers in float32 or bfloat16 on a CPU with a single plain LoRA in float32 and no dropout.
    """
    layers = [module for module in model.modules() if _fits(module)]
    for layer in layers:
        layer.forward = _joined(layer)
    return len(layers)


def leave(model: Any) -> None:
    """Return to PEFT's own products."""
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "joins_low_rank", False):
            del module.forward


def _fits(module: Any) -> bool:
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
        # Autocast would check every product for casts; none are left.
        with torch.autocast("cpu", enabled=False):
            result = _LowRank.apply(flat, base.weight, base.bias, *weights, layer.scaling[name])
        return result.view(*x.shape[:-1], result.shape[-1])

    vars(forward)["joins_low_rank"] = True
    return forward
